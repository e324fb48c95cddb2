package experiment

import (
	"testing"
	"time"
)

// The simulations have fixed seeds, so they pass or fail for good. Each bar is the promise itself.

// TestNoFalseWinner looks after every block at equal arms whose buckets differ for good: with a past that tells so, when what is
// left is noise that comes and goes, and without one. There is no least effect to speak of, so that only the confidence sequences
// hold a winner back. The chance to beat the control, which looks much the same, must fail: it does not hold under many looks.
func TestNoFalseWinner(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of runs on one goroutine")
	}
	const alpha, looks = 0.1, 25
	two := []Variant{{"control", "v1", 50}, {"green", "v2", 50}}
	for name, tc := range map[string]struct {
		variants    []Variant
		past        bool
		runs        int
		noise       float64
		chanceFails bool
	}{
		"two arms of 50 buckets":     {two, true, 150, 0.4, true},
		"three of 30":                {examplePlan().Variants, true, 60, 0.4, false},
		"three of 30 without a past": {examplePlan().Variants, false, 40, 0.05, false},
	} {
		winners, harms, fooled := 0, 0, 0
		for run := range tc.runs {
			p := examplePlan()
			p.Variants, p.SmallestEffect, p.MinDuration, p.FalseAlarm = tc.variants, 1e-6, 0, alpha
			p.Assigned.Name = ""
			w := begin(t, p, uint64(run), 0.3)
			w.noise = tc.noise
			if tc.past {
				w.next(40)
			} else {
				w.run.LastBlock = t0
			}
			if len(tc.variants) > 2 {
				w.next(19) // fewer than 100 buckets: nothing is estimated before 20 blocks
			}
			won, harmed, fool := w.peek(looks, 1-alpha/2/float64(len(tc.variants)-1))
			winners, harms, fooled = winners+won, harms+harmed, fooled+fool
		}
		t.Logf("%s: %d false winners and %d false harms in %d runs, at %g; the chance to beat would have named %d",
			name, winners, harms, tc.runs, alpha, fooled)
		bar := int(alpha * float64(tc.runs))
		if winners > bar || harms > bar {
			t.Errorf("%s: %d false winners and %d false harms in %d runs, want at most %d", name, winners, harms, tc.runs, bar)
		}
		if tc.chanceFails && fooled <= bar {
			t.Errorf("%s: the chance to beat named %d false winners, no more than it may: this test could not tell", name, fooled)
		}
	}
}

// peek judges after each of n blocks, and says whether there was ever a winner, ever harm, and ever an arm whose chance to beat the
// control was at least chance.
func (w *world) peek(n int, chance float64) (won, harmed, fooled int) {
	for range n {
		w.next(1)
		res := w.judge()
		switch res.Verdict {
		case Winner:
			won = 1
		case Harm:
			harmed = 1
		case Running, NoDifference, Inconclusive, Invalid:
		}
		for _, a := range res.Arms {
			if a.ChanceToBeat >= chance {
				fooled = 1
			}
		}
	}
	return won, harmed, fooled
}

// TestFindsTheBetter: an arm that is 10 % better wins, with a sequence that covers the truth at the moment when it stops, which is
// when it is most tempted not to.
func TestFindsTheBetter(t *testing.T) {
	const runs = 60
	won, covered, took := 0, 0, time.Duration(0)
	for run := range runs {
		p := examplePlan()
		p.MinDuration = 0
		w := begin(t, p, uint64(run), 0.3)
		w.ratio = map[string]float64{"green": 0.9}
		res := w.until(400)
		if res.Verdict == Winner && res.Winner == "green" {
			won++
		}
		if g := res.Arms[1]; g.Low <= 0.9 && 0.9 <= g.High {
			covered++
		}
		took += w.run.LastBlock.Sub(t0) / runs
	}
	t.Logf("found in %d of %d runs after %s on average; truth covered in %d", won, runs, took.Round(time.Second), covered)
	if won < runs*95/100 || covered < runs*95/100 {
		t.Errorf("found in %d and covered in %d of %d runs, want at least 95 %%", won, covered, runs)
	}
}

// TestSharesHold: sound shares are not taken for broken ones, also by a counter that tells the version only, beside another
// experiment of the layer; ten per cent lost in one arm are found soon.
func TestSharesHold(t *testing.T) {
	const runs, blocks = 30, 120
	alarms, found, took := 0, 0, 0
	for run := range runs {
		for _, lost := range []float64{0, 0.1} {
			w := begin(t, examplePlan(), uint64(run), 0.1)
			w.lost = map[string]float64{"blue": lost}
			w.run.LastBlock = t0
			for i := range blocks {
				w.next(1)
				if w.run.Evidence.Shares.P() < mismatch {
					if lost == 0 {
						alarms++
					} else {
						found++
						took += i + 1
					}
					break
				}
			}
		}
	}
	t.Logf("false alarms in %d of %d runs; a loss of 10 %% found in %d, after %d blocks on average", alarms, runs, found, took/max(1, found))
	if alarms > 0 || found < runs {
		t.Errorf("%d false alarms, %d of %d losses found", alarms, found, runs)
	}
}

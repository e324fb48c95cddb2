package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// laws are distributions within [0, 1].
var laws = map[string]struct {
	mean float64
	draw func(r *rand.Rand) float64
}{
	"coin":    {0.5, func(r *rand.Rand) float64 { return float64(r.IntN(2)) }},
	"rare":    {0.02, func(r *rand.Rand) float64 { return float64(count(r.Float64() < 0.02)) }},
	"uniform": {0.5, func(r *rand.Rand) float64 { return r.Float64() }},
	"skewed":  {0.2, func(r *rand.Rand) float64 { return math.Pow(r.Float64(), 4) }},
	"narrow":  {0.5, func(r *rand.Rand) float64 { return 0.5 + 0.02*(r.Float64()-0.5) }},
}

// TestBetSimulated peeks after every observation, with the null at the mean: exactly true, which is the hardest case.
func TestBetSimulated(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of runs on one goroutine")
	}
	const runs, most, alpha = 2000, 1000, 0.05
	for name, law := range laws {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 71))
			above, below, found := 0, 0, 0
			for range runs {
				// The second bets that the mean is below; the third has a null that is false.
				p, q, s := NewBet(law.mean, 0, 1), NewBet(-law.mean, -1, 0), NewBet(law.mean*0.7, 0, 1)
				var high, low, seen bool
				for range most {
					x := law.draw(r)
					p.Add(x)
					q.Add(-x)
					s.Add(x)
					high = high || p.LogE() >= math.Log(1/alpha)
					low = low || q.LogE() >= math.Log(1/alpha)
					seen = seen || s.LogE() >= math.Log(1/alpha)
				}
				above, below, found = above+count(high), below+count(low), found+count(seen)
			}
			t.Logf("false: %.3f above, %.3f below; found: %.3f", share(above, runs), share(below, runs), share(found, runs))
			if share(above, runs) > alpha || share(below, runs) > alpha {
				t.Errorf("false in %.3f and %.3f of runs, want at most %g", share(above, runs), share(below, runs), alpha)
			}
			if name != "rare" && share(found, runs) < 0.95 {
				t.Errorf("a mean 1.4 times the null is found in %.3f of runs, want at least 0.95", share(found, runs))
			}
		})
	}
}

// TestBetOnBlockDifferences is what a gate does: the differences of two means of a block, as a fraction of the range, against
// a tolerated one. The level drifts, for both variants alike.
func TestBetOnBlockDifferences(t *testing.T) {
	const runs, blocks, alpha, tolerated = 300, 600, 0.05, 0.01
	for _, tc := range []struct {
		name            string
		effect          float64
		atLeast, atMost float64
		meanBlocks      float64
	}{
		{"at the tolerance", tolerated, 0, alpha, 0},
		{"none", 0, 0, 0, 0},
		{"three times the tolerance", 3 * tolerated, 1, 1, 200},
		{"ten times the tolerance", 10 * tolerated, 1, 1, 45},
	} {
		r := rand.New(rand.NewPCG(1, 72))
		alarms, total := 0, 0
		for range runs {
			p, at := NewBet(tolerated, -1, 1), blocks
			for i := range blocks {
				level := 0.4 + 0.2*math.Sin(float64(i)/40)
				canary, stable := level+tc.effect+0.06*r.NormFloat64(), level+0.02*r.NormFloat64()
				p.Add(canary - stable)
				if p.LogE() >= math.Log(1/alpha) {
					at, alarms = i+1, alarms+1
					break
				}
			}
			total += at
		}
		rate, mean := share(alarms, runs), float64(total)/runs
		t.Logf("%s: found in %.3f of runs, after %.0f blocks on average", tc.name, rate, mean)
		if rate < tc.atLeast || rate > tc.atMost || (tc.meanBlocks > 0 && mean > tc.meanBlocks) {
			t.Errorf("%s: found in %.3f of runs after %.0f blocks, want %g to %g within %g",
				tc.name, rate, mean, tc.atLeast, tc.atMost, tc.meanBlocks)
		}
	}
}

// TestBetFindsLateFaults: two hours of health must not hide a mean that rises after them.
func TestBetFindsLateFaults(t *testing.T) {
	const runs, healthy, most, alpha = 200, 480, 1000, 0.05
	r := rand.New(rand.NewPCG(1, 74))
	early, sum := 0, 0
	for range runs {
		p, at := NewBet(0, -1, 1), healthy+most
		for i := range healthy + most {
			x := 0.06 * r.NormFloat64()
			if i >= healthy {
				x += 0.1
			}
			p.Add(x)
			if p.LogE() >= math.Log(1/alpha) {
				at = i + 1
				break
			}
		}
		early += count(at <= healthy)
		sum += max(0, at-healthy)
	}
	mean := float64(sum) / float64(runs-early)
	t.Logf("found %.0f blocks after two hours of health, %.3f of runs too early", mean, share(early, runs))
	if mean > 46 || share(early, runs) > alpha {
		t.Errorf("found %.0f blocks after two hours of health, want at most 46; %.3f of runs too early", mean, share(early, runs))
	}
}

func TestBetOfWhatCannotBe(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	tests := map[string]struct {
		reason                string
		null, lowest, highest float64
		xs                    []float64
		want                  func(logE float64) bool
	}{
		"NaN":       {"not a number is no evidence", 0.5, 0, 1, []float64{nan, nan}, isZero},
		"NoRange":   {"no range, no bet", 0.5, 1, 1, []float64{1, 1}, isZero},
		"Reversed":  {"no range, no bet", 0.5, 1, 0, []float64{1, 1}, isZero},
		"Unbounded": {"no range, no bet", 0.5, 0, inf, []float64{1, 1}, isZero},
		"NaNRange":  {"no range, no bet", 0.5, nan, 1, []float64{1, 1}, isZero},
		"NaNNull":   {"no null, no bet", nan, 0, 1, []float64{1, 1}, isZero},
		"SureNull":  {"a null that cannot be refuted is not", 1, 0, 1, []float64{1, 1, 1}, isZero},
		"Beyond":    {"what lies beyond the range counts as its end", 0.5, 0, 1, []float64{0.9, 7, -3, inf, -inf}, isFinite},
		"LowNull":   {"a null at the lower end is refuted by what is above it", 0, 0, 1, []float64{0.5, 0.5, 0.5}, func(e float64) bool { return e > 1 && isFinite(e) }},
		"Below":     {"a null below the range is tested as the range's lower end", -4, 0, 1, []float64{0.5, 0.5, 0.5}, func(e float64) bool { return e > 1 && isFinite(e) }},
		"AllLowest": {"the worst of all leaves some of the capital", 0.5, 0, 1, []float64{1, 1, 1, 0, 0, 0, 0}, isFinite},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := NewBet(tc.null, tc.lowest, tc.highest)
			for _, x := range tc.xs {
				p.Add(x)
			}
			if !tc.want(p.LogE()) {
				t.Errorf("%s: log e %g", tc.reason, p.LogE())
			}
		})
	}
}

func TestBetSound(t *testing.T) {
	nan := math.NaN()
	for name, tc := range map[string]struct {
		bet  *Bet
		want bool
	}{
		"a new one":          {NewBet(0, -1, 1), true},
		"none":               {nil, false},
		"no number":          {&Bet{Highest: 1, Log: nan}, false},
		"no sum":             {&Bet{Highest: 1, Sum: math.Inf(-1)}, false},
		"a negative count":   {&Bet{Highest: 1, N: -6}, false},
		"a negative squares": {&Bet{Highest: 1, Squares: -1}, false},
	} {
		if got := tc.bet.Sound(); got != tc.want {
			t.Errorf("%s: sound %t, want %t", name, got, tc.want)
		}
	}
}

func isZero(x float64) bool { return x == 0 }

func BenchmarkBetAdd(b *testing.B) {
	p := NewBet(0.01, -1, 1)
	b.ReportAllocs()
	for b.Loop() {
		p.Add(0.02)
	}
}

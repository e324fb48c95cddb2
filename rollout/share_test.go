package rollout

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// sharePlan has one gate of errors and a long ramp.
func sharePlan(sticky bool) Plan {
	p := examplePlan()
	p.Gates, p.Sticky = p.Gates[:1], sticky
	p.Steps = []Step{{Weight: 1}, {Weight: 5}, {Weight: 25}, {Weight: 50}, {Weight: 100}}
	return p
}

// atStep returns a run that has just come to a step.
func atStep(p Plan, step int) Run {
	r := running(p)
	for r.Step < step {
		r = r.After(p, Outcome{Decision: Advance}, t0)
	}
	return r
}

// sent is the i-th block after t0 of requests, so many of them to the canary.
func sent(i int, canary, all float64) Block {
	start := t0.Add(time.Duration(i) * interval)
	return Block{Start: start, End: start.Add(interval), Counts: map[string]Counts{
		"errors": {Canary: Arm{Sent: canary}, Stable: Arm{Sent: all - canary}},
	}}
}

// shows says what the run makes of its weight at an instant.
func shows(p Plan, r Run, now time.Time) Reason {
	return Decide(Situation{Plan: p, Run: r, Findings: found(Wait), CanaryReady: true, Now: now}).Reason
}

// TestShareConverges: the weight changes in the mesh some blocks after it was decided. No block before is judged; the first
// one after is, at any traffic that is not a trickle.
func TestShareConverges(t *testing.T) {
	for _, sticky := range []bool{false, true} {
		for _, all := range []float64{40, 400, 40_000} {
			t.Run(fmt.Sprintf("sticky=%t/%.0f", sticky, all), func(t *testing.T) {
				p := sharePlan(sticky)
				r := atStep(p, 3)
				r.Share.From = 0.05
				const late = 4
				judged := -1
				for i := range 8 {
					share := 0.05
					if i >= late {
						share = 0.25
					}
					ok := r.realised(p, sent(i, share*all, all))
					if !ok && shows(p, r, t0.Add(time.Duration(i+1)*interval)) != Converging {
						t.Errorf("after block %d: %s, want %s", i, shows(p, r, t0.Add(time.Duration(i+1)*interval)), Converging)
					}
					if ok && judged < 0 {
						judged = i
					}
				}
				if judged < late || judged > late+2 {
					t.Errorf("the first block that is judged is %d, want %d or soon after", judged, late)
				}
			})
		}
	}
}

// TestShareContradicted: what the requests say for minutes is not what the weight says.
func TestShareContradicted(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		sticky bool
		step   int
		from   float64
		share  float64
	}{
		"NeverLeft":       {"the route never came to any proxy", false, 2, 0.01, 0.01},
		"NeverLeftHalf":   {"neither did it at a greater weight", false, 4, 0.25, 0.25},
		"HalfTheProxies":  {"half of the proxies are stuck", false, 4, 0.25, 0.37},
		"Bypassed":        {"the traffic does not pass the mesh and falls on pods, one in two", true, 2, 0.01, 0.5},
		"StuckFarBelow":   {"units stay where they were, which so many would not", true, 4, 0.05, 0.05},
		"NotAllAtHundred": {"at 100 no unit is left for stable, whatever it sends", true, 5, 0.5, 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			p := sharePlan(tc.sticky)
			r := atStep(p, tc.step)
			r.Share.From = tc.from
			for i := range 2 * shareBlocks {
				if r.realised(p, sent(i, tc.share*500, 500)) {
					t.Fatalf("%s: block %d is judged", tc.reason, i)
				}
			}
			now := t0.Add(2 * shareBlocks * interval)
			if got := shows(p, r, now); got != WeightNotRealised {
				t.Errorf("%s: %s, want %s", tc.reason, got, WeightNotRealised)
			}
			// It is found at last: the step goes on by itself.
			want := float64(r.Weight) / Buckets
			for i := 2 * shareBlocks; i < 2*shareBlocks+4; i++ {
				r.realised(p, sent(i, want*500, 500))
			}
			if got := shows(p, r, now.Add(4*interval)); got != CollectingEvidence {
				t.Errorf("%s: when the share is right at last: %s, want %s", tc.reason, got, CollectingEvidence)
			}
		})
	}
}

// TestShareByBucket: where buckets are counted it does not matter how unequal they are.
func TestShareByBucket(t *testing.T) {
	for name, tc := range map[string]struct {
		stuck bool
		want  Reason
	}{"InForce": {false, HoldingStep}, "Stuck": {true, WeightNotRealised}} {
		t.Run(name, func(t *testing.T) {
			p := sharePlan(true)
			p.Gates[0].BucketLabel, p.Steps[1].Hold = "bucket", time.Hour
			r := atStep(p, 2)
			weight := r.Weight
			if tc.stuck {
				weight = r.Share.Former
			}
			canaries := Allocate(r.ID, weight)
			for i := range 2 * shareBlocks {
				b := sent(i, 0, 0)
				c := b.Counts["errors"]
				// The last bucket to join sends half of everything.
				for k, bucket := range Order(r.ID) {
					s := BucketSum{Bucket: bucket, Count: 5}
					if k == 4 {
						s.Count = 500
					}
					to := &c.Stable.Buckets
					for _, b := range canaries {
						if b == bucket {
							to = &c.Canary.Buckets
						}
					}
					*to = append(*to, s)
				}
				b.Counts["errors"] = c
				if ok := r.realised(p, b); ok == tc.stuck {
					t.Fatalf("block %d is judged: %t", i, ok)
				}
			}
			if got := shows(p, r, t0.Add(2*shareBlocks*interval)); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// TestShareOfNobody: nothing is said where nobody counts requests, where there are none, or what is counted cannot be.
func TestShareOfNobody(t *testing.T) {
	p := sharePlan(true)
	for name, b := range map[string]Block{
		"Idle": sent(0, 0, 0), "Uncounted": {End: t0.Add(interval)}, "NaN": sent(0, math.NaN(), 3), "Infinite": sent(0, 1, math.Inf(1)), "Negative": sent(0, -1, 3),
	} {
		t.Run(name, func(t *testing.T) {
			r := atStep(p, 3)
			if !r.realised(p, b) {
				t.Error("a block that says nothing of the share is not judged")
			}
			if got := shows(p, r, t0.Add(interval)); got != CollectingEvidence {
				t.Errorf("got %s, want %s", got, CollectingEvidence)
			}
		})
	}
}

// TestShareOfACohort: who is sent to the canary by name belongs to no bucket, so the share says nothing.
func TestShareOfACohort(t *testing.T) {
	p := sharePlan(false)
	p.Targeted = true
	r := atStep(p, 2)
	for i := range 2 * shareBlocks {
		if !r.realised(p, sent(i, 400, 1000)) {
			t.Fatalf("block %d is not judged", i)
		}
	}
}

// TestShareHarms: while the weight does not show, harm is counted and safety is not.
func TestShareHarms(t *testing.T) {
	p := sharePlan(false)
	bad := func(i int, canary float64) Block {
		b := sent(i, canary, 1000)
		b.Counts["errors"] = Counts{
			Canary: Arm{Sent: canary, Requests: canary, Events: []float64{canary / 2}},
			Stable: Arm{Sent: 1000 - canary, Requests: 1000 - canary, Events: []float64{5}},
		}
		return b
	}
	r := atStep(p, 3).Count(p, []Block{bad(0, 50)})
	f := Judge(p, r, nil, t0.Add(interval))[0]
	if f.LogSafety != 0 || f.CanaryTotal.Count != 0 {
		t.Errorf("log safety %g after %g requests at the former weight, want none", f.LogSafety, f.CanaryTotal.Count)
	}
	if f.Verdict != Harm {
		t.Errorf("%s with log evidence %g of %g, want %s", f.Verdict, f.LogHarm, f.LogHarmBound, Harm)
	}
	r = atStep(p, 3).Count(p, []Block{bad(0, 250)})
	if f = Judge(p, r, nil, t0.Add(interval))[0]; f.CanaryTotal.Count != 250 {
		t.Errorf("%g requests are judged at the weight that is in force, want 250", f.CanaryTotal.Count)
	}
}

// TestShareWaitsForProxies: no block that began before every proxy had the route is judged.
func TestShareWaitsForProxies(t *testing.T) {
	p := sharePlan(false)
	r := atStep(p, 3)
	r.Spreading = t0.Add(2 * interval)
	for i, want := range []bool{false, false, true} {
		if got := r.realised(p, sent(i, 250, 1000)); got != want {
			t.Errorf("block %d is judged: %t, want %t", i, got, want)
		}
	}
}

// fleet draws the requests of units that keep their variant, by 100 buckets, as the weight grows.
type fleet struct {
	rates [Buckets]float64
	pace  float64 // how many requests a unit sends to the canary for one to stable
}

func drawFleet(r *rand.Rand, units int, spread, pace float64) fleet {
	f := fleet{pace: pace}
	for range units {
		f.rates[r.IntN(Buckets)] += math.Exp(spread * r.NormFloat64())
	}
	return f
}

// share is the canary's share of the requests at a weight.
func (f fleet) share(run string, weight int) float64 {
	canary, all := 0.0, 0.0
	for _, b := range Allocate(run, weight) {
		canary += f.pace * f.rates[b]
		all -= f.rates[b]
	}
	for _, v := range f.rates {
		all += v
	}
	return canary / (canary + all)
}

// TestShareDoesNotCryWolf plays whole runs whose weights are in force, with units of unequal traffic, from a trickle to a
// flood, with clients that wait for a canary that is slower. At most one run in a hundred may be told otherwise.
func TestShareDoesNotCryWolf(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of runs on one goroutine")
	}
	for name, tc := range map[string]struct {
		units        int
		spread, pace float64
		all          float64
	}{
		"Fleet":     {300, 0.5, 1, 2000},
		"Trickle":   {300, 0.5, 1, 8},
		"Flood":     {10_000, 1, 0.7, 1e6},
		"Waiting":   {2000, 0.5, 0.5, 2000},
		"FewUnits":  {60, 0.5, 1, 2000},
		"HeavyTail": {200, 1.2, 1, 2000},
		"Drawn":     {0, 0, 1, 2000},
		"DrawnFew":  {0, 0, 1, 8},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, uint64(tc.units)))
			p := sharePlan(tc.units > 0)
			const runs = 400
			wrong, judged, blocks := 0, 0, 0
			for n := range runs {
				f := drawFleet(r, tc.units, tc.spread, tc.pace)
				told, ok, all := play(p, r, fmt.Sprint("run-", n), f, tc.all)
				if told {
					wrong++
				}
				judged, blocks = judged+ok, blocks+all
			}
			t.Logf("%d of %d runs told that their weight is not realised; %.0f%% of the blocks judged", wrong, runs, 100*float64(judged)/float64(blocks))
			if wrong > runs/100 {
				t.Errorf("%d of %d runs in order were told that their weight is not realised", wrong, runs)
			}
		})
	}
}

// play plays one run of 20 blocks a step and says whether it was ever told that its weight is not realised, and how many of the
// blocks were judged.
func play(p Plan, r *rand.Rand, id string, f fleet, all float64) (told bool, judged, blocks int) {
	run := Begin(id, p, t0)
	at := t0
	for run.Step < len(p.Steps) {
		run = run.After(p, Outcome{Decision: Advance}, at)
		share := float64(run.Weight) / Buckets
		if p.Sticky {
			share = f.share(id, run.Weight)
		}
		for range 20 {
			n := all + math.Sqrt(all)*r.NormFloat64()
			x := binomial(r, max(1, math.Round(n)), share)
			b := sent(int(at.Sub(t0)/interval), x, max(1, math.Round(n)))
			if run.realised(p, b) {
				judged++
			}
			at, blocks = b.End, blocks+1
			told = told || shows(p, run, at) == WeightNotRealised
		}
	}
	return told, judged, blocks
}

// binomial draws events, by a normal approximation where there are many.
func binomial(r *rand.Rand, n, p float64) float64 {
	if v := n * p * (1 - p); v > 100 {
		return math.Round(min(n, max(0, n*p+math.Sqrt(v)*r.NormFloat64())))
	}
	if p > 0.5 {
		return n - binomial(r, n, 1-p)
	}
	if n > 2000 { // few events among many
		x, product := 0.0, r.Float64()
		for limit := math.Exp(-n * p); product > limit; product *= r.Float64() {
			x++
		}
		return min(x, n)
	}
	return draw(r, n, p)
}

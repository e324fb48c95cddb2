package evidence

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// judgedBy makes the world's only gate g, which reads the counters that grow as more says: for n requests of a version
// between two scrapes, how much each series grows.
func (w *world) judgedBy(g rollout.Gate, more func(r *rand.Rand, version string, n float64) map[string]float64) {
	w.plan.Gates = []rollout.Gate{g}
	for i := range w.plan.Steps {
		w.plan.Steps[i].Hold = 6 * time.Minute // beyond the burn-in of tests that compare blocks
	}
	w.run = rollout.Begin("run-1", w.plan, t0)
	r := rand.New(rand.NewPCG(7, 11))
	w.grow = func(version string, n float64) map[string]float64 { return more(r, version, n) }
}

// wholeOf rounds to a whole number of events, without losing the rest on average.
func wholeOf(r *rand.Rand, v float64) float64 { return math.Floor(v + r.Float64()) }

// energy is half a joule a request, give or take a tenth, and worse for the canary.
func energy(worse float64) func(r *rand.Rand, version string, n float64) map[string]float64 {
	return func(r *rand.Rand, version string, n float64) map[string]float64 {
		each := 0.5 * (1 + 0.1*r.NormFloat64())
		if version == "v2" {
			each *= worse
		}
		return map[string]float64{joulesOf(version, "dynamic", "rapl"): n * each, inferencesOf(version): n}
	}
}

// without leaves out the series of a version whose name begins so.
func without(prefix, version string, from func(r *rand.Rand, version string, n float64) map[string]float64) func(r *rand.Rand, version string, n float64) map[string]float64 {
	return func(r *rand.Rand, v string, n float64) map[string]float64 {
		out := from(r, v, n)
		for name := range out {
			if v == version && len(name) > len(prefix) && name[:len(prefix)] == prefix {
				delete(out, name)
			}
		}
		return out
	}
}

// answers gives up a share of the requests, by version.
func answers(lost map[string]float64) func(r *rand.Rand, version string, n float64) map[string]float64 {
	return func(r *rand.Rand, version string, n float64) map[string]float64 {
		gone := wholeOf(r, n*lost[version])
		return map[string]float64{
			requests(version, "200", `response_flags="-"`, on(1)): n - gone, requests(version, "0", `response_flags="DC"`, on(1)): gone,
		}
	}
}

// assigned are units, one for every request, of which the canary gets more than its share.
func assigned(more float64) func(r *rand.Rand, version string, n float64) map[string]float64 {
	return func(r *rand.Rand, version string, n float64) map[string]float64 {
		if version == "v2" {
			n *= more
		}
		return map[string]float64{metric("siskin_units_total", "model", "coolant", "version", version): wholeOf(r, n)}
	}
}

// bucketed are requests by bucket, of which one in a hundred fails, more of the canary's.
func bucketed(worse float64) func(r *rand.Rand, version string, n float64) map[string]float64 {
	return func(r *rand.Rand, version string, n float64) map[string]float64 {
		out, p, first, last := map[string]float64{}, 0.01, 50, 100
		if version == "v2" {
			p, first, last = p*worse, 0, 20
		}
		for _, b := range rollout.Order("run-1")[first:last] {
			label, each := fmt.Sprintf(`siskin_bucket="%02d"`, b), math.Round(n/float64(last-first))
			failed := 0.0
			for range int(each) {
				if r.Float64() < p {
					failed++
				}
			}
			out[requests(version, "200", label, on(1))] = each - failed
			out[requests(version, "503", label, on(1))] = failed
		}
		return out
	}
}

// TestChainOfGates is TestChain for the gates that read counters of their own.
func TestChainOfGates(t *testing.T) {
	energyGate := rollout.Gate{Name: "gate", Type: rollout.EnergyPerRequest, Margin: 1.2}
	dataGate := rollout.Gate{Name: "gate", Type: rollout.Data}
	unitsGate := rollout.Gate{Name: "gate", Type: rollout.SampleRatio}
	byBucket := rollout.Gate{Name: "gate", Type: rollout.ErrorRate, Margin: 2, Tolerance: 0.05, BucketLabel: "siskin_bucket"}
	tests := map[string]struct {
		reason  string
		gate    rollout.Gate
		more    func(r *rand.Rand, version string, n float64) map[string]float64
		verdict rollout.Verdict
		end     step
	}{
		"Energy": {
			"as many joules a request as stable, though a fifth of the requests", energyGate, energy(1),
			rollout.Pass,
			step{rollout.Promote, rollout.AllPassed},
		},
		"EnergyHarm": {
			"half as many joules again", energyGate, energy(1.5),
			rollout.Harm,
			step{rollout.Rollback, rollout.EnergyHarm},
		},
		"NoJoules": {
			"a canary without joules is not one that needs none", energyGate, without("siskin_inference_joules", "v2", energy(1)),
			rollout.NoData,
			step{rollout.Hold, rollout.NoCanary},
		},
		"NoInferences": {
			"nor is stable judged by joules alone", energyGate, without("siskin_energy_inferences", "v1", energy(3)),
			rollout.NoData,
			step{rollout.Hold, rollout.NoStable},
		},
		"Hangs": {
			"a canary of which clients give up every tenth request cannot be trusted to show its errors",
			dataGate, answers(map[string]float64{"v1": 0.001, "v2": 0.1}),
			rollout.Invalid,
			step{rollout.Hold, rollout.RequestsUnanswered},
		},
		"Answered": {
			"the same one in a thousand is given up in both versions", dataGate, answers(map[string]float64{"v1": 0.001, "v2": 0.001}),
			rollout.Pass,
			step{rollout.Promote, rollout.AllPassed},
		},
		"UnitsInProportion": {
			"units as the weights say", unitsGate, assigned(1),
			rollout.Pass,
			step{rollout.Promote, rollout.AllPassed},
		},
		"Units": {
			"a canary that gets half as many units again as its weight says", unitsGate, assigned(1.5),
			rollout.Invalid,
			step{rollout.Hold, rollout.SampleRatioMismatch},
		},
		"Buckets": {
			"errors by bucket, as many as stable", byBucket, bucketed(1),
			rollout.Pass,
			step{rollout.Promote, rollout.AllPassed},
		},
		"BucketsHarm": {
			"four times the errors in the canary's buckets", byBucket, bucketed(4),
			rollout.Harm,
			step{rollout.Rollback, rollout.ErrorsHarm},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.judgedBy(tc.gate, tc.more)
			last, findings := w.play()
			if got := (step{last.Decision, last.Reason}); got != tc.end || findings[0].Verdict != tc.verdict {
				t.Errorf("%s: ended with %v and %q, want %v and %q: %s; on the way %v", tc.reason, got, findings[0].Verdict, tc.end, tc.verdict, findings[0].Message, w.said)
			}
			for _, s := range w.said {
				forbidden := s.decision == rollout.Promote || s.decision == rollout.Rollback
				if (tc.verdict == rollout.NoData || tc.verdict == rollout.Invalid) && forbidden {
					t.Errorf("%s: decided %v", tc.reason, s)
				}
			}
			if tc.end.decision == rollout.Hold && !slices.ContainsFunc(w.said, func(s step) bool { return s.decision == rollout.Pause }) {
				t.Errorf("%s: never paused at the cap of %s, but %v", tc.reason, w.plan.Cap.Truncate(time.Minute), w.said)
			}
		})
	}
}

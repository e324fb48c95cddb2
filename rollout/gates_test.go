package rollout

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// judgeFull feeds a service to fullPlan at a weight and returns the findings by gate.
func judgeFull(s service, weight, blocks int, change func(i int, b Block)) map[string]Finding {
	p, r := fullPlan(), rand.New(rand.NewPCG(9, 33))
	p.Steps = []Step{{Weight: weight}}
	run := running(p)
	for i := range blocks {
		b := s.block(r, i, weight)
		if change != nil {
			change(i, b)
		}
		run = run.Count(p, []Block{b})
	}
	found := map[string]Finding{}
	for _, f := range Judge(p, run, nil, t0.Add(time.Duration(blocks)*interval)) {
		found[f.Gate.Name] = f
	}
	return found
}

func TestJudgeEveryGate(t *testing.T) {
	s, worse := healthy(), healthy()
	s.requests, worse.requests, worse.worse = 3000, 3000, 3
	tests := map[string]struct {
		reason string
		s      service
		blocks int
		change func(i int, b Block)
		want   map[string]want
	}{
		"Healthy": {"nothing differs", s, 60, nil, map[string]want{
			"energy": {"Pass", EvidenceSafe}, "score": {"Pass", EvidenceSafe}, "sticky": {"Pass", EvidenceSafe},
			"units": {"Pass", DataComplete}, "answers": {"Pass", DataComplete},
		}},
		"Worse": {"what is three times worse is harm", worse, 60, nil, map[string]want{
			"energy": {"Harm", EnergyHarm}, "score": {"Harm", MeanHarm}, "sticky": {"Harm", ErrorsHarm},
			"units": {"Pass", DataComplete}, "answers": {"Pass", DataComplete},
		}},
		"Early": {"a comparison of blocks begins with twenty", s, 5, nil, map[string]want{
			"energy": {"Wait", CollectingEvidence}, "units": {"Pass", DataComplete},
		}},
		"LostUnits": {"a fifth of the canary's units never arrive", s, 60, func(_ int, b Block) {
			c := b.Counts["units"]
			c.Canary.Requests = math.Round(0.8 * c.Canary.Requests)
			b.Counts["units"] = c
		}, map[string]want{"units": {"Invalid", SampleRatioMismatch}, "energy": {"Pass", EvidenceSafe}}},
		"Hanging": {"a tenth of the canary's requests is never answered", s, 60, func(_ int, b Block) {
			c := b.Counts["answers"]
			c.Canary.Sum *= 0.9
			b.Counts["answers"] = c
		}, map[string]want{"answers": {"Invalid", RequestsUnanswered}}},
		"Standing": {"all units have been assigned, and none is new", s, 60, func(i int, b Block) {
			if i > 30 {
				b.Counts["units"] = Counts{}
			}
		}, map[string]want{"units": {"Pass", DataComplete}}},
		"OnTheirWay": {"requests that are answered a block later are not lost", s, 60, func(i int, b Block) {
			c := b.Counts["answers"]
			if late := 0.3 * c.Canary.Requests; i%2 == 0 {
				c.Canary.Sum -= late
			} else {
				c.Canary.Sum += late
			}
			b.Counts["answers"] = c
		}, map[string]want{"answers": {"Pass", DataComplete}}},
		"HangingEarly": {"a canary that answers 90 % is not promoted by a short step", s, 6, func(_ int, b Block) {
			c := b.Counts["answers"]
			c.Canary.Sum *= 0.9
			b.Counts["answers"] = c
		}, map[string]want{"answers": {"Invalid", RequestsUnanswered}}},
		"AnswersEarly": {"an answer may take four blocks", s, 3, nil, map[string]want{"answers": {"Wait", CollectingEvidence}}},
		"NoUnits": {"nothing counted is no data", s, 60, func(_ int, b Block) { delete(b.Counts, "units") }, map[string]want{
			"units": {"NoData", NoBlocks},
		}},
		"NoErrors": {"what never fails in any bucket passes", service{requests: 30000, bounds: s.bounds, mean: 2, worse: 1}, 60, nil, map[string]want{
			"sticky": {"Pass", EvidenceSafe},
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			found := judgeFull(tc.s, 25, tc.blocks, tc.change)
			for gate, w := range tc.want {
				if f := found[gate]; string(f.Verdict) != string(w.Decision) || f.Reason != w.Reason {
					t.Errorf("%s: gate %q: got %s (%s), want %s (%s): %s; harm e^%.1f, safety e^%.1f", tc.reason, gate,
						f.Verdict, f.Reason, w.Decision, w.Reason, f.Message, f.LogHarm, f.LogSafety)
				}
			}
		})
	}
}

// TestDistrustHolds: data that cannot be trusted neither advances nor rolls back, and pauses at the cap.
func TestDistrustHolds(t *testing.T) {
	found := judgeFull(healthy(), 25, 60, func(_ int, b Block) {
		c := b.Counts["units"]
		c.Canary.Requests *= 2
		b.Counts["units"] = c
	})
	p := fullPlan()
	s := Situation{Plan: p, Run: running(p), Findings: []Finding{found["units"]}, CanaryReady: true, Now: t0.Add(time.Hour)}
	if o := Decide(s); o.Decision != Hold || o.Reason != SampleRatioMismatch {
		t.Errorf("got %+v, want to hold for the mismatch", o)
	}
	s.Now = t0.Add(p.Cap)
	if o := Decide(s); o.Decision != Pause || o.Reason != SampleRatioMismatch {
		t.Errorf("at the cap: got %+v, want a pause for the mismatch", o)
	}
}

// TestDataGatesShareNoAlarm: a gate that watches the data takes no part in the average that rolls back.
func TestDataGatesShareNoAlarm(t *testing.T) {
	p := fullPlan()
	if got := p.harmGates(); got != 7 {
		t.Errorf("%d gates share the false alarms, want 7 of 10", got)
	}
}

// TestOwnPast: blocks from before the canary's first unit are the buckets' past, which takes lasting differences out.
func TestOwnPast(t *testing.T) {
	p := examplePlan()
	p.Gates = p.Gates[2:3]
	effects := make([]float64, Buckets)
	r := rand.New(rand.NewPCG(1, 34))
	for b := range effects {
		effects[b] = math.Exp(0.4 * r.NormFloat64())
	}
	block := func(i, weight int) Block {
		c := Counts{}
		for b := range Buckets {
			to := &c.Stable
			if b < weight {
				to = &c.Canary
			}
			to.Buckets = append(to.Buckets, BucketSum{Bucket: b, Sum: 10 * effects[b] * (1 + 0.05*r.NormFloat64()), Count: 10})
		}
		start := t0.Add(time.Duration(i) * interval)
		return Block{Start: start, End: start.Add(interval), Counts: map[string]Counts{"quality": c}}
	}
	run := Begin("run-1", p, t0)
	if want := t0.Add(-pastBlocks * interval); !run.LastBlock.Equal(want) {
		t.Fatalf("the run's first block begins at %s, want %s", run.LastBlock, want)
	}
	for i := -pastBlocks; i < 4; i++ {
		run = run.Count(p, []Block{block(i, 0)})
	}
	run = run.After(p, Outcome{Decision: Advance}, t0.Add(5*interval))
	run = run.Count(p, []Block{block(4, 0)}) // ended before the step, and was seen after its beginning
	for i := 5; i < 30; i++ {
		run = run.Count(p, []Block{block(i, 25)})
	}
	now := t0.Add(30 * interval)
	with := Judge(p, run, nil, now)[0]
	run.Evidence.Trails[0].Before = map[int]stats.Cluster{}
	without := Judge(p, run, nil, now)[0]
	if with.Verdict != Pass || without.Verdict != Wait {
		t.Errorf("with the past %s [%.3f, %.3f], without %s [%.3f, %.3f], want Pass and Wait",
			with.Verdict, with.Low, with.High, without.Verdict, without.Low, without.High)
	}
}

// TestRemaining: what a gate says that it needs is about what it takes when nothing differs.
func TestRemaining(t *testing.T) {
	s := healthy()
	s.rate, s.requests = 0.02, 400
	const asked = 8
	for _, name := range []string{"errors", "energy"} {
		t.Run(name, func(t *testing.T) {
			p, r := fullPlan(), rand.New(rand.NewPCG(3, 35))
			run, told, took := running(p), time.Duration(0), time.Duration(0)
			for i := 0; i < 2000 && took == 0; i++ {
				b := s.block(r, i, 25)
				b.Counts["errors"] = Counts{Stable: Arm{Requests: 300, Events: []float64{6}}, Canary: Arm{Requests: 100, Events: []float64{2}}}
				delete(b.Counts, "sticky") // its buckets would say that the weight is not the step's
				run = run.Count(p, []Block{b})
				f := findingOf(name, Judge(p, run, nil, b.End))
				if i+1 == asked {
					told = f.Remaining
					if !f.RemainingKnown || f.Verdict != Wait {
						t.Fatalf("after %d blocks: %s, remaining known = %t", asked, f.Verdict, f.RemainingKnown)
					}
				}
				if f.Verdict == Pass {
					took = time.Duration(i+1-asked) * interval
				}
			}
			if took == 0 || told < took/2 || told > 2*took {
				t.Errorf("after %d blocks it said %s more, and took %s", asked, told, took)
			}
		})
	}
	if _, ok := Remaining([]Finding{{Verdict: Wait}}); ok {
		t.Error("a gate that cannot say was left out")
	}
}

func findingOf(name string, findings []Finding) Finding {
	for _, f := range findings {
		if f.Gate.Name == name {
			return f
		}
	}
	return Finding{}
}

// TestShapeTellsNoFasterCanary: a canary that is faster in all of its histogram is no harm.
func TestShapeTellsNoFasterCanary(t *testing.T) {
	s := healthy()
	s.bounds, s.slow, s.worse = thirtyBounds(), 0.3, 0.3
	if f := judgeFull(s, 50, 100, nil)["latency"]; f.LogHarm > 0.7 || strings.Contains(f.Message, "most evidence") {
		t.Errorf("harm e^%.2f of a faster canary: %s", f.LogHarm, f.Message)
	}
}

// TestShown: what people are shown beside the evidence.
func TestShown(t *testing.T) {
	s := healthy()
	s.worse, s.slow = 1.3, 0.1
	found := judgeFull(s, 50, 20, nil)
	if p, ok := found["errors"].ChanceWorse(); !ok || p < 0.9 || p > 1 {
		t.Errorf("chance of being worse: %g (%t), want nearly 1", p, ok)
	}
	if _, ok := found["quality"].ChanceWorse(); ok {
		t.Error("a mean has no chance by counts")
	}
	if m := found["latency"].Message; !strings.Contains(m, "p95 about ") || strings.Contains(m, "above 250ms") {
		t.Errorf("got %q, want the 95th percentiles, and no share above a threshold that is a bound", m)
	}
	s.bounds = []float64{0.1, 0.3, 0.5, 1}
	if m := judgeFull(s, 50, 20, nil)["latency"].Message; !strings.Contains(m, ", above 250ms about ") {
		t.Errorf("got %q, want the share above a threshold that is no bound", m)
	}
	for seconds, want := range map[float64]string{0.123456: "123ms", 12.3456: "12.3s", 0.0000004: "400ns", 0: "0s"} {
		if got := short(seconds); got != want {
			t.Errorf("short(%g) = %q, want %q", seconds, got, want)
		}
	}
}

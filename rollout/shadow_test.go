package rollout

import (
	"math/rand/v2"
	"testing"
	"time"
)

// copies is a block of a shadow: every request meets stable, and a share of them the canary, too, where one fails that fails
// at stable, and others so that errors are worse times as frequent.
func copies(r *rand.Rand, i int, requests, share, rate, worse float64) Block {
	start := t0.Add(time.Duration(i) * interval)
	var stable, canary, n float64
	for range int(requests) {
		fails := r.Float64() < rate
		if fails {
			stable++
		}
		if r.Float64() >= share {
			continue
		}
		n++
		if fails || r.Float64() < rate*(worse-1)/(1-rate) {
			canary++
		}
	}
	level := 1 + 0.1*r.NormFloat64()
	return Block{Start: start, End: start.Add(interval), Counts: map[string]Counts{
		"errors": {Stable: Arm{Requests: requests, Events: []float64{stable}}, Canary: Arm{Requests: n, Events: []float64{canary}}},
		"energy": {
			Stable: Arm{Requests: requests, Sum: level * requests * (1 + 0.02*r.NormFloat64())},
			Canary: Arm{Requests: n, Sum: level * n * (1 + 0.02*r.NormFloat64())},
		},
		// What nobody hears of copies: the means of units that are all stable's, and requests that were not sent.
		"quality": {Stable: Arm{Buckets: []BucketSum{{Bucket: 7, Sum: 3, Count: 2}}}},
		"answers": {Stable: Arm{Requests: requests, Sum: requests}, Canary: Arm{Sum: n}},
	}}
}

// shadowPlan has gates that judge copies and gates that cannot.
func shadowPlan() Plan {
	p := examplePlan()
	p.Shadow = Shadow{Percent: 10, Hold: time.Minute}
	p.Gates = []Gate{
		p.Gates[0],
		{Name: "energy", Type: EnergyPerRequest, Margin: 1.1},
		p.Gates[2],
		{Name: "answers", Type: Data, Sum: "a", Count: "b", VersionLabel: "version"},
		{Name: "alerts", Type: Alerts},
	}
	return p
}

// inShadow is a run whose canary was ready at t0.
func inShadow(p Plan) Run {
	return Begin("run-1", p, t0.Add(-time.Minute)).After(p, Outcome{Decision: Hold, Reason: CanaryNotReady}, t0)
}

// TestShadowIsJudged: errors and energy of copies are evidence, what copies leave no trace in is not, and neither of it is
// evidence of the first step. A process that begins in the middle finds the same.
func TestShadowIsJudged(t *testing.T) {
	p := shadowPlan()
	run, r := inShadow(p), rand.New(rand.NewPCG(1, 1))
	before := run.Count(p, []Block{copies(r, -1, 3000, 0, 0.01, 1)})
	for i := range 60 {
		before = resumed(t, before).Count(p, []Block{copies(r, i, 3000, 0.1, 0.01, 1)})
	}
	now := t0.Add(60 * interval)
	for i, want := range []want{{"Pass", EvidenceSafe}, {"Pass", EvidenceSafe}, {"NoData", NotOfCopies}, {"NoData", NotOfCopies}, {"Pass", NoAlerts}} {
		if f := Judge(p, before, nil, now)[i]; string(f.Verdict) != string(want.Decision) || f.Reason != want.Reason {
			t.Errorf("in the shadow gate %q says %s (%s), want %s (%s): %s", f.Gate.Name, f.Verdict, f.Reason, want.Decision, want.Reason, f.Message)
		}
	}
	if past := before.Evidence.Trails[2].Before[7].Count; past != 2*61 {
		t.Errorf("of the bucket's past %v observations are remembered, want all of 61 blocks", past)
	}
	if (before.Share != Share{}) {
		t.Errorf("copies were taken for a share of the requests: %+v", before.Share)
	}
	first := before.After(p, Outcome{Decision: Advance}, now)
	for _, f := range Judge(p, first, nil, now)[:4] {
		if f.Verdict != Wait || f.LogSafety != 0 {
			t.Errorf("at the first step gate %q says %s with safety e^%.1f, want to wait with none: %s", f.Gate.Name, f.Verdict, f.LogSafety, f.Message)
		}
	}
	if harm := Judge(p, before, nil, now)[0].LogHarm; Judge(p, first, nil, now)[0].LogHarm > harm {
		t.Errorf("the first step begins with more harm than e^%.1f", harm)
	}
	if ended := first.Evidence.Trails[1].Ended; len(ended) != 1 || len(first.Evidence.Trails[2].Ended) != 0 {
		t.Errorf("the shadow is one of the energy's %d judgements, and none of the mean's %d", len(ended), len(first.Evidence.Trails[2].Ended))
	}
}

// TestShadowMissing: in a shadow that copies nothing the gates that could judge it have no data.
func TestShadowMissing(t *testing.T) {
	p := shadowPlan()
	run, r := inShadow(p), rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		run = run.Count(p, []Block{copies(r, i, 3000, 0, 0.01, 1)})
	}
	for _, f := range Judge(p, run, nil, t0.Add(20*interval))[:2] {
		if f.Verdict != NoData || f.Reason != NoCanary {
			t.Errorf("gate %q says %s (%s), want NoData (%s)", f.Gate.Name, f.Verdict, f.Reason, NoCanary)
		}
	}
}

// TestShadowAlarms: copies of requests that fail anyway condemn nobody, since each copy is drawn and not each user, and a canary
// with three times the errors is found.
func TestShadowAlarms(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of runs on one goroutine")
	}
	const runs = 200
	for share, worse := range map[float64]float64{0.1: 1, 0.5: 1, 1: 1, 0.2: 3} {
		harmed := 0
		p := shadowPlan()
		p.Gates = p.Gates[:1]
		for i := range runs {
			run, r := inShadow(p), rand.New(rand.NewPCG(uint64(i), 3))
			for b := range 40 {
				run = run.Count(p, []Block{copies(r, b, 600, share, 0.02, worse)})
				if Judge(p, run, nil, t0.Add(time.Duration(b+1)*interval))[0].Verdict == Harm {
					harmed++
					break
				}
			}
		}
		// Of healthy runs at most 1 % may be; 6 of 200 or more would come of that once in 70 times.
		t.Logf("share %g, errors times %g: %d of %d runs are harmed", share, worse, harmed, runs)
		if (worse == 1 && harmed >= 6) || (worse > 1 && harmed < runs*19/20) {
			t.Errorf("share %g, errors times %g: %d of %d runs are harmed", share, worse, harmed, runs)
		}
	}
}

package rollout

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// feed counts blocks of a service at weight 50 from the first step's beginning, and returns the end of the last.
func feed(p Plan, s service, blocks int) (Run, time.Time) {
	r := rand.New(rand.NewPCG(7, 31))
	run := running(p)
	for i := range blocks {
		run = run.Count(p, []Block{s.block(r, i, 50)})
	}
	return run, t0.Add(time.Duration(blocks) * interval)
}

func TestJudge(t *testing.T) {
	worse, better := healthy(), healthy()
	worse.worse, better.worse = 3, 0.3
	faultless := healthy()
	faultless.rate, faultless.slow = 0, 0
	noBounds := healthy()
	noBounds.bounds = nil
	quiet := healthy()
	quiet.requests = 100
	short := healthy()
	short.bounds = []float64{0.1, 0.2}
	tests := map[string]struct {
		reason  string
		service service
		blocks  int
		want    [3]want // errors, latency, quality
	}{
		"NoBlocks": {
			"there is nothing yet, and nothing is due", healthy(), 0,
			[3]want{{"Wait", CollectingEvidence}, {"Wait", CollectingEvidence}, {"Wait", CollectingEvidence}},
		},
		"FirstBlock": {
			"fifty requests are not enough; all hundred buckets are enough for a mean", quiet, 1,
			[3]want{{"Wait", CollectingEvidence}, {"Wait", CollectingEvidence}, {"Pass", EvidenceSafe}},
		},
		"Healthy": {
			"evidence of safety passes", healthy(), 60,
			[3]want{{"Pass", EvidenceSafe}, {"Pass", EvidenceSafe}, {"Pass", EvidenceSafe}},
		},
		"Worse": {
			"evidence of harm tells which gates", worse, 60,
			[3]want{{"Harm", ErrorsHarm}, {"Harm", LatencyHarm}, {"Harm", MeanHarm}},
		},
		"Better": {
			"a canary that is much better is no harm", better, 60,
			[3]want{{"Pass", EvidenceSafe}, {"Pass", EvidenceSafe}, {"Pass", EvidenceSafe}},
		},
		"Faultless": {
			"what never fails passes by its own rate, since no ratio exists", faultless, 60,
			[3]want{{"Pass", EvidenceSafe}, {"Pass", EvidenceSafe}, {"Pass", EvidenceSafe}},
		},
		"NoHistogram": {
			"a histogram without bounds counts nothing", noBounds, 60,
			[3]want{{"Pass", EvidenceSafe}, {"NoData", NoBlocks}, {"Pass", EvidenceSafe}},
		},
		"ShortHistogram": {
			"no bound tells what is above the threshold", short, 60,
			[3]want{{"Pass", EvidenceSafe}, {"Invalid", BelowThreshold}, {"Pass", EvidenceSafe}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := examplePlan()
			run, now := feed(p, tc.service, tc.blocks)
			findings := Judge(p, run, nil, now)
			for i, w := range tc.want {
				f := findings[i]
				if string(f.Verdict) != string(w.Decision) || f.Reason != w.Reason {
					t.Errorf("%s: %s is %s %s (%s; harm %.1f of %.1f, safety %.1f of %.1f), want %s %s", tc.reason, f.Gate.Name,
						f.Verdict, f.Reason, f.Message, f.LogHarm, f.LogHarmBound, f.LogSafety, f.LogSafetyBound, w.Decision, w.Reason)
				}
				if math.IsNaN(f.LogHarm) || math.IsNaN(f.LogSafety) || f.Message == "" {
					t.Errorf("%s: harm %g, safety %g, message %q", f.Gate.Name, f.LogHarm, f.LogSafety, f.Message)
				}
			}
			if v := findings[3].Verdict; v != Pass {
				t.Errorf("alerts: %s without an alert", v)
			}
		})
	}
}

// TestJudgeMuchBetter: the evidence of harm of a canary that is far better than stable is small, not a NaN that passes for
// harm.
func TestJudgeMuchBetter(t *testing.T) {
	p := examplePlan()
	s := healthy()
	s.worse = 0.001
	run, now := feed(p, s, 100)
	for _, f := range Judge(p, run, nil, now)[:3] {
		if f.Verdict != Pass || f.LogHarm > 0 || math.IsNaN(f.LogHarm) {
			t.Errorf("%s: %s, harm e^%g", f.Gate.Name, f.Verdict, f.LogHarm)
		}
	}
}

func TestJudgeDirection(t *testing.T) {
	p := examplePlan()
	p.Gates[2].HigherIsBetter = true
	s := healthy()
	s.worse = 3
	run, now := feed(p, s, 60)
	if f := Judge(p, run, nil, now)[2]; f.Verdict == Harm && f.LogHarm >= f.LogHarmBound || math.Abs(f.Estimate-1./3) > 0.05 {
		t.Errorf("a mean three times as high, where higher is better: %s, estimate %.2f, want 1/3", f.Verdict, f.Estimate)
	}
}

// TestStaleData: what was counted long ago is no data, and the reason says which variant is missing.
func TestStaleData(t *testing.T) {
	only := func(keepStable, keepCanary bool) func(c Counts) Counts {
		return func(c Counts) Counts {
			if !keepStable {
				c.Stable = Arm{}
			}
			if !keepCanary {
				c.Canary = Arm{}
			}
			return c
		}
	}
	tests := map[string]struct {
		reason string
		keep   func(c Counts) Counts // applied to the blocks after the 20th
		more   int
		want   want
	}{
		"Fresh":      {"data up to now", only(true, true), 10, want{"Pass", EvidenceSafe}},
		"Patient":    {"three late blocks are no gap", only(false, false), 3, want{"Pass", EvidenceSafe}},
		"Nothing":    {"neither variant is counted any more", only(false, false), 10, want{"NoData", NoBlocks}},
		"OnlyStable": {"the canary is missing", only(true, false), 10, want{"NoData", NoCanary}},
		"OnlyCanary": {"stable is missing", only(false, true), 10, want{"NoData", NoStable}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p, s := examplePlan(), healthy()
			r := rand.New(rand.NewPCG(8, 31))
			run := running(p)
			for i := range 60 + tc.more {
				b := s.block(r, i, 50)
				for name, c := range b.Counts {
					if i >= 60 {
						b.Counts[name] = tc.keep(c)
					}
				}
				run = run.Count(p, []Block{b})
			}
			now := t0.Add(time.Duration(60+tc.more) * interval)
			for _, f := range Judge(p, run, nil, now)[:3] {
				if string(f.Verdict) != string(tc.want.Decision) || f.Reason != tc.want.Reason {
					t.Errorf("%s: %s is %s %s (%s), want %s %s", tc.reason, f.Gate.Name, f.Verdict, f.Reason, f.Message, tc.want.Decision, tc.want.Reason)
				}
			}
		})
	}
}

// TestEverybodySwitched: at weight 100 the gates say why there is nothing to compare with.
func TestEverybodySwitched(t *testing.T) {
	p := examplePlan()
	p.Steps = []Step{{Weight: Buckets}}
	run, s := running(p), healthy()
	r := rand.New(rand.NewPCG(8, 32))
	for i := range 20 {
		b := s.block(r, i, Buckets)
		for name, c := range b.Counts {
			b.Counts[name] = Counts{Bounds: c.Bounds, Canary: c.Canary}
		}
		run = run.Count(p, []Block{b})
	}
	for _, f := range Judge(p, run, nil, t0.Add(20*interval))[:3] {
		if f.Reason != NoStable || !strings.Contains(f.Message, "nothing to compare with") {
			t.Errorf("%s is %s %s (%s), want that nothing is left to compare with", f.Gate.Name, f.Verdict, f.Reason, f.Message)
		}
	}
}

// TestNeverAnyData: a gate without any data waits until blocks were due, and says NoData from then on.
func TestNeverAnyData(t *testing.T) {
	p := examplePlan()
	run := running(p)
	due := t0.Add(p.WarmUp + 5*p.Interval)
	for _, c := range []struct {
		run  Run
		now  time.Time
		want Verdict
	}{
		{run, due.Add(-1), Wait},
		{run, due, NoData},
		{run, due.Add(time.Hour), NoData},
		{Begin("r", p, t0), due.Add(time.Hour), Wait},
	} {
		for _, f := range Judge(p, c.run, nil, c.now)[:3] {
			if f.Verdict != c.want {
				t.Errorf("step %d, %s: %s is %s, want %s", c.run.Step, c.now.Sub(t0), f.Gate.Name, f.Verdict, c.want)
			}
		}
	}
}

// TestBoundsChanged: counts above other bounds are never multiplied with those before, and never pass.
func TestBoundsChanged(t *testing.T) {
	p, s := examplePlan(), healthy()
	run, now := feed(p, s, 60)
	s.bounds = []float64{0.1, 0.3, 0.5, 1}
	b := s.block(rand.New(rand.NewPCG(9, 31)), 60, 50)
	run = resumed(t, run.Count(p, []Block{b}))
	f := Judge(p, run, nil, now.Add(interval))
	if f[1].Verdict != Invalid || f[1].Reason != BoundsChanged || !math.IsInf(f[1].LogHarm, -1) {
		t.Errorf("got %s %s, harm e^%g", f[1].Verdict, f[1].Reason, f[1].LogHarm)
	}
	if f[0].Verdict != Pass || f[2].Verdict != Pass {
		t.Errorf("the other gates: %s and %s", f[0].Verdict, f[2].Verdict)
	}
	// The share of the untrusted gate stays reserved: the others must reach the bound without it.
	logE, bound := HarmLog(p, f)
	if want := math.Log((math.Exp(f[0].LogHarm) + math.Exp(f[2].LogHarm)) / 3); math.Abs(logE-want) > 1e-9 || math.Abs(bound-math.Log(100)) > 1e-12 {
		t.Errorf("all together e^%g of e^%g, want e^%g of 100", logE, bound, want)
	}
}

func TestJudgeAlerts(t *testing.T) {
	alert := func(severity, rollout string) Alert {
		return Alert{Name: "A", Severity: severity, Summary: "s", Labels: map[string]string{"rollout": rollout}}
	}
	tests := map[string]struct {
		reason string
		alerts []Alert
		want   want
	}{
		"None":           {"no alert fires", nil, want{"Pass", NoAlerts}},
		"OfAnother":      {"an alert of another rollout is none of ours", []Alert{alert("critical", "brakes")}, want{"Pass", NoAlerts}},
		"Info":           {"information is no reason to act", []Alert{alert("info", "coolant")}, want{"Pass", NoAlerts}},
		"Warning":        {"a warning pauses", []Alert{alert("warning", "coolant")}, want{"Wait", PausedByAlert}},
		"Critical":       {"a critical alert is harm", []Alert{alert("critical", "coolant")}, want{"Harm", AlertFiring}},
		"CriticalFirst":  {"a warning does not hide a critical alert", []Alert{alert("critical", "coolant"), alert("warning", "coolant")}, want{"Harm", AlertFiring}},
		"CriticalSecond": {"nor the other way round", []Alert{alert("warning", "coolant"), alert("critical", "coolant")}, want{"Harm", AlertFiring}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := examplePlan()
			f := Judge(p, running(p), tc.alerts, t0)[3]
			if string(f.Verdict) != string(tc.want.Decision) || f.Reason != tc.want.Reason {
				t.Errorf("%s: got %s %s", tc.reason, f.Verdict, f.Reason)
			}
		})
	}
}

// TestFewBuckets: the test of means is asymptotic and does not begin with few buckets or few blocks.
func TestFewBuckets(t *testing.T) {
	tests := map[string]struct {
		reason         string
		weight, blocks int
		begun          bool
		want           Reason
	}{
		"TooFew":     {"four buckets never begin", 4, 50, false, TooFewBuckets},
		"FewBlocks":  {"five buckets need twenty blocks", 5, 19, false, CollectingEvidence},
		"FewButLong": {"twenty blocks of five buckets begin", 5, 20, true, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p, s := examplePlan(), healthy()
			r := rand.New(rand.NewPCG(10, 31))
			run := running(p)
			for i := range tc.blocks {
				b := s.block(r, i, tc.weight)
				c := b.Counts["quality"]
				c.Stable.Buckets = c.Stable.Buckets[:90] // not all hundred
				b.Counts["quality"] = c
				run = run.Count(p, []Block{b})
			}
			f := Judge(p, run, nil, t0.Add(time.Duration(tc.blocks)*interval))[2]
			if f.Known != tc.begun || (!tc.begun && (f.Reason != tc.want || f.LogHarm > 0 || f.LogSafety > 0)) {
				t.Errorf("%s: got %s %s, known = %t, harm e^%g", tc.reason, f.Verdict, f.Reason, f.Known, f.LogHarm)
			}
		})
	}
}

// TestOneArmIsNoBlockOfMeans: blocks that only stable was counted in do not end the burn-in.
func TestOneArmIsNoBlockOfMeans(t *testing.T) {
	p, s := examplePlan(), healthy()
	r := rand.New(rand.NewPCG(11, 31))
	run := running(p)
	for i := range 40 {
		b := s.block(r, i, 5)
		c := b.Counts["quality"]
		c.Stable.Buckets = c.Stable.Buckets[:90]
		if i < 39 {
			c.Canary = Arm{}
		}
		b.Counts["quality"] = c
		run = run.Count(p, []Block{b})
	}
	if f := Judge(p, run, nil, t0.Add(40*interval))[2]; f.Known {
		t.Errorf("one block of the canary and 39 of stable alone ended the burn-in: %s", f.Message)
	}
}

// TestRunAfter: what a decision does to a run.
func TestRunAfter(t *testing.T) {
	p, now := examplePlan(), t0.Add(time.Hour)
	paused := running(p).After(p, Outcome{Decision: Pause, Reason: Inconclusive}, t0.Add(time.Minute))
	tests := map[string]struct {
		reason string
		run    Run
		o      Outcome
		step   int
		paused Reason
		at     time.Time // when the pause began
		since  time.Time // when the cap's clock began
	}{
		"Advance":        {"the next step begins now", running(p), Outcome{Decision: Advance}, 2, "", time.Time{}, now},
		"AdvancePaused":  {"going on ends a pause", paused, Outcome{Decision: Advance}, 2, "", time.Time{}, now},
		"Pause":          {"a pause keeps the step", running(p), Outcome{Decision: Pause, Reason: Inconclusive}, 1, Inconclusive, now, t0},
		"PauseAgain":     {"a pause began when it began", paused, Outcome{Decision: Pause, Reason: PausedByRequest}, 1, PausedByRequest, t0.Add(time.Minute), t0},
		"Resume":         {"the cap's clock begins anew", paused, Outcome{Decision: Hold, Reason: Resumed}, 1, "", time.Time{}, now},
		"Hold":           {"holding changes nothing", running(p), Outcome{Decision: Hold, Reason: HoldingStep}, 1, "", time.Time{}, t0},
		"HoldPaused":     {"holding does not resume", paused, Outcome{Decision: Hold, Reason: Inconclusive}, 1, Inconclusive, t0.Add(time.Minute), t0},
		"Promote":        {"the run ends as it was", running(p), Outcome{Decision: Promote}, 1, "", time.Time{}, t0},
		"Rollback":       {"the run ends as it was", running(p), Outcome{Decision: Rollback}, 1, "", time.Time{}, t0},
		"AdvanceToFirst": {"the first step begins now", Begin("r", p, t0), Outcome{Decision: Advance}, 1, "", time.Time{}, now},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := tc.run.After(p, tc.o, now)
			if got.Step != tc.step || got.Paused != tc.paused || !got.PausedAt.Equal(tc.at) || !got.Waiting.Equal(tc.since) {
				t.Errorf("%s: got step %d, paused %q at %s, waiting since %s", tc.reason, got.Step, got.Paused, got.PausedAt, got.Waiting)
			}
			if want := p.Steps[tc.step-1].Weight; got.Weight != want || !got.Since().Equal(got.StepStarted) {
				t.Errorf("weight %d, want %d", got.Weight, want)
			}
		})
	}
	if w := Begin("r", p, t0).Weight; w != 0 {
		t.Errorf("weight %d before the first step", w)
	}
	if w := (Run{Step: 3}).Planned(Plan{}); w != 0 {
		t.Errorf("weight %d of a plan without steps", w)
	}
}

// TestStepChanged: a weight that was changed in the plan comes with a new beginning of the step, and only when it is decided.
func TestStepChanged(t *testing.T) {
	p, s, now := examplePlan(), healthy(), t0.Add(time.Hour)
	r := rand.New(rand.NewPCG(4, 4))
	run := running(p).After(p, Outcome{Decision: Advance}, t0)
	for i := range 20 {
		run = run.Count(p, []Block{s.block(r, i, run.Weight)})
	}
	run.Shown, run.Paused = t0, PausedByRequest
	p.Steps = []Step{{Weight: 5}, {Weight: 90}}
	if held := run.After(p, Outcome{Decision: Hold, Reason: HoldingStep}, now); held.Weight != 25 || held.Evidence.Trails[0].Blocks != 20 {
		t.Errorf("undecided: weight %d after %d blocks, want 25 after 20", held.Weight, held.Evidence.Trails[0].Blocks)
	}
	got := run.After(p, Outcome{Decision: Hold, Reason: StepChanged}, now)
	if got.Step != 2 || got.Weight != 90 || !got.StepStarted.Equal(now) || !got.Shown.IsZero() || got.Paused != PausedByRequest {
		t.Errorf("step %d at weight %d since %s, paused %q; want step 2 at 90 from now on, and still paused", got.Step, got.Weight, got.StepStarted, got.Paused)
	}
	if got.Evidence.Trails[0].Blocks != 0 || got.Share.Former != 25 {
		t.Errorf("%d blocks count for the new weight, and the former one is %d; want none and 25", got.Evidence.Trails[0].Blocks, got.Share.Former)
	}
	p.Steps = p.Steps[:1]
	if got = run.After(p, Outcome{Decision: Hold, Reason: StepChanged}, now); got.Step != 1 || got.Weight != 5 {
		t.Errorf("step %d at weight %d of a plan that has one step of 5", got.Step, got.Weight)
	}
}

// TestFalseAlarmOverAllGates plays whole healthy ramps through Judge with a peek after every block. All gates share one
// budget.
func TestFalseAlarmOverAllGates(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of runs on one goroutine")
	}
	const runs = 60
	p, s := examplePlan(), healthy()
	p.FalseAlarm, p.Gates, s.requests = 0.05, p.Gates[:3], 200
	r := rand.New(rand.NewPCG(12, 31))
	alarms := 0
	for range runs {
		run, now, harmed := running(p), t0, false
		for i := range 90 {
			run = run.Count(p, []Block{s.block(r, i, run.Weight)})
			now = now.Add(interval)
			for _, f := range Judge(p, run, nil, now) {
				harmed = harmed || f.Verdict == Harm
			}
			if i%30 == 29 {
				run = run.After(p, Outcome{Decision: Advance}, now)
			}
		}
		if harmed {
			alarms++
		}
	}
	t.Logf("%d false alarms in %d runs", alarms, runs)
	if float64(alarms) > p.FalseAlarm*runs {
		t.Errorf("%d false alarms in %d runs at %g", alarms, runs, p.FalseAlarm)
	}
}

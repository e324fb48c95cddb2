package experiment

import (
	"strings"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

func TestValidate(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*Plan)
		want   []string // words of the error; none for a sound plan
	}{
		"Sound":        {"the example is one", func(*Plan) {}, nil},
		"NoAssigned":   {"the test of the shares may be left out", func(p *Plan) { p.Assigned = rollout.Gate{} }, nil},
		"EqualBounds":  {"a duration may be fixed", func(p *Plan) { p.MinDuration = p.MaxDuration }, nil},
		"OneVariant":   {"there is nothing to compare with", func(p *Plan) { p.Variants = p.Variants[:1] }, []string{"1 variants", "2 to 10"}},
		"Eleven":       {"ten at most", func(p *Plan) { p.Variants = make([]Variant, 11) }, []string{"11 variants"}},
		"Twice":        {"names tell variants apart", func(p *Plan) { p.Variants[2].Name = "green" }, []string{`"green"`}},
		"NoVersion":    {"a variant serves something", func(p *Plan) { p.Variants[1].Version = "" }, []string{`"green"`, "version"}},
		"NoShare":      {"an arm has buckets", func(p *Plan) { p.Variants[1].Share = 0 }, []string{`"green"`, "share 0"}},
		"TooMuch":      {"there are 100 buckets", func(p *Plan) { p.Variants[1].Share = 41 }, []string{"101"}},
		"NoControl":    {"somebody is the control", func(p *Plan) { p.Control = "red" }, []string{`"red"`}},
		"AlertsDecide": {"alerts have no mean", func(p *Plan) { p.Objective.Type = rollout.Alerts }, []string{"objective", `"Alerts"`}},
		"Unnamed":      {"findings name their gate", func(p *Plan) { p.Objective.Name = "" }, []string{"objective", "name"}},
		"MoreErrors":   {"more errors are never better", func(p *Plan) { p.Objective.Type, p.Objective.HigherIsBetter = rollout.ErrorRate, true }, []string{`"quality"`, "direction"}},
		"NoThreshold":  {"slow is slower than something", func(p *Plan) { p.Guardrails = []rollout.Gate{{Name: "slow", Type: rollout.Latency}} }, []string{`"slow"`, "threshold"}},
		"SameGate":     {"names tell gates apart", func(p *Plan) { p.Guardrails = []rollout.Gate{p.Objective} }, []string{`"quality"`}},
		"SameUnits":    {"also the one of the units", func(p *Plan) { p.Assigned.Name = "quality" }, []string{`"quality"`}},
		"UnitsType":    {"units are counted by a SampleRatio", func(p *Plan) { p.Assigned.Type = rollout.Mean }, []string{`"units"`, "SampleRatio"}},
		"Blind":        {"one version is told apart by its buckets only", func(p *Plan) { p.Variants[2].Version, p.Objective.BucketLabel = "v2", "" }, []string{`"green"`, `"blue"`, "bucket"}},
		"NoEffect":     {"every difference would matter", func(p *Plan) { p.SmallestEffect = 0 }, []string{"smallest effect"}},
		"NoAlpha":      {"certainty takes for ever", func(p *Plan) { p.FalseAlarm = 0 }, []string{"false alarm"}},
		"NoInterval":   {"a block has a length", func(p *Plan) { p.Interval = 0 }, []string{"interval"}},
		"NegativeWarm": {"time runs forwards", func(p *Plan) { p.WarmUp = -time.Second }, []string{"warm-up"}},
		"MaxBelowMin":  {"it could not end", func(p *Plan) { p.MaxDuration = p.MinDuration - 1 }, []string{"maximum duration"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := examplePlan()
			tc.change(&p)
			err := p.Validate()
			if (err != nil) != (tc.want != nil) {
				t.Fatalf("%s: error %v", tc.reason, err)
			}
			for _, word := range tc.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%s: %q does not mention %s", tc.reason, err, word)
				}
			}
		})
	}
}

func TestQuestions(t *testing.T) {
	p := examplePlan()
	p.Variants[2].Version = "v1"
	p.Guardrails = []rollout.Gate{latency()}
	r := Start("id", p, [][]int{{0}, {1}, {2}}, t0)
	got := r.Questions(p, rollout.Service{Namespace: "edge", Name: "coolant"}, t0.Add(90*time.Second))
	if len(got) != 2 {
		t.Fatalf("%d questions, want one for each variant but the control", len(got))
	}
	for i, want := range []struct {
		canary string
		gates  int
	}{{"v2", 3}, {"v1", 2}} {
		q := got[i]
		if q.Stable != "v1" || q.Canary != want.canary || len(q.Gates) != want.gates {
			t.Errorf("question %d: %s against %s by %d gates, want %s against v1 by %d", i, q.Canary, q.Stable, len(q.Gates), want.canary, want.gates)
		}
		if !q.From.Before(t0) || !q.To.Equal(t0.Add(time.Minute)) || q.Interval != interval {
			t.Errorf("question %d: from %s to %s by %s, want from before the experiment to the last instant of the grid", i, q.From, q.To, q.Interval)
		}
	}
}

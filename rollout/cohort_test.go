package rollout

import (
	"math/rand/v2"
	"testing"
	"time"
)

// cohortPlan compares half of a cohort with the other half before the first step.
func cohortPlan() Plan {
	p := examplePlan()
	p.Preview = Preview{Hold: time.Minute, Control: 50}
	p.Gates = append(p.Gates, Gate{Name: "alerts", Type: Alerts})
	return p
}

// inCohort is a run of which the cohort has seen some blocks, half of it the canary.
func inCohort(p Plan, s service, blocks int) (Run, time.Time) {
	run := Begin("run-1", p, t0.Add(-time.Minute)).After(p, Outcome{Decision: Hold, Reason: CanaryNotReady}, t0)
	r := rand.New(rand.NewPCG(9, 9))
	for i := range blocks {
		run = run.Count(p, []Block{s.block(r, i, 50)})
	}
	return run, t0.Add(time.Duration(blocks) * interval)
}

// TestCohortIsJudged: with a control the preview lasts until the gates that can tell the cohort's requests from others pass; what
// harms the cohort rolls back; nothing of it is evidence of the first step.
func TestCohortIsJudged(t *testing.T) {
	bad := healthy()
	bad.worse = 3
	for name, tc := range map[string]struct {
		reason string
		plan   func(*Plan)
		s      service
		blocks int
		want   want
	}{
		"Hold":      {"the hold comes first", func(*Plan) {}, healthy(), 2, want{Hold, Previewing}},
		"Early":     {"there is not enough evidence yet", func(p *Plan) { p.Preview.Hold = 0 }, healthy(), 2, want{Hold, CollectingEvidence}},
		"Healthy":   {"the cohort's two halves are alike", func(*Plan) {}, healthy(), 60, want{Advance, StepPassed}},
		"Harmful":   {"the canary's half fails more often", func(*Plan) {}, bad, 60, want{Rollback, ErrorsHarm}},
		"Asks":      {"somebody has to promote", func(p *Plan) { p.Preview.Ask = true }, healthy(), 60, want{Hold, AwaitingPromotion}},
		"NoControl": {"without a control there is nothing to compare", func(p *Plan) { p.Preview.Control = 0 }, bad, 60, want{Advance, CanaryReady}},
	} {
		t.Run(name, func(t *testing.T) {
			p := cohortPlan()
			tc.plan(&p)
			run, now := inCohort(p, tc.s, tc.blocks)
			findings := Judge(p, run, nil, now)
			got := Decide(Situation{Plan: p, Run: run, Findings: findings, CanaryReady: true, Now: now})
			if got.Decision != tc.want.Decision || got.Reason != tc.want.Reason {
				t.Fatalf("%s: %s %s (%s), want %s %s", tc.reason, got.Decision, got.Reason, got.Message, tc.want.Decision, tc.want.Reason)
			}
			if got.Decision != Advance {
				return
			}
			first := run.After(p, got, now)
			for i, f := range Judge(p, first, nil, now)[:3] {
				if f.LogSafety != 0 || f.StableTotal.Count != 0 {
					t.Errorf("at the first step gate %q has e^%.1f of %v requests, want none", f.Gate.Name, f.LogSafety, f.StableTotal)
				}
				if f.LogHarm > findings[i].LogHarm+1e-9 && p.Preview.Control > 0 {
					t.Errorf("at the first step gate %q has more harm, e^%.1f, than before, e^%.1f", f.Gate.Name, f.LogHarm, findings[i].LogHarm)
				}
			}
			if run.Share != (Share{}) {
				t.Errorf("a cohort was taken for a share of the requests: %+v", run.Share)
			}
		})
	}
}

// TestCohortUntold: a gate whose counters do not tell the cohort's requests from others is judged from the first step on.
func TestCohortUntold(t *testing.T) {
	p := cohortPlan()
	run, now := inCohort(p, healthy(), 60)
	for _, f := range Judge(p, run, nil, now)[:3] {
		if untold := f.Reason == NotOfCohort; untold != (f.Gate.Type == Mean) {
			t.Errorf("gate %q says %s (%s)", f.Gate.Name, f.Verdict, f.Reason)
		}
	}
}

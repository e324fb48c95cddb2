package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// scenario is a story that the demo tells: which version is tried, what is wrong with it, and how it must end.
type scenario struct {
	name, story string
	// canary is the label of the version that is tried, model the artefact that it serves; fault is what is wrong with
	// the process that serves it (see the node package).
	canary, model, fault string
	// silent stops the scraping of metrics at the first step.
	silent bool
	// shadow is the percentage of requests that are copied before the first step; a story with one is rejected there.
	shadow int32
	// outcome is how the run must end, or "Paused"; reason is the word that must explain it. Empty: any.
	outcome string
	reason  rollout.Reason
	// cap bounds each step's wait for evidence.
	cap time.Duration
	// trial is what an experiment compares; the story is then of an experiment and not of a canary.
	trial *comparison
}

const outcomePaused = "Paused"

// scenarios are told by name.
func scenarios() []scenario {
	const usual = 2 * time.Minute // three times what a slow machine was seen to take
	return []scenario{
		{name: "promote", story: "v2 predicts better than v1 and is promoted", canary: "v2", model: "v2", outcome: v1alpha1.OutcomePromoted, cap: usual},
		{name: "bad", story: "v3-bad was trained on the wrong unit and is rolled back on quality", canary: "v3-bad", model: "v3-bad", outcome: v1alpha1.OutcomeRolledBack, reason: rollout.MeanHarm, cap: usual},
		{name: "errors", story: "a v2 that fails 5 % of its requests is rolled back on errors", canary: "v2-errors", model: "v2", fault: "errors=0.05", outcome: v1alpha1.OutcomeRolledBack, reason: rollout.ErrorsHarm, cap: usual},
		{name: "slow", story: "a v2 with a latency tail is rolled back on latency", canary: "v2-slow", model: "v2", fault: "slow=0.1,400ms", outcome: v1alpha1.OutcomeRolledBack, reason: rollout.LatencyHarm, cap: usual},
		{name: "shadow", story: "a v2 that fails 5 % of its requests is rejected by copies, before a vehicle meets it", canary: "v2-errors", model: "v2", fault: "errors=0.05", shadow: 50, outcome: v1alpha1.OutcomeRolledBack, reason: rollout.ErrorsHarm, cap: usual},
		{name: "silent", story: "the metrics stop; the weight is held, then the run pauses", canary: "v2", model: "v2", silent: true, outcome: outcomePaused, reason: rollout.NoBlocks, cap: 15 * time.Second},
		{name: "experiment", story: "three variants are compared, and v2, which predicts better, wins", trial: &comparison{
			variants: [2]variant{{"v2", "v2"}, {"v1-again", "v1"}}, verdict: "Winner", winner: "v2", smallestEffect: "0.1", minimum: 15 * time.Second,
		}},
		{name: "equal", story: "three variants of the same model are compared, and none differs", trial: &comparison{
			variants: [2]variant{{"v1-again", "v1"}, {"v1-renamed", "v1"}}, verdict: "NoDifference", reason: "WithinSmallestEffect", smallestEffect: "0.25", minimum: 15 * time.Second,
		}},
		{name: "lossy", story: "most vehicles of a variant fall silent, and nothing is concluded from the others", trial: &comparison{
			variants: [2]variant{{"v2", "v2"}, {"v1-again", "v1"}}, lossy: "v2", verdict: "Invalid", reason: "SampleRatioMismatch", smallestEffect: "0.1", minimum: 5 * time.Minute,
		}},
	}
}

// speed is how many times faster than life the drives are replayed. A bucket has few vehicles, and an experiment of a minute
// needs them to have seen many roads.
func (s scenario) speed() float64 {
	if s.trial != nil {
		return 150
	}
	return 10
}

// findScenario returns the scenario of a name, or an error that lists them.
func findScenario(name string) (scenario, error) {
	all := scenarios()
	i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
	if i < 0 {
		names := make([]string, len(all))
		for k, s := range all {
			names[k] = s.name
		}
		return scenario{}, fmt.Errorf("choosing scenario %q: must be one of %s", name, strings.Join(names, ", "))
	}
	return all[i], nil
}

// ended says whether the rollout has come to the end of the story, and how.
func ended(ro *v1alpha1.Rollout, canary string) (outcome string, reason rollout.Reason, done bool) {
	st := ro.Status
	switch {
	case st.Run == nil && st.LastRun != nil && st.LastRun.Version == canary:
		return st.LastRun.Outcome, rollout.Reason(st.LastRun.Reason), true
	case st.Run != nil && st.Run.Paused != "":
		return outcomePaused, rollout.Reason(st.Run.Paused), true
	}
	return "", "", false
}

// verdict compares how the story ended with how it must.
func (s scenario) verdict(outcome string, reason rollout.Reason) error {
	if outcome != s.outcome || (s.reason != "" && reason != s.reason) {
		want := s.outcome
		if s.reason != "" {
			want += " (" + string(s.reason) + ")"
		}
		return fmt.Errorf("checking scenario %q: ended %s (%s), expected %s", s.name, outcome, reason, want)
	}
	return nil
}

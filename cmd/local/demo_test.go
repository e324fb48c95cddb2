package main

import (
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/cmd/internal/run"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// TestDemo tells the shortest scenario with everything in it: the real API, gateway, controller, models and drives.
func TestDemo(t *testing.T) {
	fs := flag.NewFlagSet("local", flag.ContinueOnError)
	body := bind(fs)
	if err := fs.Parse([]string{"-scenario", "errors", "-plain", "-vehicles", "200"}); err != nil {
		t.Fatal(err)
	}
	if err := run.Run(t.Context(), run.Options{Name: "local", StopTimeout: time.Minute}, body); err != nil {
		t.Fatalf("the scenario did not end as it must: %v", err)
	}
}

// TestShadow rejects a version by the copies that the gateway makes and counts, before a vehicle meets it.
func TestShadow(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute")
	}
	fs := flag.NewFlagSet("local", flag.ContinueOnError)
	body := bind(fs)
	if err := fs.Parse([]string{"-scenario", "shadow", "-plain", "-vehicles", "200"}); err != nil {
		t.Fatal(err)
	}
	if err := run.Run(t.Context(), run.Options{Name: "local", StopTimeout: time.Minute}, body); err != nil {
		t.Fatalf("the scenario did not end as it must: %v", err)
	}
}

// TestExperiments compares three variants on replayed drives: the better model wins with an interval, equal models end in
// NoDifference, and a broken assignment in Invalid.
func TestExperiments(t *testing.T) {
	if testing.Short() {
		t.Skip("three experiments of half a minute each")
	}
	for _, name := range []string{"experiment", "equal", "lossy"} {
		t.Run(name, func(t *testing.T) {
			fs := flag.NewFlagSet("local", flag.ContinueOnError)
			body := bind(fs)
			if err := fs.Parse([]string{"-scenario", name, "-plain"}); err != nil {
				t.Fatal(err)
			}
			if err := run.Run(t.Context(), run.Options{Name: "local", StopTimeout: time.Minute}, body); err != nil {
				t.Fatalf("the experiment did not end as it must: %v", err)
			}
		})
	}
}

// TestWrongConclusionIsAnError holds the demo to its word where an experiment ends otherwise.
func TestWrongConclusionIsAnError(t *testing.T) {
	story, err := findScenario("experiment")
	if err != nil {
		t.Fatal(err)
	}
	won := func(verdict, winner, low, high string) *v1alpha1.Experiment {
		return &v1alpha1.Experiment{Status: v1alpha1.ExperimentStatus{
			Verdict: verdict, Winner: winner, Reason: "BetterButNotToldApart",
			Variants: []v1alpha1.VariantStatus{{Name: winner, Low: low, High: high}},
		}}
	}
	for name, tc := range map[string]struct {
		e     *v1alpha1.Experiment
		wrong bool
	}{
		"as it must":      {won("Winner", "model-v2", "0.6", "0.8"), false},
		"another winner":  {won("Winner", "model-v1-again", "0.6", "0.8"), true},
		"another verdict": {won("Inconclusive", "model-v2", "0.6", "0.8"), true},
		"no interval":     {won("Winner", "model-v2", "", ""), true},
		"wide interval":   {won("Winner", "model-v2", "0.6", "1.1"), true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := story.trial.concluded(tc.e); (err != nil) != tc.wrong {
				t.Errorf("concluded = %v, want an error: %t", err, tc.wrong)
			}
		})
	}
}

// TestWrongOutcomeIsAnError holds the demo to its word: it exits non-zero when the story ends otherwise.
func TestWrongOutcomeIsAnError(t *testing.T) {
	promote, err := findScenario("promote")
	if err != nil {
		t.Fatal(err)
	}
	silent, err := findScenario("silent")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		story   scenario
		outcome string
		reason  rollout.Reason
		wrong   bool
	}{
		"as it must":           {promote, v1alpha1.OutcomePromoted, rollout.AllPassed, false},
		"rolled back":          {promote, v1alpha1.OutcomeRolledBack, rollout.MeanHarm, true},
		"paused":               {promote, outcomePaused, rollout.Inconclusive, true},
		"silent and paused":    {silent, outcomePaused, rollout.NoBlocks, false},
		"silent, other reason": {silent, outcomePaused, rollout.Inconclusive, true},
		"silent and promoted":  {silent, v1alpha1.OutcomePromoted, rollout.AllPassed, true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tc.story.verdict(tc.outcome, tc.reason); (err != nil) != tc.wrong {
				t.Errorf("verdict = %v, want an error: %t", err, tc.wrong)
			}
		})
	}
}

func TestBadFlagsAreNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"unknown scenario": {[]string{"-scenario", "lucky"}, `choosing scenario "lucky": must be one of promote, bad`},
		"weight":           {[]string{"-steps", "5,500"}, `"500" must be a weight from 1 to 100`},
		"same version":     {[]string{"-canary", "v1"}, `--canary "v1": must differ from --stable`},
		"no such folder":   {[]string{"-models", "nowhere"}, "opening --models"},
	} {
		t.Run(name, func(t *testing.T) {
			fs := flag.NewFlagSet("local", flag.ContinueOnError)
			body := bind(fs)
			if err := fs.Parse(tc.args); err != nil {
				t.Fatal(err)
			}
			err := run.Run(t.Context(), run.Options{Name: "local"}, body)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want it to contain %q", err, tc.want)
			}
		})
	}
}

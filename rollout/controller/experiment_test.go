package controller_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// TestExperiment tells the whole story: buckets are allotted, the routes show them, the better variant wins with an
// interval, and all units see the stable version again.
func TestExperiment(t *testing.T) {
	x := newTrials(t)
	x.begin("models")
	e := x.untilExp("models", "in force", inForce)
	allocation := map[string][]int{}
	for _, a := range e.Status.Allocation {
		allocation[a.Name] = setOf(a.Buckets)
		if len(allocation[a.Name]) != 25 {
			t.Errorf("variant %q has %d buckets, want 25", a.Name, len(allocation[a.Name]))
		}
	}
	if diff := cmp.Diff(allocation, x.arms("coolant")); diff != "" {
		t.Errorf("buckets in the status (-) and in the route (+):\n%s", diff)
	}
	e = x.untilExp("models", "over", over)
	st := e.Status
	if st.Verdict != "Winner" || st.Winner != "deeper" || st.Reason != "BetterThanControl" {
		t.Errorf("got %s of %q, %s; want the winner deeper", st.Verdict, st.Winner, st.Reason)
	}
	if st.EndedAt.Sub(st.StartedAt.Time) < time.Minute {
		t.Errorf("ended %s after %s, before its minimum", st.EndedAt, st.StartedAt)
	}
	better := st.Variants[1]
	if low, high := value(t, better.Low), value(t, better.High); low > 0.75 || high < 0.75 || high >= 1 {
		t.Errorf("interval [%s, %s] of %q, want it around 0.75 and below 1", better.Low, better.High, better.Name)
	}
	if st.Variants[0].Estimate != "" || st.Variants[0].Mean == "" || st.Variants[2].Units == "" {
		t.Errorf("variants %+v, want means and units for all and no estimate for the control", st.Variants)
	}
	x.turn()
	if got := x.arms("coolant"); len(got) > 0 {
		t.Errorf("the routes still show %v", got)
	}
	x.clock = x.clock.Add(30 * time.Second)
	ro := x.turn()
	if len(ro.Status.Experiments) > 0 || !slices.Equal(x.subsets(), []string{"v1"}) {
		t.Errorf("after the grace period: experiments %+v, subsets %v", ro.Status.Experiments, x.subsets())
	}
}

func value(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// arms returns the buckets of the variants that a rollout's route shows, without those of stable.
func (x *trials) arms(name string) map[string][]int {
	x.t.Helper()
	all := x.owners(name)
	delete(all, "stable")
	return all
}

// TestVerdicts: each verdict has its story.
func TestVerdicts(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  string
		story   func(x *trials)
		edit    func(e *v1alpha1.Experiment)
		verdict string
		why     string
	}{
		"NoDifference": {
			reason: "all variants serve equally well", verdict: "NoDifference", why: "WithinSmallestEffect",
			story: func(x *trials) { x.means = map[string]float64{"v1": 4, "v2": 4, "v3": 4} },
		},
		"SameVersion": {
			reason: "an A/A test under two names", verdict: "NoDifference", why: "WithinSmallestEffect",
			edit: func(e *v1alpha1.Experiment) { e.Spec.Variants[1].Version, e.Spec.Variants[2].Version = "v1", "v1" },
		},
		"Harm": {
			reason: "a variant is worse", verdict: "Harm", why: "MeanHarm",
			story: func(x *trials) { x.means = map[string]float64{"v1": 4, "v2": 4, "v3": 6} },
		},
		"Invalid": {
			reason: "half of the units of a variant never arrive", verdict: "Invalid", why: "SampleRatioMismatch",
			story: func(x *trials) { x.lost["v2"] = 0.5 },
		},
		"Inconclusive": {
			reason: "a difference that matters barely, and no time", verdict: "Inconclusive", why: "MaximumDuration",
			story: func(x *trials) { x.means = map[string]float64{"v1": 4, "v2": 4 * 0.96, "v3": 4} },
			edit:  func(e *v1alpha1.Experiment) { e.Spec.Duration.Maximum.Duration = 2 * time.Minute },
		},
		"Silent": {
			reason: "no evidence proves nothing", verdict: "Inconclusive", why: "NoData",
			story: func(x *trials) { x.source.err = errors.New("connection refused") },
			edit:  func(e *v1alpha1.Experiment) { e.Spec.Duration.Maximum.Duration = 2 * time.Minute },
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTrials(t)
			if tc.story != nil {
				tc.story(x)
			}
			x.begin("models", func(e *v1alpha1.Experiment) {
				if tc.edit != nil {
					tc.edit(e)
				}
			})
			st := x.untilExp("models", "over", over).Status
			if st.Verdict != tc.verdict || st.Reason != tc.why {
				t.Errorf("%s: got %s (%s): %s; want %s (%s)", tc.reason, st.Verdict, st.Reason, st.Message, tc.verdict, tc.why)
			}
			x.turn()
			if got := x.arms("coolant"); len(got) > 0 {
				t.Errorf("%s: after the end the routes show %v", tc.reason, got)
			}
		})
	}
}

// TestNewVersionWaits: a wanted version waits until the experiment has ended, and then begins its run.
func TestNewVersionWaits(t *testing.T) {
	long(t)
	x := newTrials(t)
	x.begin("models")
	x.untilExp("models", "in force", inForce)
	x.want("v2")
	ro := x.turn()
	if st := ro.Status; st.Decision != "Hold" || st.Reason != "ExperimentRunning" || st.Run != nil || !strings.Contains(st.Message, `experiment "models"`) {
		t.Errorf("%s %s: %s; want to hold for the experiment", st.Decision, st.Reason, st.Message)
	}
	before := x.arms("coolant")
	id := x.ask(v1alpha1.ActionRetry)
	x.turn()
	if got := x.request(id).Outcome; !strings.HasPrefix(got, "Nothing done: ") {
		t.Errorf("a retry during the experiment: %q", got)
	}
	if diff := cmp.Diff(before, x.arms("coolant")); diff != "" {
		t.Errorf("the arms changed (-before +after):\n%s", diff)
	}
	x.untilExp("models", "over", over)
	x.source.answer, x.source.counts = nil, healthy
	x.until("at step 1", atStep(1))
}

// TestRunFirst: an experiment waits until the run that is going on has ended; one whose control is then no longer stable
// is stuck and says so.
func TestRunFirst(t *testing.T) {
	x := newTrials(t)
	x.want("v2")
	answer := x.source.answer
	x.source.answer, x.source.counts = nil, healthy
	x.until("at step 1", atStep(1))
	x.begin("models")
	e := x.untilExp("models", "waiting", because("RolloutRunning"))
	if len(e.Status.Allocation) > 0 {
		t.Errorf("it holds buckets while it waits: %+v", e.Status.Allocation)
	}
	x.until("promoted", ended(v1alpha1.OutcomePromoted))
	x.untilExp("models", "stuck", because("ControlNotStable"))
	if c := conditionOf(x.exp("models"), v1alpha1.ConditionStalled); c == nil || !strings.Contains(c.Message, `the stable version is "v2"`) {
		t.Errorf("stalled: %+v", c)
	}
	x.source.answer = answer
	x.editExp("models", func(e *v1alpha1.Experiment) { e.Spec.Variants = e.Spec.Variants[1:] })
	x.untilExp("models", "in force", inForce)
}

func conditionOf(e *v1alpha1.Experiment, kind string) *metav1.Condition {
	for _, c := range e.Status.Conditions {
		if c.Type == kind {
			return &c
		}
	}
	return nil
}

// TestDeletion: when an experiment is deleted its buckets go back to the stable version in one write of the route.
func TestDeletion(t *testing.T) {
	x := newTrials(t)
	x.begin("models")
	e := x.untilExp("models", "in force", inForce)
	if err := x.client.Delete(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	x.tap.writes()
	x.turn()
	if diff := cmp.Diff([]string{"apply VirtualService", "status Rollout"}, x.tap.writes()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if got := x.arms("coolant"); len(got) > 0 {
		t.Errorf("the route shows %v", got)
	}
	if !slices.Contains(x.subsets(), "v2") {
		t.Errorf("subsets %v: the versions must stay reachable for a while", x.subsets())
	}
	x.clock = x.clock.Add(30 * time.Second)
	x.turn()
	if got := x.subsets(); !slices.Equal(got, []string{"v1"}) {
		t.Errorf("after the grace period: subsets %v", got)
	}
}

// TestExperimentMakesBeforeItBreaks: the subsets stand before the route leads to them.
func TestExperimentMakesBeforeItBreaks(t *testing.T) {
	x := newTrials(t)
	x.begin("models")
	x.look("models")
	x.tap.writes()
	x.turn()
	if diff := cmp.Diff([]string{"status Rollout", "apply DestinationRule", "apply VirtualService"}, x.tap.writes()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if s := x.get().Status.Experiments[0]; s.InForceSince != nil {
		t.Error("it is called in force before anybody has seen that the route stands")
	}
	x.turn()
	if s := x.get().Status.Experiments[0]; s.InForceSince == nil {
		t.Error("it is not called in force although the route stands")
	}
	if slices.ContainsFunc(x.events, func(e string) bool { return strings.Contains(e, "DriftRepaired") }) {
		t.Errorf("a step of our own was told as a repair: %q", x.events)
	}
}

// TestExperimentDrift: whatever somebody did to the route, the next turn shows the same arms again.
func TestExperimentDrift(t *testing.T) {
	x := newTrials(t)
	x.begin("models")
	x.untilExp("models", "in force", inForce)
	before := x.arms("coolant")
	if err := x.client.Delete(t.Context(), x.route()); err != nil {
		t.Fatal(err)
	}
	x.turn()
	if diff := cmp.Diff(before, x.arms("coolant")); diff != "" {
		t.Errorf("arms (-before +after):\n%s", diff)
	}
	if !slices.ContainsFunc(x.events, func(e string) bool { return strings.Contains(e, "DriftRepaired") }) {
		t.Errorf("nobody was told: %q", x.events)
	}
}

// TestVariantNotReady: a version without a ready endpoint gets no traffic, before and while the experiment runs, and no
// block of an interruption counts.
func TestVariantNotReady(t *testing.T) {
	long(t)
	x := newTrials(t)
	x.deploy("v3", false)
	x.begin("models")
	e := x.untilExp("models", "waiting", because("VariantNotReady"))
	if len(e.Status.Allocation) > 0 || len(x.arms("coolant")) > 0 {
		t.Errorf("buckets %+v, arms %v; want none", e.Status.Allocation, x.arms("coolant"))
	}
	x.deploy("v3", true)
	e = x.untilExp("models", "in force", inForce)
	started := e.Status.StartedAt.Time
	x.deploy("v3", false)
	e = x.untilExp("models", "interrupted", because("VariantNotReady"))
	if got := x.arms("coolant"); len(got) > 0 {
		t.Errorf("the route shows %v", got)
	}
	last := e.Status.LastBlock.Time
	x.want("v2")
	x.clock = x.clock.Add(20 * time.Second)
	x.round()
	if ro := x.get(); ro.Status.Reason != "ExperimentRunning" {
		t.Errorf("a run may begin while the experiment is interrupted: %s", ro.Status.Reason)
	}
	x.want("v1")
	x.deploy("v3", true)
	e = x.untilExp("models", "in force again", func(e *v1alpha1.Experiment) bool { return e.Status.InForceSince.After(started) })
	if !e.Status.StartedAt.Time.Equal(started) || e.Status.LastBlock.Before(&metav1.MicroTime{Time: last}) {
		t.Errorf("started %s, last block %s; want %s and nothing lost", e.Status.StartedAt, e.Status.LastBlock, started)
	}
	x.untilExp("models", "over", func(e *v1alpha1.Experiment) bool { return e.Status.Verdict == "Winner" })
}

// TestNotReadyByOutage: no unit is moved because the API did not say whether a version is ready.
func TestNotReadyByOutage(t *testing.T) {
	x := newTrials(t)
	x.begin("models")
	x.untilExp("models", "in force", inForce)
	before := x.arms("coolant")
	x.tap.fail = func(call string) error {
		if call == "list InferenceServiceList" {
			return errOutage
		}
		return nil
	}
	x.turn()
	if diff := cmp.Diff(before, x.arms("coolant")); diff != "" {
		t.Errorf("arms (-before +after):\n%s", diff)
	}
}

// TestPromoteWinner: the winner's version becomes the wanted one, once, and never against somebody's will.
func TestPromoteWinner(t *testing.T) {
	promote := func(e *v1alpha1.Experiment) { e.Spec.PromoteWinner = true }
	t.Run("Done", func(t *testing.T) {
		x := newTrials(t)
		x.begin("models", promote)
		x.untilExp("models", "promoted", func(e *v1alpha1.Experiment) bool { return e.Status.Promotion == "Done" })
		if got := x.get().Spec.Version; got != "v2" {
			t.Errorf("spec.version %q, want v2", got)
		}
		if !slices.ContainsFunc(x.events, func(e string) bool { return strings.Contains(e, "WinnerPromoted") }) {
			t.Errorf("nobody was told: %q", x.events)
		}
		x.source.answer, x.source.counts = nil, healthy
		x.until("promoted", ended(v1alpha1.OutcomePromoted))
		x.want("v3")
		x.look("models")
		if got := x.get().Spec.Version; got != "v3" {
			t.Errorf("spec.version %q: the winner was promoted twice", got)
		}
	})
	t.Run("SomebodyElse", func(t *testing.T) {
		x := newTrials(t)
		x.begin("models", promote)
		x.untilExp("models", "in force", inForce)
		x.want("v9")
		e := x.untilExp("models", "promoted", func(e *v1alpha1.Experiment) bool { return e.Status.Promotion != "" })
		if !strings.Contains(e.Status.Promotion, `"v9"`) || x.get().Spec.Version != "v9" {
			t.Errorf("promotion %q, spec.version %q", e.Status.Promotion, x.get().Spec.Version)
		}
	})
	t.Run("NotAsked", func(t *testing.T) {
		x := newTrials(t)
		x.begin("models")
		x.untilExp("models", "over", over)
		x.look("models")
		if got := x.get().Spec.Version; got != "v1" {
			t.Errorf("spec.version %q, want v1", got)
		}
	})
}

// TestRolloutGone: an experiment without its rollout is stuck, and says so.
func TestRolloutGone(t *testing.T) {
	x := newTrials(t)
	x.begin("models", func(e *v1alpha1.Experiment) { e.Spec.Rollout = "nobody" })
	x.look("models")
	if c := conditionOf(x.exp("models"), v1alpha1.ConditionStalled); c == nil || c.Reason != "RolloutNotFound" {
		t.Errorf("stalled: %+v, want RolloutNotFound", c)
	}
}

// TestExperimentMetrics: the numbers behind a verdict are exported, and none speaks of an experiment that is gone.
func TestExperimentMetrics(t *testing.T) {
	long(t)
	registry := prometheus.NewRegistry()
	x := newTrials(t)
	x.o.Metrics = controller.NewMetrics(registry)
	x.reboot()
	x.begin("models")
	e := x.untilExp("models", "over", over)
	got := scrapeExperiments(t, registry)
	for series, want := range map[string]float64{
		"siskin_experiment_info control models coolant Ended": 1,
		"siskin_experiment_verdict models Winner":             1, "siskin_experiment_verdict models Running": 0,
		"siskin_experiment_verdicts_total models Winner":        1,
		"siskin_experiment_arm_buckets models deeper":           25,
		"siskin_experiment_arm_units models control":            value(t, e.Status.Variants[0].Units),
		"siskin_experiment_arm_mean models control":             value(t, e.Status.Variants[0].Mean),
		"siskin_experiment_arm_estimate_ratio models deeper":    value(t, e.Status.Variants[1].Estimate),
		"siskin_experiment_arm_low_ratio models deeper":         value(t, e.Status.Variants[1].Low),
		"siskin_experiment_arm_high_ratio models deeper":        value(t, e.Status.Variants[1].High),
		"siskin_experiment_sample_ratio_pvalue models":          value(t, e.Status.SampleRatio),
		"siskin_experiment_started_timestamp_seconds models":    float64(e.Status.StartedAt.UnixMicro()) / 1e6,
		"siskin_experiment_last_block_timestamp_seconds models": float64(e.Status.LastBlock.Unix()),
	} {
		if v, ok := got[series]; !ok || v != want {
			t.Errorf("%s: got %v (%t), want %v", series, v, ok, want)
		}
	}
	if err := x.client.Delete(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	x.gone("models")
	for series := range scrapeExperiments(t, registry) {
		t.Errorf("series %q of an experiment that is gone", series)
	}
}

func scrapeExperiments(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	out := scrape(t, g)
	for series := range out {
		if !strings.HasPrefix(series, "siskin_experiment_") {
			delete(out, series)
		}
	}
	return out
}

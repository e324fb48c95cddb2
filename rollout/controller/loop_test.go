package controller_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

func TestAdopt(t *testing.T) {
	w := newWorld(t)
	if ro := w.turn(); ro.Status.StableVersion != "" || ro.Status.Reason != "StableNotReady" {
		t.Errorf("without a workload: stable %q, reason %q; want none, StableNotReady", ro.Status.StableVersion, ro.Status.Reason)
	}
	if w.route() != nil {
		t.Error("a route was written before any version was ready")
	}
	w.deploy("v1", false)
	if ro := w.turn(); ro.Status.StableVersion != "" {
		t.Errorf("with a workload that is not ready: stable %q, want none", ro.Status.StableVersion)
	}
	w.deploy("v1", true)
	w.tap.writes()
	if ro := w.turn(); ro.Status.StableVersion != "v1" || ro.Status.Reason != "Adopted" {
		t.Errorf("with a ready workload: stable %q, reason %q; want v1, Adopted", ro.Status.StableVersion, ro.Status.Reason)
	}
	if diff := cmp.Diff([]string{"status Rollout", "apply DestinationRule", "apply VirtualService"}, w.tap.writes()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	w.turn()
	if got := w.tap.writes(); len(got) != 1 { // the reason changes from Adopted to Stable
		t.Errorf("writes of the next turn: got %v, want the status only", got)
	}
	before := w.clock
	w.turn()
	if got := w.tap.writes(); len(got) != 0 {
		t.Errorf("writes when idle: got %v, want none", got)
	}
	if wait := w.clock.Sub(before); wait != 30*time.Second {
		t.Errorf("idle: looks again after %v, want 30s", wait)
	}
	if len(w.source.asked) != 0 {
		t.Errorf("evidence was asked for %d times without a run", len(w.source.asked))
	}
}

// TestPromote walks through a whole run: each weight, what the mesh shows at it, and the order of the writes.
func TestPromote(t *testing.T) {
	w := newWorld(t)
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.want("v2")
	ro := w.until("waiting", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "CanaryNotReady" })
	if ro.Status.Weight != 0 || len(w.canary()) != 0 {
		t.Errorf("weight %d, buckets %v before the canary was ready", ro.Status.Weight, w.canary())
	}
	if diff := cmp.Diff([]string{"v1", "v2"}, w.subsets()); diff != "" {
		t.Errorf("subsets before the first step (-want +got):\n%s", diff)
	}
	w.deploy("v2", true)
	var seen []int
	for _, want := range []struct{ step, weight int32 }{{1, 5}, {2, 25}, {3, 50}} {
		w.tap.writes()
		ro := w.until("next step", atStep(want.step))
		if writes := w.tap.writes(); !inOrder(writes, "status Rollout", "apply VirtualService") {
			t.Errorf("step %d: writes %v, want the status before the route", want.step, writes)
		}
		got := w.canary()
		if len(got) != int(want.weight) || ro.Status.Weight != want.weight {
			t.Errorf("step %d: %d buckets in the mesh, weight %d in the status; want %d", want.step, len(got), ro.Status.Weight, want.weight)
		}
		if rollout.FormatBuckets(got) != ro.Status.Allocation {
			t.Errorf("step %d: the mesh shows %s, the status %s", want.step, rollout.FormatBuckets(got), ro.Status.Allocation)
		}
		for _, b := range seen {
			if !slices.Contains(got, b) {
				t.Errorf("step %d: bucket %d left the canary", want.step, b)
			}
		}
		seen = got
	}
	w.tap.writes()
	ro = w.until("promoted", ended(v1alpha1.OutcomePromoted))
	if ro.Status.StableVersion != "v2" || ro.Status.LastRun.Reason != "AllStepsPassed" || ro.Status.LastRun.Previous != "v1" {
		t.Errorf("promoted: stable %q, last run %+v", ro.Status.StableVersion, ro.Status.LastRun)
	}
	if slices.Contains(w.targets(), "v1") {
		t.Error("the route still leads to v1")
	}
	checkLeaving(t, w, "v1", []string{"v2"})
}

// TestGraceEnds holds that the subset that was left goes when the grace is over, and not whenever somebody looks next. Not
// before then is the rollout Ready: somebody who waits for that may take the old version away.
func TestGraceEnds(t *testing.T) {
	w := newWorld(t)
	w.o.Grace = 7 * time.Second
	w.restart()
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.want("v2")
	w.deploy("v2", true)
	end := w.until("promoted", ended(v1alpha1.OutcomePromoted)).Status.LastRun.EndedAt
	for w.clock.Before(end.Add(w.o.Grace)) {
		if ro := w.turn(); meta.IsStatusConditionTrue(ro.Status.Conditions, v1alpha1.ConditionReady) {
			t.Fatal("Ready within the grace")
		}
	}
	if late := w.clock.Sub(end.Add(w.o.Grace)); late > time.Millisecond {
		t.Errorf("looks again %v after the end of the grace", late)
	}
	if ro := w.turn(); !meta.IsStatusConditionTrue(ro.Status.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("after the grace the conditions are %v", ro.Status.Conditions)
	}
	if diff := cmp.Diff([]string{"v2"}, w.subsets()); diff != "" {
		t.Errorf("subsets after the grace (-want +got):\n%s", diff)
	}
}

// TestReadyWaitsForTheRoute: a promotion that the mesh does not show yet is not Ready, however long ago it was decided.
func TestReadyWaitsForTheRoute(t *testing.T) {
	w := newWorld(t)
	broken := false
	w.o.Client = interceptor.NewClient(w.tap.wrap(w.client), interceptor.Funcs{
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if broken && appliedKind(o) == "VirtualService" {
				return errOutage
			}
			return c.Apply(ctx, o, opts...)
		},
	})
	w.restart()
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.want("v2")
	w.deploy("v2", true)
	w.until("the last step", atStep(3))
	broken = true
	for range 100 {
		if err := w.try(); err != nil {
			break
		}
	}
	ready := func() bool { return meta.IsStatusConditionTrue(w.get().Status.Conditions, v1alpha1.ConditionReady) }
	for range 5 {
		w.clock = w.clock.Add(w.o.Grace)
		if err := w.try(); !ended(v1alpha1.OutcomePromoted)(w.get()) || err == nil || ready() {
			t.Fatalf("while the route cannot be written: error %v, Ready %t", err, ready())
		}
	}
	broken = false
	wrote := w.clock
	for _, after := range []time.Duration{0, time.Millisecond, w.o.Grace - time.Second} {
		w.clock = wrote.Add(after)
		if w.turn(); ready() || !slices.Contains(w.subsets(), "v1") {
			t.Errorf("%s after the route was written: Ready %t, subsets %v; want v1 reachable and not Ready for a grace", after, ready(), w.subsets())
		}
	}
	w.clock = wrote.Add(time.Millisecond + w.o.Grace) // it looked when the route stood
	if w.turn(); !ready() || slices.Contains(w.subsets(), "v1") {
		t.Errorf("a grace after the route was written the subsets are %v and the conditions %v", w.subsets(), w.get().Status.Conditions)
	}
}

// checkLeaving holds the reverse order: the subset stays for the grace after the last route to it went, then goes.
func checkLeaving(t *testing.T, w *world, version string, rest []string) {
	t.Helper()
	end := w.get().Status.LastRun.EndedAt.Time
	if !slices.Contains(w.subsets(), version) {
		t.Errorf("the subset of %s went with its route; proxies may still send to it", version)
	}
	for w.clock.Before(end.Add(30 * time.Second)) {
		w.turn()
		if !slices.Contains(w.subsets(), version) && w.clock.Before(end.Add(30*time.Second)) {
			t.Fatalf("the subset of %s went within the grace", version)
		}
	}
	if late := w.clock.Sub(end.Add(30 * time.Second)); late > 0 {
		t.Errorf("looks again %v after the grace", late)
	}
	w.turn()
	if diff := cmp.Diff(rest, w.subsets()); diff != "" {
		t.Errorf("subsets after the grace (-want +got):\n%s", diff)
	}
}

// inOrder says whether the calls contain the given ones in this order.
func inOrder(calls []string, want ...string) bool {
	for _, c := range calls {
		if len(want) > 0 && c == want[0] {
			want = want[1:]
		}
	}
	return len(want) == 0
}

// TestMakeBeforeBreak watches every write of a run: a route never leads to a subset that does not stand.
func TestMakeBeforeBreak(t *testing.T) {
	w := newWorld(t)
	w.tap.after = func(call string) {
		subsets := w.subsets()
		for _, target := range w.targets() {
			if !slices.Contains(subsets, target) {
				t.Errorf("after %q the route leads to %q, but the subsets are %v", call, target, subsets)
			}
		}
	}
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.deploy("v2", true)
	w.want("v2")
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	w.deploy("v3", true)
	w.source.counts = harmful
	w.want("v3")
	w.until("rolled back", ended(v1alpha1.OutcomeRolledBack))
	for range 5 {
		w.turn()
	}
	if diff := cmp.Diff([]string{"v2"}, w.subsets()); diff != "" {
		t.Errorf("subsets in the end (-want +got):\n%s", diff)
	}
}

func TestHoldKeepsTheStep(t *testing.T) {
	w := running(t, 1)
	began := w.get().Status.Run.StepStartedAt.Time
	ro := w.until("at step 2", atStep(2))
	if held := ro.Status.Run.StepStartedAt.Sub(began); held < 30*time.Second || held > 41*time.Second {
		t.Errorf("step 1 was held for %v, want at least 30s and at most one block more", held)
	}
}

// TestStepsEdited: a weight that is changed in mid-run grows as a step does, and is held and judged as one; a lower one comes at once.
func TestStepsEdited(t *testing.T) {
	long(t)
	w := running(t, 2)
	weights := func(all ...int32) func(*v1alpha1.Rollout) {
		return func(ro *v1alpha1.Rollout) {
			ro.Spec.Steps = nil
			for _, weight := range all {
				ro.Spec.Steps = append(ro.Spec.Steps, v1alpha1.StepSpec{Weight: weight, Hold: metav1.Duration{Duration: time.Minute}})
			}
		}
	}
	expect := func(why string, step int32, weight int) {
		t.Helper()
		if st := w.get().Status; st.Step != step || int(st.Weight) != weight || len(w.canary()) != weight {
			t.Errorf("%s: step %d, weight %d in the status and %d in the mesh; want step %d at %d", why, st.Step, st.Weight, len(w.canary()), step, weight)
		}
	}
	w.until("held", saying("HoldingStep"))
	w.deploy("v2", false)
	w.edit(weights(5, 90))
	w.turn()
	expect("the canary is not ready", 2, 25)
	w.ask(v1alpha1.ActionPause)
	w.deploy("v2", true)
	w.turn()
	expect("paused", 2, 25)
	w.ask(v1alpha1.ActionResume)
	w.turn()
	at := w.clock
	w.turn()
	expect("ready", 2, 90)
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	if held := w.clock.Sub(at); held < time.Minute {
		t.Errorf("promoted %s after the weight was raised, want its hold of a minute", held)
	}
	w.deploy("v3", true)
	w.want("v3")
	w.until("at step 2", atStep(2))
	w.ask(v1alpha1.ActionPause)
	w.turn()
	w.edit(weights(1))
	w.turn()
	expect("lowered while paused", 1, 1)
}

func TestNoDataHoldsThenPauses(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		source script
	}{
		"Empty":    {reason: "blocks without counts are no data", source: script{counts: nothing}},
		"Erroring": {reason: "a source that does not answer is no data", source: script{err: errors.New("connection refused")}},
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 1)
			*w.source = tc.source
			start := w.get().Status.Run.WaitingSince.Time
			ro := w.until("NoData", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "NoData" })
			if ro.Status.Decision != "Hold" || ro.Status.Weight != 5 || len(w.canary()) != 5 {
				t.Errorf("%s: %s at weight %d with %d buckets, want Hold at 5", tc.reason, ro.Status.Decision, ro.Status.Weight, len(w.canary()))
			}
			ro = w.until("paused", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run.Paused != "" })
			if ro.Status.Run.Paused != "NoData" || ro.Status.Weight != 5 || len(w.canary()) != 5 {
				t.Errorf("%s: paused for %q at weight %d, want NoData at 5", tc.reason, ro.Status.Run.Paused, ro.Status.Weight)
			}
			if waited := ro.Status.Run.PausedAt.Sub(start); waited < 2*time.Minute || waited > 3*time.Minute {
				t.Errorf("%s: paused after %v, want the cap of 2m", tc.reason, waited)
			}
			if !strings.Contains(ro.Status.Message, "paused") && !strings.Contains(ro.Status.Message, "nothing was counted") {
				t.Errorf("message %q does not say why", ro.Status.Message)
			}
			*w.source = script{counts: healthy}
			w.ask(v1alpha1.ActionResume)
			w.until("promoted after the data came back", ended(v1alpha1.OutcomePromoted))
		})
	}
}

// TestSilentSource: a source that lets every question run into its deadline is left alone for two deadlines, and asked
// again after them.
func TestSilentSource(t *testing.T) {
	w := running(t, 1)
	w.o.Questions, w.o.Timeout = 2, 10*time.Second
	w.restart()
	w.source.err = fmt.Errorf("asking: %w", context.DeadlineExceeded)
	w.source.asked = nil
	silent := time.Time{}
	for len(w.source.asked) < 3 {
		if len(w.source.asked) == 2 && silent.IsZero() {
			silent = w.clock
		}
		w.turn()
	}
	if took := w.clock.Sub(silent); took < 20*time.Second || took > 41*time.Second {
		t.Errorf("asked again after %v, want two deadlines of 10s", took)
	}
	w.source.err = nil
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
}

func TestInconclusiveAtTheCap(t *testing.T) {
	for name, tc := range map[string]struct {
		on, paused, outcome string
	}{
		"Pause":    {on: "Pause", paused: "Inconclusive"},
		"Rollback": {on: "Rollback", outcome: v1alpha1.OutcomeRolledBack},
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 1, func(ro *v1alpha1.Rollout) { ro.Spec.Analysis.OnInconclusive = tc.on })
			w.source.counts = func(time.Time) map[string]rollout.Counts {
				return map[string]rollout.Counts{"errors": {
					Stable: rollout.Arm{Requests: 1, Events: []float64{0}}, Canary: rollout.Arm{Requests: 1, Events: []float64{0}},
				}}
			}
			w.editStatus(func(st *v1alpha1.RolloutStatus) { st.Run.Evidence = nil })
			ro := w.until("at the cap", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run == nil || ro.Status.Run.Paused != "" })
			if tc.paused != "" && (ro.Status.Run == nil || ro.Status.Run.Paused != tc.paused) {
				t.Errorf("paused: %+v, want %q", ro.Status, tc.paused)
			}
			if tc.outcome != "" && (ro.Status.LastRun == nil || ro.Status.LastRun.Outcome != tc.outcome) {
				t.Errorf("ended: %+v, want %q", ro.Status.LastRun, tc.outcome)
			}
		})
	}
}

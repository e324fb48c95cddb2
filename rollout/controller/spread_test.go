package controller_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// shared returns evidence of a service of three thousand requests a block, of which the canary meets the share that is asked.
func shared(canary func(start time.Time) float64) func(time.Time) map[string]rollout.Counts {
	return func(start time.Time) map[string]rollout.Counts {
		counts := errorsGate(3, 3)
		c := counts["errors"]
		c.Canary.Sent = 3000 * canary(start)
		c.Stable.Sent = 3000 - c.Canary.Sent
		counts["errors"] = c
		return counts
	}
}

// said turns the loop until it says the reason, and returns what it said on the way.
func (w *world) said(reason string) []string {
	w.t.Helper()
	var all []string
	w.until("saying "+reason, func(ro *v1alpha1.Rollout) bool {
		if len(all) == 0 || all[len(all)-1] != ro.Status.Reason {
			all = append(all, ro.Status.Reason)
		}
		return ro.Status.Reason == reason
	})
	return all
}

// TestConverging: the requests follow the weight some blocks late; what is judged of the step comes after.
func TestConverging(t *testing.T) {
	w := running(t, 2)
	late := w.clock.Add(35 * time.Second)
	w.source.counts = shared(func(start time.Time) float64 {
		if start.Before(late) {
			return 0.05
		}
		return 0.25
	})
	ro := w.until("converging", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "Converging" })
	if ro.Status.Decision != "Hold" || ro.Status.Message != "5% of the requests meet the canary, where the weight is 25" {
		t.Errorf("%s: %s", ro.Status.Decision, ro.Status.Message)
	}
	w.source.asked = nil
	ro = w.until("held", func(ro *v1alpha1.Rollout) bool {
		return ro.Status.Reason == "HoldingStep" || ro.Status.Reason == "StepPassed"
	})
	if w.clock.Before(late) {
		t.Errorf("%s at %s, before the requests followed at %s", ro.Status.Reason, w.clock.Format(time.TimeOnly), late.Format(time.TimeOnly))
	}
	if ro.Status.Realised != "25" && ro.Status.Step == 2 {
		t.Errorf("realised %q, want 25", ro.Status.Realised)
	}
}

// TestWeightNotRealised: a weight that the requests contradict is held, then paused for; neither keeps anybody from aborting.
func TestWeightNotRealised(t *testing.T) {
	w := running(t, 2)
	w.source.counts = shared(func(time.Time) float64 { return 0.6 })
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Assignment = nil })
	if said := w.said("WeightNotRealised"); !slices.Contains(said, "Converging") {
		t.Errorf("said %v, want Converging before", said)
	}
	ro := w.until("paused", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run.Paused != "" })
	if ro.Status.Run.Paused != "WeightNotRealised" || ro.Status.Weight != 25 || ro.Status.Realised != "60" {
		t.Errorf("paused for %q at weight %d with %q realised, want WeightNotRealised at 25 with 60", ro.Status.Run.Paused, ro.Status.Weight, ro.Status.Realised)
	}
	w.ask(v1alpha1.ActionAbort)
	if ro = w.turn(); !ended(v1alpha1.OutcomeRolledBack)(ro) || ro.Status.Realised != "" {
		t.Errorf("after an abort: %+v, realised %q", ro.Status.LastRun, ro.Status.Realised)
	}
}

// TestWeightNotRealisedHarms: what harms rolls back at any weight.
func TestWeightNotRealisedHarms(t *testing.T) {
	w := running(t, 2)
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Assignment = nil })
	w.source.counts = func(start time.Time) map[string]rollout.Counts {
		counts := harmful(start)
		c := counts["errors"]
		c.Canary.Sent, c.Stable.Sent = 1800, 1200
		counts["errors"] = c
		return counts
	}
	ro := w.until("rolled back", ended(v1alpha1.OutcomeRolledBack))
	if ro.Status.LastRun.Reason != "ErrorsHarm" {
		t.Errorf("rolled back for %q, want ErrorsHarm", ro.Status.LastRun.Reason)
	}
}

// distribute writes Istio's distribution status on an object, of a generation so many behind.
func (w *world) distribute(kind, status string, behind int64) {
	w.t.Helper()
	o := w.find(istioV1, kind, "coolant")
	o.Object["status"] = map[string]any{
		"observedGeneration": o.GetGeneration() - behind,
		"conditions":         []any{map[string]any{"type": "Reconciled", "status": status, "message": "2/3 proxies up to date"}},
	}
	var err error
	if err = w.client.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// TestDistributionStatus: where istiod says how far an object has got, it is waited for; where it says nothing, nothing is.
func TestDistributionStatus(t *testing.T) {
	w := running(t, 2)
	w.distribute("VirtualService", "False", 0)
	ro := w.turn()
	if ro.Status.Reason != "Converging" || ro.Status.Message != `not every proxy has VirtualService "coolant": 2/3 proxies up to date` {
		t.Errorf("%s: %s", ro.Status.Reason, ro.Status.Message)
	}
	at := w.clock
	w.until("not realised", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "WeightNotRealised" })
	if w.clock.Sub(at) < 60*time.Second {
		t.Errorf("WeightNotRealised after %s, want the bound of 80s", w.clock.Sub(at))
	}
	w.distribute("VirtualService", "True", 0)
	ro = w.turn()
	var e rollout.Evidence
	if err := e.UnmarshalBinary(ro.Status.Run.Evidence); err != nil {
		t.Fatal(err)
	}
	if n := e.Trails[0].Canary.Count; n != 0 {
		t.Errorf("%g requests are judged although no block has begun since every proxy has the route", n)
	}
	w.until("at step 3", atStep(3))
	// The route has changed since: istiod has not seen it yet, and, as it turns out, never will.
	w.distribute("VirtualService", "True", 1)
	if ro = w.turn(); ro.Status.Reason != "Converging" {
		t.Errorf("%s: %s, want Converging while istiod has not looked", ro.Status.Reason, ro.Status.Message)
	}
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
}

// TestStepsWaitForTheRoute: a step whose objects cannot be written is not over, whatever the clock says and although no gate has an
// objection; when they stand at last it is held for as long as ever.
func TestStepsWaitForTheRoute(t *testing.T) {
	long(t)
	w := newWorld(t, func(ro *v1alpha1.Rollout) {
		ro.Spec.Gates, ro.Spec.Analysis.Cap.Duration = nil, time.Hour
		withAlerts(ro)
	})
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.deploy("v2", true)
	w.tap.fail = failing("apply DestinationRule")
	w.want("v2")
	w.stuck(5)
	if st := w.get().Status; st.Step != 0 {
		t.Errorf("step %d before the subset of v2 stands", st.Step)
	}
	w.tap.fail = nil
	w.until("at step 1", atStep(1))
	if wrote := inOrder(w.tap.writes(), "apply DestinationRule", "status Rollout", "apply VirtualService"); !wrote {
		t.Error("the subset and the first weight were written in one pass")
	}
	w.tap.fail = failing("apply VirtualService")
	for range 20 {
		if w.try() != nil {
			break
		}
	}
	w.stuck(30)
	st := w.get().Status
	if st.Step != 2 || len(w.canary()) != 5 || st.Decision != "Hold" || st.Message != `VirtualService "coolant" does not show weight 25 yet` {
		t.Errorf("step %d while %d buckets see the canary: %s %s; want it to hold at step 2", st.Step, len(w.canary()), st.Decision, st.Message)
	}
	w.restart()
	w.tap.fail = nil
	w.turn()
	wrote := w.clock
	if n := len(w.canary()); n != 25 {
		t.Fatalf("%d buckets see the canary, want 25", n)
	}
	w.until("at step 3", atStep(3))
	if held := w.clock.Sub(wrote); held < 19*time.Second {
		t.Errorf("step 2 was held for %s after the route was written, want about 30s", held)
	}
	if slices.ContainsFunc(w.events, func(e string) bool { return strings.Contains(e, "DriftRepaired") }) {
		t.Errorf("a late write of its own was taken for somebody's edit: %q", w.events)
	}
}

// stuck takes so many turns, a minute apart, each of which fails.
func (w *world) stuck(turns int) {
	w.t.Helper()
	for range turns {
		if w.try() == nil {
			w.t.Fatal("a turn that cannot write its objects succeeded")
		}
		w.clock = w.clock.Add(time.Minute)
	}
}

// TestSettle: the subsets of a new version stand for a while before units are sent to them, and longer where istiod says that
// not every proxy knows them.
func TestSettle(t *testing.T) {
	w := newWorld(t)
	w.o.Settle = 2 * time.Second
	w.restart()
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.deploy("v2", true)
	w.want("v2")
	w.until("begun", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run != nil })
	made := w.clock
	if !slices.Contains(w.subsets(), "v2") {
		t.Fatal("the subset of v2 is missing")
	}
	w.distribute("DestinationRule", "False", 0)
	for range 5 {
		if ro := w.turn(); ro.Status.Step != 0 || ro.Status.Reason != "Converging" {
			t.Fatalf("step %d, %s; want to wait for the subset", ro.Status.Step, ro.Status.Reason)
		}
	}
	o := w.find(istioV1, "DestinationRule", "coolant")
	o.Object["status"] = map[string]any{}
	if err := w.client.Status().Update(t.Context(), o); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	w.until("at step 1", atStep(1))
	if w.clock.Sub(made) < 2*time.Second {
		t.Errorf("units were sent to the subset after %s, want 2s", w.clock.Sub(made))
	}
}

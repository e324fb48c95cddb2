package controller_test

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// checkConditions holds the conditions to what kstatus expects of every object at every moment.
func (w *world) checkConditions() {
	w.t.Helper()
	ro := w.get()
	conditions := ro.Status.Conditions
	is := func(kind string) bool { return meta.IsStatusConditionTrue(conditions, kind) }
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	fail := func(what string) {
		w.t.Helper()
		w.t.Errorf("conditions: %s: %+v", what, conditions)
	}
	if ready == nil {
		fail("Ready is missing")
		return
	}
	if is(v1alpha1.ConditionReady) && (is(v1alpha1.ConditionStalled) || is(v1alpha1.ConditionReconciling)) {
		fail("something abnormal while Ready")
	}
	if is(v1alpha1.ConditionStalled) && is(v1alpha1.ConditionReconciling) {
		fail("Stalled and Reconciling together")
	}
	if !is(v1alpha1.ConditionReady) && !is(v1alpha1.ConditionStalled) && !is(v1alpha1.ConditionReconciling) {
		fail("neither Ready nor Stalled nor Reconciling")
	}
	if is(v1alpha1.ConditionPaused) != (ro.Status.Run != nil && ro.Status.Run.Paused != "") {
		fail("Paused does not say whether the run is paused")
	}
	for _, c := range conditions {
		if c.Type != v1alpha1.ConditionReady && c.Status != metav1.ConditionTrue {
			fail(c.Type + " is present and not True")
		}
		if c.ObservedGeneration > ro.Generation {
			fail(c.Type + " has seen the future")
		}
	}
	if ro.Status.ObservedGeneration != ro.Generation {
		w.t.Errorf("observedGeneration: got %d, want %d", ro.Status.ObservedGeneration, ro.Generation)
	}
	if c := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady); c.Reason != ro.Status.Reason {
		w.t.Errorf("reason of Ready: got %q, want the status's %q", c.Reason, ro.Status.Reason)
	}
}

// TestReadyOnceRouted: a new rollout is Ready once its route stands, which it looks for at once, and not before.
func TestReadyOnceRouted(t *testing.T) {
	w := newWorld(t)
	w.deploy("v1", true)
	ready := func() bool { return meta.IsStatusConditionTrue(w.get().Status.Conditions, v1alpha1.ConditionReady) }
	w.tap.fail = failing("apply VirtualService")
	for range 3 {
		if err := w.try(); err == nil || w.get().Status.StableVersion != "v1" || ready() {
			t.Fatalf("without a route: error %v, stable %q, Ready %t", err, w.get().Status.StableVersion, ready())
		}
	}
	w.tap.fail = nil
	for i := 0; !ready(); i++ {
		if i > 2 {
			t.Fatalf("with a route the conditions are %+v", w.get().Status.Conditions)
		}
		w.turn()
	}
	if w.route() == nil {
		t.Error("Ready without a route")
	}
}

// TestReadySoon: who makes a rollout need not wait for a look at rest.
func TestReadySoon(t *testing.T) {
	w := newWorld(t)
	w.deploy("v1", true)
	w.turn()
	began := w.clock
	if ro := w.turn(); !meta.IsStatusConditionTrue(ro.Status.Conditions, v1alpha1.ConditionReady) || began.Sub(epoch) > time.Second {
		t.Errorf("looked again after %s, and the conditions are %+v", began.Sub(epoch), ro.Status.Conditions)
	}
}

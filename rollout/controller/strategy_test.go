package controller_test

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// blueGreen is a preview that somebody ends, and one step for everybody.
func blueGreen(ro *v1alpha1.Rollout) {
	d := func(s time.Duration) metav1.Duration { return metav1.Duration{Duration: s} }
	ro.Spec.Strategy = &v1alpha1.StrategySpec{Preview: &v1alpha1.PreviewSpec{Hold: d(time.Minute), Approval: "Manual"}}
	ro.Spec.Steps = []v1alpha1.StepSpec{{Weight: 100, Hold: d(2 * time.Minute)}}
	ro.Spec.Gates = nil
	withAlerts(ro)
}

// pinned lists the subsets that testers of a variant meet.
func (w *world) pinned(variant string) []string { return w.leads("pin-" + variant) }

// leads lists the subsets that a route leads to.
func (w *world) leads(name string) []string {
	w.t.Helper()
	all, _, _ := unstructured.NestedSlice(w.route().Object, "spec", "http")
	var found []string
	for _, h := range all {
		r, _ := h.(map[string]any)
		if r["name"] != name {
			continue
		}
		to, _, _ := unstructured.NestedSlice(r, "route")
		for _, d := range to {
			one, _ := d.(map[string]any)
			subset, _, _ := unstructured.NestedString(one, "destination", "subset")
			found = append(found, subset)
		}
	}
	return found
}

// TestCohort: a cohort meets the new version from the preview to the end of the run, and nobody else by it.
func TestCohort(t *testing.T) {
	w := newWorld(t, blueGreen, func(ro *v1alpha1.Rollout) {
		ro.Spec.Strategy.Preview.Cohort = &v1alpha1.CohortSpec{Header: "x-fleet", Values: []string{"works"}}
	})
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	if w.leads("canary-cohort") != nil {
		t.Error("a cohort is sent somewhere at rest")
	}
	w.deploy("v2", true)
	w.want("v2")
	w.until("asked", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "AwaitingPromotion" })
	if got := w.leads("canary-cohort"); !slices.Equal(got, []string{"v2"}) || len(w.canary()) != 0 {
		t.Errorf("in the preview the cohort meets %v, and %d buckets the canary; want v2 and none", got, len(w.canary()))
	}
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	if got := w.leads("canary-cohort"); got != nil {
		t.Errorf("after an abort the cohort meets %v", got)
	}
}

// TestPreviewHosts: at a preview host one meets the new version while there is one, and the stable one else.
func TestPreviewHosts(t *testing.T) {
	w := newWorld(t, blueGreen, func(ro *v1alpha1.Rollout) {
		ro.Spec.Service.Hosts, ro.Spec.Service.Gateways = []string{"predict.example.com"}, []string{"edge/public"}
		ro.Spec.Strategy.Preview.Hosts = []string{"preview.example.com"}
	})
	enters := func() {
		t.Helper()
		hosts, _, _ := unstructured.NestedStringSlice(w.route().Object, "spec", "hosts")
		if !slices.Contains(hosts, "preview.example.com") {
			t.Errorf("the preview host is none of %v", hosts)
		}
	}
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	enters()
	w.deploy("v2", true)
	w.want("v2")
	w.until("asked", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "AwaitingPromotion" })
	if got := w.leads("canary-hosts"); !slices.Equal(got, []string{"v2"}) || len(w.canary()) != 0 {
		t.Errorf("in the preview the host leads to %v, and %d buckets to the canary; want v2 and none", got, len(w.canary()))
	}
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	if got := w.leads("canary-hosts"); got != nil {
		t.Errorf("after an abort the preview host leads to %v", got)
	}
	enters()
}

// TestBlueGreen: testers first, then everybody at once by one write, and everybody back by one.
func TestBlueGreen(t *testing.T) {
	w := newWorld(t, blueGreen)
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.want("v2")
	w.until("waiting for the canary", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "CanaryNotReady" })
	w.clock = w.clock.Add(90 * time.Second) // the version takes its time to come up, which is no preview
	w.turn()
	w.deploy("v2", true)
	began := w.clock
	w.until("previewed", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "Previewing" })
	w.until("asked", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "AwaitingPromotion" })
	if w.clock.Sub(began) < 50*time.Second {
		t.Errorf("the preview lasted %s, want a minute", w.clock.Sub(began))
	}
	if len(w.canary()) != 0 || !slices.Equal(w.pinned("canary"), []string{"v2"}) || w.get().Status.Weight != 0 {
		t.Errorf("in the preview %d buckets see the canary, and testers %v; want none and v2", len(w.canary()), w.pinned("canary"))
	}
	w.clock = w.clock.Add(24 * time.Hour)
	if ro := w.turn(); ro.Status.Reason != "AwaitingPromotion" {
		t.Errorf("%s after a day, want AwaitingPromotion", ro.Status.Reason)
	}
	w.tap.writes()
	w.ask(v1alpha1.ActionPromote)
	ro := w.turn()
	routes := slices.DeleteFunc(w.tap.writes(), func(c string) bool { return c != "apply VirtualService" })
	if len(routes) != 1 || len(w.canary()) != 100 || ro.Status.Weight != 100 {
		t.Errorf("the switch took %d writes of the route and moved %d buckets, want 1 and 100", len(routes), len(w.canary()))
	}
	w.ask(v1alpha1.ActionAbort)
	w.tap.writes()
	w.turn()
	if writes := w.tap.writes(); writes[0] != "apply VirtualService" || len(w.canary()) != 0 || len(onlyOther(w.targets(), "v1")) != 0 {
		t.Errorf("%d buckets see the canary after %v, want none after one write", len(w.canary()), writes)
	}
	w.ask(v1alpha1.ActionRetry)
	w.until("asked again", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "AwaitingPromotion" })
	w.ask(v1alpha1.ActionPromote)
	switched := w.clock
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	if kept := w.clock.Sub(switched); kept < 2*time.Minute {
		t.Errorf("the way back was kept for %s, want 2m", kept)
	}
}

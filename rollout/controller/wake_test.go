package controller_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// TestNothingBeforeTheRoute: an abort reads the rollout and its route, and then writes.
func TestNothingBeforeTheRoute(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"Aborted":    func(w *world) { w.ask(v1alpha1.ActionAbort) },
		"SetBack":    func(w *world) { w.want("v1") },
		"Superseded": func(w *world) { w.want("v3") },
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 2, withPolicy)
			w.userRule("mine", "coolant", map[string]any{"tls": map[string]any{"mode": "DISABLE"}})
			w.turn()
			restricted := w.restricted()
			end(w)
			w.tap.writes()
			w.turn()
			want := []string{"get Rollout", "get VirtualService", "apply VirtualService"}
			if diff := cmp.Diff(want, w.tap.calls[:min(len(w.tap.calls), 3)]); diff != "" {
				t.Errorf("the first calls: -want, +got:\n%s\nall: %v", diff, w.tap.calls)
			}
			if got := w.restricted(); got != restricted || got == "" {
				t.Errorf("Restricted: %q before, %q after", restricted, got)
			}
		})
	}
}

// TestConcernsLoop: what the loop writes itself wakes nobody, and what anybody else may write does.
func TestConcernsLoop(t *testing.T) {
	now := metav1.NewMicroTime(epoch)
	for name, tc := range map[string]struct {
		reason string
		change func(ro *v1alpha1.Rollout)
		want   bool
	}{
		"Nothing": {"a resync", func(*v1alpha1.Rollout) {}, false},
		"Counted": {"evidence of our own", func(ro *v1alpha1.Rollout) {
			ro.ResourceVersion, ro.Status.Run = "2", &v1alpha1.RunStatus{ID: "r", LastBlock: &now}
		}, false},
		"Handled": {"a request that was answered", func(ro *v1alpha1.Rollout) {
			ro.Status.Requests = []v1alpha1.Request{{ID: "a", HandledAt: &now}}
		}, false},
		"Spec":     {"another spec", func(ro *v1alpha1.Rollout) { ro.Generation++ }, true},
		"Asked":    {"a request", func(ro *v1alpha1.Rollout) { ro.Status.Requests = []v1alpha1.Request{{ID: "a"}} }, true},
		"Alert":    {"an alert", func(ro *v1alpha1.Rollout) { ro.Status.Alerts = []v1alpha1.AlertStatus{{Name: "Hot"}} }, true},
		"Deleted":  {"a deletion", func(ro *v1alpha1.Rollout) { ro.DeletionTimestamp = &metav1.Time{Time: epoch} }, true},
		"Nudged":   {"an annotation", func(ro *v1alpha1.Rollout) { ro.Annotations = map[string]string{"nudge": "1"} }, true},
		"Labelled": {"a label", func(ro *v1alpha1.Rollout) { ro.Labels = map[string]string{"team": "a"} }, true},
		"Unbound":  {"a finalizer", func(ro *v1alpha1.Rollout) { ro.Finalizers = []string{v1alpha1.Finalizer} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			was := newRollout("edge")
			is := was.DeepCopy()
			tc.change(is)
			if got := controller.ConcernsLoop(was, is); got != tc.want {
				t.Errorf("%s: wakes the loop: %t, want %t", tc.reason, got, tc.want)
			}
		})
	}
}

// TestCalm: what no traffic waits for is read once in a while, and put right then.
func TestCalm(t *testing.T) {
	w := newWorld(t)
	w.o.Rules = true
	w.restart()
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.restart()
	seen := w.clock
	w.turn()
	reads := func() []string {
		all := slices.DeleteFunc(slices.Clone(w.tap.calls), func(c string) bool { return c != "get PrometheusRule" && c != "get EnvoyFilter" })
		w.tap.calls = nil
		return all
	}
	reads()
	w.turn()
	if got := reads(); len(got) != 0 {
		t.Errorf("%v although they were seen to be right just before", got)
	}
	w.change("monitoring.coreos.com/v1", "PrometheusRule", "coolant", func(o *unstructured.Unstructured) {
		o.Object["spec"] = map[string]any{"groups": []any{}}
	})
	for w.clock.Before(seen.Add(time.Minute)) {
		w.turn()
	}
	w.turn()
	if got := reads(); len(got) != 2 {
		t.Errorf("%v after a minute, want a look at both", got)
	}
	groups := func() int {
		all, _, _ := unstructured.NestedSlice(w.find("monitoring.coreos.com/v1", "PrometheusRule", "coolant").Object, "spec", "groups")
		return len(all)
	}
	if groups() != 1 {
		t.Error("the rule is as somebody else left it after a minute")
	}
	if err := w.client.Delete(t.Context(), w.find("monitoring.coreos.com/v1", "PrometheusRule", "coolant")); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.turn()
	if groups() != 1 {
		t.Error("a new process did not look")
	}
}

// TestUserRuleWakes: a rule of the user wakes the rollouts of its namespace that set a policy; one of ours wakes its owner alone.
func TestUserRuleWakes(t *testing.T) {
	w := newWorld(t, withPolicy)
	plain := newRollout(w.ns)
	plain.Name = "plain"
	if err := w.client.Create(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	rule := w.object(istioV1, "DestinationRule", "mine")
	got := w.r.BesideRule(t.Context(), rule)
	if len(got) != 1 || got[0].NamespacedName != w.key() {
		t.Errorf("a rule of the user wakes %v, want the rollout with a policy", got)
	}
	rule.SetLabels(map[string]string{v1alpha1.LabelRollout: "coolant"})
	if got := w.r.BesideRule(t.Context(), rule); len(got) != 0 {
		t.Errorf("a rule of ours wakes %v", got)
	}
}

// TestNoRuleIsRead: while the watch knows of no rule of the user none is asked for.
func TestNoRuleIsRead(t *testing.T) {
	w := running(t, 1, withPolicy)
	w.o.Live = noRules{w.tap.wrap(w.client)}
	w.restart()
	w.turn()
	if got := w.policies()["v1"]; len(got) != 3 {
		t.Errorf("policy of the subset: %q, want all three fields", got)
	}
	w.userRule("mine", "coolant", map[string]any{"tls": map[string]any{"mode": "DISABLE"}})
	if err := w.try(); err == nil || !strings.Contains(err.Error(), "listing the DestinationRules") {
		t.Errorf("with a rule of the user: %v, want that it could not be read", err)
	}
}

package controller_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// slept is a world in which v2 is stable with four replicas, v1 has been put to sleep, and the rollout has been deleted.
func slept(t *testing.T) *world {
	t.Helper()
	w := begun(t, 4, scaled())
	w.play("promoted", ended(v1alpha1.OutcomePromoted))
	w.play("v1 to sleep", func(ro *v1alpha1.Rollout) bool { return w.replicas("v1") == 0 && len(ro.Status.Workloads) == 0 })
	w.turn()
	if err := w.client.Delete(t.Context(), w.get()); err != nil {
		t.Fatal(err)
	}
	w.tillGone()
	return w
}

// again makes the rollout of v1 again.
func (w *world) again(edit ...func(*v1alpha1.Rollout)) {
	w.t.Helper()
	ro := newRollout(w.ns)
	for _, e := range edit {
		e(ro)
	}
	if err := w.client.Create(w.t.Context(), ro); err != nil {
		w.t.Fatal(err)
	}
}

// tell sets the replicas of v1 as somebody does.
func (w *world) tell(replicas int64) {
	w.t.Helper()
	o := w.deployment("coolant", "v1")
	if err := unstructured.SetNestedField(o.Object, replicas, "spec", "replicas"); err != nil {
		w.t.Fatal(err)
	}
	if err := w.client.Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// TestMadeAgain: the version of a rollout that is made again is woken where Siskin had put it to sleep, and nowhere else.
func TestMadeAgain(t *testing.T) {
	fixed := func(s *v1alpha1.ScalingSpec) { s.Replicas = 3 }
	for name, tc := range map[string]struct {
		reason string
		before func(*world)
		edit   func(*v1alpha1.Rollout)
		want   int64
	}{
		"Slept":     {"as many as the version has that answers", func(*world) {}, scaled(), 4},
		"Fixed":     {"as many as the spec says", func(*world) {}, scaled(fixed), 3},
		"Alone":     {"nothing else runs", func(w *world) { w.unrun("v2") }, scaled(), 1},
		"Unscaled":  {"nothing is to be scaled", func(*world) {}, func(ro *v1alpha1.Rollout) { ro.Spec.Workload.Kind = "Deployment" }, 0},
		"ByHand":    {"somebody has put it to sleep since", func(w *world) { w.tell(2); w.tell(0) }, scaled(), 0},
		"Applied":   {"somebody's manifest has it at 0", func(w *world) { w.applied(0) }, scaled(), 0},
		"New":       {"somebody made it again without replicas", func(w *world) { w.unrun("v1"); w.run("coolant", "v1", 0) }, scaled(), 0},
		"Autoscale": {"its autoscaler begins with its minimum", func(w *world) { w.autoscaled(2) }, scaled(), 2},
		"Twin":      {"nobody knows which", func(w *world) { w.twin("v1") }, scaled(), 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := slept(t)
			tc.before(w)
			w.again(tc.edit)
			w.turn()
			w.restart()
			w.turn()
			if got := w.replicas("v1"); got != tc.want {
				t.Fatalf("%s: v1 has %d replicas, want %d", tc.reason, got, tc.want)
			}
			if tc.want == 0 {
				return
			}
			w.available("coolant", "v1", tc.want-1)
			if ro := w.turn(); ro.Status.StableVersion != "" || ro.Status.Reason != "StableNotReady" || !strings.Contains(ro.Status.Message, "replicas of Deployment") {
				t.Errorf("%s: stable %q with too few replicas, %s: %s", tc.reason, ro.Status.StableVersion, ro.Status.Reason, ro.Status.Message)
			}
			w.available("coolant", "v1", tc.want)
			w.until("stable", stableOn("v1"))
			w.until("nothing left to scale", func(ro *v1alpha1.Rollout) bool { return len(ro.Status.Workloads) == 0 })
			if got := w.replicas("v1"); got != tc.want {
				t.Errorf("%s: stable has %d replicas, want %d", tc.reason, got, tc.want)
			}
		})
	}
}

// TestMadeAgainLater: what could not be written is told and tried again.
func TestMadeAgainLater(t *testing.T) {
	for _, fails := range []string{"list DeploymentList", "list HorizontalPodAutoscalerList", "scale "} {
		t.Run(fails, func(t *testing.T) {
			w := slept(t)
			w.again(scaled())
			w.tap.fail = failing(fails)
			before := w.clock
			if ro := w.turn(); ro.Status.Reason != "StableNotReady" || !strings.Contains(ro.Status.Message, "the API is away") || w.clock.Equal(before) {
				t.Errorf("%s: %s; want it told, and tried again later", ro.Status.Reason, ro.Status.Message)
			}
			w.tap.fail = nil
			if w.turn(); w.replicas("v1") != 4 {
				t.Errorf("v1 has %d replicas, want 4", w.replicas("v1"))
			}
		})
	}
}

// unrun deletes the Deployment of a version.
func (w *world) unrun(version string) {
	w.t.Helper()
	if err := w.client.Delete(w.t.Context(), w.deployment("coolant", version)); err != nil {
		w.t.Fatal(err)
	}
}

// applied has somebody's manifest say how many replicas v1 has.
func (w *world) applied(replicas int64) {
	w.t.Helper()
	o := w.object("apps.example.com/v1", "Deployment", "coolant-v1")
	o.Object["spec"] = map[string]any{"replicas": replicas}
	if err := w.client.Apply(w.t.Context(), client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("argocd")); err != nil {
		w.t.Fatal(err)
	}
}

// autoscaled has a HorizontalPodAutoscaler scale v1.
func (w *world) autoscaled(least int64) {
	w.t.Helper()
	o := w.object("autoscaling.example.com/v2", "HorizontalPodAutoscaler", "other")
	o.Object["spec"] = map[string]any{"minReplicas": least, "scaleTargetRef": map[string]any{"kind": "Deployment", "name": "coolant-v1"}}
	if err := w.client.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

package controller_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// drop deletes the rollout and moves the clock to when it did, as the API saw it.
func (w *world) drop() time.Time {
	w.t.Helper()
	ro := w.get()
	if err := w.client.Delete(w.t.Context(), ro); err != nil {
		w.t.Fatal(err)
	}
	var gone v1alpha1.Rollout
	if err := w.client.Get(w.t.Context(), w.key(), &gone); err != nil {
		w.t.Fatal(err)
	}
	w.clock = gone.DeletionTimestamp.Time
	return w.clock
}

// exists says whether the rollout is still there.
func (w *world) exists() bool {
	w.t.Helper()
	err := w.client.Get(w.t.Context(), w.key(), &v1alpha1.Rollout{})
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
	return err == nil
}

// TestFinalizer: a rollout is held only while units see another version than the stable one.
func TestFinalizer(t *testing.T) {
	w := newWorld(t)
	held := func() bool { return slices.Contains(w.get().Finalizers, v1alpha1.Finalizer) }
	w.tap.after = func(call string) {
		if call == "apply VirtualService" && len(w.canary()) > 0 && !held() {
			t.Error("units see the canary of a rollout that is not held")
		}
	}
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	if held() {
		t.Error("a rollout at rest is held")
	}
	w.deploy("v2", true)
	w.want("v2")
	w.until("at step 1", atStep(1))
	w.edit(func(ro *v1alpha1.Rollout) { ro.Finalizers = append(ro.Finalizers, "example.com/other") })
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	if all := w.get().Finalizers; len(all) != 1 || all[0] != "example.com/other" {
		t.Errorf("finalizers after the run: %q, want somebody else's", all)
	}
}

// TestDeleteMidRun: the traffic goes back first, then the routes go, then what they led to, then the rollout.
func TestDeleteMidRun(t *testing.T) {
	w := running(t, 2)
	asked := w.drop()
	w.source.err = errOutage
	if err := w.try2(); err != nil {
		t.Fatal(err)
	}
	if n, targets := len(w.canary()), onlyOther(w.targets(), "v1"); n > 0 || len(targets) > 0 || !w.exists() {
		t.Fatalf("%d buckets see the canary, the route leads to %v too, the rollout exists: %t", n, targets, w.exists())
	}
	if !slices.Contains(w.subsets(), "v2") {
		t.Error("the subset of the canary went with its route; proxies may still send to it")
	}
	at := w.clock
	for w.route() != nil {
		at = w.clock
		w.next()
	}
	if took := at.Sub(asked); took != 30*time.Second {
		t.Errorf("the route went after %s, want the grace of 30s", took)
	}
	if len(w.subsets()) == 0 || !w.exists() {
		t.Error("the subsets went with the route")
	}
	for w.exists() {
		w.next()
	}
	if took := w.clock.Sub(asked); took != time.Minute || len(w.subsets()) > 0 {
		t.Errorf("the rollout went after %s with the subsets %v, want twice the grace and none", took, w.subsets())
	}
}

// try2 is a turn of a rollout that may go in it.
func (w *world) try2() error {
	w.t.Helper()
	result, err := w.r.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: w.key()})
	w.clock = w.clock.Add(result.RequeueAfter)
	return err
}

// next is a turn that must succeed.
func (w *world) next() {
	w.t.Helper()
	before := w.clock
	if err := w.try2(); err != nil {
		w.t.Fatal(err)
	}
	if w.exists() && w.clock.Equal(before) {
		w.t.Fatal("nobody looks at the deletion again")
	}
}

// TestDeleteAtRest: nothing holds a rollout whose units see the stable version.
func TestDeleteAtRest(t *testing.T) {
	w := newWorld(t)
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	if err := w.client.Delete(t.Context(), w.get()); err != nil {
		t.Fatal(err)
	}
	if w.exists() {
		t.Error("a rollout at rest is held")
	}
}

// TestDeleteNeverBlocks: whatever cannot be written, the rollout goes.
func TestDeleteNeverBlocks(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		before func(w *world)
		within time.Duration
	}{
		"Routes":  {"the routes cannot be written or deleted", func(w *world) { w.tap.fail = failing("apply VirtualService", "delete ") }, 2*time.Minute + 10*time.Second},
		"Subsets": {"the subsets cannot be deleted", func(w *world) { w.tap.fail = failing("delete DestinationRule") }, 2*time.Minute + 10*time.Second},
		"Foreign": {"the route is somebody else's by now", func(w *world) {
			if err := w.client.Delete(w.t.Context(), w.route()); err != nil {
				w.t.Fatal(err)
			}
			o := w.object(istioV1, "VirtualService", "coolant")
			o.Object["spec"] = map[string]any{"hosts": []any{"a.example.com"}, "http": []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": "a"}}}}}}
			if err := w.client.Create(w.t.Context(), o); err != nil {
				w.t.Fatal(err)
			}
		}, time.Second},
		"Spec": {"the spec cannot be rendered", func(w *world) {
			w.edit(func(ro *v1alpha1.Rollout) { unrenderable(ro) })
		}, time.Minute},
		"SpecLost": {"nor is there an earlier one", func(w *world) {
			w.edit(func(ro *v1alpha1.Rollout) { unrenderable(ro) })
			w.editStatus(func(st *v1alpha1.RolloutStatus) { st.Rendered = []byte("{") })
		}, 2*time.Minute + 10*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 2)
			tc.before(w)
			asked := w.drop()
			for range 200 {
				if !w.exists() {
					break
				}
				if w.try2() != nil {
					w.clock = w.clock.Add(time.Second)
				}
			}
			if took := w.clock.Sub(asked); w.exists() || took > tc.within {
				t.Errorf("%s: after %s the rollout exists: %t; want it gone within %s", tc.reason, took, w.exists(), tc.within)
			}
			told := slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, "true LetGo") })
			if told == (name == "Spec") {
				t.Errorf("%s: told of what was left undone: %t; %q", tc.reason, told, w.events)
			}
		})
	}
}

// TestDeleteEndsExperiments: an experiment of a rollout that goes has an end and a reason.
func TestDeleteEndsExperiments(t *testing.T) {
	x := newTrials(t)
	x.begin("models")
	x.untilExp("models", "in force", inForce)
	x.drop()
	if err := x.try2(); err != nil {
		t.Fatal(err)
	}
	if other := onlyOther(x.targets(), "v1"); len(other) > 0 {
		t.Errorf("the route leads to %v too", other)
	}
	x.look("models")
	e := x.exp("models")
	if e.Status.State != v1alpha1.ExperimentEnded || e.Status.Reason != "RolloutDeleted" || e.Status.Verdict != "Invalid" {
		t.Errorf("state %s, verdict %s, reason %s: %s; want it ended as Invalid for RolloutDeleted", e.Status.State, e.Status.Verdict, e.Status.Reason, e.Status.Message)
	}
}

// unrenderable makes a spec that the API takes and that cannot be expressed: two hosts of one name.
func unrenderable(ro *v1alpha1.Rollout) {
	ro.Spec.Service.Hosts, ro.Spec.Service.Gateways = []string{"*.*.example.com"}, []string{"edge/public"}
}

// TestUnrenderableSpec: a spec that cannot be rendered is said to be wrong, and keeps no run from being watched and from going
// back by what was rendered last. It goes no further.
func TestUnrenderableSpec(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		end    func(w *world)
		want   string
	}{
		"Abort":     {"an abort", func(w *world) { w.ask(v1alpha1.ActionAbort) }, "Aborted"},
		"SetBack":   {"the version set back", func(w *world) { w.want("v1") }, "VersionSetBack"},
		"Harm":      {"a canary that harms", func(w *world) { w.source.counts = harmful }, "ErrorsHarm"},
		"Supersede": {"another version", func(w *world) { w.want("v3") }, "Superseded"},
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 2)
			w.edit(unrenderable)
			for range 10 {
				w.turn()
			}
			ro := w.get()
			if st := ro.Status; st.Reason != "InvalidSpec" || st.Step != 2 || len(w.canary()) != 25 || !meta.IsStatusConditionTrue(st.Conditions, v1alpha1.ConditionStalled) {
				t.Fatalf("%s at step %d with %d buckets, conditions %+v; want it stalled for InvalidSpec at step 2", st.Reason, st.Step, len(w.canary()), st.Conditions)
			}
			tc.end(w)
			w.tap.writes()
			w.until("back", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run == nil })
			if writes := w.tap.writes(); !slices.Contains(writes, "apply VirtualService") || len(w.canary()) != 0 {
				t.Errorf("%s: %d buckets see the canary after %v", tc.reason, len(w.canary()), writes)
			}
			if last := w.get().Status.LastRun; last == nil || last.Reason != tc.want {
				t.Errorf("%s: last run %+v, want %s", tc.reason, last, tc.want)
			}
			for range 3 {
				w.turn()
			}
			if st := w.get().Status; st.Run != nil || st.Reason != "InvalidSpec" {
				t.Errorf("%s: %s, run %+v; want to wait for a spec that can be rendered", tc.reason, st.Reason, st.Run)
			}
			w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Service.Hosts, ro.Spec.Service.Gateways = nil, nil })
			if st := w.turn().Status; st.Reason == "InvalidSpec" {
				t.Errorf("%s: with a sound spec still %s: %+v", tc.reason, st.Reason, st.Conditions)
			}
		})
	}
}

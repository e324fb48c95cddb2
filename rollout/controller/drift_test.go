package controller_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// change edits an object as somebody else.
func (w *world) change(apiVersion, kind, name string, edit func(o *unstructured.Unstructured)) {
	w.t.Helper()
	o := w.find(apiVersion, kind, name)
	if o == nil {
		w.t.Fatalf("%s %q is missing", kind, name)
	}
	edit(o)
	if err := w.client.Update(w.t.Context(), o, client.FieldOwner("somebody")); err != nil {
		w.t.Fatal(err)
	}
}

const istioV1 = "networking.istio.io/v1"

// TestDrift: whatever somebody did to an object of ours, the next turn shows the present step again, and the step and its
// evidence go on.
func TestDrift(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		meddle func(w *world)
	}{
		"AllToStable": {
			reason: "the routes of the canary were removed",
			meddle: func(w *world) {
				w.change(istioV1, "VirtualService", "coolant", func(o *unstructured.Unstructured) {
					all, _, _ := unstructured.NestedSlice(o.Object, "spec", "http")
					_ = unstructured.SetNestedSlice(o.Object, all[len(all)-1:], "spec", "http")
				})
			},
		},
		"ExtraField": {
			reason: "a field that Siskin does not write was added",
			meddle: func(w *world) {
				w.change(istioV1, "VirtualService", "coolant", func(o *unstructured.Unstructured) {
					_ = unstructured.SetNestedStringSlice(o.Object, []string{"."}, "spec", "exportTo")
				})
			},
		},
		"Deleted": {
			reason: "the route was deleted",
			meddle: func(w *world) {
				if err := w.client.Delete(w.t.Context(), w.route()); err != nil {
					t.Fatal(err)
				}
			},
		},
		"SubsetsDeleted": {
			reason: "the DestinationRule was deleted",
			meddle: func(w *world) {
				if err := w.client.Delete(w.t.Context(), w.find(istioV1, "DestinationRule", "coolant")); err != nil {
					t.Fatal(err)
				}
			},
		},
		"OwnerRemoved": {
			reason: "the owner was taken away",
			meddle: func(w *world) {
				w.change(istioV1, "VirtualService", "coolant", func(o *unstructured.Unstructured) { o.SetOwnerReferences(nil) })
			},
		},
		"LabelRemoved": {
			reason: "the label was taken away",
			meddle: func(w *world) {
				w.change(istioV1, "VirtualService", "coolant", func(o *unstructured.Unstructured) { o.SetLabels(nil) })
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 2)
			w.turn()
			before, route := w.get(), w.route()
			subsets := w.subsets()
			tc.meddle(w)
			w.source.err = errors.New("connection refused") // a repair needs no evidence
			w.turn()
			got := w.route()
			if got == nil {
				t.Fatalf("%s: the route is missing", tc.reason)
			}
			if diff := cmp.Diff(route.Object["spec"], got.Object["spec"]); diff != "" {
				t.Errorf("%s: route (-before +after):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(subsets, w.subsets()); diff != "" {
				t.Errorf("%s: subsets (-before +after):\n%s", tc.reason, diff)
			}
			if !metav1.IsControlledBy(got, before) || got.GetLabels()[v1alpha1.LabelRollout] != "coolant" {
				t.Errorf("%s: owners %v, labels %v", tc.reason, got.GetOwnerReferences(), got.GetLabels())
			}
			after := w.get()
			if diff := cmp.Diff(before.Status.Run, after.Status.Run); diff != "" {
				t.Errorf("%s: the run changed (-before +after):\n%s", tc.reason, diff)
			}
			w.source.err = nil
			w.tap.writes()
			w.until("promoted", ended(v1alpha1.OutcomePromoted))
		})
	}
}

// TestDriftIsTold: a repair is an event; a step of our own is none.
func TestDriftIsTold(t *testing.T) {
	w := running(t, 2)
	repairs := func() int {
		return len(slices.DeleteFunc(slices.Clone(w.events), func(e string) bool { return !strings.Contains(e, "DriftRepaired") }))
	}
	w.turn() // sees the step in the mesh
	if n := repairs(); n != 0 {
		t.Errorf("%d repairs told during the ramp: %q", n, w.events)
	}
	if err := w.client.Delete(w.t.Context(), w.route()); err != nil {
		t.Fatal(err)
	}
	w.turn()
	if n := repairs(); n != 1 {
		t.Errorf("%d repairs told, want 1: %q", n, w.events)
	}
}

// TestNotOwned: an object of the same name that is not ours is left alone, and nothing is decided until it is gone.
func TestNotOwned(t *testing.T) {
	for _, kind := range []string{"VirtualService", "DestinationRule"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			foreign := w.object(istioV1, kind, "coolant")
			foreign.Object["spec"] = map[string]any{"host": "other.example.com"}
			if kind == "VirtualService" {
				foreign.Object["spec"] = map[string]any{
					"hosts": []any{"other.example.com"},
					"http":  []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": "other"}}}}},
				}
			}
			if err := w.client.Create(t.Context(), foreign); err != nil {
				t.Fatal(err)
			}
			w.deploy("v1", true)
			for range 3 {
				w.turn()
			}
			stalled := meta.FindStatusCondition(w.get().Status.Conditions, v1alpha1.ConditionStalled)
			if stalled == nil || stalled.Reason != "ObjectNotOwned" || !strings.Contains(stalled.Message, kind+` "coolant" exists and is not Siskin's`) {
				t.Fatalf("stalled: %+v, want ObjectNotOwned", stalled)
			}
			got := w.find(istioV1, kind, "coolant")
			if got.GetResourceVersion() != foreign.GetResourceVersion() {
				t.Error("the foreign object was written")
			}
			version := w.get().ResourceVersion
			w.turn()
			if w.get().ResourceVersion != version {
				t.Error("a rollout that is stalled is written again and again")
			}
			if err := w.client.Delete(t.Context(), got); err != nil {
				t.Fatal(err)
			}
			ro := w.until("stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "Stable" })
			if w.route() == nil || !meta.IsStatusConditionTrue(ro.Status.Conditions, v1alpha1.ConditionReady) {
				t.Errorf("after the foreign object went: conditions %+v", ro.Status.Conditions)
			}
		})
	}
}

// TestNewOwner: objects of an earlier rollout of the same name become this one's, or a garbage collector would take them.
func TestNewOwner(t *testing.T) {
	w := newWorld(t)
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	if err := w.client.Delete(t.Context(), w.get()); err != nil {
		t.Fatal(err)
	}
	if result, err := w.r.Reconcile(t.Context(), ctrl.Request{NamespacedName: w.key()}); err != nil || result.RequeueAfter != 0 {
		t.Errorf("reconciling a rollout that is gone: %+v, %v; want nothing", result, err)
	}
	if err := w.client.Create(t.Context(), newRollout(w.ns)); err != nil {
		t.Fatal(err)
	}
	w.until("stable", stableOn("v1"))
	for _, kind := range []string{"VirtualService", "DestinationRule"} {
		if refs := w.find(istioV1, kind, "coolant").GetOwnerReferences(); len(refs) != 1 || refs[0].UID != w.get().UID {
			t.Errorf("owners of the %s: %+v, want the new rollout", kind, refs)
		} else if refs[0].BlockOwnerDeletion != nil {
			t.Errorf("the %s blocks the deletion of its rollout, for which a guarded cluster asks the right to rollouts/finalizers", kind)
		}
	}
}

func TestRateLimit(t *testing.T) {
	const v3 = "networking.istio.io/v1alpha3"
	limit := func(ro *v1alpha1.Rollout) {
		ro.Spec.RateLimit = &v1alpha1.RateLimitSpec{RequestsPerSecond: 200, Burst: 400}
	}
	w := newWorld(t, limit)
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	if w.find(v3, "EnvoyFilter", "coolant-ratelimit") != nil {
		t.Error("the canary's limit stands without a canary")
	}
	w.deploy("v2", true)
	w.want("v2")
	w.until("at step 1", atStep(1))
	o := w.find(v3, "EnvoyFilter", "coolant-ratelimit")
	if o == nil {
		t.Fatal("the canary's limit is missing")
	}
	if labels, _, _ := unstructured.NestedStringMap(o.Object, "spec", "workloadSelector", "labels"); labels["version"] != "v2" {
		t.Errorf("the limit selects %v, want v2", labels)
	}
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.RateLimit.Scope = "All" })
	w.turn()
	o = w.find(v3, "EnvoyFilter", "coolant-ratelimit")
	if labels, _, _ := unstructured.NestedStringMap(o.Object, "spec", "workloadSelector", "labels"); labels["version"] != "" || labels["app"] != "coolant" {
		t.Errorf("the limit of all selects %v, want every version", labels)
	}
	w.edit(func(ro *v1alpha1.Rollout) {
		ro.Spec.RateLimit.Ports = []v1alpha1.PortRateLimit{{Number: ro.Spec.Service.Port, RequestsPerSecond: 7}}
	})
	w.turn()
	if patches, _, _ := unstructured.NestedSlice(w.find(v3, "EnvoyFilter", "coolant-ratelimit").Object, "spec", "configPatches"); len(patches) != 2 {
		t.Errorf("with a rate for a port there are %d patches, want 2", len(patches))
	}
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.RateLimit = nil })
	w.turn()
	if w.find(v3, "EnvoyFilter", "coolant-ratelimit") != nil {
		t.Error("the limit stays after it was removed from the spec")
	}
	w.edit(limit)
	w.turn()
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	if w.find(v3, "EnvoyFilter", "coolant-ratelimit") != nil {
		t.Error("the canary's limit stays after the canary")
	}
	foreign := w.object(v3, "EnvoyFilter", "coolant-ratelimit")
	foreign.Object["spec"] = map[string]any{}
	if err := w.client.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	w.clock = w.clock.Add(time.Minute)
	w.turn()
	if w.find(v3, "EnvoyFilter", "coolant-ratelimit") == nil {
		t.Error("somebody else's EnvoyFilter was deleted")
	}
}

// TestGlobalLimit: the quotas stand beside the filter that asks for them, are put right, and go with the spec, the canary or the
// rollout.
func TestGlobalLimit(t *testing.T) {
	global := func(ro *v1alpha1.Rollout) {
		ro.Spec.RateLimit = &v1alpha1.RateLimitSpec{Global: &v1alpha1.GlobalRateLimitSpec{Host: "ratelimit.edge.svc.cluster.local", RequestsPerUnit: 5, Unit: "Minute"}}
	}
	w := running(t, 1, global)
	quotas := func() string {
		o := w.find(quotasV1, "ConfigMap", "coolant-ratelimit")
		if o == nil {
			return ""
		}
		if owners := o.GetOwnerReferences(); len(owners) != 1 || owners[0].UID != w.get().UID {
			t.Errorf("owners of the quotas: %+v, want the rollout", owners)
		}
		text, _, _ := unstructured.NestedString(o.Object, "data", w.ns+".coolant.yaml")
		return text
	}
	filter := func() string {
		o := w.find("networking.istio.io/v1alpha3", "EnvoyFilter", "coolant-ratelimit")
		if o == nil {
			return ""
		}
		return fmt.Sprint(o.Object["spec"])
	}
	w.turn()
	first := quotas()
	if !strings.Contains(first, "requests_per_unit: 5") || !strings.Contains(first, "unit: minute") || !strings.Contains(first, "value: canary") {
		t.Fatalf("the quotas are %q", first)
	}
	if !strings.Contains(filter(), "outbound|8081||ratelimit.edge.svc.cluster.local") {
		t.Errorf("the filter is %q, want one that asks the service at its default port", filter())
	}
	w.change(quotasV1, "ConfigMap", "coolant-ratelimit", func(o *unstructured.Unstructured) {
		o.Object["data"] = map[string]any{w.ns + ".coolant.yaml": "domain: none", "theirs.yaml": "domain: some"}
	})
	w.turn()
	if data := w.find(quotasV1, "ConfigMap", "coolant-ratelimit").Object["data"].(map[string]any); len(data) != 1 || quotas() != first {
		t.Errorf("after a foreign edit the quotas are %v, want the one file %q", data, first)
	}
	w.change(quotasV1, "ConfigMap", "coolant-ratelimit", func(o *unstructured.Unstructured) {
		o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "a", UID: "1", Controller: new(true)}})
	})
	w.turn()
	if !slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, "true NotLimited") }) {
		t.Errorf("nobody is told that the quotas are somebody else's: %q", w.events)
	}
	if err := w.client.Delete(t.Context(), w.find(quotasV1, "ConfigMap", "coolant-ratelimit")); err != nil {
		t.Fatal(err)
	}
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.RateLimit.Global.RequestsPerUnit = 7 })
	w.turn()
	if !strings.Contains(quotas(), "requests_per_unit: 7") {
		t.Errorf("the quotas are %q, want 7", quotas())
	}
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.RateLimit = &v1alpha1.RateLimitSpec{RequestsPerSecond: 5} })
	w.turn()
	if quotas() != "" || filter() == "" || strings.Contains(filter(), "ratelimit.edge") {
		t.Errorf("with the token bucket alone the quotas are %q and the filter %q", quotas(), filter())
	}
	w.edit(global)
	w.turn()
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	if quotas() != "" || filter() != "" {
		t.Errorf("without the canary its quotas are %q and the filter %q", quotas(), filter())
	}
}

package controller_test

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// TestDelegatedRoutes: a route that the user's own delegates to has neither hosts nor gateways, and ramps as any other.
func TestDelegatedRoutes(t *testing.T) {
	w := running(t, 1, func(ro *v1alpha1.Rollout) { ro.Spec.Traffic = &v1alpha1.TrafficSpec{Entry: "Delegate"} })
	spec, _, _ := unstructured.NestedMap(w.route().Object, "spec")
	if len(spec) != 1 || spec["http"] == nil || len(w.canary()) != 5 {
		t.Errorf("the route has %d fields and %d buckets, want http alone and 5", len(spec), len(w.canary()))
	}
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
}

// TestStreams: a TCP port is split by the weight of the step, is all stable again after a rollback, and the condition says
// that nothing is sticky there.
func TestStreams(t *testing.T) {
	w := running(t, 1, func(ro *v1alpha1.Rollout) {
		ro.Spec.Traffic = &v1alpha1.TrafficSpec{Ports: []v1alpha1.PortSpec{{Number: 9000, Protocol: "TCP"}, {Number: 8081, Protocol: "HTTP"}}}
	})
	if got := w.streamWeights(); got != "v1=95 v2=5" {
		t.Errorf("the stream leads to %s, want v1=95 v2=5", got)
	}
	if got := w.restricted(); !strings.Contains(got, "assignment does not hold on port 9000") || strings.Contains(got, "8081") {
		t.Errorf("Restricted: %q, want port 9000 alone", got)
	}
	w.want("v1")
	w.until("rolled back", ended(v1alpha1.OutcomeRolledBack))
	if got := w.streamWeights(); got != "v1=100" {
		t.Errorf("after the rollback the stream leads to %s, want v1=100", got)
	}
}

// streamWeights writes the first TCP route as "subset=weight ...".
func (w *world) streamWeights() string {
	w.t.Helper()
	all, _, _ := unstructured.NestedSlice(w.route().Object, "spec", "tcp")
	if len(all) == 0 {
		return ""
	}
	first, _ := all[0].(map[string]any)
	to, _, _ := unstructured.NestedSlice(first, "route")
	var out []string
	for _, d := range to {
		each, _ := d.(map[string]any)
		subset, _, _ := unstructured.NestedString(each, "destination", "subset")
		weight, _, _ := unstructured.NestedFieldNoCopy(each, "weight")
		out = append(out, subset+"="+fmt.Sprint(weight))
	}
	return strings.Join(out, " ")
}

// TestLimitAtWaypoint: what Istio does not support is written, and the condition says so.
func TestLimitAtWaypoint(t *testing.T) {
	w := running(t, 1, func(ro *v1alpha1.Rollout) {
		ro.Spec.RateLimit = &v1alpha1.RateLimitSpec{RequestsPerSecond: 5, At: "Waypoint", Gateway: "waypoint"}
	})
	w.turn()
	filter := w.find("networking.istio.io/v1alpha3", "EnvoyFilter", "coolant-ratelimit")
	if filter == nil {
		t.Fatal("there is no filter")
	}
	refs, _, _ := unstructured.NestedSlice(filter.Object, "spec", "targetRefs")
	if len(refs) != 1 || !strings.Contains(w.restricted(), "rateLimit may have no effect") {
		t.Errorf("targets %v, Restricted %q; want the waypoint and a warning", refs, w.restricted())
	}
}

// TestHashComesAndGoes: the filter stands while a hash assigns, beside a rate limit, and goes when the spec no longer asks for it.
func TestHashComesAndGoes(t *testing.T) {
	w := running(t, 1, func(ro *v1alpha1.Rollout) {
		ro.Spec.Assignment = &v1alpha1.AssignmentSpec{Hash: &v1alpha1.HashAssignment{Header: "x-vehicle-id"}}
		ro.Spec.RateLimit = &v1alpha1.RateLimitSpec{RequestsPerSecond: 5}
	})
	filter := func(name string) bool { return w.find("networking.istio.io/v1alpha3", "EnvoyFilter", name) != nil }
	w.turn()
	if !filter("coolant-hash") || !filter("coolant-ratelimit") {
		t.Fatalf("the hash's filter is there: %t, the limit's: %t; want both", filter("coolant-hash"), filter("coolant-ratelimit"))
	}
	w.edit(func(ro *v1alpha1.Rollout) {
		ro.Spec.Assignment = &v1alpha1.AssignmentSpec{Header: &v1alpha1.HeaderAssignment{Name: "x-siskin-bucket"}}
	})
	w.turn()
	if filter("coolant-hash") || !filter("coolant-ratelimit") {
		t.Errorf("the hash's filter is there: %t, the limit's: %t; want the limit's alone", filter("coolant-hash"), filter("coolant-ratelimit"))
	}
	if len(w.canary()) != 5 {
		t.Errorf("%d buckets see the canary, want 5", len(w.canary()))
	}
}

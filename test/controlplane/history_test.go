package controlplane_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/siskin-dev/siskin/test/controlplane"
)

// ruled is a DestinationRule with the subsets, and routed a VirtualService that leads to one and copies to another.
func ruled(event watch.EventType, subsets ...string) controlplane.Change {
	o := controlplane.Object("networking.istio.io/v1", "DestinationRule", space, service, nil)
	all := []any{}
	for _, s := range subsets {
		all = append(all, map[string]any{"name": s})
	}
	o.Object["spec"] = map[string]any{"host": "coolant", "subsets": all}
	return controlplane.Change{Unstructured: o, Type: event}
}

func routed(event watch.EventType, to, copied string) controlplane.Change {
	o := controlplane.Object("networking.istio.io/v1", "VirtualService", space, service, nil)
	o.Object["spec"] = map[string]any{"http": []any{map[string]any{
		"route":  []any{map[string]any{"destination": map[string]any{"host": "coolant", "subset": to}}},
		"mirror": map[string]any{"host": "coolant", "subset": copied},
	}}}
	return controlplane.Change{Unstructured: o, Type: event}
}

// TestUnmade holds that a route before what it leads to is seen, and one after it is no fault.
func TestUnmade(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  string
		changes []controlplane.Change
		want    int
	}{
		"InOrder": {"subsets stand before the route and go after it", []controlplane.Change{
			ruled(watch.Added, "v1"), routed(watch.Added, "v1", "v1"), ruled(watch.Modified, "v1", "v2"), routed(watch.Modified, "v2", "v1"),
			routed(watch.Modified, "v1", "v1"), ruled(watch.Modified, "v1"), routed(watch.Deleted, "v1", "v1"), ruled(watch.Deleted, "v1"),
		}, 0},
		"RouteFirst": {"callers met a subset that was not there, until it was", []controlplane.Change{
			ruled(watch.Added, "v1"), routed(watch.Added, "v2", "v1"), ruled(watch.Modified, "v1", "v2"),
		}, 1},
		"Copies": {"what is copied leads somewhere too", []controlplane.Change{ruled(watch.Added, "v1"), routed(watch.Added, "v1", "v2")}, 1},
		"Breaks": {"the subset went before the route", []controlplane.Change{
			ruled(watch.Added, "v1", "v2"), routed(watch.Added, "v2", "v1"), ruled(watch.Modified, "v1"),
		}, 1},
		"RuleGone": {"all that it led to went before the route", []controlplane.Change{
			ruled(watch.Added, "v1", "v2"), routed(watch.Added, "v2", "v1"), ruled(watch.Deleted, "v1", "v2"),
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if errs := controlplane.Unmade(tc.changes); len(errs) != tc.want {
				t.Errorf("%s: got %v, want %d", tc.reason, errs, tc.want)
			}
		})
	}
}

package istio

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/siskin-dev/siskin/mesh"
)

// Written are the objects of one Traffic in the form in which, and the order in which, they are written: Subsets, Behind,
// Route; and the rate limit, whenever. It has the fields of the rollout controller's Objects, so that one converts into the other.
type Written struct {
	// Subsets make versions reachable: DestinationRules, and the filter of an exact hash assignment.
	Subsets []*unstructured.Unstructured
	// Route decides who meets which version.
	Route *unstructured.Unstructured
	// Behind are the routes of the services behind this one, the last tier first.
	Behind []*unstructured.Unstructured
	// Prune is false: the subsets are few and have names of their own.
	Prune bool
	// Limits are the quotas and the filters of the rate limit, those that there are; LimitKeys name both.
	Limits, LimitKeys []*unstructured.Unstructured
}

// Write renders a Traffic for server-side apply. Leaving names versions that stay reachable although no share names them.
func Write(t mesh.Traffic, leaving ...string) (Written, error) {
	objects, err := objectsOf(t, leaving)
	if err != nil {
		return Written{}, err
	}
	return objects.written(t)
}

func (o Objects) written(t mesh.Traffic) (Written, error) {
	w := Written{LimitKeys: []*unstructured.Unstructured{limitKey(t, "networking.istio.io/v1alpha3", "EnvoyFilter"), limitKey(t, "v1", "ConfigMap")}}
	var failed error
	keep := func(u *unstructured.Unstructured, err error) *unstructured.Unstructured {
		if failed == nil {
			failed = err
		}
		return u
	}
	w.Subsets = append(w.Subsets, keep(Unstructured(o.DestinationRule)))
	w.Route = keep(Unstructured(o.VirtualService))
	if o.Hash != nil {
		w.Subsets = append(w.Subsets, keep(Unstructured(o.Hash)))
	}
	for _, tier := range o.Tiers {
		w.Subsets = append(w.Subsets, keep(Unstructured(tier.DestinationRule)))
		w.Behind = append([]*unstructured.Unstructured{keep(Unstructured(tier.VirtualService))}, w.Behind...)
	}
	if o.Quotas != nil {
		w.Limits = append(w.Limits, &unstructured.Unstructured{Object: o.Quotas})
	}
	if o.EnvoyFilter != nil {
		w.Limits = append(w.Limits, keep(Unstructured(o.EnvoyFilter)))
	}
	return w, failed
}

func limitKey(t mesh.Traffic, apiVersion, kind string) *unstructured.Unstructured {
	key := &unstructured.Unstructured{}
	key.SetAPIVersion(apiVersion)
	key.SetKind(kind)
	key.SetNamespace(t.Service.Namespace)
	key.SetName(RateLimitName(t.Rollout))
	return key
}

// Kinds are those of the objects whose foreign edits matter at once.
func Kinds() []schema.GroupVersionKind {
	group := schema.GroupVersion{Group: "networking.istio.io", Version: "v1"}
	return []schema.GroupVersionKind{group.WithKind("VirtualService"), group.WithKind("DestinationRule")}
}

// Versions lists the versions that an object of Subsets, as it stands in the cluster, makes reachable.
func Versions(subsets *unstructured.Unstructured, versionLabel string) []string {
	all, _, _ := unstructured.NestedSlice(subsets.Object, "spec", "subsets")
	var versions []string
	for _, s := range all {
		subset, ok := s.(map[string]any)
		if !ok {
			continue
		}
		if v, _, _ := unstructured.NestedString(subset, "labels", versionLabel); v != "" {
			versions = append(versions, v)
		}
	}
	return versions
}

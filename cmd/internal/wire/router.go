// Package wire joins the rollout controller with what it speaks to: the objects of data planes and Prometheus. The binary in the
// cluster and the one for a laptop run the controller that is built here.
package wire

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/istio"
	"github.com/siskin-dev/siskin/rollout/controller"
)

// Istio renders traffic as Istio objects.
type Istio struct{}

// Render implements controller.Router.
func (Istio) Render(t mesh.Traffic, leaving []string) (controller.Objects, error) {
	objects, err := istio.Render(t)
	if err != nil {
		return controller.Objects{}, err
	}
	rule, err := istio.RenderDestinationRule(t, leaving...)
	if err != nil {
		return controller.Objects{}, err
	}
	var out controller.Objects
	subsets, err := istio.Unstructured(rule)
	if err != nil {
		return out, err
	}
	out.Subsets = []*unstructured.Unstructured{subsets}
	if out.Route, err = istio.Unstructured(objects.VirtualService); err != nil {
		return out, err
	}
	if objects.Hash != nil {
		hash, err := istio.Unstructured(objects.Hash)
		if err != nil {
			return out, err
		}
		out.Subsets = append(out.Subsets, hash)
	}
	tiers, err := istio.RenderTiers(t, leaving...)
	if err != nil {
		return out, err
	}
	for _, tier := range tiers {
		rule, err := istio.Unstructured(tier.DestinationRule)
		if err != nil {
			return out, err
		}
		route, err := istio.Unstructured(tier.VirtualService)
		if err != nil {
			return out, err
		}
		out.Subsets = append(out.Subsets, rule)
		out.Behind = append([]*unstructured.Unstructured{route}, out.Behind...)
	}
	if objects.EnvoyFilter != nil {
		if out.Limit, err = istio.Unstructured(objects.EnvoyFilter); err != nil {
			return out, err
		}
	}
	out.LimitKey = &unstructured.Unstructured{}
	out.LimitKey.SetAPIVersion("networking.istio.io/v1alpha3")
	out.LimitKey.SetKind("EnvoyFilter")
	out.LimitKey.SetNamespace(t.Service.Namespace)
	out.LimitKey.SetName(istio.RateLimitName(t.Rollout))
	return out, nil
}

// Kinds implements controller.Router.
func (Istio) Kinds() []schema.GroupVersionKind {
	return kinds("networking.istio.io/v1", "VirtualService", "DestinationRule")
}

// Versions implements controller.Router.
func (Istio) Versions(subsets *unstructured.Unstructured, versionLabel string) []string {
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

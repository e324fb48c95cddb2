// Package wire joins the rollout controller with what it speaks to: the objects of data planes and Prometheus. The binary in the
// cluster and the one for a laptop run the controller that is built here.
package wire

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/istio"
	"github.com/siskin-dev/siskin/rollout/controller"
)

// Istio renders traffic as Istio objects.
type Istio struct {
	// Quotas says that ConfigMaps may be written, which a global rate limit needs.
	Quotas bool
}

// Render implements controller.Router.
func (i Istio) Render(t mesh.Traffic, leaving []string) (controller.Objects, error) {
	if t.RateLimit != nil && t.RateLimit.Global != nil && !i.Quotas {
		return controller.Objects{}, &mesh.UnsupportedError{
			Plane: "Istio", Feature: mesh.Quotas, Why: "the controller may not write ConfigMaps; see its flag --global-rate-limits (the chart's controller.globalRateLimits)",
		}
	}
	w, err := istio.Write(t, leaving...)
	if !i.Quotas { // nor may it look at one
		w.LimitKeys = slices.DeleteFunc(w.LimitKeys, func(k *unstructured.Unstructured) bool { return k.GetKind() == "ConfigMap" })
	}
	return controller.Objects(w), err
}

// Kinds implements controller.Router.
func (Istio) Kinds() []schema.GroupVersionKind { return istio.Kinds() }

// Versions implements controller.Router.
func (Istio) Versions(subsets *unstructured.Unstructured, versionLabel string) []string {
	return istio.Versions(subsets, versionLabel)
}

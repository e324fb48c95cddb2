// Package istio writes a mesh.Traffic as Istio's objects: a VirtualService with the routes, a DestinationRule with the
// versions' subsets and the traffic policy, both again for each tier, and EnvoyFilters with rate limits and hash assignment.
//
// Rendering is pure: the same traffic gives the same objects, byte for byte. The objects are whole and owned by Siskin,
// meant for server-side apply (see Unstructured).
//
// Make before break is the caller's order: the DestinationRule carries the union of the versions in use before and after
// a change (see Write), it is written first, then the VirtualService, and when that no longer names a
// version the DestinationRule without it.
package istio

import (
	"fmt"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/mesh"
)

// Labels of every object that Siskin writes.
const (
	RolloutLabel   = mesh.RolloutLabel
	ManagedByLabel = mesh.ManagedByLabel
	ManagedBy      = mesh.ManagedBy
)

// Objects express one Traffic.
type Objects struct {
	VirtualService  *networkingv1.VirtualService
	DestinationRule *networkingv1.DestinationRule
	// EnvoyFilter is nil when nothing is limited; then an earlier one has to go.
	EnvoyFilter *v1alpha3.EnvoyFilter
	// Quotas is the ConfigMap with the global limit, for the rate limit service; nil as EnvoyFilter is.
	Quotas mesh.Object
	// Hash lets a header's hash decide; nil when none does, and then an earlier one has to go after the VirtualService.
	Hash *v1alpha3.EnvoyFilter
	// Tiers are the services behind, in the order of the traffic's.
	Tiers []Tier
}

// Render writes the traffic as Istio's objects. The caller adds owner references.
func Render(t mesh.Traffic) (Objects, error) { return objectsOf(t, nil) }

// objectsOf are the objects of the traffic, with subsets for further versions: those that are leaving, which routes may still name,
// and whose pods may still call the tiers.
func objectsOf(t mesh.Traffic, leaving []string) (Objects, error) {
	if err := t.Validate(); err != nil {
		return Objects{}, fmt.Errorf("rendering traffic of rollout %q: %w", t.Rollout, err)
	}
	filter, err := envoyFilter(t)
	if err != nil {
		return Objects{}, fmt.Errorf("rendering rate limit of rollout %q: %w", t.Rollout, err)
	}
	quotas, err := quotaConfig(t)
	if err != nil {
		return Objects{}, fmt.Errorf("rendering quotas of rollout %q: %w", t.Rollout, err)
	}
	rule, err := destinationRule(t, leaving)
	if err != nil {
		return Objects{}, fmt.Errorf("rendering subsets of rollout %q: %w", t.Rollout, err)
	}
	hash, err := hashFilter(t)
	if err != nil {
		return Objects{}, fmt.Errorf("rendering hash of rollout %q: %w", t.Rollout, err)
	}
	return Objects{VirtualService: virtualService(t), DestinationRule: rule, EnvoyFilter: filter, Quotas: quotas, Hash: hash, Tiers: tiersOf(t, leaving)}, nil
}

func objectMeta(t mesh.Traffic, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: t.Service.Namespace,
		Name:      name,
		Labels:    map[string]string{RolloutLabel: t.Rollout, ManagedByLabel: ManagedBy},
	}
}

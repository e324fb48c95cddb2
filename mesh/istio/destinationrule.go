package istio

import (
	"slices"

	api "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/mesh"
)

// destinationRule has one subset per distinct version, sorted: the end of a run swaps roles, not subsets.
func destinationRule(t mesh.Traffic, extra []string) *networkingv1.DestinationRule {
	versions := append([]string{}, extra...)
	for _, s := range t.Shares {
		versions = append(versions, s.Version)
	}
	slices.Sort(versions)

	dr := &networkingv1.DestinationRule{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: "DestinationRule"},
		ObjectMeta: objectMeta(t, t.Rollout),
	}
	dr.Spec.Host = t.Service.FQDN()
	for _, version := range slices.Compact(versions) {
		if version == "" {
			continue // A caller's "no version leaving".
		}
		dr.Spec.Subsets = append(dr.Spec.Subsets, &api.Subset{
			Name:   SubsetName(version),
			Labels: map[string]string{t.VersionLabel: version},
		})
	}
	return dr
}

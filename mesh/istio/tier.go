package istio

import (
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/mesh"
)

// Tier is what a service behind the first one is routed by.
type Tier struct {
	VirtualService  *networkingv1.VirtualService
	DestinationRule *networkingv1.DestinationRule
}

// TierName is the name of a tier's objects.
func TierName(rollout, tier string) string { return rollout + "-tier-" + tier }

// tiersOf are the objects of each tier, in the order of the traffic's. Leaving are further versions whose pods may
// still call; they keep their subsets and their routes.
//
// The caller writes the DestinationRules first, then the VirtualServices from the last tier to the first, then those of the
// first service: nobody is sent on to what is not there. A VirtualService may name fewer versions than its rule.
func tiersOf(t mesh.Traffic, leaving []string) []Tier {
	var out []Tier
	for i, tier := range t.Tiers {
		vs := &networkingv1.VirtualService{
			TypeMeta:   metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: "VirtualService"},
			ObjectMeta: objectMeta(t, TierName(t.Rollout, tier.Name)),
		}
		vs.Spec.Hosts = []string{t.Host(tier)}
		for _, r := range mesh.TierRoutes(t, i, leaving...) {
			vs.Spec.Http = append(vs.Spec.Http, httpRoute(t.Host(tier), tier.Port, []entry{{port: uint32(tier.Port)}}, r))
		}
		dr := &networkingv1.DestinationRule{
			TypeMeta:   metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: "DestinationRule"},
			ObjectMeta: objectMeta(t, TierName(t.Rollout, tier.Name)),
		}
		dr.Spec.Host, dr.Spec.Subsets = t.Host(tier), subsetsOf(t, nil, leaving)
		out = append(out, Tier{VirtualService: vs, DestinationRule: dr})
	}
	return out
}

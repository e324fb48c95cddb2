package istio

import (
	"fmt"

	api "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/mesh"
)

// destinationRule has one subset per distinct version, sorted: the end of a run swaps roles, not subsets.
//
// The policy is written to each subset, not above them. Where a user's own DestinationRule names the same host, Istio takes
// the top level of the older of the two alone, but a subset's fields override it one by one: so what the user's rule sets
// and ours does not stays in force, whichever came first.
func destinationRule(t mesh.Traffic, extra []string) (*networkingv1.DestinationRule, error) {
	policy, err := trafficPolicy(t.Policy)
	if err != nil {
		return nil, err
	}
	dr := &networkingv1.DestinationRule{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: "DestinationRule"},
		ObjectMeta: objectMeta(t, t.Rollout),
	}
	dr.Spec.Host, dr.Spec.Subsets = t.Service.FQDN(), subsetsOf(t, policy, extra)
	return dr, nil
}

// subsetsOf are the versions of the traffic and the extra ones, each with its own copy of the policy.
func subsetsOf(t mesh.Traffic, policy *api.TrafficPolicy, extra []string) []*api.Subset {
	var out []*api.Subset
	for _, version := range t.Versions(extra...) {
		out = append(out, &api.Subset{
			Name:          SubsetName(version),
			Labels:        map[string]string{t.VersionLabel: version},
			TrafficPolicy: policy.DeepCopy(),
		})
	}
	return out
}

// trafficPolicy reads a policy by Istio's own reader, which knows durations such as "1m" too; nil for none.
func trafficPolicy(policy []byte) (*api.TrafficPolicy, error) {
	if len(policy) == 0 {
		return nil, nil //nolint:nilnil // no policy is an answer, not an error
	}
	out := &api.TrafficPolicy{}
	if err := out.UnmarshalJSON(policy); err != nil {
		return nil, fmt.Errorf("reading policy %.120q: %w", policy, err)
	}
	return out, nil
}

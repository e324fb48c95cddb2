package istio

import (
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/types/known/structpb"
	api "istio.io/api/networking/v1alpha3"
	"istio.io/api/type/v1beta1"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/mesh"
)

// sharedVersions are the proxies whose rate limit makes its own descriptors (Envoy 1.34 and newer, with room to spare).
const sharedVersions = `^1\.(2[89]|[3-9][0-9]).*`

// sharedFilter limits at proxies that serve other services too: the routed cluster, which is the service's version at a port,
// says whose bucket a request takes from. What goes elsewhere finds none of them, and a bucket that is never empty.
func sharedFilter(t mesh.Traffic) (*v1alpha3.EnvoyFilter, error) {
	descriptors := limitedClusters(t)
	if len(descriptors) == 0 {
		return nil, nil
	}
	config := localRateLimit(*t.RateLimit)
	// A name of its own: there may be a filter for each of many rollouts.
	config["name"] = "siskin.local_ratelimit." + t.Service.Namespace + "." + t.Rollout
	typed, _ := config["typed_config"].(map[string]any)
	// Headers that say what is left would be on every answer of the proxy, other services' too; this one is on refusals alone.
	delete(typed, "enable_x_ratelimit_headers")
	typed["response_headers_to_add"] = []any{map[string]any{
		"append_action": "OVERWRITE_IF_EXISTS_OR_ADD", "header": map[string]any{"key": "retry-after", "value": "1"},
	}}
	typed["token_bucket"] = tokenBucket(math.MaxUint32, math.MaxUint32)
	typed["descriptors"] = descriptors
	typed["always_consume_default_token_bucket"] = false
	typed["rate_limits"] = []any{map[string]any{"actions": []any{map[string]any{"destination_cluster": map[string]any{}}}}}
	filter, err := structpb.NewStruct(config)
	if err != nil {
		return nil, err
	}
	ef := &v1alpha3.EnvoyFilter{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.istio.io/v1alpha3", Kind: "EnvoyFilter"},
		ObjectMeta: objectMeta(t, RateLimitName(t.Rollout)),
	}
	if t.RateLimit.Gateway != "" {
		ef.Spec.TargetRefs = []*v1beta1.PolicyTargetReference{{Group: "gateway.networking.k8s.io", Kind: "Gateway", Name: t.RateLimit.Gateway}}
	} else {
		ef.Spec.WorkloadSelector = &api.WorkloadSelector{Labels: t.RateLimit.Selector}
	}
	match := beforeRouter(limitContext(t.RateLimit.At))
	match.Proxy = &api.EnvoyFilter_ProxyMatch{ProxyVersion: sharedVersions}
	ef.Spec.ConfigPatches = []*api.EnvoyFilter_EnvoyConfigObjectPatch{{
		ApplyTo: api.EnvoyFilter_HTTP_FILTER,
		Match:   match,
		Patch:   &api.EnvoyFilter_Patch{Operation: api.EnvoyFilter_Patch_INSERT_BEFORE, Value: filter},
	}}
	return ef, nil
}

// limitContext is the context of a place. Istio patches a waypoint's listeners as inbound ones.
func limitContext(at mesh.Place) api.EnvoyFilter_PatchContext {
	if at == mesh.AtWaypoint {
		return api.EnvoyFilter_SIDECAR_INBOUND
	}
	return api.EnvoyFilter_GATEWAY
}

// limitedClusters has a bucket for each limited version at each HTTP port.
func limitedClusters(t mesh.Traffic) []any {
	ports := []int{t.Service.Port}
	for _, p := range t.Service.Ports {
		if p.Protocol == mesh.HTTP {
			ports = append(ports, p.Number)
		}
	}
	var out []any
	var seen []string
	for _, s := range t.Shares {
		if t.RateLimit.OnlyCanary && s.Variant != mesh.Canary || slices.Contains(seen, s.Version) {
			continue
		}
		seen = append(seen, s.Version)
		for _, port := range ports {
			out = append(out, map[string]any{
				"entries":      []any{map[string]any{"key": "destination_cluster", "value": clusterName(t, port, s.Version)}},
				"token_bucket": tokenBucket(max(t.RateLimit.Burst, t.RateLimit.RequestsPerSecond), t.RateLimit.RequestsPerSecond),
			})
		}
	}
	return out
}

// clusterName is what Istio calls a version of the service where the limit counts.
func clusterName(t mesh.Traffic, port int, version string) string {
	if t.RateLimit.At == mesh.AtWaypoint {
		return fmt.Sprintf("inbound-vip|%d|http/%s|%s", port, SubsetName(version), t.Service.FQDN())
	}
	return fmt.Sprintf("outbound|%d|%s|%s", port, SubsetName(version), t.Service.FQDN())
}

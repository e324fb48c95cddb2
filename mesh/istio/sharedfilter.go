package istio

import (
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/types/known/structpb"
	api "istio.io/api/networking/v1alpha3"

	"github.com/siskin-dev/siskin/mesh"
)

// sharedVersions are the proxies whose rate limit makes its own descriptors (Envoy 1.34 and newer, with room to spare).
const sharedVersions = `^1\.(2[89]|[3-9][0-9]).*`

// sharedPatches limit at proxies that serve other services too: the routed cluster, which is the service's version at a port,
// says whose bucket a request takes from. What goes elsewhere finds none of them, and a bucket that is never empty.
func sharedPatches(t mesh.Traffic) ([]*patch, error) {
	config := localRateLimit(*t.RateLimit, t.Service.Port)
	// A name of its own: there may be a filter for each of many rollouts.
	config["name"] = "siskin.local_ratelimit." + t.Service.Namespace + "." + t.Rollout
	typed, _ := config["typed_config"].(map[string]any)
	// Headers that say what is left would be on every answer of the proxy, other services' too; this one is on refusals alone.
	delete(typed, "enable_x_ratelimit_headers")
	typed["response_headers_to_add"] = []any{map[string]any{
		"append_action": "OVERWRITE_IF_EXISTS_OR_ADD", "header": map[string]any{"key": "retry-after", "value": "1"},
	}}
	typed["token_bucket"] = tokenBucket(math.MaxUint32, math.MaxUint32)
	typed["always_consume_default_token_bucket"] = false
	typed["rate_limits"] = []any{map[string]any{"actions": []any{map[string]any{"destination_cluster": map[string]any{}}}}}
	var descriptors []any
	for _, c := range limitedClusters(t) {
		descriptors = append(descriptors, map[string]any{
			"entries":      []any{map[string]any{"key": "destination_cluster", "value": c.name}},
			"token_bucket": bucketOf(*t.RateLimit, c.port),
		})
	}
	typed["descriptors"] = descriptors
	filter, err := structpb.NewStruct(config)
	if err != nil {
		return nil, err
	}
	return []*patch{newer(inserted(beforeRouter(limitContext(t.RateLimit.At)), filter))}, nil
}

// newer confines a patch to proxies whose rate limits make their own descriptors.
func newer(p *patch) *patch {
	p.Match.Proxy = &api.EnvoyFilter_ProxyMatch{ProxyVersion: sharedVersions}
	return p
}

// limitContext is the context of a place. Istio patches a waypoint's listeners as inbound ones.
func limitContext(at mesh.Place) api.EnvoyFilter_PatchContext {
	if at == mesh.AtGateway {
		return api.EnvoyFilter_GATEWAY
	}
	return api.EnvoyFilter_SIDECAR_INBOUND
}

// cluster is a version of the service at a port.
type cluster struct {
	name string
	port int
}

// limitedClusters are those of each limited version at each HTTP port.
func limitedClusters(t mesh.Traffic) []cluster {
	var out []cluster
	var seen []string
	for _, s := range t.Shares {
		if t.RateLimit.OnlyCanary && s.Variant != mesh.Canary || slices.Contains(seen, s.Version) {
			continue
		}
		seen = append(seen, s.Version)
		for _, port := range httpPorts(t) {
			out = append(out, cluster{clusterName(t, port, s.Version), port})
		}
	}
	return out
}

// httpPorts are the service's own port and the further ones that speak HTTP.
func httpPorts(t mesh.Traffic) []int {
	ports := []int{t.Service.Port}
	for _, p := range t.Service.Ports {
		if p.Protocol == mesh.HTTP {
			ports = append(ports, p.Number)
		}
	}
	return ports
}

// clusterName is what Istio calls a version of the service where the limit counts.
func clusterName(t mesh.Traffic, port int, version string) string {
	if t.RateLimit.At == mesh.AtWaypoint {
		return fmt.Sprintf("inbound-vip|%d|http/%s|%s", port, SubsetName(version), t.Service.FQDN())
	}
	return fmt.Sprintf("outbound|%d|%s|%s", port, SubsetName(version), t.Service.FQDN())
}

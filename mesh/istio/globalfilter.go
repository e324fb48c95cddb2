package istio

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"
	api "istio.io/api/networking/v1alpha3"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/mesh"
)

// Names of Envoy's filter for global limits and of what a virtual host says to it.
const (
	globalLimitType  = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit"
	globalLimitHosts = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute"
)

// foreignStage keeps the filter away from limits that somebody else has written on routes: those are of stage 0 mostly.
const foreignStage = 10

// keys of the descriptors that proxies send and the service counts by.
const (
	serviceKey = "service"
	variantKey = "variant"
	clusterKey = "destination_cluster" // what Envoy calls it
)

// referencedServices is Istio's annotation for services whose clusters a filter needs. A waypoint does not know them otherwise, nor
// does a gateway where istiod filters (PILOT_FILTER_GATEWAY_CLUSTER_CONFIG), and Envoy would have nobody to ask.
const referencedServices = "envoyfilter.istio.io/referenced-services"

// quota is what one variant's requests are counted under.
type quota struct{ key, value string }

// quotasOf has a quota for each limited variant: at a sidecar by its name, elsewhere by the clusters of its version.
func quotasOf(t mesh.Traffic) []quota {
	if t.RateLimit == nil || t.RateLimit.Global == nil {
		return nil
	}
	var all []quota
	if t.RateLimit.At == "" || t.RateLimit.At == mesh.AtSidecar {
		for _, s := range t.Shares {
			if s.Variant == mesh.Canary || !t.RateLimit.OnlyCanary {
				all = append(all, quota{variantKey, string(s.Variant)})
			}
		}
		return all
	}
	for _, c := range limitedClusters(t) {
		all = append(all, quota{clusterKey, c.name})
	}
	return all
}

// globalPatches insert the filter that asks the rate limit service before the router, after the token buckets: what these
// refuse is not asked for.
func globalPatches(t mesh.Traffic) ([]*patch, error) {
	if len(quotasOf(t)) == 0 {
		return nil, nil
	}
	filter := globalFilter(t)
	typed, _ := filter["typed_config"].(map[string]any)
	if t.RateLimit.At != mesh.AtGateway {
		typed["rate_limits"] = descriptorsOf(t)
	}
	value, err := structpb.NewStruct(filter)
	if err != nil {
		return nil, err
	}
	all := []*patch{newer(inserted(beforeRouter(limitContext(t.RateLimit.At)), value))}
	switch t.RateLimit.At {
	case mesh.AtGateway:
		hosts, err := hostPatches(t, filter["name"])
		return append(all, hosts...), err
	case mesh.AtWaypoint:
		return atPorts(t, all[0]), nil
	default:
		return all, nil
	}
}

// hostPatches say on the service's own hosts what is asked for: requests for others pass the gateway unasked.
func hostPatches(t mesh.Traffic, filter any) ([]*patch, error) {
	value, err := structpb.NewStruct(map[string]any{"typed_per_filter_config": map[string]any{
		fmt.Sprint(filter): map[string]any{"@type": globalLimitHosts, "rate_limits": descriptorsOf(t)},
	}})
	if err != nil {
		return nil, err
	}
	var all []*patch
	for _, host := range slices.Concat(t.Service.Hosts, t.PreviewHosts, []string{t.Service.FQDN()}) { // the routes there serve all of these
		all = append(all, newer(&patch{
			ApplyTo: api.EnvoyFilter_VIRTUAL_HOST,
			Match:   onHost(api.EnvoyFilter_GATEWAY, &api.EnvoyFilter_RouteConfigurationMatch_VirtualHostMatch{DomainName: host}),
			Patch:   &api.EnvoyFilter_Patch{Operation: api.EnvoyFilter_Patch_MERGE, Value: value},
		}))
	}
	return all, nil
}

// atPorts confines a patch to what a waypoint does for the service: it has a chain of filters for each service and port, and
// patches no routes.
func atPorts(t mesh.Traffic, p *patch) []*patch {
	var all []*patch
	for _, port := range httpPorts(t) {
		one := p.DeepCopy()
		one.Match.GetListener().FilterChain.Name = fmt.Sprintf("inbound-vip|%d|http|%s", port, t.Service.FQDN())
		all = append(all, one)
	}
	return all
}

// globalFilter is the filter's configuration, with a name of its own: there may be one for each of many rollouts. Answers say
// what is left of the quota where the service tells.
func globalFilter(t mesh.Traffic) map[string]any {
	g := t.RateLimit.Global
	typed := map[string]any{
		"@type":                      globalLimitType,
		"domain":                     t.QuotaDomain(),
		"stage":                      foreignStage,
		"failure_mode_deny":          g.Deny,
		"status_on_error":            map[string]any{"code": "TooManyRequests"}, // no failure of the version
		"enable_x_ratelimit_headers": "DRAFT_VERSION_03",
		"stat_prefix":                "siskin_global_rate_limit",
		"rate_limit_service": map[string]any{
			"transport_api_version": "V3",
			"grpc_service": map[string]any{"envoy_grpc": map[string]any{
				"cluster_name": fmt.Sprintf("outbound|%d||%s", g.Port, g.Host), "authority": g.Host,
			}},
		},
	}
	if g.TimeoutMillis > 0 {
		typed["timeout"] = fmt.Sprintf("%d.%03ds", g.TimeoutMillis/1000, g.TimeoutMillis%1000)
	}
	return map[string]any{"name": "siskin.ratelimit." + t.Service.Namespace + "." + t.Rollout, "typed_config": typed}
}

// descriptorsOf make each request one descriptor: the service, and whose quota it takes from.
func descriptorsOf(t mesh.Traffic) []any {
	service := genericKey(serviceKey, serviceValue(t))
	limit := func(action map[string]any) any { return map[string]any{"actions": []any{service, action}} }
	quotas := quotasOf(t)
	switch {
	case quotas[0].key == clusterKey:
		return []any{limit(map[string]any{"destination_cluster": map[string]any{}})}
	case len(quotas) == 1: // the pods are those of the one variant, or there is no other
		return []any{limit(genericKey(quotas[0].key, quotas[0].value))}
	}
	var all []any
	for _, q := range quotas {
		all = append(all, limit(named(q, quotas)))
	}
	return all
}

func serviceValue(t mesh.Traffic) string { return t.Service.Namespace + "/" + t.Service.Name }

func genericKey(key, value string) map[string]any {
	return map[string]any{"generic_key": map[string]any{"descriptor_key": key, "descriptor_value": value}}
}

// named tells the variant by the header that its route has set on the way to the pod. Whatever names no other variant is the
// stable one's, so that a caller who leaves the header out is counted too.
func named(q quota, all []quota) map[string]any {
	match, meant := map[string]any{"exact": q.value}, true
	if q == all[0] {
		var others []string
		for _, o := range all[1:] {
			others = append(others, o.value)
		}
		match, meant = map[string]any{"safe_regex": map[string]any{"regex": "^(" + strings.Join(others, "|") + ")$"}}, false
	}
	return map[string]any{"header_value_match": map[string]any{
		"descriptor_key": q.key, "descriptor_value": q.value, "expect_match": meant,
		"headers": []any{map[string]any{"name": mesh.VariantHeader, "string_match": match}},
	}}
}

// descriptor is an entry of the reference rate limit service's configuration.
type descriptor struct {
	Key         string       `json:"key"`
	Value       string       `json:"value"`
	RateLimit   *quotaLimit  `json:"rate_limit,omitempty"`
	Descriptors []descriptor `json:"descriptors,omitempty"`
}

type quotaLimit struct {
	Unit            string `json:"unit"`
	RequestsPerUnit int    `json:"requests_per_unit"`
}

// quotaConfig is the ConfigMap with the configuration of the reference rate limit service (github.com/envoyproxy/ratelimit)
// that goes with the filter: one file, whose name no other rollout's has, so that many can be mounted into one folder. It is
// nil where no quota is.
func quotaConfig(t mesh.Traffic) (mesh.Object, error) {
	quotas := quotasOf(t)
	if len(quotas) == 0 {
		return nil, nil
	}
	g := t.RateLimit.Global
	service := descriptor{Key: serviceKey, Value: serviceValue(t)}
	for _, q := range quotas {
		limit := &quotaLimit{strings.ToLower(string(g.Unit)), g.Requests}
		service.Descriptors = append(service.Descriptors, descriptor{Key: q.key, Value: q.value, RateLimit: limit})
	}
	text, err := yaml.Marshal(map[string]any{"domain": t.QuotaDomain(), "descriptors": []descriptor{service}})
	if err != nil {
		return nil, err
	}
	o := t.Object("v1", "ConfigMap", RateLimitName(t.Rollout), nil)
	delete(o, "spec")
	o["data"] = map[string]any{t.Service.Namespace + "." + t.Rollout + ".yaml": string(text)}
	return o, nil
}

package istio

import (
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"
	api "istio.io/api/networking/v1alpha3"
	"istio.io/api/type/v1beta1"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/mesh"
)

// Names of Envoy's filters and types.
const (
	connectionManager = "envoy.filters.network.http_connection_manager"
	routerFilter      = "envoy.filters.http.router"
	rateLimitFilter   = "envoy.filters.http.local_ratelimit"
	rateLimitType     = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
)

// rateLimitStats is the prefix of the filter's statistics and of its runtime keys.
const rateLimitStats = "siskin_local_rate_limit"

// RateLimitName is the name of a rollout's EnvoyFilter.
func RateLimitName(rollout string) string { return rollout + "-ratelimit" }

// patch is one change of an EnvoyFilter.
type patch = api.EnvoyFilter_EnvoyConfigObjectPatch

// envoyFilter is the rate limit where it counts. It is nil when there is no limit, or nobody to limit.
func envoyFilter(t mesh.Traffic) (*v1alpha3.EnvoyFilter, error) {
	if t.RateLimit == nil || limitedPods(t) == nil {
		return nil, nil
	}
	local, err := localPatches(t)
	if err != nil {
		return nil, err
	}
	global, err := globalPatches(t)
	if err != nil {
		return nil, err
	}
	ef := &v1alpha3.EnvoyFilter{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.istio.io/v1alpha3", Kind: "EnvoyFilter"},
		ObjectMeta: objectMeta(t, RateLimitName(t.Rollout)),
	}
	ef.Spec.ConfigPatches = append(local, global...)
	if len(global) > 0 {
		ef.Annotations = map[string]string{referencedServices: t.RateLimit.Global.Host}
	}
	switch {
	case t.RateLimit.Gateway != "":
		ef.Spec.TargetRefs = []*v1beta1.PolicyTargetReference{{Group: "gateway.networking.k8s.io", Kind: "Gateway", Name: t.RateLimit.Gateway}}
	case t.RateLimit.At == mesh.AtGateway:
		ef.Spec.WorkloadSelector = &api.WorkloadSelector{Labels: t.RateLimit.Selector}
	default:
		ef.Spec.WorkloadSelector = &api.WorkloadSelector{Labels: limitedPods(t)}
	}
	return ef, nil
}

// localPatches insert the token buckets. Each proxy has its own, so what is let in is the number of proxies times the rate.
func localPatches(t mesh.Traffic) ([]*patch, error) {
	if t.RateLimit.RequestsPerSecond == 0 {
		return nil, nil
	}
	if at := t.RateLimit.At; at != "" && at != mesh.AtSidecar {
		return sharedPatches(t)
	}
	filter, err := structpb.NewStruct(localRateLimit(*t.RateLimit, 0))
	if err != nil {
		return nil, err
	}
	ports, err := portPatches(t)
	return append([]*patch{inserted(beforeRouter(api.EnvoyFilter_SIDECAR_INBOUND), filter)}, ports...), err
}

// portPatches give ports of the service token buckets of their own. Istio calls what a pod takes for a Service's port after it.
func portPatches(t mesh.Traffic) ([]*patch, error) {
	var all []*patch
	for _, p := range t.RateLimit.Ports {
		value, err := structpb.NewStruct(map[string]any{"typed_per_filter_config": map[string]any{
			rateLimitFilter: localRateLimit(*t.RateLimit, p.Number)["typed_config"],
		}})
		if err != nil {
			return nil, err
		}
		vhost := &api.EnvoyFilter_RouteConfigurationMatch_VirtualHostMatch{Name: fmt.Sprintf("inbound|http|%d", p.Number)}
		all = append(all, &patch{
			ApplyTo: api.EnvoyFilter_VIRTUAL_HOST, Match: onHost(api.EnvoyFilter_SIDECAR_INBOUND, vhost),
			Patch: &api.EnvoyFilter_Patch{Operation: api.EnvoyFilter_Patch_MERGE, Value: value},
		})
	}
	return all, nil
}

// onHost matches virtual hosts.
func onHost(context api.EnvoyFilter_PatchContext, vhost *api.EnvoyFilter_RouteConfigurationMatch_VirtualHostMatch) *api.EnvoyFilter_EnvoyConfigObjectMatch {
	return &api.EnvoyFilter_EnvoyConfigObjectMatch{
		Context: context,
		ObjectTypes: &api.EnvoyFilter_EnvoyConfigObjectMatch_RouteConfiguration{
			RouteConfiguration: &api.EnvoyFilter_RouteConfigurationMatch{Vhost: vhost},
		},
	}
}

func inserted(at *api.EnvoyFilter_EnvoyConfigObjectMatch, filter *structpb.Struct) *patch {
	return &patch{
		ApplyTo: api.EnvoyFilter_HTTP_FILTER, Match: at,
		Patch: &api.EnvoyFilter_Patch{Operation: api.EnvoyFilter_Patch_INSERT_BEFORE, Value: filter},
	}
}

// limitedPods are the labels of the pods that are limited; nil when there are none.
func limitedPods(t mesh.Traffic) map[string]string {
	labels := map[string]string{"app": t.Service.Name}
	if !t.RateLimit.OnlyCanary {
		return labels
	}
	canary, there := t.Canary()
	if !there {
		return nil
	}
	labels[t.VersionLabel] = canary.Version
	return labels
}

// beforeRouter is the place before the last filter: what other filters refuse takes no token.
func beforeRouter(context api.EnvoyFilter_PatchContext) *api.EnvoyFilter_EnvoyConfigObjectMatch {
	return &api.EnvoyFilter_EnvoyConfigObjectMatch{
		Context: context,
		ObjectTypes: &api.EnvoyFilter_EnvoyConfigObjectMatch_Listener{Listener: &api.EnvoyFilter_ListenerMatch{
			FilterChain: &api.EnvoyFilter_ListenerMatch_FilterChainMatch{
				Filter: &api.EnvoyFilter_ListenerMatch_FilterMatch{
					Name:      connectionManager,
					SubFilter: &api.EnvoyFilter_ListenerMatch_SubFilterMatch{Name: routerFilter},
				},
			},
		}},
	}
}

// localRateLimit is the filter's configuration, with the bucket of a port; 0 is for ports that have none of their own. Envoy asks
// for two shares of the requests, and both are 100 %: every one is counted, and every one above the limit is refused.
func localRateLimit(l mesh.RateLimit, port int) map[string]any {
	return map[string]any{
		"name": rateLimitFilter,
		"typed_config": map[string]any{
			"@type":                      rateLimitType,
			"stat_prefix":                rateLimitStats,
			"status":                     map[string]any{"code": "TooManyRequests"},
			"token_bucket":               bucketOf(l, port),
			"enable_x_ratelimit_headers": "DRAFT_VERSION_03",
			"filter_enabled":             always(rateLimitStats + "_enabled"),
			"filter_enforced":            always(rateLimitStats + "_enforced"),
		},
	}
}

func bucketOf(l mesh.RateLimit, port int) map[string]any {
	rate, size := l.Bucket(port)
	return tokenBucket(size, rate)
}

// tokenBucket fills every second.
func tokenBucket(size, fill int) map[string]any {
	return map[string]any{"max_tokens": size, "tokens_per_fill": fill, "fill_interval": "1s"}
}

// always is a share of 100 % that an operator can lower at run time under the key.
func always(key string) map[string]any {
	return map[string]any{
		"runtime_key":   key,
		"default_value": map[string]any{"numerator": 100, "denominator": "HUNDRED"},
	}
}

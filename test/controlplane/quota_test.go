package controlplane_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	quotav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/test/controlplane"
	"github.com/siskin-dev/siskin/test/envoy"
)

// quotaFilter is the global limit of a connection manager, which must stand right before the router; nil when there is none.
func quotaFilter(m *hcmv3.HttpConnectionManager) (name string, filter *quotav3.RateLimit, err error) {
	filters := m.GetHttpFilters()
	i := slices.IndexFunc(filters, func(f *hcmv3.HttpFilter) bool { return f.GetTypedConfig().MessageIs(&quotav3.RateLimit{}) })
	if i < 0 {
		return "", nil, nil
	}
	if i != len(filters)-2 {
		return "", nil, fmt.Errorf("the global limit is filter %d of %d, want the last before the router", i, len(filters))
	}
	filter = &quotav3.RateLimit{}
	return filters[i].GetName(), filter, filters[i].GetTypedConfig().UnmarshalTo(filter)
}

// rateLimitService is a Service for the cluster that the filters name, with a port for gRPC.
func rateLimitService() *unstructured.Unstructured {
	s := controlplane.Object("v1", "Service", space, "ratelimit", nil)
	s.Object["spec"] = map[string]any{
		"selector": map[string]any{"app": "ratelimit"},
		"ports":    []any{map[string]any{"name": "grpc", "port": int64(8081), "protocol": "TCP"}},
	}
	return s
}

// asks holds that a proxy has the cluster at which its filter asks, and that it speaks HTTP/2: without it Envoy counts nothing.
func asks(a envoy.Answer, filter *quotav3.RateLimit) error {
	at := filter.GetRateLimitService().GetGrpcService().GetEnvoyGrpc().GetClusterName()
	if a.Clusters[at].GetTypedExtensionProtocolOptions() == nil {
		return fmt.Errorf("there is no cluster %q for HTTP/2, which the global limit asks", at)
	}
	return nil
}

// counter is the reference rate limit service with a golden pair's quotas.
type counter struct {
	t      *testing.T
	ask    rlsv3.RateLimitServiceClient
	domain string
	limits []*routev3.RateLimit
}

func (w *meshWorld) counter(limits []*routev3.RateLimit) counter {
	w.t.Helper()
	i := slices.IndexFunc(w.objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "ConfigMap" })
	files, _, err := unstructured.NestedStringMap(w.objects[i].Object, "data")
	if err != nil {
		w.t.Fatal(err)
	}
	return counter{w.t, rlsv3.NewRateLimitServiceClient(w.StartRateLimits(files)), w.traffic.QuotaDomain(), limits}
}

// refused sends requests that are routed to the cluster and returns which of them are over the limit, from 1 on.
func (c counter) refused(n int, cluster string, q envoy.Request) []int {
	c.t.Helper()
	var over []int
	for i := range n {
		descriptors, err := envoy.Descriptors(c.limits, cluster, q)
		if err != nil || len(descriptors) != 1 {
			c.t.Fatalf("a request to %q has %d descriptors, want 1: %v", cluster, len(descriptors), err)
		}
		answer, err := c.ask.ShouldRateLimit(c.t.Context(), &rlsv3.RateLimitRequest{Domain: c.domain, Descriptors: descriptors})
		if err != nil {
			c.t.Fatal(err)
		}
		if limit := answer.GetStatuses()[0].GetCurrentLimit(); limit == nil {
			c.t.Fatalf("the service knows no limit for %v in domain %q", descriptors, c.domain)
		}
		if answer.GetOverallCode() == rlsv3.RateLimitResponse_OVER_LIMIT {
			over = append(over, i+1)
		}
	}
	return over
}

// countsAtTheGateway holds that the gateway asks for the hosts of the service alone, at a cluster that it has and that speaks
// HTTP/2, and that the reference service refuses what it asks about once the quota of a variant is used up.
func countsAtTheGateway(t *testing.T, p *controlplane.Plane) {
	w := &meshWorld{Plane: p, golden: goldenNamed(t, "quota-gateway"), t: t}
	w.objects = append(w.objects, rateLimitService())
	w.apply()
	t.Cleanup(w.remove)
	near := ingress()
	near.Namespace, near.Name = space, "ingress-1" // a filter holds in its own namespace
	asked := map[string][]*routev3.RateLimit{}
	w.eventually("the gateway's filters and hosts", near, func(a envoy.Answer) error {
		name, err := w.gatewayFilter(a)
		if err != nil {
			return err
		}
		clear(asked)
		for _, vh := range a.Routes[entry].GetVirtualHosts() {
			var per quotav3.RateLimitPerRoute
			config, ok := vh.GetTypedPerFilterConfig()[name]
			if !ok {
				continue
			}
			if err := config.UnmarshalTo(&per); err != nil {
				return err
			}
			for _, domain := range vh.GetDomains() {
				asked[domain] = per.GetRateLimits()
			}
		}
		if got := slices.Sorted(maps.Keys(asked)); !slices.Equal(got, []string{w.traffic.Service.FQDN(), "fleet.example.com", "predict.example.com"}) {
			return fmt.Errorf("the gateway asks for %q", got)
		}
		return nil
	})
	c := w.counter(asked["predict.example.com"])
	if over := c.refused(7, w.cluster("v2"), envoy.Request{}); !slices.Equal(over, []int{6, 7}) {
		t.Errorf("of 7 requests to the canary, whose quota is 5, the service refuses %v", over)
	}
	if over := c.refused(5, w.cluster("v1"), envoy.Request{}); over != nil {
		t.Errorf("of 5 requests to stable, which has a quota of its own, the service refuses %v", over)
	}
}

// gatewayFilter checks the filter of the gateway's listener and returns its name.
func (w *meshWorld) gatewayFilter(a envoy.Answer) (string, error) {
	for _, l := range a.Listeners {
		managers, err := envoy.Managers(l)
		if err != nil {
			return "", err
		}
		for _, m := range managers {
			name, filter, err := quotaFilter(m)
			if err != nil || filter == nil {
				return "", fmt.Errorf("listener %q has the global limit %v, %w", l.GetName(), filter, err)
			}
			if err := asks(a, filter); err != nil {
				return "", err
			}
			if filter.GetDomain() != w.traffic.QuotaDomain() || !filter.GetFailureModeDeny() || len(filter.GetRateLimits()) > 0 {
				return "", fmt.Errorf("the global limit is %v", filter)
			}
			if err := filter.ValidateAll(); err != nil {
				return "", err
			}
			return name, nil
		}
	}
	return "", fmt.Errorf("the gateway takes no HTTP")
}

// countsAtThePods holds that each pod's own proxy asks, by the variant that the route has named, and a caller's does not.
func countsAtThePods(t *testing.T, p *controlplane.Plane) {
	w := &meshWorld{Plane: p, golden: goldenNamed(t, "quota-arms"), t: t}
	w.objects = append(w.objects, rateLimitService())
	w.apply()
	t.Cleanup(w.remove)
	var limits []*routev3.RateLimit
	for i, version := range w.versions() {
		n := envoy.Node{Kind: envoy.Sidecar, Address: address(i), Name: w.pod(i), Namespace: space, Labels: w.labels(version)}
		w.eventually("the filters of "+version, n, func(a envoy.Answer) error {
			managers, err := envoy.Managers(a.Listeners["virtualInbound"])
			if err != nil || len(managers) == 0 {
				return fmt.Errorf("%d managers, %w", len(managers), err)
			}
			for _, m := range managers {
				_, filter, err := quotaFilter(m)
				if err != nil || filter.GetDomain() != w.traffic.QuotaDomain() || len(filter.GetRateLimits()) != 3 {
					return fmt.Errorf("the global limit is %v, %w", filter, err)
				}
				limits = filter.GetRateLimits()
			}
			return nil
		})
	}
	w.eventually("a caller's filters", caller(), func(a envoy.Answer) error {
		for _, l := range a.Listeners {
			managers, err := envoy.Managers(l)
			if err != nil {
				return err
			}
			for _, m := range managers {
				if _, filter, err := quotaFilter(m); err != nil || filter != nil {
					return fmt.Errorf("a caller asks %v, %w", filter, err)
				}
			}
		}
		return nil
	})
	c := w.counter(limits)
	for _, variant := range []string{"", "stable", "canary", "quantised", "nobody"} {
		q := envoy.Request{Headers: map[string][]string{}}
		if variant != "" {
			q.Headers["x-siskin-variant"] = []string{variant}
		}
		if over := c.refused(1, "inbound|8080||", q); over != nil {
			t.Errorf("the first request of %q is over the limit", variant)
		}
	}
}

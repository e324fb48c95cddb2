package controlplane_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"

	"github.com/siskin-dev/siskin/test/controlplane"
	"github.com/siskin-dev/siskin/test/envoy"
)

// goldenNamed is the pair of that name.
func goldenNamed(t *testing.T, name string) golden {
	t.Helper()
	all := goldens(t)
	i := slices.IndexFunc(all, func(g golden) bool { return g.name == name })
	if i < 0 {
		t.Fatalf("there is no golden pair %q", name)
	}
	return all[i]
}

// TestTraffic asks istiod about what more than one object decides: whose version a tier follows, and whose policy holds where a
// user's rule names the host too.
func TestTraffic(t *testing.T) {
	p := controlplane.Start(t)
	p.Apply(controlplane.NamespaceOf(space), publicGateway())
	t.Run("Tiers", func(t *testing.T) { followsCallers(t, p.For(t)) })
	t.Run("Policy", func(t *testing.T) { keepsTheUsersPolicy(t, p.For(t)) })
	t.Run("Limit", func(t *testing.T) { limitsAtTheGateway(t, p.For(t)) })
	t.Run("LimitOfPort", func(t *testing.T) { limitsAPort(t, p.For(t)) })
	t.Run("Quota", func(t *testing.T) { countsAtTheGateway(t, p.For(t)) })
	t.Run("QuotaOfPods", func(t *testing.T) { countsAtThePods(t, p.For(t)) })
}

// followsCallers holds that a pod of the service or of a tier is told of its own version's route, and a stranger of none.
func followsCallers(t *testing.T, p *controlplane.Plane) {
	w := &meshWorld{Plane: p, golden: goldenNamed(t, "tiers"), t: t}
	w.apply()
	t.Cleanup(w.remove)
	w.Service(space, "app-service", w.pods())
	follow := []string{"follow-canary", "follow-quantised", "follow-stable"}
	for name, labels := range map[string]map[string]string{
		"from-v2": {"app": "coolant", "version": "v2"},
		"from-v1": {"app": "coolant", "version": "v1"},
		"":        {"app": "billing", "version": "v2"},
	} {
		// For a caller that is known its route takes everything that is left, and istiod tells it of no other.
		want := append(slices.Clone(follow), cmp.Or(name, "rest"))
		n := envoy.Node{Kind: envoy.Sidecar, Address: "10.244.1.3", Name: "pod-" + strings.Trim(name+"-0", "-"), Namespace: space, Labels: labels}
		w.eventually(fmt.Sprintf("the routes of a tier for %v", labels), n, func(a envoy.Answer) error {
			var got []string
			for _, r := range envoy.Host(a.Routes[port], "app-service.edge.svc.cluster.local").GetRoutes() {
				got = append(got, r.GetName())
				if r.GetRoute().GetCluster() == "" {
					return fmt.Errorf("route %q has several destinations: a retry could cross versions", r.GetName())
				}
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("routes %q, want %q", got, want)
			}
			return nil
		})
	}
}

// keepsTheUsersPolicy holds that a user's rule for the host stays in force for what ours does not set, although ours is older,
// and that what ours sets for its subsets stays in force too.
func keepsTheUsersPolicy(t *testing.T, p *controlplane.Plane) {
	w := &meshWorld{Plane: p, golden: goldenNamed(t, "policy"), t: t}
	w.apply()
	t.Cleanup(w.remove)
	rule := controlplane.Object("networking.istio.io/v1", "DestinationRule", space, "mine", nil)
	rule.Object["spec"] = map[string]any{
		"host": w.traffic.Service.FQDN(),
		"trafficPolicy": map[string]any{
			"proxyProtocol":    map[string]any{"version": "V2"},
			"outlierDetection": map[string]any{"consecutive5xxErrors": int64(99)},
		},
	}
	w.Apply(rule)
	t.Cleanup(func() { w.Delete(rule) })
	w.eventually("both policies", caller(), func(a envoy.Answer) error {
		for _, version := range w.versions() {
			c := a.Clusters[w.cluster(version)]
			if n := c.GetOutlierDetection().GetConsecutive_5Xx().GetValue(); n != 7 {
				return fmt.Errorf("%s: %d errors in a row take an endpoint out, want the 7 of ours", version, n)
			}
			if !strings.Contains(c.GetTransportSocket().String()+fmt.Sprint(c.GetTransportSocketMatches()), "proxy_protocol") {
				return fmt.Errorf("%s: the user's proxyProtocol is not in force", version)
			}
		}
		return nil
	})
}

// limitsAtTheGateway holds that the gateway's proxies, and no caller's, get the filter before the router, with a bucket for each
// cluster that the routes lead to.
func limitsAtTheGateway(t *testing.T, p *controlplane.Plane) {
	w := &meshWorld{Plane: p, golden: goldenNamed(t, "ratelimit-gateway"), t: t}
	w.apply()
	t.Cleanup(w.remove)
	near := ingress()
	near.Namespace, near.Name = space, "ingress-1" // a filter holds in its own namespace
	w.eventually("the gateway's filters", near, func(a envoy.Answer) error {
		buckets, err := gatewayBuckets(a)
		if err != nil {
			return err
		}
		for _, version := range w.versions() {
			if buckets[w.cluster(version)] != uint32(w.traffic.RateLimit.Burst) {
				return fmt.Errorf("buckets %v, want one of %d for %q", buckets, w.traffic.RateLimit.Burst, w.cluster(version))
			}
		}
		return nil
	})
	w.eventually("a caller's filters", caller(), func(a envoy.Answer) error {
		buckets, err := gatewayBuckets(a)
		if err == nil && len(buckets) > 0 {
			err = fmt.Errorf("a caller limits %v", buckets)
		}
		return err
	})
}

// gatewayBuckets are the sizes of the buckets by cluster of the rate limits that stand right before a router.
func gatewayBuckets(a envoy.Answer) (map[string]uint32, error) {
	out := map[string]uint32{}
	for _, l := range a.Listeners {
		managers, err := envoy.Managers(l)
		if err != nil {
			return nil, err
		}
		for _, m := range managers {
			filters := m.GetHttpFilters()
			var limit ratelimitv3.LocalRateLimit
			if len(filters) < 2 || filters[len(filters)-2].GetTypedConfig().UnmarshalTo(&limit) != nil {
				continue
			}
			for _, d := range limit.GetDescriptors() {
				out[d.GetEntries()[0].GetValue()] = d.GetTokenBucket().GetMaxTokens()
			}
		}
	}
	return out, nil
}

// limitsAPort holds that the virtual host of what a pod takes for the port has the port's bucket, for the very filter that limits
// the other ports.
func limitsAPort(t *testing.T, p *controlplane.Plane) {
	w := &meshWorld{Plane: p, golden: goldenNamed(t, "ratelimit-ports"), t: t}
	w.apply()
	t.Cleanup(w.remove)
	n := envoy.Node{Kind: envoy.Sidecar, Address: address(0), Name: w.pod(0), Namespace: space, Labels: w.labels(w.versions()[0])}
	w.eventually("the bucket of the port", n, func(a envoy.Answer) error {
		managers, err := envoy.Managers(a.Listeners["virtualInbound"])
		if err != nil {
			return err
		}
		buckets := map[string]uint32{}
		for _, m := range managers {
			filters := m.GetHttpFilters()
			var all ratelimitv3.LocalRateLimit
			if len(filters) < 2 || filters[len(filters)-2].GetTypedConfig().UnmarshalTo(&all) != nil || all.GetTokenBucket().GetMaxTokens() != 400 {
				return fmt.Errorf("before the router stands %v", filters)
			}
			for _, vh := range m.GetRouteConfig().GetVirtualHosts() {
				config, ok := vh.GetTypedPerFilterConfig()[filters[len(filters)-2].GetName()]
				if !ok {
					continue
				}
				var one ratelimitv3.LocalRateLimit
				if err := config.UnmarshalTo(&one); err != nil {
					return err
				}
				buckets[vh.GetName()] = one.GetTokenBucket().GetMaxTokens()
			}
		}
		if len(buckets) != 1 || buckets["inbound|http|8080"] != 5 {
			return fmt.Errorf("the virtual hosts have the buckets %v", buckets)
		}
		return nil
	})
}

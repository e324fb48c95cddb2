package controlplane_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/siskin-dev/siskin/mesh"
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
	p := controlplane.Start(t, "PILOT_FILTER_GATEWAY_CLUSTER_CONFIG=true") // what a gateway needs is said, not found by luck
	p.Apply(controlplane.NamespaceOf(space), publicGateway())
	t.Run("Tiers", func(t *testing.T) { followsCallers(t, p.For(t)) })
	t.Run("Policy", func(t *testing.T) { keepsTheUsersPolicy(t, p.For(t)) })
	t.Run("Quota", func(t *testing.T) { countsAtTheGateway(t, p.For(t)) })
	t.Run("QuotaOfPods", func(t *testing.T) { countsAtThePods(t, p.For(t)) })
}

// followsCallers holds that a pod of the service or of a tier before is told of its own version's route, a stranger of none, and
// that each route leads to one version.
func followsCallers(t *testing.T, p *controlplane.Plane) {
	w := &meshWorld{Plane: p, golden: goldenNamed(t, "tiers"), t: t}
	w.apply()
	t.Cleanup(w.remove)
	for i, tier := range w.traffic.Tiers {
		w.ServiceAt(space, tier.Name, w.pods(), controlplane.Port{Name: "http", Number: int64(tier.Port)})
		w.follows(i, map[string]string{"app": "billing", w.traffic.VersionLabel: "v2"}, "rest")
		for _, app := range append([]string{w.traffic.Service.Name}, names(w.traffic.Tiers[:i])...) {
			for _, version := range w.versions() {
				w.follows(i, map[string]string{"app": app, w.traffic.VersionLabel: version}, "from-"+version)
			}
		}
	}
}

// follows compares the routes of the i-th tier that a caller with the labels is told of; what is left goes by the last one.
func (w *meshWorld) follows(i int, labels map[string]string, last string) {
	w.t.Helper()
	tier := w.traffic.Tiers[i]
	want := w.meant(mesh.TierRoutes(w.traffic, i), mesh.Caller{Port: tier.Port, Labels: labels}, w.traffic.Host(tier), tier.Port)
	if got := want[len(want)-1].Name; got != last {
		w.t.Errorf("for %v the last route of %s is meant to be %q, want %q", labels, tier.Name, got, last)
	}
	n := envoy.Node{Kind: envoy.Sidecar, Address: "10.244.1.3", Name: "follower", Namespace: space, Labels: labels}
	w.eventually(fmt.Sprintf("the routes of %s for %v", tier.Name, labels), n, func(a envoy.Answer) error {
		return routesOf(a.Routes[strconv.Itoa(tier.Port)], w.traffic.Host(tier), want)
	})
}

func names(tiers []mesh.Tier) (all []string) {
	for _, t := range tiers {
		all = append(all, t.Name)
	}
	return all
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

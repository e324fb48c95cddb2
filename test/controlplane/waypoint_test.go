package controlplane_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	quotav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/istio"
	"github.com/siskin-dev/siskin/test/controlplane"
	"github.com/siskin-dev/siskin/test/envoy"
)

// neighbour is a chain of the waypoint's that belongs to another service.
const neighbour = "inbound-vip|8080|http|neighbour.edge.svc.cluster.local"

// waypoint is the proxy of the waypoint that golden inputs name.
func waypoint() envoy.Node {
	return envoy.Node{
		Kind: envoy.Waypoint, Address: "10.244.1.4", Name: "waypoint-0", Namespace: space, Labels: controlplane.WaypointLabels("waypoint"),
	}
}

// TestWaypoint gives istiod, in ambient mode, every golden output of mesh/istio and of mesh/gatewayapi, and asks as a waypoint does
// what it makes of it.
func TestWaypoint(t *testing.T) {
	t.Parallel() // it has a control plane of its own, and waits most of the time
	p := controlplane.Start(t, "PILOT_ENABLE_AMBIENT=true")
	p.Waypoint(space, "waypoint", waypoint().Address)
	p.Service(space, "neighbour", nil)
	p.Apply(publicGateway(), rateLimitService())
	for _, plane := range []string{"istio", "gatewayapi"} {
		for _, g := range goldensOf(t, plane) {
			t.Run(plane+"/"+g.name, func(t *testing.T) {
				w := &waypointWorld{meshWorld: meshWorld{Plane: p.For(t), golden: g, t: t}, http: plane == "gatewayapi"}
				w.serve()
				w.apply()
				t.Cleanup(w.remove)
				w.arrived()
				w.naming = w.cluster
				w.eventually("what the waypoint is told", waypoint(), w.told)
				w.counts()
			})
		}
	}
}

// waypointWorld is a golden output in a control plane of ambient mode: objects of Istio, or else an HTTPRoute.
type waypointWorld struct {
	meshWorld
	http bool
	// asks is what the waypoint asks the rate limit service about.
	asks []*routev3.RateLimit
}

// serve writes the Services of the tiers, and those by which an HTTPRoute tells versions apart.
func (w *waypointWorld) serve() {
	w.t.Helper()
	for _, tier := range w.traffic.Tiers {
		w.ServiceAt(space, tier.Name, w.pods(), controlplane.Port{Name: "http", Number: int64(tier.Port)})
	}
	if !w.http {
		return
	}
	for i, v := range w.versions() {
		w.Service(space, w.traffic.Service.Of(v), map[string]string{w.pod(i): address(i)})
	}
}

// arrived waits until all that is for other proxies is with them: that the waypoint has none of it would prove nothing before.
func (w *waypointWorld) arrived() {
	w.t.Helper()
	if !w.http {
		w.sidecar()
		w.inbound()
	}
}

// cluster is the waypoint's name for a version at a port.
func (w *waypointWorld) cluster(port int, version, host string) string {
	if w.http {
		return fmt.Sprintf("inbound-vip|%d|http|%s.%s.svc.cluster.local", port, w.traffic.Service.Of(version), space)
	}
	return fmt.Sprintf("inbound-vip|%d|%s/%s|%s", port, w.protocol(port), istio.SubsetName(version), host)
}

// protocol is the waypoint's word for what a port speaks.
func (w *waypointWorld) protocol(port int) string {
	if slices.ContainsFunc(w.ports(), func(p mesh.Port) bool { return p.Number == port && p.Protocol != mesh.HTTP }) {
		return "tcp"
	}
	return "http"
}

// way is what becomes of connections in a chain of filters: of their requests, where there are routes, or else of each as a whole;
// and whether requests count against the service's quotas.
type way struct {
	routes  []envoy.Route
	streams []envoy.Destination
	counts  bool
}

// ways are those that were meant, by chain: of each port of the service and of its tiers, and of a service that is none of ours.
func (w *waypointWorld) ways() map[string]way {
	host, all := w.traffic.Service.FQDN(), map[string]way{neighbour: {}}
	for _, p := range w.ports() {
		if p.Protocol == mesh.HTTP {
			all[w.chain(p.Number, host)] = way{routes: w.routes(mesh.Routes(w.traffic), p.Number, host, w.traffic.Service.Port), counts: true}
		}
	}
	for _, s := range mesh.Streams(w.traffic) {
		r := mesh.Route{Destinations: s.Destinations, Port: s.Port.Number}
		all[w.chain(s.Port.Number, host)] = way{streams: w.destinations(r, host, 0)}
	}
	for i, tier := range w.traffic.Tiers {
		host := w.traffic.Host(tier)
		all[w.chain(tier.Port, host)] = way{routes: w.routes(mesh.TierRoutes(w.traffic, i), tier.Port, host, tier.Port)}
	}
	return all
}

func (w *waypointWorld) chain(port int, host string) string {
	return fmt.Sprintf("inbound-vip|%d|%s|%s", port, w.protocol(port), host)
}

// routes are those for what comes to a port, from callers whose labels nobody knows. No filter of ours reaches them, so nothing
// hashes, and an HTTPRoute cannot turn retries off.
func (w *waypointWorld) routes(all []mesh.Route, port int, host string, own int) []envoy.Route {
	meant := w.meant(all, mesh.Caller{Port: port}, host, own)
	for i := range meant {
		meant[i].Hash = nil
		if w.http {
			meant[i].Retries, meant[i].RetryOn = 2, "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
		}
	}
	return meant
}

// told compares the clusters, and what every chain of filters does.
func (w *waypointWorld) told(a envoy.Answer) error {
	errs, ways := []error{w.clustersAre(a)}, w.ways()
	for _, l := range a.Listeners {
		for _, chain := range envoy.Chains(l) {
			if err := w.chainIs(a, chain, ways[chain.GetName()]); err != nil {
				errs = append(errs, fmt.Errorf("chain %q of listener %q: %w", chain.GetName(), l.GetName(), err))
			}
			delete(ways, chain.GetName())
		}
	}
	for name := range ways {
		errs = append(errs, fmt.Errorf("there is no chain %q", name))
	}
	return errors.Join(errs...)
}

// chainIs compares a chain with the way that was meant, and the limits, which stand in every chain that takes requests.
func (w *waypointWorld) chainIs(a envoy.Answer, chain *listenerv3.FilterChain, meant way) error {
	if len(meant.streams) > 0 {
		got, err := envoy.StreamsOf(chain)
		if diff := gocmp.Diff(meant.streams, got, cmpopts.EquateEmpty()); diff != "" {
			err = errors.Join(err, fmt.Errorf("destinations: -meant, +istiod's:\n%s", diff))
		}
		return err
	}
	m, err := envoy.Manager(chain)
	if m == nil && len(meant.routes) == 0 {
		return err
	}
	l := limited{want: w.atShared(mesh.AtWaypoint), describes: w.describesCluster}
	if !meant.counts {
		l.want.Global = nil
	}
	errs := []error{err, l.are(m, map[string]bool{})}
	if l.want.Global != nil {
		errs = append(errs, asks(a, l.want.Global))
	}
	if len(meant.routes) > 0 {
		errs = append(errs, routesOf(m.GetRouteConfig(), "any.example.com", meant.routes))
	}
	return errors.Join(errs...)
}

// describesCluster holds that the waypoint asks by the version at a port to which a request is routed.
func (w *waypointWorld) describesCluster(f *quotav3.RateLimit) error {
	w.asks = f.GetRateLimits()
	return w.describes(w.asks, envoy.Request{}, "destination_cluster", "somewhere")
}

// counts holds that the reference service has a quota for all that the waypoint asks about.
func (w *waypointWorld) counts() {
	w.t.Helper()
	if w.asks == nil {
		return
	}
	c := w.counter(w.asks)
	for _, version := range w.versions() {
		for _, p := range w.ports() {
			if name := w.named(p.Number, version, w.traffic.Service.FQDN()); c.refused(1, name, envoy.Request{}) != nil {
				w.t.Errorf("the first request to %s is over the limit", name)
			}
		}
	}
}

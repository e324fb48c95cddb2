package controlplane_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/istio"
	"github.com/siskin-dev/siskin/test/controlplane"
	"github.com/siskin-dev/siskin/test/envoy"
)

// port is how a sidecar's routes to the service are called, and entry how a gateway's are, which listens on entryPort.
const (
	port      = "8080"
	entry     = "http.80"
	entryPort = 80
)

// TestIstiod gives istiod every golden output of mesh/istio and asks, as the proxies of a mesh do, what it makes of it.
func TestIstiod(t *testing.T) {
	p := controlplane.Start(t)
	p.Apply(controlplane.NamespaceOf(space), publicGateway(), rateLimitService())
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			w := &meshWorld{Plane: p.For(t), golden: g, t: t}
			w.apply()
			t.Cleanup(w.remove)
			sidecar, gateway := w.sidecar(), w.router()
			w.inbound()
			w.requests(sidecar, gateway)
		})
	}
}

// publicGateway is the gateway that a golden input names.
func publicGateway() *unstructured.Unstructured { return gatewayIn(space) }

func gatewayIn(space string) *unstructured.Unstructured {
	o := controlplane.Object("networking.istio.io/v1", "Gateway", space, "public", nil)
	o.Object["spec"] = map[string]any{
		"selector": map[string]any{"istio": "ingressgateway"},
		"servers": []any{map[string]any{
			"port": map[string]any{"number": int64(80), "name": "http", "protocol": "HTTP"}, "hosts": []any{"*"},
		}},
	}
	return o
}

// meshWorld is a golden output in a real control plane.
type meshWorld struct {
	*controlplane.Plane
	golden
	t *testing.T
	// naming is what the proxies that are asked call a version of a host at a port; without one these are subsets on the way out.
	naming func(port int, version, host string) string
}

// apply writes the golden objects, the Service, and a pod of each version.
func (w *meshWorld) apply() {
	w.t.Helper()
	for i, version := range w.versions() {
		w.Pod(space, w.pod(i), address(i), w.labels(version))
	}
	var ports []controlplane.Port
	for _, p := range w.ports() {
		ports = append(ports, controlplane.Port{Name: strings.ToLower(fmt.Sprintf("%s-%d", p.Protocol, p.Number)), Number: int64(p.Number)})
	}
	w.ServiceAt(space, service, w.pods(), ports...)
	if w.traffic.Service.Delegate {
		w.objects = append(w.objects, w.root())
	}
	w.Apply(w.objects...)
}

// root is a VirtualService of the user's that delegates to the golden one.
func (w *meshWorld) root() *unstructured.Unstructured {
	o := controlplane.Object("networking.istio.io/v1", "VirtualService", space, "root", nil)
	o.Object["spec"] = map[string]any{
		"hosts": []any{w.traffic.Service.FQDN()},
		"http":  []any{map[string]any{"delegate": map[string]any{"name": w.traffic.Rollout, "namespace": space}}},
	}
	return o
}

func (w *meshWorld) remove() {
	w.Delete(w.objects...)
	for name := range w.pods() {
		w.Delete(controlplane.Object("v1", "Pod", space, name, nil))
	}
}

// eventually asks istiod as a proxy until the answer is as wanted.
func (w *meshWorld) eventually(what string, n envoy.Node, is func(envoy.Answer) error) {
	w.t.Helper()
	controlplane.Until(w.t, what, func(ctx context.Context) error {
		a, err := envoy.Ask(ctx, w.ADS, n)
		if err != nil {
			return err
		}
		return is(a)
	})
}

// caller is the sidecar of somebody who calls the service.
func caller() envoy.Node {
	return envoy.Node{Kind: envoy.Sidecar, Address: "10.244.1.1", Name: "caller-0", Namespace: space, Labels: map[string]string{"app": "caller"}}
}

// ingress is a proxy of the gateway.
func ingress() envoy.Node {
	return envoy.Node{
		Kind: envoy.Router, Address: "10.244.1.2", Name: "ingress-0", Namespace: "istio-system",
		Labels: map[string]string{"istio": "ingressgateway"},
	}
}

// sidecar checks what a caller's sidecar is told about every port, and returns it.
func (w *meshWorld) sidecar() envoy.Answer {
	w.t.Helper()
	var answer envoy.Answer
	w.eventually("the sidecar's routes, streams and clusters", caller(), func(a envoy.Answer) error {
		answer = a
		errs := []error{w.streamsAre(a), w.clustersAre(a)}
		for _, p := range w.ports() {
			if p.Protocol == mesh.HTTP {
				errs = append(errs, w.routesAre(a.Routes[strconv.Itoa(p.Number)], p.Number))
			}
		}
		return errors.Join(errs...)
	})
	return answer
}

// router checks what the gateway is told, and returns it: the same routes for the hosts that enter there, else nothing of the
// service.
func (w *meshWorld) router() envoy.Answer {
	w.t.Helper()
	var answer envoy.Answer
	w.eventually("the gateway's routes", ingress(), func(a envoy.Answer) error {
		answer = a
		if !w.enters() {
			return w.absent(a.Routes[entry])
		}
		return errors.Join(w.routesAre(a.Routes[entry], entryPort), w.clustersAre(a))
	})
	return answer
}

// enters says whether requests come through a gateway: to the service's own port, and only where it speaks HTTP.
func (w *meshWorld) enters() bool {
	return len(w.traffic.Service.Gateways) > 0 && w.ports()[0].Protocol == mesh.HTTP
}

// absent holds that a gateway that lets in no requests for the service does not lead to it.
func (w *meshWorld) absent(config *routev3.RouteConfiguration) error {
	if config == nil {
		return errors.New("the gateway has no routes at all, not even those for no host")
	}
	if strings.Contains(config.String(), w.traffic.Service.FQDN()) {
		return fmt.Errorf("the gateway leads to the service: %s", config)
	}
	return nil
}

// routesAre compares the routes of every host with those that were meant for who comes to the port, in order.
func (w *meshWorld) routesAre(config *routev3.RouteConfiguration, port int) error {
	want := w.meant(mesh.Routes(w.traffic), mesh.Caller{Port: port}, w.traffic.Service.FQDN(), w.traffic.Service.Port)
	var errs []error
	for _, host := range w.hosts() {
		errs = append(errs, routesOf(config, host, want))
	}
	return errors.Join(errs...)
}

// routesOf compares the routes of a host with those that were meant. None at all would prove nothing.
func routesOf(config *routev3.RouteConfiguration, host string, want []envoy.Route) error {
	vh := envoy.Host(config, host)
	if vh == nil || len(want) == 0 {
		return fmt.Errorf("virtual host %v serves %q, for which %d routes are meant", vh, host, len(want))
	}
	got, err := envoy.Routes(vh)
	if err != nil {
		return err
	}
	if diff := gocmp.Diff(want, got, cmpopts.IgnoreUnexported(envoy.Route{}), cmpopts.EquateEmpty()); diff != "" {
		return fmt.Errorf("routes of %q: -meant, +istiod's:\n%s", host, diff)
	}
	return nil
}

// streamsAre compares what becomes of connections to each port that speaks TCP or TLS.
func (w *meshWorld) streamsAre(a envoy.Answer) error {
	address := w.ClusterIP(space, service)
	for _, s := range mesh.Streams(w.traffic) {
		want := w.destinations(mesh.Route{Destinations: s.Destinations, Port: s.Port.Number}, w.traffic.Service.FQDN(), 0)
		names := []string{""}
		if s.Port.Protocol == mesh.TLS {
			short := w.traffic.Service.Name + "." + w.traffic.Service.Namespace
			names = append(w.hosts(), short, short+".svc") // as callers in the mesh may name it
		}
		for _, name := range names {
			got, err := a.Streams(address, uint32(s.Port.Number), name)
			if err != nil {
				return err
			}
			if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || len(want) == 0 {
				return fmt.Errorf("connections to port %d for %q: -meant, +istiod's:\n%s", s.Port.Number, name, diff)
			}
		}
	}
	return nil
}

// meant are routes to a service in Envoy's terms for somebody who comes to a port: one for each match, of which all conditions
// must hold. istiod leaves out what is for other ports and other callers, and what would come after a route that takes everything.
func (w *meshWorld) meant(routes []mesh.Route, by mesh.Caller, host string, own int) []envoy.Route {
	var out []envoy.Route
	for _, r := range routes {
		matches := r.Matches
		if len(matches) == 0 {
			matches = []mesh.Match{{}}
		}
		for _, m := range matches {
			if m.Port != 0 && m.Port != by.Port || !carries(by.Labels, m.Source) {
				continue
			}
			out = append(out, w.meantOf(r, m, host, own))
			if m.Host == "" && len(m.Headers)+len(m.Without) == 0 {
				return out
			}
		}
	}
	return out
}

// carries says whether a caller's labels are, among others, those that are asked for.
func carries(labels, asked map[string]string) bool {
	for name, value := range asked {
		if has, ok := labels[name]; !ok || has != value {
			return false
		}
	}
	return true
}

// meantOf is one match of a route in Envoy's terms.
func (w *meshWorld) meantOf(r mesh.Route, m mesh.Match, host string, own int) envoy.Route {
	e := envoy.Route{Name: r.Name, Match: conditions(m), Destinations: w.destinations(r, host, own)}
	if w.traffic.HashHeader != "" && strings.HasPrefix(r.Name, w.traffic.HashRoute()) {
		e.Hash = []string{"decides", "header " + w.traffic.HashHeader}
	}
	if r.Mirror != nil {
		// Envoy would append "-shadow" to the host, and istiod asks it not to.
		e.Mirrors = []string{fmt.Sprintf("%s %d%%, host as it was", w.named(cmp.Or(r.Port, own), r.Mirror.Version, host), r.Mirror.Percent)}
	}
	if !r.NoRetries {
		// Istio's default.
		e.Retries, e.RetryOn = 2, "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
	}
	return e
}

// conditions are those of a match in the words of envoy.Route.
func conditions(m mesh.Match) []string {
	out := []string{"prefix /"}
	if m.Host != "" {
		out = append(out, ":authority regex (?i)"+regexp.QuoteMeta(m.Host)+"(:[0-9]+)?")
	}
	for name, s := range m.Headers {
		out = append(out, name+" "+words(s))
	}
	for name, s := range m.Without {
		out = append(out, "not or empty "+name+" "+words(s))
	}
	slices.Sort(out)
	return out
}

func words(s mesh.StringMatch) string {
	if s.Regex != "" {
		return "regex " + s.Regex
	}
	return "exact " + s.Exact
}

// destinations are those of a route in Envoy's terms; a single one has no weight of its own.
func (w *meshWorld) destinations(r mesh.Route, host string, own int) []envoy.Destination {
	var out []envoy.Destination
	for _, d := range r.Destinations {
		if d.Weight == 0 {
			continue // istiod leaves it out
		}
		e := envoy.Destination{
			Cluster: w.named(cmp.Or(r.Port, own), d.Version, host), Weight: uint32(d.Weight), SetRequest: d.SetRequest, SetResponse: d.SetResponse, AddResponse: d.AddResponse,
		}
		if len(r.Destinations) == 1 {
			e.Weight = 1
		}
		out = append(out, e)
	}
	return out
}

// cluster is Istio's name for a version of the service at its own port.
func (w *meshWorld) cluster(version string) string {
	return cluster(w.traffic.Service.Port, version, w.traffic.Service.FQDN())
}

// named is cluster, or what stands for it.
func (w *meshWorld) named(port int, version, host string) string {
	if w.naming != nil {
		return w.naming(port, version, host)
	}
	return cluster(port, version, host)
}

func cluster(port int, version, host string) string {
	return fmt.Sprintf("outbound|%d|%s|%s", port, istio.SubsetName(version), host)
}

// subset is what a proxy knows of a version.
type subset struct {
	Addresses []string
	Policy    clusterv3.Cluster_LbPolicy
}

// isSubset says whether a cluster is one of the service's, and not of all its pods ("http" and "tcp" are those at a waypoint).
func (w *meshWorld) isSubset(name string) bool {
	parts := strings.Split(name, "|")
	return len(parts) == 4 && parts[3] == w.traffic.Service.FQDN() && !slices.Contains([]string{"", "http", "tcp"}, parts[2])
}

// clustersAre holds that each version is a cluster of its own pods and of nobody else's at each port, that nothing hashes, and
// that no other subset is there.
func (w *meshWorld) clustersAre(a envoy.Answer) error {
	got, want := map[string]subset{}, map[string]subset{}
	for i, version := range w.versions() {
		for _, p := range w.ports() {
			at := net.JoinHostPort(address(i), strconv.Itoa(p.Number))
			want[w.named(p.Number, version, w.traffic.Service.FQDN())] = subset{[]string{at}, clusterv3.Cluster_LEAST_REQUEST}
		}
	}
	for name, c := range a.Clusters {
		if _, ok := want[name]; !ok && !w.isSubset(name) {
			continue
		}
		s := subset{Policy: c.GetLbPolicy()}
		for _, locality := range a.Endpoints[name].GetEndpoints() {
			for _, e := range locality.GetLbEndpoints() {
				at := e.GetEndpoint().GetAddress().GetSocketAddress()
				s.Addresses = append(s.Addresses, net.JoinHostPort(at.GetAddress(), strconv.Itoa(int(at.GetPortValue()))))
			}
		}
		got[name] = s
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		return fmt.Errorf("subsets: -meant, +istiod's:\n%s", diff)
	}
	return nil
}

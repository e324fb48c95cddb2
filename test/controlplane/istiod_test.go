package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/istio"
	"github.com/siskin-dev/siskin/test/controlplane"
	"github.com/siskin-dev/siskin/test/envoy"
)

// port is how a sidecar's routes to the service are called, and entry how a gateway's are.
const (
	port  = "8080"
	entry = "http.80"
)

// TestIstiod gives istiod every golden output of mesh/istio and asks, as the proxies of a mesh do, what it makes of it.
func TestIstiod(t *testing.T) {
	p := controlplane.Start(t)
	p.Apply(controlplane.NamespaceOf(space), publicGateway())
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			w := &meshWorld{Plane: p.For(t), golden: g, t: t}
			w.apply()
			t.Cleanup(w.remove)
			if len(mesh.Routes(w.traffic)) == 0 {
				return // streams alone: istiod takes them, and there are no routes to ask for
			}
			routes := w.sidecar()
			w.router()
			w.inbound()
			w.requests(routes)
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
}

// apply writes the golden objects, the Service, and a pod of each version.
func (w *meshWorld) apply() {
	w.t.Helper()
	for i, version := range w.versions() {
		w.Pod(space, w.pod(i), address(i), w.labels(version))
	}
	w.Service(space, service, w.pods())
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

// sidecar checks what a caller's sidecar is told, and returns its routes.
func (w *meshWorld) sidecar() *routev3.RouteConfiguration {
	w.t.Helper()
	var routes *routev3.RouteConfiguration
	w.eventually("the sidecar's routes and clusters", caller(), func(a envoy.Answer) error {
		routes = a.Routes[port]
		return errors.Join(w.routesAre(routes, w.traffic.Service.FQDN()), w.clustersAre(a))
	})
	return routes
}

// router checks what the gateway is told: the same routes for the hosts that enter there, else nothing of the service.
func (w *meshWorld) router() {
	w.t.Helper()
	w.eventually("the gateway's routes", ingress(), func(a envoy.Answer) error {
		if len(w.traffic.Service.Gateways) == 0 {
			return w.absent(a.Routes[entry])
		}
		for _, host := range slices.Concat(w.traffic.Service.Hosts, w.traffic.PreviewHosts) {
			if err := w.routesAre(a.Routes[entry], strings.Replace(host, "*", "any", 1)); err != nil {
				return err
			}
		}
		return w.clustersAre(a)
	})
}

// absent holds that a gateway that nobody named does not lead to the service.
func (w *meshWorld) absent(config *routev3.RouteConfiguration) error {
	if config == nil {
		return errors.New("the gateway has no routes at all, not even those for no host")
	}
	if strings.Contains(config.String(), w.traffic.Service.FQDN()) {
		return fmt.Errorf("the gateway leads to the service: %s", config)
	}
	return nil
}

// routesAre compares the routes of a host with those that were meant, in order.
func (w *meshWorld) routesAre(config *routev3.RouteConfiguration, host string) error {
	vh := envoy.Host(config, host)
	if vh == nil {
		return fmt.Errorf("no virtual host serves %q", host)
	}
	got, err := envoy.Routes(vh)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(w.meant(), got, cmpopts.IgnoreUnexported(envoy.Route{}), cmpopts.EquateEmpty()); diff != "" {
		return fmt.Errorf("routes of %q: -meant, +istiod's:\n%s", host, diff)
	}
	return nil
}

// meant are the routes of the traffic in Envoy's terms: one for each match, of which all conditions must hold.
func (w *meshWorld) meant() []envoy.Route {
	var out []envoy.Route
	for _, r := range mesh.Routes(w.traffic) {
		matches := r.Matches
		if len(matches) == 0 {
			matches = []mesh.Match{{}}
		}
		for _, m := range matches {
			if m.Port != 0 && strconv.Itoa(m.Port) != port {
				continue // istiod tells each listener its own
			}
			e := envoy.Route{Name: r.Name, Match: conditions(m), Destinations: w.destinations(r)}
			if w.traffic.HashHeader != "" && r.Name == w.traffic.HashRoute() {
				e.Hash = []string{"decides", "header " + w.traffic.HashHeader}
			}
			if r.Mirror != nil {
				// Envoy would append "-shadow" to the host, and istiod asks it not to.
				e.Mirrors = []string{fmt.Sprintf("%s %d%%, host as it was", w.cluster(r.Mirror.Version), r.Mirror.Percent)}
			}
			if !r.NoRetries {
				// Istio's default.
				e.Retries, e.RetryOn = 2, "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
			}
			out = append(out, e)
		}
	}
	return out
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
func (w *meshWorld) destinations(r mesh.Route) []envoy.Destination {
	var out []envoy.Destination
	for _, d := range r.Destinations {
		if d.Weight == 0 {
			continue // istiod leaves it out
		}
		e := envoy.Destination{
			Cluster: w.cluster(d.Version), Weight: uint32(d.Weight), SetRequest: d.SetRequest, SetResponse: d.SetResponse, AddResponse: d.AddResponse,
		}
		if len(r.Destinations) == 1 {
			e.Weight = 1
		}
		out = append(out, e)
	}
	return out
}

// cluster is Istio's name for a version of the service.
func (w *meshWorld) cluster(version string) string {
	return fmt.Sprintf("outbound|%s|%s|%s", port, istio.SubsetName(version), w.traffic.Service.FQDN())
}

// subset is what a proxy knows of a version.
type subset struct {
	Addresses []string
	Policy    clusterv3.Cluster_LbPolicy
}

// clustersAre holds that each version is a cluster of its own pods and of nobody else's, that nothing hashes, and that
// no other subset is there.
func (w *meshWorld) clustersAre(a envoy.Answer) error {
	got, want := map[string]subset{}, map[string]subset{}
	for i, version := range w.versions() {
		want[w.cluster(version)] = subset{[]string{address(i)}, clusterv3.Cluster_LEAST_REQUEST}
	}
	for name, c := range a.Clusters {
		parts := strings.Split(name, "|")
		if len(parts) != 4 || parts[3] != w.traffic.Service.FQDN() || parts[2] == "" {
			continue
		}
		s := subset{Policy: c.GetLbPolicy()}
		for _, locality := range a.Endpoints[name].GetEndpoints() {
			for _, e := range locality.GetLbEndpoints() {
				s.Addresses = append(s.Addresses, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
			}
		}
		got[name] = s
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("subsets: -meant, +istiod's:\n%s", diff)
	}
	return nil
}

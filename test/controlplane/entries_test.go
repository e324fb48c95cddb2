package controlplane_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/test/controlplane"
	"github.com/siskin-dev/siskin/test/envoy"
)

// notListed is a port of the Service that speaks HTTP and of which the traffic says nothing.
const notListed = 9999

// TestEntries asks istiod where requests and connections go whose port is none that the traffic names.
func TestEntries(t *testing.T) {
	t.Parallel() // it has a control plane of its own, and waits most of the time
	p := controlplane.Start(t)
	public := publicGateway()
	servers, _, _ := unstructured.NestedSlice(public.Object, "spec", "servers")
	public.Object["spec"].(map[string]any)["servers"] = append(servers, map[string]any{
		"port": map[string]any{"number": int64(443), "name": "tls", "protocol": "TLS"}, "hosts": []any{"*"}, "tls": map[string]any{"mode": "PASSTHROUGH"},
	})
	p.Apply(controlplane.NamespaceOf(space), public)
	for name, is := range map[string]func(w *meshWorld){
		"hosts-gateways": (*meshWorld).leavesOthers, "none-25": (*meshWorld).leavesOthers, "ports": (*meshWorld).leavesOthers, "tls": (*meshWorld).entersByName,
	} {
		t.Run(name, func(t *testing.T) {
			all := goldens(t)
			i := slices.IndexFunc(all, func(g golden) bool { return g.name == name })
			w := &meshWorld{Plane: p.For(t), golden: all[i], t: t}
			w.apply()
			t.Cleanup(w.remove)
			is(w)
		})
	}
}

// leavesOthers: at a port that is not listed everybody meets every version, as without Siskin.
func (w *meshWorld) leavesOthers() {
	w.t.Helper()
	w.ServiceAt(space, service, w.pods(), controlplane.Port{Name: "http-own", Number: 8080}, controlplane.Port{Name: "http-other", Number: notListed})
	want := []envoy.Destination{{Cluster: fmt.Sprintf("outbound|%d||%s", notListed, w.traffic.Service.FQDN()), Weight: 1}}
	w.eventually("the port that is not listed to lead to all", caller(), func(a envoy.Answer) error {
		if err := w.routesAre(a.Routes[port], 8080); err != nil {
			return err // before istiod knows the routes, everything leads to all
		}
		vh := envoy.Host(a.Routes[fmt.Sprint(notListed)], w.traffic.Service.FQDN())
		if vh == nil {
			return errors.New("no virtual host serves it")
		}
		routes, err := envoy.Routes(vh)
		if err != nil {
			return err
		}
		if len(routes) != 1 || len(routes[0].Match) != 1 || fmt.Sprint(routes[0].Destinations) != fmt.Sprint(want) {
			return fmt.Errorf("routes %+v", routes)
		}
		return nil
	})
}

// entersByName: a gateway's server has a number of its own, and callers in the mesh know shorter names.
func (w *meshWorld) entersByName() {
	w.t.Helper()
	want := []string{w.cluster("v1") + " 95", w.cluster("v2") + " 5"}
	names := append(w.hosts(), service+"."+space, service+"."+space+".svc")
	check := func(a envoy.Answer, address string, port uint32) error {
		for _, name := range names {
			all, err := a.Streams(address, port, name)
			if err != nil {
				return err
			}
			var got []string
			for _, d := range all {
				got = append(got, fmt.Sprintf("%s %d", d.Cluster, d.Weight))
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("connections to port %d for %q go to %q", port, name, got)
			}
		}
		return nil
	}
	address := w.ClusterIP(space, service)
	w.eventually("a sidecar's streams", caller(), func(a envoy.Answer) error { return check(a, address, 8443) })
	w.eventually("the gateway's streams", ingress(), func(a envoy.Answer) error { return check(a, "0.0.0.0", 443) })
}

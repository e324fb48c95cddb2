package controlplane_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/gateway"
)

// golden is a pair of mesh/istio: who meets which variant, and the objects that say so.
type golden struct {
	name    string
	traffic mesh.Traffic
	objects []*unstructured.Unstructured
}

// goldens reads the pairs that the unit tests of mesh/istio hold to each other.
func goldens(t *testing.T) []golden {
	t.Helper()
	return goldensOf(t, "istio")
}

// goldensOf are those of a package of mesh.
func goldensOf(t *testing.T, plane string) []golden {
	t.Helper()
	inputs, err := filepath.Glob(filepath.Join("..", "..", "mesh", plane, "testdata", "*.in.yaml"))
	if err != nil || len(inputs) < 5 {
		t.Fatalf("finding the golden inputs of mesh/%s: %d files, %v", plane, len(inputs), err)
	}
	var all []golden
	for _, in := range inputs {
		g := golden{name: strings.TrimSuffix(filepath.Base(in), ".in.yaml")}
		if err := yaml.UnmarshalStrict(read(t, in), &g.traffic); err != nil {
			t.Fatalf("reading %s: %v", in, err)
		}
		if stable := &g.traffic.Shares[0]; stable.Buckets == nil {
			stable.Buckets = rest(g.traffic.Shares[1:])
		}
		for doc := range strings.SplitSeq(string(read(t, strings.TrimSuffix(in, ".in.yaml")+".out.yaml")), "\n---\n") {
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
				t.Fatalf("reading what belongs to %s: %v", in, err)
			}
			g.objects = append(g.objects, o)
		}
		all = append(all, g)
	}
	return all
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// rest are the buckets that nobody else has.
func rest(taken []mesh.Share) []int {
	var buckets []int
	for b := range mesh.Buckets {
		if !slices.ContainsFunc(taken, func(s mesh.Share) bool { return slices.Contains(s.Buckets, b) }) {
			buckets = append(buckets, b)
		}
	}
	return buckets
}

// ports are the service's own and the further ones.
func (g golden) ports() []mesh.Port {
	own := mesh.Port{Number: g.traffic.Service.Port, Protocol: cmp.Or(g.traffic.Service.Protocol, mesh.HTTP)}
	return append([]mesh.Port{own}, g.traffic.Service.Ports...)
}

// hosts are those for which the routes are; a wildcard stands for a name that it takes.
func (g golden) hosts() []string {
	all := []string{g.traffic.Service.FQDN()}
	for _, host := range slices.Concat(g.traffic.Service.Hosts, g.traffic.PreviewHosts) {
		all = append(all, strings.Replace(host, "*", "any", 1))
	}
	return all
}

// versions are those that take part, in the order of the shares.
func (g golden) versions() []string {
	var out []string
	for _, s := range g.traffic.Shares {
		out = append(out, s.Version)
	}
	return out
}

// labels are those of a version's pods.
func (g golden) labels(version string) map[string]string {
	return map[string]string{"app": g.traffic.Service.Name, g.traffic.VersionLabel: version}
}

// pods are the pods by name, and address their address: one for each version.
func (g golden) pods() (pods map[string]string) {
	pods = map[string]string{}
	for i := range g.versions() {
		pods[g.pod(i)] = address(i)
	}
	return pods
}

func (g golden) pod(i int) string { return fmt.Sprintf("%s-%s-%d", service, g.name, i) }

// address is that of the pod of the i-th version; nothing listens there.
func address(i int) string { return fmt.Sprintf("10.244.0.%d", i+1) }

// forGateway are the objects in the form that mesh/gateway takes, with a ServiceEntry in the place of the Service.
func (g golden) forGateway(t *testing.T) gateway.Objects {
	t.Helper()
	out := gateway.Objects{ServiceEntries: []*networkingv1.ServiceEntry{g.serviceEntry(t)}}
	for _, o := range g.objects {
		switch o.GetKind() {
		case "VirtualService":
			out.VirtualServices = append(out.VirtualServices, as[networkingv1.VirtualService](t, o))
		case "DestinationRule":
			out.DestinationRules = append(out.DestinationRules, as[networkingv1.DestinationRule](t, o))
		case "EnvoyFilter":
			out.EnvoyFilters = append(out.EnvoyFilters, as[v1alpha3.EnvoyFilter](t, o))
		}
	}
	return out
}

func (g golden) serviceEntry(t *testing.T) *networkingv1.ServiceEntry {
	t.Helper()
	ports, endpoints := []any{}, []any{}
	for _, p := range g.ports() {
		if p.Protocol == mesh.HTTP { // mesh/gateway knows no other
			ports = append(ports, map[string]any{"number": p.Number, "name": fmt.Sprintf("http-%d", p.Number), "protocol": "HTTP"})
		}
	}
	for i, v := range g.versions() {
		endpoints = append(endpoints, map[string]any{"address": address(i), "labels": g.labels(v)})
	}
	return as[networkingv1.ServiceEntry](t, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": map[string]any{"name": service, "namespace": space},
		"spec": map[string]any{
			"hosts": []any{g.traffic.Service.FQDN()}, "location": "MESH_INTERNAL", "resolution": "STATIC",
			"ports": ports, "endpoints": endpoints,
		},
	}})
}

// as is the object as a typed one.
func as[T any](t *testing.T, o *unstructured.Unstructured) *T {
	t.Helper()
	data, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	out := new(T)
	if err := json.Unmarshal(data, out); err != nil {
		t.Fatalf("reading %s %s: %v", o.GetKind(), o.GetName(), err)
	}
	return out
}

package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	api "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/istio"
)

// host is the service that the tests route to.
const host = "coolant.edge.svc.cluster.local"

// decode reads objects from YAML documents, strictly.
func decode(t testing.TB, text string) Objects {
	t.Helper()
	var o Objects
	for i, document := range bytes.Split([]byte(text), []byte("\n---\n")) {
		var head metav1.TypeMeta
		if err := yaml.Unmarshal(document, &head); err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		var err error
		switch head.Kind {
		case "VirtualService":
			o.VirtualServices, err = appended(o.VirtualServices, document)
		case "DestinationRule":
			o.DestinationRules, err = appended(o.DestinationRules, document)
		case "ServiceEntry":
			o.ServiceEntries, err = appended(o.ServiceEntries, document)
		case "WorkloadEntry":
			o.WorkloadEntries, err = appended(o.WorkloadEntries, document)
		case "EnvoyFilter":
			o.EnvoyFilters, err = appended(o.EnvoyFilters, document)
		case "ConfigMap": // for the rate limit service, and not for a data plane
		default:
			t.Fatalf("document %d has the unknown kind %q", i, head.Kind)
		}
		if err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
	}
	return o
}

func appended[T any](to []*T, document []byte) ([]*T, error) {
	o := new(T)
	err := yaml.UnmarshalStrict(document, o)
	return append(to, o), err
}

// virtualService is an object with the given http section.
func virtualService(t testing.TB, http string) *networkingv1.VirtualService {
	t.Helper()
	return decode(t, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: coolant, namespace: edge}
spec:
  hosts: [coolant]
  http:
`+http).VirtualServices[0]
}

// serviceEntry is the service with the workloads of its namespace that carry app=coolant.
func serviceEntry(t testing.TB) *networkingv1.ServiceEntry {
	t.Helper()
	return decode(t, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: coolant, namespace: edge}
spec:
  hosts: [`+host+`]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8080, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: coolant}}
`).ServiceEntries[0]
}

// workloadEntry runs a version at an address.
func workloadEntry(t testing.TB, version, address string) *networkingv1.WorkloadEntry {
	t.Helper()
	name, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	we := &networkingv1.WorkloadEntry{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "coolant-" + version + "-" + text}}
	we.Spec.Address, we.Spec.Ports = name, map[string]uint32{"http": uint32(number)}
	we.Spec.Labels = map[string]string{"app": "coolant", "version": version}
	return we
}

// destinationRule has the subsets v1 and v2.
func destinationRule(t testing.TB) *networkingv1.DestinationRule {
	t.Helper()
	dr := &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "coolant"}}
	dr.Spec.Host = host
	for _, version := range []string{"v1", "v2"} {
		dr.Spec.Subsets = append(dr.Spec.Subsets, &api.Subset{Name: version, Labels: map[string]string{"version": version}})
	}
	return dr
}

// rendered are the objects of a traffic beside the endpoints.
func rendered(t testing.TB, traffic mesh.Traffic, endpoints Objects) Objects {
	t.Helper()
	o, err := istio.Render(traffic)
	if err != nil {
		t.Fatal(err)
	}
	endpoints.VirtualServices = []*networkingv1.VirtualService{o.VirtualService}
	endpoints.DestinationRules = []*networkingv1.DestinationRule{o.DestinationRule}
	if o.EnvoyFilter != nil {
		endpoints.EnvoyFilters = []*v1alpha3.EnvoyFilter{o.EnvoyFilter}
	}
	return endpoints
}

// split is a traffic in which the canary v2 owns the buckets and v1 the rest.
func split(canary []int) mesh.Traffic {
	var rest []int
	for b := range mesh.Buckets {
		if !slices.Contains(canary, b) {
			rest = append(rest, b)
		}
	}
	return mesh.Traffic{
		Rollout:      "coolant",
		Service:      mesh.Service{Namespace: "edge", Name: "coolant", Port: 8080},
		VersionLabel: "version",
		BucketHeader: mesh.BucketHeader,
		Shares: []mesh.Share{
			{Variant: mesh.Stable, Version: "v1", Buckets: rest},
			{Variant: mesh.Canary, Version: "v2", Buckets: canary},
		},
	}
}

// versions is a handler that says which version answered, in the header "version".
func versions(version string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Version", version)
		_, _ = io.Copy(w, r.Body)
	}
}

// upstreams runs a backend per version and returns the endpoints' objects.
func upstreams(t testing.TB, handlers map[string]http.Handler) Objects {
	t.Helper()
	o := Objects{ServiceEntries: []*networkingv1.ServiceEntry{serviceEntry(t)}}
	for version, handler := range handlers {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		o.WorkloadEntries = append(o.WorkloadEntries, workloadEntry(t, version, server.Listener.Addr().String()))
	}
	return o
}

func bothVersions(t testing.TB) Objects {
	return upstreams(t, map[string]http.Handler{"v1": versions("v1"), "v2": versions("v2")})
}

// running is a gateway behind a real server.
type running struct {
	*Gateway
	server   *httptest.Server
	registry *prometheus.Registry
}

func start(t testing.TB, objects Objects, o Options) running {
	t.Helper()
	return startCounting(t, objects, o, MetricsOptions{})
}

func startCounting(t testing.TB, objects Objects, o Options, metrics MetricsOptions) running {
	t.Helper()
	registry := prometheus.NewRegistry()
	o.Metrics = metrics.New(registry)
	g := New(o)
	if refusals := g.Load(objects); len(refusals) > 0 {
		t.Fatalf("Load(...) = %v", refusals)
	}
	server := httptest.NewServer(g)
	t.Cleanup(g.Close)
	t.Cleanup(server.Close)
	server.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 256
	return running{Gateway: g, server: server, registry: registry}
}

// request is a request to the service through the gateway.
func (g running) request(t testing.TB, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.server.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	return r
}

// do sends a request without following redirects and reads the answer.
func (g running) do(t testing.TB, r *http.Request) (*http.Response, string) {
	t.Helper()
	client := *g.server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

// get is do for a GET with headers, given as pairs.
func (g running) get(t testing.TB, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	r := g.request(t, http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return g.do(t, r)
}

// count sums a counter over the series that carry the labels, given as pairs.
func (g running) count(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if labelled(m, labels) {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return total
}

func labelled(m *dto.Metric, want []string) bool {
	have := map[string]string{}
	for _, l := range m.GetLabel() {
		have[l.GetName()] = l.GetValue()
	}
	for i := 0; i < len(want); i += 2 {
		if have[want[i]] != want[i+1] {
			return false
		}
	}
	return true
}

// fixed draws the same number each time.
func fixed(n uint32) func() uint32 { return func() uint32 { return n } }

// refused are the fields of refusals.
func fields(refusals []Refusal) []string {
	var out []string
	for _, r := range refusals {
		out = append(out, fmt.Sprintf("%s %s", r.Object.Kind, r.Field))
	}
	return out
}

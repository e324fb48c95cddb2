package gateway

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// three is a cluster of three endpoints with the given requests in flight.
func three(b balance, active ...int64) *cluster {
	cl := &cluster{balance: b}
	for i, n := range active {
		e := &endpoint{address: string(rune('a' + i)), active: &atomic.Int64{}}
		e.active.Store(n)
		cl.endpoints = append(cl.endpoints, e)
	}
	return cl
}

func TestPick(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   *cluster
		draws  []uint32
		want   string
	}{
		"RoundRobin":   {"Each in turn.", three(roundRobin, 9, 0, 0), nil, "bcabca"},
		"Random":       {"As drawn.", three(random, 9, 0, 0), []uint32{0, 2, 4, 0, 5, 1}, "acbacb"},
		"LeastRequest": {"The less busy of two that were drawn, the first at a tie.", three(leastRequest, 5, 1, 1), []uint32{0, 1, 0, 0, 2, 1, 1, 2, 2, 0, 0, 2}, "bacbcc"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			draws := tc.draws
			draw := func() uint32 {
				n := draws[0]
				draws = draws[1:]
				return n
			}
			var got strings.Builder
			for range 6 {
				got.WriteString(tc.args.pick(draw, nil).address)
			}
			if got.String() != tc.want {
				t.Errorf("%s\npick() gives %s, want %s", tc.reason, got.String(), tc.want)
			}
		})
	}
	if e := (&cluster{}).pick(nil, nil); e != nil {
		t.Errorf("pick() of nobody = %v", e)
	}
	one := three(random, 0)
	if e := one.pick(nil, one.endpoints[0]); e != one.endpoints[0] {
		t.Error("pick() of one avoids the only endpoint")
	}
	two := three(random, 0, 0)
	if e := two.pick(fixed(1), two.endpoints[1]); e != two.endpoints[0] {
		t.Error("pick() does not avoid the endpoint that failed")
	}
}

// TestServiceEntries checks how ports and endpoints come together.
func TestServiceEntries(t *testing.T) {
	objects := decode(t, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: models, namespace: edge}
spec:
  hosts: [models.example.com]
  resolution: DNS
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 9000}
  - {number: 81, name: http-admin, protocol: HTTP}
  endpoints:
  - {address: a.example.com, labels: {app: models, version: v1}}
  - {address: "2001:db8::1", ports: {http: 7000}, labels: {service.istio.io/workload-name: second}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: models, namespace: edge}
spec:
  host: models.example.com
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
  subsets: [{name: one, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]
`)
	table, refusals := Compile(objects, Identity{})
	if len(refusals) > 0 {
		t.Fatalf("Compile(...) refuses %v", refusals)
	}
	c := &compiler{table: table, services: map[string]*service{}, rules: map[string]*rule{}}
	c.serviceEntries(objects.ServiceEntries, nil)
	c.destinationRules(objects.DestinationRules)
	cases := map[string]struct {
		args      clusterKey
		missing   bool
		addresses []string
		balance   balance
	}{
		"Target":    {clusterKey{host: "models.example.com", port: 80}, false, []string{"a.example.com:9000", "[2001:db8::1]:7000"}, roundRobin},
		"Number":    {clusterKey{host: "models.example.com", port: 81}, false, []string{"a.example.com:81", "[2001:db8::1]:81"}, roundRobin},
		"Subset":    {clusterKey{host: "models.example.com", port: 80, subset: "one"}, false, []string{"a.example.com:9000"}, random},
		"Ambiguous": {clusterKey{host: "models.example.com"}, true, nil, roundRobin},
		"NoPort":    {clusterKey{host: "models.example.com", port: 82}, true, nil, roundRobin},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			cl := c.cluster(tc.args)
			var got []string
			for _, e := range cl.endpoints {
				got = append(got, e.address)
			}
			if cl.missing != tc.missing || cl.balance != tc.balance || !slices.Equal(got, tc.addresses) {
				t.Errorf("cluster(%v) = missing %t, balance %v, %q", tc.args, cl.missing, cl.balance, got)
			}
		})
	}
	want := peer{"models.example.com", "models.example.com", "edge", "second", "edge", unknown, unknown, unknown}
	if got := c.cluster(clusterKey{host: "models.example.com", port: 80}).endpoints[1].peer; got != want {
		t.Errorf("peer = %+v, want %+v", got, want)
	}
}

// TestMerge gives one host two DestinationRules.
func TestMerge(t *testing.T) {
	older, younger := destinationRule(t), destinationRule(t)
	older.CreationTimestamp, younger.CreationTimestamp = metav1.Unix(1, 0), metav1.Unix(2, 0)
	older.Name, younger.Name = "older", "younger"
	older.Spec.Subsets = older.Spec.Subsets[:1]
	younger.Spec.Subsets[0].Labels = map[string]string{"version": "v3"}
	objects := withRoutes(t, bothVersions(t), "  - route: [{destination: {host: coolant, subset: v2}}]")
	objects.DestinationRules = []*networkingv1.DestinationRule{younger, older}
	table, refusals := Compile(objects, Identity{})
	if diff := cmp.Diff([]string{"DestinationRule spec.subsets"}, fields(refusals)); diff != "" || refusals[0].Object.Name != "younger" {
		t.Errorf("Compile(...) refuses -want +got:\n%s", diff)
	}
	if cl := table.clusters[clusterKey{host: host, subset: "v2"}]; cl == nil || cl.missing || len(cl.endpoints) != 1 {
		t.Errorf("The subset of the younger rule is %+v", cl)
	}
}

// TestTwoServices gives one host two ServiceEntries.
func TestTwoServices(t *testing.T) {
	objects := bothVersions(t)
	other := serviceEntry(t)
	other.Name = "z"
	other.Spec.WorkloadSelector = nil
	objects.ServiceEntries = append(objects.ServiceEntries, other)
	_, refusals := Compile(objects, Identity{})
	if diff := cmp.Diff([]string{"ServiceEntry spec.hosts[0]"}, fields(refusals)); diff != "" {
		t.Errorf("Compile(...) refuses -want +got:\n%s", diff)
	}
}

// TestActive counts requests in flight across a change of tables.
func TestActive(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	objects := upstreams(t, map[string]http.Handler{"v1": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	})})
	g := start(t, objects, Options{})
	answered := make(chan struct{})
	go func() { defer close(answered); g.get(t, "/") }()
	<-arrived
	g.Load(objects)
	active := g.Gateway.table.Load().clusters[clusterKey{host: host, port: 8080}].endpoints[0].active
	if got := active.Load(); got != 1 {
		t.Errorf("%d requests are in flight under the new table, want 1", got)
	}
	close(release)
	<-answered
	g.server.Close()
	if got := active.Load(); got != 0 {
		t.Errorf("%d requests are in flight after the last one, want 0", got)
	}
}

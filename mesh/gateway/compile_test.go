package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// routeRefused are the fields of a patch of routes: it is no local rate limit.
func routeRefused(patch int) []string {
	var all []string
	for _, field := range []string{
		"applyTo", "match.context", "match.listener.filterChain.filter.name", "match.listener.filterChain.filter.subFilter.name",
		"match.proxy", "match.routeConfiguration", "patch.operation", "patch.value",
	} {
		all = append(all, fmt.Sprintf("EnvoyFilter spec.configPatches[%d].%s", patch, field))
	}
	return all
}

// refusedGoldens are what the gateway does not obey of what mesh/istio writes, each time loudly: the fields, by file.
var refusedGoldens = map[string][]string{
	"ratelimit-gateway": {
		"EnvoyFilter spec.configPatches[0].match.context", "EnvoyFilter spec.configPatches[0].match.proxy", "EnvoyFilter spec.configPatches[0].patch.value",
	},
	"ratelimit-waypoint": {
		"EnvoyFilter spec.configPatches[0].match.proxy", "EnvoyFilter spec.configPatches[0].patch.value", "EnvoyFilter spec.targetRefs",
	},
	"quota-canary": {"EnvoyFilter spec.configPatches[0].match.proxy", "EnvoyFilter spec.configPatches[0].patch.value"},
	"quota-arms":   {"EnvoyFilter spec.configPatches[0].match.proxy", "EnvoyFilter spec.configPatches[0].patch.value"},
	"quota-gateway": slices.Concat([]string{
		"EnvoyFilter spec.configPatches[0].match.context", "EnvoyFilter spec.configPatches[0].match.proxy", "EnvoyFilter spec.configPatches[0].patch.value",
		"EnvoyFilter spec.configPatches[1].match.context", "EnvoyFilter spec.configPatches[1].match.proxy", "EnvoyFilter spec.configPatches[1].patch.value",
	}, routeRefused(2), routeRefused(3), routeRefused(4)),
	"ratelimit-ports": slices.DeleteFunc(routeRefused(1), func(field string) bool { // the context is the one that is obeyed, and no proxies are excluded
		return strings.HasSuffix(field, "match.context") || strings.HasSuffix(field, "match.proxy")
	}),
	"quota-waypoint": {
		"EnvoyFilter spec.configPatches[0].match.listener.filterChain.name", "EnvoyFilter spec.configPatches[0].match.proxy",
		"EnvoyFilter spec.configPatches[0].patch.value",
		"EnvoyFilter spec.configPatches[1].match.listener.filterChain.name", "EnvoyFilter spec.configPatches[1].match.proxy",
		"EnvoyFilter spec.configPatches[1].patch.value", "EnvoyFilter spec.targetRefs",
	},
	"hash": routeRefused(0), "hash-stable": routeRefused(0), "mirror-hash": routeRefused(0),
	"tcp":   {"VirtualService spec.tcp"},
	"tls":   {"VirtualService spec.tcp", "VirtualService spec.tls"},
	"ports": {"VirtualService spec.tcp", "VirtualService spec.tls"},
	"policy": {
		"DestinationRule spec.subsets[0].trafficPolicy.connectionPool", "DestinationRule spec.subsets[0].trafficPolicy.loadBalancer.localityLbSetting",
		"DestinationRule spec.subsets[0].trafficPolicy.outlierDetection", "DestinationRule spec.subsets[0].trafficPolicy.tls.mode",
		"DestinationRule spec.subsets[1].trafficPolicy.connectionPool", "DestinationRule spec.subsets[1].trafficPolicy.loadBalancer.localityLbSetting",
		"DestinationRule spec.subsets[1].trafficPolicy.outlierDetection", "DestinationRule spec.subsets[1].trafficPolicy.tls.mode",
	},
}

// TestGolden holds the gateway to the renderer: it accepts everything that mesh/istio writes, but for what stands above.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("../istio/testdata/*.out.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("Glob(...) = %v, %v, want the renderer's golden files", paths, err)
	}
	limited := 0
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			objects := decode(t, string(text))
			objects.ServiceEntries = entriesOf(t, objects.VirtualServices)
			table, refusals := Compile(objects, Identity{})
			want := refusedGoldens[strings.TrimSuffix(filepath.Base(path), ".out.yaml")]
			if diff := cmp.Diff(want, fields(refusals)); diff != "" {
				t.Errorf("Compile(...) refuses -want +got:\n%s", diff)
			}
			if len(want) > 0 {
				return
			}
			claimed := len(objects.VirtualServices[0].Spec.Http)
			if len(objects.VirtualServices[0].Spec.Hosts) == 0 {
				claimed = 1 // The service's default: what is delegated to serves no host of its own.
			}
			if got, want := len(table.find(host).routes), claimed; got != want {
				t.Errorf("Compile(...) has %d routes, want %d", got, want)
			}
			for key, cl := range table.clusters {
				if cl.missing {
					t.Errorf("Compile(...) misses cluster %v", key)
				}
			}
			limited += len(table.limits)
		})
	}
	if limited == 0 {
		t.Error("No golden file has a rate limit that the gateway obeys")
	}
}

// entriesOf are the services that the routes lead to, at the ports that they name.
func entriesOf(t *testing.T, routes []*networkingv1.VirtualService) []*networkingv1.ServiceEntry {
	t.Helper()
	out := []*networkingv1.ServiceEntry{serviceEntry(t)}
	for _, vs := range routes[1:] {
		se := serviceEntry(t)
		se.Name, se.Spec.Hosts = vs.Name, vs.Spec.Hosts
		se.Spec.Ports[0].Number = vs.Spec.Http[0].Route[0].Destination.Port.Number
		out = append(out, se)
	}
	return out
}

// TestRefused tries a value of each kind that the gateway does not support.
func TestRefused(t *testing.T) {
	const to = "  - route: [{destination: {host: coolant}}]\n"
	cases := map[string]struct {
		args string
		want []string
	}{
		"CORS":            {to + "    corsPolicy: {allowMethods: [GET]}", []string{"VirtualService spec.http[0].corsPolicy"}},
		"Delegate":        {"  - delegate: {name: other}", []string{"VirtualService spec.http[0]", "VirtualService spec.http[0].delegate"}},
		"RegexRewrite":    {to + "    rewrite: {uriRegexRewrite: {match: a, rewrite: b}}", []string{"VirtualService spec.http[0].rewrite.uriRegexRewrite"}},
		"LookAhead":       {to + "    match: [{headers: {a: {regex: '(?=a)'}}}]", []string{"VirtualService spec.http[0].match[0].headers.a.regex"}},
		"LongPattern":     {to + "    match: [{uri: {regex: '" + strings.Repeat("a", 1025) + "'}}]", []string{"VirtualService spec.http[0].match[0].uri.regex"}},
		"PseudoHeader":    {to + "    match: [{headers: {':path': {exact: a}}}]", []string{"VirtualService spec.http[0].match[0].headers"}},
		"StatPrefix":      {to + "    match: [{statPrefix: a}]", []string{"VirtualService spec.http[0].match[0].statPrefix"}},
		"EnvoyCommand":    {to + "    headers: {request: {set: {a: '%REQ(b)%'}}}", []string{"VirtualService spec.http[0].headers.request.set.a"}},
		"LineBreak":       {to + "    headers: {response: {add: {a: \"b\\r\\nc: d\"}}}", []string{"VirtualService spec.http[0].headers.response.add.a"}},
		"RetryOn":         {to + "    retries: {attempts: 1, retryOn: 'retriable-headers'}", []string{"VirtualService spec.http[0].retries.retryOn"}},
		"RetryHosts":      {to + "    retries: {attempts: 1, retryIgnorePreviousHosts: true}", []string{"VirtualService spec.http[0].retries.retryIgnorePreviousHosts"}},
		"GRPCFault":       {to + "    fault: {abort: {grpcStatus: UNAVAILABLE}}", []string{"VirtualService spec.http[0].fault.abort.grpcStatus", "VirtualService spec.http[0].fault.abort.httpStatus"}},
		"Percentage":      {to + "    mirror: {host: m}\n    mirrorPercentage: {value: 100.5}", []string{"VirtualService spec.http[0].mirrorPercentage"}},
		"NegativeWeight":  {"  - route: [{destination: {host: coolant}, weight: -1}]", []string{"VirtualService spec.http[0].route", "VirtualService spec.http[0].route[0].weight"}},
		"NoWeight":        {"  - route: [{destination: {host: a}, weight: 0}, {destination: {host: b}, weight: 0}]", []string{"VirtualService spec.http[0].route"}},
		"TwoActions":      {to + "    directResponse: {status: 200}", []string{"VirtualService spec.http[0]"}},
		"RedirectCode":    {"  - redirect: {redirectCode: 200}", []string{"VirtualService spec.http[0].redirect.redirectCode"}},
		"NegativeTimeout": {to + "    timeout: -1s", []string{"VirtualService spec.http[0].timeout"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			objects := Objects{VirtualServices: []*networkingv1.VirtualService{virtualService(t, tc.args)}}
			_, refusals := Compile(objects, Identity{})
			if diff := cmp.Diff(tc.want, fields(refusals)); diff != "" {
				t.Errorf("Compile(...) refuses -want +got:\n%s", diff)
			}
			for _, r := range refusals {
				if r.Object != (Object{"VirtualService", "edge", "coolant"}) || r.Why == "" || len(r.Value) > 120 {
					t.Errorf("refusal is %#v", r)
				}
			}
		})
	}
}

// TestRefusedKinds is the same for the other kinds.
func TestRefusedKinds(t *testing.T) {
	filter, err := os.ReadFile("../istio/testdata/ratelimit-canary.out.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents := strings.Split(string(filter), "\n---\n")
	limit := documents[len(documents)-1]
	head := func(kind string) string {
		return "apiVersion: networking.istio.io/v1\nkind: " + kind + "\nmetadata: {name: a, namespace: edge}\nspec:\n"
	}
	cases := map[string]struct {
		args string
		want []string
	}{
		"TCP":            {head("VirtualService") + "  hosts: [a]\n  tcp: [{route: [{destination: {host: a}}]}]", []string{"VirtualService spec.tcp"}},
		"ExportTo":       {head("VirtualService") + "  hosts: [a]\n  exportTo: [.]\n  http: [{route: [{destination: {host: a}}]}]", []string{"VirtualService spec.exportTo[0]"}},
		"ConsistentHash": {head("DestinationRule") + "  host: a\n  trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}", []string{"DestinationRule spec.trafficPolicy.loadBalancer.consistentHash"}},
		"Outlier":        {head("DestinationRule") + "  host: a\n  subsets: [{name: s, trafficPolicy: {outlierDetection: {interval: 1s}}}]", []string{"DestinationRule spec.subsets[0].trafficPolicy.outlierDetection"}},
		"MutualTLS":      {head("DestinationRule") + "  host: a\n  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}", []string{"DestinationRule spec.trafficPolicy.tls.mode"}},
		"SubsetTwice":    {head("DestinationRule") + "  host: a\n  subsets: [{name: s}, {name: s}]", []string{"DestinationRule spec.subsets[1].name"}},
		"Resolution":     {head("ServiceEntry") + "  hosts: [a.b]\n  ports: [{number: 1, name: h, protocol: HTTP}]", []string{"ServiceEntry spec.resolution"}},
		"Protocol":       {head("ServiceEntry") + "  hosts: [a.b]\n  resolution: STATIC\n  ports: [{number: 1, name: h, protocol: GRPC}]", []string{"ServiceEntry spec.ports[0].protocol"}},
		"Unix":           {head("WorkloadEntry") + "  address: unix:///a", []string{"WorkloadEntry spec.address"}},
		"Weight":         {head("WorkloadEntry") + "  address: 1.2.3.4\n  weight: 3", []string{"WorkloadEntry spec.weight"}},
		"FilterContext":  {strings.Replace(limit, "SIDECAR_INBOUND", "GATEWAY", 1), []string{"EnvoyFilter spec.configPatches[0].match.context"}},
		"FilterName":     {strings.Replace(limit, "name: envoy.filters.http.local_ratelimit", "name: envoy.filters.http.lua", 1), []string{"EnvoyFilter spec.configPatches[0].patch.value.name"}},
		"FilterField":    {strings.Replace(limit, "stat_prefix", "descriptors", 1), []string{"EnvoyFilter spec.configPatches[0].patch.value"}},
		"FilterFill":     {strings.Replace(limit, "fill_interval: 1s", "fill_interval: 10ms", 1), []string{"EnvoyFilter spec.configPatches[0].patch.value.typed_config.token_bucket.fill_interval"}},
		"FilterTokens":   {strings.Replace(limit, "max_tokens: 400", "max_tokens: 0", 1), []string{"EnvoyFilter spec.configPatches[0].patch.value.typed_config.token_bucket"}},
		"FilterStatus":   {strings.Replace(limit, "code: TooManyRequests", "code: OK", 1), []string{"EnvoyFilter spec.configPatches[0].patch.value.typed_config.status.code"}},
		"FilterRemove":   {strings.Replace(limit, "INSERT_BEFORE", "REMOVE", 1), []string{"EnvoyFilter spec.configPatches[0].patch.operation"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, refusals := Compile(decode(t, tc.args), Identity{})
			if diff := cmp.Diff(tc.want, fields(refusals)); diff != "" {
				t.Errorf("Compile(...) refuses -want +got:\n%s", diff)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	vs := func(name string, created int64, gateways []string, hosts ...string) *networkingv1.VirtualService {
		o := virtualService(t, "  - directResponse: {status: 200}\n    name: "+name)
		o.Name, o.CreationTimestamp = name, metav1.Unix(created, 0)
		o.Spec.Hosts, o.Spec.Gateways = hosts, gateways
		return o
	}
	objects := Objects{
		VirtualServices: []*networkingv1.VirtualService{
			vs("younger", 2, nil, "coolant", "other.example.com"),
			vs("older", 1, []string{"edge/public", "mesh"}, "coolant", "*.example.com", "*.deep.example.com"),
			vs("elsewhere", 1, []string{"edge/public"}, "elsewhere"),
			vs("rest", 1, nil, "*"),
		},
		ServiceEntries: []*networkingv1.ServiceEntry{serviceEntry(t)},
	}
	table, refusals := Compile(objects, Identity{Namespace: "edge"})
	if diff := cmp.Diff([]string{"VirtualService spec.hosts[0]"}, fields(refusals)); diff != "" {
		t.Errorf("Compile(...) refuses -want +got:\n%s", diff)
	}
	cases := map[string]string{
		host: "older", "COOLANT.edge.svc.cluster.local:8080": "older", "coolant": "older", "coolant.edge": "older",
		"coolant.edge.svc:80": "older", "other.example.com": "younger", "a.example.com": "older", "a.deep.example.com": "older",
		"example.com": "rest", "elsewhere.edge.svc.cluster.local": "rest", "[::1]:80": "rest", "[::1]": "rest",
	}
	for authority, want := range cases {
		if vh := table.find(authority); vh == nil || vh.routes[0].name != want {
			t.Errorf("find(%q) = %v, want the host of %q", authority, vh, want)
		}
	}
}

// TestDefaultRoute leads to a service that no VirtualService speaks of.
func TestDefaultRoute(t *testing.T) {
	g := start(t, bothVersions(t), Options{})
	if res, _ := g.get(t, "/"); res.StatusCode != 200 {
		t.Errorf("GET = %d, want 200", res.StatusCode)
	}
}

func TestReadiness(t *testing.T) {
	objects := bothVersions(t)
	for i, we := range objects.WorkloadEntries {
		if we.Spec.Labels["version"] == "v2" {
			objects.WorkloadEntries[i] = decode(t, `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: sick, namespace: edge}
spec: {address: 127.0.0.1, labels: {app: coolant, version: v2}}
status: {conditions: [{type: Healthy, status: "False"}]}
`).WorkloadEntries[0]
		}
	}
	table, refusals := Compile(objects, Identity{})
	if len(refusals) > 0 {
		t.Fatalf("Compile(...) refuses %v", refusals)
	}
	if got := table.clusters[clusterKey{host: host, port: 8080}].endpoints; len(got) != 1 || got[0].peer.version != "v1" {
		t.Errorf("endpoints = %v, want v1 alone", got)
	}
}

// TestCompileIsPure compiles the same objects twice.
func TestCompileIsPure(t *testing.T) {
	objects := rendered(t, split([]int{1, 2}), bothVersions(t))
	one, _ := Compile(objects, Identity{})
	other, _ := Compile(objects, Identity{})
	if len(one.clusters) != len(other.clusters) || len(one.exact) != len(other.exact) {
		t.Errorf("tables differ: %v and %v", one, other)
	}
	g := New(Options{})
	g.Load(objects)
	for _, l := range one.limits {
		if l.bucket != nil {
			t.Error("Load(...) bound a table that it did not compile")
		}
	}
}

// BenchmarkCompile compiles one rollout.
func BenchmarkCompile(b *testing.B) {
	traffic := split([]int{1, 2, 3})
	objects := rendered(b, traffic, Objects{ServiceEntries: []*networkingv1.ServiceEntry{serviceEntry(b)}})
	objects.WorkloadEntries = []*networkingv1.WorkloadEntry{workloadEntry(b, "v1", "127.0.0.1:1"), workloadEntry(b, "v2", "127.0.0.1:2")}
	for b.Loop() {
		Compile(objects, Identity{})
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(time.Microsecond), "us/table")
}

// FuzzLocalRateLimit checks that whatever is accepted can be obeyed.
func FuzzLocalRateLimit(f *testing.F) {
	f.Add([]byte(`{"name":"envoy.filters.http.local_ratelimit","typed_config":{"@type":"` + rateLimitType + `","stat_prefix":"a",
		"token_bucket":{"max_tokens":4,"tokens_per_fill":2,"fill_interval":"1s"},"filter_enabled":{"default_value":{"numerator":100}},
		"response_headers_to_add":[{"header":{"key":"x-local-rate-limit","value":"true"},"append":false}]}}`))
	f.Add([]byte(`{"name":1}`))
	f.Add([]byte(`{"typed_config":{"status":{"code":1e300},"filter_enforced":{"default_value":{"numerator":4294967295}}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		v := &review{}
		l := v.localRateLimit("f", text)
		if len(v.refusals) > 0 {
			return
		}
		if l.enabled > million || l.enforced > million || l.status < 400 || l.status > 599 {
			t.Errorf("accepted %s as %+v", text, l)
		}
		b := newTokenBucket(l.rate, time.Unix(0, 0))
		if ok, remaining, reset := b.take(time.Unix(1, 0)); !ok || remaining != l.rate.max-1 || reset < 0 {
			t.Errorf("%s: a full bucket gives %t, %d, %v", text, ok, remaining, reset)
		}
	})
}

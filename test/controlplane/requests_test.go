package controlplane_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/gateway"
	"github.com/siskin-dev/siskin/test/envoy"
)

// howMany requests are sent on each golden input to each entrance: to every HTTP port of the service through a caller's sidecar, and
// through the gateway where one leads to the service.
const howMany = 10_000

// met is what became of a request.
type met struct {
	// Backend is the version and the port of the service that it came to.
	Backend string
	// Told is the variant that the backend heard of, Shown that which the client saw, and Cookie what it was given to keep.
	Told, Shown, Cookie string
}

// served is a version at a port of the service.
func served(version string, port int) string { return version + ":" + strconv.Itoa(port) }

// entrance is where requests come in: the routes of a proxy for what comes to a port, the port of the service to which they lead,
// and what may be asked for there.
type entrance struct {
	name        string
	config      *routev3.RouteConfiguration
	port, to    int
	authorities []string
}

// entrances are those at which istiod has routes to the service.
func (w *meshWorld) entrances(sidecar, router envoy.Answer) []entrance {
	own := w.traffic.Service.Port
	var all []entrance
	for _, p := range w.ports() {
		if p.Protocol != mesh.HTTP {
			continue
		}
		e := entrance{name: fmt.Sprintf("port %d", p.Number), config: sidecar.Routes[strconv.Itoa(p.Number)], port: p.Number, to: p.Number}
		for _, host := range w.hosts() {
			e.authorities = append(e.authorities, fmt.Sprintf("%s:%d", host, p.Number))
			if p.Number == own {
				e.authorities = append(e.authorities, host, host+":443")
			}
		}
		all = append(all, e)
	}
	if w.enters() {
		e := entrance{name: "the gateway", config: router.Routes[entry], port: entryPort, to: own}
		for _, host := range w.hosts() {
			e.authorities = append(e.authorities, host, fmt.Sprintf("%s:%d", host, entryPort))
		}
		all = append(all, e)
	}
	return all
}

// requests sends the same requests, with the same draws, through istiod's routes as Envoy evaluates them, through
// mesh/gateway, as far as it takes the objects (see refusals), and through mesh.Choose. Each must meet the same variant in all
// three. Every route is taken by some, and every destination.
func (w *meshWorld) requests(sidecar, router envoy.Answer) {
	w.t.Helper()
	entrances := w.entrances(sidecar, router)
	if len(entrances) == 0 {
		return // no port speaks HTTP, and connections have nothing that could be compared
	}
	local, oracle := newLocal(w), mesh.Routes(w.traffic)
	for _, e := range entrances {
		random := rand.New(rand.NewPCG(1, uint64(len(w.name))))
		proxy := newProxy(w, e)
		for i := range howMany {
			q, draw := w.request(random, e.authorities), uint64(random.Uint32())
			number := w.number(q, draw)
			want := meant(oracle, e, q, number)
			w.same(want, proxy.meets(q, draw), i, q, number, "istiod's routes at "+e.name)
			if local != nil {
				w.same(want, local.meets(q, uint32(number%mesh.Buckets)), i, q, number, "mesh/gateway at "+e.name)
			}
		}
		for _, unused := range proxy.unused() {
			w.t.Errorf("none of %d requests at %s came to %s", howMany, e.name, unused)
		}
	}
}

func (w *meshWorld) same(want, got met, i int, q envoy.Request, number uint64, by string) {
	w.t.Helper()
	if got != want {
		w.t.Fatalf("request %d, %+v, number %d: -meant, +by %s:\n%s", i, q, number, by, cmp.Diff(want, got))
	}
}

// number is what chooses among the destinations of a route: the draw, or the hash of a header that the request has.
func (w *meshWorld) number(q envoy.Request, draw uint64) uint64 {
	if id := q.Headers[w.traffic.HashHeader]; len(id) == 1 {
		return xxhash.Sum64String(id[0])
	}
	return draw
}

// request is what might come: pins, buckets and cookies, right ones and those that only look so.
func (w *meshWorld) request(random *rand.Rand, authorities []string) envoy.Request {
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	bucket := func() string { return mesh.FormatBucket(random.IntN(mesh.Buckets)) }
	q := envoy.Request{
		Authority: one(authorities...),
		Path:      one("/", "/v2/models/coolant/infer", "/a%20b?c=d"),
		Headers:   map[string][]string{"user-agent": {"test"}},
	}
	header := func(name string, values ...string) {
		if len(values) > 0 {
			q.Headers[name] = values
		}
	}
	header(mesh.VariantHeader, [][]string{nil, nil, nil, nil, {one("stable", "canary", "quantised", "nobody", "Canary", "")}}[random.IntN(5)]...)
	header(mesh.BucketHeader, [][]string{
		nil, nil, {bucket()}, {bucket()}, {bucket() + one("0", " ", "x", ",")}, {one("", "7", "-1", "0x", "٠٧")}, {bucket(), bucket()},
	}[random.IntN(7)]...)
	if name := w.traffic.HashHeader; name != "" {
		header(name, [][]string{nil, {"vehicle-" + strconv.Itoa(random.IntN(1000))}}[random.IntN(2)]...)
	}
	if c := w.traffic.Cohort; c != nil {
		header(c.Header, one(slices.Concat(c.Values, []string{"", "somebody"})...))
	}
	pair := one("siskin-coolant", "siskin-coolant", "siskin-coolant", "xsiskin-coolant", "Siskin-Coolant", "siskin-coolant2") + "=" +
		one(bucket(), bucket(), bucket(), bucket()+"x", "7", "", `"`+bucket()+`"`)
	header("cookie", [][]string{
		nil, nil, {pair}, {"theme=dark; " + pair}, {pair + "; theme=dark"}, {"a=1;" + pair + ";b=2"}, {"a=" + pair}, {pair + "; " + "siskin-coolant=" + bucket()},
	}[random.IntN(8)]...)
	return q
}

// meant is what mesh.Choose says.
func meant(routes []mesh.Route, e entrance, q envoy.Request, number uint64) met {
	joined := mesh.Request{}
	for name, values := range q.Headers {
		joined[name] = strings.Join(values, ",")
	}
	// The weights of a route sum to 100; the middle of a hundredth falls where the number does.
	host, _, _ := strings.Cut(q.Authority, ":")
	d, _ := mesh.Caller{Host: host, Port: e.port}.Choose(routes, joined, (float64(number%100)+0.5)/100)
	return met{Backend: served(d.Version, e.to), Told: d.SetRequest[mesh.VariantHeader], Shown: d.SetResponse[mesh.VariantHeader], Cookie: d.AddResponse["set-cookie"]}
}

// proxy is an Envoy with istiod's routes.
type proxy struct {
	t        *testing.T
	routes   map[string][]envoy.Route // by authority
	backends map[string]string        // by cluster
	used     map[string]bool
}

func newProxy(w *meshWorld, e entrance) *proxy {
	w.t.Helper()
	p := &proxy{t: w.t, routes: map[string][]envoy.Route{}, backends: map[string]string{}, used: map[string]bool{}}
	for _, authority := range e.authorities {
		routes, err := envoy.Routes(envoy.Host(e.config, authority))
		if err != nil {
			w.t.Fatal(err)
		}
		p.routes[authority] = routes
	}
	for _, v := range w.versions() {
		for _, at := range w.ports() {
			p.backends[cluster(at.Number, v, w.traffic.Service.FQDN())] = served(v, at.Number)
		}
	}
	return p
}

func (p *proxy) meets(q envoy.Request, draw uint64) met {
	p.t.Helper()
	r, d, ok := envoy.Choose(p.routes[q.Authority], q, draw)
	if !ok {
		p.t.Fatalf("request %+v has no route in istiod's answer", q)
	}
	p.used[place(r, d)] = true
	return met{p.backends[d.Cluster], d.SetRequest[mesh.VariantHeader], d.SetResponse[mesh.VariantHeader], d.AddResponse["set-cookie"]}
}

func place(r envoy.Route, d envoy.Destination) string {
	return fmt.Sprintf("route %s %q, destination %s %s", r.Name, r.Match, d.Cluster, d.AddResponse["set-cookie"])
}

func (p *proxy) unused() []string {
	var out []string
	for _, r := range slices.Concat(slices.Collect(maps.Values(p.routes))...) {
		for _, d := range r.Destinations {
			if !p.used[place(r, d)] && !slices.Contains(out, place(r, d)) {
				out = append(out, place(r, d))
			}
		}
	}
	return out
}

// local is a mesh/gateway with the golden objects.
type local struct {
	t        *testing.T
	gateway  *gateway.Gateway
	backends map[string]string // by address
	draw     uint32
	now      time.Time
	told     string // the variant that the last request carried to the backend
}

// refusals are the kinds that mesh/gateway refuses of golden pairs, by their names. A refused EnvoyFilter leaves the routes as
// they are; without the VirtualService or the DestinationRule there is nothing to send requests through.
var refusals = map[string]string{
	// Limits elsewhere than in the pods' own proxies, of one port, or of all proxies together.
	"quota-arms": "EnvoyFilter", "quota-canary": "EnvoyFilter", "quota-gateway": "EnvoyFilter", "quota-waypoint": "EnvoyFilter",
	"ratelimit-gateway": "EnvoyFilter", "ratelimit-ports": "EnvoyFilter", "ratelimit-waypoint": "EnvoyFilter",
	// Envoy's hash: it draws instead.
	"hash": "EnvoyFilter", "hash-stable": "EnvoyFilter", "mirror-hash": "EnvoyFilter",
	// Routes that others delegate to, and streams.
	"delegate": "VirtualService", "mirror-delegate": "VirtualService", "ports": "VirtualService",
	// Connection pools, and endpoints that are taken out.
	"policy": "DestinationRule",
}

// newLocal is nil where mesh/gateway takes no routes.
func newLocal(w *meshWorld) *local {
	w.t.Helper()
	l := &local{t: w.t, backends: map[string]string{}, now: time.Unix(0, 0)}
	for i, v := range w.versions() {
		for _, p := range w.ports() {
			l.backends[served(address(i), p.Number)] = served(v, p.Number)
		}
	}
	l.gateway = gateway.New(gateway.Options{
		Transport: l, Draw: func() uint32 { return l.draw },
		Now: func() time.Time { return l.now },
	})
	w.t.Cleanup(l.gateway.Close)
	got := map[string]bool{}
	for _, r := range l.gateway.Load(w.forGateway(w.t)) {
		got[r.Object.Kind] = true
	}
	want := refusals[w.name]
	if len(got) > 1 || got[want] != (want != "") || want == "" && len(got) > 0 {
		w.t.Fatalf("mesh/gateway refuses %v, want %q alone", slices.Collect(maps.Keys(got)), want)
	}
	if want != "" && want != "EnvoyFilter" {
		return nil
	}
	return l
}

// RoundTrip implements http.RoundTripper: the backends answer with what they are. Copies are known by their host.
func (l *local) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.Contains(r.Host, "-shadow") {
		l.told = r.Header.Get(mesh.VariantHeader)
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: http.NoBody,
		Header: http.Header{"Backend": {l.backends[r.URL.Host]}},
	}, nil
}

func (l *local) meets(q envoy.Request, draw uint32) met {
	l.t.Helper()
	target, err := url.ParseRequestURI(q.Path)
	if err != nil {
		l.t.Fatal(err)
	}
	r := &http.Request{Method: http.MethodGet, URL: target, Host: q.Authority, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	for _, name := range slices.Sorted(maps.Keys(q.Headers)) {
		r.Header[http.CanonicalHeaderKey(name)] = q.Headers[name]
	}
	l.draw, l.told = draw, ""
	l.now = l.now.Add(time.Hour) // no rate limit is reached
	w := httptest.NewRecorder()
	l.gateway.ServeHTTP(w, r.WithContext(l.t.Context()))
	if w.Code != http.StatusOK {
		l.t.Fatalf("request %+v: mesh/gateway answers %d %s", q, w.Code, w.Body)
	}
	return met{w.Header().Get("Backend"), l.told, w.Header().Get(mesh.VariantHeader), w.Header().Get("Set-Cookie")}
}

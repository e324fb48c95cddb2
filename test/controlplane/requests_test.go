package controlplane_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/gateway"
	"github.com/siskin-dev/siskin/test/envoy"
)

// howMany requests are sent on each golden input.
const howMany = 10_000

// met is what became of a request.
type met struct {
	Version string
	// Told is the variant that the backend heard of, Shown that which the client saw, and Cookie what it was given to keep.
	Told, Shown, Cookie string
}

// requests sends the same requests, with the same draws, through istiod's routes as Envoy evaluates them, through
// mesh/gateway and through mesh.Choose. Each must meet the same variant in all three. Every route is taken by some, and
// every destination.
func (w *meshWorld) requests(config *routev3.RouteConfiguration) {
	w.t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(len(w.name))))
	proxy, local, oracle := newProxy(w, config), newLocal(w), mesh.Routes(w.traffic)
	for i := range howMany {
		q, draw := w.request(random), random.Uint32()
		want := meant(oracle, q, draw)
		through := map[string]met{"istiod's routes": proxy.meets(q, draw)}
		if local != nil {
			through["mesh/gateway"] = local.meets(q, draw)
		}
		for name, got := range through {
			if diff := cmp.Diff(want, got); diff != "" {
				w.t.Fatalf("request %d, %+v, draw %d: -meant, +by %s:\n%s", i, q, draw, name, diff)
			}
		}
	}
	for _, unused := range proxy.unused() {
		w.t.Errorf("none of %d requests came to %s", howMany, unused)
	}
}

// request is what might come: pins, buckets and cookies, right ones and those that only look so.
func (w *meshWorld) request(random *rand.Rand) envoy.Request {
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	bucket := func() string { return mesh.FormatBucket(random.IntN(mesh.Buckets)) }
	authorities := []string{w.traffic.Service.FQDN(), w.traffic.Service.FQDN() + ":" + port}
	for _, host := range w.traffic.PreviewHosts {
		authorities = append(authorities, host, host+":443")
	}
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
func meant(routes []mesh.Route, q envoy.Request, draw uint32) met {
	joined := mesh.Request{}
	for name, values := range q.Headers {
		joined[name] = strings.Join(values, ",")
	}
	// The weights of a route sum to 100; the middle of a hundredth falls where the draw does.
	host, _, _ := strings.Cut(q.Authority, ":")
	d, _ := mesh.Caller{Host: host}.Choose(routes, joined, (float64(draw%100)+0.5)/100)
	return met{Version: d.Version, Told: d.SetRequest[mesh.VariantHeader], Shown: d.SetResponse[mesh.VariantHeader], Cookie: d.AddResponse["set-cookie"]}
}

// proxy is an Envoy with istiod's routes.
type proxy struct {
	t        *testing.T
	routes   []envoy.Route
	versions map[string]string // by cluster
	used     map[string]bool
}

func newProxy(w *meshWorld, config *routev3.RouteConfiguration) *proxy {
	w.t.Helper()
	routes, err := envoy.Routes(envoy.Host(config, w.traffic.Service.FQDN()+":"+port))
	if err != nil {
		w.t.Fatal(err)
	}
	p := &proxy{t: w.t, routes: routes, versions: map[string]string{}, used: map[string]bool{}}
	for _, v := range w.versions() {
		p.versions[w.cluster(v)] = v
	}
	return p
}

func (p *proxy) meets(q envoy.Request, draw uint32) met {
	p.t.Helper()
	r, d, ok := envoy.Choose(p.routes, q, uint64(draw))
	if !ok {
		p.t.Fatalf("request %+v has no route in istiod's answer", q)
	}
	p.used[place(r, d)] = true
	return met{p.versions[d.Cluster], d.SetRequest[mesh.VariantHeader], d.SetResponse[mesh.VariantHeader], d.AddResponse["set-cookie"]}
}

func place(r envoy.Route, d envoy.Destination) string {
	return fmt.Sprintf("route %s %q, destination %s %s", r.Name, r.Match, d.Cluster, d.AddResponse["set-cookie"])
}

func (p *proxy) unused() []string {
	var out []string
	for _, r := range p.routes {
		for _, d := range r.Destinations {
			if !p.used[place(r, d)] {
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
	versions map[string]string // by address
	draw     uint32
	now      time.Time
	told     string // the variant that the last request carried to the backend
}

// newLocal is nil where mesh/gateway refuses to obey, as its own tests say it does: a policy of Envoy's, streams, delegation, limits elsewhere than in the
// pods' own proxies, quotas, a hash.
func newLocal(w *meshWorld) *local {
	w.t.Helper()
	if w.traffic.Policy != nil || w.traffic.Service.Delegate || len(mesh.Streams(w.traffic)) > 0 || shared(w.traffic.RateLimit) || elsewhere(w.traffic.RateLimit) || w.traffic.HashHeader != "" {
		return nil
	}
	l := &local{t: w.t, versions: map[string]string{}, now: time.Unix(0, 0)}
	for i, v := range w.versions() {
		l.versions[address(i)+":"+port] = v
	}
	l.gateway = gateway.New(gateway.Options{
		Transport: l, Draw: func() uint32 { return l.draw },
		Now: func() time.Time { return l.now },
	})
	w.t.Cleanup(l.gateway.Close)
	if refusals := l.gateway.Load(w.forGateway(w.t)); len(refusals) > 0 {
		w.t.Fatalf("mesh/gateway refuses: %v", refusals)
	}
	return l
}

// RoundTrip implements http.RoundTripper: the backends answer with their version. Copies are known by their host.
func (l *local) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.Contains(r.Host, "-shadow") {
		l.told = r.Header.Get(mesh.VariantHeader)
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: http.NoBody,
		Header: http.Header{"Version": {l.versions[r.URL.Host]}},
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
	return met{w.Header().Get("Version"), l.told, w.Header().Get(mesh.VariantHeader), w.Header().Get("Set-Cookie")}
}

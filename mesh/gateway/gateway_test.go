package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	api "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/siskin-dev/siskin/mesh"
)

// withRoutes adds a VirtualService with the http section, and the subsets v1 and v2.
func withRoutes(t testing.TB, objects Objects, http string) Objects {
	t.Helper()
	objects.VirtualServices = []*networkingv1.VirtualService{virtualService(t, http)}
	objects.DestinationRules = []*networkingv1.DestinationRule{destinationRule(t)}
	return objects
}

func TestUnsynced(t *testing.T) {
	g := New(Options{})
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if g.Synced() || w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
		t.Errorf("Before the first Load: synced %t, %d, Retry-After %q", g.Synced(), w.Code, w.Header().Get("Retry-After"))
	}
	g.Load(Objects{})
	w = httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if !g.Synced() || w.Code != http.StatusNotFound {
		t.Errorf("After a Load of nothing: synced %t, %d, want 404", g.Synced(), w.Code)
	}
}

// TestFlags checks what the client and the metrics learn when there is no response.
func TestFlags(t *testing.T) {
	hijacked := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	slow := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	objects := upstreams(t, map[string]http.Handler{"v1": hijacked, "v3": slow})
	objects.WorkloadEntries = append(objects.WorkloadEntries, workloadEntry(t, "v4", closedAddress(t)))
	objects = withRoutes(t, objects, `
  - match: [{uri: {exact: /reset}}]
    route: [{destination: {host: coolant, subset: v1}}]
  - match: [{uri: {exact: /unready}}]
    route: [{destination: {host: coolant, subset: v2}, headers: {response: {set: {x-siskin-variant: canary}}}}]
  - match: [{uri: {exact: /slow}}]
    route: [{destination: {host: coolant, subset: v3}}]
    timeout: 20ms
  - match: [{uri: {exact: /slowtry}}]
    route: [{destination: {host: coolant, subset: v3}}]
    retries: {attempts: 1, perTryTimeout: 10ms, retryOn: 5xx}
  - match: [{uri: {exact: /refused}}]
    route: [{destination: {host: coolant, subset: v4}}]
  - match: [{uri: {exact: /nosubset}}]
    route: [{destination: {host: coolant, subset: v9}}]
  - match: [{uri: {exact: /noport}}]
    route: [{destination: {host: coolant, port: {number: 9}}}]
  - match: [{uri: {exact: /nohost}}]
    route: [{destination: {host: nobody}}]
  - match: [{uri: {exact: /abort}}]
    route: [{destination: {host: coolant}}]
    fault: {abort: {httpStatus: 418}}
`)
	for _, version := range []string{"v3", "v4"} {
		dr := objects.DestinationRules[0]
		dr.Spec.Subsets = append(dr.Spec.Subsets, &api.Subset{Name: version, Labels: map[string]string{"version": version}})
	}
	g := start(t, objects, Options{})
	cases := map[string]struct {
		args                 string
		code                 int
		text, flags, version string
	}{
		"NoRoute":        {"/", 404, "404", "NR", "unknown"},
		"Reset":          {"/reset", 503, "503", "UC", "v1"},
		"NoHealthy":      {"/unready", 503, "503", "UH", "v2"},
		"Timeout":        {"/slow", 504, "504", "UT", "v3"},
		"TryTimeout":     {"/slowtry", 504, "504", "UT", "v3"},
		"ConnectFailure": {"/refused", 503, "503", "UF", "v4"},
		"NoSubset":       {"/nosubset", 503, "503", "NC", "unknown"},
		"NoPort":         {"/noport", 503, "503", "NC", "unknown"},
		"NoHost":         {"/nohost", 503, "503", "NC", "unknown"},
		"FaultAbort":     {"/abort", 418, "418", "FI", "unknown"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			labels := []string{"response_code", tc.text, "response_flags", tc.flags, "destination_version", tc.version, "reporter", "source"}
			before := g.count(t, "istio_requests_total", labels...)
			res, _ := g.get(t, tc.args)
			if res.StatusCode != tc.code {
				t.Errorf("GET %s = %d, want %d", tc.args, res.StatusCode, tc.code)
			}
			if tc.flags == "UH" && res.Header.Get(mesh.VariantHeader) != "canary" {
				t.Error("An unready destination does not say its variant")
			}
			if got := g.count(t, "istio_requests_total", labels...) - before; got != 1 {
				t.Errorf("istio_requests_total%v grew by %v, want 1", labels, got)
			}
		})
	}
}

// closedAddress is an address at which nobody listens.
func closedAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestClientGone ends a request from the client's side.
func TestClientGone(t *testing.T) {
	arrived, released := make(chan struct{}), make(chan struct{})
	objects := upstreams(t, map[string]http.Handler{"v1": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(released)
	})})
	g := start(t, objects, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err := g.server.Client().Do(g.request(t, http.MethodGet, "/", nil).WithContext(ctx)) //nolint:bodyclose // There is none.
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Do(...) = %v, want %v", err, context.Canceled)
	}
	<-released
	g.server.Close() // Waits for the gateway's handler.
	if got := g.count(t, "istio_requests_total", "response_code", "0", "response_flags", "DC", "destination_version", "v1"); got != 1 {
		t.Errorf("istio_requests_total{0, DC} = %v, want 1", got)
	}
}

// TestBrokenResponse ends a response in the middle from the upstream's side.
func TestBrokenResponse(t *testing.T) {
	objects := upstreams(t, map[string]http.Handler{"v1": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "short")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})})
	g := start(t, objects, Options{})
	res, err := g.server.Client().Do(g.request(t, http.MethodGet, "/", nil))
	if err == nil {
		_, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
	}
	if err == nil {
		t.Error("The client took half a response for a whole one")
	}
	g.server.Close()
	if got := g.count(t, "istio_requests_total", "response_code", "200", "response_flags", "UC"); got != 1 {
		t.Errorf("istio_requests_total{200, UC} = %v, want 1", got)
	}
}

func TestHeaders(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "own=1")
		w.Header().Set("X-Gone", "1")
		_, _ = io.WriteString(w, strings.Join(r.Header.Values("X-Seen"), "|")+" "+r.Host+" "+r.Header.Get("X-Gone")+" "+r.Header.Get("X-Forwarded-For"))
	})
	g := start(t, withRoutes(t, upstreams(t, map[string]http.Handler{"v1": echo}), `
  - headers:
      request: {set: {x-seen: route}, remove: [x-gone]}
      response: {add: {set-cookie: route=1}}
    route:
    - destination: {host: coolant, subset: v1}
      headers:
        request: {add: {x-seen: "50%%"}, set: {host: other.example.com}}
        response: {add: {set-cookie: destination=1}, remove: [x-gone], set: {x-siskin-variant: stable}}
`), Options{})
	res, text := g.get(t, "/", "X-Gone", "1", "X-Forwarded-For", "192.0.2.1")
	if want := "route other.example.com  192.0.2.1, 127.0.0.1"; text != want {
		t.Errorf("The upstream saw %q, want %q", text, want)
	}
	if got, want := res.Header.Values("Set-Cookie"), []string{"own=1", "destination=1", "route=1"}; !slices.Equal(got, want) {
		t.Errorf("Set-Cookie = %q, want %q", got, want)
	}
	if res.Header.Get("X-Gone") != "" || res.Header.Get(mesh.VariantHeader) != "stable" {
		t.Errorf("response headers = %v", res.Header)
	}
}

func TestActions(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host+r.RequestURI) })
	g := start(t, withRoutes(t, upstreams(t, map[string]http.Handler{"v1": echo}), `
  - match: [{uri: {prefix: /old/}}]
    rewrite: {uri: /new/, authority: inner.example.com}
    route: [{destination: {host: coolant}}]
  - match: [{uri: {exact: /one}}]
    rewrite: {uri: /two}
    route: [{destination: {host: coolant}}]
  - match: [{uri: {prefix: /away}}]
    redirect: {authority: example.com, port: 8443, scheme: https, redirectCode: 308}
  - match: [{uri: {prefix: /fixed}}]
    directResponse: {status: 410, body: {string: gone}}
  - match: [{headers: {late: {}}}]
    fault: {delay: {fixedDelay: 1ms}}
    route: [{destination: {host: coolant}}]
  - rewrite: {uri: /base/}
    route: [{destination: {host: coolant}}]
`), Options{})
	cases := map[string]struct {
		args string
		code int
		want string
	}{
		"Prefix":   {"/old/a%2Fb?c=d;e", 200, "inner.example.com/new/a%2Fb?c=d;e"},
		"Exact":    {"/one?a", 200, host + "/two?a"},
		"NoMatch":  {"/x/y", 200, host + "/base/x/y"},
		"Direct":   {"/fixed", 410, "gone"},
		"Redirect": {"/away?a=b", 308, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			res, text := g.get(t, tc.args)
			if res.StatusCode != tc.code || text != tc.want {
				t.Errorf("GET %s = %d %q, want %d %q", tc.args, res.StatusCode, text, tc.code, tc.want)
			}
			if got := res.Header.Get("Location"); tc.code == 308 && got != "https://example.com:8443/away?a=b" {
				t.Errorf("Location = %q", got)
			}
		})
	}
	if g.get(t, "/", "Late", "1"); g.count(t, "istio_requests_total", "response_flags", "DI", "response_code", "200") != 1 {
		t.Error("A delayed request is not counted as such")
	}
}

// TestWeights draws every number of the total once.
func TestWeights(t *testing.T) {
	var next atomic.Uint32
	g := start(t, withRoutes(t, bothVersions(t), `
  - route:
    - {destination: {host: coolant, subset: v9}, weight: 0}
    - {destination: {host: coolant, subset: v1}, weight: 30}
    - {destination: {host: coolant, subset: v2}, weight: 10}
`), Options{Draw: func() uint32 { return next.Add(1) - 1 }})
	got := map[string]int{}
	for range 40 {
		res, _ := g.get(t, "/")
		got[res.Header.Get("Version")]++
	}
	if got["v1"] != 30 || got["v2"] != 10 {
		t.Errorf("Of 40 draws %v, want 30 for v1 and 10 for v2", got)
	}
}

func TestRetries(t *testing.T) {
	var tries atomic.Int32
	// failing answers the first two tries with a status and then echoes.
	failing := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		if tries.Add(1) <= 2 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write(text)
	})
	objects := upstreams(t, map[string]http.Handler{"v1": failing, "v2": versions("v2")})
	objects.WorkloadEntries = append(objects.WorkloadEntries, workloadEntry(t, "v2", closedAddress(t)))
	g := start(t, withRoutes(t, objects, `
  - match: [{uri: {exact: /gateway-error}}]
    retries: {attempts: 2, retryOn: gateway-error, backoff: 1ms}
    route: [{destination: {host: coolant, subset: v1}}]
  - match: [{uri: {exact: /502}}]
    retries: {attempts: 5, retryOn: "reset, 502", backoff: 1ms}
    route: [{destination: {host: coolant, subset: v1}}]
  - match: [{uri: {exact: /few}}]
    retries: {attempts: 1, retryOn: 5xx, backoff: 1ms}
    route: [{destination: {host: coolant, subset: v1}}]
  - match: [{uri: {exact: /none}}]
    retries: {}
    route: [{destination: {host: coolant, subset: v1}}]
  - match: [{uri: {exact: /connect}}]
    route: [{destination: {host: coolant, subset: v2}}]
  - route: [{destination: {host: coolant, subset: v1}}]
`), Options{MaxBodyBytes: 8, Draw: fixed(1)})
	cases := map[string]struct {
		args  string
		body  io.Reader
		tries int32
		code  int
	}{
		"Status":   {"/gateway-error", strings.NewReader("small"), 3, 200},
		"Number":   {"/502", strings.NewReader("small"), 3, 200},
		"TooFew":   {"/few", strings.NewReader("small"), 2, 502},
		"None":     {"/none", strings.NewReader("small"), 1, 502},
		"Default":  {"/", strings.NewReader("small"), 1, 502},
		"NoBody":   {"/502", nil, 3, 200},
		"TooLarge": {"/502", strings.NewReader("too large"), 1, 502},
		"Unknown":  {"/502", io.MultiReader(strings.NewReader("chunk")), 1, 502},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tries.Store(0)
			res, text := g.do(t, g.request(t, http.MethodPost, tc.args, tc.body))
			if res.StatusCode != tc.code || tries.Load() != tc.tries {
				t.Errorf("POST %s = %d after %d tries, want %d after %d", tc.args, res.StatusCode, tries.Load(), tc.code, tc.tries)
			}
			if tc.code == 200 && tc.body != nil && text != "small" {
				t.Errorf("The last try sent %q", text)
			}
		})
	}
	t.Run("Connect", func(t *testing.T) {
		// Istio's default policy tries the other endpoint, with a streamed body too: nothing of it was sent.
		for range 4 {
			body := io.MultiReader(strings.NewReader("a streamed body"))
			if res, text := g.do(t, g.request(t, http.MethodPost, "/connect", body)); res.StatusCode != 200 || text != "a streamed body" {
				t.Errorf("POST /connect = %d %q", res.StatusCode, text)
			}
		}
	})
}

func TestMirror(t *testing.T) {
	copies := make(chan string, 10)
	shadow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusInternalServerError)
		copies <- r.Host + " " + string(text)
	})
	g := start(t, withRoutes(t, upstreams(t, map[string]http.Handler{"v1": versions("v1"), "v2": shadow}), `
  - match: [{method: {exact: POST}}]
    route: [{destination: {host: coolant, subset: v1}}]
    mirror: {host: coolant, subset: v2}
    mirrorPercentage: {value: 50}
  - route: [{destination: {host: coolant, subset: v1}}]
    mirrors: [{destination: {host: coolant, subset: v9}}]
`), Options{Draw: fixed(499_999)})
	if res, text := g.do(t, g.request(t, http.MethodPost, "/", strings.NewReader("copied"))); res.StatusCode != 200 || text != "copied" {
		t.Errorf("POST = %d %q, want the answer of v1", res.StatusCode, text)
	}
	if got, want := <-copies, host+"-shadow copied"; got != want {
		t.Errorf("The mirror saw %q, want %q", got, want)
	}
	if res, _ := g.get(t, "/"); res.StatusCode != 200 {
		t.Errorf("A mirror without endpoints is seen: %d", res.StatusCode)
	}
	g.server.Close()
	g.Close()
	if sent, dropped := g.count(t, "siskin_gateway_mirrored_requests_total", "result", "sent"), g.count(t, "siskin_gateway_mirrored_requests_total", "result", "dropped"); sent != 1 || dropped != 1 {
		t.Errorf("mirrored %v, dropped %v, want 1 and 1", sent, dropped)
	}
	if got := g.count(t, "istio_requests_total"); got != 2 {
		t.Errorf("istio_requests_total = %v: copies are no requests", got)
	}
}

// TestMirrorIsBounded fills the only slot.
func TestMirrorIsBounded(t *testing.T) {
	release := make(chan struct{})
	slow := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
	g := start(t, withRoutes(t, upstreams(t, map[string]http.Handler{"v1": versions("v1"), "v2": slow}), `
  - route: [{destination: {host: coolant, subset: v1}}]
    mirror: {host: coolant, subset: v2}
`), Options{MaxMirrors: 1})
	for range 3 {
		g.get(t, "/")
	}
	close(release)
	if got := g.count(t, "siskin_gateway_mirrored_requests_total", "result", "dropped"); got != 2 {
		t.Errorf("dropped %v copies, want 2", got)
	}
}

func TestTokenBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTokenBucket(bucketRate{max: 4, perFill: 2, interval: time.Second}, time.Now())
		for want := uint32(3); ; want-- {
			ok, remaining, _ := b.take(time.Now())
			if !ok || remaining != want {
				t.Fatalf("take() = %t, %d, want %d left", ok, remaining, want)
			}
			if want == 0 {
				break
			}
		}
		if ok, _, reset := b.take(time.Now()); ok || reset != 500*time.Millisecond {
			t.Errorf("An empty bucket gives %t and resets in %v, want 500ms", ok, reset)
		}
		time.Sleep(499 * time.Millisecond)
		if ok, _, _ := b.take(time.Now()); ok {
			t.Error("A token came too early")
		}
		time.Sleep(2 * time.Millisecond)
		if ok, _, _ := b.take(time.Now()); !ok {
			t.Error("No token came")
		}
		time.Sleep(time.Hour)
		if _, remaining, _ := b.take(time.Now()); remaining != 3 {
			t.Errorf("A full bucket has %d left after one, want 3", remaining)
		}
	})
}

// TestRateLimit drains the canary's bucket, which a new table must not fill.
func TestRateLimit(t *testing.T) {
	endpoints := bothVersions(t)
	traffic := split([]int{7})
	traffic.RateLimit = &mesh.RateLimit{RequestsPerSecond: 1, Burst: 3, OnlyCanary: true}
	now := time.Unix(1_700_000_000, 0)
	g := start(t, rendered(t, traffic, endpoints), Options{Now: func() time.Time { return now }})
	for i := range 3 {
		res, _ := g.get(t, "/", mesh.BucketHeader, "07")
		if got := res.Header.Get("X-Ratelimit-Remaining"); res.StatusCode != 200 || got != string(rune('2'-i)) {
			t.Errorf("request %d: %d with %s left", i, res.StatusCode, got)
		}
	}
	moved := split([]int{7, 8})
	moved.RateLimit = traffic.RateLimit
	g.Load(rendered(t, moved, endpoints))
	res, _ := g.get(t, "/", mesh.BucketHeader, "07")
	for name, want := range map[string]string{"X-Ratelimit-Limit": "3", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "1", mesh.VariantHeader: "canary"} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("GET = %d, want 429", res.StatusCode)
	}
	if res, _ := g.get(t, "/", mesh.BucketHeader, "09"); res.StatusCode != 200 || res.Header.Get("X-Ratelimit-Limit") != "" {
		t.Errorf("stable is limited with the canary: %d", res.StatusCode)
	}
	if got := g.count(t, "istio_requests_total", "response_code", "429", "response_flags", "RL", "destination_version", "v2"); got != 1 {
		t.Errorf("istio_requests_total{429, RL} = %v, want 1", got)
	}
}

// TestLastGood refuses an update, then a creation.
func TestLastGood(t *testing.T) {
	var log bytes.Buffer
	objects := withRoutes(t, bothVersions(t), "  - route: [{destination: {host: coolant, subset: v1}}]")
	g := start(t, objects, Options{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	bad := withRoutes(t, objects, "  - route: [{destination: {host: coolant, subset: v2}}]\n    corsPolicy: {allowMethods: [GET]}")
	for range 2 {
		if refusals := g.Load(bad); len(refusals) != 1 || refusals[0].Field != "spec.http[0].corsPolicy" {
			t.Fatalf("Load(...) = %v", refusals)
		}
		if res, _ := g.get(t, "/"); res.Header.Get("Version") != "v1" {
			t.Errorf("After a refused update %q answers, want v1", res.Header.Get("Version"))
		}
	}
	if got := strings.Count(log.String(), `"level":"ERROR"`); got != 1 {
		t.Errorf("The refusal was logged %d times, want once:\n%s", got, log.String())
	}
	name := []string{"kind", "VirtualService", "namespace", "edge", "name", "coolant"}
	if got := g.count(t, "siskin_gateway_refused_objects", name...); got != 1 {
		t.Errorf("siskin_gateway_refused_objects = %v, want 1", got)
	}
	bad.VirtualServices = nil
	g.Load(bad)
	bad = withRoutes(t, objects, "  - route: [{destination: {host: coolant, subset: v2}}]\n    corsPolicy: {allowMethods: [GET]}")
	g.Load(bad)
	if res, _ := g.get(t, "/"); res.Header.Get("Version") == "" {
		t.Errorf("A refused creation took the service away: %d", res.StatusCode)
	}
	good := withRoutes(t, objects, "  - route: [{destination: {host: coolant, subset: v2}}]")
	g.Load(good)
	if res, _ := g.get(t, "/"); res.Header.Get("Version") != "v2" {
		t.Errorf("After a repaired update %q answers, want v2", res.Header.Get("Version"))
	}
	if got := g.count(t, "siskin_gateway_refused_objects", name...); got != 0 {
		t.Errorf("siskin_gateway_refused_objects = %v after the repair, want 0", got)
	}
}

// TestMetricLabels checks every label once.
func TestMetricLabels(t *testing.T) {
	g := start(t, withRoutes(t, upstreams(t, map[string]http.Handler{"v1": versions("v1")}), "  - route: [{destination: {host: coolant, subset: v1}}]"),
		Options{Identity: Identity{Namespace: "edge", Workload: "ingest"}})
	g.get(t, "/")
	labels := []string{
		"reporter", "source", "source_workload", "ingest", "source_workload_namespace", "edge",
		"destination_workload_namespace", "edge", "destination_service", host, "destination_service_name", "coolant",
		"destination_service_namespace", "edge", "destination_version", "v1", "destination_canonical_revision", "v1",
		"destination_app", "coolant", "request_protocol", "http", "response_code", "200", "response_flags", "-",
		"connection_security_policy", "unknown",
	}
	for _, name := range []string{"istio_requests_total", "istio_request_duration_milliseconds"} {
		if got := g.count(t, name, labels...); got != 1 {
			t.Errorf("%s = %v, want 1", name, got)
		}
	}
}

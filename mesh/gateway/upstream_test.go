package gateway

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/siskin-dev/siskin/mesh"
)

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

// retryRoutes has a path for each policy.
const retryRoutes = `
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
`

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
	g := start(t, withRoutes(t, objects, retryRoutes), Options{MaxBodyBytes: 8, Draw: fixed(1)})
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
	if got := g.count(t, "istio_requests_total", "reporter", "source"); got != 2 {
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

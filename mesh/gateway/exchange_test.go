package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	api "istio.io/api/networking/v1alpha3"

	"github.com/siskin-dev/siskin/mesh"
)

// faultyRoutes has a path for each way to get no response.
const faultyRoutes = `
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
`

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
	objects = withRoutes(t, objects, faultyRoutes)
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
	_, err := g.server.Client().Do(g.request(t, http.MethodGet, "/", nil).WithContext(ctx))
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

// TestShortBody sends less than it promised: the caller's mistake, of which the upstream never hears.
func TestShortBody(t *testing.T) {
	g := start(t, upstreams(t, map[string]http.Handler{"v1": versions("v1")}), Options{})
	conn, err := net.Dial("tcp", g.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 10\r\n\r\nshort"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("POST = %d, want 400", res.StatusCode)
	}
	g.server.Close()
	if got := g.count(t, "istio_requests_total", "response_code", "0", "response_flags", "DC"); got != 1 {
		t.Errorf("istio_requests_total{0, DC} = %v, want 1", got)
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

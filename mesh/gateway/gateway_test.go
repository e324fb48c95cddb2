package gateway

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
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
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
		t.Errorf("Before the first Load: %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	g.Load(Objects{})
	w = httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("After a Load of nothing: %d, want 404", w.Code)
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

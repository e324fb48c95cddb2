package evidence

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
)

// ServeHTTP answers instant queries as Prometheus' HTTP API does.
func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.ParseFloat(r.FormValue("time"), 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	value, _, _, err := s.Query(r.Context(), r.FormValue("query"), time.UnixMilli(int64(seconds*1000)))
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": value.Type().String(), "result": value}}); err != nil {
		s.t.Error(err)
	}
}

// TestOverHTTP: through the client that the controller uses, samples and native histograms make the same blocks.
func TestOverHTTP(t *testing.T) {
	s := newStore(t)
	s.load(requests("v1", "200", on(1)) + " 0+5x40\n" + requests("v2", "503", on(1)) + " 0+1x40\n" +
		nativeSlow("v1", on(1)) + " " + scaled(3, 60, 0) + "+" + scaled(3, 60, 3, 0, 2, 1) + "x40\n" +
		nativeSlow("v2", on(1)) + " " + scaled(2, 30, 1) + "+" + scaled(2, 30, 1, 1) + "x40")
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	client, err := api.NewClient(api.Config{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	source, err := New(Options{API: promv1.NewAPI(client), Lookback: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	got, err := source.Blocks(t.Context(), question(0, 10, errorsGate, latencyGate))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(s.ask(0, 10, errorsGate, latencyGate), got); d != "" {
		t.Errorf("direct - over HTTP +\n%s", d)
	}
	if c := got[3].Counts["latency"]; c.Stable.Requests != 18 || c.Canary.Requests != 6 || len(c.Bounds) != nativeBounds {
		t.Errorf("a block has %g and %g requests and %d bounds, want 18, 6 and %d", c.Stable.Requests, c.Canary.Requests, len(c.Bounds), nativeBounds)
	}
}

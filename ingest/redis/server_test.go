package redis

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/siskin-dev/siskin/ingest"
)

type predictor struct{}

func (predictor) Predict(context.Context, int, []float64) (ingest.Prediction, error) {
	return ingest.Prediction{Value: 90, Version: "v1"}, nil
}

// newServer puts a whole ingest in front of a log. It runs until the test ends, or stop is called.
func newServer(t testing.TB, l *Log, logger *slog.Logger) (s *ingest.Server, reg *prometheus.Registry, stop func()) {
	t.Helper()
	names, err := ingest.NewPseudonymiser([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	reg = prometheus.NewRegistry()
	s, err = ingest.New(ingest.Options{
		Salt: "coolant", Model: "coolant", Features: []string{"ENGINE_RPM"}, Logger: logger, AppendTimeout: time.Minute,
		Schema: l.options.Schema, Pseudonyms: names, Log: l, Predictor: predictor{}, Metrics: ingest.NewMetrics(reg),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var runs sync.WaitGroup
	runs.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); runs.Wait() })
	t.Cleanup(stop)
	return s, reg, stop
}

func post(h http.Handler, vin string, seq int) *httptest.ResponseRecorder {
	body := fmt.Sprintf(`{"boot":"b","seq":%d,"Vehicle.OBD.RunTime":60,"Vehicle.OBD.EngineSpeed":900,"Vehicle.OBD.CoolantTemperature":88}`, seq)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/vehicles/"+vin+"/measurements", strings.NewReader(body)))
	return w
}

// TestAcknowledgedIsInTheStream takes Redis away and gives it back in the middle of the traffic, as invariant 11 fears:
// what was answered with 202 or 200 is in the stream, once, in order; what was not was answered with 503 and Retry-After.
func TestAcknowledgedIsInTheStream(t *testing.T) {
	m := miniredis.RunT(t)
	l, client := newLog(t, m.Addr(), nil)
	s, _, _ := newServer(t, l, nil)
	var refused int
	for seq := range 90 {
		switch seq {
		case 30:
			m.SetError("LOADING")
		case 60:
			m.SetError("")
		}
		for try := 0; ; try++ {
			w := post(s, "SSKNFLEET00000001", seq)
			if w.Code == http.StatusAccepted || w.Code == http.StatusOK {
				break
			}
			refused++
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Fatalf("record %d: got %d, Retry-After %q", seq, w.Code, w.Header().Get("Retry-After"))
			}
			if try == 2 {
				m.SetError("") // the outage ends, for this record
			}
		}
		if seq >= 30 && seq < 59 {
			m.SetError("LOADING")
		}
	}
	if refused < 30 {
		t.Errorf("%d refused: the outage did not happen", refused)
	}
	entries, err := client.XRange(t.Context(), stream, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 90 {
		t.Fatalf("%d records in the stream, want 90", len(entries))
	}
	for i, e := range entries {
		if e.Values["seq"] != strconv.Itoa(i) {
			t.Fatalf("record %d of the stream is %v", i, e.Values["seq"])
		}
	}
}

// TestNoVINLeaves looks for the VIN everywhere that ingest writes to.
func TestNoVINLeaves(t *testing.T) {
	const vin = "SSKNFLEET00000001"
	m := miniredis.RunT(t)
	l, _ := newLog(t, m.Addr(), nil)
	var logs bytes.Buffer
	s, reg, stop := newServer(t, l, slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	post(s, vin, 1)
	m.SetError("LOADING")
	post(s, vin, 2)
	m.SetError("")
	stop()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"Redis": m.Dump(), "the log": logs.String(), "the metrics": fmt.Sprint(families)} {
		if text == "" || strings.Contains(text, vin) {
			t.Errorf("%s holds the VIN, or nothing", where)
		}
	}
}

// TestDownIsToldAtOnce asks a server whose Redis does not listen.
func TestDownIsToldAtOnce(t *testing.T) {
	m := miniredis.RunT(t)
	addr := m.Addr()
	m.Close()
	l, _ := newLog(t, addr, nil)
	s, _, _ := newServer(t, l, nil)
	fastest := time.Hour // of some, since test machines have hiccups
	for seq := range 20 {
		start := time.Now()
		if w := post(s, "SSKNFLEET00000001", seq); w.Code != 503 {
			t.Fatalf("got %d, want 503", w.Code)
		}
		fastest = min(fastest, time.Since(start))
	}
	if fastest > 50*time.Millisecond {
		t.Errorf("told after %v, want 50ms at most", fastest)
	}
}

// BenchmarkHandler posts full measurements of many vehicles through HTTP handling, decoding, log and queue, in one
// process with a Redis stand-in.
func BenchmarkHandler(b *testing.B) {
	m := miniredis.RunT(b)
	l, _ := newLog(b, m.Addr(), nil)
	s, _, _ := newServer(b, l, nil)
	rec := records(l, 1)[0]
	for i := range rec.Values {
		rec.Values[i] = max(l.options.Schema.Signal(i).Min, 1)
	}
	values := l.options.Schema.AppendJSON(nil, rec.Values)[1:]
	var vehicles atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		path := fmt.Sprintf("/v1/vehicles/SSKNFLEET%08d/measurements", vehicles.Add(1))
		for seq := 0; pb.Next(); seq++ {
			body := append(fmt.Appendf(nil, `{"boot":"b","seq":%d,`, seq), values...)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
			if w.Code != http.StatusAccepted {
				b.Errorf("got %d %s", w.Code, w.Body)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

package prom

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestFailingTarget(t *testing.T) {
	s := start(t, Options{})
	c := newClient(t, s)
	feed(t, s, nil, "level 1", "fail", "level 3")
	for i, want := range []struct{ up, level string }{
		{"{} => 1 @[1700000000]", "{} => 1 @[1700000000]"},
		{"{} => 0 @[1700000001]", ""},
		{"{} => 1 @[1700000002]", "{} => 3 @[1700000002]"},
	} {
		at := t0.Add(time.Duration(i) * time.Second)
		if got := query(t, c, "sum(up)", at).String(); got != want.up {
			t.Errorf("up after scrape %d: got %q, want %q", i, got, want.up)
		}
		if got := query(t, c, "sum(level)", at).String(); got != want.level {
			t.Errorf("level after scrape %d: got %q, want %q", i, got, want.level)
		}
	}
}

func TestEndMarksSeries(t *testing.T) {
	s := start(t, Options{})
	c := newClient(t, s)
	sc := feed(t, s, nil, "level 1")
	sc.end(t0) // at the very time of the last scrape
	if got := query(t, c, `{job="test"}`, t0.Add(time.Second)).String(); got != "" {
		t.Errorf("series after the target was removed: got %s, want none", got)
	}
}

func TestHiddenLabels(t *testing.T) {
	s := start(t, Options{})
	c := newClient(t, s)
	feed(t, s, map[string]string{"namespace": "edge"}, `weight{namespace="a",job="b",exported_job="c"} 5`)
	want := `weight{exported_exported_job="b", exported_job="c", exported_namespace="a", instance="one", job="test", namespace="edge"} => 5 @[1700000000]`
	if got := query(t, c, "weight", t0).String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestOwnTimestamps(t *testing.T) {
	s := start(t, Options{})
	c := newClient(t, s)
	feed(t, s, nil, "now 1\nold 1 1699999990000", "now 1")
	if got := query(t, c, "sum(old)", t0.Add(time.Second)).String(); got != "{} => 1 @[1700000001]" {
		t.Errorf("series with its own timestamp: got %q; it must not be marked as ended", got)
	}
	if got := query(t, c, "min(timestamp(old))", t0).String(); got != "{} => 1699999990 @[1700000000]" {
		t.Errorf("timestamp: got %q", got)
	}
}

func TestScrapeHTTP(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "wait_seconds", Help: "Waits.", Buckets: []float64{0.5, 1}})
	registry.MustRegister(h)
	h.Observe(0.7)
	for name, handler := range map[string]http.HandlerFunc{
		"Protobuf": func(w http.ResponseWriter, r *http.Request) {
			writeFamilies(t, w, registry, expfmt.Negotiate(r.Header))
		},
		"Text": func(w http.ResponseWriter, _ *http.Request) {
			writeFamilies(t, w, registry, expfmt.NewFormat(expfmt.TypeTextPlain))
		},
		"NoContentType": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			writeFamilies(t, w, registry, expfmt.NewFormat(expfmt.TypeTextPlain))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{})
			target := httptest.NewServer(handler)
			defer target.Close()
			lset, err := Target{Job: "http", URL: target.URL}.lset()
			if err != nil {
				t.Fatal(err)
			}
			newScraper(Target{Job: "http", URL: target.URL}, lset, s).scrape(t.Context(), t0)
			got := query(t, newClient(t, s), `sum by (le) (wait_seconds_bucket)`, t0).String()
			for _, want := range []string{`{le="0.5"} => 0`, `{le="1.0"} => 1`, `{le="+Inf"} => 1`} {
				if !strings.Contains(got, want) {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
}

func writeFamilies(t *testing.T, w http.ResponseWriter, g prometheus.Gatherer, f expfmt.Format) {
	families, err := g.Gather()
	if err != nil {
		t.Error(err)
	}
	if w.Header()["Content-Type"] == nil && len(w.Header()) == 0 {
		w.Header().Set("Content-Type", string(f))
	}
	e := expfmt.NewEncoder(w, f)
	for _, mf := range families {
		if err := e.Encode(mf); err != nil {
			t.Error(err)
		}
	}
}

func TestBadTargets(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"Status":  func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) },
		"Garbage": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "good 1\n{{{") },
		"Cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, "good 1\n")
		},
		"Hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{Timeout: 200 * time.Millisecond})
			target := httptest.NewServer(handler)
			defer target.Close()
			at := Target{Job: "bad", URL: target.URL}
			lset, err := at.lset()
			if err != nil {
				t.Fatal(err)
			}
			newScraper(at, lset, s).scrape(t.Context(), t0)
			c := newClient(t, s)
			if got := query(t, c, "sum(up)", t0).String(); got != "{} => 0 @[1700000000]" {
				t.Errorf("up: got %q, want 0", got)
			}
			if got := query(t, c, "good", t0).String(); got != "" {
				t.Errorf("half an answer was stored: %s", got)
			}
		})
	}
}

func TestAddTargetRefuses(t *testing.T) {
	s := start(t, Options{})
	for name, tc := range map[string]struct {
		target Target
		want   string
	}{
		"NoJob":     {target: Target{URL: "http://127.0.0.1:1/metrics"}, want: "Job must be given"},
		"Nothing":   {target: Target{Job: "a"}, want: "exactly one of URL and Gatherer"},
		"Both":      {target: Target{Job: "a", URL: "http://127.0.0.1:1", Gatherer: prometheus.NewRegistry()}, want: "exactly one"},
		"NoScheme":  {target: Target{Job: "a", URL: "127.0.0.1:1"}, want: `"127.0.0.1:1"`},
		"LabelName": {target: Target{Job: "a", URL: "http://127.0.0.1:1", Labels: map[string]string{"": "b"}}, want: "no label name"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.AddTarget(tc.target)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddTarget(Target{Job: "a", Gatherer: prometheus.NewRegistry()}); err == nil {
		t.Error("a stopped server took a target")
	}
}

// counting is a Gatherer that tells of each scrape.
type counting struct {
	scrapes chan struct{}
	n       atomic.Int64
}

func (c *counting) Gather() ([]*dto.MetricFamily, error) {
	n := c.n.Add(1)
	select {
	case c.scrapes <- struct{}{}:
	default:
	}
	return decode(strings.NewReader(fmt.Sprintf("turns %d\n", n)), expfmt.NewFormat(expfmt.TypeTextPlain), 100)
}

// TestLoop runs the scraper by the clock: on the grid, through a pause, to the end of the target.
func TestLoop(t *testing.T) {
	const interval = 50 * time.Millisecond
	s := start(t, Options{Interval: interval, Align: true})
	c := newClient(t, s)
	source := &counting{scrapes: make(chan struct{}, 1)}
	remove, err := s.AddTarget(Target{Job: "loop", Instance: "one", Gatherer: source})
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		await(t, source.scrapes)
	}
	remove()
	remove()
	turns := source.n.Load()
	m, ok := query(t, c, "turns[1m]", time.Now()).(model.Matrix)
	if !ok || len(m) != 1 || int64(len(m[0].Values)) > turns || len(m[0].Values) < 3 {
		t.Fatalf("samples: got %v, want one series of 3 to %d", m, turns)
	}
	for _, p := range m[0].Values {
		if int64(p.Timestamp)%interval.Milliseconds() != 0 {
			t.Errorf("sample at %d ms is off the grid of %v", p.Timestamp, interval)
		}
	}
	if got := query(t, c, "turns", time.Now()).String(); got != "" {
		t.Errorf("after remove: got %s, want nothing", got)
	}
}

func TestPause(t *testing.T) {
	s := start(t, Options{Interval: 10 * time.Millisecond})
	c := newClient(t, s)
	paused := &counting{scrapes: make(chan struct{}, 1)}
	if _, err := s.AddTarget(Target{Job: "pause", Gatherer: paused}); err != nil {
		t.Fatal(err)
	}
	await(t, paused.scrapes)
	await(t, paused.scrapes)
	s.Pause()
	before := paused.n.Load()
	// The loop ticks on without scraping: at most the scrape in flight when the pause came.
	tick := time.NewTimer(200 * time.Millisecond)
	defer tick.Stop()
	<-tick.C
	if got := paused.n.Load(); got > before+1 {
		t.Errorf("scrapes while paused: got %d", got-before)
	}
	if got := query(t, c, "turns", time.Now()).String(); got == "" {
		t.Error("a pause marked the series as ended; it must look like a Prometheus that reaches nothing")
	}
	s.Resume()
	for paused.n.Load() <= before+1 {
		await(t, paused.scrapes)
	}
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatal("no scrape came")
	}
}

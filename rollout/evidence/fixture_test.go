package evidence

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/siskin-dev/siskin/rollout"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	scrape   = 5 * time.Second
	interval = 15 * time.Second
	// latencyThreshold is that of latencyGate.
	latencyThreshold = 250 * time.Millisecond
)

// store is Prometheus' own database and query engine, filled by hand.
type store struct {
	t      testing.TB
	db     *tsdb.DB
	engine *promql.Engine
	// mu guards queries, which lists what was asked; fail and warn are what the next answers say.
	mu      sync.Mutex
	queries []string
	fail    error
	warn    promv1.Warnings
}

func newStore(t testing.TB) *store {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	options := tsdb.DefaultOptions()
	options.WALSegmentSize = -1
	options.StripeSize = 1 << 8
	db, err := tsdb.Open(t.TempDir(), quiet, nil, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	engine := promql.NewEngine(promql.EngineOpts{
		Logger: quiet, MaxSamples: 10_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute,
		Parser: parser.NewParser(parser.Options{}),
	})
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &store{t: t, db: db, engine: engine}
}

// Query implements API.
func (s *store) Query(ctx context.Context, query string, at time.Time, _ ...promv1.Option) (model.Value, promv1.Warnings, promv1.Infos, error) {
	s.mu.Lock()
	s.queries = append(s.queries, query)
	s.mu.Unlock()
	if s.fail != nil {
		return nil, nil, nil, s.fail
	}
	q, err := s.engine.NewInstantQuery(ctx, s.db, nil, query, at)
	if err != nil {
		return nil, nil, nil, err
	}
	defer q.Close()
	res := q.Exec(ctx)
	if res.Err != nil {
		return nil, nil, nil, res.Err
	}
	matrix, ok := res.Value.(promql.Matrix)
	if !ok {
		return model.Vector{}, s.warn, nil, nil
	}
	out := make(model.Matrix, 0, len(matrix))
	for _, in := range matrix {
		stream := &model.SampleStream{Metric: model.Metric{}}
		in.Metric.Range(func(l labels.Label) { stream.Metric[model.LabelName(l.Name)] = model.LabelValue(l.Value) })
		for _, p := range in.Floats {
			stream.Values = append(stream.Values, model.SamplePair{Timestamp: model.Time(p.T), Value: model.SampleValue(p.F)})
		}
		for _, p := range in.Histograms {
			stream.Histograms = append(stream.Histograms, model.SampleHistogramPair{Timestamp: model.Time(p.T), Histogram: listed(p.H)})
		}
		out = append(out, stream)
	}
	return out, s.warn, nil, nil
}

// listed is a native histogram as the HTTP API lists it: the buckets that have counted something.
func listed(h *histogram.FloatHistogram) *model.SampleHistogram {
	out := &model.SampleHistogram{Count: model.FloatString(h.Count), Sum: model.FloatString(h.Sum)}
	for it := h.AllBucketIterator(); it.Next(); {
		b := it.At()
		if b.Count == 0 {
			continue
		}
		boundaries := int32(2) // all excluded
		switch {
		case b.LowerInclusive && b.UpperInclusive:
			boundaries = 3
		case b.LowerInclusive:
			boundaries = 1
		case b.UpperInclusive:
			boundaries = 0
		}
		out.Buckets = append(out.Buckets, &model.HistogramBucket{
			Boundaries: boundaries, Lower: model.FloatString(b.Lower), Upper: model.FloatString(b.Upper), Count: model.FloatString(b.Count),
		})
	}
	return out
}

// load appends series in the language of promqltest, one sample every scrape from t0 on:
//
//	name{label="value"} 0 5 _ 7x3 NaN
//
// "_" is a missed scrape, "7+2x3" the values 7 9 11 13, "7x3" four times 7.
func (s *store) load(text string) {
	s.t.Helper()
	app := s.db.Appender(s.t.Context())
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		metric, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(line)
		if err != nil {
			s.t.Fatalf("reading %q: %v", line, err)
		}
		for i, v := range values {
			at := t0.Add(time.Duration(i) * scrape).UnixMilli()
			switch {
			case v.Omitted:
				continue
			case v.Histogram != nil:
				_, err = app.AppendHistogram(0, metric, at, nil, v.Histogram)
			default:
				_, err = app.Append(0, metric, at, v.Value)
			}
			if err != nil {
				s.t.Fatal(err)
			}
		}
	}
	if err := app.Commit(); err != nil {
		s.t.Fatal(err)
	}
}

// requests names a series of Istio's request counter; more are further labels, such as `response_flags="DC"`.
func requests(version, code string, more ...string) string {
	all := append([]string{istioLabels(version), fmt.Sprintf("response_code=%q", code)}, more...)
	return "istio_requests_total{" + strings.Join(all, ",") + "}"
}

// slow names a series of Istio's latency histogram.
func slow(version, le string, more ...string) string {
	all := append([]string{istioLabels(version), `response_code="200"`, fmt.Sprintf("le=%q", le)}, more...)
	return "istio_request_duration_milliseconds_bucket{" + strings.Join(all, ",") + "}"
}

func istioLabels(version string) string {
	l := `reporter="source",destination_service_name="coolant",destination_service_namespace="edge"`
	if version != "" {
		l += fmt.Sprintf(",destination_version=%q", version)
	}
	return l
}

// on is the labels of the scraped process n.
func on(n int) string { return `job="gateway",instance="10.0.0.` + strconv.Itoa(n) + `:15090"` }

var (
	errorsGate  = rollout.Gate{Name: "errors", Type: rollout.ErrorRate}
	latencyGate = rollout.Gate{Name: "latency", Type: rollout.Latency, Threshold: latencyThreshold}
	meanGate    = rollout.Gate{
		Name: "quality", Type: rollout.Mean, VersionLabel: "version", BucketLabel: "bucket",
		Sum: `siskin_prediction_absolute_error_total{model="coolant"}`, Count: `siskin_predictions_total{model="coolant"}`,
	}
)

// ask returns the blocks from the first-th to before the last-th after t0.
func (s *store) ask(first, last int, gates ...rollout.Gate) []rollout.Block {
	s.t.Helper()
	blocks, err := s.source().Blocks(s.t.Context(), question(first, last, gates...))
	if err != nil {
		s.t.Fatal(err)
	}
	return blocks
}

func (s *store) source() *Source {
	s.t.Helper()
	source, err := New(Options{API: s, Lookback: 20 * time.Second})
	if err != nil {
		s.t.Fatal(err)
	}
	return source
}

func question(first, last int, gates ...rollout.Gate) rollout.Question {
	return rollout.Question{
		Service: rollout.Service{Namespace: "edge", Name: "coolant"}, Gates: gates, Stable: "v1", Canary: "v2",
		From: t0.Add(time.Duration(first) * interval), To: t0.Add(time.Duration(last) * interval), Interval: interval,
	}
}

// tally is an error gate's counts of one block: requests and errors of stable and of the canary.
type tally [4]float64

func tallies(blocks []rollout.Block) []tally {
	out := make([]tally, len(blocks))
	for i, b := range blocks {
		if c, ok := b.Counts["errors"]; ok {
			out[i] = tally{c.Stable.Requests, c.Stable.Events[0], c.Canary.Requests, c.Canary.Events[0]}
		} else {
			out[i] = tally{-1}
		}
	}
	return out
}

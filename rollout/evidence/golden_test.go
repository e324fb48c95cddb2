package evidence

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/stats"
)

const increaseMethod = "increase() v anchored on integer counter, scrape 15s, window 1m"

type increaseCase struct {
	ID     string `json:"id"`
	Method string `json:"method"`
	Input  struct {
		Samples string    `json:"samples"`
		At      []float64 `json:"at_s"`
	} `json:"input"`
	Expected   *increases `json:"expected"`
	Recomputed *increases `json:"recomputed"`
	Tolerance  float64    `json:"abs_tol"`
}

// increases has one number for each instant: what increase() makes of the minute before it, and the true differences.
type increases struct {
	Default  []float64 `json:"default"`
	Anchored []float64 `json:"anchored"`
}

// TestGoldenIncrease answers the method that rollout/stats leaves to this package: increase() by Prometheus' own engine,
// and the differences of samples by Blocks. SISKIN_GOLDEN_STATS names another file.
func TestGoldenIncrease(t *testing.T) {
	path := os.Getenv("SISKIN_GOLDEN_STATS")
	if path == "" {
		path = filepath.Join("..", "stats", "testdata", "stats.json")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("reading golden values: %v", err)
	}
	var golden struct {
		Methods map[string]json.RawMessage `json:"methods"`
		Cases   []json.RawMessage          `json:"cases"`
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatalf("reading golden values %q: %v", path, err)
	}
	if golden.Methods[increaseMethod] == nil {
		t.Errorf("%q does not know the method %q", path, increaseMethod)
	}
	for _, raw := range golden.Cases {
		var c increaseCase
		if json.Unmarshal(raw, &c) != nil || c.Method != increaseMethod {
			continue // the other methods' answers have other shapes
		}
		t.Run(c.ID, func(t *testing.T) { c.check(t) })
	}
}

func (c increaseCase) check(t *testing.T) {
	want := c.Recomputed
	if want == nil {
		want = c.Expected
	}
	values, every := parseSamples(t, c.Input.Samples)
	s := newStore(t)
	got := increases{}
	for i, at := range c.Input.At {
		metric := fmt.Sprintf(`probe_total{job="probe",instance="p",version="v2",at="%d"}`, i)
		s.append(metric, minute.Add(-seconds(at)), every, values)
		got.Default = append(got.Default, s.number("increase("+metric+"[1m])", minute))
		got.Anchored = append(got.Anchored, s.difference(metric))
		if anchored := s.number("increase("+metric+"[1m] anchored)", minute); anchored != got.Anchored[i] {
			t.Errorf("at %g s: our difference is %g, Prometheus' anchored one %g", at, got.Anchored[i], anchored)
		}
	}
	near := func(a, b float64) bool { return math.Abs(a-b) <= c.Tolerance }
	if !slices.EqualFunc(got.Default, want.Default, near) {
		t.Errorf("increase() is %v, want %v", got.Default, want.Default)
	}
	if !slices.EqualFunc(got.Anchored, want.Anchored, near) {
		t.Errorf("the differences are %v, want %v", got.Anchored, want.Anchored)
	}
}

// minute is an instant on the grid of minutes.
var minute = rollout.GridFloor(t0, time.Minute)

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// parseSamples reads "1 2 3 .. every 15s".
func parseSamples(t *testing.T, text string) (values []float64, every time.Duration) {
	t.Helper()
	list, interval, ok := strings.Cut(text, " every ")
	if !ok {
		t.Fatalf("reading samples %q: they do not say how often", text)
	}
	every, err := time.ParseDuration(strings.TrimSpace(interval))
	if err != nil {
		t.Fatalf("reading samples %q: %v", text, err)
	}
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' }) {
		v, err := strconv.ParseFloat(word, 64)
		if err != nil {
			t.Fatalf("reading samples %q: %v", text, err)
		}
		values = append(values, v)
	}
	return values, every
}

// append stores a series with one value every interval from an instant on.
func (s *store) append(metric string, from time.Time, every time.Duration, values []float64) {
	s.t.Helper()
	set, err := parser.NewParser(parser.Options{}).ParseMetric(metric)
	if err != nil {
		s.t.Fatalf("reading %q: %v", metric, err)
	}
	app := s.db.Appender(s.t.Context())
	for i, v := range values {
		if _, err := app.Append(0, set, from.Add(time.Duration(i)*every).UnixMilli(), v); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		s.t.Fatal(err)
	}
}

// number evaluates a query whose answer is one number, with the modifiers of a range known.
func (s *store) number(query string, at time.Time) float64 {
	s.t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute,
		Parser: parser.NewParser(parser.Options{EnableExtendedRangeSelectors: true}),
	})
	defer engine.Close()
	q, err := engine.NewInstantQuery(s.t.Context(), s.db, nil, query, at)
	if err != nil {
		s.t.Fatalf("reading %q: %v", query, err)
	}
	defer q.Close()
	vector, err := q.Exec(s.t.Context()).Vector()
	if err != nil || len(vector) != 1 {
		s.t.Fatalf("evaluating %q: %v, %v", query, vector, err)
	}
	return vector[0].F
}

// difference returns what the minute before minute counts of a counter.
func (s *store) difference(selector string) float64 {
	s.t.Helper()
	source, err := New(Options{API: s, Lookback: time.Minute})
	if err != nil {
		s.t.Fatal(err)
	}
	blocks, err := source.Blocks(s.t.Context(), rollout.Question{
		Service: rollout.Service{Namespace: "edge", Name: "coolant"}, Stable: "v1", Canary: "v2",
		Gates: []rollout.Gate{{Name: "units", Type: rollout.SampleRatio, VersionLabel: "version", Count: selector}},
		From:  minute.Add(-time.Minute), To: minute, Interval: time.Minute,
	})
	if err != nil || len(blocks) != 1 {
		s.t.Fatalf("reading blocks: %v, %v", blocks, err)
	}
	return blocks[0].Counts["units"].Canary.Requests
}

// TestHistogramsAsPrometheusHasThem draws classic histograms, odd ones too, and asks Prometheus' own functions.
func TestHistogramsAsPrometheusHasThem(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	bounds := []float64{-2, -0.5, 0, 0, 0.1, 0.25, 1, 1, 5, 30, math.Inf(1)}
	limits := []float64{math.Inf(-1), -3, -1, 0, 0.05, 0.1, 0.7, 1, 29, 31, math.Inf(1), math.NaN()}
	for range 20_000 {
		var ours []stats.Bucket
		count := 0.0
		for _, b := range bounds {
			if r.IntN(3) == 0 {
				continue
			}
			count += float64(r.IntN(4))
			if r.IntN(20) == 0 {
				count -= 1 // counts that fall are forced up
			}
			if r.IntN(20) == 0 {
				count *= 1 + 1e-13
			}
			ours = append(ours, stats.Bucket{Bound: b, Count: math.Max(0, count)})
		}
		if len(ours) == 0 {
			continue // Prometheus has no histogram without a bucket
		}
		theirs := func() (out promql.Buckets) {
			for _, b := range ours {
				out = append(out, promql.Bucket{UpperBound: b.Bound, Count: b.Count})
			}
			return out
		}
		q := []float64{-1, 0, 0.01, 0.5, 0.9, 0.99, 1, 2, math.NaN(), r.Float64()}[r.IntN(10)]
		want, _, _, _, _, _ := promql.BucketQuantile(q, theirs())
		if got := stats.HistogramQuantile(q, ours); !same(got, want) {
			t.Fatalf("quantile %g of %v: got %g, want %g", q, ours, got, want)
		}
		low, high := limits[r.IntN(len(limits))], limits[r.IntN(len(limits))]
		if got, want := stats.HistogramFraction(low, high, ours), promql.BucketFraction(low, high, theirs()); !same(got, want) {
			t.Fatalf("fraction %g to %g of %v: got %g, want %g", low, high, ours, got, want)
		}
	}
}

func same(a, b float64) bool {
	return a == b || (math.IsNaN(a) && math.IsNaN(b)) || math.Abs(a-b) <= 1e-12*math.Abs(b)
}

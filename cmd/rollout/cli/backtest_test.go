package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/siskin-dev/siskin/cmd/rollout/record"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/backtest"
	"github.com/siskin-dev/siskin/rollout/controller"
)

const coolant = `apiVersion: siskin.dev/v1alpha1
kind: Rollout
metadata: {name: coolant, namespace: edge}
spec:
  version: v2
  service: {name: coolant, port: 8080}
  assignment: {header: {}}
  steps: [{weight: 10, hold: 2m}, {weight: 50, hold: 2m}]
  gates:
  - {name: errors, type: ErrorRate, margin: "1.5"}
  - {name: latency, type: Latency, threshold: 250ms}
`

var recordedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// written is a manifest in a file, and the plan that the controller makes of it.
func written(t *testing.T, text string) (string, rollout.Plan) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "coolant.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ro, err := onlyRollout(t.Context(), file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := controller.PlanOf(ro)
	if err != nil {
		t.Fatal(err)
	}
	return file, plan
}

// known are simulated blocks of an hour, with five times the errors at a weight of 10 %.
func known(plan rollout.Plan) backtest.Tape {
	traffic := backtest.Traffic{
		Requests: backtest.Constant(200), Errors: backtest.Constant(0.01),
		Latency: backtest.Latency{Bounds: istioBounds, Median: 0.08, Sigma: 0.5},
		Fault:   backtest.Fault{Errors: 5, From: 3 * time.Minute},
	}
	s := backtest.Simulate(traffic, plan.Gates, "recorded", recordedAt, rand.New(rand.NewPCG(9, 9)))
	var tape backtest.Tape
	for start := recordedAt; start.Before(recordedAt.Add(time.Hour)); start = start.Add(plan.Interval) {
		b, _ := s.Block(start, start.Add(plan.Interval), 10)
		tape = append(tape, b)
	}
	return tape
}

// counter is a series of Istio's with its value at the end of each block.
type counter struct {
	labels []string
	values []float64
}

// counters are those that a mesh would have shown for the blocks.
func counters(tape backtest.Tape) []counter {
	var out []counter
	for _, version := range []string{"v1", "v2"} {
		arm := func(b rollout.Block, gate string) rollout.Arm {
			if version == "v1" {
				return b.Counts[gate].Stable
			}
			return b.Counts[gate].Canary
		}
		add := func(name, label, value string, of func(rollout.Block) float64) {
			c := counter{labels: []string{
				"__name__", name, "reporter", "source", "destination_service_name", "coolant", "destination_service_namespace", "edge",
				"destination_version", version, label, value,
			}, values: []float64{0}}
			if label == "le" {
				c.labels = append(c.labels, "response_code", "200")
			}
			sum := 0.0
			for _, b := range tape {
				sum += of(b)
				c.values = append(c.values, sum)
			}
			out = append(out, c)
		}
		add("istio_requests_total", "response_code", "200", func(b rollout.Block) float64 {
			a := arm(b, "errors")
			return a.Requests - a.Events[0]
		})
		add("istio_requests_total", "response_code", "503", func(b rollout.Block) float64 { return arm(b, "errors").Events[0] })
		for i, bound := range istioBounds {
			add("istio_request_duration_milliseconds_bucket", "le", strconv.FormatFloat(bound*1000, 'g', -1, 64), func(b rollout.Block) float64 {
				a := arm(b, "latency")
				return a.Requests - a.Events[i]
			})
		}
		add("istio_request_duration_milliseconds_bucket", "le", "+Inf", func(b rollout.Block) float64 { return arm(b, "latency").Requests })
	}
	return out
}

// database writes the counters into a Prometheus data directory, with a sample at the end of each block.
func database(t *testing.T, tape backtest.Tape) string {
	t.Helper()
	dir := t.TempDir()
	db, err := tsdb.Open(dir, nil, nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		t.Fatal(err)
	}
	app := db.Appender(t.Context())
	for _, c := range counters(tape) {
		for i, v := range c.values {
			if _, err := app.Append(0, labels.FromStrings(c.labels...), recordedAt.Add(time.Duration(i)*15*time.Second).UnixMilli(), v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// dump writes the counters as OpenMetrics.
func dump(t *testing.T, tape backtest.Tape) string {
	t.Helper()
	var b strings.Builder
	for _, c := range counters(tape) {
		for i, v := range c.values {
			b.WriteString(c.labels[1] + "{")
			for k := 2; k < len(c.labels); k += 2 {
				fmt.Fprintf(&b, "%s=%q,", c.labels[k], c.labels[k+1])
			}
			fmt.Fprintf(&b, "} %g %d\n", v, recordedAt.Add(time.Duration(i)*15*time.Second).Unix())
		}
	}
	b.WriteString("# EOF\n")
	file := filepath.Join(t.TempDir(), "dump.txt")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(b.String(), ",}", "}")), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// server answers as a Prometheus would that has the counters.
func server(t *testing.T, dir string) string {
	t.Helper()
	r, err := record.OpenTSDB(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		seconds, err := strconv.ParseFloat(q.FormValue("time"), 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		value, _, _, err := r.Query(q.Context(), q.FormValue("query"), time.UnixMilli(int64(seconds*1000)))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": "matrix", "result": value}})
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// call runs one command line, and returns what it printed.
func call(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, errs bytes.Buffer
	err := New(Options{In: strings.NewReader(""), Out: &out, Err: &errs}).Run(t.Context(), args)
	return out.String(), err
}

// TestBacktestRecorded: what is read from each kind of record, and judged, is what the blocks themselves come to.
func TestBacktestRecorded(t *testing.T) {
	file, plan := written(t, coolant)
	tape := known(plan)
	dir := database(t, tape)
	want, err := json.Marshal(replay(plan, tape, recordedAt))
	if err != nil {
		t.Fatal(err)
	}
	if r := replay(plan, tape, recordedAt); r.Reason != rollout.ErrorsHarm {
		t.Fatalf("the blocks come to %s (%s), want %s: the test would not tell much", r.Ending, r.Reason, rollout.ErrorsHarm)
	}
	for name, source := range map[string][]string{
		"tsdb":        {"--tsdb", dir},
		"openmetrics": {"--openmetrics", dump(t, tape)},
		"prometheus":  {"--prometheus", server(t, dir), "--from", "2026-03-01T12:00:00Z", "--to", "2026-03-01T13:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := call(t, append([]string{"backtest", "-f", file, "--stable", "v1", "-o", "json"}, source...)...)
			if err != nil {
				t.Fatal(err)
			}
			var answer struct{ Replay json.RawMessage }
			if err := json.Unmarshal([]byte(out), &answer); err != nil {
				t.Fatalf("%v in\n%s", err, out)
			}
			var got bytes.Buffer
			if err := json.Compact(&got, answer.Replay); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("replay (-direct +read):\n%s", diff)
			}
		})
	}
}

// TestBacktestResampled: stable's own traffic, split anew, is healthy, and is not when errors are added.
func TestBacktestResampled(t *testing.T) {
	file, plan := written(t, coolant)
	dir := database(t, known(plan))
	out, err := call(t, "backtest", "-f", file, "--stable", "v1", "--tsdb", dir, "--runs", "20", "--harm", "4", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var answer backtestAnswer
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatal(err)
	}
	if n := len(answer.Reports); n != 2 {
		t.Fatalf("got %d reports, want one of healthy and one of harmful runs", n)
	}
	if h := answer.Reports[0]; h.RolledBack.Count > 2 || h.Detected != nil {
		t.Errorf("of 20 healthy runs %d were rolled back", h.RolledBack.Count)
	}
	if h := answer.Reports[1]; h.Detected == nil || h.Detected.Count < 18 || *h.Efficiency <= 0 || *h.Efficiency > 1.5 {
		t.Errorf("of 20 runs with four times the errors: %+v", h)
	}
}

// TestResampledHarm: to recorded traffic only errors can be added, and it says so.
func TestResampledHarm(t *testing.T) {
	file, plan := written(t, coolant)
	dir := database(t, known(plan)[:8])
	for _, harm := range []string{"latency=2", "errors=2,latency=2", "0.5"} {
		_, err := call(t, "backtest", "-f", file, "--stable", "v1", "--tsdb", dir, "--runs", "1", "--harm", harm)
		if want := "only errors can be added"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--harm %s: got %v, want it to say %q", harm, err, want)
		}
	}
}

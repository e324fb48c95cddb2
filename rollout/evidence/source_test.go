package evidence

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/common/model"

	"github.com/siskin-dev/siskin/rollout"
)

func TestCountSlow(t *testing.T) {
	s := newStore(t)
	s.load(slow("v1", "100", on(1)) + " 0+5x9\n" + slow("v1", "250", on(1)) + " 0+8x9\n" + slow("v1", "+Inf", on(1)) + " 0+10x9\n" +
		slow("v2", "100", on(1)) + " 0+1x9\n" + slow("v2", "250", on(1)) + " 0+1x9\n" + slow("v2", "+Inf", on(1)) + " 0+3x9\n" +
		slow("v2", "+Inf", `response_flags="DC"`, on(1)) + " 0+7x9\n" + slow("v2", "100", `response_flags="DC"`, on(1)) + " 0x9\n" +
		slow("v2", "250", `response_flags="DC"`, on(1)) + " 0x9\n" +
		slow("v2", "NaN", on(1)) + " 0+1x9\n" + slow("v2", "-Inf", on(1)) + " 0+1x9\n" + slow("v2", "fast", on(1)) + " 0+1x9")
	want := rollout.Counts{
		Stable: rollout.Arm{Requests: 30, Events: []float64{15, 6}},
		Canary: rollout.Arm{Requests: 9, Events: []float64{6, 6}},
		Bounds: []float64{0.1, 0.25}, // seconds, of Istio's milliseconds
	}
	for i, b := range s.ask(0, 3, latencyGate) {
		if d := cmp.Diff(want, b.Counts["latency"], notSent); d != "" {
			t.Errorf("block %d: -want +got\n%s", i, d)
		}
	}
}

// notSent leaves out what TestSent looks at.
var notSent = cmpopts.IgnoreFields(rollout.Arm{}, "Sent")

// TestSent: whatever became of a request, it met the variant: one that the client gave up, that a rate limit refused, that was
// answered without a code.
func TestSent(t *testing.T) {
	s := newStore(t)
	for _, labels := range []string{`response_code="200"`, `response_code="429",response_flags="RL"`, `response_code="0",response_flags="DC"`, `response_code=""`} {
		for _, version := range []string{"v1", "v2", "v3"} {
			of := fmt.Sprintf(`reporter="source",destination_service_name="coolant",destination_service_namespace="edge",destination_version=%q,%s,%s`, version, labels, on(1))
			s.load("istio_requests_total{" + of + "} 0+1x9\nistio_request_duration_milliseconds_bucket{le=\"+Inf\"," + of + "} 0+2x9")
		}
	}
	counts := s.ask(0, 1, errorsGate, latencyGate, rollout.Gate{Name: "answers", Type: rollout.Data})[0].Counts
	for gate, want := range map[string]float64{"errors": 12, "latency": 24, "answers": 12} {
		if c := counts[gate]; c.Stable.Sent != want || c.Canary.Sent != want {
			t.Errorf("gate %q: %g and %g requests met stable and the canary, want %g each", gate, c.Stable.Sent, c.Canary.Sent, want)
		}
	}
}

// TestBoundsOfSeveralProxies: what lies above a bound is known only where every proxy has the bound.
func TestBoundsOfSeveralProxies(t *testing.T) {
	s := newStore(t)
	s.load(slow("v1", "100", on(1)) + " 0+5x9\n" + slow("v1", "250", on(1)) + " 0+8x9\n" + slow("v1", "+Inf", on(1)) + " 0+10x9\n" +
		slow("v2", "250", on(2)) + " 0+1x9\n" + slow("v2", "500", on(2)) + " 0+2x9\n" + slow("v2", "+Inf", on(2)) + " 0+3x9")
	got := s.ask(0, 1, latencyGate)[0].Counts["latency"]
	want := rollout.Counts{
		Stable: rollout.Arm{Requests: 30, Events: []float64{6}},
		Canary: rollout.Arm{Requests: 9, Events: []float64{6}},
		Bounds: []float64{0.25},
	}
	if d := cmp.Diff(want, got, notSent); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func means(metric, version, bucket string, more ...string) string {
	all := append([]string{fmt.Sprintf("model=%q,version=%q,bucket=%q", "coolant", version, bucket)}, more...)
	return metric + "{" + strings.Join(all, ",") + "}"
}

func TestCountMeans(t *testing.T) {
	const sum, count = "siskin_prediction_absolute_error_total", "siskin_predictions_total"
	s := newStore(t)
	s.load(means(sum, "v1", "07", on(1)) + " 0+0.5x9\n" + means(count, "v1", "07", on(1)) + " 0+2x9\n" +
		means(sum, "v1", "07", on(2)) + " 0+0.25x9\n" + means(count, "v1", "07", on(2)) + " 0+1x9\n" +
		means(sum, "v1", "03", on(1)) + " 0+1x9\n" + means(count, "v1", "03", on(1)) + " 0+1x9\n" +
		means(sum, "v2", "99", on(1)) + " 0+3x9\n" + means(count, "v2", "99", on(1)) + " 0+1x9\n" +
		means(sum, "v2", "98", on(1)) + " 0+3x9\n" + means(count, "v2", "98", on(1)) + " 5x9\n" +
		means(sum, "v2", "100", on(1)) + " 0+3x9\n" + means(count, "v2", "100", on(1)) + " 0+1x9\n" +
		means(sum, "v2", "-1", on(1)) + " 0+3x9\n" + means(count, "v2", "-1", on(1)) + " 0+1x9\n" +
		means(sum, "v2", "x", on(1)) + " 0+3x9\n" + means(count, "v2", "x", on(1)) + " 0+1x9\n" +
		means(sum, "v3", "05", on(1)) + " 0+3x9\n" + means(count, "v3", "05", on(1)) + " 0+1x9")
	want := rollout.Counts{
		Stable: rollout.Arm{Buckets: []rollout.BucketSum{{Bucket: 3, Sum: 3, Count: 3}, {Bucket: 7, Sum: 2.25, Count: 9}}},
		Canary: rollout.Arm{Buckets: []rollout.BucketSum{{Bucket: 99, Sum: 9, Count: 3}}},
	}
	for i, b := range s.ask(0, 3, meanGate) {
		if d := cmp.Diff(want, b.Counts["quality"]); d != "" {
			t.Errorf("block %d: -want +got\n%s", i, d)
		}
	}
}

// TestOneQueryPerCounter: however many gates and blocks, each counter is asked for once.
func TestOneQueryPerCounter(t *testing.T) {
	s := newStore(t)
	s.load(requests("v1", "200", on(1)) + " 0+1x300")
	more := errorsGate
	more.Name = "failures"
	blocks := s.ask(0, 90, errorsGate, more, latencyGate, meanGate, rollout.Gate{Name: "alerts", Type: rollout.Alerts})
	if len(blocks) != 90 || len(s.queries) != 4 {
		t.Errorf("%d blocks from %d queries, want 90 from 4: %q", len(blocks), len(s.queries), s.queries)
	}
	if d := cmp.Diff(blocks[3].Counts["errors"], blocks[3].Counts["failures"]); d != "" {
		t.Errorf("two gates on the same counter differ: %s", d)
	}
}

// TestFaults: what is not an answer is an error, never a block of zeros.
func TestFaults(t *testing.T) {
	broken := errors.New("connection refused")
	tests := map[string]struct {
		reason string
		change func(s *store, q *rollout.Question)
		is     error
	}{
		"Down":        {"Prometheus does not answer", func(s *store, _ *rollout.Question) { s.fail = broken }, broken},
		"Partial":     {"a partial answer is not counted", func(s *store, _ *rollout.Question) { s.warn = []string{"store 3 is gone"} }, nil},
		"NotASeries":  {"an expression has no raw samples", func(_ *store, q *rollout.Question) { q.Gates[0].Sum = "sum(up)" }, nil},
		"NotPromQL":   {"nor has what cannot be parsed", func(_ *store, q *rollout.Question) { q.Gates[0].Sum = "up{" }, nil},
		"NoInterval":  {"blocks have a length", func(_ *store, q *rollout.Question) { q.Interval = 0 }, nil},
		"LessThanNil": {"above zero", func(_ *store, q *rollout.Question) { q.Interval = -interval }, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			q := question(0, 2, meanGate)
			tc.change(s, &q)
			blocks, err := s.source().Blocks(t.Context(), q)
			if err == nil || blocks != nil || (tc.is != nil && !errors.Is(err, tc.is)) {
				t.Errorf("%s: got %d blocks and error %v", tc.reason, len(blocks), err)
			}
		})
	}
	if _, err := New(Options{}); err == nil {
		t.Error("a source without an API was built")
	}
}

// TestGrid: blocks lie on the grid, wherever the question's ends lie.
func TestGrid(t *testing.T) {
	tests := map[string]struct {
		reason      string
		from, to    time.Duration
		first, last time.Duration
	}{
		"Aligned":  {"as asked", 0, 30 * time.Second, 0, 30 * time.Second},
		"Off":      {"no block is begun before the question, nor ends after it", 4 * time.Second, 44 * time.Second, 15 * time.Second, 30 * time.Second},
		"Within":   {"less than a block is none", 4 * time.Second, 9 * time.Second, -1, -1},
		"Backward": {"a question in the wrong order has no answer", 30 * time.Second, 0, -1, -1},
		"Empty":    {"nor has an empty one", 30 * time.Second, 30 * time.Second, -1, -1},
		"Long":     {"of too many blocks the last ones are read", 0, 600 * interval, 100 * interval, 600 * interval},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			s.load(requests("v1", "200", on(1)) + " 0+1x2000")
			q := question(0, 0, errorsGate)
			q.From, q.To = t0.Add(tc.from), t0.Add(tc.to)
			blocks, err := s.source().Blocks(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if tc.first < 0 {
				if len(blocks) > 0 {
					t.Errorf("%s: got %d blocks", tc.reason, len(blocks))
				}
				return
			}
			if len(blocks) == 0 || !blocks[0].Start.Equal(t0.Add(tc.first)) || !blocks[len(blocks)-1].End.Equal(t0.Add(tc.last)) {
				t.Fatalf("%s: got %d blocks", tc.reason, len(blocks))
			}
			for i, b := range blocks {
				if got := b.Counts["errors"].Stable.Requests; got != 3 || b.End.Sub(b.Start) != interval || (i > 0 && b.Start != blocks[i-1].End) {
					t.Fatalf("block %d from %s to %s: %g requests, want 3", i, b.Start, b.End, got)
				}
			}
		})
	}
}

// chaos is a scraped world with everything that goes wrong: resets, missed scrapes, gaps, new processes, new series.
func chaos(r *rand.Rand, scrapes int) string {
	var text strings.Builder
	for process := range 3 {
		born, down, upAgain := r.IntN(scrapes/2), r.IntN(scrapes), r.IntN(scrapes)
		restart := r.IntN(scrapes)
		missed := map[int]bool{}
		for range scrapes / 8 {
			missed[r.IntN(scrapes)] = true
		}
		for _, version := range []string{"v1", "v2"} {
			for k, metric := range []string{
				requests(version, "200", on(process)), requests(version, "503", on(process)),
				slow(version, "100", on(process)), slow(version, "250", on(process)), slow(version, "+Inf", on(process)),
			} {
				first := born + r.IntN(1+k%2*20)
				text.WriteString(metric)
				value := r.IntN(50)
				for i := range scrapes {
					if i == restart {
						value = 0
					}
					value += r.IntN(5)
					if i < first || missed[i] || (down < i && i < upAgain) {
						text.WriteString(" _")
						continue
					}
					fmt.Fprintf(&text, " %d", value)
				}
				text.WriteString("\n")
			}
		}
	}
	return text.String()
}

// TestBlocksDoNotDependOnTheQuestion: many blocks at once are the same as each of them by itself.
func TestBlocksDoNotDependOnTheQuestion(t *testing.T) {
	for seed := range uint64(12) {
		s := newStore(t)
		s.load(chaos(rand.New(rand.NewPCG(seed, 41)), 90))
		all := s.ask(0, 30, errorsGate, latencyGate)
		var single, pieces []rollout.Block
		for i := range 30 {
			single = append(single, s.ask(i, i+1, errorsGate, latencyGate)...)
		}
		for i := 0; i < 30; {
			next := min(30, i+1+rand.New(rand.NewPCG(seed, uint64(i))).IntN(7))
			pieces = append(pieces, s.ask(i, next, errorsGate, latencyGate)...)
			i = next
		}
		if d := cmp.Diff(all, single); d != "" {
			t.Fatalf("seed %d: at once - and one by one +\n%s", seed, d)
		}
		if d := cmp.Diff(all, pieces); d != "" {
			t.Fatalf("seed %d: at once - and in pieces +\n%s", seed, d)
		}
	}
}

// FuzzIncrease compares the differences with what a process that is simulated event by event counted. The process may
// restart, scrapes may fail, and the counter may appear late.
func FuzzIncrease(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{0x81, 2, 0xc3, 4, 0x45, 0xff, 7, 8, 9, 0xc0, 0xc0, 0xc0, 0xc0})
	f.Fuzz(func(t *testing.T, events []byte) {
		events = events[:min(len(events), 200)]
		other := &model.SampleStream{Metric: model.Metric{"instance": "a"}} // a counter that is there from the start
		samples := &model.SampleStream{Metric: model.Metric{"instance": "a", "code": "503"}}
		value, total, pending, seen := 0.0, 0.0, 0.0, false
		for i, e := range events {
			at := model.Time(1000 * (i + 1))
			if e&0x40 != 0 { // a restart: what was not scraped before is lost
				value, pending = 0, 0
			}
			value, pending = value+float64(e&7), pending+float64(e&7)
			if e&0x80 != 0 && i > 0 { // a failed scrape
				continue
			}
			other.Values = append(other.Values, model.SamplePair{Timestamp: at, Value: model.SampleValue(i)})
			if seen = seen || value > 0; seen {
				samples.Values = append(samples.Values, model.SamplePair{Timestamp: at, Value: model.SampleValue(value)})
			}
			if i > 0 { // the first scrape tells nothing of when its counts were counted
				total += pending
			}
			pending = 0
		}
		// One window that has every sample, and a counter that falls at each restart: then nothing is lost or doubled,
		// unless a restart does not show because the counter has overtaken its former value.
		asked := map[string][]*stream{"": streamsOf(model.Matrix{other, samples})}
		w := windowOf(asked, time.Unix(0, 0), 300*time.Second, time.Minute)
		w.torn = nil // the other counter does not restart here
		got, _ := w.increase(samples.Values, processOf(samples.Metric))
		if hidden := hiddenRestart(samples.Values, events); got > total || (!hidden && got != total) {
			t.Errorf("%v: counted %g, want %g (a restart is hidden: %t)", events, got, total, hidden)
		}
		if math.IsNaN(got) || got < 0 {
			t.Errorf("counted %g", got)
		}
	})
}

// hiddenRestart says whether a counter was restarted between two scrapes without having fallen.
func hiddenRestart(values []model.SamplePair, events []byte) bool {
	for k := 1; k < len(values); k++ {
		for i := int(values[k-1].Timestamp) / 1000; i < int(values[k].Timestamp)/1000; i++ {
			if events[i]&0x40 != 0 && values[k].Value >= values[k-1].Value {
				return true
			}
		}
	}
	return false
}

// proxy is the series of one process that counts everything.
func proxy(process int) string {
	var text strings.Builder
	for _, version := range []string{"v1", "v2"} {
		for _, code := range []string{"200", "404", "503"} {
			text.WriteString(requests(version, code, on(process)) + " 0+3x40\n")
		}
		for le := range 29 {
			text.WriteString(slow(version, fmt.Sprint(10*(le+1)), on(process)) + " 0+3x40\n")
		}
		text.WriteString(slow(version, "+Inf", on(process)) + " 0+3x40\n")
		for _, name := range []string{joulesOf(version, "dynamic", "rapl"), inferencesOf(version), metric("siskin_units_total", "model", "coolant", "version", version)} {
			text.WriteString(strings.ReplaceAll(name, on(1), on(process)) + " 0+3x40\n")
		}
	}
	for bucket := range 100 {
		for _, metric := range []string{"siskin_prediction_absolute_error_total", "siskin_predictions_total"} {
			text.WriteString(means(metric, fmt.Sprintf("v%d", 1+bucket%2), fmt.Sprintf("%02d", bucket), on(process)) + " 0+3x40\n")
		}
	}
	return text.String()
}

// BenchmarkRound is one round of three gates: 10 processes, 2 versions, 30 latency buckets, a scrape every 5 s.
func BenchmarkRound(b *testing.B) {
	s := newStore(b)
	for process := range 10 {
		s.load(proxy(process))
	}
	source := s.source()
	q := question(4, 5, errorsGate, latencyGate, meanGate)
	for b.Loop() {
		if _, err := source.Blocks(b.Context(), q); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInterval is one round of a rollout with ten gates, which need seven counters: 10 processes, 2 versions, 30
// latency buckets, 100 buckets of units, a scrape every 5 s.
func BenchmarkInterval(b *testing.B) {
	s := newStore(b)
	for process := range 10 {
		s.load(proxy(process))
	}
	gates := []rollout.Gate{
		errorsGate, latencyGate, meanGate,
		{Name: "energy", Type: rollout.EnergyPerRequest},
		{Name: "units", Type: rollout.SampleRatio},
		{Name: "data", Type: rollout.Data},
		{Name: "alerts", Type: rollout.Alerts},
	}
	for _, threshold := range []time.Duration{latencyThreshold / 2, latencyThreshold * 2, time.Second} {
		gates = append(gates, rollout.Gate{Name: threshold.String(), Type: rollout.Latency, Threshold: threshold})
	}
	source, q := s.source(), question(4, 5, gates...)
	for b.Loop() {
		blocks, err := source.Blocks(b.Context(), q)
		if err != nil || len(blocks[0].Counts) != len(gates)-1 {
			b.Fatalf("%d entries for %d gates: %v", len(blocks[0].Counts), len(gates), err)
		}
	}
}

package evidence

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"

	"github.com/siskin-dev/siskin/rollout"
)

// nativeSlow names a series of Istio's latency as a native histogram.
func nativeSlow(version string, more ...string) string {
	all := append([]string{istioLabels(version), `response_code="200"`}, more...)
	return "istio_request_duration_milliseconds{" + strings.Join(all, ",") + "}"
}

// exponential writes a native histogram whose buckets begin with (2^(first-1), 2^first], each twice as wide as the last.
func exponential(first int, buckets ...int) string { return scaled(0, first, buckets...) }

// scaled is the same in a schema: 2^schema buckets make an octave.
func scaled(schema, first int, buckets ...int) string {
	count := 0
	for _, b := range buckets {
		count += b
	}
	return fmt.Sprintf("{{schema:%d count:%d sum:1 offset:%d buckets:%s}}", schema, count, first, strings.Trim(fmt.Sprint(buckets), ","))
}

// custom writes a native histogram with custom buckets.
func custom(bounds string, buckets ...int) string {
	count := 0
	for _, b := range buckets {
		count += b
	}
	return fmt.Sprintf("{{schema:-53 count:%d sum:1 custom_values:[%s] buckets:%s}}", count, bounds, fmt.Sprint(buckets))
}

// octaves are the bounds that a histogram of schema 0 shares with ours from a fifth of the threshold up, in seconds.
func octaves() []float64 { return []float64{0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192} }

func TestNativeHistograms(t *testing.T) {
	type want struct {
		stable, canary rollout.Arm
		bounds         []float64
	}
	const istio = "0.5 1 5 10 25 50 100 250 500 1000 2500"
	few := func(n int) []float64 { return octaves()[:n] }
	tests := map[string]struct {
		reason string
		series string
		want   want // of the first block, its bounds down to those above which nothing was counted
	}{
		"Difference": {
			"a block has what came after its start: 3 scrapes of 2 at 128 to 256 ms and 1 at 256 to 512 ms",
			nativeSlow("v1", on(1)) + " " + exponential(8, 7, 5) + "+" + exponential(8, 2, 1) + "x9\n" +
				nativeSlow("v2", on(1)) + " " + exponential(8, 1) + "+" + exponential(8, 1) + "x9",
			want{rollout.Arm{Requests: 9, Events: []float64{9, 9, 3, 0}}, rollout.Arm{Requests: 3, Events: []float64{3, 3, 0, 0}}, few(4)},
		},
		"Finer": {
			"finer buckets are merged: at schema 2 every fourth bound is one of an octave",
			nativeSlow("v1", on(1)) + " " + scaled(2, 32, 0) + "+" + scaled(2, 32, 1, 1, 1, 1, 1) + "x9\n" +
				nativeSlow("v2", on(1)) + " " + exponential(9, 0) + "+" + exponential(9, 1) + "x9",
			want{rollout.Arm{Requests: 15, Events: []float64{15, 15, 12, 0}}, rollout.Arm{Requests: 3, Events: []float64{3, 3, 3, 0}}, few(4)},
		},
		"Reset": {
			"a histogram that fell was reset, all its buckets with it",
			nativeSlow("v1", on(1)) + " " + exponential(8, 9, 1) + " " + exponential(8, 9, 2) + " " + exponential(8, 1, 2) + " " + exponential(8, 2, 2) + "\n" +
				nativeSlow("v2", on(2)) + " " + exponential(8, 1, 1) + "x3",
			want{rollout.Arm{Requests: 5, Events: []float64{5, 5, 3, 0}}, rollout.Arm{Events: []float64{0, 0, 0, 0}}, few(4)},
		},
		"HiddenReset": {
			"a reset shows in one bucket when the others have overtaken their former counts",
			nativeSlow("v1", on(1)) + " " + exponential(8, 5, 1) + " " + exponential(8, 5, 1) + " " + exponential(8, 5, 1) + " " + exponential(8, 4, 4) + "\n" +
				nativeSlow("v2", on(1)) + " " + exponential(8, 1, 1) + "x3",
			want{rollout.Arm{Requests: 8, Events: []float64{8, 8, 4, 0}}, rollout.Arm{Events: []float64{0, 0, 0, 0}}, few(4)},
		},
		"New": {
			"a histogram that appears in a process that was scraped before began at zero",
			nativeSlow("v1", on(1)) + " " + exponential(8, 1) + "x9\n" + nativeSlow("v2", on(1)) + " _ _ " + exponential(8, 3) + "x5",
			want{rollout.Arm{Events: []float64{0, 0, 0}}, rollout.Arm{Requests: 3, Events: []float64{3, 3, 0}}, few(3)},
		},
		"GivenUp": {
			"what the client gave up is not counted",
			nativeSlow("v1", on(1)) + " " + exponential(8, 0) + "+" + exponential(8, 1) + "x9\n" +
				nativeSlow("v1", `response_flags="DC"`, on(1)) + " " + exponential(8, 0) + "+" + exponential(8, 7) + "x9",
			want{rollout.Arm{Requests: 3, Events: []float64{3, 3, 0}}, rollout.Arm{Events: []float64{0, 0, 0}}, few(3)},
		},
		"Custom": {
			"custom buckets that were made of Istio's classic ones have Istio's bounds, also where nothing was counted yet",
			nativeSlow("v1", on(1)) + " " + custom(istio, 0) + "+" + custom(istio, 0, 0, 0, 0, 0, 0, 4, 2, 1) + "x9\n" +
				nativeSlow("v2", on(1)) + " " + custom(istio, 0) + "+" + custom(istio, 0, 0, 0, 0, 0, 0, 1) + "x9",
			want{
				rollout.Arm{Requests: 21, Events: []float64{21, 21, 21, 21, 21, 21, 9, 3, 0}},
				rollout.Arm{Requests: 3, Events: []float64{3, 3, 3, 3, 3, 3, 0, 0, 0}},
				[]float64{0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5},
			},
		},
		"CustomAndClassic": {
			"a classic histogram beside one with custom buckets: the bounds of both",
			nativeSlow("v1", on(1)) + " " + custom(istio, 0) + "+" + custom(istio, 0, 0, 0, 0, 0, 0, 4, 2, 1) + "x9\n" +
				slow("v2", "100", on(2)) + " 0+1x9\n" + slow("v2", "300", on(2)) + " 0+2x9\n" + slow("v2", "500", on(2)) + " 0+2x9\n" + slow("v2", "+Inf", on(2)) + " 0+2x9",
			want{rollout.Arm{Requests: 21, Events: []float64{9, 0}}, rollout.Arm{Requests: 6, Events: []float64{3, 0}}, []float64{0.1, 0.5}},
		},
		"Both": {
			"a histogram that is there in both forms is counted once, as classic",
			nativeSlow("v1", on(1)) + " " + exponential(8, 0) + "+" + exponential(8, 5) + "x9\n" +
				slow("v1", "250", on(1)) + " 0+4x9\n" + slow("v1", "+Inf", on(1)) + " 0+5x9",
			want{rollout.Arm{Requests: 15, Events: []float64{3}}, rollout.Arm{Events: []float64{0}}, []float64{0.25}},
		},
		"Strangers": {
			"an exponential histogram and classic bounds that are no powers of two have no bound in common",
			nativeSlow("v1", on(1)) + " " + exponential(8, 0) + "+" + exponential(8, 5) + "x9\n" +
				slow("v2", "250", on(2)) + " 0+4x9\n" + slow("v2", "+Inf", on(2)) + " 0+5x9",
			want{rollout.Arm{Requests: 15}, rollout.Arm{Requests: 15}, nil},
		},
		"LooksCustom": {
			"a single bucket from 0.5 to 1 ms may be one of Istio's; beside an exponential histogram it is not",
			nativeSlow("v1", on(1)) + " " + exponential(8, 0) + "+" + exponential(8, 5) + "x9\n" +
				nativeSlow("v2", on(1)) + " " + exponential(0, 0) + "+" + exponential(0, 1) + "x9",
			want{rollout.Arm{Requests: 15, Events: []float64{15, 15, 0}}, rollout.Arm{Requests: 3, Events: []float64{0, 0, 0}}, few(3)},
		},
		"Coarse": {
			"one bucket for two octaves has every other bound",
			nativeSlow("v1", on(1)) + " " + scaled(-1, 4, 0) + "+" + scaled(-1, 4, 5, 1) + "x9\n" +
				nativeSlow("v2", on(1)) + " " + exponential(8, 0) + "+" + exponential(8, 1) + "x9",
			want{rollout.Arm{Requests: 18, Events: []float64{18, 3, 0}}, rollout.Arm{Requests: 3, Events: []float64{3, 0, 0}}, []float64{0.064, 0.256, 1.024}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			s.load(tc.series)
			got := s.ask(0, 1, latencyGate)[0].Counts["latency"]
			n := len(tc.want.bounds)
			if len(got.Bounds) < n {
				t.Fatalf("%s: bounds %v, want %v", tc.reason, got.Bounds, tc.want.bounds)
			}
			for _, a := range []rollout.Arm{got.Stable, got.Canary} {
				if slices.ContainsFunc(a.Events[n:], func(x float64) bool { return x != 0 }) {
					t.Errorf("%s: counted above %v: %v", tc.reason, got.Bounds[n:], a.Events[n:])
				}
			}
			short := want{cut(got.Stable, n), cut(got.Canary, n), got.Bounds[:n]}
			near := cmp.Comparer(func(x, y float64) bool { return math.Abs(x-y) <= 1e-12*math.Abs(y) })
			want := want{cut(tc.want.stable, n), cut(tc.want.canary, n), append([]float64{}, tc.want.bounds...)}
			if d := cmp.Diff(want, short, cmp.AllowUnexported(want), near, notSent); d != "" {
				t.Errorf("%s: -want +got\n%s", tc.reason, d)
			}
		})
	}
}

func cut(a rollout.Arm, n int) rollout.Arm {
	a.Events = append([]float64{}, a.Events[:n]...)
	return a
}

// TestNativeBounds: the bounds that finer histograms are merged to are ours and do not depend on what was counted.
func TestNativeBounds(t *testing.T) {
	bounds := fixedBounds(250)
	if len(bounds) != nativeBounds || bounds[0] < 50 || bounds[0] > 60 || bounds[nativeBounds-1] < 20*250 {
		t.Errorf("bounds from %g to %g ms, %d of them", bounds[0], bounds[len(bounds)-1], len(bounds))
	}
	if fixedBounds(0) != nil || fixedBounds(math.NaN()) != nil {
		t.Error("a threshold that is none has bounds")
	}
	for schema := 2; schema <= 8; schema++ {
		for _, first := range []int{6 << schema, 9 << schema, 12<<schema - 1} {
			s := newStore(t)
			s.load(nativeSlow("v1", on(1)) + " " + scaled(schema, first, 0) + "+" + scaled(schema, first, 1, 3, 2) + "x9\n" +
				nativeSlow("v2", on(1)) + " " + scaled(2, 32, 0) + "+" + scaled(2, 32, 1) + "x9")
			got := s.ask(0, 1, latencyGate)[0].Counts["latency"]
			for k, b := range got.Bounds {
				if math.Abs(b*1000-bounds[k]) > 1e-9*bounds[k] {
					t.Fatalf("schema %d: bound %d is %g s, want %g ms", schema, k, b, bounds[k])
				}
			}
			if len(got.Bounds) != nativeBounds || got.Stable.Requests != 18 {
				t.Errorf("schema %d from bucket %d: %d bounds and %g requests, want %d and 18", schema, first, len(got.Bounds), got.Stable.Requests, nativeBounds)
			}
		}
	}
}

// TestNativeBlocksDoNotDependOnTheQuestion: nor on what other blocks are asked for beside.
func TestNativeBlocksDoNotDependOnTheQuestion(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 43))
		s := newStore(t)
		var text strings.Builder
		for process := range 3 {
			for _, version := range []string{"v1", "v2"} {
				text.WriteString(nativeSlow(version, on(process)))
				counts, restart := []int{3, 2, 1}, r.IntN(90)
				for i := range 90 {
					if i == restart {
						counts = []int{0, 0, 0}
					}
					counts[r.IntN(3)] += r.IntN(4)
					if r.IntN(12) == 0 {
						text.WriteString(" _")
						continue
					}
					text.WriteString(" " + scaled(2, 30, counts...))
				}
				text.WriteString("\n")
			}
		}
		s.load(text.String())
		var single []rollout.Block
		for i := range 30 {
			single = append(single, s.ask(i, i+1, latencyGate)...)
		}
		if d := cmp.Diff(s.ask(0, 30, latencyGate), single); d != "" {
			t.Fatalf("seed %d: at once - and one by one +\n%s", seed, d)
		}
	}
}

// FuzzNative compares what is read from a histogram's buckets with the observations that it was made of: what lies at or
// below a bound that the histogram knows is exact. Buckets that are none must do no harm.
func FuzzNative(f *testing.F) {
	f.Add(uint64(1), int8(3), 250.0, 1.0, 2.0)
	f.Add(uint64(2), int8(-2), 40.0, 0.0, 0.0)
	f.Add(uint64(3), int8(0), 1e-3, math.Inf(-1), math.Inf(1))
	f.Add(uint64(4), int8(8), 7.0, math.NaN(), -1.0)
	f.Fuzz(func(t *testing.T, seed uint64, schema int8, threshold, lower, upper float64) {
		growth := math.Exp2(float64(min(max(schema, -4), 8)))
		r := rand.New(rand.NewPCG(seed, 47))
		seen, buckets := make([]float64, 200), map[float64]float64{}
		for i := range seen {
			seen[i] = math.Exp(4 + 1.5*r.NormFloat64())
			buckets[math.Ceil(math.Log2(seen[i])*growth)]++
		}
		h := &model.SampleHistogram{Count: 200}
		for _, k := range slices.Sorted(maps.Keys(buckets)) {
			h.Buckets = append(h.Buckets, &model.HistogramBucket{
				Lower: model.FloatString(math.Exp2((k - 1) / growth)), Upper: model.FloatString(math.Exp2(k / growth)), Count: model.FloatString(buckets[k]),
			})
		}
		layout := layoutOf(h)
		for _, bound := range append(fixedBounds(threshold), istioBounds()...) {
			want := 0.0
			for _, v := range seen {
				if v <= bound*(1+near) {
					want++
				}
			}
			if got := below(h, bound); layout.knows(bound, h) && got != want {
				t.Errorf("schema %d: %g at or below %g, want %g", schema, got, bound, want)
			}
		}
		h.Buckets = append(h.Buckets, &model.HistogramBucket{Lower: model.FloatString(lower), Upper: model.FloatString(upper), Count: model.FloatString(threshold)})
		n := (&window{end: math.MaxInt64, scrapes: map[string][]int64{"": {0}}}).native(&stream{native: []model.SampleHistogramPair{{Timestamp: 1, Histogram: h}}})
		for _, bound := range candidates([]native{n}, 250) {
			if _, at := n.increases(&window{end: 2, scrapes: map[string][]int64{"": {0}}}, []float64{bound}); at[0] < 0 || math.IsNaN(at[0]) {
				t.Errorf("counted %g at or below %g", at[0], bound)
			}
		}
	})
}

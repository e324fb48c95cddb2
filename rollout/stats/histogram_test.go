package stats

import (
	"math"
	"testing"
)

// TestHistogramQuantile has the words of the documentation; that all is as in Prometheus is tested against its own
// functions in rollout/evidence.
func TestHistogramQuantile(t *testing.T) {
	inf := math.Inf(1)
	some := []Bucket{{0.1, 5}, {0.2, 7}, {1, 11}, {inf, 12}}
	tests := map[string]struct {
		reason  string
		q       float64
		buckets []Bucket
		want    float64
	}{
		"First":      {"the first bucket starts at zero", 0.2, some, 0.048},
		"Middle":     {"inside a bucket the quantile is linear", 0.5, some, 0.15},
		"Last":       {"a rank in +Inf is at the highest bound", 1, some, 1},
		"Lowest":     {"q = 0 is the start of the first bucket", 0, some, 0},
		"EmptyFirst": {"q = 0 in an empty bucket is nowhere", 0, []Bucket{{0.1, 0}, {inf, 3}}, math.NaN()},
		"NotAbove":   {"a first bucket not above zero is taken at its bound", 0.1, []Bucket{{-1, 5}, {inf, 6}}, -1},
		"Unsorted":   {"the order of buckets is of no meaning", 0.2, []Bucket{{inf, 12}, {1, 11}, {0.2, 7}, {0.1, 5}}, 0.048},
		"Twice":      {"buckets with one bound are added up", 0.2, []Bucket{{0.1, 2}, {0.1, 3}, {0.2, 7}, {1, 11}, {inf, 12}}, 0.048},
		"Falling":    {"a count that falls is forced up", 0.5, []Bucket{{1, 10}, {2, 8}, {inf, 10}}, 0.5},
		"Below":      {"there is nothing below q = 0", -0.1, some, -inf},
		"Above":      {"nor above q = 1", 1.1, some, inf},
		"NaN":        {"NaN is no quantile", math.NaN(), some, math.NaN()},
		"NoInf":      {"without +Inf nobody knows how many there are", 0.5, some[:3], math.NaN()},
		"OnlyInf":    {"one bucket has no place", 0.5, some[3:], math.NaN()},
		"Nothing":    {"no observations have no quantile", 0.5, []Bucket{{1, 0}, {inf, 0}}, math.NaN()},
		"None":       {"nor have no buckets", 0.5, nil, math.NaN()},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := HistogramQuantile(tc.q, tc.buckets)
			if got != tc.want && math.IsNaN(got) != math.IsNaN(tc.want) || math.Abs(got-tc.want) > 1e-15 {
				t.Errorf("%s: got %g, want %g", tc.reason, got, tc.want)
			}
		})
	}
}

func TestHistogramFraction(t *testing.T) {
	inf := math.Inf(1)
	some := []Bucket{{0, 0}, {2, 1}, {4, 2}, {6, 3}, {inf, 4}}
	tests := map[string]struct {
		reason    string
		low, high float64
		buckets   []Bucket
		want      float64
	}{
		"Part":     {"inside a bucket the share is linear", 0, 3.5, some, 1.75 / 4},
		"All":      {"all are above minus infinity", -inf, inf, some, 1},
		"Slow":     {"what is above the highest bound is in +Inf", 6, inf, some, 0.25},
		"InInf":    {"nothing of +Inf is below a finite limit", 6, 1e9, some, 0},
		"Empty":    {"limits that cross hold nothing", 3, 2, some, 0},
		"Negative": {"a bucket without a start is not divided", -inf, -3, []Bucket{{-1, 2}, {inf, 4}}, 0.5},
		"NaN":      {"NaN is no limit", math.NaN(), 1, some, math.NaN()},
		"NoInf":    {"without +Inf nobody knows how many there are", 0, 1, some[:4], math.NaN()},
		"Nothing":  {"no observations have no shares", 0, 1, []Bucket{{1, 0}, {inf, 0}}, math.NaN()},
		"None":     {"nor have no buckets", 0, 1, nil, math.NaN()},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := HistogramFraction(tc.low, tc.high, tc.buckets)
			if math.IsNaN(got) != math.IsNaN(tc.want) || math.Abs(got-tc.want) > 1e-15 {
				t.Errorf("%s: got %g, want %g", tc.reason, got, tc.want)
			}
		})
	}
}

func TestHistogramsAreLeftAsTheyAre(t *testing.T) {
	list := []Bucket{{math.Inf(1), 3}, {1, 5}, {0.5, 2}}
	HistogramQuantile(0.5, list)
	if list[0].Count != 3 || list[1].Count != 5 || list[2].Bound != 0.5 {
		t.Errorf("the buckets are %v", list)
	}
}

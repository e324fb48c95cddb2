package stats

import (
	"math"
	"testing"
)

func TestMeanOf(t *testing.T) {
	tests := map[string]struct {
		reason   string
		clusters []Cluster
		want     RatioMean
	}{
		"None":      {"no clusters have no mean", nil, RatioMean{math.NaN(), math.Inf(1), 0}},
		"One":       {"one cluster has no variance", []Cluster{{6, 3}}, RatioMean{2, math.Inf(1), 1}},
		"Equal":     {"clusters of one mean do not vary", []Cluster{{6, 3}, {2, 1}}, RatioMean{2, 0, 2}},
		"Uncounted": {"a cluster without a count takes no part", []Cluster{{6, 3}, {0, 0}, {5, 0}}, RatioMean{2, math.Inf(1), 1}},
		// R = 4/2 = 2; 2/1 * ((1-2)^2 + (3-2)^2) / 2^2 = 1.
		"Apart": {"the variance is that of a ratio over clusters", []Cluster{{1, 1}, {3, 1}}, RatioMean{2, 1, 2}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := MeanOf(tc.clusters)
			same := got.Mean == tc.want.Mean || (math.IsNaN(got.Mean) && math.IsNaN(tc.want.Mean))
			if !same || got.Var != tc.want.Var || got.Clusters != tc.want.Clusters {
				t.Errorf("%s: got %+v, want %+v", tc.reason, got, tc.want)
			}
		})
	}
}

func TestCompareMeans(t *testing.T) {
	good := RatioMean{Mean: 2, Var: 0.04, Clusters: 5}
	tests := map[string]struct {
		reason string
		a, b   RatioMean
		ok     bool
	}{
		"Good":        {"two means above zero compare", good, RatioMean{1, 0.01, 95}, true},
		"Zero":        {"the ln of zero does not exist", RatioMean{0, 0.04, 5}, good, false},
		"Negative":    {"the ln of a negative mean does not exist", good, RatioMean{-1, 0.04, 5}, false},
		"NaN":         {"an empty arm does not compare", RatioMean{math.NaN(), math.Inf(1), 0}, good, false},
		"OneCluster":  {"one cluster has no variance", RatioMean{2, math.Inf(1), 1}, good, false},
		"NoVariation": {"without any variance there is no scale", RatioMean{2, 0, 5}, RatioMean{2, 0, 5}, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r, ok := CompareMeans(tc.a, tc.b)
			if ok != tc.ok {
				t.Fatalf("%s: ok = %t, want %t", tc.reason, ok, tc.ok)
			}
			if ok && (math.Abs(r.Estimate-math.Ln2) > 1e-12 || math.Abs(r.Var-0.02) > 1e-12 || r.DF != 4) {
				t.Errorf("got %+v, want ln 2, 0.01 + 0.01, 4 degrees", r)
			}
		})
	}
}

// TestMeanInterval: the interval is what the two sides do not reject, and shrinks to the estimate.
func TestMeanInterval(t *testing.T) {
	last := math.Inf(1)
	for _, v := range []float64{1e6, 1, 0.1, 0.01, 1e-4, 1e-8} {
		r := LogRatio{Estimate: math.Log(1.2), Var: v, DF: 30}
		low, high := r.Interval(0.05)
		if !(low <= 1.2 && high >= 1.2) || !(high-low <= last) {
			t.Fatalf("variance %g: [%g, %g] after a width of %g", v, low, high, last)
		}
		last = high - low
		if math.IsInf(high, 1) {
			continue
		}
		if got := r.LogEAbove(math.Log(low)); math.Abs(got-math.Log(2/0.05)) > 1e-3 {
			t.Errorf("variance %g: log e at the lower end is %g, want ln 40", v, got)
		}
	}
	if last > 1e-2 {
		t.Errorf("width %g at a variance of 1e-8", last)
	}
}

func BenchmarkLogEBelow(b *testing.B) {
	r := LogRatio{Estimate: 0.01, Var: 1e-4, DF: 24}
	for b.Loop() {
		r.LogEBelow(0.05)
	}
}

package stats

import (
	"math"
	"math/rand/v2"
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
		"Zero":        {"a mean of zero is as good as any", RatioMean{0, 0.04, 5}, good, true},
		"BothZero":    {"two means of zero have no ratio", RatioMean{0, 0.04, 5}, RatioMean{0, 0.04, 5}, false},
		"Negative":    {"a negative mean has no ratio", good, RatioMean{-1, 0.04, 5}, false},
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
			if !ok {
				return
			}
			for _, v := range []float64{r.LogEAbove(1), r.LogEBelow(1.5)} {
				if math.IsNaN(v) {
					t.Errorf("%+v has no e-value", r)
				}
			}
			if low, high := r.Interval(0.05); !(low <= r.Estimate() && r.Estimate() <= high) {
				t.Errorf("interval [%g, %g] without the estimate %g", low, high, r.Estimate())
			}
		})
	}
}

// TestRatioInterval: the interval is what the two sides do not reject, and shrinks to the estimate.
func TestRatioInterval(t *testing.T) {
	last := math.Inf(1)
	for _, v := range []float64{1e6, 1, 0.1, 0.01, 1e-4, 1e-8} {
		r := Ratio{A: RatioMean{Mean: 1.2, Var: v}, B: RatioMean{Mean: 1, Var: v}, DF: 30}
		low, high := r.Interval(0.05)
		if !(low <= 1.2 && high >= 1.2) || !(high-low <= last) {
			t.Fatalf("variance %g: [%g, %g] after a width of %g", v, low, high, last)
		}
		last = high - low
		if math.IsInf(high, 1) {
			continue
		}
		if got := r.LogEAbove(low); math.Abs(got-math.Log(2/0.05)) > 1e-3 {
			t.Errorf("variance %g: log e at the lower end is %g, want ln 40", v, got)
		}
	}
	if last > 1e-2 {
		t.Errorf("width %g at a variance of 1e-8", last)
	}
}

// TestPastTakesDifferencesOut: clusters that differ for good, and had differed before, compare as if they did not.
func TestPastTakesDifferencesOut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 31))
	var plain, adjusted, known float64
	const runs, ratio = 200, 1.1
	for range runs {
		w := skewed(r, 25, 0.4, 1, 0.1)
		for i := range 30 {
			w.step(r, i)
		}
		before := w.sums
		w.sums, w.ratio = [2][100]Cluster{}, ratio
		for i := range 30 {
			w.step(r, i)
		}
		a := Sample{w.sums[0][:25], before[0][:25]}
		b := Sample{w.sums[1][25:], before[1][25:]}
		was, _ := CompareMeans(MeanOf(a.Now), MeanOf(b.Now))
		now, ok := CompareMeans(AdjustedMeans(a, b))
		if !ok {
			t.Fatal("no comparison")
		}
		plain += (was.Estimate() - ratio) * (was.Estimate() - ratio) / runs
		adjusted += (now.Estimate() - ratio) * (now.Estimate() - ratio) / runs
		known += now.variance(ratio) / (now.B.Mean * now.B.Mean) / runs
	}
	t.Logf("mean squared error of the ratio: %.2g, with the past %.2g, which says of itself %.2g", plain, adjusted, known)
	if adjusted > plain/20 || adjusted > 2*known || known > 2*adjusted {
		t.Errorf("mean squared error %.2g, with the past %.2g (estimated %.2g), want a twentieth at most", plain, adjusted, known)
	}
}

// TestPairs: what drifts for both arms alike falls out, and the moments give what the rows themselves give.
func TestPairs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 32))
	const runs, blocks, alpha, ratio = 300, 200, 0.05, 1.1
	alarms, found := 0, 0
	for range runs {
		var equal, worse Pairs
		var alarm, hit bool
		for i := range blocks {
			level := 2 + math.Sin(float64(i)/10) + 0.3*r.NormFloat64()
			draw := func(n, ratio float64) Cluster { return Cluster{n * level * ratio * (1 + 0.1*r.NormFloat64()), n} }
			stable := draw(100+float64(r.IntN(50)), 1)
			equal.Add(draw(20+float64(r.IntN(20)), 1), stable)
			worse.Add(draw(20+float64(r.IntN(20)), ratio), stable)
			if i < 20 {
				continue
			}
			a, ok1 := equal.Compare()
			b, ok2 := worse.Compare()
			if !ok1 || !ok2 {
				t.Fatal("no comparison")
			}
			alarm = alarm || a.LogEAbove(1) >= math.Log(1/alpha)
			hit = hit || b.LogEAbove(1) >= math.Log(1/alpha)
		}
		alarms, found = alarms+count(alarm), found+count(hit)
	}
	t.Logf("false alarms %.3f, a ratio of %g found in %.3f", share(alarms, runs), ratio, share(found, runs))
	if share(alarms, runs) > alpha || share(found, runs) < 0.95 {
		t.Errorf("false alarms %.3f, found %.3f, want at most %g and at least 0.95", share(alarms, runs), share(found, runs), alpha)
	}
}

func BenchmarkLogEBelow(b *testing.B) {
	r := Ratio{A: RatioMean{Mean: 1.01, Var: 1e-4}, B: RatioMean{Mean: 1, Var: 1e-5}, DF: 24}
	for b.Loop() {
		r.LogEBelow(1.05)
	}
}

package stats

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	low5  = []float64{1, 2.2, 1.1, 2.5, 3}
	high5 = []float64{20, 22, 21, 25, 30}
	nan   = math.NaN()
)

// TestKayentaVectors has the judge's known answers: the cases of Kayenta's own tests, and where it departs from them.
func TestKayentaVectors(t *testing.T) {
	repeat := func(v float64) []float64 { return []float64{v, v, v, v, v} }
	tests := map[string]struct {
		reason              string
		config              KayentaConfig
		experiment, control []float64
		class               KayentaClass
		critical            bool
		score               float64
	}{
		"High":          {"ten times as much is high", KayentaConfig{}, high5, low5, KayentaHigh, false, 0},
		"Low":           {"and a tenth is low", KayentaConfig{}, low5, high5, KayentaLow, false, 0},
		"SameValues":    {"the same values in another order pass", KayentaConfig{}, []float64{1, 2, 3, 4, 5}, []float64{5, 4, 3, 2, 1}, KayentaPass, false, 100},
		"LowOnly":       {"an increase passes where only a decrease counts", KayentaConfig{LowOnly: true}, high5, low5, KayentaPass, false, 100},
		"HighOnly":      {"a decrease passes where only an increase counts", KayentaConfig{HighOnly: true}, low5, high5, KayentaPass, false, 100},
		"Allowed":       {"an effect below what is allowed passes", KayentaConfig{AllowedIncrease: 13}, high5, low5, KayentaPass, false, 100},
		"NotAllowed":    {"and above does not", KayentaConfig{AllowedIncrease: 12}, high5, low5, KayentaHigh, false, 0},
		"AllowedLow":    {"a decrease is allowed down to its ratio", KayentaConfig{AllowedDecrease: 0.05}, low5, high5, KayentaPass, false, 100},
		"Critical":      {"a critical effect fails the canary", KayentaConfig{Critical: true, CriticalIncrease: 1.2}, high5, low5, KayentaHigh, true, 0},
		"NotCritical":   {"a critical metric is not critical below its limit", KayentaConfig{Critical: true, CriticalIncrease: 13}, high5, low5, KayentaHigh, false, 0},
		"CriticalLow":   {"nor above it downwards", KayentaConfig{Critical: true, CriticalDecrease: 0.5}, []float64{2, 2, 2, 2, 3}, []float64{10, 20.2, 10.1, 20.5, 30}, KayentaLow, true, 0},
		"Common":        {"the effect may be the share of pairs", KayentaConfig{CommonLanguage: true, AllowedIncrease: 0.8}, high5, low5, KayentaHigh, false, 0},
		"ZeroMean":      {"a ratio to a mean of zero exceeds every limit", KayentaConfig{AllowedIncrease: 99, Critical: true, CriticalIncrease: 99}, []float64{54.9, 54.5, 55.1, 55.6, 57.4}, repeat(0), KayentaHigh, true, 0},
		"Constants":     {"constants are compared without noise", KayentaConfig{}, repeat(10), repeat(1), KayentaHigh, false, 0},
		"ToZero":        {"also with zero", KayentaConfig{}, repeat(0), repeat(10), KayentaLow, false, 0},
		"OneConstant":   {"the same constant passes", KayentaConfig{}, repeat(1)[:3], repeat(1)[:2], KayentaPass, false, 100},
		"MostlyTied":    {"one value of five that differs passes", KayentaConfig{}, []float64{1, 1, 1, 1, 10}, repeat(1), KayentaPass, false, 100},
		"Small":         {"what is below 1e-4 is told apart as well", KayentaConfig{}, []float64{2e-5, 2.2e-5, 2.1e-5, 2.5e-5, 3e-5}, []float64{1e-6, 2.2e-6, 1.1e-6, 2.5e-6, 3e-6}, KayentaHigh, false, 0},
		"Nodata":        {"nothing cannot be compared", KayentaConfig{}, nil, low5, KayentaNodata, false, 0},
		"NodataFail":    {"and fails where there must be data", KayentaConfig{MustHaveData: true}, nil, low5, KayentaNodataFail, false, 0},
		"NodataCrit":    {"or where it is critical", KayentaConfig{MustHaveData: true, Critical: true}, nil, low5, KayentaNodata, true, 0},
		"OnlyNaN":       {"NaN is no data", KayentaConfig{}, []float64{nan, nan}, low5, KayentaNodata, false, 0},
		"ZeroForNaN":    {"unless it stands for zero", KayentaConfig{ZeroNaN: true}, high5, []float64{nan, nan, nan, nan, nan}, KayentaHigh, false, 0},
		"EmptyIsNoZero": {"an empty canary does not pass for zero", KayentaConfig{ZeroNaN: true}, nil, low5, KayentaNodata, false, 0},
		"Infinite":      {"infinity is dropped", KayentaConfig{}, []float64{math.Inf(1)}, low5, KayentaNodata, false, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tc.config.Level = 0.95
			got := KayentaJudge(tc.config, tc.experiment, tc.control)
			if got.Class != tc.class || got.Critical != tc.critical || got.Score != tc.score {
				t.Errorf("%s: got %+v, want %s, critical %t, score %g", tc.reason, got, tc.class, tc.critical, tc.score)
			}
		})
	}
}

// TestKayentaTolerance: the interval must keep away from zero by a share of the estimate.
func TestKayentaTolerance(t *testing.T) {
	experiment, control := []float64{10, 11, 12, 13, 14, 15, 16, 17}, []float64{8, 9, 9.5, 10.5, 11.5, 12.5, 9.2, 8.7}
	narrow := KayentaJudge(KayentaConfig{Level: 0.9, Tolerance: 0.01}, experiment, control)
	wide := KayentaJudge(KayentaConfig{Level: 0.9, Tolerance: 0.9}, experiment, control)
	if narrow.Class != KayentaHigh || wide.Class != KayentaPass || narrow.Shift != wide.Shift {
		t.Errorf("with 0.01 %+v, with 0.9 %+v", narrow, wide)
	}
}

func TestOutlierFences(t *testing.T) {
	tests := map[string]struct {
		reason string
		values []float64
		want   []float64
	}{
		"Far":      {"one value of many beyond the fences goes", append(seq(1, 200), 5000), seq(1, 200)},
		"Low":      {"downwards, too", append(seq(1, 200), -5000), seq(1, 200)},
		"Ordinary": {"the largest of a few is no outlier", []float64{1, 2, 3, 9}, []float64{1, 2, 3, 9}},
		"Empty":    {"nothing has no outliers", nil, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, KayentaConfig{OutlierFactor: 3}.clean(tc.values)); diff != "" {
				t.Errorf("%s: wanted (-) and got (+):\n%s", tc.reason, diff)
			}
		})
	}
}

func seq(from, to int) (out []float64) {
	for i := from; i <= to; i++ {
		out = append(out, float64(i))
	}
	return out
}

func TestPercentile(t *testing.T) {
	tests := map[string]struct {
		reason  string
		values  []float64
		p, want float64
	}{
		"NIST":     {"the example of NIST's handbook by R's type 7", []float64{95.1772, 95.1567, 95.1937, 95.1959, 95.1442, 95.061, 95.1591, 95.1195, 95.1772, 95.0925, 95.199, 95.1682}, 90, 95.19568},
		"Lowest":   {"0 is the least", []float64{3, 1, 2}, 0, 1},
		"Highest":  {"100 is the largest", []float64{3, 1, 2}, 100, 3},
		"Between":  {"a percentile lies between values", []float64{1, 2}, 25, 1.25},
		"One":      {"one value is every percentile", []float64{4}, 37, 4},
		"None":     {"nothing has none", nil, 50, nan},
		"TooLarge": {"there is none above 100", []float64{1}, 101, nan},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := percentile(tc.values, tc.p); math.IsNaN(got) != math.IsNaN(tc.want) || math.Abs(got-tc.want) > 1e-10 {
				t.Errorf("%s: got %g, want %g", tc.reason, got, tc.want)
			}
		})
	}
}

func TestKayentaScore(t *testing.T) {
	pass, high, nodata := KayentaPass, KayentaHigh, KayentaNodata
	tests := map[string]struct {
		reason  string
		metrics []KayentaMetric
		weights map[string]float64
		want    float64
	}{
		"Third":         {"two decimals are left", []KayentaMetric{{"a", pass, false}, {"a", high, false}, {"a", KayentaLow, false}}, nil, 33.33},
		"Weights":       {"groups have weights", []KayentaMetric{{"a", pass, false}, {"a", pass, false}, {"b", high, false}}, map[string]float64{"a": 75, "b": 25}, 75},
		"Rest":          {"groups without a weight share the rest", []KayentaMetric{{"a", pass, false}, {"b", pass, false}, {"c", high, false}}, map[string]float64{"a": 40}, 70},
		"Equal":         {"without weights all groups are alike", []KayentaMetric{{"a", pass, false}, {"a", pass, false}, {"b", high, false}}, nil, 50},
		"NodataFail":    {"data that must be there counts against the canary", []KayentaMetric{{"a", pass, false}, {"a", KayentaNodataFail, false}}, nil, 50},
		"Nodata":        {"data that need not is left out", []KayentaMetric{{"a", pass, false}, {"a", high, false}, {"a", nodata, false}}, nil, 50},
		"NodataGroup":   {"a group without data has full marks", []KayentaMetric{{"a", pass, false}, {"a", high, false}, {"b", nodata, false}}, nil, 75},
		"HalfNodata":    {"half of the metrics must have data", []KayentaMetric{{"a", pass, false}, {"a", nodata, false}}, nil, 0},
		"Critical":      {"a critical failure is the end", []KayentaMetric{{"a", pass, false}, {"a", high, true}}, nil, 0},
		"CriticalPass":  {"a critical metric may pass", []KayentaMetric{{"a", pass, true}, {"a", KayentaLow, false}}, nil, 50},
		"CriticalEmpty": {"a critical metric must have data", []KayentaMetric{{"a", pass, false}, {"a", pass, false}, {"a", nodata, true}}, nil, 0},
		"OtherGroup":    {"the weight of an absent group is lost", []KayentaMetric{{"a", pass, false}}, map[string]float64{"z": 60}, 40},
		"None":          {"no metric is no evidence", nil, nil, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := KayentaScore(tc.metrics, tc.weights); got != tc.want {
				t.Errorf("%s: got %g, want %g", tc.reason, got, tc.want)
			}
		})
	}
}

package stats

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChiSquareP(t *testing.T) {
	tests := map[string]struct {
		reason          string
		counts, weights []float64
		want            float64
	}{
		"TenPercent":  {"a canary of a tenth with 250 too many of 100 000", []float64{10250, 89750}, []float64{1, 9}, 0.008407994577249268},
		"TwoDegrees":  {"with two degrees of freedom the tail is exp(-x/2)", []float64{30, 30, 60}, []float64{1, 1, 1}, math.Exp(-7.5)},
		"AsIntended":  {"counts as intended deviate by nothing", []float64{10, 90}, []float64{0.1, 0.9}, 1},
		"NoCounts":    {"without counts nothing is amiss", []float64{0, 0}, []float64{1, 1}, 1},
		"Empty":       {"a variant of weight zero without units takes no part", []float64{1000, 1200, 0}, []float64{1, 1, 0}, 2.0078656124264817e-05},
		"Impossible":  {"a unit where none may be cannot be chance", []float64{1000, 1000, 1}, []float64{1, 1, 0}, 0},
		"One":         {"one variant has no ratio", []float64{10}, []float64{1}, math.NaN()},
		"Unequal":     {"every variant has a count", []float64{10}, []float64{1, 1}, math.NaN()},
		"Negative":    {"a negative number is no count", []float64{-1, 2}, []float64{1, 1}, math.NaN()},
		"NotANumber":  {"NaN is no weight", []float64{1, 2}, []float64{1, math.NaN()}, math.NaN()},
		"Infinite":    {"infinity is no count", []float64{1, math.Inf(1)}, []float64{1, 1}, math.NaN()},
		"FarTail":     {"the far tail is no difference from one", []float64{1000, 0}, []float64{1, 1}, math.Erfc(math.Sqrt(500))},
		"NoneAtAll":   {"nothing has no ratio", nil, nil, math.NaN()},
		"ManyDegrees": {"each more pair of categories adds a term", []float64{2, 0, 0, 0, 0}, []float64{1, 1, 1, 1, 1}, math.Exp(-4) * (1 + 4)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := ChiSquareP(tc.counts, tc.weights)
			if math.IsNaN(got) != math.IsNaN(tc.want) || math.Abs(got-tc.want) > 1e-12*math.Abs(tc.want) {
				t.Errorf("%s: got %.15g, want %.15g", tc.reason, got, tc.want)
			}
		})
	}
}

// TestSharesIsTheSequentialBayesFactor: what comes in parts must come to the closed form of the whole.
func TestSharesIsTheSequentialBayesFactor(t *testing.T) {
	var s Shares
	for range 50 {
		s.Add([]float64{3, 61}, []float64{5, 95})
	}
	g := func(x float64) float64 { v, _ := math.Lgamma(x); return v }
	factor := func(k float64) float64 {
		return g(k) - g(k+3200) + g(0.05*k+150) - g(0.05*k) + g(0.95*k+3050) - g(0.95*k) - 150*math.Log(0.05) - 3050*math.Log(0.95)
	}
	want := LogMean(factor(100), factor(1e4))
	if math.Abs(s.LogBF()-want) > 1e-8 {
		t.Errorf("the Bayes factor is %.12g, want %.12g", s.LogBF(), want)
	}
}

func TestShares(t *testing.T) {
	type block struct{ counts, weights []float64 }
	tests := map[string]struct {
		reason string
		blocks []block
		alarm  bool
	}{
		"AsIntended":  {"shares as intended never alarm", []block{{[]float64{1e6, 99e6}, []float64{1, 99}}}, false},
		"Tenth":       {"a canary that gets 11 % of a tenth is found", []block{{[]float64{1.1e4, 8.9e4}, []float64{10, 90}}}, true},
		"Nothing":     {"no units say nothing", []block{{[]float64{0, 0}, []float64{10, 90}}}, false},
		"FewUnits":    {"339 of 564 units on half of the buckets are found", []block{{[]float64{339, 225}, []float64{1, 1}}}, true},
		"NoSplit":     {"all units on one variant are no split", []block{{[]float64{0, 500}, []float64{0, 1}}}, false},
		"Averaged":    {"steps that are right alone would be wrong against their average", []block{{[]float64{1e4, 99e4}, []float64{1, 99}}, {[]float64{5e4, 5e4}, []float64{50, 50}}}, false},
		"WrongStep":   {"one wrong step among right ones is found", []block{{[]float64{1e4, 99e4}, []float64{1, 99}}, {[]float64{4.8e4, 5.2e4}, []float64{50, 50}}}, true},
		"Late":        {"units of before do not count on a variant of weight zero", []block{{[]float64{500, 500, 9}, []float64{1, 1, 0}}}, false},
		"NotCounts":   {"what cannot be says nothing", []block{{[]float64{math.NaN(), 1e6}, []float64{1, 1}}, {[]float64{-5, 1e6}, []float64{1, 1}}, {[]float64{1e6}, []float64{1, 1}}}, false},
		"ThreeShares": {"a third variant is tested as well", []block{{[]float64{1e4, 1e4, 1.1e4}, []float64{1, 1, 1}}}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var s Shares
			for _, b := range tc.blocks {
				s.Add(b.counts, b.weights)
			}
			if alarm := s.P() <= 0.001; alarm != tc.alarm {
				t.Errorf("%s: p = %g, alarm %t", tc.reason, s.P(), alarm)
			}
		})
	}
}

// TestSharesRemembersItsLowestP: p never rises again, nor does a new regime forget the old one's evidence.
func TestSharesRemembersItsLowestP(t *testing.T) {
	var s Shares
	s.Add([]float64{5400, 4600}, []float64{1, 1})
	low := s.P()
	s.Add([]float64{46000, 54000}, []float64{1, 1})
	if s.P() > low {
		t.Errorf("p rose from %g to %g", low, s.P())
	}
	before := s.LogBF()
	s.NextRegime()
	if s.LogBF() != before {
		t.Errorf("a new regime turned %g into %g", before, s.LogBF())
	}
	s.Add([]float64{50, 50}, []float64{1, 1})
	if len(s.Counts) != 2 || s.Counts[0] != 50 {
		t.Errorf("the new regime counts %v, want its own units", s.Counts)
	}
}

func TestSharesSurvivesJSON(t *testing.T) {
	var whole, parts Shares
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		weights := []float64{float64(1 + i/10), 9}
		counts := []float64{float64(r.IntN(50)), float64(r.IntN(500))}
		whole.Add(counts, weights)
		data, err := json.Marshal(parts)
		if err != nil {
			t.Fatal(err)
		}
		parts = Shares{}
		if err := json.Unmarshal(data, &parts); err != nil {
			t.Fatal(err)
		}
		parts.Add(counts, weights)
	}
	if diff := cmp.Diff(whole, parts); diff != "" {
		t.Errorf("state without (-) and with (+) restarts:\n%s", diff)
	}
}

// TestSharesTypeOne looks after every block of 60 units over a ramp of weights: false alarms stay below the level.
func TestSharesTypeOne(t *testing.T) {
	const runs, level = 400, 0.05
	r := rand.New(rand.NewPCG(3, 4))
	alarms := 0
	for range runs {
		var s Shares
		for i := range 200 {
			weight := []float64{0.01, 0.05, 0.25, 0.5}[i/50]
			canary := 0.0
			for range 60 {
				if r.Float64() < weight {
					canary++
				}
			}
			s.Add([]float64{canary, 60 - canary}, []float64{weight, 1 - weight})
		}
		if s.P() <= level {
			alarms++
		}
	}
	// Three standard deviations above the level.
	if most := runs*level + 3*math.Sqrt(runs*level*(1-level)); float64(alarms) > most {
		t.Errorf("%d false alarms in %d runs, want at most %g", alarms, runs, most)
	}
}

// TestGammaRise compares with differences of Lgamma where those are good, and with an exact product where they are not.
func TestGammaRise(t *testing.T) {
	for _, a := range []float64{0.01, 0.5, 1, 3.7, 12, 500, 1e4} {
		for _, n := range []float64{0, 1, 2, 7, 100, 5000} {
			high, _ := math.Lgamma(a + n)
			low, _ := math.Lgamma(a)
			want := high - low - n*math.Log(a+n) + n
			if got := gammaRise(a, n, a+n); math.Abs(got-want) > 2e-11*math.Max(1, math.Abs(high)/100) {
				t.Errorf("a = %g, n = %g: got %.15g, want %.15g", a, n, got, want)
			}
		}
	}
	// The gamma function of a+1 over that of a is a.
	for _, a := range []float64{1e7, 1e9, 1e12} {
		if got, want := gammaRise(a, 1, a), 1.0; math.Abs(got-want) > 1e-12 {
			t.Errorf("a = %g: got %.15g, want %g", a, got, want)
		}
	}
}

func FuzzShares(f *testing.F) {
	f.Add(1.0, 2.0, 1.0, 1.0)
	f.Add(0.0, 1e300, 1e-300, 1.0)
	f.Add(math.Inf(1), 2.0, 1.0, math.NaN())
	f.Add(1e308, 1e308, 1.0, 1.0)
	f.Fuzz(func(t *testing.T, a, b, v, w float64) {
		var s Shares
		s.Add([]float64{a, b}, []float64{v, w})
		s.Add([]float64{b, a}, []float64{v, w})
		if p := s.P(); !(p >= 0 && p <= 1) {
			t.Errorf("p = %g", p)
		}
		if _, err := json.Marshal(s); err != nil {
			t.Errorf("writing the state: %v", err)
		}
		if p := ChiSquareP([]float64{a, b}, []float64{v, w}); p < 0 || p > 1 {
			t.Errorf("chi-square p = %g", p)
		}
	})
}

package stats

import (
	"math"
	"testing"
)

// TestLimits holds the limits against those of published comparisons at 100 requests per second, in whole seconds.
func TestLimits(t *testing.T) {
	const rps = 100
	for _, tc := range []struct{ ps, pc, w, alpha, seconds float64 }{
		{0.01, 0.015, 0.1, 0.05, 309},
		{0.01, 0.02, 0.1, 0.05, 87},
		{0.01, 0.03, 0.1, 0.05, 27},
		{0.01, 0.05, 0.1, 0.05, 9},
		{0.001, 0.002, 0.1, 0.05, 885},
		{0.001, 0.005, 0.1, 0.05, 90},
		{0.01, 0.02, 0.5, 0.05, 35},
		{0.01, 0.02, 0.01, 0.05, 775},
		{0.01, 0.015, 0.1, 0.001, 712},
		{0.01, 0.02, 0.01, 0.001, 1788},
	} {
		got := Limit(RateInformation(tc.pc, tc.ps, tc.w), tc.alpha) / rps
		if math.Abs(got-tc.seconds) > 1 {
			t.Errorf("%g to %g at %g: %.1f s, want %g", tc.ps, tc.pc, tc.w, got, tc.seconds)
		}
	}
	if got := Limit(SafetyInformation(0.01, 0.01, 0.1, 1.5), 0.05) / rps; math.Abs(got-363) > 1 {
		t.Errorf("equal rates against a margin of 1.5: %.1f s, want 363", got)
	}
}

// lognormalCells returns the shares of the default buckets for lognormal latencies, of which the share slow is at 2 s.
func lognormalCells(median, sigma, slow float64) []float64 {
	bounds := []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
	cells, last := make([]float64, len(bounds)+1), 0.0
	for j, b := range bounds {
		up := 0.5 * math.Erfc(-math.Log(b/median)/(sigma*math.Sqrt2))
		cells[j], last = (up-last)*(1-slow), up
		if b > 2 && bounds[j-1] < 2 {
			cells[j] += slow
		}
	}
	cells[len(bounds)] = (1 - last) * (1 - slow)
	return cells
}

func TestInformation(t *testing.T) {
	stable, slow := lognormalCells(0.08, 0.7, 0), lognormalCells(0.08, 0.7, 0.01)
	two := HistogramInformation([]float64{0.98, 0.02}, []float64{0.99, 0.01}, 0.1)
	tests := map[string]struct {
		reason    string
		got, want float64
	}{
		"Binary":    {"a histogram of two cells is a rate", two, RateInformation(0.02, 0.01, 0.1)},
		"Equal":     {"equal distributions have nothing to tell", HistogramInformation(stable, stable, 0.1), 0},
		"EqualRate": {"equal rates have nothing to tell", RateInformation(0.01, 0.01, 0.3), 0},
		"Length":    {"other cells do not compare", HistogramInformation(stable, slow[1:], 0.1), math.NaN()},
		"Shift":     {"a shift of one deviation at half weight is an eighth", ShiftInformation(3, 3, 0.5), 0.125},
		"Unsafe":    {"a ratio above the margin does not speak for safety", SafetyInformation(0.02, 0.01, 0.1, 1.5), 0},
		"NoStable":  {"no stable errors have no ratio", SafetyInformation(0.02, 0, 0.1, 1.5), 0},
		"Neither":   {"no errors say nothing", SafetyInformation(0, 0, 0.1, 1.5), 0},
		"KL":        {"the divergence of a fair coin from one at 0.9", KL(0.5, 0.9), 0.5*math.Log(0.5/0.9) + 0.5*math.Log(5)},
		"Sure":      {"what is sure differs by the other's logarithm", KL(1, 0.25), math.Log(4)},
		"Excluded":  {"what cannot be is infinitely far", KL(0.5, 1), math.Inf(1)},
		"NoRate":    {"a rate above one is none", KL(1.5, 0.5), math.NaN()},
		"Nothing":   {"without information there is no end", Limit(0, 0.05), math.Inf(1)},
		"NaN":       {"without a number there is no end", Limit(math.NaN(), 0.05), math.Inf(1)},
		"Power":     {"less power needs less", LimitWithPower(0.001, 0.05, 0.2), KL(0.8, 0.05) / 0.001},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			same := math.Abs(tc.got-tc.want) <= 1e-14*math.Max(1, math.Abs(tc.want))
			if !same && tc.got != tc.want && !(math.IsNaN(tc.got) && math.IsNaN(tc.want)) {
				t.Errorf("%s: got %g, want %g", tc.reason, tc.got, tc.want)
			}
		})
	}
}

// TestHistogramLimits holds limits for slower latencies against published ones, at 100 requests per second and 10 %.
func TestHistogramLimits(t *testing.T) {
	stable := lognormalCells(0.08, 0.7, 0)
	for name, tc := range map[string]struct {
		canary  []float64
		seconds float64
	}{
		"median +10 %": {lognormalCells(0.088, 0.7, 0), 40},
		"median +25 %": {lognormalCells(0.1, 0.7, 0), 7},
		"3 % at 2 s":   {lognormalCells(0.08, 0.7, 0.03), 5},
	} {
		if got := Limit(HistogramInformation(tc.canary, stable, 0.1), 0.05) / 100; math.Abs(got-tc.seconds) > 0.5 {
			t.Errorf("%s: %.1f s, want %g", name, got, tc.seconds)
		}
	}
}

// TestShiftInformation: cells fine enough tell nearly what the observations themselves do.
func TestShiftInformation(t *testing.T) {
	const shift, sd, w = 0.05, 1.0, 0.5
	a, b := make([]float64, 200), make([]float64, 200)
	below := func(x, mean float64) float64 { return 0.5 * math.Erfc(-(x-mean)/sd/math.Sqrt2) }
	for j := range a {
		x := -5 + float64(j)*0.05
		a[j], b[j] = below(x+0.05, shift)-below(x, shift), below(x+0.05, 0)-below(x, 0)
	}
	if got, want := HistogramInformation(a, b, w), ShiftInformation(shift, sd, w); !closeTo(got, want, 0.01) {
		t.Errorf("200 cells tell %g nats, want about %g", got, want)
	}
}

package stats

import (
	"math"
	"testing"
)

func TestChanceAbove(t *testing.T) {
	// The values are of an adaptive quadrature with 30 digits.
	tests := map[string]struct {
		reason       string
		other, above Beta
		want         float64
	}{
		"Prior":       {"a prior of nearly no weight", Beta{0.5, 0.5}, Beta{3.5, 7.5}, 0.375986514426396387},
		"Jeffreys":    {"Jeffreys' prior with a thousand requests", Beta{100.5, 900.5}, Beta{120.5, 880.5}, 0.923605232142086367},
		"FewCanary":   {"a canary with little traffic", Beta{10.5, 990.5}, Beta{1.5, 19.5}, 0.935617183399715895},
		"Fractions":   {"parameters of any kind", Beta{2.3, 7.1}, Beta{0.7, 11.9}, 0.0755164128794988851},
		"Near":        {"two rates near each other", Beta{50.5, 52.5}, Beta{52.5, 50.5}, 0.610240696760228036},
		"Rare":        {"rare errors", Beta{20.5, 1980.5}, Beta{45.5, 1955.5}, 0.999217473479810361},
		"Ends":        {"densities that are infinite at both ends", Beta{0.05, 3}, Beta{0.4, 0.2}, 0.974458725426752222},
		"Many":        {"a hundred thousand requests", Beta{1000.5, 99000.5}, Beta{1100.5, 98900.5}, 0.985884147653149897},
		"Same":        {"neither is above the other", Beta{31.5, 2.25}, Beta{31.5, 2.25}, 0.5},
		"Uniform":     {"P(p > q) is the mean of p for q uniform", Beta{1, 1}, Beta{3, 5}, 3.0 / 8},
		"NoCounts":    {"a parameter of zero is no distribution", Beta{0, 1}, Beta{1, 1}, math.NaN()},
		"NotANumber":  {"nor is NaN", Beta{1, 1}, Beta{math.NaN(), 1}, math.NaN()},
		"MoreEvents":  {"nor more events than requests", Beta{1, 1}, Beta{1, 1}.After(9, 3), math.NaN()},
		"NotInfinite": {"nor infinitely many", Beta{1, 1}, Beta{math.Inf(1), 1}, math.NaN()},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := tc.above.ChanceAbove(tc.other)
			if math.IsNaN(got) != math.IsNaN(tc.want) || math.Abs(got-tc.want) > 1e-12 {
				t.Errorf("%s: got %.15g, want %.15g", tc.reason, got, tc.want)
			}
			if back := tc.other.ChanceAbove(tc.above); math.Abs(got+back-1) > 1e-12 {
				t.Errorf("%s: %g and the other way round %g do not sum to one", tc.reason, got, back)
			}
		})
	}
}

// TestChanceAboveIsTheClosedSum compares with the sum that there is for whole parameters:
//
//	P = sum_{i<a} B(c+i, b+d) / ((b+i) B(1+i, b) B(c, d)),  p ~ Beta(a, b), q ~ Beta(c, d)
func TestChanceAboveIsTheClosedSum(t *testing.T) {
	lb := func(a, b float64) float64 {
		x, _ := math.Lgamma(a)
		y, _ := math.Lgamma(b)
		z, _ := math.Lgamma(a + b)
		return x + y - z
	}
	sum := func(p, q Beta) (s float64) {
		for i := 0.0; i < p.A; i++ {
			s += math.Exp(lb(q.A+i, p.B+q.B) - math.Log(p.B+i) - lb(1+i, p.B) - lb(q.A, q.B))
		}
		return s
	}
	for _, a := range []float64{1, 2, 9, 60, 400} {
		for _, b := range []float64{1, 3, 30, 900} {
			for _, q := range []Beta{{1, 1}, {1, 40}, {7, 3}, {80, 200}, {500, 1000}} {
				p := Beta{a, b}
				if got, want := p.ChanceAbove(q), sum(p, q); math.Abs(got-want) > 2e-12 {
					t.Errorf("%v above %v: got %.15g, want %.15g", p, q, got, want)
				}
			}
		}
	}
}

// TestChanceAboveOfManyRequests: with a billion requests the posteriors are normal.
func TestChanceAboveOfManyRequests(t *testing.T) {
	p, q := Beta{5e8 + 2e4, 5e8 - 2e4}, Beta{5e8, 5e8}
	want := 0.5 * math.Erfc(-2e4/1e9/math.Sqrt(0.5/1e9)/math.Sqrt2)
	if got := p.ChanceAbove(q); math.Abs(got-want) > 1e-8 {
		t.Errorf("got %.12g, want about %.12g", got, want)
	}
}

func FuzzChanceAbove(f *testing.F) {
	f.Add(0.5, 0.5, 1e6, 3.0)
	f.Add(0.01, 1e9, 0.01, 0.01)
	f.Add(1e9, 0.01, 2.0, 1e-300)
	f.Add(math.Inf(1), 1.0, math.NaN(), 1.0)
	f.Fuzz(func(t *testing.T, a, b, c, d float64) {
		p := Beta{a, b}.ChanceAbove(Beta{c, d})
		if !math.IsNaN(p) && (p < 0 || p > 1) {
			t.Errorf("P = %g", p)
		}
		if back := (Beta{c, d}).ChanceAbove(Beta{a, b}); !math.IsNaN(p) && math.Abs(p+back-1) > 1e-6 {
			t.Errorf("%g and the other way round %g", p, back)
		}
	})
}

func BenchmarkChanceAbove(b *testing.B) {
	for b.Loop() {
		Beta{100.5, 9900.5}.ChanceAbove(Beta{1000.5, 99000.5})
	}
}

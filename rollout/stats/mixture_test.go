package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Published values of confseq's unit tests, at v = v_opt = 100 and alpha = alpha_opt = 0.05.
func TestMixturesPublished(t *testing.T) {
	two := NormalMixture{Rho: BestRho(100, 0.05)}
	one := NormalMixture{Rho: BestRho(100, 0.10), OneSided: true}
	betaTwo, betaOne := NewBetaBinomial(100, 0.05, 0.2, 0.8, false), NewBetaBinomial(100, 0.05, 0.2, 0.8, true)
	for name, tc := range map[string]struct{ got, want float64 }{
		"normal, two-sided":               {two.LogE(10, 100), -0.6510052},
		"normal bound, two-sided":         {two.Bound(100, 0.05), 30.35209},
		"normal, one-sided":               {one.LogE(10, 100), -0.06502391},
		"normal bound, one-sided":         {one.Bound(100, 0.05), 27.66071},
		"beta-binomial, two-sided":        {betaTwo.LogE(10, 100), -0.6941012},
		"beta-binomial bound, two-sided":  {betaTwo.Bound(100, 0.05), 31.4308},
		"beta-binomial, one-sided":        {betaOne.LogE(10, 100), -0.07134019},
		"beta-binomial bound, one-sided":  {betaOne.Bound(100, 0.05), 28.41238},
		"a sum that nothing is known of":  {betaOne.LogE(0, 0), 0},
		"a sum of zero, normal one-sided": {one.LogE(0, 0), 0},
	} {
		if math.Abs(tc.got-tc.want) > 1e-5 {
			t.Errorf("%s: %.9g, want %.9g", name, tc.got, tc.want)
		}
	}
}

type mixture interface {
	LogE(s, v float64) float64
	Bound(v, alpha float64) float64
}

// TestBoundIsWhereEvidenceIs: the e-value reaches 1/alpha at the bound, and the bound grows with time and with certainty.
func TestBoundIsWhereEvidenceIs(t *testing.T) {
	for _, vOpt := range []float64{1, 100, 1e6} {
		for name, m := range map[string]mixture{
			"normal, two-sided":        NormalMixture{Rho: BestRho(vOpt, 0.05)},
			"normal, one-sided":        NormalMixture{Rho: BestRho(vOpt, 0.10), OneSided: true},
			"beta-binomial, two-sided": NewBetaBinomial(vOpt, 0.05, 0.3, 0.7, false),
			"beta-binomial, one-sided": NewBetaBinomial(vOpt, 0.05, 0.3, 0.7, true),
			"beta-binomial, skewed":    NewBetaBinomial(vOpt, 0.05, 0.01, 2, true),
		} {
			last := 0.0
			for _, v := range []float64{20, 100, 1e4, 1e6, 1e8} {
				for _, alpha := range []float64{0.1, 0.001, 1e-6} {
					s := m.Bound(v, alpha)
					got := m.LogE(s, v)
					if most := v / 0.01; s != most && math.Abs(got-math.Log(1/alpha)) > 1e-6 {
						// The greatest sum that can be may be below the bound.
						if b, ok := m.(BetaBinomial); !ok || s != v/b.g || got > math.Log(1/alpha) {
							t.Errorf("%s tuned to %g: log e %g at the bound %g for v %g and alpha %g", name, vOpt, got, s, v, alpha)
						}
					}
				}
				if s := m.Bound(v, 0.05); !(s > last) {
					t.Errorf("%s tuned to %g: bound %g at %g after %g", name, vOpt, s, v, last)
				} else {
					last = s
				}
			}
		}
	}
}

func TestMixturesOfWhatCannotBe(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, m := range []mixture{
		NormalMixture{Rho: 1},
		NormalMixture{Rho: 1, OneSided: true},
		NewBetaBinomial(10, 0.05, 0.2, 0.8, false), NewBetaBinomial(10, 0.05, 0.2, 0.8, true),
	} {
		for _, sv := range [][2]float64{{nan, 1}, {1, nan}, {1, -1}, {inf, 1}, {-inf, 1}, {1, inf}} {
			if got := m.LogE(sv[0], sv[1]); got != 0 {
				t.Errorf("%+v: log e of s %g, v %g is %g, want 0: it is no evidence", m, sv[0], sv[1], got)
			}
		}
	}
	if got := NewBetaBinomial(10, 0.05, 0.2, 0.8, true).LogE(100, 1); got != 0 {
		t.Errorf("a sum beyond what can be: log e %g, want 0", got)
	}
	for _, xn := range [][2]float64{{0, 0}, {2, 1}, {nan, 5}, {1, nan}, {-1, 5}} {
		if low, high := RateInterval(xn[0], xn[1], 0.05, 100); low != 0 || high != 1 {
			t.Errorf("%g of %g: [%g, %g], want [0, 1]", xn[0], xn[1], low, high)
		}
	}
}

func FuzzMixtures(f *testing.F) {
	f.Add(10.0, 100.0, 100.0, 0.2, 0.8)
	f.Add(0.0, 0.0, 1e-9, 1e-9, 1e9)
	f.Add(-42.0, 50.0, 4500.0, 0.2, 0.20000000000000284) // x and 1-x both beyond the means, by rounding
	f.Fuzz(func(t *testing.T, s, v, vOpt, g, h float64) {
		if !(vOpt > 1e-12 && vOpt < 1e15 && g > 1e-6 && g < 1e6 && h > 1e-6 && h < 1e6) || v > 1e15 {
			t.Skip("not a declaration")
		}
		for _, m := range []mixture{
			NormalMixture{Rho: BestRho(vOpt, 0.05)},
			NormalMixture{Rho: BestRho(vOpt, 0.1), OneSided: true},
			NewBetaBinomial(vOpt, 0.05, g, h, false), NewBetaBinomial(vOpt, 0.05, g, h, true),
		} {
			if got := m.LogE(s, v); math.IsNaN(got) {
				t.Errorf("%+v: log e of s %g, v %g is not a number", m, s, v)
			}
		}
	})
}

// TestRateIntervalCovers looks after every request: the interval must hold the rate at all times.
func TestRateIntervalCovers(t *testing.T) {
	const runs, requests, alpha = 300, 400, 0.05
	for _, p := range []float64{0.02, 0.3} {
		missed := 0
		r := rand.New(rand.NewPCG(1, 31))
		for range runs {
			x, miss := 0.0, false
			for n := 1.0; n <= requests; n++ {
				x += float64(count(r.Float64() < p))
				if int(n)%4 == 0 && !miss {
					m := NewBetaBinomial(p*(1-p)*100, alpha0, p, 1-p, false)
					miss = m.LogE(x-p*n, p*(1-p)*n) >= math.Log(1/alpha)
				}
			}
			low, high := RateInterval(x, requests, alpha, 100)
			if !(low <= x/requests && x/requests <= high) {
				t.Fatalf("%g of %d: [%g, %g] does not hold the estimate", x, requests, low, high)
			}
			missed += count(miss)
		}
		t.Logf("rate %g: missed in %.3f of runs", p, share(missed, runs))
		if share(missed, runs) > alpha {
			t.Errorf("rate %g: missed in %.3f of runs, want at most %g", p, share(missed, runs), alpha)
		}
	}
}

func TestRateIntervalEnds(t *testing.T) {
	tests := map[string]struct {
		reason           string
		x, n             float64
		lowZero, highOne bool
	}{
		"None": {"no event speaks against no small rate", 0, 50, true, false},
		"One":  {"a single event is what the prior on a small rate expects", 1, 50, true, false},
		"Some": {"events bound the rate on both sides", 20, 50, false, false},
		"All":  {"events only speak against no great rate", 50, 50, false, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			low, high := RateInterval(tc.x, tc.n, 0.05, 50)
			if (low == 0) != tc.lowZero || (high == 1) != tc.highOne || !(low < high) {
				t.Errorf("%s: [%g, %g]", tc.reason, low, high)
			}
			// Counting what did not happen turns the interval round.
			a, b := RateInterval(tc.n-tc.x, tc.n, 0.05, 50)
			if math.Abs(1-b-low) > 1e-9 || math.Abs(1-a-high) > 1e-9 {
				t.Errorf("[%g, %g], and [%g, %g] of the contrary", low, high, a, b)
			}
		})
	}
}

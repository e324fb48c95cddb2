package backtest

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestDraws compares the samplers with the probabilities that they stand for, by a chi-square test whose bound a right
// sampler passes with probability 0.999 999. The seeds are fixed. The means lie on both sides of where the methods change.
func TestDraws(t *testing.T) {
	const draws = 200_000
	poissonPMF := func(mean float64) func(float64) float64 {
		return func(k float64) float64 { return math.Exp(k*math.Log(mean) - mean - logFactorial(k)) }
	}
	binomialPMF := func(n, p float64) func(float64) float64 {
		return func(k float64) float64 {
			return math.Exp(logFactorial(n) - logFactorial(k) - logFactorial(n-k) + k*math.Log(p) + (n-k)*math.Log1p(-p))
		}
	}
	for name, c := range map[string]struct {
		reason string
		draw   func(*rand.Rand) float64
		pmf    func(float64) float64
		most   float64
	}{
		"poisson 0.3":         {"inversion", func(r *rand.Rand) float64 { return poisson(r, 0.3) }, poissonPMF(0.3), 40},
		"poisson 9.9":         {"inversion, at its end", func(r *rand.Rand) float64 { return poisson(r, 9.9) }, poissonPMF(9.9), 80},
		"poisson 10":          {"rejection, at its beginning", func(r *rand.Rand) float64 { return poisson(r, 10) }, poissonPMF(10), 80},
		"poisson 75":          {"rejection", func(r *rand.Rand) float64 { return poisson(r, 75) }, poissonPMF(75), 300},
		"poisson 1500":        {"a block of 100 requests a second", func(r *rand.Rand) float64 { return poisson(r, 1500) }, poissonPMF(1500), 2500},
		"binomial 15, 0.01":   {"few errors", func(r *rand.Rand) float64 { return binomial(r, 15, 0.01) }, binomialPMF(15, 0.01), 15},
		"binomial 1500, 0.01": {"rejection, far from a half", func(r *rand.Rand) float64 { return binomial(r, 1500, 0.01) }, binomialPMF(1500, 0.01), 1500},
		"binomial 40, 0.5":    {"rejection, at a half", func(r *rand.Rand) float64 { return binomial(r, 40, 0.5) }, binomialPMF(40, 0.5), 40},
		"binomial 100, 0.93":  {"turned round", func(r *rand.Rand) float64 { return binomial(r, 100, 0.93) }, binomialPMF(100, 0.93), 100},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, 1))
			seen := make([]float64, int(c.most)+1)
			for range draws {
				seen[int(c.draw(r))]++
			}
			chi2, cells := 0.0, 0.0
			rest, restSeen := 0.0, 0.0 // cells too rare to stand alone
			for k := range seen {
				want := draws * c.pmf(float64(k))
				if want < 20 {
					rest, restSeen = rest+want, restSeen+seen[k]
					continue
				}
				chi2 += (seen[k] - want) * (seen[k] - want) / want
				cells++
			}
			chi2 += (restSeen - rest) * (restSeen - rest) / math.Max(rest, 1)
			// Wilson and Hilferty 1931: the cube root of chi-square over its degrees of freedom is nearly normal.
			z := (math.Cbrt(chi2/cells) - (1 - 2/(9*cells))) / math.Sqrt(2/(9*cells))
			if z > 4.75 {
				t.Errorf("%s: chi-square %.1f over %.0f cells is %.1f standard deviations above what it should be", c.reason, chi2, cells, z)
			}
		})
	}
}

func TestDrawsAtTheEdges(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 2))
	for name, c := range map[string]struct{ got, want float64 }{
		"no mean":            {poisson(r, 0), 0},
		"a mean that is not": {poisson(r, math.NaN()), 0},
		"no trials":          {binomial(r, 0, 0.5), 0},
		"never":              {binomial(r, 100, 0), 0},
		"always":             {binomial(r, 100, 1), 100},
		"beyond always":      {binomial(r, 100, 1.2), 100},
		"no shape":           {gamma(r, 0), 0},
		"no spread":          {lognormal(r, 0), 1},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %g, want %g", name, c.got, c.want)
		}
	}
}

// TestGamma compares mean and variance, which are both the shape.
func TestGamma(t *testing.T) {
	const draws = 200_000
	r := rand.New(rand.NewPCG(7, 3))
	for _, shape := range []float64{0.25, 1, 4, 300} {
		sum, squares := 0.0, 0.0
		for range draws {
			x := gamma(r, shape)
			sum, squares = sum+x, squares+x*x
		}
		mean := sum / draws
		variance := squares/draws - mean*mean
		// The fourth central moment of a gamma variable is 3k^2 + 6k.
		if d := math.Abs(mean-shape) / math.Sqrt(shape/draws); d > 5 {
			t.Errorf("shape %g: mean %g is %.1f standard errors off", shape, mean, d)
		}
		if d := math.Abs(variance-shape) / math.Sqrt((2*shape*shape+6*shape)/draws); d > 5 {
			t.Errorf("shape %g: variance %g is %.1f standard errors off", shape, variance, d)
		}
	}
}

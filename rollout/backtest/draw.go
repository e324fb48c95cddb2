package backtest

import (
	"math"
	"math/rand/v2"
)

// fewest is the mean from which on rejection is quicker than inversion; the rejection methods need at least 10.
const fewest = 10

// poisson draws from the Poisson distribution, exactly: by inversion for small means, else by transformed rejection
// (Hormann 1993, "The transformed rejection method for generating Poisson random variables", algorithm PTRS).
func poisson(r *rand.Rand, mean float64) float64 {
	switch {
	case !(mean > 0):
		return 0
	case mean < fewest:
		return invert(r, math.Exp(-mean), math.Inf(1), func(x float64) float64 { return mean / x })
	}
	b := 0.931 + 2.53*math.Sqrt(mean)
	a := -0.059 + 0.02483*b
	vr := 0.9277 - 3.6224/(b-2)
	scale := 1.1239 + 1.1328/(b-3.4)
	logMean := math.Log(mean)
	for {
		u, v := r.Float64()-0.5, r.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + mean + 0.43)
		if us >= 0.07 && v <= vr {
			return k
		}
		if k < 0 || (us < 0.013 && v > us) {
			continue
		}
		if math.Log(v*scale/(a/(us*us)+b)) <= k*logMean-mean-logFactorial(k) {
			return k
		}
	}
}

// binomial draws the number of events in n trials of probability p, exactly: by inversion for small means, else by
// transformed rejection (Hormann 1993, "The generation of binomial random variates", algorithm BTRS).
func binomial(r *rand.Rand, n, p float64) float64 {
	switch {
	case !(n > 0) || !(p > 0):
		return 0
	case p >= 1:
		return n
	case p > 0.5:
		return n - binomial(r, n, 1-p)
	case n*p < fewest:
		odds := p / (1 - p)
		return invert(r, math.Exp(n*math.Log1p(-p)), n, func(x float64) float64 { return odds * (n - x + 1) / x })
	}
	spread := math.Sqrt(n * p * (1 - p))
	b := 1.15 + 2.53*spread
	a := -0.0873 + 0.0248*b + 0.01*p
	vr := 0.92 - 4.2/b
	scale := (2.83 + 5.1/b) * spread
	mode, logOdds := math.Floor((n+1)*p), math.Log(p/(1-p))
	top := logFactorial(mode) + logFactorial(n-mode)
	for {
		u, v := r.Float64()-0.5, r.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + n*p + 0.5)
		if us >= 0.07 && v <= vr {
			return k
		}
		if k < 0 || k > n {
			continue
		}
		if math.Log(v*scale/(a/(us*us)+b)) <= top-logFactorial(k)-logFactorial(n-k)+(k-mode)*logOdds {
			return k
		}
	}
}

// invert walks up the distribution function from its value at 0 until a uniform number is passed. ratio gives the
// probability of x over that of x-1.
func invert(r *rand.Rand, zero, most float64, ratio func(x float64) float64) float64 {
	u, f, x := r.Float64(), zero, 0.0
	for u >= f && x < most {
		u -= f
		x++
		f *= ratio(x)
		if f == 0 {
			break // beyond what a float64 can tell apart
		}
	}
	return x
}

// gamma draws from the gamma distribution of a shape and scale 1 (Marsaglia and Tsang 2000, "A simple method for
// generating gamma variables").
func gamma(r *rand.Rand, shape float64) float64 {
	if !(shape > 0) {
		return 0
	}
	if shape < 1 {
		return gamma(r, shape+1) * math.Pow(r.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v *= v * v
		if math.Log(r.Float64()) < 0.5*x*x+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// lognormal draws a number with mean 1 whose ln has the standard deviation sigma.
func lognormal(r *rand.Rand, sigma float64) float64 {
	if sigma <= 0 {
		return 1
	}
	return math.Exp(sigma*r.NormFloat64() - sigma*sigma/2)
}

func logFactorial(k float64) float64 {
	l, _ := math.Lgamma(k + 1)
	return l
}

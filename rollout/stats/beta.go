package stats

import "math"

// lnBeta returns the logarithm of the beta function B(a, b), for a, b > 0. Differences of Lgamma would lose nine digits at
// a million counts; from stirlingFrom on, Stirling's series leaves only logarithms of ratios (DLMF 5.11.1).
func lnBeta(a, b float64) float64 {
	const stirlingFrom = 20
	if a > b {
		a, b = b, a
	}
	if b < stirlingFrom {
		return lnGamma(a) + lnGamma(b) - lnGamma(a+b)
	}
	// ln Gamma(b) - ln Gamma(a+b) + a ln(a+b)
	rest := -(b-0.5)*math.Log1p(a/b) + a + stirling(b) - stirling(a+b)
	if a < stirlingFrom {
		return lnGamma(a) + rest - a*math.Log(a+b)
	}
	const halfLn2Pi = 0.91893853320467274178
	return (a-0.5)*math.Log(a/(a+b)) - 0.5*math.Log(a+b) - a + halfLn2Pi + stirling(a) + rest
}

// stirling is the remainder of Stirling's formula, to 1e-15 for x >= 20.
func stirling(x float64) float64 {
	y := 1 / (x * x)
	return (1.0/12 - y*(1.0/360-y*(1.0/1260-y/1680))) / x
}

func lnGamma(x float64) float64 {
	l, _ := math.Lgamma(x)
	return l
}

// lnBetaUpTo returns ln B_x(a, b), the logarithm of the incomplete beta function that is not regularised: the integral of
// t^(a-1) (1-t)^(b-1) from 0 to x. It stays exact where the function itself underflows.
func lnBetaUpTo(a, b, x float64) float64 {
	switch {
	case x >= 1:
		return lnBeta(a, b)
	case x <= 0:
		return math.Inf(-1)
	case x > (a+1)/(a+b+2):
		all := lnBeta(a, b)
		return all + math.Log1p(-math.Exp(math.Min(0, lnBetaLeft(b, a, 1-x)-all)))
	}
	return lnBetaLeft(a, b, x)
}

// lnBetaLeft is lnBetaUpTo for an x of about the mean, a/(a+b), at most: there its continued fraction converges fast.
func lnBetaLeft(a, b, x float64) float64 {
	return a*math.Log(x) + b*math.Log1p(-x) - math.Log(a) + math.Log(betaFraction(a, b, x))
}

// studentTail returns the probability that Student's t with df degrees of freedom exceeds t.
func studentTail(t, df float64) float64 {
	if df > 1e10 {
		return 0.5 * math.Erfc(t/math.Sqrt2)
	}
	tail := 0.5 * betaInc(df/2, 0.5, df/(df+t*t))
	if t < 0 {
		return 1 - tail
	}
	return tail
}

// studentQuantile returns the t >= 0 that Student's t with df degrees of freedom exceeds with the probability tail, at most
// 1/2.
func studentQuantile(tail, df float64) float64 {
	above := func(t float64) bool { return studentTail(t, df) > tail }
	high := 1.0
	for above(high) && high < 1e300 {
		high *= 2
	}
	return crossing(0, high, above)
}

// crossing returns the point between low and high up to which a condition holds that holds at low and not at high, to
// the last bits.
func crossing(low, high float64, holds func(float64) bool) float64 {
	for range 200 {
		mid := low + (high-low)/2
		if mid <= low || mid >= high {
			break
		}
		if holds(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	return low + (high-low)/2
}

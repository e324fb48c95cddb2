package stats

import "math"

// logPhi returns ln of the standard normal distribution function, also far out on the left.
func logPhi(x float64) float64 {
	if x > -30 {
		return math.Log(0.5 * math.Erfc(-x/math.Sqrt2))
	}
	return logMills(x) - x*x/2
}

// logMills returns logPhi(x) + x^2/2, which stays exact, and a number, where both terms are huge.
func logMills(x float64) float64 {
	if x > -30 {
		return logPhi(x) + x*x/2
	}
	// Mills' ratio: Phi(x) ~ phi(x)/|x| (1 - 1/x^2 + 3/x^4).
	y := 1 / (x * x)
	return -0.5*math.Log(2*math.Pi) - math.Log(-x) + math.Log1p(-y*(1-3*y))
}

// upperNormal returns the z >= 0 whose upper tail probability is tail, at most 1/2, by Newton's method on logPhi. (The
// standard library's Erfcinv(x) computes 1-x first and so is infinite below 1e-16.)
func upperNormal(tail float64) float64 {
	want := math.Log(tail)
	// Phi(-z) <= exp(-z^2/2)/2, so the start lies right of the root; logPhi is concave, so the steps stay there.
	z := math.Sqrt(2 * math.Max(0, -want-math.Ln2))
	for range 60 {
		have := logPhi(-z)
		slope := math.Exp(-z*z/2 - 0.5*math.Log(2*math.Pi) - have)
		step := (have - want) / slope
		z += step
		if math.Abs(step) <= 1e-15*z {
			break
		}
	}
	return math.Max(0, z)
}

// normalScore maps a Student statistic with df degrees of freedom to the normal score of the same tail probability.
func normalScore(t, df float64) float64 {
	if t == 0 || math.IsNaN(t) {
		return 0
	}
	if df > 1e6 {
		return t
	}
	// One tail: P(T > |t|) = I_x(df/2, 1/2)/2 with x = df/(df+t^2).
	tail := 0.5 * betaInc(df/2, 0.5, df/(df+t*t))
	return math.Copysign(upperNormal(math.Max(tail, 1e-300)), t)
}

// betaInc returns the regularised incomplete beta function I_x(a, b), by Lentz's continued fraction (DLMF 8.17.22).
func betaInc(a, b, x float64) float64 {
	if x <= 0 {
		return 0
	}
	if x >= 1 {
		return 1
	}
	if x > (a+1)/(a+b+2) {
		// By its own formula, not by betaInc: rounding may put both x and 1-x beyond the means.
		return 1 - math.Exp(lnBetaLeft(b, a, 1-x)-lnBeta(a, b))
	}
	return math.Exp(lnBetaLeft(a, b, x) - lnBeta(a, b))
}

func betaFraction(a, b, x float64) float64 {
	const tiny, eps, most = 1e-300, 1e-15, 100_000 // it takes about the root of the greater parameter
	guard := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/guard(1-(a+b)*x/(a+1))
	h := d
	for i := 1; i <= most; i++ {
		m := float64(i)
		num := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d, c = 1/guard(1+num*d), guard(1+num/c)
		h *= d * c
		num = -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d, c = 1/guard(1+num*d), guard(1+num/c)
		h *= d * c
		if math.Abs(d*c-1) < eps {
			break
		}
	}
	return h
}

package stats

import "math"

// BestRho returns the parameter rho with which a two-sided mixture is tightest at intrinsic time vOpt > 0 and level alphaOpt
// in (0, 1), both declared before the run:
//
//	vOpt / (2 ln(1/alphaOpt) + ln(1 + 2 ln(1/alphaOpt)))
//
// Its unit is that of intrinsic time, a sum of variances. For a one-sided mixture give twice the level, below 1. Source:
// Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", section 3.5.
func BestRho(vOpt, alphaOpt float64) float64 {
	l := 2 * math.Log(1/alphaOpt)
	return vOpt / (l + math.Log1p(l))
}

// NormalMixture is the e-process of a sum s of sub-Gaussian differences whose intrinsic time, the sum of their variance
// proxies, is v. The null is a mean of zero, or, one-sided, of at most zero.
//
// Guarantee: P(LogE >= ln(1/alpha) at any time) <= alpha, exactly for sub-Gaussian differences (such as bounded ones with
// v the sum of range^2/4), asymptotically for estimates with an estimated variance. Source: Howard and others 2021,
// propositions 5 (two-sided) and 6 (one-sided).
type NormalMixture struct {
	// Rho is the tuning, of BestRho.
	Rho float64
	// OneSided says that only great sums are evidence.
	OneSided bool
}

// LogE returns the natural logarithm of the e-value at sum s and intrinsic time v:
//
//	two-sided  0.5 ln(rho/(v+rho)) + s^2/(2(v+rho))
//	one-sided  0.5 ln(4 rho/(v+rho)) + s^2/(2(v+rho)) + ln Phi(s/sqrt(v+rho))
//
// It is zero, no evidence, where s or v cannot be.
func (m NormalMixture) LogE(s, v float64) float64 {
	if !(v >= 0) || math.IsInf(v, 1) || math.IsNaN(s) || math.IsInf(s, 0) {
		return 0
	}
	return m.logE(s/math.Sqrt(v+m.Rho), v)
}

// logEOfScore is LogE of the score z = s/sqrt(v), which a large v does not overflow.
func (m NormalMixture) logEOfScore(z, v float64) float64 { return m.logE(z*math.Sqrt(v/(v+m.Rho)), v) }

// logE takes x = s/sqrt(v+rho).
func (m NormalMixture) logE(x, v float64) float64 {
	if m.OneSided {
		return 0.5*math.Log(4*m.Rho/(v+m.Rho)) + logMills(x)
	}
	return 0.5*math.Log(m.Rho/(v+m.Rho)) + x*x/2
}

// Bound returns the sum s at which the e-value reaches 1/alpha at intrinsic time v: with probability 1-alpha no sum ever
// exceeds it (two-sided: in absolute value). It is in the unit of s.
func (m NormalMixture) Bound(v, alpha float64) float64 {
	twoSided := math.Sqrt((v + m.Rho) * (2*math.Log(1/alpha) + math.Log1p(v/m.Rho)))
	if !m.OneSided {
		return twoSided
	}
	// At the same rho the one-sided e-value is 2 Phi >= 1 times the two-sided one.
	return crossing(0, twoSided, func(s float64) bool { return m.LogE(s, v) < math.Log(1/alpha) })
}

// BetaBinomial is the e-process of a sum s of differences that are bounded below by -g and have at most the variance of a
// variable that takes the two values -g and h with mean zero (sub-Bernoulli), with intrinsic time v = g h times the number of
// observations. It is tighter than NormalMixture for rare events. One-sided, only great sums are evidence.
//
// Guarantee: P(LogE >= ln(1/alpha) at any time) <= alpha, exactly. Source: Howard and others 2021, propositions 7 and 8.
type BetaBinomial struct {
	g, h, r  float64
	upTo     float64
	constant float64
}

// NewBetaBinomial returns the process tuned to intrinsic time vOpt and level alphaOpt, for differences within [-g, h],
// g and h above zero.
func NewBetaBinomial(vOpt, alphaOpt, g, h float64, oneSided bool) BetaBinomial {
	level, upTo := alphaOpt, 1.0
	if oneSided {
		level, upTo = 2*alphaOpt, h/(g+h)
	}
	b := BetaBinomial{g: g, h: h, r: math.Max(BestRho(vOpt, level)-g*h, 1e-3*g*h), upTo: upTo}
	b.constant = lnBetaUpTo(b.r/(g*(g+h)), b.r/(h*(g+h)), upTo)
	return b
}

// LogE returns the natural logarithm of the e-value at sum s and intrinsic time v:
//
//	v/(gh) ln(g+h) - (v+hs)/(h(g+h)) ln g - (v-gs)/(g(g+h)) ln h
//	  + ln B_x((r+v-gs)/(g(g+h)), (r+v+hs)/(h(g+h))) - ln B_x(r/(g(g+h)), r/(h(g+h)))
//
// with r = max(rho - gh, gh/1000), B_x the incomplete beta function that is not regularised, x = 1 two-sided and h/(g+h)
// one-sided. It is zero, no evidence, where s or v cannot be: s lies within [-v/h, v/g].
func (b BetaBinomial) LogE(s, v float64) float64 {
	g, h := b.g, b.h
	low, high := (b.r+v-g*s)/(g*(g+h)), (b.r+v+h*s)/(h*(g+h))
	if !(v >= 0) || !(low > 0) || !(high > 0) || math.IsInf(low+high, 1) {
		return 0
	}
	return v/(g*h)*math.Log(g+h) - (v+h*s)/(h*(g+h))*math.Log(g) - (v-g*s)/(g*(g+h))*math.Log(h) +
		lnBetaUpTo(low, high, b.upTo) - b.constant
}

// Bound returns the sum s > 0 at which the e-value reaches 1/alpha at intrinsic time v, and v/g, the greatest sum that can
// be, where none does.
func (b BetaBinomial) Bound(v, alpha float64) float64 {
	most, want := v/b.g, math.Log(1/alpha)
	if b.LogE(most, v) < want {
		return most
	}
	return crossing(0, most, func(s float64) bool { return b.LogE(s, v) < want })
}

// RateInterval returns the confidence sequence at level 1-alpha for a rate p after x events in n requests: all p at which
// the two-sided BetaBinomial with g = p, h = 1-p at s = x - p n, v = p(1-p) n stays below ln(1/alpha). It is tightest after
// about tOpt requests, declared before the run. Exact at every look, for independent requests of one rate. The ends are 0
// and 1 where the counts say nothing. Source: Howard and others 2021, section 4.2 (the sub-Bernoulli bound).
func RateInterval(x, n, alpha, tOpt float64) (low, high float64) {
	if !countable(x, n) {
		return 0, 1
	}
	rejected := func(p float64) bool {
		v := p * (1 - p)
		return p <= 0 || p >= 1 || NewBetaBinomial(v*tOpt, alpha0, p, 1-p, false).LogE(x-p*n, v*n) >= math.Log(1/alpha)
	}
	low, high = 0, 1
	if x > 1 {
		low = crossing(0, x/n, rejected)
	}
	if x < n-1 {
		high = crossing(x/n, 1, func(p float64) bool { return !rejected(p) })
	}
	return low, high
}

// alpha0 is the level for which tunings are made, whatever the level of a question.
const alpha0 = 0.05

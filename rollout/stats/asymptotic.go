package stats

import "math"

// RhoSquared returns the rho^2 with which the asymptotic confidence sequence at level 1-alpha is tightest after tOpt
// observations:
//
//	(-W(-alpha^2/e) - 1) / tOpt
//
// with W the branch of Lambert's function below -1. Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021,
// "Time-uniform central limit theory and asymptotic confidence sequences" (arXiv 2103.06476), on tuning rho.
func RhoSquared(tOpt, alpha float64) float64 {
	// y = -W(-alpha^2/e) - 1 solves y - ln(1+y) = 2 ln(1/alpha), by Newton's method on a convex function: from the right.
	want := 2 * math.Log(1/alpha)
	y := 2*want + 2
	for range 100 {
		step := (y - math.Log1p(y) - want) * (1 + y) / y
		y -= step
		if math.Abs(step) <= 1e-15*y {
			break
		}
	}
	return y / tOpt
}

// RhoSquaredNearly returns the approximation of RhoSquared without Lambert's function, which is 3.4 % smaller at 0.05:
//
//	(-2 ln alpha + ln(1 - 2 ln alpha)) / tOpt
//
// For a one-sided sequence give twice the level. Source: the same, equation 161. GrowthBook uses it, and calls tOpt N*.
func RhoSquaredNearly(tOpt, alpha float64) float64 { return 1 / BestRho(tOpt, alpha) }

// Margin returns the half-width of the asymptotic confidence sequence at level 1-alpha for a mean after t observations of
// variance 1:
//
//	sqrt( 2(t rho2 + 1)/(t^2 rho2) ln(sqrt(t rho2 + 1)/alpha) )
//
// It is in standard deviations of one observation. Valid at every look once t is large. Source: Waudby-Smith and others
// 2021, equation 9.
func Margin(t, rho2, alpha float64) float64 {
	return margin(t, rho2, 0.5*math.Log1p(t*rho2)+math.Log(1/alpha))
}

// MarginOneSided returns the distance of a lower (or an upper) asymptotic confidence sequence from the mean, as Margin does
// for both:
//
//	sqrt( 2(t rho2 + 1)/(t^2 rho2) ln(1 + sqrt(t rho2 + 1)/(2 alpha)) )
//
// Source: the same, on one-sided sequences.
func MarginOneSided(t, rho2, alpha float64) float64 {
	return margin(t, rho2, math.Log1p(math.Sqrt(t*rho2+1)/(2*alpha)))
}

func margin(t, rho2, l float64) float64 {
	return math.Sqrt(2 * (t*rho2 + 1) / (t * t * rho2) * l)
}

// Moments sum up one arm: the number of observations, their mean and their sample variance.
type Moments struct {
	N, Mean, Var float64
}

// MomentsOf returns the moments of n observations with the given sum and sum of squares.
func MomentsOf(n, sum, squares float64) Moments {
	return Moments{N: n, Mean: sum / n, Var: (squares - sum*sum/n) / (n - 1)}
}

// ProportionOf returns the moments of n observations of which x are 1 and the others 0, with the variance p(1-p).
func ProportionOf(x, n float64) Moments {
	p := x / n
	return Moments{N: n, Mean: p, Var: p * (1 - p)}
}

// Effect is an estimated difference between two arms. SE is its standard error, N the observations of both arms together
// and DF the degrees of freedom of the standard error by Welch and Satterthwaite.
type Effect struct {
	Estimate, SE, N, DF float64
}

// Difference returns the difference of the means, treatment less control. ok is false where it does not exist: an arm with
// fewer than two observations, no variance at all, or what is not a number.
func Difference(control, treatment Moments) (effect Effect, ok bool) {
	va, vb := control.Var/control.N, treatment.Var/treatment.N
	return effectOf(treatment.Mean-control.Mean, va+vb, control, treatment)
}

// Lift returns the difference of the means relative to control's, (m_t - m_c)/|m_c|, with the variance of the delta method
// V_t/m_c^2 + V_c m_t^2/m_c^4. ok is false where Difference is not there, and where control's mean is zero.
func Lift(control, treatment Moments) (effect Effect, ok bool) {
	a, b := control.Mean, treatment.Mean
	v := (treatment.Var/treatment.N + control.Var/control.N*(b/a)*(b/a)) / (a * a)
	return effectOf((b-a)/math.Abs(a), v, control, treatment)
}

func effectOf(estimate, v float64, a, b Moments) (Effect, bool) {
	e := Effect{Estimate: estimate, SE: math.Sqrt(v), N: a.N + b.N, DF: welch(a, b)}
	ok := a.N > 1 && b.N > 1 && e.SE > 0 && e.DF > 0 && isFinite(e.Estimate) && isFinite(e.SE) && isFinite(e.N)
	return e, ok
}

// welch returns the degrees of freedom of Welch and Satterthwaite for the difference of two means.
func welch(a, b Moments) float64 {
	va, vb := a.Var/a.N, b.Var/b.N
	return (va + vb) * (va + vb) / (va*va/(a.N-1) + vb*vb/(b.N-1))
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// P returns the two-sided p-value of Welch's t test that there is no effect. It holds for one look at a size fixed before,
// and for no more.
func (e Effect) P() float64 { return 2 * studentTail(math.Abs(e.Estimate/e.SE), e.DF) }

// Interval returns Welch's confidence interval at level 1-alpha, for one look.
func (e Effect) Interval(alpha float64) (low, high float64) {
	reach := studentQuantile(alpha/2, e.DF) * e.SE
	return e.Estimate - reach, e.Estimate + reach
}

// LogE returns the natural logarithm of the asymptotic e-value against no effect, by the two-sided normal mixture:
//
//	rho2 N z^2 / (2(N rho2 + 1)) - 0.5 ln(N rho2 + 1),  z = Estimate/SE
//
// It may be looked at at every time, once the sample is large (20 blocks or 100 clusters). Source: Waudby-Smith and others
// 2021, equation 155.
func (e Effect) LogE(rho2 float64) float64 {
	z, t := e.Estimate/e.SE, e.N*rho2
	return t*z*z/(2*(t+1)) - 0.5*math.Log1p(t)
}

// Sequence returns the two-sided asymptotic confidence sequence at level 1-alpha, with s^2 = N SE^2 for the variance of one
// observation. It may be looked at at every time, once the sample is large.
func (e Effect) Sequence(alpha, rho2 float64) (low, high float64) {
	reach := e.SE * math.Sqrt(e.N) * Margin(e.N, rho2, alpha)
	return e.Estimate - reach, e.Estimate + reach
}

// SequenceOneSided returns the lower and the upper one-sided asymptotic confidence sequence, each at level 1-alpha alone.
func (e Effect) SequenceOneSided(alpha, rho2 float64) (low, high float64) {
	reach := e.SE * math.Sqrt(e.N) * MarginOneSided(e.N, rho2, alpha)
	return e.Estimate - reach, e.Estimate + reach
}

package stats

import "math"

// Beta is the distribution Beta(A, B) of an event rate, both parameters between 0.001 and 1e12. Before any data Jeffreys' prior is
// Beta{0.5, 0.5} and the uniform one Beta{1, 1}.
type Beta struct {
	A, B float64
}

// After returns the posterior after events in a number of requests that fail independently.
func (b Beta) After(events, requests float64) Beta {
	return Beta{b.A + events, b.B + requests - events}
}

// ChanceAbove returns P(p > q) for rates p ~ b and q ~ other that are independent: the "chance to beat". It is for display
// only: unlike an e-value it bounds no error rate when one looks again and again. It is NaN where a parameter is out of bounds.
//
//	P = integral of f_b(p) F_other(p) dp
//
// It is taken over the log odds y = ln(p/(1-p)), where the density p^A (1-p)^B is analytic and falls off on both sides, so
// that the trapezoidal rule converges geometrically (Trefethen and Weideman 2014, "The exponentially convergent
// trapezoidal rule"). The error is below 1e-12 for parameters from 0.01 to
// 1e5, whole or not, and grows with their root beyond: at 1e9 it is below 1e-9.
func (b Beta) ChanceAbove(other Beta) float64 {
	if !b.proper() || !other.proper() {
		return math.NaN()
	}
	// The narrower density times the wider distribution function: the other way round the function would be a step.
	if b.spread() > other.spread() {
		return 1 - other.ChanceAbove(b)
	}
	low, high := b.reach()
	width := b.panel()
	count := math.Ceil((high - low) / width)
	width = (high - low) / count
	whole := other.mass(math.Inf(-1), math.Inf(1))
	below := other.mass(math.Inf(-1), low)
	var chance, weight float64
	for i := 0.0; i <= count; i++ {
		y := low + i*width
		if i > 0 {
			below += other.mass(y-width, y)
		}
		f := b.density(y)
		chance, weight = chance+f*below/whole, weight+f
	}
	return math.Min(1, math.Max(0, chance/weight))
}

func (b Beta) proper() bool {
	const least, most = 1e-3, 1e12
	return b.A >= least && b.B >= least && b.A <= most && b.B <= most
}

// spread is about the standard deviation of the log odds.
func (b Beta) spread() float64 { return math.Sqrt(1/b.A + 1/b.B) }

// panel is the width of a step over the log odds: a third of the spread, and well within the strip of half-width pi in
// which the density is analytic.
func (b Beta) panel() float64 { return math.Min(b.spread()/3, 0.4) }

// density returns the density of the log odds over its greatest value, which is at ln(A/B). With x = A/(A+B) and d the
// distance from there its ln is A d - (A+B) ln(1 + x (exp(d) - 1)), seen from the side on which x is at most a half.
func (b Beta) density(y float64) float64 {
	d, small, n := y-math.Log(b.A/b.B), b.A, b.A+b.B
	if b.A > b.B {
		d, small = -d, b.B
	}
	if d > 700 { // where exp overflows, x exp(d) is all there is of the sum
		return math.Exp(small*d - n*(d+math.Log(small/n)))
	}
	return math.Exp(small*d - n*math.Log1p(small/n*math.Expm1(d)))
}

// reach returns the log odds beyond which the density is below 1e-20 of its greatest value.
func (b Beta) reach() (low, high float64) {
	peak := math.Log(b.A / b.B)
	end := func(sign float64) float64 {
		d := 4 * b.spread()
		for b.density(peak+sign*d) > 1e-20 {
			d *= 1.25
		}
		return peak + sign*d
	}
	return end(-1), end(1)
}

// mass returns the integral of density between two log odds, by Gauss-Legendre with five points a panel.
func (b Beta) mass(from, to float64) float64 {
	low, high := b.reach()
	from, to = math.Max(from, low), math.Min(to, high)
	if !(from < to) {
		return 0
	}
	near, far := math.Sqrt(5-2*math.Sqrt(10.0/7))/3, math.Sqrt(5+2*math.Sqrt(10.0/7))/3
	wNear, wFar := (322+13*math.Sqrt(70))/900, (322-13*math.Sqrt(70))/900
	panels := math.Ceil((to - from) / b.panel())
	half := (to - from) / panels / 2
	sum := 0.0
	for i := 0.0; i < panels; i++ {
		mid := from + (2*i+1)*half
		sum += 128.0 / 225 * b.density(mid)
		sum += wNear * (b.density(mid-near*half) + b.density(mid+near*half))
		sum += wFar * (b.density(mid-far*half) + b.density(mid+far*half))
	}
	return sum * half
}

package stats

import "math"

const (
	curveReach = 4.6 // ln of the greatest ratio that a curve tells apart: about 100
	curveStep  = 0.1
	curveSize  = 93 // 2*curveReach/curveStep + 1
)

// Curve is the conditional log likelihood of the rate ratio over the blocks so far, on a fixed grid of ln r. It gives
// the estimate and the confidence sequence that people are shown; the decisions use RateRatio.
type Curve struct {
	// LogLik holds, for each grid point, the sum over blocks of x_c ln q(r) + x_s ln(1-q(r)).
	LogLik []float64
}

// NewCurve returns an empty curve.
func NewCurve() *Curve { return &Curve{LogLik: make([]float64, curveSize)} }

// Add counts one block, as RateRatio.Add does.
func (c *Curve) Add(xc, nc, xs, ns float64) {
	if !countable(xc, nc) || !countable(xs, ns) || xc+xs <= 0 {
		return
	}
	for j := range c.LogLik {
		qc, qs := shares(math.Exp(curveTheta(j)), nc, ns)
		c.LogLik[j] += weigh(xc, qc) + weigh(xs, qs)
	}
}

// Estimate returns the ratio of greatest conditional likelihood, and false while there is none (no events, or events
// in one variant only).
func (c *Curve) Estimate() (float64, bool) {
	best := 0
	for j, l := range c.LogLik {
		if l > c.LogLik[best] {
			best = j
		}
	}
	if best == 0 || best == curveSize-1 {
		return 0, false
	}
	// The vertex of the parabola through the best point and its neighbours.
	a, b, d := c.LogLik[best-1], c.LogLik[best], c.LogLik[best+1]
	if a == b && b == d {
		return 0, false
	}
	shift := 0.5 * (a - d) / (a - 2*b + d)
	return math.Exp(curveTheta(best) + shift*curveStep), true
}

// Interval returns the confidence sequence at level 1-alpha: all ratios r0 that the mixtures above and below them, at
// alpha/2 each, do not reject (statistics of section "conditional rate-ratio mixture"). The ends are 0 and +Inf where
// the evidence says nothing.
func (c *Curve) Interval(alpha float64) (low, high float64) {
	bound := math.Log(2 / alpha)
	low, high = 0, math.Inf(1)
	for j := curveSize - 1; j >= 0 && low == 0; j-- {
		if c.rejects(j, 1, bound) {
			low = math.Exp(curveTheta(j))
		}
	}
	for j := 0; j < curveSize && math.IsInf(high, 1); j++ {
		if c.rejects(j, -1, bound) {
			high = math.Exp(curveTheta(j))
		}
	}
	return low, high
}

// rejects says whether the log e-value against grid point j of the mixture over all points beyond it in direction side,
// at most a factor of 20 away, reaches bound. Points off the grid count as e-value 0, which only widens the interval.
func (c *Curve) rejects(j, side int, bound float64) bool {
	const reach = 30 // 20 is e^3.0
	var logs [reach]float64
	n, top := 0, math.Inf(-1)
	for k := 1; k <= reach; k++ {
		if i := j + side*k; i >= 0 && i < curveSize {
			logs[n] = c.LogLik[i] - c.LogLik[j]
			top = math.Max(top, logs[n])
			n++
		}
	}
	if top < bound { // the mean is at most the greatest
		return false
	}
	return logSumExp(logs[:n])-math.Log(reach) >= bound
}

func curveTheta(j int) float64 { return -curveReach + float64(j)*curveStep }

package stats

import "math"

const rateGrid = 40

// RateBelow is the e-process for one event rate p whose growth says that p is below a tolerance p0. Its null is p >= p0.
//
//	log LR(p; p0) = x ln(p/p0) + (n-x) ln((1-p)/(1-p0))
//
// It is the mixture over p0*[0.01, 0.97]. Exact for independent requests, since the likelihood ratio is monotone in p.
// It lets a service that never fails pass: the ratio of two rates of zero says nothing.
type RateBelow struct {
	// Tolerance is p0.
	Tolerance float64
	// Grid holds the alternatives, LogLR the sum over blocks of their log likelihood ratio.
	Grid, LogLR []float64
}

// NewRateBelow returns the e-process with null p >= tolerance, a number between 0 and 1.
func NewRateBelow(tolerance float64) *RateBelow {
	return &RateBelow{
		Tolerance: tolerance,
		Grid:      logGrid(0.01*tolerance, 0.97*tolerance, rateGrid),
		LogLR:     make([]float64, rateGrid),
	}
}

// Add counts x events in n requests. What cannot be, such as x > n, changes nothing.
func (p *RateBelow) Add(x, n float64) {
	if !countable(x, n) {
		return
	}
	for k, q := range p.Grid {
		p.LogLR[k] += weigh(x, q/p.Tolerance) + weigh(n-x, (1-q)/(1-p.Tolerance))
	}
}

// LogE returns the natural logarithm of the e-value.
func (p *RateBelow) LogE() float64 {
	return logSumExp(p.LogLR) - math.Log(rateGrid)
}

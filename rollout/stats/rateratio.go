package stats

import "math"

// GridSize is the number of points of a mixture over rate ratios.
const GridSize = 60

// RateRatio is the conditional e-process for the ratio r = p_canary/p_stable of two event rates.
//
// Given the m = x_c + x_s events of a block with n_c and n_s requests, x_c is binomial with
//
//	q(r) = n_c r / (n_c r + n_s)
//
// so the block's likelihood ratio of r against the null r0 needs neither the base rate nor a constant split, and blocks
// multiply whatever happened to either in between: drifting error rates and changing weights do no harm. The e-process
// is the mixture over a grid of r on one side of r0.
//
// Guarantee: exact for Poisson counts under a one-sided null, because the likelihood ratio is monotone in r, and exact for
// independent Bernoulli requests at every r0, whatever their own rates: with a = q(r)/q(r0) and b the same for stable, the
// mean of a block's likelihood ratio is a product of terms 1 + p_i(a-1) and 1 + p_j(b-1), each at most its exponential, so
// it is at most the Poisson one, which is at most 1. (At r0 = 1 under random assignment it holds for fixed outcomes too, by
// Hoeffding 1963, "Probability inequalities for sums of bounded random variables", section 6.) Assumption: requests, not
// users, fail independently; with sticky users that always fail it is too quick, and clustered evidence must be used.
type RateRatio struct {
	// Null is r0.
	Null float64
	// Grid holds the alternatives, LogLR the sum over blocks of log LR(Grid[k]; Null).
	Grid, LogLR []float64
}

// NewRateRatio returns the e-process with null r0 and k alternatives at the midpoints of a logarithmic grid of
// r0*[lo, hi]. With lo > 1 it gathers evidence that the ratio is above r0 (harm), with hi < 1 that it is below (safety).
func NewRateRatio(r0, lo, hi float64, k int) *RateRatio {
	return &RateRatio{Null: r0, Grid: logGrid(r0*lo, r0*hi, k), LogLR: make([]float64, k)}
}

// NewSafety returns the process whose growth says that the ratio is below margin. Its null is ratio >= margin.
func NewSafety(margin float64) *RateRatio { return NewRateRatio(margin, 0.3, 0.97, GridSize) }

// Add counts one block: xc events in nc canary requests, xs in ns stable ones. A block in which either variant had no
// request, or neither had an event, changes nothing; nor does one that cannot be, with more events than requests.
func (p *RateRatio) Add(xc, nc, xs, ns float64) {
	if !countable(xc, nc) || !countable(xs, ns) || xc+xs <= 0 {
		return
	}
	qc0, qs0 := shares(p.Null, nc, ns)
	for k, r := range p.Grid {
		qc, qs := shares(r, nc, ns)
		p.LogLR[k] += weigh(xc, qc/qc0) + weigh(xs, qs/qs0)
	}
}

// LogE returns the natural logarithm of the e-value.
func (p *RateRatio) LogE() float64 {
	return logSumExp(p.LogLR) - math.Log(float64(len(p.LogLR)))
}

// countable says whether x events in n requests can be: what cannot is no evidence, and one NaN would stay for ever.
func countable(x, n float64) bool {
	return n > 0 && !math.IsInf(n, 1) && x >= 0 && x <= n
}

// shares returns the probabilities that an event falls on the canary and on stable when the ratio is r.
func shares(r, nc, ns float64) (canary, stable float64) {
	total := nc*r + ns
	return nc * r / total, ns / total
}

// weigh returns x ln(ratio), and zero for x = 0.
func weigh(x, ratio float64) float64 {
	if x == 0 {
		return 0
	}
	return x * math.Log(ratio)
}

// logGrid returns k midpoints of a logarithmic grid between lo and hi.
func logGrid(lo, hi float64, k int) []float64 {
	grid := make([]float64, k)
	a, b := math.Log(lo), math.Log(hi)
	for i := range grid {
		grid[i] = math.Exp(a + (float64(i)+0.5)/float64(k)*(b-a))
	}
	return grid
}

// logSumExp returns ln of the sum of exp(xs), without overflow.
func logSumExp(xs []float64) float64 {
	top := math.Inf(-1)
	for _, x := range xs {
		top = math.Max(top, x)
	}
	if math.IsInf(top, 0) {
		return top
	}
	sum := 0.0
	for _, x := range xs {
		sum += math.Exp(x - top)
	}
	return top + math.Log(sum)
}

// LogMean returns ln of the weighted average of e-values given as logarithms, with equal weights.
func LogMean(logs ...float64) float64 {
	return logSumExp(logs) - math.Log(float64(len(logs)))
}

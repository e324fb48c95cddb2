package stats

import (
	"math"
	"slices"
)

// ChiSquareP returns the p-value of Pearson's test that counts fall on categories in the proportion of weights, which
// need not sum to one:
//
//	sum_j (O_j - E_j)^2 / E_j  against chi-square with k-1 degrees of freedom
//
// For one look at counts of independent units, with expected counts of five and more (Pearson 1900). Looking again and
// again needs Shares. Categories of weight zero are left out, unless something was counted in one: that has p = 0.
// It is 1 without counts and NaN where nothing is to be tested: fewer than two weights, or numbers that are no counts.
func ChiSquareP(counts, weights []float64) float64 {
	total, weight, ok := sums(counts, weights)
	if !ok {
		return math.NaN()
	}
	if total == 0 {
		return 1
	}
	sum, categories := 0.0, 0
	for j, o := range counts {
		if weights[j] == 0 && o == 0 {
			continue
		}
		e := total * weights[j] / weight
		sum += (o - e) * (o - e) / e
		categories++
	}
	return chiSquareTail(sum, categories-1)
}

// mostUnits bounds a count: above it a float64 misses ones.
const mostUnits = 1 << 53

// sums adds up counts and weights. ok is false unless there are two weights above zero and a count for each.
func sums(counts, weights []float64) (total, weight float64, ok bool) {
	if len(counts) != len(weights) {
		return 0, 0, false
	}
	positive := 0
	for j, o := range counts {
		if !(o >= 0) || !(weights[j] >= 0) {
			return 0, 0, false
		}
		if weights[j] > 0 {
			positive++
		}
		total, weight = total+o, weight+weights[j]
	}
	return total, weight, positive > 1 && total <= mostUnits && !math.IsInf(weight, 1)
}

// chiSquareTail returns P(X >= x) for chi-square with df degrees of freedom, which is the regularised upper incomplete
// gamma function Q(df/2, x/2), by the recurrence Q(a+1, z) = Q(a, z) + z^a exp(-z)/Gamma(a+1) (DLMF 8.8.6) from
// Q(1/2, z) = erfc(sqrt z) or Q(1, z) = exp(-z). All terms are positive, so the far tail is as exact as the middle.
func chiSquareTail(x float64, df int) float64 {
	z := x / 2
	if df < 1 || z <= 0 {
		return 1
	}
	a, q := 1.0, math.Exp(-z)
	if df%2 == 1 {
		a, q = 0.5, math.Erfc(math.Sqrt(z))
	}
	if math.IsInf(z, 1) {
		return 0
	}
	for ; a < float64(df)/2; a++ {
		g, _ := math.Lgamma(a + 1)
		q += math.Exp(a*math.Log(z) - z - g)
	}
	return math.Min(1, q)
}

// sharesConcentrations say how sure the alternatives are that the shares are near the intended ones: their shares have
// standard deviations of about sqrt(p(1-p)/concentration), five percentage points and half of one for a half. The first finds
// what is badly wrong among few units, the second, which others use alone, what is a little wrong among many.
var sharesConcentrations = [...]float64{100, 10_000}

// Shares is the sequential test for a sample ratio mismatch: that new units fall on variants as the weights say. Its
// state is as small as the list of variants, whatever the number of units, and is written as JSON.
//
// It is the average of two Bayes factors, each with an alternative that draws the true shares from Dirichlet(a), a = kappa p0,
// with kappa 100 and 10000, so that after counts S_j with sum N
//
//	ln BF = lnG(sum a) - lnG(sum a + N) + sum_j (lnG(a_j+S_j) - lnG(a_j) - S_j ln p0_j)
//
// (Lindon and Malek 2020, "Anytime-valid inference for multinomial count data", arXiv 2011.03567). BF is an e-process
// under the null, and so is the product of the Bayes factors of the weight regimes: counts are only ever tested against
// the weights in force, never against an average of them.
//
// Assumption: units, not requests, fall independently. Requests of sticky units are over-dispersed and alarm falsely.
type Shares struct {
	// Weights are the intended shares p0 of the present regime, with sum one, and Counts its units by variant.
	Weights []float64 `json:"weights,omitempty"`
	Counts  []float64 `json:"counts,omitempty"`
	// Ended is, for each alternative, the ln of the product of the Bayes factors of the ended regimes, Highest the highest
	// value of LogBF that a look has seen.
	Ended   [2]float64 `json:"ended,omitzero"`
	Highest float64    `json:"highest,omitempty"`
}

// Add counts newly assigned units by variant, assigned under weights in any proportion. Other weights than the last ones
// begin a new regime. What cannot be changes nothing: fewer than two weights above zero, counts that are none. Nor are
// units counted that fell on a variant of weight zero: they were assigned before.
func (s *Shares) Add(counts, weights []float64) {
	_, sum, ok := sums(counts, weights)
	if !ok {
		return
	}
	p0 := make([]float64, len(weights))
	for j, w := range weights {
		p0[j] = w / sum
	}
	if !slices.Equal(p0, s.Weights) {
		s.NextRegime()
		s.Weights, s.Counts = p0, make([]float64, len(p0))
	}
	for j, n := range counts {
		if p0[j] > 0 {
			s.Counts[j] += n
		}
	}
	s.Highest = math.Max(s.Highest, s.LogBF())
}

// NextRegime ends the present regime of weights: its evidence stays, its counts go. Add does so by itself where weights
// change; a change that leaves the weights as they are, such as a new salt, must be told.
func (s *Shares) NextRegime() {
	s.Ended = s.products()
	s.Weights, s.Counts = nil, nil
}

// LogBF returns the natural logarithm of the Bayes factor, which is an e-value, of a mismatch against none.
func (s *Shares) LogBF() float64 {
	logs := s.products()
	return LogMean(logs[:]...)
}

// products returns, for each alternative, the ln of the product of the Bayes factors of all regimes.
func (s *Shares) products() [2]float64 {
	logs := s.Ended
	for i, kappa := range sharesConcentrations {
		logs[i] += logDirichletBF(s.Counts, s.Weights, kappa)
	}
	return logs
}

// P returns the anytime p-value: the lowest value of 1/BF so far, and at most 1. Alarm at 0.001 to 0.01.
func (s *Shares) P() float64 { return math.Exp(-s.Highest) }

// logDirichletBF returns ln of the marginal likelihood of counts under Dirichlet(concentration p0) over that under p0.
// Each lnG(a+n) - lnG(a) is taken as n ln(base) plus a rest, with bases in proportion to p0: all that is large cancels
// on paper, where differences of Lgamma would lose six digits at 1e9 counts.
func logDirichletBF(counts, p0 []float64, concentration float64) float64 {
	alpha := make([]float64, len(p0))
	for j, p := range p0 {
		alpha[j] = concentration * p
	}
	return logMarginalRatio(counts, p0, alpha)
}

// logMarginalRatio is logDirichletBF for a prior Dirichlet(alpha) that need not lie around p0, which sums to one.
func logMarginalRatio(counts, p0, alpha []float64) float64 {
	var total, prior, sum float64
	for j, a := range alpha {
		if p0[j] > 0 {
			total, prior = total+counts[j], prior+a
		}
	}
	if total == 0 {
		return 0
	}
	for j, a := range alpha {
		if p0[j] > 0 {
			sum += gammaRise(a, counts[j], p0[j]*(prior+total))
		}
	}
	return sum - gammaRise(prior, total, prior+total)
}

// gammaRise returns lnG(a+n) - lnG(a) - n ln(base) + n for a > 0, n >= 0, by Stirling's series (DLMF 5.11.1), which is
// good to 1e-15 from 20 on; below, by lnG(a+n) - lnG(a) = ln(a/(a+n)) + the same at a+1.
func gammaRise(a, n, base float64) float64 {
	below := 0.0
	for ; a < 20; a++ {
		below += math.Log(a / (a + n))
	}
	return below + n*math.Log((a+n)/base) + (a-0.5)*math.Log1p(n/a) + stirling(a+n) - stirling(a)
}

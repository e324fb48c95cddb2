package stats

import (
	"math"
	"slices"
)

// exactWork bounds the additions that an exact rank test may take: about a tenth of a second, two samples of 100 without
// ties. Above it the normal approximation is off by about a thousandth at most; far tails are off by more of themselves.
const exactWork = 1e8

// RankTest is the outcome of the Mann-Whitney test that x and y are from one distribution. U counts the pairs in which x is
// larger, ties as halves; it is the W of R's wilcox.test. Less, Greater and Two are p-values against the alternatives
// that x tends to be smaller, to be larger, and either. Exact says that they are no approximation.
type RankTest struct {
	U, Less, Greater, Two float64
	Exact                 bool
}

// MannWhitney tests two samples of independent observations by their ranks (Mann and Whitney 1947). It is for a single
// look. Where that takes few steps it goes by the distribution of the rank sum over all ways to split the pooled sample,
// which is exact given the pooled values, ties included:
//
//	Less = P(U' <= U), Greater = P(U' >= U), Two = min(1, 2 min(Less, Greater))
//
// else by the normal approximation, with corrections for ties and for continuity, as R's wilcox.test(exact = FALSE):
//
//	sigma^2 = nm/12 ((N+1) - sum(t^3-t)/(N(N-1))), z = (U - nm/2 -+ 1/2)/sigma
//
// All p-values are 1 where all observations are tied, and NaN without observations on a side or with one that is not a
// number.
func MannWhitney(x, y []float64) RankTest {
	p, ok := poolRanks(x, y)
	if !ok {
		return RankTest{U: math.NaN(), Less: math.NaN(), Greater: math.NaN(), Two: math.NaN()}
	}
	if p.work() <= exactWork {
		return p.exact()
	}
	return p.approximate()
}

// CommonLanguage returns the effect size U/nm: the share of pairs in which x is larger than y, ties as halves (Vargha and
// Delaney 2000). It is 0.5 where neither tends to be larger, and NaN without pairs.
func CommonLanguage(x, y []float64) float64 {
	p, ok := poolRanks(x, y)
	if !ok {
		return math.NaN()
	}
	return p.u() / (p.n * p.m)
}

// normalTail returns P(Z > z) of the standard normal distribution.
func normalTail(z float64) float64 { return 0.5 * math.Erfc(z/math.Sqrt2) }

// rankSigma returns the standard deviation of U under the null, given the sum of t^3 - t over groups of t tied values.
func rankSigma(n, m, tied float64) float64 {
	all := n + m
	return math.Sqrt(math.Max(0, n*m/12*((all+1)-tied/(all*(all-1)))))
}

// tiedGroup is a group of equal values in the pooled sample: how many there are in it and how many of them are of x, and
// twice their mean rank, which is whole.
type tiedGroup struct {
	size, ofX, rank2 int
}

// ranks is a pooled sample of n values of x and m of y.
type ranks struct {
	groups []tiedGroup
	n, m   float64
}

// poolRanks ranks two samples together. ok is false where one is empty or holds something that is not a number.
func poolRanks(x, y []float64) (r ranks, ok bool) {
	if len(x) == 0 || len(y) == 0 || slices.ContainsFunc(x, math.IsNaN) || slices.ContainsFunc(y, math.IsNaN) {
		return ranks{}, false
	}
	r.n, r.m = float64(len(x)), float64(len(y))
	x, y = slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))
	for below := 0; len(x)+len(y) > 0; {
		var v float64
		switch {
		case len(x) == 0:
			v = y[0]
		case len(y) == 0:
			v = x[0]
		default:
			v = math.Min(x[0], y[0])
		}
		ofX, ofY := leading(x, v), leading(y, v)
		x, y = x[ofX:], y[ofY:]
		size := ofX + ofY
		r.groups = append(r.groups, tiedGroup{size: size, ofX: ofX, rank2: 2*below + size + 1})
		below += size
	}
	return r, true
}

// leading counts how many values at the front of a sorted list equal v.
func leading(list []float64, v float64) int {
	n := 0
	for n < len(list) && list[n] == v {
		n++
	}
	return n
}

// rankSum2 returns twice the sum of the ranks of x.
func (r ranks) rankSum2() int {
	sum := 0
	for _, g := range r.groups {
		sum += g.ofX * g.rank2
	}
	return sum
}

// u returns U = R_x - n(n+1)/2.
func (r ranks) u() float64 { return float64(r.rankSum2())/2 - r.n*(r.n+1)/2 }

// tied returns the sum of t^3 - t over the groups.
func (r ranks) tied() float64 {
	sum := 0.0
	for _, g := range r.groups {
		t := float64(g.size)
		sum += t*t*t - t
	}
	return sum
}

// approximate returns the test by the normal approximation.
func (r ranks) approximate() RankTest {
	d, sigma := r.u()-r.n*r.m/2, rankSigma(r.n, r.m, r.tied())
	if sigma == 0 {
		return RankTest{U: r.u(), Less: 1, Greater: 1, Two: 1}
	}
	return RankTest{
		U:       r.u(),
		Less:    normalTail(-(d + 0.5) / sigma),
		Greater: normalTail((d - 0.5) / sigma),
		Two:     math.Min(1, 2*normalTail((math.Abs(d)-0.5)/sigma)),
	}
}

// work estimates the additions that exact takes.
func (r ranks) work() float64 {
	few, many := math.Min(r.n, r.m), math.Max(r.n, r.m)
	if few+many > 1000 {
		return math.Inf(1)
	}
	steps := 0.0
	for _, g := range r.groups {
		steps += math.Min(float64(g.size), few)
	}
	return steps * few * few * many / 2 * float64(2/r.unit())
}

// unit is by how much doubled rank sums differ at least: 2 without half ranks.
func (r ranks) unit() int {
	for _, g := range r.groups {
		if g.size%2 == 0 {
			return 1
		}
	}
	return 2
}

// flipped exchanges x and y.
func (r ranks) flipped() ranks {
	out := ranks{groups: slices.Clone(r.groups), n: r.m, m: r.n}
	for i, g := range out.groups {
		out.groups[i].ofX = g.size - g.ofX
	}
	return out
}

// exact returns the test by the permutation distribution.
func (r ranks) exact() RankTest {
	if r.n > r.m {
		t := r.flipped().exact()
		return RankTest{U: r.n*r.m - t.U, Less: t.Greater, Greater: t.Less, Two: t.Two, Exact: true}
	}
	unit := r.unit()
	ways := r.ways(unit)
	at := (r.rankSum2() - r.lowest2()) / unit
	var less, greater, all float64
	for s, w := range ways {
		all += w
		if s <= at {
			less += w
		}
		if s >= at {
			greater += w
		}
	}
	less, greater = less/all, greater/all
	return RankTest{U: r.u(), Less: less, Greater: greater, Two: math.Min(1, 2*math.Min(less, greater)), Exact: true}
}

// lowest2 returns twice the least possible rank sum of x.
func (r ranks) lowest2() int { return int(r.n) * (int(r.n) + 1) }

// ways counts the choices of x among the pooled values by their doubled rank sum above the lowest, in units. All terms
// are positive, so the counts are good to 1e-14; the largest is below the largest float for a thousand values.
//
// count[k] holds the sums of k values of the groups seen, above k(k+1), twice the least sum of k ranks. Since x must be
// complete in the end, at most m of the seen values are left out, so that a sum of k is at most 2km above the least.
func (r ranks) ways(unit int) []float64 {
	n, m := int(r.n), int(r.m)
	count := make([][]float64, n+1)
	for k := range count {
		count[k] = make([]float64, 2*k*m/unit+1)
	}
	count[0][0] = 1
	seen := 0
	for _, g := range r.groups {
		after := seen + g.size
		for k := min(n, after); k >= max(1, after-m); k-- {
			choices := 1.0
			for j := 1; j <= min(g.size, k); j++ {
				choices *= float64(g.size-j+1) / float64(j)
				if rest := k - j; rest <= seen && seen-rest <= m {
					shift := j * (g.rank2 - 2*k + j - 1) / unit
					addShifted(count[k], count[rest][:2*rest*(seen-rest)/unit+1], shift, choices)
				}
			}
		}
		seen = after
	}
	return count[n]
}

// addShifted adds factor times from to into, from index shift on.
func addShifted(into, from []float64, shift int, factor float64) {
	into = into[shift : shift+len(from)]
	for i, w := range from {
		into[i] += factor * w
	}
}

// Shift is by how much x lies above y: the Hodges-Lehmann estimate, which is the median of all differences x_i - y_j, and a
// confidence interval, in the unit of the observations.
type Shift struct {
	Estimate, Low, High float64
}

// HodgesLehmann returns the shift of x above y with its interval at a level such as 0.98, by inverting MannWhitney's normal
// approximation: the interval holds every d for which z of x-d and y is between the two quantiles. Between differences
// x_i - y_j z does not change, so its ends are differences, and they are returned as they are, with no tolerance of a
// search. With too few observations for the level they are the least and the largest difference.
//
// Assumption: independent observations of two distributions of one shape; a single look. It sorts all nm differences.
// All are NaN without observations on a side or with one that is not a number.
func HodgesLehmann(x, y []float64, level float64) Shift {
	p, ok := poolRanks(x, y)
	if !ok || !(level > 0 && level < 1) {
		return Shift{math.NaN(), math.NaN(), math.NaN()}
	}
	all := make([]float64, 0, len(x)*len(y))
	for _, a := range x {
		for _, b := range y {
			all = append(all, a-b)
		}
	}
	slices.Sort(all)
	// Away from the differences themselves x and y share no values, so only ties within each count.
	within := tiesWithin(x) + tiesWithin(y)
	reach := upperNormal((1-level)/2)*rankSigma(p.n, p.m, within) + 0.5
	// z exceeds its quantile while more than nm/2 + reach differences are larger than d.
	k := len(all) - 1 - int(math.Min(p.n*p.m-1, math.Floor(p.n*p.m/2+reach)))
	return Shift{
		Estimate: (all[(len(all)-1)/2] + all[len(all)/2]) / 2,
		Low:      all[k],
		High:     all[len(all)-1-k],
	}
}

// tiesWithin returns the sum of t^3 - t over groups of t equal values.
func tiesWithin(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	sum := 0.0
	for len(sorted) > 0 {
		n := leading(sorted, sorted[0])
		t := float64(n)
		sum += t*t*t - t
		sorted = sorted[n:]
	}
	return sum
}

package stats

import "math"

// Pairs holds the moments of pairs of blocks: in each, what was summed and counted in both arms at the same time. What
// drifts for both arms alike falls out of the comparison. Its size does not depend on the number of pairs.
type Pairs struct {
	// N is the number of pairs; Sums are those of the columns (sum and count of a, sum and count of b) and Products of
	// each column with each that is not before it.
	N        float64
	Sums     [4]float64
	Products [10]float64
}

// Add counts a pair. A pair with an empty arm, or with what is no number, is none.
func (p *Pairs) Add(a, b Cluster) {
	row := [4]float64{a.Sum, a.Count, b.Sum, b.Count}
	for _, v := range row {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return
		}
	}
	if a.Count <= 0 || b.Count <= 0 {
		return
	}
	p.N++
	k := 0
	for i := range row {
		p.Sums[i] += row[i]
		for j := i; j < len(row); j++ {
			p.Products[k] += row[i] * row[j]
			k++
		}
	}
}

// Compare returns the comparison of the two ratio means, sum of sums over sum of counts, the pairs being the clusters of
// both: variances and covariance as in MeanOf. Assumption: pairs do not depend on each other beyond what both arms share.
func (p *Pairs) Compare() (Ratio, bool) {
	a, b := p.mean(0), p.mean(2)
	r := Ratio{A: a, B: b, DF: p.N - 1}
	if p.N < 2 {
		return r, false
	}
	u := [4]float64{1 / p.Sums[1], -a.Mean / p.Sums[1], 0, 0}
	v := [4]float64{0, 0, 1 / p.Sums[3], -b.Mean / p.Sums[3]}
	scale := p.N / (p.N - 1)
	r.A.Var, r.B.Var, r.Covariance = math.Max(0, scale*p.form(u, u)), math.Max(0, scale*p.form(v, v)), scale*p.form(u, v)
	return r.check()
}

func (p *Pairs) mean(i int) RatioMean {
	return RatioMean{Mean: p.Sums[i] / p.Sums[i+1], Var: math.Inf(1), Clusters: int(p.N)}
}

// form returns the sum over pairs of (u . row)(v . row).
func (p *Pairs) form(u, v [4]float64) (sum float64) {
	k := 0
	for i := range u {
		for j := i; j < len(u); j++ {
			w := u[i] * v[j]
			if i != j {
				w += u[j] * v[i]
			}
			sum += w * p.Products[k]
			k++
		}
	}
	return sum
}

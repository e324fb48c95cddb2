package stats

import "math"

// Cluster is what one cluster of dependent observations (the units of one bucket) sums up to.
type Cluster struct {
	// Sum of the observed quantity and the Count of observations.
	Sum, Count float64
}

// RatioMean is a ratio of sums over clusters with its cluster-robust variance.
type RatioMean struct {
	// Mean is the sum of sums over the sum of counts; Var its variance; Clusters the number of clusters with a count.
	Mean, Var float64
	Clusters  int
}

// MeanOf returns the ratio mean R = sum e_b / sum n_b over clusters and its variance
//
//	K/(K-1) * sum_b (e_b - R n_b)^2 / (sum n)^2
//
// which is right however strongly observations within a cluster depend on each other (linearised ratio, as in survey
// sampling; Deng, Knoblich and Lu 2018, "Applying the delta method in metric analytics"). Clusters without a count do
// not take part. Var is +Inf with fewer than two.
func MeanOf(clusters []Cluster) RatioMean {
	m, residuals := linearise(clusters)
	m.Var = spread(residuals, m.Clusters)
	return m
}

// linearise returns the ratio mean of clusters, without its variance, and each cluster's share of its error:
// (e_b - R n_b)/sum n, 0 for a cluster without a count.
func linearise(clusters []Cluster) (m RatioMean, residuals []float64) {
	var sum, count float64
	for _, c := range clusters {
		if c.Count > 0 {
			sum, count, m.Clusters = sum+c.Sum, count+c.Count, m.Clusters+1
		}
	}
	m.Mean, m.Var = math.NaN(), math.Inf(1)
	residuals = make([]float64, len(clusters))
	if m.Clusters == 0 {
		return m, residuals
	}
	m.Mean = sum / count
	for i, c := range clusters {
		if c.Count > 0 {
			residuals[i] = (c.Sum - m.Mean*c.Count) / count
		}
	}
	return m, residuals
}

// spread returns the variance of a sum of k independent residuals.
func spread(residuals []float64, k int) float64 {
	if k < 2 {
		return math.Inf(1)
	}
	rest := 0.0
	for _, r := range residuals {
		rest += r * r
	}
	return float64(k) / float64(k-1) * rest
}

// Sample is what was counted in an arm, cluster by cluster, and what the same clusters had counted before the experiment,
// in the same order. A cluster without a past has a Count of 0 there; Before may be empty.
type Sample struct{ Now, Before []Cluster }

// minPast is the number of clusters with a past from which on the past is used: theta is estimated from them.
const minPast = 20

// AdjustedMeans returns the ratio means of two arms, both adjusted by what their clusters had been before (CUPED; Deng, Xu,
// Kohavi and Walker 2013), for ratios linearised as in MeanOf:
//
//	R' = R - theta (R0 - R0 of both arms),  theta = sum z_b z0_b / sum z0_b^2  over the clusters of both arms
//
// z_b and z0_b being the clusters' residuals now and before, relative to their counts. The past cannot depend on which arm a
// cluster was to meet, so the adjustment is unbiased, and what differs for good between clusters falls out of the variance.
// Without enough past, or where it says nothing, the means are those of MeanOf.
func AdjustedMeans(a, b Sample) (RatioMean, RatioMean) {
	meanA, zA := linearise(a.Now)
	meanB, zB := linearise(b.Now)
	if pastA, pastB, center, ok := pasts(a, b); ok {
		theta := slope(zA, pastA.residuals, zB, pastB.residuals)
		meanA.Mean -= theta * (pastA.Mean - center)
		meanB.Mean -= theta * (pastB.Mean - center)
		zA, zB = minus(zA, theta, pastA.residuals), minus(zB, theta, pastB.residuals)
	}
	meanA.Var, meanB.Var = spread(zA, meanA.Clusters), spread(zB, meanB.Clusters)
	return meanA, meanB
}

type past struct {
	RatioMean
	residuals []float64
}

// pasts returns what both arms' clusters had been before, and the mean of both together; ok is false where there are too few.
func pasts(a, b Sample) (pastA, pastB past, center float64, ok bool) {
	if len(a.Before) != len(a.Now) || len(b.Before) != len(b.Now) {
		return pastA, pastB, 0, false
	}
	pastA.RatioMean, pastA.residuals = linearise(present(a))
	pastB.RatioMean, pastB.residuals = linearise(present(b))
	both, _ := linearise(append(present(a), present(b)...))
	return pastA, pastB, both.Mean, pastA.Clusters > 1 && pastB.Clusters > 1 && both.Clusters >= minPast
}

// present returns the past of the clusters that are counted now.
func present(s Sample) []Cluster {
	out := make([]Cluster, len(s.Now))
	for i, c := range s.Now {
		if c.Count > 0 {
			out[i] = s.Before[i]
		}
	}
	return out
}

// slope returns the least squares slope of residuals on past residuals over both arms. Each arm's are shares of its own
// error, so they are scaled by its number of clusters to weigh clusters of both arms alike.
func slope(zA, pA, zB, pB []float64) float64 {
	na, nb := float64(len(zA)), float64(len(zB))
	both, own := 0.0, 0.0
	for i := range zA {
		both, own = both+na*na*zA[i]*pA[i], own+na*na*pA[i]*pA[i]
	}
	for i := range zB {
		both, own = both+nb*nb*zB[i]*pB[i], own+nb*nb*pB[i]*pB[i]
	}
	if own <= 0 {
		return 0
	}
	return both / own
}

func minus(z []float64, theta float64, p []float64) []float64 {
	out := make([]float64, len(z))
	for i := range z {
		out[i] = z[i] - theta*p[i]
	}
	return out
}

// Ratio is the comparison of two means a and b on the scale of their ratio.
type Ratio struct {
	A, B RatioMean
	// Covariance of the two estimates: 0 for arms of different units, not for pairs.
	Covariance float64
	// DF are the degrees of freedom of the variance: one less than the clusters of the smaller arm, which is conservative
	// whatever the variances. (The degrees of Welch and Satterthwaite are estimated themselves, and are taken for many just
	// when few clusters lie close together by chance: with 5 of them and looks all the time, false alarms at 0.01 came to 0.025.)
	DF float64
}

// CompareMeans returns the comparison of two arms. ok is false where there is none: a negative mean, both means zero, an
// arm with fewer than two clusters, or no variance at all.
func CompareMeans(a, b RatioMean) (Ratio, bool) {
	return Ratio{A: a, B: b, DF: float64(min(a.Clusters, b.Clusters) - 1)}.check()
}

func (r Ratio) check() (Ratio, bool) {
	ok := r.A.Mean >= 0 && r.B.Mean >= 0 && r.A.Mean+r.B.Mean > 0 && r.DF >= 1 && r.variance(1) > 0
	return r, ok
}

// variance returns that of a - r0 b.
func (r Ratio) variance(r0 float64) float64 {
	return math.Max(0, r.A.Var+r0*r0*r.B.Var-2*r0*r.Covariance)
}

// Estimate returns a/b; +Inf where b is zero.
func (r Ratio) Estimate() float64 { return r.A.Mean / r.B.Mean }

// effectScale is the standard deviation of the prior on the ln of a ratio: effects of about a quarter are what the
// tests of means are tuned to find soonest.
const (
	effectScale = 0.25
	effectRho   = 1 / (effectScale * effectScale)
)

// LogEAbove returns the natural logarithm of the e-value against the null that the ratio is at most r0, by the one-sided
// normal mixture (Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence
// sequences", proposition 6):
//
//	0.5 ln(4 rho/(v+rho)) + s^2/(2(v+rho)) + ln Phi(s/sqrt(v+rho)),  s = z sqrt(v),  rho = 1/effectScale^2
//	z = (a - r0 b)/sqrt(Var(a - r0 b)),  v = r0 mean^2/Var(a - r0 b)
//
// z is Fieller's statistic, which needs no mean to be away from zero; mean is b (a where b is zero), so that v is
// information on the ln of the ratio. With few clusters the Student tail of z is mapped to the normal one first, so that five
// buckets are not taken for a large sample. Asymptotic: callers burn in first.
func (r Ratio) LogEAbove(r0 float64) float64 { return r.logE(r0, 1, effectRho) }

// LogEBelow returns the natural logarithm of the e-value against the null that the ratio is at least r0. It is tuned to
// find soonest that there is no difference at all.
func (r Ratio) LogEBelow(r0 float64) float64 { return r.logE(r0, -1, rhoFor(math.Abs(math.Log(r0)))) }

func (r Ratio) logE(r0, side, rho float64) float64 {
	variance := r.variance(r0)
	if variance <= 0 {
		return 0
	}
	z := side * (r.A.Mean - r0*r.B.Mean) / math.Sqrt(variance)
	mean := r.B.Mean
	if mean == 0 {
		mean = r.A.Mean
	}
	return NormalMixture{Rho: rho, OneSided: true}.logEOfScore(normalScore(z, r.DF), r0*mean*mean/variance)
}

// Interval returns the confidence sequence at level 1-alpha for the ratio: what neither side rejects at alpha/2. The ends
// are 0 and +Inf where the evidence says nothing.
func (r Ratio) Interval(alpha float64) (low, high float64) {
	bound := math.Log(2 / alpha)
	if r.A.Mean <= 0 {
		low = 0
	} else {
		low = r.end(1, func(r0 float64) bool { return r.logE(r0, 1, effectRho) >= bound })
	}
	if r.B.Mean <= 0 {
		return low, math.Inf(1)
	}
	return low, r.end(-1, func(r0 float64) bool { return r.logE(r0, -1, effectRho) >= bound })
}

// end returns the ratio nearest to the estimate, on the way down (side 1) or up (side -1), that is rejected.
func (r Ratio) end(side float64, rejected func(r0 float64) bool) float64 {
	center := math.Log(math.Min(math.Max(r.Estimate(), 1e-9), 1e9))
	d := bisect(func(d float64) bool { return rejected(math.Exp(center - side*d)) })
	return math.Exp(center - side*d)
}

// bisect returns the smallest positive number, to 1e-6 of itself or of 1e-3, at which an increasing predicate holds; +Inf
// above 64. It is for intervals that people are shown.
func bisect(holds func(float64) bool) float64 {
	low, high := 0.0, 1e-3
	for !holds(high) {
		low, high = high, 2*high
		if high > 64 {
			return math.Inf(1)
		}
	}
	for range 20 {
		mid := (low + high) / 2
		if holds(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high
}

// rhoFor returns the tuning for a distance to find. It depends on what is declared before the run, never on data.
func rhoFor(distance float64) float64 {
	scale := math.Min(math.Max(distance, 0.02), effectScale)
	return 1 / (scale * scale)
}

// EventRates returns the two arms' rates of events for a comparison. They are AdjustedMeans, except that no arm's variance
// is taken for smaller than its number of observations allows: events that are rare may be missing in all clusters of a
// small arm, which then look as if they did not vary. The floor is pooled/n times the design effect of the larger arm,
// how many times more than independent events its clusters vary, and at least once.
func EventRates(a, b Sample) (RatioMean, RatioMean) {
	meanA, meanB := AdjustedMeans(a, b)
	na, nb := observations(a.Now), observations(b.Now)
	pooled := (meanA.Mean*na + meanB.Mean*nb) / (na + nb)
	larger, n := meanB, nb
	if na > nb {
		larger, n = meanA, na
	}
	design := larger.design(n)
	meanA.Var = math.Max(meanA.Var, design*pooled/na)
	meanB.Var = math.Max(meanB.Var, design*pooled/nb)
	return meanA, meanB
}

func observations(clusters []Cluster) (n float64) {
	for _, c := range clusters {
		n += c.Count
	}
	return n
}

// DesignEffect returns how many times more the rate of events over clusters varies than that of independent events would,
// and at least 1.
func DesignEffect(clusters []Cluster) float64 { return MeanOf(clusters).design(observations(clusters)) }

func (m RatioMean) design(n float64) float64 {
	if !(m.Mean > 0) || m.Clusters < 2 {
		return 1
	}
	return math.Max(1, m.Var*n/m.Mean)
}

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
	var sum, count float64
	k := 0
	for _, c := range clusters {
		if c.Count > 0 {
			sum, count, k = sum+c.Sum, count+c.Count, k+1
		}
	}
	if k == 0 {
		return RatioMean{Mean: math.NaN(), Var: math.Inf(1)}
	}
	m := RatioMean{Mean: sum / count, Var: math.Inf(1), Clusters: k}
	if k < 2 {
		return m
	}
	rest := 0.0
	for _, c := range clusters {
		if c.Count > 0 {
			d := c.Sum - m.Mean*c.Count
			rest += d * d
		}
	}
	m.Var = float64(k) / float64(k-1) * rest / (count * count)
	return m
}

// LogRatio is the estimated ln of the ratio of two means, with the variance of the estimate and the degrees of freedom
// of that variance: one less than the clusters of the smaller arm, which is conservative whatever the variances. (The
// degrees of Welch and Satterthwaite are estimated themselves, and are taken for many just when few clusters lie close
// together by chance: with 5 of them and looks all the time, false alarms at 0.01 came to 0.025.)
type LogRatio struct {
	Estimate, Var, DF float64
}

// CompareMeans returns ln(a/b) by the delta method. ok is false where it does not exist: a mean that is not above zero,
// or an arm with fewer than two clusters.
func CompareMeans(a, b RatioMean) (LogRatio, bool) {
	if !(a.Mean > 0) || !(b.Mean > 0) || a.Clusters < 2 || b.Clusters < 2 {
		return LogRatio{}, false
	}
	va, vb := a.Var/(a.Mean*a.Mean), b.Var/(b.Mean*b.Mean)
	if va+vb <= 0 {
		return LogRatio{}, false
	}
	df := min(a.Clusters, b.Clusters) - 1
	return LogRatio{Estimate: math.Log(a.Mean) - math.Log(b.Mean), Var: va + vb, DF: float64(df)}, true
}

// effectScale is the standard deviation of the prior on the ln of a ratio: effects of about a quarter are what the
// tests of means are tuned to find soonest.
const (
	effectScale = 0.25
	effectRho   = 1 / (effectScale * effectScale)
)

// LogEAbove returns the natural logarithm of the e-value against the null that the ln of the ratio is at most null,
// by the one-sided normal mixture in information time v = 1/Var (Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform,
// nonparametric, nonasymptotic confidence sequences", proposition 6):
//
//	0.5 ln(4 rho/(v+rho)) + s^2/(2(v+rho)) + ln Phi(s/sqrt(v+rho)),  s = z sqrt(v),  rho = 1/effectScale^2
//
// z is the standardised estimate; with few clusters its Student tail is mapped to the normal one first, so that five
// buckets are not taken for a large sample. Asymptotic: callers burn in first.
func (r LogRatio) LogEAbove(null float64) float64 {
	return normalMixture(normalScore((r.Estimate-null)/math.Sqrt(r.Var), r.DF), 1/r.Var, effectRho)
}

// LogEBelow returns the natural logarithm of the e-value against the null that the ln of the ratio is at least null. It is
// tuned to find soonest that there is no difference at all, which is as far from null as null is from zero.
func (r LogRatio) LogEBelow(null float64) float64 {
	return normalMixture(normalScore((null-r.Estimate)/math.Sqrt(r.Var), r.DF), 1/r.Var, rhoFor(null))
}

// Interval returns the confidence sequence at level 1-alpha for the ratio: what neither side rejects at alpha/2.
func (r LogRatio) Interval(alpha float64) (low, high float64) {
	bound := math.Log(2 / alpha)
	reach := bisect(func(d float64) bool {
		return normalMixture(normalScore(d/math.Sqrt(r.Var), r.DF), 1/r.Var, effectRho) >= bound
	})
	return math.Exp(r.Estimate - reach), math.Exp(r.Estimate + reach)
}

// bisect returns the smallest positive number, to 1e-9 relative, at which an increasing predicate holds; +Inf above e^64.
func bisect(holds func(float64) bool) float64 {
	low, high := 0.0, 1e-6
	for !holds(high) {
		low, high = high, 2*high
		if high > 64 {
			return math.Inf(1)
		}
	}
	for range 40 {
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

// normalMixture returns the log of the one-sided normal mixture at score z and intrinsic time v, tuned by rho.
func normalMixture(z, v, rho float64) float64 {
	// s/sqrt(v+rho), without an overflow of v.
	x := z * math.Sqrt(v/(v+rho))
	return 0.5*math.Log(4*rho/(v+rho)) + logMills(x)
}

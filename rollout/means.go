package rollout

import (
	"fmt"
	"math"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// Means and ratios, by the unit's bucket or by pairs of blocks; and errors, where they are counted by bucket.

// counted says whether a sum is one: one NaN would stay for ever.
func (s BucketSum) counted() bool {
	return s.Count > 0 && !math.IsInf(s.Count, 1) && !math.IsNaN(s.Sum) && !math.IsInf(s.Sum, 0) && s.Bucket >= 0 && s.Bucket < Buckets
}

func addBuckets(m map[int]stats.Cluster, sums []BucketSum) {
	for _, s := range sums {
		if !s.counted() {
			continue
		}
		c := m[s.Bucket]
		m[s.Bucket] = stats.Cluster{Sum: c.Sum + s.Sum, Count: c.Count + s.Count}
	}
}

func (t *Trail) countBuckets(g Gate, c Counts) {
	addBuckets(t.StableBuckets, c.Stable.Buckets)
	addBuckets(t.CanaryBuckets, c.Canary.Buckets)
	if g.Type == ErrorRate {
		var errors, requests float64
		for _, s := range c.Canary.Buckets {
			if s.counted() {
				errors, requests = errors+s.Sum, requests+s.Count
			}
		}
		t.Below.Add(errors, requests)
	}
}

func (t *Trail) countPair(c Counts) {
	t.Pairs.Add(stats.Cluster{Sum: c.Canary.Sum, Count: c.Canary.Requests}, stats.Cluster{Sum: c.Stable.Sum, Count: c.Stable.Requests})
}

// bet puts a block's difference of means to the exact tests: harm bets that it is above zero, safety that the worse mean
// is below margin times the better.
func (t *Trail) bet(g Gate, c Counts) {
	if !g.bounded() || !c.Stable.counted(g) || !c.Canary.counted(g) {
		return
	}
	worse, better := c.Canary.Sum/c.Canary.Requests, c.Stable.Sum/c.Stable.Requests
	if g.HigherIsBetter {
		worse, better = better, worse
	}
	t.BetHarm.Add(worse - better)
	t.BetSafety.Add(g.Margin*better - worse)
}

// compare returns the comparison of this step's means, oriented so that a ratio above 1 is harm. ok is false while there is
// none, or too little for a test that holds for large samples only.
func (t *Trail) compare(g Gate) (r stats.Ratio, ok bool) {
	if g.paired() {
		r, ok = t.Pairs.Compare()
		ok = ok && t.Pairs.N >= minPairs
	} else {
		canary, stable := t.sample(t.CanaryBuckets), t.sample(t.StableBuckets)
		if g.Type == ErrorRate {
			r, ok = stats.CompareMeans(stats.EventRates(canary, stable))
		} else {
			r, ok = stats.CompareMeans(stats.AdjustedMeans(canary, stable))
		}
		ok = ok && t.burntIn()
	}
	if g.HigherIsBetter {
		r.A, r.B = r.B, r.A
	}
	return r, ok
}

// sample returns the sums by bucket in the order of the buckets, since floating-point sums depend on it, each with the
// bucket's own past.
func (t *Trail) sample(m map[int]stats.Cluster) (s stats.Sample) {
	for b := range Buckets {
		if c, ok := m[b]; ok {
			s.Now, s.Before = append(s.Now, c), append(s.Before, t.Before[b])
		}
	}
	return s
}

// meanLogHarm returns the log e-value of the harm side of a mean within this step; 0 before the burn-in, which the exact test does not need.
func (t *Trail) meanLogHarm(g Gate) float64 {
	if g.bounded() {
		return t.BetHarm.LogE()
	}
	r, ok := t.compare(g)
	if !ok {
		return 0
	}
	return r.LogEAbove(1)
}

// runLogHarm returns the log e-value of the harm side of a mean over all steps: their average, in which a step that is
// still to come stands at 1.
func (t *Trail) runLogHarm(g Gate, steps int) float64 {
	all := append(append([]float64(nil), t.Ended...), t.meanLogHarm(g))
	for len(all) < steps {
		all = append(all, 0)
	}
	return stats.LogMean(all...)
}

// Burn-in of the asymptotic test of means by bucket: it holds for large samples only.
const (
	minArmBuckets = 5   // in each variant, for a variance to be estimated at all
	minBuckets    = 100 // in both together, or else minPairs blocks
)

func (t *Trail) burntIn() bool {
	c, s := len(t.CanaryBuckets), len(t.StableBuckets)
	both := c + s
	for b := range t.CanaryBuckets {
		// An answer that was on its way when the weight changed may leave a bucket in both variants; it is one bucket.
		if _, ok := t.StableBuckets[b]; ok {
			both--
		}
	}
	return c >= minArmBuckets && s >= minArmBuckets && (both >= minBuckets || t.Blocks >= minPairs)
}

// meansOf returns the two measured means of this step and what they were taken over.
func (t *Trail) meansOf(g Gate) (canary, stable float64, over string) {
	if g.paired() {
		return t.Pairs.Sums[0] / t.Pairs.Sums[1], t.Pairs.Sums[2] / t.Pairs.Sums[3], fmt.Sprintf("over %.0f blocks", t.Pairs.N)
	}
	c, s := stats.MeanOf(t.sample(t.CanaryBuckets).Now), stats.MeanOf(t.sample(t.StableBuckets).Now)
	return c.Mean, s.Mean, fmt.Sprintf("over %d and %d buckets", c.Clusters, s.Clusters)
}

// meanLogSafety returns the log e-value of the safety side at this step. Errors by bucket may also pass by the canary's own
// rate, below the tolerance, deflated by how much more than independent errors those of a bucket vary.
func (t *Trail) meanLogSafety(g Gate, r stats.Ratio, ok bool) float64 {
	if g.bounded() {
		return t.BetSafety.LogE()
	}
	margin := 0.0
	if ok {
		margin = r.LogEBelow(g.Margin)
	}
	if g.Type != ErrorRate || len(t.CanaryBuckets) < minArmBuckets || t.Blocks < minPairs {
		return margin
	}
	design := math.Max(stats.DesignEffect(t.sample(t.StableBuckets).Now), stats.DesignEffect(t.sample(t.CanaryBuckets).Now))
	return stats.LogMean(margin, t.Below.LogE()/design)
}

// tooFew says why a mean is not compared yet.
func (t *Trail) tooFew(g Gate) Reason {
	if g.paired() || (len(t.CanaryBuckets) >= minArmBuckets && len(t.StableBuckets) >= minArmBuckets && t.Blocks < minPairs) {
		return CollectingEvidence
	}
	return TooFewBuckets
}

func (t *Trail) burnInMessage(g Gate) string {
	if g.bounded() {
		return ""
	}
	if g.paired() {
		return fmt.Sprintf("; the comparison begins with %d blocks in which the two differ", minPairs)
	}
	return fmt.Sprintf(" and %d blocks; the test of means begins with %d buckets in each variant and %d blocks (or all %d buckets)",
		t.Blocks, minArmBuckets, minPairs, minBuckets)
}

package rollout

import (
	"math"
	"time"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// Remaining returns how much longer the gates that wait are likely to need, all of them; ok is false while one of them
// cannot say.
func Remaining(findings []Finding) (left time.Duration, ok bool) {
	for _, f := range findings {
		if f.Verdict == Pass {
			continue
		}
		if !f.RemainingKnown {
			return 0, false
		}
		left, ok = max(left, f.Remaining), true
	}
	return left, ok
}

// remaining estimates how much longer the gate's safety side is likely to need at this step's traffic if the variants do
// not differ. ok is false where nobody can say: nothing was counted yet, or more of the same would never do.
func (t *Trail) remaining(p Plan, g Gate, f Finding) (left time.Duration, ok bool) {
	if t.Blocks == 0 {
		return 0, false
	}
	var blocks float64
	switch {
	case g.Type == Data:
		blocks = float64(answerWithin - t.Blocks)
	case g.byRequest():
		blocks = (f.LogSafetyBound - f.LogSafety) / t.eventsGrowth(g)
	case g.bounded():
		blocks = (f.LogSafetyBound - f.LogSafety) / math.Max(0, f.LogSafety/float64(t.Blocks))
	default:
		blocks = t.meanBlocks(g, f.LogSafetyBound)
	}
	if !(blocks >= 0) || blocks > 1e6 {
		return 0, false
	}
	return time.Duration(math.Ceil(math.Max(1, blocks))) * p.Interval, true
}

// eventsGrowth returns by how much the log of the safety side's e-value is expected to grow in a block: by what an event
// tells of the ratio, or a request of the canary of the tolerance, whichever is more.
func (t *Trail) eventsGrowth(g Gate) float64 {
	blocks := float64(t.Blocks)
	requests := t.Stable.Count + t.Canary.Count
	pooled, weight := (t.Stable.Sum+t.Canary.Sum)/requests, t.Canary.Count/requests
	growth := requests / blocks * stats.SafetyInformation(pooled, pooled, weight, g.Margin)
	if !(growth > 0) {
		growth = 0 // no events yet
	}
	if pooled < g.Tolerance {
		growth = math.Max(growth, t.Canary.Count/blocks*stats.KL(pooled, g.Tolerance))
	}
	return growth
}

// meanBlocks returns how many blocks more a mean needs, if its variance falls as blocks are added. Buckets that differ for
// good do not average out, so by bucket this is the least that it can take.
func (t *Trail) meanBlocks(g Gate, bound float64) float64 {
	have := float64(t.Blocks)
	burnIn := math.Max(0, minPairs-have)
	r, ok := t.compare(g)
	if !ok {
		if g.bucketed() && (len(t.CanaryBuckets) < minArmBuckets || len(t.StableBuckets) < minArmBuckets) {
			return math.Inf(1)
		}
		return burnIn
	}
	r.A.Mean = r.B.Mean
	for factor := 1.0; factor < 1e4; factor *= 1.05 {
		more := r
		more.A.Var, more.B.Var, more.Covariance = r.A.Var/factor, r.B.Var/factor, r.Covariance/factor
		if more.LogEBelow(g.Margin) >= bound {
			return math.Max(burnIn, have*(factor-1))
		}
	}
	return math.Inf(1)
}

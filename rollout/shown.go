package rollout

import (
	"fmt"
	"math"
	"time"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// What people are shown beside a finding. Nothing is decided by it.

// ChanceWorse returns the probability that the canary's rate of events is above stable's, after this step's counts and
// Jeffreys' prior, for requests that are independent. ok is false for a gate that counts no events, or nothing yet. Unlike
// the evidence it bounds no false alarm when one looks again and again.
func (f Finding) ChanceWorse() (chance float64, ok bool) {
	if !f.Gate.byRequest() || f.CanaryTotal.Count <= 0 || f.StableTotal.Count <= 0 {
		return 0, false
	}
	prior := stats.Beta{A: 0.5, B: 0.5}
	canary := prior.After(f.CanaryTotal.Sum, f.CanaryTotal.Count)
	chance = canary.ChanceAbove(prior.After(f.StableTotal.Sum, f.StableTotal.Count))
	return chance, !math.IsNaN(chance)
}

// shownQuantile is the quantile of latency that people are used to.
const shownQuantile = 0.95

// tails tells the 95th percentile of both variants over the run, interpolated as Prometheus does, and the share above
// the threshold itself where no bound lies on it.
func (t *Trail) tails(g Gate) string {
	if t.Shape == nil {
		return ""
	}
	canary, stable := t.histogram(t.Shape.Canary), t.histogram(t.Shape.Stable)
	pc, ps := stats.HistogramQuantile(shownQuantile, canary), stats.HistogramQuantile(shownQuantile, stable)
	if math.IsNaN(pc) || math.IsNaN(ps) {
		return ""
	}
	text := fmt.Sprintf("; p95 about %s and %s over the run", short(pc), short(ps))
	if limit := g.Threshold.Seconds(); t.Bounds[t.SLO] > limit*(1+1e-9) {
		above := func(h []stats.Bucket) string { return percent(1 - stats.HistogramFraction(0, limit, h)) }
		text += fmt.Sprintf(", above %s about %s and %s", g.Threshold, above(canary), above(stable))
	}
	return text
}

// histogram returns the cumulative histogram of counts by cell.
func (t *Trail) histogram(cells []float64) []stats.Bucket {
	out, sum := make([]stats.Bucket, len(cells)), 0.0
	for i, n := range cells {
		sum += n
		out[i] = stats.Bucket{Bound: math.Inf(1), Count: sum}
		if i < len(t.Harm) {
			out[i].Bound = t.Bounds[t.First+i]
		}
	}
	return out
}

// short writes seconds as a duration of three digits.
func short(s float64) string {
	d := time.Duration(s * 1e9)
	unit := time.Duration(math.Pow(10, math.Max(0, math.Floor(math.Log10(math.Max(1, float64(d))))-2)))
	return d.Round(unit).String()
}

package experiment

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/stats"
)

// measure returns what is known of each variant, in the plan's order.
func measure(p Plan, r Run, now time.Time) []ArmResult {
	out := make([]ArmResult, len(p.Variants))
	for i, v := range p.Variants {
		out[i] = ArmResult{
			Name: v.Name, Version: v.Version, Control: i == p.control(), Buckets: len(r.buckets(i)), Units: r.units(i),
			Mean: math.NaN(), MeanLow: math.NaN(), MeanHigh: math.NaN(), Ratio: math.NaN(), Low: 0, High: math.Inf(1), ChanceToBeat: math.NaN(),
		}
	}
	for n, i := range p.arms() {
		p.compare(r, n, i, &out[i], now)
	}
	first := p.arms()[0]
	c := &out[p.control()]
	c.Mean = out[first].Objective.Stable
	c.Count, c.MeanLow, c.MeanHigh = p.spread(r.trail(p, 0), false, c.Mean)
	return out
}

// compare fills in the n-th arm, variant i.
func (p Plan) compare(r Run, n, i int, a *ArmResult, now time.Time) {
	run := r.arm(p, i)
	run.Evidence = r.evidence(n)
	findings := rollout.Judge(p.plan(i), run, nil, now)
	a.Objective, a.Guardrails = findings[0], findings[1:]
	f := a.Objective
	t := r.trail(p, n)
	a.Mean = f.Canary
	a.Count, a.MeanLow, a.MeanHigh = p.spread(t, true, a.Mean)
	if f.Known {
		a.Known, a.Ratio, a.Low, a.High = true, f.Estimate, f.Low, f.High
		if p.Objective.HigherIsBetter {
			a.Ratio, a.Low, a.High = 1/f.Estimate, 1/f.High, 1/f.Low
		}
		a.ChanceToBeat = p.chance(t)
		a.showLift(p, t)
	}
	a.Contaminated = r.contaminated(n)
	a.Remaining, a.RemainingKnown = p.outlook(r, f, now)
}

// findings returns all findings of an arm, the objective first; none of the control.
func (a ArmResult) findings() []rollout.Finding {
	if a.Control {
		return nil
	}
	return append([]rollout.Finding{a.Objective}, a.Guardrails...)
}

// says quotes a finding. It speaks of the arm as the canary and of the control as stable.
func (a ArmResult) says(f rollout.Finding) string {
	return fmt.Sprintf("variant %q (as canary) against the control (as stable), gate %q: %s", a.Name, f.Gate.Name, f.Message)
}

// against writes an arm's estimate.
func (a ArmResult) against() string {
	return fmt.Sprintf("%q is %.4g times the control (between %.4g and %.4g)", a.Name, a.Ratio, a.Low, a.High)
}

// spread returns the number of observations of the objective in the arm or the control of a trail, and the confidence sequence
// of its mean: at level 1 - FalseAlarm for each variant alone, to show.
func (p Plan) spread(t rollout.Trail, arm bool, mean float64) (count, low, high float64) {
	cluster, buckets, column := t.Stable, t.StableBuckets, 3
	if arm {
		cluster, buckets, column = t.Canary, t.CanaryBuckets, 1
	}
	switch {
	case bucketed(p.Objective):
		sums := inOrder(buckets)
		for _, c := range sums {
			count += c.Count
		}
		low, high = meanInterval(stats.MeanOf(sums), p.FalseAlarm)
		return count, low, high
	case t.Pairs != nil:
		count = t.Pairs.Sums[column]
	default:
		count = cluster.Count
	}
	if count > 0 && (p.Objective.Type == rollout.ErrorRate || p.Objective.Type == rollout.Latency) {
		low, high = stats.RateInterval(mean*count, count, p.FalseAlarm, 1e5)
		return count, low, high
	}
	return count, math.NaN(), math.NaN()
}

// meanInterval returns the confidence sequence of a mean over buckets: that of its ratio to its own value, taken as known.
func meanInterval(m stats.RatioMean, alpha float64) (low, high float64) {
	if !(m.Mean > 0) || m.Clusters < 2 || !(m.Var > 0) {
		return math.NaN(), math.NaN()
	}
	r := stats.Ratio{A: m, B: stats.RatioMean{Mean: m.Mean, Clusters: m.Clusters}, DF: float64(m.Clusters - 1)}
	low, high = r.Interval(alpha)
	return low * m.Mean, high * m.Mean
}

// inOrder returns the sums in the order of the buckets: floating-point sums depend on it.
func inOrder(m map[int]stats.Cluster) []stats.Cluster {
	out := make([]stats.Cluster, 0, len(m))
	for _, b := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[b])
	}
	return out
}

// sample returns the sums in the order of the buckets with the buckets' own past.
func sample(m, before map[int]stats.Cluster) (s stats.Sample) {
	for _, b := range slices.Sorted(maps.Keys(m)) {
		s.Now, s.Before = append(s.Now, m[b]), append(s.Before, before[b])
	}
	return s
}

// chance returns the chance that the arm is better than the control: Phi of the standardised difference for means, that of two
// Beta posteriors with Jeffreys' prior for rates by request.
func (p Plan) chance(t rollout.Trail) float64 {
	worse := math.NaN()
	switch {
	case bucketed(p.Objective):
		compare := stats.AdjustedMeans
		if p.Objective.Type == rollout.ErrorRate {
			compare = stats.EventRates
		}
		a, b := compare(sample(t.CanaryBuckets, t.Before), sample(t.StableBuckets, t.Before))
		worse = normal((a.Mean - b.Mean) / math.Sqrt(a.Var+b.Var))
	case t.Pairs != nil:
		if r, ok := t.Pairs.Compare(); ok {
			worse = normal((r.A.Mean - r.B.Mean) / math.Sqrt(r.A.Var+r.B.Var-2*r.Covariance))
		}
	case t.Canary.Count > 0 && t.Stable.Count > 0:
		prior := stats.Beta{A: 0.5, B: 0.5}
		worse = prior.After(t.Canary.Sum, t.Canary.Count).ChanceAbove(prior.After(t.Stable.Sum, t.Stable.Count))
	}
	if p.Objective.HigherIsBetter {
		return worse
	}
	return 1 - worse
}

// showLift fills in what an analysis with one look would say.
func (a *ArmResult) showLift(p Plan, t rollout.Trail) {
	if !bucketed(p.Objective) {
		return
	}
	control, arm := stats.RatioArmOf(sample(t.StableBuckets, t.Before)), stats.RatioArmOf(sample(t.CanaryBuckets, t.Before))
	effect, ok := stats.RatioLift(control, arm)
	if !ok {
		return
	}
	a.Lift, a.LiftKnown = effect.Estimate, true
	a.LiftLow, a.LiftHigh = effect.Interval(0.05)
}

// normal is the standard normal distribution function.
func normal(z float64) float64 { return 0.5 * math.Erfc(-z/math.Sqrt2) }

// pair returns the confidence sequence of the ratio of two arms, turned so that below 1 the first is better. By bucket it is
// that of their own comparison; the sequences of all pairs hold together at level 1 - FalseAlarm. For other objectives the arms
// are told apart when their sequences against the control, which hold together too, do not meet.
func (l look) pair(i, j int) (low, high float64) {
	a, b := l.arms[i].Objective, l.arms[j].Objective
	if !bucketed(l.plan.Objective) {
		return a.Low / b.High, a.High / b.Low
	}
	p := l.plan
	ti, tj := l.run.trail(p, p.armOf(i)), l.run.trail(p, p.armOf(j))
	mixed := ti
	mixed.StableBuckets, mixed.Before = tj.CanaryBuckets, maps.Clone(ti.Before)
	for b, c := range tj.Before {
		if mixed.Before != nil {
			mixed.Before[b] = c
		}
	}
	mixed.Blocks = min(ti.Blocks, tj.Blocks)
	plan := p.plan(i)
	arms := float64(len(p.Variants) - 1)
	plan.Gates, plan.FalseAlarm = plan.Gates[:1], p.FalseAlarm/(arms*(arms-1)/2)
	run := l.run.arm(p, i)
	run.Evidence = rollout.Evidence{Trails: []rollout.Trail{mixed}}
	f := rollout.Judge(plan, run, nil, l.now)[0]
	if !f.Known {
		return 0, math.Inf(1)
	}
	return f.Low, f.High
}

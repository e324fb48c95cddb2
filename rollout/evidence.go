package rollout

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// Evidence is what a run has learned so far: one trail a gate. It grows by whole blocks only and does not depend on how
// they were asked for, so two processes that counted the same blocks hold the same evidence, bit for bit.
type Evidence struct {
	// Trails are in the order of the plan's gates.
	Trails []Trail
}

// Trail is the evidence of one gate. Its size is bounded: it depends on the number of histogram bounds and of buckets,
// not on the length of the run.
type Trail struct {
	Gate string
	// Terms are the settings of the gate that the evidence was gathered under.
	Terms string
	// LastData is the end of the last block in which both variants were counted; CanaryData and StableData of the last
	// one in which that variant was.
	LastData, CanaryData, StableData time.Time
	// Broken is set for good when the data cannot be trusted; it says why.
	Broken Reason

	// Counts: errors, or exceedances of each latency bound.
	Bounds []float64
	SLO    int // index of the bound that the threshold falls on
	// First is the index of the first bound that is high enough to matter; Harm has one process for it and each above.
	First  int
	Harm   []*stats.Harm
	Curve  *stats.Curve
	Safety *stats.RateRatio
	Below  *stats.RateBelow
	// Stable and Canary hold the requests and events (at the SLO bound) of this step, for people to see.
	Stable, Canary stats.Cluster

	// Means: this step's sums by bucket, and the e-values that the harm side had reached when earlier steps ended.
	StableBuckets, CanaryBuckets map[int]stats.Cluster
	Blocks                       int // in which both variants were counted
	Ended                        []float64
}

// fit returns the evidence with one trail for each judged gate of the plan, in its order: known gates keep theirs, new
// ones begin, removed ones go.
func (e Evidence) fit(p Plan) Evidence {
	trails := make([]Trail, 0, len(p.Gates))
	for _, g := range p.Gates {
		if !g.judged() {
			continue
		}
		i := slices.IndexFunc(e.Trails, func(t Trail) bool { return t.Gate == g.Name })
		if i >= 0 && e.Trails[i].suits(g) {
			trails = append(trails, e.Trails[i].clone())
			continue
		}
		trails = append(trails, newTrail(g))
	}
	return Evidence{Trails: trails}
}

// suits says whether a trail was gathered under the same terms as the gate's: evidence against another margin or
// another threshold is evidence for another question. One of another shape was written by another release.
func (t Trail) suits(g Gate) bool { return t.Terms == g.terms() && t.shaped(g) }

func (g Gate) terms() string {
	return fmt.Sprintf("%s %g %g %s %t %q %q %q %q", g.Type, g.Margin, g.Tolerance, g.Threshold, g.HigherIsBetter,
		g.Sum, g.Count, g.VersionLabel, g.BucketLabel)
}

func newTrail(g Gate) Trail {
	t := Trail{Gate: g.Name, Terms: g.terms()}
	if g.Type == Mean {
		t.StableBuckets, t.CanaryBuckets = map[int]stats.Cluster{}, map[int]stats.Cluster{}
		return t
	}
	t.Curve = stats.NewCurve()
	t.Safety, t.Below = stats.NewSafety(g.Margin), stats.NewRateBelow(g.Tolerance)
	if g.Type == ErrorRate {
		t.Harm = []*stats.Harm{stats.NewHarm()}
	}
	return t
}

// clone returns a trail that shares no memory with t, so that evidence is a value.
func (t Trail) clone() Trail {
	t.Bounds, t.Ended = slices.Clone(t.Bounds), slices.Clone(t.Ended)
	t.Harm = slices.Clone(t.Harm)
	for i, h := range t.Harm {
		if h != nil {
			t.Harm[i] = h.Clone()
		}
	}
	t.Safety = cloneRatio(t.Safety)
	if t.Curve != nil {
		t.Curve = &stats.Curve{LogLik: slices.Clone(t.Curve.LogLik)}
	}
	if t.Below != nil {
		b := *t.Below
		b.LogLR = slices.Clone(b.LogLR)
		t.Below = &b
	}
	if t.StableBuckets != nil {
		t.StableBuckets, t.CanaryBuckets = maps.Clone(t.StableBuckets), maps.Clone(t.CanaryBuckets)
	}
	return t
}

func cloneRatio(p *stats.RateRatio) *stats.RateRatio {
	if p == nil {
		return nil
	}
	c := *p
	c.LogLR = slices.Clone(p.LogLR)
	return &c
}

// nextStep begins a new step: the harm side of counts goes on, because blocks multiply whatever the weight; the safety
// side starts anew, because a fault that needs load shows only at high weight; a mean starts anew on both sides, and
// what its harm side reached is kept as one term of a weighted average.
func (t *Trail) nextStep(g Gate, steps int) {
	if g.Type == Mean {
		t.Ended = append(t.Ended, t.meanLogHarm(g))
		if len(t.Ended) > steps {
			t.Ended = t.Ended[1:]
		}
		t.StableBuckets, t.CanaryBuckets = map[int]stats.Cluster{}, map[int]stats.Cluster{}
		t.Blocks = 0
		return
	}
	for _, h := range t.Harm {
		h.Restart()
	}
	t.Safety, t.Below = stats.NewSafety(g.Margin), stats.NewRateBelow(g.Tolerance)
	t.Stable, t.Canary = stats.Cluster{}, stats.Cluster{}
}

// count adds a gate's counts of one block that ended at end.
func (t *Trail) count(g Gate, c Counts, end time.Time) {
	if c.Stable.counted(g) {
		t.StableData = end
	}
	if c.Canary.counted(g) {
		t.CanaryData = end
	}
	both := c.Stable.counted(g) && c.Canary.counted(g)
	if both {
		t.LastData = end
	}
	switch g.Type {
	case Mean:
		addBuckets(t.StableBuckets, c.Stable.Buckets)
		addBuckets(t.CanaryBuckets, c.Canary.Buckets)
		if both {
			t.Blocks++
		}
	case Latency:
		t.setBounds(g, c.Bounds)
		t.countEvents(c)
	case ErrorRate:
		t.countEvents(c)
	case Alerts:
	}
}

// counted says whether an arm has anything to count for a gate.
func (a Arm) counted(g Gate) bool {
	if g.Type == Mean {
		return slices.ContainsFunc(a.Buckets, BucketSum.counted)
	}
	return a.Requests > 0 && !math.IsInf(a.Requests, 1) && len(a.Events) > 0
}

// counted says whether a sum is one: one NaN would stay for ever.
func (s BucketSum) counted() bool {
	return s.Count > 0 && !math.IsInf(s.Count, 1) && !math.IsNaN(s.Sum) && !math.IsInf(s.Sum, 0) && s.Bucket >= 0 && s.Bucket < Buckets
}

// sound says whether an arm's events can be: one number for each of n bounds, none above the requests.
func (a Arm) sound(n int) bool {
	return len(a.Events) == n && a.Requests >= 0 && !math.IsInf(a.Requests, 1) &&
		!slices.ContainsFunc(a.Events, func(x float64) bool { return !(x >= 0 && x <= a.Requests) })
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

// setBounds takes the histogram's bounds from the first block; they may not change within a run, since counts above
// different bounds cannot be multiplied.
func (t *Trail) setBounds(g Gate, bounds []float64) {
	if len(bounds) == 0 || t.Broken != "" {
		return
	}
	if len(t.Bounds) > 0 {
		if !slices.Equal(t.Bounds, bounds) {
			t.Broken = BoundsChanged
		}
		return
	}
	t.Bounds = slices.Clone(bounds)
	t.SLO = slices.IndexFunc(bounds, func(b float64) bool { return b >= g.Threshold.Seconds()*(1-1e-9) })
	if t.SLO < 0 {
		t.Broken = BelowThreshold
		return
	}
	t.First = slices.IndexFunc(bounds, func(b float64) bool { return b >= g.Threshold.Seconds()/matterOf })
	for range bounds[t.First:] {
		t.Harm = append(t.Harm, stats.NewHarm())
	}
}

// matterOf says which latencies matter beside the threshold: those of at least this part of it. A model that answers in
// 0.3 ms instead of 0.2 ms is slower beyond doubt, and nobody who asked for 250 ms minds.
const matterOf = 5

func (t *Trail) countEvents(c Counts) {
	want := t.First + len(t.Harm)
	if t.Broken != "" || len(t.Harm) == 0 || !c.Stable.sound(want) || !c.Canary.sound(want) {
		return
	}
	for i, h := range t.Harm {
		k := t.First + i
		h.Add(c.Canary.Events[k], c.Canary.Requests, c.Stable.Events[k], c.Stable.Requests)
	}
	xc, xs := c.Canary.Events[t.SLO], c.Stable.Events[t.SLO]
	t.Curve.Add(xc, c.Canary.Requests, xs, c.Stable.Requests)
	t.Safety.Add(xc, c.Canary.Requests, xs, c.Stable.Requests)
	t.Below.Add(xc, c.Canary.Requests)
	t.Canary = stats.Cluster{Sum: t.Canary.Sum + xc, Count: t.Canary.Count + c.Canary.Requests}
	t.Stable = stats.Cluster{Sum: t.Stable.Sum + xs, Count: t.Stable.Count + c.Stable.Requests}
}

// logHarm returns the log e-value of the harm side over the whole run, and the index of the bound that says most.
// For latency half of the weight lies on the threshold's bound, the rest evenly on the others.
func (t *Trail) logHarm() (logE float64, most int) {
	if len(t.Harm) == 0 {
		return 0, 0
	}
	slo := t.Harm[t.SLO-t.First].LogE()
	most, top := t.SLO, slo
	rest := make([]float64, 0, len(t.Harm))
	for i, h := range t.Harm {
		if t.First+i == t.SLO {
			continue
		}
		logE := h.LogE()
		rest = append(rest, logE)
		if logE > top {
			most, top = t.First+i, logE
		}
	}
	if len(rest) == 0 {
		return slo, most
	}
	return stats.LogMean(slo, stats.LogMean(rest...)), most
}

// logSafety returns the log e-value of the safety side at this step: the average of the ratio's (below the margin) and
// of the canary's own rate (below the tolerance). Its null is that both are reached.
func (t *Trail) logSafety() float64 { return stats.LogMean(t.Safety.LogE(), t.Below.LogE()) }

// means returns the two ratio means of this step, oriented so that a ratio above 1 is harm.
func (t *Trail) means(g Gate) (worse, better stats.RatioMean) {
	canary, stable := stats.MeanOf(clusters(t.CanaryBuckets)), stats.MeanOf(clusters(t.StableBuckets))
	if g.HigherIsBetter {
		return stable, canary
	}
	return canary, stable
}

// meanLogHarm returns the log e-value of the harm side of a mean within this step; 0 before the burn-in.
func (t *Trail) meanLogHarm(g Gate) float64 {
	if !t.burntIn() {
		return 0
	}
	r, ok := stats.CompareMeans(t.means(g))
	if !ok {
		return 0
	}
	return r.LogEAbove(0)
}

// Burn-in of the asymptotic test of means: it holds for large samples only.
const (
	minArmBuckets = 5   // in each variant, for a variance to be estimated at all
	minBuckets    = 100 // in both together, or else
	minBlocks     = 20
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
	return c >= minArmBuckets && s >= minArmBuckets && (both >= minBuckets || t.Blocks >= minBlocks)
}

// clusters returns the sums in the order of the buckets: floating-point sums depend on it.
func clusters(m map[int]stats.Cluster) []stats.Cluster {
	out := make([]stats.Cluster, 0, len(m))
	for b := range Buckets {
		if c, ok := m[b]; ok {
			out = append(out, c)
		}
	}
	return out
}

func rate(c stats.Cluster) float64 {
	if c.Count == 0 {
		return math.NaN()
	}
	return c.Sum / c.Count
}

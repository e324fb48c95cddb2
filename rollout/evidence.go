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
	// Blocks is the number of blocks of this step in which both variants were counted; Stable and Canary are their totals:
	// requests and events (at the threshold's bound), requests answered and sent, or units.
	Blocks         int
	Stable, Canary stats.Cluster

	// Events of requests that are independent of each other: errors, or exceedances of each latency bound.
	Bounds []float64
	SLO    int // index of the bound that the threshold falls on
	// First is the index of the first bound that is high enough to matter; Harm has one process for it and each above.
	First  int
	Harm   []*stats.Harm
	Shape  *stats.Shape // of the whole histogram from First on
	Curve  *stats.Curve
	Safety *stats.RateRatio
	Below  *stats.RateBelow

	// By bucket: this step's sums, and what the buckets were before the run.
	StableBuckets, CanaryBuckets, Before map[int]stats.Cluster
	// By pairs of blocks of this step, and, where one observation has bounds, their exact tests.
	Pairs              *stats.Pairs
	BetHarm, BetSafety *stats.Bet
	// Ended are the log e-values that the harm side of means had reached when earlier steps ended.
	Ended []float64
	// Shares is the test of how the units are shared out, Answers that of what was answered.
	Shares  *stats.Shares
	Answers *Answers
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
	return fmt.Sprintf("%s %g %g %s %t %q %q %q %q %g %g", g.Type, g.Margin, g.Tolerance, g.Threshold, g.HigherIsBetter,
		g.Sum, g.Count, g.VersionLabel, g.BucketLabel, g.Lowest, g.Highest)
}

func newTrail(g Gate) Trail {
	t := Trail{Gate: g.Name, Terms: g.terms()}
	if g.bucketed() {
		t.Before = map[int]stats.Cluster{}
	}
	if g.Type == ErrorRate && !g.bucketed() {
		t.Harm = []*stats.Harm{stats.NewHarm()}
	}
	if g.byRequest() {
		t.Curve = stats.NewCurve()
	}
	if g.Type == SampleRatio {
		t.Shares = &stats.Shares{}
	}
	if g.Type == Data {
		t.Answers = newAnswers()
	}
	t.beginStep(g)
	return t
}

// beginStep begins what is judged step by step: a fault that needs load shows only at high weight.
func (t *Trail) beginStep(g Gate) {
	t.Blocks, t.Stable, t.Canary = 0, stats.Cluster{}, stats.Cluster{}
	if g.bucketed() {
		t.StableBuckets, t.CanaryBuckets = map[int]stats.Cluster{}, map[int]stats.Cluster{}
	}
	if g.paired() {
		t.Pairs = &stats.Pairs{}
	}
	if g.bounded() {
		span := g.Highest - g.Lowest
		t.BetHarm = stats.NewBet(0, -span, span)
		t.BetSafety = stats.NewBet(0, g.Margin*g.Lowest-g.Highest, g.Margin*g.Highest-g.Lowest)
	}
	if g.byRequest() {
		t.Safety = stats.NewSafety(g.Margin)
	}
	if g.Type == ErrorRate || g.Type == Latency {
		t.Below = stats.NewRateBelow(g.Tolerance)
	}
}

// nextStep begins a new step: the harm side of events goes on, because blocks multiply whatever the weight; the safety
// side starts anew; a mean starts anew on both sides, and what its harm side reached is kept as one term of a weighted average.
func (t *Trail) nextStep(g Gate, steps int) {
	if g.bucketed() || g.paired() {
		t.Ended = append(t.Ended, t.meanLogHarm(g))
		if len(t.Ended) > steps {
			t.Ended = t.Ended[1:]
		}
	}
	for _, h := range t.Harm {
		h.Restart()
	}
	if t.Shape != nil {
		t.Shape.Restart()
	}
	t.beginStep(g)
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
	if t.Shape != nil {
		t.Shape = t.Shape.Clone()
	}
	if t.Shares != nil {
		c := *t.Shares
		c.Weights, c.Counts = slices.Clone(c.Weights), slices.Clone(c.Counts)
		t.Shares = &c
	}
	if t.Answers != nil && t.Answers.sound() {
		t.Answers = t.Answers.clone()
	}
	if t.Safety != nil {
		c := *t.Safety
		c.LogLR = slices.Clone(c.LogLR)
		t.Safety = &c
	}
	if t.Curve != nil {
		t.Curve = &stats.Curve{LogLik: slices.Clone(t.Curve.LogLik)}
	}
	if t.Below != nil {
		c := *t.Below
		c.LogLR = slices.Clone(c.LogLR)
		t.Below = &c
	}
	if t.Pairs != nil {
		c := *t.Pairs
		t.Pairs = &c
	}
	if t.BetHarm != nil {
		t.BetHarm = t.BetHarm.Clone()
	}
	if t.BetSafety != nil {
		t.BetSafety = t.BetSafety.Clone()
	}
	t.StableBuckets, t.CanaryBuckets, t.Before = maps.Clone(t.StableBuckets), maps.Clone(t.CanaryBuckets), maps.Clone(t.Before)
	return t
}

// count adds a gate's counts of one block that ended at end; weight is the canary's share of the buckets, in percent. What
// is judged at that weight is counted only when it is realised; errors and slow requests harm at any weight.
func (t *Trail) count(g Gate, c Counts, end time.Time, weight int, realised bool) {
	stable, canary := c.Stable.counted(g), c.Canary.counted(g)
	if stable {
		t.StableData = end
	}
	if canary {
		t.CanaryData = end
	}
	if stable && canary {
		t.LastData = end
	}
	if stable && canary && realised {
		t.Blocks++
	}
	switch {
	case g.byRequest():
		t.setBounds(g, c.Bounds)
		t.countEvents(c, realised)
	case g.Type == Data:
		t.countAnswers(c)
	case !realised:
	case g.bucketed():
		t.countBuckets(g, c)
	case g.paired():
		t.countPair(c)
		t.bet(g, c)
	case g.Type == SampleRatio:
		t.countUnits(c, weight)
	}
}

// remember adds what the buckets were before the run.
func (t *Trail) remember(g Gate, c Counts) {
	if g.bucketed() {
		addBuckets(t.Before, c.Stable.Buckets)
	}
}

// counted says whether an arm has anything to count for a gate.
func (a Arm) counted(g Gate) bool {
	if g.bucketed() {
		return slices.ContainsFunc(a.Buckets, BucketSum.counted)
	}
	if g.Type == SampleRatio {
		return a.Requests >= 0 // no unit is new once all have been assigned
	}
	return a.Requests > 0 && !math.IsInf(a.Requests, 1) && (!g.byRequest() || len(a.Events) > 0)
}

// minPairs is the burn-in of the asymptotic tests, in blocks.
const minPairs = 20

func rate(c stats.Cluster) float64 {
	if c.Count == 0 {
		return math.NaN()
	}
	return c.Sum / c.Count
}

package rollout

import "time"

// GateType says what a gate measures.
type GateType string

// The gate types.
const (
	ErrorRate GateType = "ErrorRate"
	Latency   GateType = "Latency"
	Mean      GateType = "Mean"
	Alerts    GateType = "Alerts"
	// EnergyPerRequest compares joules per request.
	EnergyPerRequest GateType = "EnergyPerRequest"
	// SampleRatio tests whether the units are shared out as the weights say.
	SampleRatio GateType = "SampleRatio"
	// Data tests whether as many requests are answered in each variant as are sent.
	Data GateType = "Data"
)

// Gate is one reason to go on or not.
type Gate struct {
	Name string
	Type GateType
	// Margin is the ratio of canary to stable that the canary must be shown to stay below. Above 1.
	Margin float64
	// Tolerance is the share of requests, between 0 and 1, that does not matter (ErrorRate and Latency).
	Tolerance float64
	// Threshold is the latency that a request should not exceed (Latency).
	Threshold time.Duration
	// HigherIsBetter turns the comparison of a Mean round.
	HigherIsBetter bool
	// Sum and Count are counters, as series selectors: of a Mean the quantity and the observations; of EnergyPerRequest
	// the joules and the requests; of Data the requests answered and sent; of SampleRatio Count alone, the units that
	// were newly assigned.
	Sum, Count string
	// VersionLabel is the label of both that holds the version, BucketLabel the one that holds the unit's bucket. Without
	// a BucketLabel a Mean has one pair of observations a block. An ErrorRate may have one too: it is then judged by buckets.
	VersionLabel, BucketLabel string
	// Lowest and Highest bound a single observation of a Mean without buckets, which is then judged by an exact test; both 0
	// when it has no bounds.
	Lowest, Highest float64
	// Matchers select the alerts that count: every label must have its value.
	Matchers map[string]string
}

// judged says whether the gate is judged by the run's evidence.
func (g Gate) judged() bool { return g.Type != Alerts }

// Harms says whether the gate takes part in the weighted average of e-values that rolls back. A gate that watches the
// data itself does not: what cannot be trusted is no harm.
func (g Gate) Harms() bool { return g.judged() && g.Type != SampleRatio && g.Type != Data }

// byRequest says whether the gate is judged by requests that are independent of each other.
func (g Gate) byRequest() bool { return g.Type == Latency || (g.Type == ErrorRate && !g.bucketed()) }

// bucketed says whether the gate is judged by the unit's bucket.
func (g Gate) bucketed() bool { return (g.Type == Mean || g.Type == ErrorRate) && g.BucketLabel != "" }

// paired says whether the gate is judged by the pairs of its blocks.
func (g Gate) paired() bool {
	return g.Type == EnergyPerRequest || (g.Type == Mean && g.BucketLabel == "")
}

// Step is a weight to reach and the time to stay there at least.
type Step struct {
	Weight int
	Hold   time.Duration
}

// Preview is a time before the first step in which testers alone see the canary.
type Preview struct {
	// Hold is the shortest time, from when the canary was ready last; Ask says that only a request ends it.
	Hold time.Duration
	Ask  bool
	// Control is how many of 100 buckets of a cohort stay on stable while its others meet the canary; 0 where there is nothing to
	// compare.
	Control int
}

// Shadow is a time before the first step in which the canary gets copies of users' requests, and nobody sees its answers.
type Shadow struct {
	// Percent of the requests are copied; 0 for no shadow. Hold is the shortest time, from when the canary was ready last.
	Percent int
	Hold    time.Duration
}

// Plan is how a run is to go: what the spec says, in the terms of this package.
type Plan struct {
	Preview Preview
	Shadow  Shadow
	Steps   []Step
	Gates   []Gate
	// Interval is the length of a block, WarmUp the time after a change of weight that is not judged.
	Interval, WarmUp time.Duration
	// Cap is the longest time that a step may wait for evidence.
	Cap time.Duration
	// FalseAlarm bounds the probability of rolling back a healthy canary, Miss that of promoting one at a margin.
	FalseAlarm, Miss float64
	// Sticky says that units keep their variant, so that the share of requests is that of the units and not of the draws.
	Sticky bool
	// Targeted says that others than the units of the canary's buckets meet the canary, so that nobody knows what share of
	// the requests is due.
	Targeted bool
	// RollbackAtCap rolls back instead of pausing when the evidence is inconclusive at the cap.
	RollbackAtCap bool
}

// bounded says whether one observation of a mean by blocks has bounds, so that it is judged by an exact test.
func (g Gate) bounded() bool { return g.Type == Mean && g.paired() && g.Lowest < g.Highest }

// JudgesCopies says whether the evidence of a shadow tells the gate anything: servers count copies and what they cost. But
// nobody hears a copy's prediction, units and their buckets are stable's, and who counts what is sent does not count copies.
func (g Gate) JudgesCopies() bool { return g.byRequest() || g.Type == EnergyPerRequest }

// JudgesCohorts says whether requests of a cohort can be told from others where the gate reads them: in the mesh's own counters.
// By bucket half a cohort is too little.
func (g Gate) JudgesCohorts() bool { return g.byRequest() }

// judgements counts how many times the gate is judged anew: at each step, and before them where there is something to judge.
func (p Plan) judgements(g Gate) int {
	if p.beforehand() && p.untold(g) == "" {
		return len(p.Steps) + 1
	}
	return len(p.Steps)
}

// beforehand says whether there is something to judge before the first step: copies, or a cohort with a control.
func (p Plan) beforehand() bool { return p.Shadow.Percent > 0 || p.Preview.Control > 0 }

// untold says why what there is to judge before the first step tells a gate nothing; empty when it does.
func (p Plan) untold(g Gate) Reason {
	switch {
	case p.Shadow.Percent > 0 && !g.JudgesCopies():
		return NotOfCopies
	case p.Preview.Control > 0 && !g.JudgesCohorts():
		return NotOfCohort
	}
	return ""
}

// missPerStep is the share of Miss that each step's safety side may spend: a fault that needs load shows only at high
// weight, so every step is tested anew and the shares add up to Miss.
func (p Plan) missPerStep() float64 { return p.Miss / float64(max(len(p.Steps), 1)) }

// harmGates counts the gates that share FalseAlarm.
func (p Plan) harmGates() int {
	n := 0
	for _, g := range p.Gates {
		if g.Harms() {
			n++
		}
	}
	return n
}

// Service names the service whose traffic is observed.
type Service struct{ Namespace, Name string }

// Question is what the loop wants to know from the source of evidence: the blocks of all gates between two instants.
type Question struct {
	Service Service
	Gates   []Gate
	// Stable and Canary are the two versions to compare.
	Stable, Canary string
	// From and To lie on the grid of Interval; the answer has one block for each interval between them.
	From, To time.Time
	Interval time.Duration
	// Cohort is the label of the mesh's counters that says "in" or "out" of a cohort; empty where nothing says. Within asks for
	// the cohort's requests, where the gate is judged by them, and not for those of all others.
	Cohort string
	Within bool
	// Copies says that the canary gets copies of requests, which whoever sends them does not count.
	Copies bool
}

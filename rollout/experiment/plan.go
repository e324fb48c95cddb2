package experiment

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// Bounds of a plan.
const (
	MinVariants = 2
	MaxVariants = 10
)

// Variant is one version of the service taking part.
type Variant struct {
	Name, Version string
	// Share is how many of the layer's 100 buckets meet it: 1 to 100.
	Share int
}

// Plan is what an experiment is to find out: what the spec says, in the terms of this package.
type Plan struct {
	// Variants are two to ten; several may share a version (an A/A test).
	Variants []Variant
	// Control is the name of the variant that the others are compared with. It serves the rollout's stable version.
	Control string
	// Objective is what the variants are compared by: a gate of type Mean, ErrorRate, Latency or EnergyPerRequest. Its Margin is
	// not used. It needs a BucketLabel where two variants share a version.
	Objective rollout.Gate
	// SmallestEffect is the smallest relative effect that matters, above 0: with 0.05, ratios between 1/1.05 and 1.05 do not.
	SmallestEffect float64
	// Guardrails are gates that no arm may make worse: of the types of an objective, or Data. Those without a BucketLabel are
	// compared by version, and so say nothing of an arm that has the control's.
	Guardrails []rollout.Gate
	// Assigned is a gate of type SampleRatio whose Count selects the counter of newly assigned units, to test whether the units
	// are shared out as the shares say. Without a name there is no such test. The counter must count a unit once, when it comes,
	// whatever variant it meets: one that counts it again under each version finds all units of the arms new when the
	// experiment begins, and none of the control's.
	Assigned rollout.Gate
	// Interval is the length of a block, WarmUp the time after the beginning that is not judged.
	Interval, WarmUp time.Duration
	// MinDuration is how long the experiment runs before it may end with Winner or NoDifference; MaxDuration when it ends at the
	// latest. Harm and Invalid end it at any time.
	MinDuration, MaxDuration time.Duration
	// FalseAlarm bounds, over all arms and all looks together, the probability of a wrong winner and that of a wrong harm.
	FalseAlarm float64
	// Miss is the error of a guardrail's Pass, which is shown and decides nothing.
	Miss float64
}

// Validate says what is wrong with a plan, naming the field, its value and what was expected.
func (p Plan) Validate() error {
	for _, check := range []func(Plan) error{checkVariants, checkGates, checkNumbers} {
		if err := check(p); err != nil {
			return fmt.Errorf("reading the plan of an experiment: %w", err)
		}
	}
	return nil
}

func checkVariants(p Plan) error {
	if n := len(p.Variants); n < MinVariants || n > MaxVariants {
		return fmt.Errorf("%d variants, expected %d to %d", n, MinVariants, MaxVariants)
	}
	total, names := 0, map[string]bool{}
	for _, v := range p.Variants {
		switch {
		case v.Name == "" || v.Version == "":
			return fmt.Errorf("variant %q with version %q: expected a name and a version", v.Name, v.Version)
		case names[v.Name]:
			return fmt.Errorf("two variants are named %q", v.Name)
		case v.Share < 1 || v.Share > rollout.Buckets:
			return fmt.Errorf("variant %q: share %d, expected 1 to %d", v.Name, v.Share, rollout.Buckets)
		}
		names[v.Name] = true
		total += v.Share
	}
	if total > rollout.Buckets {
		return fmt.Errorf("the shares add up to %d, expected at most %d", total, rollout.Buckets)
	}
	if !names[p.Control] {
		return fmt.Errorf("control %q is none of the variants", p.Control)
	}
	return nil
}

func checkGates(p Plan) error {
	if err := checkGate(p.Objective, objectives); err != nil {
		return fmt.Errorf("objective: %w", err)
	}
	if a, b, ok := p.sameVersion(); ok && !bucketed(p.Objective) {
		return fmt.Errorf("objective %q: variants %q and %q share a version, so only a bucket label can tell them apart", p.Objective.Name, a, b)
	}
	names := map[string]bool{p.Objective.Name: true}
	for _, g := range p.Guardrails {
		if err := checkGate(g, append([]rollout.GateType{rollout.Data}, objectives...)); err != nil {
			return fmt.Errorf("guardrail: %w", err)
		}
		if names[g.Name] {
			return fmt.Errorf("two gates are named %q", g.Name)
		}
		names[g.Name] = true
	}
	if p.Assigned.Name == "" {
		return nil
	}
	if names[p.Assigned.Name] {
		return fmt.Errorf("two gates are named %q", p.Assigned.Name)
	}
	return checkGate(p.Assigned, []rollout.GateType{rollout.SampleRatio})
}

// objectives are the types that variants can be compared by.
var objectives = []rollout.GateType{rollout.Mean, rollout.ErrorRate, rollout.Latency, rollout.EnergyPerRequest}

func checkGate(g rollout.Gate, allowed []rollout.GateType) error {
	switch {
	case g.Name == "":
		return fmt.Errorf("a gate of type %s has no name", g.Type)
	case !slices.Contains(allowed, g.Type):
		return fmt.Errorf("gate %q: type %q, expected one of %v", g.Name, g.Type, allowed)
	case g.HigherIsBetter && g.Type != rollout.Mean:
		return fmt.Errorf("gate %q: of type %s less is better, expected no other direction", g.Name, g.Type)
	case g.Type == rollout.Latency && g.Threshold <= 0:
		return fmt.Errorf("gate %q: threshold %s, expected more than 0", g.Name, g.Threshold)
	}
	return nil
}

func checkNumbers(p Plan) error {
	switch {
	case !(p.SmallestEffect > 0) || math.IsInf(p.SmallestEffect, 1):
		return fmt.Errorf("smallest effect %g, expected more than 0", p.SmallestEffect)
	case !(p.FalseAlarm > 0 && p.FalseAlarm < 1):
		return fmt.Errorf("false alarm %g, expected between 0 and 1", p.FalseAlarm)
	case p.Interval <= 0:
		return fmt.Errorf("interval %s, expected more than 0", p.Interval)
	case p.MinDuration < 0 || p.WarmUp < 0:
		return fmt.Errorf("minimum duration %s and warm-up %s, expected at least 0", p.MinDuration, p.WarmUp)
	case p.MaxDuration <= 0 || p.MaxDuration < p.MinDuration:
		return fmt.Errorf("maximum duration %s, expected more than 0 and at least the minimum of %s", p.MaxDuration, p.MinDuration)
	}
	return nil
}

// sameVersion names two variants that share a version.
func (p Plan) sameVersion() (a, b string, ok bool) {
	byVersion := map[string]string{}
	for _, v := range p.Variants {
		if first, ok := byVersion[v.Version]; ok {
			return first, v.Name, true
		}
		byVersion[v.Version] = v.Name
	}
	return "", "", false
}

// control returns the index of the control among the variants.
func (p Plan) control() int {
	return max(0, slices.IndexFunc(p.Variants, func(v Variant) bool { return v.Name == p.Control }))
}

// arms returns the indexes of the other variants, ascending.
func (p Plan) arms() []int {
	out := make([]int, 0, len(p.Variants))
	for i := range p.Variants {
		if i != p.control() {
			out = append(out, i)
		}
	}
	return out
}

// armOf returns the place of variant i among the arms.
func (p Plan) armOf(i int) int {
	if i > p.control() {
		return i - 1
	}
	return i
}

func (p Plan) shares() []int {
	out := make([]int, len(p.Variants))
	for i, v := range p.Variants {
		out[i] = v.Share
	}
	return out
}

// perArm is each arm's share of FalseAlarm (Bonferroni), so that it holds over all arms together.
func (p Plan) perArm() float64 { return p.FalseAlarm / float64(max(1, len(p.Variants)-1)) }

// bucketed says whether the counts of a gate tell which bucket they belong to.
func bucketed(g rollout.Gate) bool {
	return g.BucketLabel != "" && (g.Type == rollout.Mean || g.Type == rollout.ErrorRate || g.Type == rollout.SampleRatio)
}

// Defaults of what a gate needs to be judged and a plan may leave out.
const (
	defaultMargin    = 1.5
	defaultTolerance = 0.01
	defaultMiss      = 0.05
)

// gates returns what is judged of arm i, the objective first.
func (p Plan) gates(i int) []rollout.Gate {
	out := []rollout.Gate{p.objective()}
	same := p.Variants[i].Version == p.Variants[p.control()].Version
	for _, g := range p.Guardrails {
		if same && !bucketed(g) {
			continue
		}
		out = append(out, complete(g))
	}
	return out
}

func (p Plan) objective() rollout.Gate {
	g := complete(p.Objective)
	g.Margin = 1 + p.SmallestEffect
	return g
}

func complete(g rollout.Gate) rollout.Gate {
	if g.Margin <= 1 {
		g.Margin = defaultMargin
	}
	if g.Tolerance <= 0 || g.Tolerance >= 1 {
		g.Tolerance = defaultTolerance
	}
	return g
}

// plan returns arm i's plan against the control: a single step, as rollout.Judge takes it.
func (p Plan) plan(i int) rollout.Plan {
	miss := p.Miss
	if miss <= 0 || miss >= 1 {
		miss = defaultMiss
	}
	return rollout.Plan{
		Targeted: true, // the control's version also answers the other buckets; whether the shares hold is what units tell
		Steps:    []rollout.Step{{Weight: p.Variants[i].Share}}, Gates: p.gates(i), Interval: p.Interval, WarmUp: p.WarmUp,
		Cap: p.MaxDuration, FalseAlarm: p.perArm(), Miss: miss,
	}
}

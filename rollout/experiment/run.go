package experiment

import (
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// Run is one experiment from its allocation to its verdict: all that the next process needs to go on with it.
type Run struct {
	ID string
	// Started is when the routes first showed the variants; the durations count from here.
	Started time.Time
	// InForceSince is when they showed them again after the last interruption; Started where there was none. No block that
	// began earlier is judged any more.
	InForceSince time.Time
	// LastBlock is the end of the last block that was counted or passed over. None that ends at or before it counts again.
	LastBlock time.Time
	// Buckets are those of each variant, in the plan's order. They never change while the experiment runs.
	Buckets [][]int
	// Meets is how many of the 100 buckets meet the version of each variant, wherever they belong; see In.
	Meets    []int
	Evidence Evidence
}

// Begin allocates the buckets of an experiment that starts now. The id seeds the allocation. The error is a *NotEnoughError
// when the layer has too few free buckets.
func Begin(id string, p Plan, l Layer, now time.Time) (Run, error) {
	if err := p.Validate(); err != nil {
		return Run{}, err
	}
	buckets, err := Allocate(id, p.shares(), l)
	if err != nil {
		return Run{}, err
	}
	return Start(id, p, buckets, now).In(p, l), nil
}

// Start returns the run of an experiment with the given buckets of each variant, whose routes show them since now. Its first
// questions reach back before that, where a gate is judged by bucket: they tell what the buckets were before.
func Start(id string, p Plan, buckets [][]int, now time.Time) Run {
	r := Run{ID: id, Started: now, InForceSince: now, Buckets: buckets, Meets: Layer{}.meets(p)}
	r.LastBlock = rollout.Begin(id, p.plan(p.arms()[0]), now).LastBlock
	return r
}

// In returns the run as the rest of its layer stands now. Call it before Count when other experiments begin or end: where units
// are counted by version only, their buckets change what the shares should be.
func (r Run) In(p Plan, l Layer) Run {
	r.Meets = l.meets(p)
	return r
}

// arm returns the rollout's run of arm i against the control, without evidence.
func (r Run) arm(p Plan, i int) rollout.Run {
	plan := p.plan(i)
	run := rollout.Begin(r.ID, plan, r.Started)
	return run.After(plan, rollout.Outcome{Decision: rollout.Advance}, r.InForceSince)
}

// Questions returns what to ask the source of evidence for: one question for each variant but the control, in the plan's order,
// about the blocks between the last one counted and to. Count takes the answers in the same order.
func (r Run) Questions(p Plan, s rollout.Service, to time.Time) []rollout.Question {
	control := p.Variants[p.control()]
	out := make([]rollout.Question, 0, len(p.Variants))
	for _, i := range p.arms() {
		gates := p.gates(i)
		if p.Assigned.Name != "" {
			gates = append(gates, p.Assigned)
		}
		out = append(out, rollout.Question{
			Service: s, Gates: gates, Stable: control.Version, Canary: p.Variants[i].Version,
			From: rollout.GridFloor(r.LastBlock, p.Interval), To: rollout.GridFloor(to, p.Interval), Interval: p.Interval,
		})
	}
	return out
}

// What follows reads a run whose evidence may be younger than its plan, or none yet.

func (r Run) buckets(i int) []int {
	if i >= len(r.Buckets) {
		return nil
	}
	return r.Buckets[i]
}

func (r Run) units(i int) float64 {
	if i >= len(r.Evidence.Units) {
		return 0
	}
	return r.Evidence.Units[i]
}

// evidence returns that of the n-th arm.
func (r Run) evidence(n int) rollout.Evidence {
	if n >= len(r.Evidence.Arms) {
		return rollout.Evidence{}
	}
	return r.Evidence.Arms[n].Evidence
}

// trail returns the objective's trail of the n-th arm.
func (r Run) trail(p Plan, n int) rollout.Trail {
	for _, t := range r.evidence(n).Trails {
		if t.Gate == p.Objective.Name {
			return t
		}
	}
	return rollout.Trail{}
}

func (r Run) dirty(n int) int {
	if n >= len(r.Evidence.Arms) {
		return 0
	}
	return r.Evidence.Arms[n].Dirty
}

// contaminated returns the share of the n-th arm's observations that were made under the wrong version.
func (r Run) contaminated(n int) float64 {
	if n >= len(r.Evidence.Arms) || r.Evidence.Arms[n].Wrong == 0 {
		return 0
	}
	a := r.Evidence.Arms[n]
	return a.Wrong / (a.Wrong + a.Right)
}

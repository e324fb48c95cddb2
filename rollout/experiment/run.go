package experiment

import (
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// Run is one experiment from its allocation to its verdict: all that the next process needs to go on with it.
type Run struct {
	ID string
	// Started is when the buckets were given to the variants.
	Started time.Time
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
	shares := make([]int, len(p.Variants))
	for i, v := range p.Variants {
		shares[i] = v.Share
	}
	buckets, err := Allocate(id, shares, l)
	if err != nil {
		return Run{}, err
	}
	r := Run{ID: id, Started: now, Buckets: buckets, Meets: l.meets(p)}
	r.LastBlock = r.arm(p, p.arms()[0]).LastBlock
	return r, nil
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
	return run.After(plan, rollout.Outcome{Decision: rollout.Advance}, r.Started)
}

// Questions returns what to ask the source of evidence for: one question for each variant but the control, in the plan's order,
// about the blocks between the last one counted and to. Count takes the answers in the same order.
func (r Run) Questions(p Plan, s rollout.Service, to time.Time) []rollout.Question {
	control := p.Variants[p.control()]
	var out []rollout.Question
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

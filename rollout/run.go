package rollout

import "time"

// Run is one passage from a stable version to a wanted one: all that the next process needs to go on with it.
type Run struct {
	ID string
	// Step is the number of the present step, from 1; 0 before the first, while no unit sees the canary.
	Step int
	// Started is when the run began, StepStarted when the present weight was decided, Waiting when the cap's clock began.
	Started, StepStarted, Waiting time.Time
	// LastBlock is the end of the last block that was counted or passed over. None that ends at or before it counts again.
	LastBlock time.Time
	// Paused is why the run waits for somebody; empty when it does not.
	Paused   Reason
	PausedAt time.Time
	Evidence Evidence
}

// Begin returns a run that has not yet sent any unit to the canary.
func Begin(id string, p Plan, now time.Time) Run {
	return Run{
		ID: id, Started: now, StepStarted: now, Waiting: now,
		LastBlock: GridFloor(now, p.Interval), Evidence: Evidence{}.fit(p),
	}
}

// Weight is the number of buckets of 100 that see the canary.
func (r Run) Weight(p Plan) int {
	if r.Step < 1 {
		return 0
	}
	return p.step(r.Step).Weight
}

// Count returns the run with the blocks added to its evidence. Each block counts once: one that ends at or before
// LastBlock is passed over, and so is one that began before the present weight had been in force for the warm-up (the
// block of the change itself among them). It shares no memory with r.
func (r Run) Count(p Plan, blocks []Block) Run {
	r.Evidence = r.Evidence.fit(p)
	from := r.StepStarted.Add(p.WarmUp)
	for _, b := range blocks {
		if !b.End.After(r.LastBlock) {
			continue
		}
		r.LastBlock = b.End
		if r.Step < 1 || b.Start.Before(from) {
			continue
		}
		r.Evidence.count(p, b)
	}
	return r
}

func (e Evidence) count(p Plan, b Block) {
	next := 0
	for _, g := range p.Gates {
		if !g.judged() {
			continue
		}
		if c, ok := b.Counts[g.Name]; ok {
			e.Trails[next].count(g, c, b.End)
		}
		next++
	}
}

// After returns the run after a decision: its Step and Paused are what the mesh and the status must show. Promote and
// Rollback end a run, so they leave it as it is.
func (r Run) After(p Plan, o Outcome, now time.Time) Run {
	switch o.Decision {
	case Advance:
		r.Evidence = r.Evidence.fit(p)
		if r.Step > 0 {
			r.Evidence.nextStep(p)
		}
		r.Step++
		r.StepStarted, r.Waiting = now, now
		r.Paused, r.PausedAt = "", time.Time{}
	case Pause:
		if r.Paused == "" {
			r.PausedAt = now
		}
		r.Paused = o.Reason
	case Hold:
		if o.Reason == Resumed {
			r.Paused, r.PausedAt, r.Waiting = "", time.Time{}, now
		}
	case Promote, Rollback:
	}
	return r
}

func (e Evidence) nextStep(p Plan) {
	next := 0
	for _, g := range p.Gates {
		if g.judged() {
			e.Trails[next].nextStep(g, len(p.Steps))
			next++
		}
	}
}

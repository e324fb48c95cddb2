package rollout

import (
	"slices"
	"time"
)

// Run is one passage from a stable version to a wanted one: all that the next process needs to go on with it.
type Run struct {
	ID string
	// Step is the number of the present step, from 1; 0 before the first, while no unit sees the canary.
	Step int
	// Weight is the number of buckets of 100 that see the canary: what the plan had for the step when it began.
	Weight int
	// Started is when the run began, StepStarted when the present weight was decided, Waiting when the cap's clock began:
	// with the step, anew when somebody resumes, and not before an approval has come.
	Started, StepStarted, Waiting time.Time
	// LastBlock is the end of the last block that was counted or passed over. None that ends at or before it counts again.
	LastBlock time.Time
	// Paused is why the run waits for somebody; empty when it does not.
	Paused   Reason
	PausedAt time.Time
	// NotReadySince is since when the run has waited for the canary alone; zero while it does not.
	NotReadySince time.Time
	Evidence      Evidence
	// Share is what telemetry says of the present weight; Spreading is when the mesh last said that not every proxy has it.
	Share     Share
	Spreading time.Time
	// Shown is since when the objects of the mesh show the present weight; zero while they do not, or nobody has looked.
	Shown time.Time
}

// Since is when the present weight was written, as far as anybody knows: what is to last some time begins then.
func (r Run) Since() time.Time {
	if r.Shown.After(r.StepStarted) {
		return r.Shown
	}
	return r.StepStarted
}

// Begin returns a run that has not yet sent any unit to the canary. Where a gate is judged by bucket, its first blocks lie
// before it: they tell what the buckets were before.
func Begin(id string, p Plan, now time.Time) Run {
	last := GridFloor(now, p.Interval)
	if slices.ContainsFunc(p.Gates, Gate.bucketed) {
		last = last.Add(-pastBlocks * p.Interval)
	}
	return Run{ID: id, Started: now, StepStarted: now, Waiting: now, LastBlock: last, Evidence: Evidence{}.fit(p)}
}

// pastBlocks is how many blocks before the run tell what a bucket was before.
const pastBlocks = 40

// Shadowed says whether the canary is in its shadow: it gets copies of requests, once it is ready.
func (r Run) Shadowed(p Plan) bool { return r.Step == 0 && p.Shadow.Percent > 0 }

// beforehand says whether the gates have something to judge although no unit has been drawn to the canary yet.
func (r Run) beforehand(p Plan) bool { return r.Step == 0 && p.beforehand() }

// Planned is the weight that the plan has for the present step: another one than Weight when the plan was changed since.
func (r Run) Planned(p Plan) int {
	if r.Step < 1 {
		return 0
	}
	return p.step(r.Step).Weight
}

// Count returns the run with the blocks added to its evidence. Each block counts once: one that ends at or before
// LastBlock is passed over, and so is one that began before the present weight had been in force for the warm-up (the
// block of the change itself among them). What ended before the canary met its first unit is the buckets' own past; in a
// shadow, or of a cohort with a control, it is also judged, by the gates that can. Of a block at whose end the weight had not shown yet only what harms is
// counted. It shares no memory with r.
func (r Run) Count(p Plan, blocks []Block) Run {
	r.Evidence = r.Evidence.fit(p)
	from := r.StepStarted.Add(p.WarmUp)
	for _, b := range blocks {
		if !b.End.After(r.LastBlock) {
			continue
		}
		r.LastBlock = b.End
		switch {
		case r.beforehand(p) && !b.Start.Before(from):
			r.Evidence.countBeforehand(p, b)
		case r.Step < 1 || (r.Step == 1 && !b.End.After(r.StepStarted)):
			r.Evidence.each(p, func(t *Trail, g Gate) { t.remember(g, b.Counts[g.Name]) })
		case !b.Start.Before(from):
			r.Evidence.count(p, b, r.Weight, r.realised(p, b))
		}
	}
	return r
}

func (e Evidence) count(p Plan, b Block, weight int, realised bool) {
	e.each(p, func(t *Trail, g Gate) {
		if c, ok := b.Counts[g.Name]; ok {
			t.count(g, c, b.End, weight, realised)
		}
	})
}

// countBeforehand adds a block of copies or of a cohort: to gates that cannot judge it, it is the buckets' past. No weight is to
// show.
func (e Evidence) countBeforehand(p Plan, b Block) {
	e.each(p, func(t *Trail, g Gate) {
		c, ok := b.Counts[g.Name]
		switch {
		case p.untold(g) != "":
			t.remember(g, c)
		case ok:
			t.count(g, c, b.End, 0, true)
		}
	})
}

// each calls do with every judged gate and its trail.
func (e Evidence) each(p Plan, do func(*Trail, Gate)) {
	next := 0
	for _, g := range p.Gates {
		if g.judged() {
			do(&e.Trails[next], g)
			next++
		}
	}
}

// After returns the run after a decision: its Step and Paused are what the mesh and the status must show. Promote and
// Rollback end a run, so they leave it as it is.
func (r Run) After(p Plan, o Outcome, now time.Time) Run {
	switch {
	case o.Reason != CanaryNotReady && o.Reason != AwaitingCanary:
		r.NotReadySince = time.Time{}
	case r.NotReadySince.IsZero():
		r.NotReadySince = now
	}
	switch o.Decision {
	case Advance:
		r.Step++
		r = r.begin(p, now)
		r.Paused, r.PausedAt = "", time.Time{}
	case Pause:
		if r.Paused == "" {
			r.PausedAt = now
		}
		r.Paused = o.Reason
	case Hold:
		if o.Reason == CanaryNotReady && r.Step == 0 {
			r.StepStarted = now // nobody could look at it
		}
		if o.Reason == AwaitingPromotion {
			r.Waiting = now // for a person; nothing else has to happen before the first step
		}
		if o.Reason == StepChanged {
			r.Step = min(r.Step, len(p.Steps))
			r = r.begin(p, now)
		}
		if o.Reason == Resumed {
			r.Paused, r.PausedAt, r.Waiting = "", time.Time{}, now
		}
	case Promote, Rollback:
	}
	return r
}

// begin begins the step that the run has come to, at the plan's weight. What was counted before is no evidence of it.
func (r Run) begin(p Plan, now time.Time) Run {
	r.Evidence = r.Evidence.fit(p)
	r.Evidence.each(p, func(t *Trail, g Gate) {
		if r.Weight > 0 || !t.StableData.IsZero() || !t.CanaryData.IsZero() { // before the first step only copies and cohorts count
			t.nextStep(g, p.judgements(g))
		}
	})
	r.Share = r.Share.next(r.Weight)
	r.Weight = r.Planned(p)
	r.StepStarted, r.Waiting, r.Shown = now, now, time.Time{}
	return r
}

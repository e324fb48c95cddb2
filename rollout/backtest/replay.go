package backtest

import (
	"math"
	"slices"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// Source gives the blocks of a run, each once and in order.
type Source interface {
	// Block returns the block of the interval [start, end), in which the run had the canary at a weight; a record has the
	// weight that it was made at and passes over this one. ok is false beyond its end.
	Block(start, end time.Time, weight int) (b rollout.Block, ok bool)
}

// Truth is a Source that knows what is wrong with the canary.
type Truth interface {
	Source
	// Information returns how much a block at a weight tells of the difference between the versions, in nats: the mean of the
	// log likelihood ratio under what is true. It is zero while there is no difference.
	Information(b rollout.Block, weight int) float64
}

// Options say how a run is replayed.
type Options struct {
	Plan rollout.Plan
	// RunID orders the buckets. It must be the simulator's.
	RunID string
	// Start is when the run begins. The first step comes a millisecond later, since the canary is ready.
	Start time.Time
	// Lag is how long after its end a block is complete; 5 s by default, as the controller's.
	Lag time.Duration
	// Longest ends the replay; without it only the plan or the source does.
	Longest time.Duration
}

// Ending is how a replay ended.
type Ending string

// The endings.
const (
	Promoted   Ending = "Promoted"
	RolledBack Ending = "RolledBack"
	// Paused runs wait for somebody, such as those that are inconclusive at the cap. Nobody comes in a replay.
	Paused Ending = "Paused"
	// Unfinished runs had not ended when the record did.
	Unfinished Ending = "Unfinished"
)

// Record is what became of one run.
type Record struct {
	Ending  Ending
	Reason  rollout.Reason
	Message string
	// Start and End are when the run began and when the decision fell that ended it.
	Start, End time.Time
	// Changes are the weights that the run went through.
	Changes []Change
	// Findings are what the gates said at the end.
	Findings []rollout.Finding
	// Requests are all that were counted from Start to End, Exposed those of them that met the canary.
	Requests, Exposed float64

	// Harmful says that the source knew of a difference while units met the canary; Onset is the start of the first such block.
	Harmful bool
	Onset   time.Time
	// Limit is how long after Onset, at the traffic and the weights of this run, the information reaches ln(1/FalseAlarm):
	// no judge that keeps to its false alarms is quicker in the mean (Wald 1945). Zero where it is not known.
	Limit time.Duration
}

// Change is a weight that came into force.
type Change struct {
	At           time.Time
	Step, Weight int
}

// Exposure is the share of the requests that met the canary.
func (r Record) Exposure() float64 {
	if r.Requests == 0 {
		return 0
	}
	return r.Exposed / r.Requests
}

// Delay is the time from the onset to the end.
func (r Record) Delay() time.Duration { return r.End.Sub(r.Onset) }

// stored is how long after a run begins its first step comes: the controller stores the run first.
const stored = time.Millisecond

// Replay drives one run over the blocks of a source, by the passes that the controller would make: as soon as a block is
// complete it counts, judges, decides and goes on. The canary is always ready, nobody asks for anything and no alert fires.
func Replay(o Options, source Source) Record {
	if o.Lag <= 0 {
		o.Lag = 5 * time.Second
	}
	p := &player{Options: o, source: source, run: rollout.Begin(o.RunID, o.Plan, o.Start)}
	p.truth, _ = source.(Truth)
	p.record = Record{Ending: Unfinished, Start: o.Start}
	p.need = math.Log(1 / o.Plan.FalseAlarm)
	for now := o.Start.Add(stored); ; now = p.after(now) {
		if !p.pass(now) {
			return p.close(now)
		}
	}
}

// player is a replay that goes on.
type player struct {
	Options
	source Source
	truth  Truth
	run    rollout.Run
	record Record
	// advanced says that the last pass began another step.
	advanced bool

	// need is the information that is still missing, rate what comes in a second of the last block that had any.
	need, rate float64
}

// after returns the time of the next pass: when the next block is complete.
func (p *player) after(now time.Time) time.Time {
	return rollout.GridFloor(now.Add(-p.Lag), p.Plan.Interval).Add(p.Plan.Interval + p.Lag)
}

// pass is one turn of the loop. It returns false when the replay has ended.
func (p *player) pass(now time.Time) bool {
	if p.Longest > 0 && now.Sub(p.Start) > p.Longest {
		return false
	}
	blocks, ok := p.blocks(now)
	if !ok {
		return false
	}
	if !p.known(now) {
		p.run = p.run.Count(p.Plan, blocks)
		p.record.Findings = rollout.Judge(p.Plan, p.run, nil, now)
	}
	outcome := rollout.Decide(rollout.Situation{Plan: p.Plan, Run: p.run, Findings: p.record.Findings, CanaryReady: true, Now: now})
	p.record.Reason, p.record.Message = outcome.Reason, outcome.Message
	switch outcome.Decision {
	case rollout.Promote:
		p.record.Ending = Promoted
		return false
	case rollout.Rollback:
		p.record.Ending = RolledBack
		return false
	case rollout.Pause:
		p.record.Ending = Paused
		return false
	case rollout.Hold, rollout.Advance:
	}
	p.run = p.run.After(p.Plan, outcome, now)
	if p.advanced = outcome.Decision == rollout.Advance; p.advanced {
		p.record.Changes = append(p.record.Changes, Change{At: now, Step: p.run.Step, Weight: p.run.Weight})
	}
	return true
}

// known says whether what was counted before rolls back already: then nothing more is counted. It was looked at in the pass
// before, and can have changed only if that pass has begun another step.
func (p *player) known(now time.Time) bool {
	if !p.advanced {
		return false
	}
	p.record.Findings = rollout.Judge(p.Plan, p.run, nil, now)
	return slices.ContainsFunc(p.record.Findings, func(f rollout.Finding) bool { return f.Verdict == rollout.Harm })
}

// blocks takes from the source what has become complete since the last pass.
func (p *player) blocks(now time.Time) ([]rollout.Block, bool) {
	var out []rollout.Block
	to := rollout.GridFloor(now.Add(-p.Lag), p.Plan.Interval)
	for start := p.run.LastBlock; start.Before(to); start = start.Add(p.Plan.Interval) {
		weight := p.run.Weight
		b, ok := p.source.Block(start, start.Add(p.Plan.Interval), weight)
		if !ok {
			return nil, false
		}
		p.see(b, weight)
		out = append(out, b)
	}
	return out, true
}

// see notes the requests of a block and what it tells.
func (p *player) see(b rollout.Block, weight int) {
	if b.End.After(p.Start) {
		stable, canary := requests(p.Plan, b)
		p.record.Requests += stable + canary
		p.record.Exposed += canary
	}
	if p.truth == nil {
		return
	}
	told := p.truth.Information(b, weight)
	if !(told > 0) {
		return
	}
	if !p.record.Harmful {
		p.record.Harmful, p.record.Onset = true, b.Start
	}
	if p.record.Limit > 0 {
		return
	}
	length := b.End.Sub(b.Start)
	p.rate = told / length.Seconds()
	if told >= p.need {
		p.record.Limit = b.Start.Sub(p.record.Onset) + time.Duration(p.need/told*float64(length))
	}
	p.need -= told
}

// requests returns how many of both versions a block has counted, by the first gate that counts requests.
func requests(plan rollout.Plan, b rollout.Block) (stable, canary float64) {
	for _, g := range plan.Gates {
		c, ok := b.Counts[g.Name]
		if !ok || g.Type == rollout.SampleRatio {
			continue
		}
		if s, c := size(c.Stable), size(c.Canary); s+c > 0 {
			return s, c
		}
	}
	return 0, 0
}

func size(a rollout.Arm) float64 {
	if a.Requests > 0 {
		return a.Requests
	}
	n := 0.0
	for _, b := range a.Buckets {
		n += b.Count
	}
	return n
}

// close ends the record. A run that was quicker than the limit is taken to have gone on as it was at the end.
func (p *player) close(now time.Time) Record {
	p.record.End = now
	if p.record.Harmful && p.record.Limit == 0 && p.rate > 0 {
		seen := rollout.GridFloor(now.Add(-p.Lag), p.Plan.Interval).Sub(p.record.Onset)
		p.record.Limit = max(0, seen) + time.Duration(p.need/p.rate*float64(time.Second))
	}
	return p.record
}

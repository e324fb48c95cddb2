package backtest

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// Tape is a record of blocks, in the order of time and without gaps. It is a Source: it gives the blocks as they were
// counted, at the weights of then.
type Tape []rollout.Block

// Block returns the recorded block that begins at start. What was before the record is an empty block.
func (t Tape) Block(start, end time.Time, _ int) (rollout.Block, bool) {
	if len(t) > 0 && start.Before(t[0].Start) {
		return rollout.Block{Start: start, End: end}, true
	}
	i, ok := slices.BinarySearchFunc(t, start, func(b rollout.Block, at time.Time) int { return b.Start.Compare(at) })
	if !ok {
		return rollout.Block{}, false
	}
	return t[i], true
}

// Splitter is a Source that splits the stable version's recorded traffic anew, by the weights of the run: nothing is wrong
// with the "canary" but the fault that it is given, and everything else is as it was. Buckets go to the canary as a whole, as in
// a run; where there are none each request is drawn. It is not safe for concurrent use.
type Splitter struct {
	tape  Tape
	start time.Time
	gates []rollout.Gate
	fault Fault
	rand  *rand.Rand
	place [rollout.Buckets]int
}

// Resample returns a splitter of a record in which a run begins at start. Of the fault only Errors, From and MinWeight can be
// given to recorded traffic; the run's id orders the buckets.
func (t Tape) Resample(gates []rollout.Gate, f Fault, runID string, start time.Time, r *rand.Rand) *Splitter {
	s := &Splitter{tape: t, start: start, gates: gates, fault: f, rand: r}
	for i, b := range rollout.Order(runID) {
		s.place[b] = i
	}
	return s
}

// Resamples says whether a gate's counts can be split anew: those of requests and of buckets can, sums over all units cannot.
func Resamples(g rollout.Gate) bool {
	switch g.Type {
	case rollout.ErrorRate, rollout.Latency, rollout.Alerts:
		return true
	case rollout.Mean:
		return g.BucketLabel != ""
	case rollout.EnergyPerRequest, rollout.SampleRatio, rollout.Data:
	}
	return false
}

// Block returns the recorded block with its stable traffic split.
func (s *Splitter) Block(start, end time.Time, weight int) (rollout.Block, bool) {
	b, ok := s.tape.Block(start, end, weight)
	if !ok {
		return b, false
	}
	out := rollout.Block{Start: b.Start, End: b.End, Counts: map[string]rollout.Counts{}}
	f := s.at(b, weight)
	for _, g := range s.gates {
		c, ok := b.Counts[g.Name]
		if !ok || !Resamples(g) || g.Type == rollout.Alerts {
			continue
		}
		next := rollout.Counts{Bounds: c.Bounds}
		if c.Stable.Buckets != nil {
			next.Stable, next.Canary = s.splitBuckets(g, c.Stable, weight, f)
		} else {
			next.Stable, next.Canary = s.splitRequests(g, c.Stable, weight, f)
		}
		out.Counts[g.Name] = next
	}
	return out, true
}

// at returns the fault as it shows in a block.
func (s *Splitter) at(b rollout.Block, weight int) Fault {
	return s.fault.at(b.Start.Sub(s.start), weight)
}

// splitRequests draws which requests meet the canary: first how many, then how many of those with an event, bound by bound. An
// event of a higher bound is one of those of the bound below.
func (s *Splitter) splitRequests(g rollout.Gate, a rollout.Arm, weight int, f Fault) (stable, canary rollout.Arm) {
	canary.Requests = binomial(s.rand, a.Requests, float64(weight)/100)
	stable.Requests = a.Requests - canary.Requests
	stable.Sent, canary.Sent = stable.Requests, canary.Requests
	of, taken := a.Requests, canary.Requests
	for _, e := range a.Events {
		e = min(e, of)
		x := hypergeometric(s.rand, of, e, taken)
		canary.Events, stable.Events = append(canary.Events, x), append(stable.Events, e-x)
		of, taken = e, x
	}
	if g.Type == rollout.ErrorRate && len(canary.Events) == 1 {
		canary.Events[0] = s.worsen(canary.Events[0], canary.Requests, f, rateOf(a))
	}
	return stable, canary
}

// splitBuckets gives the canary the first buckets of the run's order.
func (s *Splitter) splitBuckets(g rollout.Gate, a rollout.Arm, weight int, f Fault) (stable, canary rollout.Arm) {
	for _, b := range a.Buckets {
		to := &stable
		if s.place[b.Bucket] < weight {
			to = &canary
			if g.Type == rollout.ErrorRate {
				b.Sum = s.worsen(b.Sum, b.Count, f, rateOf(a))
			}
		}
		to.Buckets = append(to.Buckets, b)
		to.Requests, to.Sent = to.Requests+b.Count, to.Sent+b.Count
		if g.Type == rollout.ErrorRate {
			to.Events = []float64{b.Sum + eventsOf(*to)}
		}
	}
	return stable, canary
}

// worsen adds errors to those that were recorded, so that their rate becomes that of the block times the fault's ratio.
func (s *Splitter) worsen(errors, requests float64, f Fault, rate float64) float64 {
	if f.Errors <= 1 || rate >= 1 {
		return errors
	}
	sound := requests - errors
	return errors + binomial(s.rand, sound, min(1, rate*(f.Errors-1)/(1-rate)))
}

func eventsOf(a rollout.Arm) float64 {
	if len(a.Events) == 0 {
		return 0
	}
	return a.Events[0]
}

// rateOf returns the share of an arm's requests with the first event.
func rateOf(a rollout.Arm) float64 {
	if n := size(a); n > 0 {
		if len(a.Events) > 0 {
			return a.Events[0] / n
		}
	}
	return 0
}

// Information returns what a block tells of the errors that were added, at the rate of the block.
func (s *Splitter) Information(b rollout.Block, weight int) float64 {
	f := s.at(b, weight)
	if f.Errors <= 1 || weight == 0 {
		return 0
	}
	sum := 0.0
	recorded, ok := s.tape.Block(b.Start, b.End, weight)
	if !ok {
		return 0
	}
	for _, g := range s.gates {
		c := b.Counts[g.Name]
		nc, ns := size(c.Canary), size(c.Stable)
		if g.Type != rollout.ErrorRate || nc <= 0 || ns <= 0 {
			continue
		}
		p := rateOf(recorded.Counts[g.Name].Stable)
		sum += rateInformation(nc, min(1, p*f.Errors), ns, p)
	}
	return sum
}

// hypergeometric draws how many of the marked ones are among those taken out of all, exactly: one at a time, of whichever is
// the smallest of the groups, which are alike.
func hypergeometric(r *rand.Rand, all, marked, taken float64) float64 {
	switch {
	case marked > all/2:
		return taken - hypergeometric(r, all, all-marked, taken)
	case taken > all/2:
		return marked - hypergeometric(r, all, marked, all-taken)
	case marked > taken:
		marked, taken = taken, marked
	}
	x, left, free := 0.0, all, taken
	for range int(marked) {
		if r.Float64()*left < free {
			x, free = x+1, free-1
		}
		left--
	}
	return x
}

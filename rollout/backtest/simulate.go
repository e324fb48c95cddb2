package backtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// Simulator draws the blocks of one run. It is not safe for concurrent use.
type Simulator struct {
	traffic Traffic
	gates   []rollout.Gate
	rand    *rand.Rand
	start   time.Time

	// place is each bucket's place in the order in which buckets join the canary.
	place [rollout.Buckets]int
	// cells are what each bucket's users send; effects what is peculiar to a bucket in a mean.
	cells   [rollout.Buckets]cell
	effects [rollout.Buckets]float64
	// bucketed says that some gate needs counts by bucket.
	bucketed bool
}

// cell is a share of all requests: of users like others, and of users whose requests always fail.
type cell struct{ sound, failing float64 }

// Simulate returns the simulator of one run of the traffic that begins at start. The run's id orders the buckets, and the
// gates say what is counted.
func Simulate(t Traffic, gates []rollout.Gate, runID string, start time.Time, r *rand.Rand) *Simulator {
	s := &Simulator{traffic: t, gates: gates, rand: r, start: start}
	for i, b := range rollout.Order(runID) {
		s.place[b] = i
	}
	s.settle(runID)
	for b := range s.effects {
		s.effects[b] = lognormal(r, t.Mean.BetweenBuckets)
	}
	s.bucketed = slices.ContainsFunc(gates, func(g rollout.Gate) bool {
		return g.BucketLabel != "" && (g.Type == rollout.Mean || g.Type == rollout.ErrorRate)
	})
	return s
}

// settle gives every user a bucket and every bucket its share of the requests.
func (s *Simulator) settle(salt string) {
	u := s.traffic.Users
	if u.Count <= 0 {
		for b := range s.cells {
			s.cells[b].sound = 1.0 / rollout.Buckets
		}
		return
	}
	total := 0.0
	for i := range u.Count {
		c := &s.cells[rollout.BucketOf(salt, fmt.Sprintf("user-%d", i))]
		activity := lognormal(s.rand, u.Activity)
		total += activity
		if s.rand.Float64() < u.Failing {
			c.failing += activity
		} else {
			c.sound += activity
		}
	}
	for b := range s.cells {
		s.cells[b].sound /= total
		s.cells[b].failing /= total
	}
}

// Block draws the block of the interval [start, end) at a weight: that many buckets of 100 see the canary in all of it.
func (s *Simulator) Block(start, end time.Time, weight int) (rollout.Block, bool) {
	at := start.Sub(s.start)
	sent := s.traffic.Requests.At(at) * end.Sub(start).Seconds()
	units := s.traffic.NewUnits.At(at) * end.Sub(start).Seconds()
	if s.idle(at) {
		sent, units = 0, 0
	}
	// What both versions share within a block.
	mean, energy := lognormal(s.rand, s.traffic.Mean.BetweenBlocks), lognormal(s.rand, s.traffic.Energy.BetweenBlocks)
	stable := &side{s: s, at: at, fault: healthy, mean: mean, energy: energy, units: units * (1 - float64(weight)/100)}
	canary := &side{s: s, at: at, fault: s.traffic.Fault.at(at, weight), mean: mean, energy: energy, units: units * float64(weight) / 100}
	stable.send(sent, weight, rollout.Buckets)
	canary.send(sent, 0, weight)

	b := rollout.Block{Start: start, End: end, Counts: make(map[string]rollout.Counts, len(s.gates))}
	for _, g := range s.gates {
		if g.Type == rollout.Alerts {
			continue
		}
		c := rollout.Counts{Stable: stable.arm(g), Canary: canary.arm(g)}
		if g.Type == rollout.Latency {
			c.Bounds = s.traffic.Latency.Bounds
		}
		b.Counts[g.Name] = c
	}
	return b, true
}

func (s *Simulator) idle(at time.Duration) bool {
	return slices.ContainsFunc(s.traffic.Idle, func(p Period) bool { return at >= p.From && at < p.To })
}

// side is what one variant does within one block.
type side struct {
	s            *Simulator
	at           time.Duration
	fault        Fault
	mean, energy float64 // factors of this block
	units        float64 // mean number of units newly assigned

	requests, errors float64
	buckets          []rollout.BucketSum // errors and requests by bucket, ascending; nil when no gate asks
}

// send draws the requests and errors of the buckets whose place in the order is in [from, to), of all that are sent.
// The sum of Poisson numbers is one, so without buckets to tell apart the side is drawn as a whole.
func (d *side) send(sent float64, from, to int) {
	var all cell
	for b, c := range d.s.cells {
		if d.s.place[b] < from || d.s.place[b] >= to {
			continue
		}
		if d.s.bucketed {
			requests, errors := d.fail(c, sent)
			d.buckets = append(d.buckets, rollout.BucketSum{Bucket: b, Sum: errors, Count: requests})
			d.requests, d.errors = d.requests+requests, d.errors+errors
			continue
		}
		all.sound, all.failing = all.sound+c.sound, all.failing+c.failing
	}
	if !d.s.bucketed {
		d.requests, d.errors = d.fail(all, sent)
	}
}

// fail draws the requests of a cell and how many of them fail.
func (d *side) fail(c cell, sent float64) (requests, errors float64) {
	sound, failing := poisson(d.s.rand, sent*c.sound), poisson(d.s.rand, sent*c.failing)
	p := min(1, d.s.traffic.Errors.At(d.at)*d.fault.Errors)
	return sound + failing, failing + binomial(d.s.rand, sound, p)
}

// arm draws what a gate counts of this side.
func (d *side) arm(g rollout.Gate) rollout.Arm {
	t := &d.s.traffic
	switch g.Type {
	case rollout.ErrorRate:
		a := rollout.Arm{Requests: d.requests, Sent: d.requests, Events: []float64{d.errors}}
		if g.BucketLabel != "" {
			a.Buckets = counted(d.buckets)
		}
		return a
	case rollout.Latency:
		return rollout.Arm{Requests: d.requests, Sent: d.requests, Events: d.slow(t.Latency)}
	case rollout.Mean:
		return d.observe(g, t.Mean)
	case rollout.EnergyPerRequest:
		return rollout.Arm{Requests: d.requests, Sum: d.sum(g, d.requests, t.Energy, d.energy*d.fault.Energy)}
	case rollout.SampleRatio:
		return rollout.Arm{Requests: poisson(d.s.rand, d.units*(1-d.fault.Lost))}
	case rollout.Data:
		lost := min(1, t.Unanswered.At(d.at)+d.fault.Unanswered)
		return rollout.Arm{Requests: d.requests, Sent: d.requests, Sum: d.requests - binomial(d.s.rand, d.requests, lost)}
	case rollout.Alerts:
	}
	return rollout.Arm{}
}

// slow counts the requests above each bound: each is a draw from those above the bound before.
func (d *side) slow(l Latency) []float64 {
	events := make([]float64, len(l.Bounds))
	left, share := d.requests, 1.0
	for i, bound := range l.Bounds {
		above := l.above(bound, d.fault.Slower, d.fault.Tail, d.fault.TailAt)
		if share > 0 {
			left = binomial(d.s.rand, left, min(1, above/share))
		}
		share = above
		events[i] = left
	}
	return events
}

// observe draws the sums of a mean, by bucket where the gate has a label for it.
func (d *side) observe(g rollout.Gate, q Quantity) rollout.Arm {
	if g.BucketLabel == "" {
		return rollout.Arm{Requests: d.requests, Sum: d.sum(g, d.requests, q, d.mean*d.fault.Mean)}
	}
	a := rollout.Arm{Requests: d.requests}
	for _, b := range counted(d.buckets) {
		b.Sum = d.sum(g, b.Count, q, d.mean*d.fault.Mean*d.s.effects[b.Bucket])
		a.Buckets = append(a.Buckets, b)
	}
	return a
}

// sum draws the sum of n observations whose mean is multiplied by a factor.
func (d *side) sum(g rollout.Gate, n float64, q Quantity, factor float64) float64 {
	mean := q.Mean.At(d.at) * factor
	switch {
	case g.Highest > g.Lowest:
		width := g.Highest - g.Lowest
		return g.Lowest*n + width*binomial(d.s.rand, n, (mean-g.Lowest)/width)
	case q.Spread > 0:
		// The sum of n gamma variables of shape k is one of shape nk.
		k := 1 / (q.Spread * q.Spread)
		return mean / k * gamma(d.s.rand, n*k)
	}
	return mean * n
}

// counted leaves out the buckets from which nothing came.
func counted(all []rollout.BucketSum) []rollout.BucketSum {
	return slices.DeleteFunc(slices.Clone(all), func(b rollout.BucketSum) bool { return b.Count <= 0 })
}

package backtest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/stats"
)

// Need is what a step needs at a given traffic, apart from the steps before it.
type Need struct {
	Step        int     `json:"step"`
	Weight      int     `json:"weight"`
	HoldSeconds float64 `json:"holdSeconds"`
	CapSeconds  float64 `json:"capSeconds"`
	// Pass is what it takes until every gate passes when nothing is wrong with the canary.
	Pass Requirement `json:"pass"`
	// See is what it takes until the step rolls back, for each fault asked about, in their order.
	See []Requirement `json:"see"`
}

// Requirement is the time that the judge needs for something, by simulation, and the least that any judge needs.
type Requirement struct {
	What string `json:"what"`
	// LimitSeconds and LimitRequests (of both versions) are the information limit; nil where the step tells nothing.
	LimitSeconds  *float64 `json:"limitSeconds"`
	LimitRequests *float64 `json:"limitRequests"`
	// Done are the simulated runs that came to it before HorizonSeconds.
	Done           Share   `json:"done"`
	HorizonSeconds float64 `json:"horizonSeconds"`
	// MeanSeconds is the mean time of the runs that did not end otherwise; where some were not done by the horizon it is at least
	// that. P50Seconds and P95Seconds are the times that half and 95 % of them need at most; nil when fewer were done.
	MeanSeconds float64  `json:"meanSeconds"`
	AtLeast     bool     `json:"meanIsAtLeast"`
	P50Seconds  *float64 `json:"p50Seconds"`
	P95Seconds  *float64 `json:"p95Seconds"`
}

// Named is a fault with a name for people.
type Named struct {
	Name  string
	Fault Fault
}

// Question is what Needs is asked.
type Question struct {
	Plan rollout.Plan
	// Traffic is that of a healthy canary.
	Traffic Traffic
	Faults  []Named
	// Runs is how many runs are simulated for each requirement, Seed what they are drawn from.
	Runs int
	Seed uint64
	// Start is the time of the simulated clock.
	Start time.Time
}

// Needs says for each step of a plan what it needs. It stops with the context's error when that is done.
func Needs(ctx context.Context, q Question) ([]Need, error) {
	needs := make([]Need, 0, len(q.Plan.Steps))
	for i, step := range q.Plan.Steps {
		n := Need{Step: i + 1, Weight: step.Weight, HoldSeconds: step.Hold.Seconds(), CapSeconds: q.Plan.Cap.Seconds()}
		var err error
		if n.Pass, err = q.pass(ctx, step); err != nil {
			return nil, err
		}
		for _, f := range q.Faults {
			r, err := q.see(ctx, step, f)
			if err != nil {
				return nil, err
			}
			n.See = append(n.See, r)
		}
		needs = append(needs, n)
	}
	return needs, nil
}

// horizon is how long a requirement is looked for: twice what the step would wait.
func (q Question) horizon(s rollout.Step) time.Duration { return 2 * max(q.Plan.Cap, s.Hold) }

// alone is a plan of one step that stands as long as it is looked at.
func (q Question) alone(s rollout.Step, hold time.Duration) rollout.Plan {
	p := q.Plan
	p.Steps = []rollout.Step{{Weight: s.Weight, Hold: hold}}
	p.Miss /= float64(len(q.Plan.Steps)) // what each of the steps may spend of it
	p.Cap = 2 * q.horizon(s)
	return p
}

func (q Question) pass(ctx context.Context, s rollout.Step) (Requirement, error) {
	plan := q.alone(s, 0)
	perSecond := math.Inf(1)
	for _, g := range plan.Gates {
		perSecond = min(perSecond, safetyInformation(g, q.Traffic, s.Weight))
	}
	return q.measure(ctx, "pass when healthy", plan, q.Traffic, Promoted, math.Log(1/plan.Miss)/perSecond)
}

func (q Question) see(ctx context.Context, s rollout.Step, f Named) (Requirement, error) {
	plan := q.alone(s, q.horizon(s)) // it may not pass in between
	t := q.Traffic
	t.Fault = f.Fault
	sim := Simulate(t, plan.Gates, "limit", q.Start, rand.New(rand.NewPCG(q.Seed, 0)))
	second := rollout.Block{Start: q.Start, End: q.Start.Add(time.Second), Counts: map[string]rollout.Counts{}}
	sent := t.Requests.At(0)
	for _, g := range plan.Gates {
		canary := sent * float64(s.Weight) / 100
		second.Counts[g.Name] = rollout.Counts{Stable: rollout.Arm{Requests: sent - canary}, Canary: rollout.Arm{Requests: canary}}
	}
	return q.measure(ctx, "see "+f.Name, plan, t, RolledBack, math.Log(1/plan.FalseAlarm)/sim.Information(second, s.Weight))
}

// measure simulates runs of one step until they end as wanted.
func (q Question) measure(ctx context.Context, what string, plan rollout.Plan, t Traffic, wanted Ending, limit float64) (Requirement, error) {
	horizon := plan.Cap / 2
	r := Requirement{What: what, HorizonSeconds: horizon.Seconds()}
	if !math.IsInf(limit, 0) && !math.IsNaN(limit) {
		requests := limit * t.Requests.At(0)
		r.LimitSeconds, r.LimitRequests = &limit, &requests
	}
	o := Options{Plan: plan, Start: q.Start, Longest: horizon}
	records, err := Many(ctx, q.Runs, func(i int) Record { return Simulated(o, t, q.Seed, i) })
	if err != nil {
		return r, err
	}
	var times []float64
	for _, x := range records {
		switch x.Ending {
		case wanted:
			r.Done.Count++
			times = append(times, x.End.Sub(x.Start).Seconds())
		case Unfinished:
			times = append(times, math.Inf(1))
		case Promoted, RolledBack, Paused: // no longer on the way: a false alarm, most of all
		}
	}
	if len(times) == 0 {
		times = append(times, math.Inf(1))
	}
	r.P50Seconds, r.P95Seconds = reached(times, 0.5), reached(times, 0.95)
	for i := range times {
		r.AtLeast = r.AtLeast || math.IsInf(times[i], 1)
		times[i] = min(times[i], horizon.Seconds())
	}
	r.Done, r.MeanSeconds = shareOf(r.Done.Count, len(records)), mean(times)
	return r, nil
}

// reached returns a quantile of times, nil where it was not reached.
func reached(times []float64, p float64) *float64 {
	q := quantile(times, p)
	if math.IsInf(q, 1) {
		return nil
	}
	return &q
}

// safetyInformation returns how much a second of healthy traffic tells that the canary is below the gate's margin or its
// tolerance, whichever is more, in nats; +Inf for a gate that asks for none.
func safetyInformation(g rollout.Gate, t Traffic, weight int) float64 {
	n := t.Requests.At(0)
	nc, ns := n*float64(weight)/100, n*float64(100-weight)/100
	rate := func(p float64) float64 {
		told := n * stats.SafetyInformation(p, p, nc/n, g.Margin)
		if p < g.Tolerance {
			told = max(told, nc*stats.KL(p, g.Tolerance))
		}
		return told
	}
	switch g.Type {
	case rollout.ErrorRate:
		return rate(t.Errors.At(0))
	case rollout.Latency:
		return rate(t.Latency.beyond(g.Threshold))
	case rollout.Mean:
		return meanInformation(g, nc, ns, t.Mean.Mean.At(0), g.Margin, t.Mean.Spread)
	case rollout.EnergyPerRequest:
		return meanInformation(g, nc, ns, t.Energy.Mean.At(0), g.Margin, t.Energy.Spread)
	case rollout.SampleRatio, rollout.Data, rollout.Alerts:
	}
	return math.Inf(1)
}

// beyond returns the share of healthy requests above the bound that stands for a threshold.
func (l Latency) beyond(threshold time.Duration) float64 {
	for _, b := range l.Bounds {
		if b >= threshold.Seconds()*(1-1e-9) {
			return l.above(b, 1, 0, 0)
		}
	}
	return 0
}

// Simulated replays the i-th simulated run of a seed. Runs of the same seed and number draw the same, whatever the plan.
func Simulated(o Options, t Traffic, seed uint64, i int) Record {
	o.RunID = fmt.Sprintf("run-%d-%d", seed, i)
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	return Replay(o, Simulate(t, o.Plan.Gates, o.RunID, o.Start, r))
}

// Many makes n records, as many at once as there are processors, in the order of their numbers.
func Many(ctx context.Context, n int, one func(i int) Record) ([]Record, error) {
	records := make([]Record, n)
	var group sync.WaitGroup
	next := make(chan int)
	for range min(n, runtime.GOMAXPROCS(0)) {
		group.Go(func() {
			for i := range next {
				records[i] = one(i)
			}
		})
	}
	defer group.Wait()
	defer close(next)
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return records, nil
}

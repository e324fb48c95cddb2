package backtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// benchSeed is the first half of every seed of the benchmark; the second is the number of the run.
const benchSeed = 20260301

// trial is one simulated run.
func trial(traffic Traffic, plan rollout.Plan, n int) (id string, s *Simulator) {
	id = fmt.Sprintf("bench-%d", n)
	return id, Simulate(traffic, plan.Gates, id, t0, rand.New(rand.NewPCG(benchSeed, uint64(n))))
}

// watch drives a simulated run through the steps of its plans by their times, whatever the judge says, and lets see look
// after every block until it has seen enough. at is the end of the block since the run's start. The plans have the same
// steps; each judges the same blocks.
func watch(id string, s Source, see func(at time.Duration, b rollout.Block, findings [][]rollout.Finding) bool, plans ...rollout.Plan) {
	runs, first := make([]rollout.Run, len(plans)), t0
	for i, p := range plans {
		runs[i] = rollout.Begin(id, p, t0)
		if runs[i].LastBlock.Before(first) {
			first = runs[i].LastBlock
		}
	}
	next := 0
	started := t0
	for start := first; ; start = start.Add(interval) {
		if steps := plans[0].Steps; !start.Before(t0) && (next == 0 || (next < len(steps) && start.Sub(started) >= steps[next-1].Hold)) {
			next, started = next+1, start
			for i, p := range plans {
				runs[i] = runs[i].After(p, rollout.Outcome{Decision: rollout.Advance}, start)
			}
		}
		b, ok := s.Block(start, start.Add(interval), runs[0].Weight)
		if !ok {
			return
		}
		findings := make([][]rollout.Finding, len(plans))
		for i, p := range plans {
			runs[i] = runs[i].Count(p, []rollout.Block{b})
			if !start.Before(t0) {
				findings[i] = rollout.Judge(p, runs[i], nil, b.End)
			}
		}
		if !start.Before(t0) && !see(b.End.Sub(t0), b, findings) {
			return
		}
	}
}

// alarmed says whether the harm side of the findings has reached 1/alpha.
func alarmed(p rollout.Plan, findings []rollout.Finding, alpha float64) bool {
	logE, _ := rollout.HarmLog(p, findings)
	return logE >= math.Log(1/alpha)
}

// errorsPlan judges errors alone, at one weight.
func errorsPlan(weight int) rollout.Plan {
	return rollout.Plan{
		Steps:    []rollout.Step{{Weight: weight}},
		Gates:    []rollout.Gate{{Name: "errors", Type: rollout.ErrorRate, Margin: 1.5, Tolerance: 0.0001}},
		Interval: interval, Cap: 48 * time.Hour, FalseAlarm: 0.05, Miss: 0.05,
	}
}

// minutes gathers blocks into the windows of a minute that the peers see.
type minutes struct {
	blocks int
	w      window
}

// add returns a window when it is complete.
func (m *minutes) add(b rollout.Block) (window, bool) {
	c := b.Counts["errors"]
	m.w.canary = m.w.canary.plus(countsOf(c.Canary))
	m.w.stable = m.w.stable.plus(countsOf(c.Stable))
	if m.blocks++; m.blocks%4 != 0 {
		return window{}, false
	}
	w := m.w
	m.w = window{}
	return w, true
}

func countsOf(a rollout.Arm) counts {
	c := counts{requests: a.Requests}
	if len(a.Events) > 0 {
		c.errors = a.Events[0]
	}
	return c
}

func BenchmarkWatchErrors(b *testing.B) {
	plan := errorsPlan(10)
	id, s := trial(Traffic{Requests: Constant(100), Errors: Constant(0.01)}, plan, 1)
	n := 0
	watch(id, s, func(time.Duration, rollout.Block, [][]rollout.Finding) bool { n++; return n < b.N }, plan)
}

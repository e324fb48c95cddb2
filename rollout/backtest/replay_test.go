package backtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/rollout"
)

// examplePlan has one gate on errors.
func examplePlan() rollout.Plan {
	return rollout.Plan{
		Steps:    []rollout.Step{{Weight: 5, Hold: 2 * time.Minute}, {Weight: 25, Hold: 5 * time.Minute}, {Weight: 50, Hold: 5 * time.Minute}},
		Gates:    []rollout.Gate{{Name: "errors", Type: rollout.ErrorRate, Margin: 1.5, Tolerance: 0.01}},
		Interval: interval, Cap: 2 * time.Hour, FalseAlarm: 0.05, Miss: 0.05,
	}
}

func exampleTraffic() Traffic {
	return Traffic{Requests: Constant(200), Errors: Line(0.004, 0.016, time.Hour)}
}

// replayed is the record of one simulated run.
func replayed(plan rollout.Plan, t Traffic, seed uint64) Record {
	id := fmt.Sprintf("run-%d", seed)
	s := Simulate(t, plan.Gates, id, t0, rand.New(rand.NewPCG(5, seed)))
	return Replay(Options{Plan: plan, RunID: id, Start: t0}, s)
}

func TestReplay(t *testing.T) {
	idle := exampleTraffic()
	idle.Idle = []Period{{0, 24 * time.Hour}}
	sick := exampleTraffic()
	sick.Fault = Fault{Errors: 4}
	late := exampleTraffic()
	late.Fault = Fault{Errors: 4, From: 5 * time.Minute}
	load := exampleTraffic()
	load.Fault = Fault{Errors: 4, MinWeight: 50}
	for name, c := range map[string]struct {
		reason  string
		traffic Traffic
		ending  Ending
		why     rollout.Reason
		steps   int
	}{
		"healthy": {"a healthy canary passes every step", exampleTraffic(), Promoted, rollout.AllPassed, 3},
		"sick":    {"harm rolls back at the first weight", sick, RolledBack, rollout.ErrorsHarm, 1},
		"load":    {"a fault that needs load shows at the last weight", load, RolledBack, rollout.ErrorsHarm, 3},
		"idle":    {"no data holds, and pauses at the cap", idle, Paused, rollout.NoBlocks, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := replayed(examplePlan(), c.traffic, 1)
			if r.Ending != c.ending || r.Reason != c.why || len(r.Changes) != c.steps {
				t.Errorf("%s: got %s (%s: %s) after %d steps, want %s (%s) after %d", c.reason, r.Ending, r.Reason, r.Message, len(r.Changes), c.ending, c.why, c.steps)
			}
		})
	}
	if r := replayed(examplePlan(), late, 1); r.Onset.Before(t0.Add(5*time.Minute)) || r.End.Before(r.Onset) || r.Ending != RolledBack {
		t.Errorf("a late fault begins %s after the start and is answered after %s by %s", r.Onset.Sub(t0), r.End.Sub(t0), r.Ending)
	}
}

// TestReplayKeepsTheClock: a step lasts as long as its hold at least, the change of weight falls on the pass after a block,
// and nothing is decided before the block is complete.
func TestReplayKeepsTheClock(t *testing.T) {
	plan := examplePlan()
	r := replayed(plan, exampleTraffic(), 1)
	for i, c := range r.Changes {
		if c.Weight != plan.Steps[i].Weight || c.Step != i+1 {
			t.Errorf("change %d is to step %d at weight %d, want %d at %d", i, c.Step, c.Weight, i+1, plan.Steps[i].Weight)
		}
		if i > 0 {
			if held := c.At.Sub(r.Changes[i-1].At); held < plan.Steps[i-1].Hold {
				t.Errorf("step %d was held for %s, want at least %s", i, held, plan.Steps[i-1].Hold)
			}
			if past := c.At.Sub(rollout.GridFloor(c.At, interval)); past != 5*time.Second {
				t.Errorf("step %d began %s after a block, want the lag of 5s", c.Step, past)
			}
		}
	}
	if !r.Changes[0].At.Equal(t0.Add(time.Millisecond)) {
		t.Errorf("the first step came %s after the start, want as soon as the run is stored", r.Changes[0].At.Sub(t0))
	}
}

// tape is a record of blocks: it gives what it has, whatever the weight.
type tape struct {
	blocks map[time.Time]rollout.Block
	asked  []time.Time
}

func (p *tape) Block(start, _ time.Time, _ int) (rollout.Block, bool) {
	p.asked = append(p.asked, start)
	b, ok := p.blocks[start]
	return b, ok
}

// TestReplayCountsOnce: every block is taken once and in order, none before its time, and exposure is what the blocks say.
func TestReplayCountsOnce(t *testing.T) {
	p := &tape{blocks: map[time.Time]rollout.Block{}}
	for i := range 40 {
		start := t0.Add(time.Duration(i) * interval)
		p.blocks[start] = rollout.Block{Start: start, End: start.Add(interval), Counts: map[string]rollout.Counts{
			"errors": {Stable: rollout.Arm{Requests: 90, Events: []float64{1}}, Canary: rollout.Arm{Requests: 10, Events: []float64{0}}},
		}}
	}
	r := Replay(Options{Plan: examplePlan(), RunID: "run-1", Start: t0}, p)
	var want []time.Time
	for i := range 41 { // the last one is not there
		want = append(want, t0.Add(time.Duration(i)*interval))
	}
	if diff := cmp.Diff(want, p.asked); diff != "" {
		t.Errorf("blocks taken (-want +got):\n%s", diff)
	}
	if r.Ending != Unfinished || r.Requests != 4000 || r.Exposed != 400 {
		t.Errorf("got %s with %g of %g requests exposed, want %s with 400 of 4000", r.Ending, r.Exposed, r.Requests, Unfinished)
	}
}

// TestLongest ends a replay that nothing else would end.
func TestLongest(t *testing.T) {
	p := examplePlan()
	r := Replay(Options{Plan: p, RunID: "run-1", Start: t0, Longest: time.Minute}, Simulate(exampleTraffic(), p.Gates, "run-1", t0, rand.New(rand.NewPCG(5, 1))))
	if r.Ending != Unfinished || r.End.Sub(t0) > time.Minute+2*interval {
		t.Errorf("got %s after %s, want %s after a minute", r.Ending, r.End.Sub(t0), Unfinished)
	}
}

// TestLimit compares the limit of a run with constant traffic at one weight with the table of the literature on sequential
// tests: 1 % against 2 % errors at a weight of 10 % and 100 requests a second takes 87 s at 0.05.
func TestLimit(t *testing.T) {
	plan := examplePlan()
	plan.Steps = []rollout.Step{{Weight: 10, Hold: time.Hour}}
	total, n := 0.0, 0.0
	for seed := range uint64(50) {
		r := replayed(plan, Traffic{Requests: Constant(100), Errors: Constant(0.01), Fault: Fault{Errors: 2}}, seed)
		if !r.Harmful || !r.Onset.Equal(t0) {
			t.Fatalf("run %d: the fault shows from %s on, want from the first block on", seed, r.Onset.Sub(t0))
		}
		total, n = total+r.Limit.Seconds(), n+1
	}
	if got := total / n; math.Abs(got-87.5) > 1.5 {
		t.Errorf("the limit is %.1f s, want 87.5", got)
	}
	if r := replayed(plan, exampleTraffic(), 1); r.Harmful || r.Limit != 0 {
		t.Errorf("a healthy canary has a limit of %s", r.Limit)
	}
}

// TestInformation checks each gate's information against a case that is known otherwise.
func TestInformation(t *testing.T) {
	bounded := rollout.Gate{Type: rollout.Mean, Lowest: 0, Highest: 10}
	for _, c := range []struct {
		reason    string
		got, want float64
	}{
		{"equal rates tell nothing", rateInformation(100, 0.01, 900, 0.01), 0},
		{"1 % to 2 % at 10 %: ln(20)/8748 a request", rateInformation(100, 0.02, 900, 0.01), 1000 * math.Log(20) / 8748},
		{"equal shapes tell nothing", shapeInformation(100, []float64{0.9, 0.1}, 900, []float64{0.9, 0.1}), 0},
		{"two cells are a rate", shapeInformation(100, []float64{0.98, 0.02}, 900, []float64{0.99, 0.01}), rateInformation(100, 0.02, 900, 0.01)},
		{"equal means tell nothing", meanInformation(rollout.Gate{}, 100, 100, 3, 1, 0.5), 0},
		{"a normal shift d at n each: n d^2 / (4 sigma^2)", meanInformation(rollout.Gate{}, 100, 100, 3, math.E, 2), 100.0 / 16},
		{"a bounded mean is a rate", meanInformation(bounded, 100, 900, 0.1, 2, 0), rateInformation(100, 0.02, 900, 0.01)},
	} {
		if math.Abs(c.got-c.want) > 1e-3*math.Max(c.want, 1e-9) {
			t.Errorf("%s: got %g, want %g", c.reason, c.got, c.want)
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	plan := examplePlan()
	plan.Steps = []rollout.Step{{Weight: 10, Hold: 4 * time.Hour}}
	for b.Loop() {
		replayed(plan, exampleTraffic(), 1)
	}
}

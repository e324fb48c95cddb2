package backtest

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/siskin-dev/siskin/rollout"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const interval = 15 * time.Second

func TestLevel(t *testing.T) {
	l := Level{{time.Minute, 2}, {2 * time.Minute, 4}, {3 * time.Minute, 0}}
	for _, c := range []struct {
		reason string
		level  Level
		at     time.Duration
		want   float64
	}{
		{"an empty level is zero", nil, time.Hour, 0},
		{"a constant one does not change", Constant(3), time.Hour, 3},
		{"before the first point it is constant", l, 0, 2},
		{"at a point it has its value", l, 2 * time.Minute, 4},
		{"between two points it is a straight line", l, 90 * time.Second, 3},
		{"and down again", l, 150 * time.Second, 2},
		{"after the last point it is constant", l, time.Hour, 0},
		{"a line stays where it went", Line(0.004, 0.016, time.Hour), 2 * time.Hour, 0.016},
		{"half way", Line(0.004, 0.016, time.Hour), 30 * time.Minute, 0.01},
	} {
		if got := c.level.At(c.at); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: got %g, want %g", c.reason, got, c.want)
		}
	}
}

// everything has a gate of every type and something to count for each.
func everything() (Traffic, []rollout.Gate) {
	traffic := Traffic{
		Requests: Constant(100), Errors: Constant(0.01), NewUnits: Constant(4), Unanswered: Constant(0.02),
		Latency: Latency{Bounds: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5}, Median: 0.08, Sigma: 0.5, Tail: 0.01, TailAt: 2},
		Mean:    Quantity{Mean: Constant(3), Spread: 0.8},
		Energy:  Quantity{Mean: Constant(0.5), Spread: 0.2, BetweenBlocks: 0.1},
	}
	return traffic, []rollout.Gate{
		{Name: "errors", Type: rollout.ErrorRate},
		{Name: "latency", Type: rollout.Latency},
		{Name: "quality", Type: rollout.Mean, BucketLabel: "bucket"},
		{Name: "pairs", Type: rollout.Mean},
		{Name: "hits", Type: rollout.Mean, Lowest: 0, Highest: 10},
		{Name: "energy", Type: rollout.EnergyPerRequest},
		{Name: "ratio", Type: rollout.SampleRatio},
		{Name: "data", Type: rollout.Data},
		{Name: "alerts", Type: rollout.Alerts},
	}
}

// totals adds up the arms of a number of blocks: requests, events and sums by gate.
type totals struct{ stable, canary map[string]rollout.Arm }

func sumBlocks(t Traffic, gates []rollout.Gate, blocks, weight int) totals {
	s := Simulate(t, gates, "run-1", t0, rand.New(rand.NewPCG(3, 3)))
	out := totals{map[string]rollout.Arm{}, map[string]rollout.Arm{}}
	add := func(to map[string]rollout.Arm, name string, a rollout.Arm) {
		sum := to[name]
		sum.Requests, sum.Sum = sum.Requests+a.Requests, sum.Sum+a.Sum
		for i, e := range a.Events {
			if i == len(sum.Events) {
				sum.Events = append(sum.Events, 0)
			}
			sum.Events[i] += e
		}
		for _, b := range a.Buckets {
			sum.Sum += b.Sum
		}
		to[name] = sum
	}
	for i := range blocks {
		start := t0.Add(time.Duration(i) * interval)
		b, _ := s.Block(start, start.Add(interval), weight)
		for name, c := range b.Counts {
			add(out.stable, name, c.Stable)
			add(out.canary, name, c.Canary)
		}
	}
	return out
}

// TestSimulatorMeans compares what is drawn in the mean with what was asked for, of both variants, with a fault and without.
// The bounds are five standard errors.
func TestSimulatorMeans(t *testing.T) {
	const blocks, weight = 2000, 20
	const requests = 100 * 15 * blocks
	traffic, gates := everything()
	traffic.Fault = Fault{Errors: 3, Slower: 2, Tail: 0.05, TailAt: 0.7, Mean: 1.5, Energy: 2, Unanswered: 0.1, Lost: 0.25}
	got := sumBlocks(traffic, gates, blocks, weight)

	check := func(what string, got, want, variance float64) {
		t.Helper()
		if d := math.Abs(got-want) / math.Sqrt(variance); d > 5 {
			t.Errorf("%s: got %g, want %g: %.1f standard errors", what, got, want, d)
		}
	}
	for _, c := range []struct {
		name                   string
		arms                   map[string]rollout.Arm
		n                      float64
		errors, mean, joules   float64
		units, lost, slow, end float64 // slow: above 0.25 s, end: above 1 s
	}{
		{"stable", got.stable, 0.8 * requests, 0.01, 3, 0.5, 4 * 15 * blocks * 0.8, 0.02, traffic.Latency.above(0.25, 1, 0, 0), 0.01},
		{"canary", got.canary, 0.2 * requests, 0.03, 4.5, 1, 4 * 15 * blocks * 0.2 * 0.75, 0.12, traffic.Latency.above(0.25, 2, 0.05, 0.7), 0.0095},
	} {
		check(c.name+" requests", c.arms["errors"].Requests, c.n, c.n)
		check(c.name+" errors", c.arms["errors"].Events[0], c.errors*c.n, c.errors*c.n)
		check(c.name+" slow", c.arms["latency"].Events[2], c.slow*c.n, c.slow*c.n)
		check(c.name+" tail", c.arms["latency"].Events[4], c.end*c.n, c.end*c.n)
		check(c.name+" quality", c.arms["quality"].Sum, c.mean*c.n, c.n*c.mean*c.mean*(1+0.64))
		check(c.name+" pairs", c.arms["pairs"].Sum, c.mean*c.n, c.n*c.mean*c.mean*(1+0.64))
		check(c.name+" hits", c.arms["hits"].Sum, c.mean*c.n, c.n*10*c.mean)
		check(c.name+" energy", c.arms["energy"].Sum, c.joules*c.n, c.n*c.joules*c.joules*1.04+c.n*c.n*c.joules*c.joules*0.01/blocks)
		check(c.name+" units", c.arms["ratio"].Requests, c.units, c.units)
		check(c.name+" answered", c.arms["data"].Sum, c.n*(1-c.lost), c.n)
	}
}

// TestSimulatorBuckets: the canary's buckets are those of the run's allocation, and every other is stable's.
func TestSimulatorBuckets(t *testing.T) {
	traffic, gates := everything()
	s := Simulate(traffic, gates, "run-1", t0, rand.New(rand.NewPCG(3, 4)))
	for _, weight := range []int{0, 1, 37, 100} {
		b, _ := s.Block(t0, t0.Add(interval), weight)
		canary := rollout.Allocate("run-1", weight)
		if diff := cmp.Diff(canary, bucketsOf(b.Counts["quality"].Canary), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("weight %d: buckets of the canary (-want +got):\n%s", weight, diff)
		}
		if diff := cmp.Diff(rollout.Others(canary), bucketsOf(b.Counts["quality"].Stable), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("weight %d: buckets of stable (-want +got):\n%s", weight, diff)
		}
	}
}

func bucketsOf(a rollout.Arm) []int {
	var out []int
	for _, b := range a.Buckets {
		out = append(out, b.Bucket)
	}
	return out
}

// TestFaultBegins: a fault shows from its time on, and from its weight on.
func TestFaultBegins(t *testing.T) {
	f := Fault{From: time.Minute, MinWeight: 25, Errors: 2}
	shown := Fault{From: time.Minute, MinWeight: 25, Errors: 2, Slower: 1, Mean: 1, Energy: 1}
	for _, c := range []struct {
		reason string
		at     time.Duration
		weight int
		want   Fault
	}{
		{"too early", 59 * time.Second, 50, healthy},
		{"too little load", time.Hour, 24, healthy},
		{"from its first instant at its weight", time.Minute, 25, shown},
	} {
		if diff := cmp.Diff(c.want, f.at(c.at, c.weight)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.reason, diff)
		}
	}
}

// TestIdle: nothing is counted while nothing comes, and the block is there all the same.
func TestIdle(t *testing.T) {
	traffic, gates := everything()
	traffic.Idle = []Period{{time.Minute, 2 * time.Minute}}
	s := Simulate(traffic, gates, "run-1", t0, rand.New(rand.NewPCG(3, 5)))
	for _, c := range []struct {
		at   time.Duration
		idle bool
	}{{45 * time.Second, false}, {time.Minute, true}, {105 * time.Second, true}, {2 * time.Minute, false}} {
		b, ok := s.Block(t0.Add(c.at), t0.Add(c.at+interval), 50)
		if n := b.Counts["errors"].Stable.Requests; !ok || (n == 0) != c.idle {
			t.Errorf("at %s: %g requests, want idle: %t", c.at, n, c.idle)
		}
	}
}

// TestStickyUsers: a user who always fails does so in one bucket, again and again, so errors cluster by bucket far more
// than independent ones would. The opposite, without such users, shows that the measure can tell.
func TestStickyUsers(t *testing.T) {
	gates := []rollout.Gate{{Name: "errors", Type: rollout.ErrorRate, BucketLabel: "bucket"}}
	spread := func(failing float64) float64 {
		traffic := Traffic{Requests: Constant(500), Errors: Constant(0.01), Users: Users{Count: 5000, Failing: failing}}
		s := Simulate(traffic, gates, "run-1", t0, rand.New(rand.NewPCG(3, 6)))
		errors := make([]float64, rollout.Buckets)
		total := 0.0
		for i := range 100 {
			start := t0.Add(time.Duration(i) * interval)
			b, _ := s.Block(start, start.Add(interval), 0)
			for _, c := range b.Counts["errors"].Stable.Buckets {
				errors[c.Bucket] += c.Sum
				total += c.Sum
			}
		}
		mean, squares := total/rollout.Buckets, 0.0
		for _, e := range errors {
			squares += (e - mean) * (e - mean)
		}
		return squares / (rollout.Buckets - 1) / mean // 1 for Poisson counts, and a little more since buckets differ in size
	}
	if got := spread(0); got > 4 {
		t.Errorf("without failing users the variance of errors by bucket is %.1f times Poisson's, want little more than 1", got)
	}
	if got := spread(0.002); got < 20 {
		t.Errorf("with failing users the variance of errors by bucket is %.1f times Poisson's, want far more than 1", got)
	}
}

// TestSimulatorRepeats: the same seed gives the same blocks.
func TestSimulatorRepeats(t *testing.T) {
	traffic, gates := everything()
	draw := func() rollout.Block {
		s := Simulate(traffic, gates, "run-1", t0, rand.New(rand.NewPCG(3, 7)))
		b, _ := s.Block(t0, t0.Add(interval), 10)
		return b
	}
	if diff := cmp.Diff(draw(), draw()); diff != "" {
		t.Errorf("two draws of one seed differ:\n%s", diff)
	}
}

func BenchmarkSimulateErrors(b *testing.B) {
	gates := []rollout.Gate{{Name: "errors", Type: rollout.ErrorRate}}
	s := Simulate(Traffic{Requests: Constant(100), Errors: Constant(0.01)}, gates, "run-1", t0, rand.New(rand.NewPCG(3, 8)))
	for b.Loop() {
		s.Block(t0, t0.Add(interval), 10)
	}
}

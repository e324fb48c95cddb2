package backtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// tenGates has ten gates of all types that are judged, with histograms of 30 bounds.
func tenGates() (rollout.Plan, Traffic) {
	p := defaultPlan()
	bounds := make([]float64, 30)
	for i := range bounds {
		bounds[i] = 0.001 * math.Pow(1.4, float64(i))
	}
	p.Gates = nil
	for i := range 10 {
		g := [...]rollout.Gate{
			{Type: rollout.ErrorRate},
			{Type: rollout.Latency, Threshold: 250 * time.Millisecond},
			{Type: rollout.Mean, BucketLabel: "bucket"},
			{Type: rollout.EnergyPerRequest},
			{Type: rollout.ErrorRate, BucketLabel: "bucket"},
			{Type: rollout.Latency, Threshold: 50 * time.Millisecond},
			{Type: rollout.Mean},
			{Type: rollout.Mean, Lowest: 0, Highest: 10},
			{Type: rollout.SampleRatio},
			{Type: rollout.Data},
		}[i]
		g.Name, g.Margin, g.Tolerance = fmt.Sprintf("%s-%d", g.Type, i), 1.5, 0.01
		p.Gates = append(p.Gates, g)
	}
	t, _ := everything()
	t.Latency.Bounds = bounds
	return p, t
}

// recorded returns blocks of a run at half of the traffic; they can be dated anew and counted again.
func recorded(p rollout.Plan, t Traffic, n int) []rollout.Block {
	s := Simulate(t, p.Gates, "bench", t0, rand.New(rand.NewPCG(benchSeed, 1)))
	out := make([]rollout.Block, n)
	for i := range out {
		start := t0.Add(time.Duration(i) * p.Interval)
		out[i], _ = s.Block(start, start.Add(p.Interval), 50)
	}
	return out
}

// atHalf is a run whose weight is 50 %, since t0.
func atHalf(p rollout.Plan) rollout.Run {
	r := rollout.Begin("bench", p, t0)
	for range p.Steps {
		r = r.After(p, rollout.Outcome{Decision: rollout.Advance}, t0)
	}
	return r
}

// cpuTime is what the process has used so far. Unlike the time of day it does not depend on what else the machine does.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkJudgeInterval is what a rollout costs in one interval, before anything is asked or written: counting a block,
// judging and deciding. The bar is 1 ms of CPU, garbage collection included.
func BenchmarkJudgeInterval(b *testing.B) {
	p, t := tenGates()
	blocks, run := recorded(p, t, 64), atHalf(p)
	b.ReportAllocs()
	i, before := 0, cpuTime(b)
	for b.Loop() {
		run = judgeOne(p, run, blocks[i%len(blocks)], i)
		i++
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(sizeOf(b, run)), "evidence-bytes")
}

// judgeOne is one interval: the i-th since t0, with the counts of a block.
func judgeOne(p rollout.Plan, run rollout.Run, b rollout.Block, i int) rollout.Run {
	b.Start, b.End = t0.Add(time.Duration(i)*interval), t0.Add(time.Duration(i+1)*interval)
	run = run.Count(p, []rollout.Block{b})
	findings := rollout.Judge(p, run, nil, b.End)
	rollout.Decide(rollout.Situation{Plan: p, Run: run, Findings: findings, CanaryReady: true, Now: b.End})
	return run
}

func sizeOf(tb testing.TB, r rollout.Run) int {
	tb.Helper()
	data, err := r.Evidence.MarshalBinary()
	if err != nil {
		tb.Fatal(err)
	}
	return len(data)
}

// growth returns the size of ten gates' evidence after an hour and after 30 days. Blocks of five minutes: the size does not
// depend on their number but on what is in them.
func growth(tb testing.TB) (hour, month int) {
	tb.Helper()
	p, traffic := tenGates()
	p.Interval = 5 * time.Minute
	blocks, run := recorded(p, traffic, 16), atHalf(p)
	for i := range 30 * 24 * 12 {
		next := blocks[i%len(blocks)]
		next.Start, next.End = t0.Add(time.Duration(i)*p.Interval), t0.Add(time.Duration(i+1)*p.Interval)
		run = run.Count(p, []rollout.Block{next})
		if i == 12 {
			hour = sizeOf(tb, run)
		}
	}
	return hour, sizeOf(tb, run)
}

// TestTenGatesAreBounded: the evidence of ten gates takes no more room after a month than after an hour.
func TestTenGatesAreBounded(t *testing.T) {
	hour, month := growth(t)
	t.Logf("evidence of ten gates after an hour: %d bytes, after a month: %d", hour, month)
	if month > hour*5/4 || month > 64<<10 {
		t.Errorf("evidence of ten gates grew from %d bytes in an hour to %d in a month", hour, month)
	}
}

// benchCost shows what a rollout costs. It asserts no times; the sizes have a test of their own.
func benchCost(t *testing.T) *section {
	s := &section{
		title: "Cost",
		text: "One interval of a rollout with ten gates of all types and histograms of 30 bounds: counting a block, judging and deciding (bar: 1 ms of CPU). " +
			"Evidence is what the status keeps of them. Only the CPU time differs from run to run.",
		head: []string{"CPU an interval", "evidence after an hour", "after 30 days"},
	}
	p, traffic := tenGates()
	blocks, run := recorded(p, traffic, 64), atHalf(p)
	n, before := many(4000, 20), cpuTime(t)
	for i := range n {
		run = judgeOne(p, run, blocks[i%len(blocks)], i)
	}
	each := (cpuTime(t) - before) / time.Duration(n)
	if !*benchJudge {
		s.row(fmt.Sprintf("%.2f ms", each.Seconds()*1000), "-", "-")
		return s
	}
	hour, month := growth(t)
	s.row(fmt.Sprintf("%.2f ms", each.Seconds()*1000), fmt.Sprintf("%d bytes", hour), fmt.Sprintf("%d bytes", month))
	return s
}

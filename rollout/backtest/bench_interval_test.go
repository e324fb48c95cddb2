package backtest

import (
	"fmt"
	"math"
	"math/rand/v2"
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

// BenchmarkJudgeInterval is what a rollout costs in one interval, before anything is asked or written: counting a block,
// judging and deciding. The bar is 1 ms.
func BenchmarkJudgeInterval(b *testing.B) {
	p, t := tenGates()
	blocks, run := recorded(p, t, 64), atHalf(p)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		next := blocks[i%len(blocks)]
		next.Start, next.End = t0.Add(time.Duration(i)*interval), t0.Add(time.Duration(i+1)*interval)
		run = run.Count(p, []rollout.Block{next})
		findings := rollout.Judge(p, run, nil, next.End)
		rollout.Decide(rollout.Situation{Plan: p, Run: run, Findings: findings, CanaryReady: true, Now: next.End})
		i++
	}
	b.ReportMetric(float64(size10(b, run)), "evidence-bytes")
}

func size10(tb testing.TB, r rollout.Run) int {
	tb.Helper()
	data, err := r.Evidence.MarshalBinary()
	if err != nil {
		tb.Fatal(err)
	}
	return len(data)
}

// TestTenGatesAreBounded: the evidence of ten gates takes no more room after a month of blocks than after an hour. Blocks
// of five minutes: it does not depend on their number but on what is in them.
func TestTenGatesAreBounded(t *testing.T) {
	p, traffic := tenGates()
	p.Interval = 5 * time.Minute
	blocks, run := recorded(p, traffic, 16), atHalf(p)
	hour := 0
	const month = 30 * 24 * 12
	for i := range month {
		next := blocks[i%len(blocks)]
		next.Start, next.End = t0.Add(time.Duration(i)*p.Interval), t0.Add(time.Duration(i+1)*p.Interval)
		run = run.Count(p, []rollout.Block{next})
		if i == 12 {
			hour = size10(t, run)
		}
	}
	got := size10(t, run)
	t.Logf("evidence of ten gates after an hour: %d bytes, after a month: %d", hour, got)
	if got > hour*5/4 || got > 64<<10 {
		t.Errorf("evidence of ten gates grew from %d bytes in an hour to %d in a month", hour, got)
	}
}

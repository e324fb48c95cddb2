package backtest

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/rollout"
)

// taped is a record of simulated traffic at a weight of 20 %.
func taped(blocks int) (Tape, []rollout.Gate) {
	traffic, gates := everything()
	gates = append(gates, rollout.Gate{Name: "sticky", Type: rollout.ErrorRate, BucketLabel: "bucket"})
	s := Simulate(traffic, gates, "run-1", t0, rand.New(rand.NewPCG(4, 1)))
	var tape Tape
	for i := range blocks {
		start := t0.Add(time.Duration(i) * interval)
		b, _ := s.Block(start, start.Add(interval), 20)
		tape = append(tape, b)
	}
	return tape, gates
}

func TestTape(t *testing.T) {
	tape, _ := taped(4)
	for _, c := range []struct {
		reason string
		at     int
		counts int
		ok     bool
	}{
		{"what was before the record is empty", -3, 0, true},
		{"the first block", 0, len(tape[0].Counts), true},
		{"the last block", 3, len(tape[3].Counts), true},
		{"beyond the end there is none", 4, 0, false},
	} {
		start := t0.Add(time.Duration(c.at) * interval)
		b, ok := tape.Block(start, start.Add(interval), 50)
		if ok != c.ok || len(b.Counts) != c.counts || (ok && !b.Start.Equal(start)) {
			t.Errorf("%s: got %d counts from %s on (%t), want %d (%t)", c.reason, len(b.Counts), b.Start, ok, c.counts, c.ok)
		}
	}
	if _, ok := (Tape{}).Block(t0, t0.Add(interval), 1); ok {
		t.Error("an empty tape has a block")
	}
}

// TestResampleConserves: what is split is what stable had, request by request and bucket by bucket, at the run's weight.
func TestResampleConserves(t *testing.T) {
	tape, gates := taped(50)
	const weight = 30
	s := tape.Resample(gates, Fault{}, "run-2", t0, rand.New(rand.NewPCG(4, 2)))
	canary := map[int]bool{}
	for _, b := range rollout.Allocate("run-2", weight) {
		canary[b] = true
	}
	taken, all := 0.0, 0.0
	for _, was := range tape {
		b, ok := s.Block(was.Start, was.End, weight)
		if !ok {
			t.Fatal("the record ended early")
		}
		for _, name := range []string{"errors", "latency"} {
			old, c := was.Counts[name].Stable, b.Counts[name]
			if c.Stable.Requests+c.Canary.Requests != old.Requests {
				t.Errorf("%s: %g and %g requests of %g", name, c.Stable.Requests, c.Canary.Requests, old.Requests)
			}
			above := c.Canary.Requests
			for i, e := range old.Events {
				if x := c.Canary.Events[i]; c.Stable.Events[i]+x != e || x > above || c.Stable.Events[i] < 0 {
					t.Errorf("%s: %g and %g events of %g, of which %g were slower than the bound before", name, c.Stable.Events[i], x, e, above)
				}
				above = c.Canary.Events[i]
			}
		}
		taken, all = taken+b.Counts["errors"].Canary.Requests, all+was.Counts["errors"].Stable.Requests
		for _, name := range []string{"quality", "sticky"} {
			var got []rollout.BucketSum
			for _, x := range was.Counts[name].Stable.Buckets {
				if canary[x.Bucket] {
					got = append(got, x)
				}
			}
			if diff := cmp.Diff(got, b.Counts[name].Canary.Buckets); diff != "" {
				t.Errorf("%s: buckets of the canary (-want +got):\n%s", name, diff)
			}
		}
		for _, name := range []string{"pairs", "energy", "ratio", "data", "alerts"} {
			if _, ok := b.Counts[name]; ok {
				t.Errorf("%s was split, and cannot be", name)
			}
		}
	}
	if d := math.Abs(taken-0.3*all) / math.Sqrt(0.21*all); d > 5 {
		t.Errorf("the canary met %g of %g requests: %.1f standard errors from 30 %%", taken, all, d)
	}
}

// TestResampleWorsens: a fault multiplies the canary's errors, in both shapes of counts, and leaves stable's alone.
func TestResampleWorsens(t *testing.T) {
	tape, gates := taped(1000)
	s := tape.Resample(gates, Fault{Errors: 3}, "run-2", t0, rand.New(rand.NewPCG(4, 3)))
	for _, name := range []string{"errors", "sticky"} {
		var stable, canary, nc, ns, told float64
		for _, was := range tape {
			b, _ := s.Block(was.Start, was.End, 30)
			c := b.Counts[name]
			stable, ns = stable+c.Stable.Events[0], ns+c.Stable.Requests
			canary, nc = canary+c.Canary.Events[0], nc+c.Canary.Requests
			told += s.Information(b, 30)
		}
		ratio := (canary / nc) / (stable / ns)
		if d := math.Abs(math.Log(ratio/3)) / math.Sqrt(1/canary+1/stable); d > 5 {
			t.Errorf("%s: the canary's errors are %.2f times stable's: %.1f standard errors from 3", name, ratio, d)
		}
		if told <= 0 {
			t.Errorf("%s: a fault that shows tells nothing", name)
		}
	}
}

// TestResampledLimit: the information of added errors is that of the same rates in the simulator.
func TestResampledLimit(t *testing.T) {
	errors := []rollout.Gate{{Name: "errors", Type: rollout.ErrorRate}}
	b := rollout.Block{Start: t0, End: t0.Add(interval), Counts: map[string]rollout.Counts{
		"errors": {Stable: rollout.Arm{Requests: 10000, Events: []float64{100}}},
	}}
	s := Tape{b}.Resample(errors, Fault{Errors: 2}, "run-1", t0, rand.New(rand.NewPCG(4, 4)))
	split, _ := s.Block(b.Start, b.End, 10)
	nc, ns := split.Counts["errors"].Canary.Requests, split.Counts["errors"].Stable.Requests
	if got, want := s.Information(split, 10), rateInformation(nc, 0.02, ns, 0.01); math.Abs(got-want) > 1e-12 {
		t.Errorf("got %g nats, want %g", got, want)
	}
	if got := s.Information(split, 0); got != 0 {
		t.Errorf("a weight of 0 tells %g nats", got)
	}
}

// TestHypergeometric compares mean and variance: nK/N and nK/N (1-K/N) (N-n)/(N-1), on every side of the symmetries.
func TestHypergeometric(t *testing.T) {
	const draws = 50_000
	r := rand.New(rand.NewPCG(4, 5))
	for _, c := range []struct{ all, marked, taken float64 }{
		{100, 10, 20}, {100, 20, 10}, {100, 90, 20}, {100, 10, 80}, {100, 90, 80}, {1500, 15, 150}, {7, 7, 3}, {7, 0, 3}, {7, 3, 7},
	} {
		sum, squares := 0.0, 0.0
		for range draws {
			x := hypergeometric(r, c.all, c.marked, c.taken)
			if x < math.Max(0, c.marked+c.taken-c.all) || x > math.Min(c.marked, c.taken) {
				t.Fatalf("%+v: drew %g", c, x)
			}
			sum, squares = sum+x, squares+x*x
		}
		mean := sum / draws
		variance := squares/draws - mean*mean
		p := c.marked / c.all
		wantMean, wantVariance := c.taken*p, c.taken*p*(1-p)*(c.all-c.taken)/(c.all-1)
		if math.Abs(mean-wantMean) > 5*math.Sqrt(wantVariance/draws) || math.Abs(variance-wantVariance) > 0.05*wantVariance+1e-9 {
			t.Errorf("%+v: mean %.4f and variance %.4f, want %.4f and %.4f", c, mean, variance, wantMean, wantVariance)
		}
	}
}

package backtest

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

func exampleQuestion() Question {
	return Question{
		Plan: rollout.Plan{
			Steps:    []rollout.Step{{Weight: 10, Hold: time.Minute}, {Weight: 50}, {Weight: 100}},
			Gates:    []rollout.Gate{{Name: "errors", Type: rollout.ErrorRate, Margin: 1.5, Tolerance: 0.001}},
			Interval: interval, Cap: 20 * time.Minute, FalseAlarm: 0.05, Miss: 0.15,
		},
		Traffic: Traffic{Requests: Constant(100), Errors: Constant(0.01)},
		Faults:  []Named{{"errors x2", Fault{Errors: 2}}, {"errors x5", Fault{Errors: 5}}},
		Runs:    12, Seed: 1, Start: t0,
	}
}

// TestNeeds: the limits are those of the literature, more weight and greater harms need less time, no time is below its limit
// by more than chance, and a step without stable traffic never passes.
func TestNeeds(t *testing.T) {
	needs, err := Needs(t.Context(), exampleQuestion())
	if err != nil {
		t.Fatal(err)
	}
	if got := *needs[0].See[0].LimitSeconds; math.Abs(got-87.5) > 0.1 {
		t.Errorf("1 %% to 2 %% at 10 %%: the limit is %.1f s, want 87.5", got)
	}
	if got := *needs[0].Pass.LimitRequests; math.Abs(got-safetyLimit(0.1, 0.01, 1.5, 0.05)) > 1 {
		t.Errorf("to pass takes %.0f requests at the least, want %.0f", got, safetyLimit(0.1, 0.01, 1.5, 0.05))
	}
	if a, b := needs[0].See[0].MeanSeconds, needs[1].See[0].MeanSeconds; b >= a {
		t.Errorf("at 50 %% it takes %g s, at 10 %% %g s", b, a)
	}
	if a, b := needs[0].See[0].MeanSeconds, needs[0].See[1].MeanSeconds; b >= a {
		t.Errorf("five times the errors take %g s, twice %g s", b, a)
	}
	for _, n := range needs[:2] {
		for _, r := range n.See {
			if r.Done.Count != r.Done.Of || r.P95Seconds == nil || r.MeanSeconds < 0.5**r.LimitSeconds {
				t.Errorf("step %d, %s: %d of %d runs, mean %g s, limit %g s", n.Step, r.What, r.Done.Count, r.Done.Of, r.MeanSeconds, *r.LimitSeconds)
			}
		}
	}
	last := needs[2]
	if last.Pass.LimitSeconds != nil || last.Pass.Done.Count != 0 || last.Pass.P50Seconds != nil || last.See[0].LimitSeconds != nil {
		t.Errorf("at 100 %% nothing is left to compare with, and the step passes: %+v", last.Pass)
	}
}

// safetyLimit is ln(1/miss) over p kl(q(1), q(margin)), written out.
func safetyLimit(w, p, margin, miss float64) float64 {
	q := w * margin / (w*margin + 1 - w)
	return math.Log(1/miss) / (p * (w*math.Log(w/q) + (1-w)*math.Log((1-w)/(1-q))))
}

// TestNeedsStops: nobody waits for simulations that nobody wants.
func TestNeedsStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Needs(ctx, exampleQuestion()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestSafetyInformation: the tolerance counts where it says more, and gates that ask for no safety need none.
func TestSafetyInformation(t *testing.T) {
	traffic := Traffic{Requests: Constant(100), Latency: Latency{Bounds: []float64{0.1, 0.25}, Median: 0.1, Sigma: 0.5}, Mean: Quantity{Mean: Constant(1), Spread: 1}}
	never := rollout.Gate{Type: rollout.ErrorRate, Margin: 1.5, Tolerance: 0.01}
	if got, want := safetyInformation(never, traffic, 10), 10*math.Log(1/0.99); math.Abs(got-want) > 1e-12 {
		t.Errorf("a service that never fails tells %g nats a second, want %g", got, want)
	}
	latency := rollout.Gate{Type: rollout.Latency, Margin: 1.5, Tolerance: 0.001, Threshold: 250 * time.Millisecond}
	if got := safetyInformation(latency, traffic, 10); !(got > 0) || math.IsInf(got, 1) {
		t.Errorf("a gate on latency is told %g nats a second", got)
	}
	mean := rollout.Gate{Type: rollout.Mean, Margin: math.E}
	if got, want := safetyInformation(mean, traffic, 50), 100*0.25/2; math.Abs(got-want) > 1e-9 {
		t.Errorf("a gate on a mean is told %g nats a second, want %g", got, want)
	}
	if got := safetyInformation(rollout.Gate{Type: rollout.SampleRatio}, traffic, 50); !math.IsInf(got, 1) {
		t.Errorf("a gate that asks for no safety limits it to %g nats a second", got)
	}
}

// TestMany keeps the order, whoever is quicker.
func TestMany(t *testing.T) {
	records, err := Many(t.Context(), 100, func(i int) Record { return Record{Requests: float64(i)} })
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		if r.Requests != float64(i) {
			t.Errorf("record %d is number %g", i, r.Requests)
		}
	}
}

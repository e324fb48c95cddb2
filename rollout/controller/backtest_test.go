package controller_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/backtest"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// TestBacktestIsTheController lets the controller and a backtest meet the same traffic: they go through the same weights at the
// same times and end alike, for the same reason. What a backtest says of a plan then holds for the controller.
func TestBacktestIsTheController(t *testing.T) {
	for name, c := range map[string]struct {
		traffic backtest.Traffic
		ending  backtest.Ending
		reason  rollout.Reason
	}{
		"Healthy": {
			backtest.Traffic{Requests: backtest.Constant(2000), Errors: backtest.Line(0.005, 0.02, 5*time.Minute)},
			backtest.Promoted, rollout.AllPassed,
		},
		"LateFault": {
			backtest.Traffic{Requests: backtest.Constant(300), Errors: backtest.Constant(0.01), Fault: backtest.Fault{Errors: 6, From: 2 * time.Minute}},
			backtest.RolledBack, rollout.ErrorsHarm,
		},
		"TooLittle": {backtest.Traffic{Requests: backtest.Constant(2), Errors: backtest.Constant(0.02)}, backtest.Paused, rollout.Inconclusive},
		"Silent":    {backtest.Traffic{}, backtest.Paused, rollout.NoBlocks},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.o.Settle = time.Nanosecond // a backtest has no proxies to wait for
			w.restart()
			tape := taped(c.traffic)
			w.source.counts = func(start time.Time) map[string]rollout.Counts {
				b, _ := tape.Block(start, start, 0)
				return b.Counts
			}
			w.deploy("v1", true)
			w.until("stable", stableOn("v1"))
			w.deploy("v2", true)
			w.want("v2")
			ro := w.until("running", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run != nil })
			plan, err := controller.PlanOf(ro)
			if err != nil {
				t.Fatal(err)
			}
			begun := ro.Status.Run.StartedAt.UTC()
			want := backtest.Replay(backtest.Options{Plan: plan, RunID: ro.Status.Run.ID, Start: begun, Lag: time.Second}, tape)
			if want.Ending != c.ending || want.Reason != c.reason {
				t.Fatalf("the backtest ended %s (%s: %s), want %s (%s)", want.Ending, want.Reason, want.Message, c.ending, c.reason)
			}
			got := w.passage()
			if diff := cmp.Diff(want.Changes, got.Changes); diff != "" {
				t.Errorf("weights (-backtest +controller):\n%s", diff)
			}
			if got.Ending != want.Ending || got.Reason != want.Reason || got.Message != want.Message || !got.End.Equal(want.End) {
				t.Errorf("the controller ended %s (%s: %s) at %s\nthe backtest %s (%s: %s) at %s", got.Ending, got.Reason, got.Message, got.End, want.Ending, want.Reason, want.Message, want.End)
			}
		})
	}
}

// taped are blocks of an hour, from well before the run on.
func taped(traffic backtest.Traffic) backtest.Tape {
	gates := []rollout.Gate{{Name: "errors", Type: rollout.ErrorRate}}
	s := backtest.Simulate(traffic, gates, "taped", epoch, rand.New(rand.NewPCG(6, 6)))
	var tape backtest.Tape
	for start := epoch.Add(-10 * time.Minute); start.Before(epoch.Add(time.Hour)); start = start.Add(10 * time.Second) {
		b, _ := s.Block(start, start.Add(10*time.Second), 20)
		tape = append(tape, b)
	}
	return tape
}

// passage turns the loop until the run has ended or waits for somebody, and says what became of it.
func (w *world) passage() backtest.Record {
	w.t.Helper()
	var r backtest.Record
	step := int32(0)
	for range 300 {
		now := w.clock
		st := w.turn().Status
		if st.Run != nil && st.Step != step {
			step++
			r.Changes = append(r.Changes, backtest.Change{At: now, Step: int(st.Step), Weight: int(st.Weight)})
		}
		switch {
		case st.Run == nil:
			r.Ending = map[string]backtest.Ending{v1alpha1.OutcomePromoted: backtest.Promoted, v1alpha1.OutcomeRolledBack: backtest.RolledBack}[st.LastRun.Outcome]
			r.Reason, r.Message, r.End = rollout.Reason(st.LastRun.Reason), st.LastRun.Message, st.LastRun.EndedAt.UTC()
			return r
		case st.Run.Paused != "":
			r.Ending, r.Reason, r.Message, r.End = backtest.Paused, rollout.Reason(st.Run.Paused), st.Message, now
			return r
		}
	}
	w.t.Fatal("after 300 turns the run goes on")
	return r
}

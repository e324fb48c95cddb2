package backtest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// dualGate is the reference's pair of processes: a wide grid without restarts for harm, the ratio alone for safety.
func dualGate(sim *Simulator, weight int) (Ending, time.Duration) {
	harm, safety := stats.NewRateRatio(1, 1.05, 20, stats.GridSize), stats.NewSafety(1.5)
	for start := t0; ; start = start.Add(interval) {
		end := start.Add(interval)
		b, _ := sim.Block(start, end, weight)
		c, s := countsOf(b.Counts["errors"].Canary), countsOf(b.Counts["errors"].Stable)
		harm.Add(c.errors, c.requests, s.errors, s.requests)
		safety.Add(c.errors, c.requests, s.errors, s.requests)
		switch {
		case harm.LogE() >= math.Log(20):
			return RolledBack, end.Sub(t0)
		case safety.LogE() >= math.Log(20):
			return Promoted, end.Sub(t0)
		case end.Sub(t0) > 48*time.Hour:
			return Unfinished, end.Sub(t0)
		}
	}
}

// dualRow is a row of the reference's table: the share of runs with the right outcome and their mean time in seconds.
type dualRow struct {
	r         float64
	right     Ending
	share     float64
	seconds   float64
	reference string
}

// check holds the judge to its budgets, and the reproduction to the reference.
func (c dualRow) check(t *testing.T, ours, theirs *outcomes, again sample) {
	t.Helper()
	switch {
	case c.r == 1.5 && ours.promoted.above(0.05):
		t.Errorf("at the margin %s were promoted, want at most 0.05", ours.promoted)
	case c.r <= 1 && ours.rolledBack.above(0.05):
		t.Errorf("r %g: rolled back %s, want at most 0.05", c.r, ours.rolledBack)
	case c.r == 2 && ours.promoted.above(0.01):
		t.Errorf("r 2: promoted %s", ours.promoted)
	}
	shares := theirs.rolledBack.share()
	if c.right == Promoted {
		shares = theirs.promoted.share()
	}
	// The reference's shares are of as many runs as ours: both have errors.
	if reach := (shares.High - shares.Low) / 2; math.Abs(shares.Share-c.share) > 2*reach+0.01 {
		t.Errorf("r %g: reproduced share %.3f, reference %.3f", c.r, shares.Share, c.share)
	}
	if c.seconds > 0 && math.Abs(mean(again)-c.seconds) > again.reach()+0.05*c.seconds {
		t.Errorf("r %g: reproduced time %s, reference %.0f s", c.r, again, c.seconds)
	}
}

// benchDualGate measures how runs at one weight end when both sides of the judge may speak, and reproduces the reference's
// table by its own processes on the same traffic.
func benchDualGate(t *testing.T) *section {
	s := &section{
		title: "Promotion and rollback",
		text: "One step of 10 %, 1 % errors, 100 requests a second, falseAlarm 0.05, miss 0.05, margin 1.5; r is the true ratio of the canary's errors to stable's. " +
			"Times are of the outcome that is right; limits are ln(20)/I. \"Reproduced\" are the reference's own two processes (no restarts, no tolerance) on the same traffic: " +
			"it states the shares and times in the last column, of 3 to 5 % error.",
		head: []string{"r", "runs", "promoted", "rolled back", "time", "95 % within", "limit", "reproduced: promoted", "rolled back", "time", "reference"},
	}
	for i, c := range []dualRow{
		{0.8, Promoted, 0.997, 230, "0.997 promoted, 230 s"},
		{1, Promoted, 0.993, 436, "0.993 promoted, 436 s (limit 363 s)"},
		{1.25, Promoted, 0.53, 0, "0.53 promoted, 0.47 rolled back"},
		{1.5, RolledBack, 0.96, 0, "0.960 rolled back"},
		{2, RolledBack, 1, 134, "1.000 rolled back, 134 s (limit 89 s)"},
	} {
		runs, plan := many(400, 40), errorsPlan(10)
		ours, theirs := &outcomes{}, &outcomes{}
		traffic := Traffic{Requests: Constant(100), Errors: Constant(0.01), Fault: Fault{Errors: c.r}}
		for n := range runs {
			id, sim := trial(traffic, plan, 300_000+10_000*i+n)
			x := Replay(Options{Plan: plan, RunID: id, Start: t0}, sim)
			ours.add(x.Ending, x.End.Sub(x.Start)-5*time.Second) // without the time that a block takes to be complete
			_, sim = trial(traffic, plan, 300_000+10_000*i+n)
			theirs.add(dualGate(sim, 10))
		}
		limit := stats.Limit(stats.SafetyInformation(0.01*c.r, 0.01, 0.1, 1.5), 0.05) / 100
		if c.r > 1 {
			limit = stats.Limit(stats.RateInformation(0.01*c.r, 0.01, 0.1), 0.05) / 100
		}
		took, again := ours.times(c.right), theirs.times(c.right)
		s.row(fmt.Sprint(c.r), fmt.Sprint(runs), ours.promoted.String(), ours.rolledBack.String(), took.String(), took.p95(), fmt.Sprintf("%.0f s", limit),
			theirs.promoted.String(), theirs.rolledBack.String(), again.String(), c.reference)
		c.check(t, ours, theirs, again)
	}
	return s
}

package backtest

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/siskin-dev/siskin/rollout"
)

// record is a run that ended after a time.
func record(e Ending, why rollout.Reason, after time.Duration) Record {
	return Record{Ending: e, Reason: why, Start: t0, End: t0.Add(after), Requests: 1000, Exposed: 100}
}

// faulty is a run with a fault from onset on.
func faulty(r Record, onset, limit time.Duration) Record {
	r.Harmful, r.Onset, r.Limit = true, t0.Add(onset), limit
	return r
}

// TestSummarise tells false alarms from detections, and measures the delay from the onset of the fault.
func TestSummarise(t *testing.T) {
	plan := examplePlan()
	late := Summarise("late fault", plan, []Record{
		record(RolledBack, rollout.ErrorsHarm, 2*time.Minute), // before the fault: a false alarm
		faulty(record(RolledBack, rollout.ErrorsHarm, 12*time.Minute), 10*time.Minute, time.Minute),
		faulty(record(RolledBack, rollout.LatencyHarm, 16*time.Minute), 10*time.Minute, 3*time.Minute),
		faulty(record(Promoted, rollout.AllPassed, time.Hour), 10*time.Minute, 2*time.Minute),
	})
	detected, missed, limit, efficiency := Share{Count: 2, Of: 3, Share: 2. / 3}, Share{Count: 1, Of: 3, Share: 1. / 3}, 120.0, 0.5
	want := Report{
		Name: "late fault", Runs: 4,
		Promoted:   Share{Count: 1, Of: 4, Share: 0.25},
		RolledBack: Share{Count: 3, Of: 4, Share: 0.75},
		Paused:     Share{Of: 4}, Unfinished: Share{Of: 4},
		Reasons:     map[rollout.Reason]int{rollout.ErrorsHarm: 2, rollout.LatencyHarm: 1, rollout.AllPassed: 1},
		FalseAlarms: Share{Count: 1, Of: 4, Share: 0.25}, FalseAlarmBound: 0.05, MissBound: 0.05,
		Detected: &detected, Missed: &missed,
		Delay: &Spread{Mean: 240, P50: 120, P95: 360}, LimitSeconds: &limit, Efficiency: &efficiency,
		Passage: &Spread{Mean: 3600, P50: 3600, P95: 3600}, Exposed: Size{Mean: 100, P95: 100},
	}
	if diff := cmp.Diff(want, late, cmpopts.IgnoreFields(Share{}, "Low", "High"), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestSummariseNothing(t *testing.T) {
	r := Summarise("nothing", examplePlan(), nil)
	if r.Runs != 0 || r.FalseAlarms.High != 1 || r.Delay != nil || r.Passage != nil {
		t.Errorf("the report of no runs says something: %+v", r)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Errorf("the report of no runs has no JSON: %v", err)
	}
}

// TestShare compares with Wilson's interval as tables have it, and counts how often it contains what is true.
func TestShare(t *testing.T) {
	for _, c := range []struct {
		x, n      int
		low, high float64
	}{{0, 10, 0, 0.2775}, {1, 10, 0.0179, 0.4042}, {5, 10, 0.2366, 0.7634}, {10, 10, 0.7225, 1}, {10, 1000, 0.0054, 0.0183}} {
		s := shareOf(c.x, c.n)
		if math.Abs(s.Low-c.low) > 1e-4 || math.Abs(s.High-c.high) > 1e-4 {
			t.Errorf("%d of %d: got %.4f to %.4f, want %.4f to %.4f", c.x, c.n, s.Low, s.High, c.low, c.high)
		}
	}
}

func TestQuantile(t *testing.T) {
	xs := []float64{5, 1, 4, 2, 3}
	for p, want := range map[float64]float64{0: 1, 0.2: 1, 0.21: 2, 0.5: 3, 0.95: 5, 1: 5} {
		if got := quantile(xs, p); got != want {
			t.Errorf("quantile %g of 1 to 5: got %g, want %g", p, got, want)
		}
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("quantile of nothing: got %g, want 0", got)
	}
}

func TestWriteTable(t *testing.T) {
	plan := examplePlan()
	healthy := Summarise("healthy", plan, []Record{
		record(Promoted, rollout.AllPassed, 20*time.Minute), record(Promoted, rollout.AllPassed, 30*time.Minute),
		record(RolledBack, rollout.ErrorsHarm, time.Minute), record(Paused, rollout.Inconclusive, 2*time.Hour),
	})
	harmful := Summarise("errors x2", plan, []Record{
		faulty(record(RolledBack, rollout.ErrorsHarm, 4*time.Minute), 0, 2*time.Minute),
		faulty(record(RolledBack, rollout.ErrorsHarm, 6*time.Minute+5*time.Second), 0, 2*time.Minute),
	})
	want := `
                     HEALTHY                                               ERRORS X2
runs                 4                                                     2
promoted             50 % (15 % to 85 %)                                   0 % (0 % to 65.8 %)
rolled back          25 % (4.6 % to 69.9 %)                                100 % (34.2 % to 100 %)
paused               25 % (4.6 % to 69.9 %)                              -
false alarms         25 % (4.6 % to 69.9 %), at most 5 % allowed              -
detected           -                                                        100 % (34.2 % to 100 %)
missed               -                                                      0 % (0 % to 65.8 %)
delay                -                                                      mean 5m03s, half below 4m, 95 % below 6m05s
limit                -                                                      2m
efficiency           -                                                      0.40
time to promotion    mean 25m, half below 20m, 95 % below 30m    -
requests exposed     mean 100, 95 % below 100                              mean 100, 95 % below 100
`
	var got strings.Builder
	if err := WriteTable(&got, healthy, harmful); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Fields(want), strings.Fields(got.String())); diff != "" {
		t.Errorf("table (-want +got):\n%s\n%s", diff, got.String())
	}
	for line := range strings.Lines(got.String()) {
		if strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
			t.Errorf("line %q ends in blanks", line)
		}
	}
}

func TestClock(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 1500 * time.Millisecond: "1.5s", 59 * time.Second: "59s", 90 * time.Second: "1m30s", time.Minute: "1m",
		59*time.Minute + 59*time.Second: "59m59s", 90 * time.Minute: "1h30m", 50 * time.Hour: "50h",
	} {
		if got := Clock(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

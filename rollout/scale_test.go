package rollout

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestScalingPlan(t *testing.T) {
	const delay = 10 * time.Minute
	now := t0.Add(time.Hour)
	stable := func(replicas int) Workload {
		return Workload{Part: PartStable, Replicas: replicas, Available: replicas}
	}
	taken := func(replicas, wanted int) Workload {
		return Workload{Part: PartStable, Replicas: replicas, Available: replicas, Wanted: wanted, Full: 10}
	}
	canary := func(replicas, available int) Workload {
		return Workload{Part: PartCanary, Replicas: replicas, Available: available}
	}
	left := func(replicas int, ago time.Duration) Workload {
		return Workload{Part: PartLeft, Replicas: replicas, Since: now.Add(-ago)}
	}
	start, at25 := Stand{Running: true, Settled: true, Now: now}, Stand{Running: true, Settled: true, Weight: 25, Now: now}
	rest, unsettled := Stand{Settled: true, Now: now}, Stand{Running: true, Weight: 25, Now: now}
	fixed, as, dynamic := Scaling{Replicas: 3, Delay: delay}, Scaling{Delay: delay}, Scaling{Delay: delay, Dynamic: true}
	type want struct{ Wanted, Full int }
	tests := map[string]struct {
		reason string
		Scaling
		Stand
		args []Workload
		want []want
	}{
		"AsStable":       {"a canary has what stable has", as, start, []Workload{stable(4), canary(0, 0)}, []want{{4, 0}, {4, 4}}},
		"Fixed":          {"or what the spec says", fixed, start, []Workload{stable(4), canary(0, 0)}, []want{{4, 0}, {3, 3}}},
		"FixedOverMore":  {"nothing is taken from a canary that has more", fixed, start, []Workload{stable(4), canary(6, 6)}, []want{{4, 0}, {6, 3}}},
		"StableAsleep":   {"a canary can always answer", as, start, []Workload{stable(0), canary(0, 0)}, []want{{0, 0}, {1, 1}}},
		"NoStable":       {"the stable version may have no Deployment any more", as, start, []Workload{canary(0, 0)}, []want{{1, 1}}},
		"StableGrows":    {"somebody gave stable more, so the canary needs more", as, at25, []Workload{stable(8), canary(4, 4)}, []want{{8, 0}, {8, 8}}},
		"StableIsAlone":  {"stable keeps its replicas when it is not dynamic", as, at25, []Workload{stable(10), canary(10, 10)}, []want{{10, 0}, {10, 10}}},
		"StableCutByMan": {"somebody who takes replicas from stable is not contradicted", as, at25, []Workload{{Part: PartStable, Replicas: 2, Wanted: 10}, canary(10, 10)}, []want{{2, 0}, {10, 2}}},

		"DynamicStart":     {"nothing is taken before the first unit leaves", dynamic, start, []Workload{stable(10), canary(0, 0)}, []want{{10, 10}, {10, 10}}},
		"Dynamic":          {"the share of 75 units, rounded up", dynamic, at25, []Workload{taken(10, 10), canary(10, 10)}, []want{{8, 10}, {10, 10}}},
		"DynamicEnd":       {"one replica stays, to go back to", dynamic, Stand{Running: true, Settled: true, Weight: 100, Now: now}, []Workload{taken(8, 8), canary(10, 10)}, []want{{1, 10}, {10, 10}}},
		"DynamicSpreading": {"a proxy may still send its units to stable", dynamic, unsettled, []Workload{taken(10, 10), canary(10, 10)}, []want{{10, 10}, {10, 10}}},
		"DynamicShort":     {"the canary cannot answer for its share", dynamic, at25, []Workload{taken(10, 10), canary(10, 2)}, []want{{10, 10}, {10, 10}}},
		"DynamicStale":     {"the canary has become short before the lowering was written", dynamic, at25, []Workload{taken(10, 8), canary(10, 2)}, []want{{10, 10}, {10, 10}}},
		"DynamicGone":      {"nobody runs the canary any more", dynamic, at25, []Workload{taken(10, 10), canary(0, 0)}, []want{{10, 10}, {10, 10}}},
		"DynamicAlone":     {"nobody says who answers for the units that have left", dynamic, at25, []Workload{taken(10, 10)}, []want{{10, 10}}},
		"DynamicOther":     {"the run of another version begins while replicas are missing", dynamic, Stand{Running: true, Now: now}, []Workload{taken(5, 5), canary(0, 0)}, []want{{10, 10}, {10, 10}}},
		"DynamicMore":      {"somebody gives stable more than it had", dynamic, at25, []Workload{taken(20, 8), canary(10, 10)}, []want{{15, 20}, {20, 20}}},
		"TakenBack":        {"after the run stable gets all back, settled or not", dynamic, Stand{Now: now}, []Workload{taken(5, 5), {Part: PartLeft, Replicas: 10}}, []want{{10, 10}, {10, 0}}},
		"TakenBackAgain":   {"what could not be written is tried again", dynamic, rest, []Workload{taken(5, 10)}, []want{{10, 10}}},
		"Whole":            {"all of it is back", dynamic, rest, []Workload{taken(10, 10)}, []want{{10, 0}}},
		"SwitchedOff":      {"stable is no longer dynamic in mid-run", as, at25, []Workload{taken(5, 5), canary(10, 10)}, []want{{10, 10}, {10, 10}}},
		"NewStableShort":   {"a version promoted by hand still gets its replicas", as, rest, []Workload{{Part: PartStable, Replicas: 7, Wanted: 10, Full: 10}}, []want{{10, 10}}},

		"Left":          {"the delay begins", as, rest, []Workload{stable(4), {Part: PartLeft, Replicas: 4}}, []want{{4, 0}, {4, 0}}},
		"LeftLong":      {"the delay is over", as, rest, []Workload{stable(4), left(4, delay)}, []want{{4, 0}, {0, 0}}},
		"LeftNotYet":    {"it is not", as, rest, []Workload{stable(4), left(4, delay-1)}, []want{{4, 0}, {4, 0}}},
		"LeftSpreading": {"a route may lead there as long as the mesh is not settled", as, Stand{Now: now}, []Workload{stable(4), left(4, 24*time.Hour)}, []want{{4, 0}, {4, 0}}},
		"LeftInRun":     {"a version before the last goes while another is tried", as, start, []Workload{stable(4), canary(4, 4), left(4, delay)}, []want{{4, 0}, {4, 4}, {0, 0}}},
		"CalledBack":    {"it is tried again before the delay is over", as, start, []Workload{stable(4), {Part: PartCanary, Replicas: 4, Since: now.Add(-2 * delay)}}, []want{{4, 0}, {4, 4}}},
		"Kept":          {"an experiment shows it", as, rest, []Workload{stable(4), {Part: PartKept, Replicas: 4, Since: now.Add(-2 * delay)}}, []want{{4, 0}, {4, 0}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var got []want
			for i, w := range tc.Plan(tc.Stand, tc.args) {
				got = append(got, want{w.Wanted, w.Full})
				if (w.Part == PartLeft) == w.Since.IsZero() {
					t.Errorf("%s: workload %d is %s since %v", tc.reason, i, w.Part, w.Since)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestScalingGivesBack holds, over all weights and sizes, that a plan which lowers stable leaves both versions with enough for
// their shares, and that the same state after the run's end has all of it back.
func TestScalingGivesBack(t *testing.T) {
	s := Scaling{Dynamic: true}
	for full := 1; full <= 25; full++ {
		for weight := 0; weight <= 100; weight++ {
			before := []Workload{{Part: PartStable, Replicas: full, Wanted: full, Full: full}, {Part: PartCanary, Replicas: full, Available: full}}
			run := s.Plan(Stand{Running: true, Settled: true, Weight: weight}, before)
			if run[0].Wanted < 1 || 100*run[0].Wanted < (100-weight)*full || run[1].Wanted < full {
				t.Fatalf("at weight %d of %d replicas stable keeps %d and the canary has %d", weight, full, run[0].Wanted, run[1].Wanted)
			}
			run[0].Replicas = run[0].Wanted
			run[1].Part = PartLeft
			if after := s.Plan(Stand{}, run); after[0].Wanted != full {
				t.Fatalf("after a run that left %d of %d replicas stable is to have %d", run[0].Replicas, full, after[0].Wanted)
			}
		}
	}
}

func TestNeeds(t *testing.T) {
	for reason, tc := range map[string]struct{ wanted, weight, want int }{
		"a share, rounded up":                   {10, 25, 3},
		"all of it for all of the units":        {10, 100, 10},
		"one at least, whoever counts on it":    {10, 0, 1},
		"one also where it is to have none yet": {0, 50, 1},
	} {
		if got := (Workload{Wanted: tc.wanted}).Needs(tc.weight); got != tc.want {
			t.Errorf("%s: got %d, want %d", reason, got, tc.want)
		}
	}
}

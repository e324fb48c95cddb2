package experiment

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/rollout"
)

func latency() rollout.Gate {
	return rollout.Gate{Name: "latency", Type: rollout.Latency, Threshold: 250 * time.Millisecond, Margin: 1.5, Tolerance: 0.01}
}

func TestJudge(t *testing.T) {
	type want struct {
		verdict         Verdict
		reason          rollout.Reason
		winner, harmful string
		tied            []string
	}
	cases := map[string]struct {
		reason string
		plan   func(*Plan)
		world  func(*world)
		want   want
	}{
		"OneBetter": {
			reason: "an arm that is 10 % better is found",
			world:  func(w *world) { w.ratio = map[string]float64{"green": 0.9} },
			want:   want{verdict: Winner, reason: BetterThanControl, winner: "green"},
		},
		"HigherIsBetter": {
			reason: "the direction turns the comparison round",
			plan:   func(p *Plan) { p.Objective.HigherIsBetter = true },
			world:  func(w *world) { w.ratio = map[string]float64{"green": 0.98, "blue": 1.12} },
			want:   want{verdict: Winner, reason: BetterThanControl, winner: "blue"},
		},
		"BestOfTwo": {
			reason: "of two that beat the control the better one is named",
			world:  func(w *world) { w.ratio = map[string]float64{"green": 0.9, "blue": 0.8} },
			want:   want{verdict: Winner, reason: BetterThanControl, winner: "blue"},
		},
		"TwoAlike": {
			reason: "two that are about equally good differ by less than matters, which is said",
			world: func(w *world) {
				w.ratio = map[string]float64{"green": 0.9, "blue": 0.895}
			},
			want: want{verdict: Winner, reason: BetterNotToldApart, winner: "blue", tied: []string{"green"}},
		},
		"Equal": {
			reason: "arms that do not differ are shown not to",
			want:   want{verdict: NoDifference, reason: WithinSmallestEffect},
		},
		"TooSmallToMatter": {
			reason: "an arm that is 2 % better is no winner where 5 % matter, however sure it is",
			world:  func(w *world) { w.ratio = map[string]float64{"green": 0.98} },
			want:   want{verdict: NoDifference, reason: WithinSmallestEffect},
		},
		"TooSmallToHarm": {
			reason: "an arm that is 2 % worse does no harm where 5 % matter, however sure it is",
			world:  func(w *world) { w.ratio = map[string]float64{"green": 1.02} },
			want:   want{verdict: NoDifference, reason: WithinSmallestEffect},
		},
		"Worse": {
			reason: "an arm that makes the objective worse ends the experiment",
			world:  func(w *world) { w.ratio = map[string]float64{"blue": 1.2} },
			want:   want{verdict: Harm, reason: rollout.MeanHarm, harmful: "blue"},
		},
		"SlowWinner": {
			reason: "an arm that is better and slower is harmful: the guardrail comes first",
			plan:   func(p *Plan) { p.Guardrails = []rollout.Gate{latency()} },
			world: func(w *world) {
				w.ratio, w.slow = map[string]float64{"green": 0.9}, map[string]float64{"green": 4}
			},
			want: want{verdict: Harm, reason: rollout.LatencyHarm, harmful: "green"},
		},
		"Healthy guardrail": {
			reason: "a guardrail that an arm leaves as it is stands in no winner's way",
			plan:   func(p *Plan) { p.Guardrails = []rollout.Gate{latency()} },
			world:  func(w *world) { w.ratio = map[string]float64{"green": 0.9} },
			want:   want{verdict: Winner, reason: BetterThanControl, winner: "green"},
		},
		"LostUnits": {
			reason: "where 10 % of one arm's units are lost, nothing else counts",
			plan:   func(p *Plan) { p.MinDuration = 3 * time.Hour },
			world: func(w *world) {
				w.ratio, w.lost = map[string]float64{"green": 0.9}, map[string]float64{"green": 0.1}
			},
			want: want{verdict: Invalid, reason: rollout.SampleRatioMismatch},
		},
		"Contaminated": {
			reason: "buckets that meet another version than their own are no arm",
			world: func(w *world) {
				w.ratio, w.stray = map[string]float64{"green": 0.9}, map[string]float64{"green": 0.1}
			},
			want: want{verdict: Invalid, reason: Contaminated},
		},
		"NoGuardrail": {
			reason: "an arm whose guardrail was never seen is no winner; at the end there is none",
			plan: func(p *Plan) {
				g := latency()
				g.Name = "unheard"
				p.Guardrails = []rollout.Gate{g}
			},
			world: func(w *world) { w.ratio = map[string]float64{"green": 0.9} },
			want:  want{verdict: Inconclusive, reason: rollout.NoBlocks},
		},
		"NoTime": {
			reason: "what cannot be told at the maximum duration stays open",
			plan: func(p *Plan) {
				p.SmallestEffect, p.MinDuration, p.MaxDuration = 0.005, 10*time.Minute, 40*time.Minute
			},
			want: want{verdict: Inconclusive, reason: MaximumDuration},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := examplePlan()
			if tc.plan != nil {
				tc.plan(&p)
			}
			w := begin(t, p, 1, 0.1)
			if tc.world != nil {
				tc.world(w)
			}
			res := w.until(700)
			got := want{res.Verdict, res.Reason, res.Winner, res.Harmful, res.Tied}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("%s: (-want +got)\n%s%s", tc.reason, diff, res.Message)
			}
			t.Logf("after %s: %s", w.run.LastBlock.Sub(t0), res.Message)
		})
	}
}

// TestWaits: what an experiment waits for while it runs.
func TestWaits(t *testing.T) {
	p := examplePlan()
	p.MinDuration = 2 * time.Hour
	w := begin(t, p, 1, 0.1)
	w.ratio = map[string]float64{"green": 0.9}

	if res := w.judge(); res.Verdict != Running || res.Reason != MinimumDuration {
		t.Errorf("before any block: %s %s, want to wait for the minimum duration", res.Verdict, res.Reason)
	}
	w.next(100)
	res := w.judge()
	if res.Verdict != Running || res.Reason != MinimumDuration {
		t.Errorf("an hour before the minimum: %s %s, want to wait for it, whatever the evidence", res.Verdict, res.Reason)
	}
	if want := p.MinDuration - w.run.LastBlock.Sub(t0); !res.RemainingKnown || res.Remaining != want {
		t.Errorf("remaining %s (%t), want the rest of the minimum, %s", res.Remaining, res.RemainingKnown, want)
	}
	for _, silent := range []time.Duration{10 * time.Minute, 3 * time.Hour} {
		res := Judge(w.plan, w.run, w.run.LastBlock.Add(silent))
		if res.Verdict != Running || res.Reason != rollout.NoBlocks {
			t.Errorf("after %s without a block: %s %s, want no verdict and %s", silent, res.Verdict, res.Reason, rollout.NoBlocks)
		}
	}
	if res := Judge(w.plan, w.run, t0.Add(p.MaxDuration)); res.Verdict != Inconclusive || res.Reason != rollout.NoBlocks {
		t.Errorf("at the maximum without data: %s %s, want %s for want of data", res.Verdict, res.Reason, Inconclusive)
	}
}

// TestRemaining: how long the evidence still needs is said in time, and about rightly.
func TestRemaining(t *testing.T) {
	p := examplePlan()
	p.MinDuration = 0
	w := begin(t, p, 6, 0)
	w.noise = 0.8
	w.ratio = map[string]float64{"green": 0.93}
	w.next(65)
	early := w.judge()
	if early.Verdict != Running || !early.RemainingKnown {
		t.Fatalf("%s %s, remaining %s (%t); want to wait and to know how long", early.Verdict, early.Reason, early.Remaining, early.RemainingKnown)
	}
	from := w.run.LastBlock
	res := w.until(500)
	took := w.run.LastBlock.Sub(from)
	t.Logf("said %s, took %s to %s", early.Remaining, took, res.Verdict)
	if took > 3*early.Remaining || early.Remaining > 3*took {
		t.Errorf("said %s, took %s; want within a factor of three", early.Remaining, took)
	}
	if last := Judge(p, w.run, t0.Add(p.MaxDuration-time.Minute)); last.Remaining > time.Minute {
		t.Errorf("remaining %s a minute before the maximum duration", last.Remaining)
	}
}

// TestSeparating: two arms that beat the control and differ by more than matters, though not surely yet, are waited for, and at
// the maximum duration the better estimate is named with the caveat.
func TestSeparating(t *testing.T) {
	p := examplePlan()
	p.SmallestEffect, p.MaxDuration = 0.002, 2*time.Hour
	w := begin(t, p, 1, 0.1)
	w.ratio = map[string]float64{"green": 0.9, "blue": 0.9}
	w.next(100)
	if res := w.judge(); res.Verdict != Running || res.Reason != SeparatingArms {
		t.Fatalf("%s %s (%s), want to wait until the two are told apart", res.Verdict, res.Reason, res.Message)
	}
	res := w.until(200)
	if res.Verdict != Winner || res.Reason != BetterNotToldApart || len(res.Tied) != 1 {
		t.Errorf("%s %s (%s), want the better estimate with a caveat", res.Verdict, res.Reason, res.Message)
	}
	if got := w.run.LastBlock.Sub(t0); got != p.MaxDuration {
		t.Errorf("named after %s, want at the maximum of %s", got, p.MaxDuration)
	}
}

// TestPassingContamination: what is observed late, of what the control's version had answered before, is left out and forgiven.
func TestPassingContamination(t *testing.T) {
	w := begin(t, examplePlan(), 1, 0.1)
	w.next(40)
	w.stray = map[string]float64{"green": 1}
	w.next(10)
	w.stray = nil
	w.ratio = map[string]float64{"green": 0.9}
	res := w.until(100)
	if res.Verdict != Winner {
		t.Errorf("%s %s (%s), want green to win", res.Verdict, res.Reason, res.Message)
	}
	if c := res.Arms[1].Contaminated; c < 0.05 || c > 0.4 {
		t.Errorf("contaminated %g, want what was, for people to see", c)
	}
}

// TestChangedBounds: exceedances of other bounds are other events.
func TestChangedBounds(t *testing.T) {
	p := examplePlan()
	p.Guardrails = []rollout.Gate{latency()}
	w := begin(t, p, 1, 0.1)
	w.next(60)
	if res := w.judge(); res.Verdict != Running {
		t.Fatalf("before the change: %s %s", res.Verdict, res.Message)
	}
	w.bounds = []float64{0.2, 0.25, 0.5}
	w.next(1)
	if res := w.judge(); res.Verdict != Invalid || res.Reason != rollout.BoundsChanged {
		t.Errorf("%s %s, want %s for %s", res.Verdict, res.Reason, Invalid, rollout.BoundsChanged)
	}
}

// TestSameVersion: arms of one version are told apart by their buckets alone, and a guardrail by version is not asked about them.
func TestSameVersion(t *testing.T) {
	p := examplePlan()
	p.Guardrails = []rollout.Gate{latency()}
	for i := range p.Variants {
		p.Variants[i].Version = "v1"
	}
	w := begin(t, p, 3, 0.1)
	w.ratio = map[string]float64{"blue": 0.8} // as if its units were others
	res := w.until(700)
	if res.Verdict != Winner || res.Winner != "blue" {
		t.Errorf("%s %s %q (%s), want blue to win", res.Verdict, res.Reason, res.Winner, res.Message)
	}
	for _, a := range res.Arms {
		if len(a.Guardrails) > 0 {
			t.Errorf("%q has findings %v of a guardrail that compares its version with itself", a.Name, a.Guardrails)
		}
	}
}

// TestObjectiveByRequest: an error rate without buckets is compared by version.
func TestObjectiveByRequest(t *testing.T) {
	p := examplePlan()
	p.Objective = rollout.Gate{Name: "errors", Type: rollout.ErrorRate}
	p.SmallestEffect = 0.3
	w := begin(t, p, 1, 0)
	w.fail = map[string]float64{"control": 4, "green": 1, "blue": 2}
	res := w.until(700)
	if res.Verdict != Winner || res.Winner != "green" {
		t.Fatalf("%s %s %q (%s), want green to win", res.Verdict, res.Reason, res.Winner, res.Message)
	}
	green := res.Arms[1]
	if !(green.MeanLow < 0.01 && 0.01 < green.MeanHigh) || green.ChanceToBeat < 0.99 || green.Count == 0 {
		t.Errorf("green: rate between %g and %g of %g requests, chance %g; want around 0.01 and near 1", green.MeanLow, green.MeanHigh, green.Count, green.ChanceToBeat)
	}
}

// TestErrorsByBucket: an error rate whose counter tells the bucket is compared by buckets, as a mean is.
func TestErrorsByBucket(t *testing.T) {
	p := examplePlan()
	p.Objective = rollout.Gate{Name: "errors", Type: rollout.ErrorRate, BucketLabel: "bucket"}
	p.Variants[2].Version = "v2" // told apart from green by its buckets
	p.SmallestEffect = 0.3
	w := begin(t, p, 1, 0)
	w.fail = map[string]float64{"control": 4, "green": 4, "blue": 1}
	res := w.until(700)
	if res.Verdict != Winner || res.Winner != "blue" || len(res.Tied) > 0 {
		t.Fatalf("%s %s %q %v (%s), want blue to win", res.Verdict, res.Reason, res.Winner, res.Tied, res.Message)
	}
	blue := res.Arms[2]
	if !(blue.MeanLow < 0.01 && 0.01 < blue.MeanHigh) || !(blue.Low < 0.25 && 0.25 < blue.High) || blue.ChanceToBeat < 0.99 {
		t.Errorf("blue: rate between %g and %g, ratio between %g and %g, chance %g; want around 0.01, around 0.25, and near 1",
			blue.MeanLow, blue.MeanHigh, blue.Low, blue.High, blue.ChanceToBeat)
	}
}

// TestObjectiveByPairs: joules are compared by version and block.
func TestObjectiveByPairs(t *testing.T) {
	p := examplePlan()
	p.Objective = rollout.Gate{Name: "energy", Type: rollout.EnergyPerRequest}
	w := begin(t, p, 1, 0)
	w.ratio = map[string]float64{"green": 0.8, "blue": 0.9}
	res := w.until(700)
	if res.Verdict != Winner || res.Winner != "green" || len(res.Tied) > 0 {
		t.Fatalf("%s %s %q %v (%s), want green to win", res.Verdict, res.Reason, res.Winner, res.Tied, res.Message)
	}
	green := res.Arms[1]
	if !(green.Low < 0.8 && 0.8 < green.High) || green.ChanceToBeat < 0.99 || green.Count == 0 {
		t.Errorf("green: ratio between %g and %g of %g requests, chance %g; want around 0.8 and near 1", green.Low, green.High, green.Count, green.ChanceToBeat)
	}
}

// TestMeasures: the numbers that people are shown are those of the world.
func TestMeasures(t *testing.T) {
	w := begin(t, examplePlan(), 2, 0.1)
	w.ratio = map[string]float64{"green": 0.9, "blue": 1.03}
	w.next(100)
	res := w.judge()
	truth := []float64{1, 0.9, 1.03}
	for i, a := range res.Arms {
		if a.Control != (i == 0) || a.Buckets != 30 || a.Count < 30*59*20 || a.Units < 30*59*3 {
			t.Errorf("%q: control %t, %d buckets, %g observations, %g units", a.Name, a.Control, a.Buckets, a.Count, a.Units)
		}
		if !(a.MeanLow < a.Mean && a.Mean < a.MeanHigh) || math.Abs(a.Mean/(3*truth[i])-1) > 0.4 {
			t.Errorf("%q: mean %g between %g and %g", a.Name, a.Mean, a.MeanLow, a.MeanHigh)
		}
		if a.Known == a.Control || (a.Known && !(a.Low < truth[i] && truth[i] < a.High)) {
			t.Errorf("%q: ratio %g between %g and %g (%t), want it around %g", a.Name, a.Ratio, a.Low, a.High, a.Known, truth[i])
		}
	}
	if green, blue := res.Arms[1].ChanceToBeat, res.Arms[2].ChanceToBeat; !(green > 0.99 && blue < 0.01) {
		t.Errorf("chance to beat: green %g, blue %g, want near 1 and 0", green, blue)
	}
	if a := res.Arms[1]; !a.LiftKnown || !(a.LiftLow < -0.1 && -0.1 < a.LiftHigh) || res.Arms[0].LiftKnown {
		t.Errorf("lift %g between %g and %g (%t), want it around -0.1", a.Lift, a.LiftLow, a.LiftHigh, a.LiftKnown)
	}
	p := w.plan
	p.Objective.HigherIsBetter = true
	turned := begin(t, p, 2, 0.1)
	turned.ratio = w.ratio
	turned.next(100)
	got := turned.judge().Arms[1]
	if math.Abs(got.Ratio-res.Arms[1].Ratio) > 1e-9 || got.ChanceToBeat > 0.01 {
		t.Errorf("higher is better: ratio %g, chance %g; the ratio is still arm by control, %g", got.Ratio, got.ChanceToBeat, res.Arms[1].Ratio)
	}
}

// TestJudgeChangesNothing: it may be asked as often as one likes.
func TestJudgeChangesNothing(t *testing.T) {
	w := begin(t, examplePlan(), 1, 0.1)
	w.ratio = map[string]float64{"green": 0.9, "blue": 0.9}
	w.next(100)
	before := encoded(t, w.run.Evidence)
	first, second := w.judge(), w.judge()
	if diff := cmp.Diff(first.Message, second.Message); diff != "" || first.Verdict != second.Verdict || !slices.Equal(first.Tied, second.Tied) {
		t.Errorf("the second look says another thing: %s", diff)
	}
	if encoded(t, w.run.Evidence) != before {
		t.Error("judging changed the evidence")
	}
}

package experiment

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/rollout"
)

// encoded returns the evidence as it is stored, to compare it bit for bit.
func encoded(t testing.TB, e Evidence) string {
	t.Helper()
	b, err := e.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// resumed returns the run as the next process finds it.
func resumed(t testing.TB, r Run) Run {
	t.Helper()
	var e Evidence
	if err := e.UnmarshalBinary([]byte(encoded(t, r.Evidence))); err != nil {
		t.Fatal(err)
	}
	r.Evidence = e
	return r
}

// TestResume: a process that ends after every block, one that never does and one that asks for all blocks at once reach the same
// evidence and the same result, bit for bit. A block that comes again changes nothing.
func TestResume(t *testing.T) {
	p := examplePlan()
	p.Guardrails = []rollout.Gate{latency()}
	w := begin(t, p, 4, 0.1)
	w.ratio = map[string]float64{"green": 0.97}
	answers := w.blocks(90)
	w.run = w.run.Count(p, nil)
	whole := w.run.Count(p, answers)
	steady, restarted := w.run, w.run
	for i := range answers[0] {
		one := make([][]rollout.Block, len(answers))
		for n := range answers {
			one[n] = answers[n][i : i+1]
		}
		steady = steady.Count(p, one)
		restarted = resumed(t, restarted).Count(p, one).Count(p, one)
	}
	now := whole.LastBlock
	want := encoded(t, whole.Evidence)
	for name, r := range map[string]Run{"block by block": steady, "restarted": resumed(t, restarted), "replayed": whole.Count(p, answers)} {
		if got := encoded(t, r.Evidence); got != want {
			t.Errorf("%s: other evidence: %s", name, cmp.Diff(want, got))
		}
		if !r.LastBlock.Equal(now) {
			t.Errorf("%s: last block %s, want %s", name, r.LastBlock, now)
		}
		if got, want := Judge(p, r, now).Arms[1], Judge(p, whole, now).Arms[1]; got.Ratio != want.Ratio || got.Low != want.Low || got.High != want.High {
			t.Errorf("%s: ratio %v between %v and %v, want %v between %v and %v", name, got.Ratio, got.Low, got.High, want.Ratio, want.Low, want.High)
		}
	}
}

// TestCountIsAValue: counting on one copy of a run leaves the other as it was.
func TestCountIsAValue(t *testing.T) {
	w := begin(t, examplePlan(), 4, 0.1)
	w.next(60)
	before := w.run
	kept := encoded(t, before.Evidence)
	w.next(5)
	if encoded(t, before.Evidence) != kept {
		t.Error("counting changed the run that it began with")
	}
	if encoded(t, w.run.Evidence) == kept {
		t.Error("counting changed nothing")
	}
}

// sums returns an answer in which every listed bucket has one observation of 1.
func sums(buckets ...int) rollout.Arm {
	a := rollout.Arm{}
	for _, b := range buckets {
		a.Buckets = append(a.Buckets, rollout.BucketSum{Bucket: b, Sum: 1, Count: 1})
	}
	return a
}

func TestSplit(t *testing.T) {
	// The arm owns 1 and 2, the control 3; 4 is another arm's, 9 nobody's.
	own := owners{arm: []int{1, 2}, control: []int{3}}
	same := own
	same.same = true
	cases := map[string]struct {
		reason       string
		own          owners
		in           rollout.Counts
		stable, arm  []int
		right, wrong float64
	}{
		"Clean": {
			reason: "each bucket under its owner's version; what nobody here owns is not counted",
			own:    own, in: rollout.Counts{Stable: sums(9, 3, 4), Canary: sums(2, 1)}, stable: []int{3}, arm: []int{1, 2}, right: 3,
		},
		"ArmMetTheControl": {
			reason: "a bucket of the arm under the control's version is contamination",
			own:    own, in: rollout.Counts{Stable: sums(1, 3), Canary: sums(1, 2)}, stable: []int{3}, arm: []int{1, 2}, right: 3, wrong: 1,
		},
		"ControlMetTheArm": {
			reason: "and so is the control's under the arm's; somebody else's may be another variant's of that version",
			own:    own, in: rollout.Counts{Stable: sums(3), Canary: sums(1, 3, 9)}, stable: []int{3}, arm: []int{1}, right: 2, wrong: 1,
		},
		"SameVersion": {
			reason: "of one version all counts come as the control's, and the bucket tells",
			own:    same, in: rollout.Counts{Stable: sums(1, 2, 3, 9)}, stable: []int{3}, arm: []int{1, 2}, right: 3,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			out, right, wrong := tc.own.share(tc.in)
			got := [][]rollout.BucketSum{out.Stable.Buckets, out.Canary.Buckets}
			want := [][]rollout.BucketSum{sums(tc.stable...).Buckets, sums(tc.arm...).Buckets}
			if diff := cmp.Diff(want, got); diff != "" || right != tc.right || wrong != tc.wrong {
				t.Errorf("%s: right %g wrong %g, want %g and %g; buckets (-want +got)\n%s", tc.reason, right, wrong, tc.right, tc.wrong, diff)
			}
			if out.Canary.Requests != float64(len(tc.arm)) || out.Canary.Events[0] != float64(len(tc.arm)) {
				t.Errorf("the arm's totals are %g and %g, want %d", out.Canary.Requests, out.Canary.Events[0], len(tc.arm))
			}
		})
	}
}

// TestInterruption: after an interruption what was counted before stays, and nothing counts until the routes show the variants
// again for the warm-up; nor is it taken for the past.
func TestInterruption(t *testing.T) {
	p := examplePlan()
	p.WarmUp = 2 * time.Minute
	w := begin(t, p, 4, 0.1)
	w.next(60)
	before := w.run
	answers := w.blocks(20)
	w.run.InForceSince = w.run.LastBlock.Add(10 * time.Minute)
	got := w.run.Count(p, answers)
	for n := range answers {
		answers[n] = answers[n][12:]
	}
	want := before.Count(p, answers)
	if encoded(t, got.Evidence) != encoded(t, want.Evidence) {
		t.Error("the blocks of the interruption and of the warm-up left a trace")
	}
	if encoded(t, got.Evidence) == encoded(t, before.Evidence) || !got.LastBlock.Equal(before.LastBlock.Add(20*time.Minute)) {
		t.Error("the blocks after the warm-up were not counted")
	}
}

// TestPast: what the buckets were before tells apart what an arm did and what its units are. It must not be anything else than
// the same buckets under the stable version.
func TestPast(t *testing.T) {
	width := func(past bool) float64 {
		w := begin(t, examplePlan(), 5, 0.3)
		if !past {
			w.run.LastBlock = t0
		} else {
			w.next(40)
		}
		w.next(60)
		a := w.judge().Arms[1]
		return a.High / a.Low
	}
	with, without := width(true), width(false)
	t.Logf("buckets that differ by 30 %%: from low to high %.3g with their past, %.3g without", with, without)
	if with > 1.1 || without < 1.2 {
		t.Errorf("from low to high %.3g with the past and %.3g without, want at most 1.1 and at least 1.2", with, without)
	}
	if w := begin(t, examplePlan(), 5, 0.3); !w.run.LastBlock.Before(t0) {
		t.Error("the first questions do not reach back before the experiment")
	}
}

// TestUnits: where the counter tells the bucket, units are the variant's own; where it tells the version, the version's, in
// proportion to the buckets that meet it anywhere.
func TestUnits(t *testing.T) {
	p := examplePlan()
	p.Variants = []Variant{{"control", "v1", 2}, {"a", "v2", 2}, {"b", "v2", 1}}
	own := [][]int{{0, 1}, {2, 3}, {4}}
	other := Layer{Owned: []Owned{{Version: "v2", Buckets: []int{50, 51}}, {Buckets: []int{60}}, {Version: "v1", Buckets: []int{61}}}}
	r := Start("id", p, own, t0).In(p, other)
	block := func(c rollout.Counts) [][]rollout.Block {
		b := rollout.Block{Start: t0, End: t0.Add(interval), Counts: map[string]rollout.Counts{"units": c}}
		return [][]rollout.Block{{b}, {b}}
	}
	r.LastBlock = t0
	got := r.Count(p, block(rollout.Counts{Stable: rollout.Arm{Requests: 95}, Canary: rollout.Arm{Requests: 5}}))
	if diff := cmp.Diff([]float64{95, 5, 0}, got.Evidence.Units); diff != "" {
		t.Errorf("units by version (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]float64{0.95, 0.05, 0}, got.Evidence.Shares.Weights); diff != "" {
		t.Errorf("three buckets here and two elsewhere meet v2; weights (-want +got):\n%s", diff)
	}
	p.Assigned.BucketLabel = "bucket"
	got = r.Count(p, block(rollout.Counts{Stable: sums(0, 1, 7, 60), Canary: sums(2, 3, 4, 50)}))
	if diff := cmp.Diff([]float64{2, 2, 1}, got.Evidence.Units); diff != "" {
		t.Errorf("units by bucket (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]float64{0.4, 0.4, 0.2}, got.Evidence.Shares.Weights); diff != "" {
		t.Errorf("weights by bucket (-want +got):\n%s", diff)
	}
	half := block(rollout.Counts{Stable: rollout.Arm{Requests: 95}})
	half[1] = nil
	if got = r.Count(p, half); got.Evidence.Units[0] != 0 {
		t.Error("a block that only one question was answered for was counted: its variants would seem to have lost units")
	}
}

// TestEvidenceIsBounded: ten variants with all kinds of gates, after ten blocks and after two hundred.
func TestEvidenceIsBounded(t *testing.T) {
	p := examplePlan()
	p.Variants = p.Variants[:0]
	for i := range MaxVariants {
		p.Variants = append(p.Variants, Variant{Name: string(rune('a' + i)), Version: "v" + string(rune('a'+i)), Share: 9})
	}
	p.Control = "a"
	p.Guardrails = []rollout.Gate{latency(), {Name: "errors", Type: rollout.ErrorRate}}
	w := begin(t, p, 1, 0.1)
	w.next(50)
	early := len(encoded(t, w.run.Evidence))
	w.next(200)
	late := len(encoded(t, w.run.Evidence))
	t.Logf("%d bytes, then %d", early, late)
	if late > 300_000 || late > early*5/4 {
		t.Errorf("%d bytes after 10 blocks and %d after 210, want no growth and at most 300000", early, late)
	}
}

func TestUnmarshal(t *testing.T) {
	var e Evidence
	for _, bad := range []string{"", "{", `{"Arms":[{"Evidence":"x"}]}`, `[]`} {
		if err := e.UnmarshalBinary([]byte(bad)); err == nil || !strings.Contains(err.Error(), "decoding") {
			t.Errorf("%q: error %v, want one that says what was decoded", bad, err)
		}
	}
	// Shares of another shape begin anew.
	if err := e.UnmarshalBinary([]byte(`{"Arms":[],"Shares":{"weights":[0.5,0.5],"counts":[3]},"Units":[3,4]}`)); err != nil {
		t.Fatal(err)
	}
	if e.Units != nil || e.Shares.Counts != nil {
		t.Errorf("kept units %v and counts %v of another shape", e.Units, e.Shares.Counts)
	}
}

// FuzzEvidence: whatever the status holds, judging and counting go on.
func FuzzEvidence(f *testing.F) {
	p := examplePlan()
	w := begin(f, p, 1, 0.1)
	w.next(42)
	f.Add([]byte(encoded(f, w.run.Evidence)))
	f.Add([]byte(`{"Arms":[{"Variant":"green","Evidence":[],"Right":-1,"Wrong":1e300}],"Shares":{},"Units":[1,2,3]}`))
	answers := w.blocks(1)
	f.Fuzz(func(_ *testing.T, data []byte) {
		var e Evidence
		if e.UnmarshalBinary(data) != nil {
			return
		}
		r := w.run
		r.Evidence = e
		Judge(p, r, r.LastBlock)
		r = r.Count(p, answers)
		Judge(p, r, r.LastBlock)
	})
}

package controller_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// chaos makes the process die before every call to the API, those that only read too.
var chaos = flag.Bool("chaos", false, "die before every call, not only around writes")

// crash is the panic that stands for the end of the process.
type crash struct{}

// moment is what the world can see of a run, once for every change of it.
type moment struct {
	Step, Weight                   int32
	Allocation                     string
	Stable, Canary                 string
	LastBlock                      string
	Evidence                       string
	Outcome, EndReason, RunStarted string
}

// lab runs the same story on the same rollout again and again, so that every run has the same id.
type lab struct {
	*world
	story   func(time.Time) map[string]rollout.Counts
	moments []moment
	calls   int
	end     string // the outcome that the story has
}

func newLab(t *testing.T, story func(time.Time) map[string]rollout.Counts, outcome string) *lab {
	t.Helper()
	w := newWorld(t, func(ro *v1alpha1.Rollout) {
		ro.Spec.Steps = []v1alpha1.StepSpec{{Weight: 5}, {Weight: 50, Hold: metav1.Duration{Duration: 20 * time.Second}}}
	})
	w.deploy("v1", true)
	w.deploy("v2", true)
	return &lab{world: w, story: story, end: outcome}
}

// play tells the story from its beginning. Before and after each call to the API crashes is asked whether the process
// dies there; a new one then begins, after a pause.
func (l *lab) play(pause time.Duration, crashes func(call string, n int, done bool) bool) []moment {
	l.t.Helper()
	l.reset()
	l.tap.fail = func(call string) error {
		l.calls++
		if crashes(call, l.calls, false) {
			panic(crash{})
		}
		return nil
	}
	l.tap.after = func(call string) {
		if call == "status Rollout" {
			l.note()
		}
		if crashes(call, l.calls, true) {
			panic(crash{})
		}
	}
	defer func() { l.tap.fail, l.tap.after = nil, nil }()
	for range 200 {
		ro := l.get()
		if ro.Status.LastRun != nil && ro.Status.Reason == ro.Status.LastRun.Reason && l.steady(ro) {
			return l.moments
		}
		if l.dies() {
			l.restart()
			l.clock = l.clock.Add(pause)
		}
	}
	l.t.Fatalf("the story does not end: %+v", l.get().Status)
	return nil
}

// steady says whether the mesh shows the end of the run.
func (l *lab) steady(ro *v1alpha1.Rollout) bool {
	return ro.Status.Run == nil && l.route() != nil && len(onlyOther(l.targets(), ro.Status.StableVersion)) == 0
}

// dies is one turn, and says whether the process died in it.
func (l *lab) dies() (died bool) {
	l.t.Helper()
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
			died = true
		}
	}()
	result, err := l.r.Reconcile(l.t.Context(), ctrl.Request{NamespacedName: l.key()})
	if err != nil {
		l.t.Fatal(err)
	}
	l.clock = l.clock.Add(result.RequeueAfter)
	return false
}

func (l *lab) reset() {
	l.t.Helper()
	// Off the grid, so that a decision a millisecond earlier or later falls into the same block.
	l.clock, l.moments, l.calls = epoch.Add(3*time.Second), nil, 0
	l.source.counts = l.story
	for _, kind := range []string{"VirtualService", "DestinationRule"} {
		if o := l.find(istioV1, kind, "coolant"); o != nil {
			if err := l.client.Delete(l.t.Context(), o); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	l.want("v2")
	ro := l.get()
	ro.Status = v1alpha1.RolloutStatus{StableVersion: "v1"}
	if err := l.client.Status().Update(l.t.Context(), ro); err != nil {
		l.t.Fatal(err)
	}
	l.restart()
}

// note writes down the status that was just stored.
func (l *lab) note() {
	l.t.Helper()
	var ro v1alpha1.Rollout
	if err := l.client.Get(l.t.Context(), l.key(), &ro); err != nil {
		l.t.Fatal(err)
	}
	st := ro.Status
	m := moment{
		Step: st.Step, Weight: st.Weight, Allocation: st.Allocation, Stable: st.StableVersion, Canary: st.CanaryVersion,
	}
	if st.Run != nil {
		m.LastBlock, m.Evidence = st.Run.LastBlock.UTC().Format(time.TimeOnly), fmt.Sprintf("%x", sha256.Sum256(st.Run.Evidence))
		m.RunStarted = st.Run.ID
		l.checkOnce(&ro)
	}
	if st.LastRun != nil {
		m.Outcome, m.EndReason = st.LastRun.Outcome, st.LastRun.Reason
	}
	if n := len(l.moments); n > 0 && l.moments[n-1] == m {
		return // a pass more or less, which saw and decided the same
	}
	l.moments = append(l.moments, m)
}

// checkOnce compares the requests that the evidence of the step holds with the blocks that lie in it.
func (l *lab) checkOnce(ro *v1alpha1.Rollout) {
	l.t.Helper()
	run := ro.Status.Run
	var e rollout.Evidence
	if err := e.UnmarshalBinary(run.Evidence); err != nil {
		l.t.Fatal(err)
	}
	want := 0.0
	if ro.Status.Step > 0 {
		since := run.StepStartedAt.Time
		if run.SpreadingAt != nil && run.SpreadingAt.After(since) {
			since = run.SpreadingAt.Time // the weight was not shown before: a process had died without writing it
		}
		for start := rollout.GridFloor(since.Add(10*time.Second-time.Microsecond), 10*time.Second); start.Before(run.LastBlock.Time); start = start.Add(10 * time.Second) {
			want += 3000
		}
	}
	if got := e.Trails[0].Canary.Count; got != want {
		l.t.Errorf("step %d from %s to block %s: the evidence holds %.0f requests, the blocks %.0f", ro.Status.Step,
			run.StepStartedAt.Format(time.TimeOnly), run.LastBlock.Format(time.TimeOnly), got, want)
	}
}

// TestCrashAnywhere kills the process before and after each write to the API, for the whole length of a run
// that is promoted and of one that is rolled back. A new process goes on at once. What anybody can see, evidence bytes
// included, must be what an undisturbed run shows.
func TestCrashAnywhere(t *testing.T) {
	for name, tc := range map[string]struct {
		story   func(time.Time) map[string]rollout.Counts
		outcome string
	}{
		"Promoted":   {story: healthy, outcome: v1alpha1.OutcomePromoted},
		"RolledBack": {story: harmfulFrom(epoch.Add(30 * time.Second)), outcome: v1alpha1.OutcomeRolledBack},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, tc.story, tc.outcome)
			reads := map[int]bool{}
			want := l.play(0, func(call string, i int, _ bool) bool {
				reads[i] = isRead(call)
				return false
			})
			if last := want[len(want)-1]; last.Outcome != tc.outcome {
				t.Fatalf("the undisturbed run ended %+v, want %s", last, tc.outcome)
			}
			n := l.calls
			t.Logf("%d calls, %d changes of the status", n, len(want))
			stride := 1
			if testing.Short() {
				stride = 7
			}
			for k := 1; k <= n; k += stride {
				for _, done := range []bool{false, true} {
					if reads[k] && (done || !*chaos) {
						continue // nothing has changed since the write before
					}
					at := ""
					got := l.play(0, func(call string, i int, after bool) bool {
						if i != k || after != done {
							return false
						}
						at = call
						return true
					})
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("death at call %d, %q, done: %t (-want +got):\n%s", k, at, done, diff)
					}
				}
			}
		})
	}
}

func isRead(call string) bool {
	return strings.HasPrefix(call, "get ") || strings.HasPrefix(call, "list ")
}

// TestCrashAgainAndAgain kills the process at random calls, with time passing before the next one begins: the outcome
// stays, the canary's buckets only grow until the end, and no block is counted twice (see checkOnce).
func TestCrashAgainAndAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		story   func(time.Time) map[string]rollout.Counts
		outcome string
	}{
		"Promoted":   {story: healthy, outcome: v1alpha1.OutcomePromoted},
		"RolledBack": {story: harmfulFrom(epoch.Add(30 * time.Second)), outcome: v1alpha1.OutcomeRolledBack},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, tc.story, tc.outcome)
			seeds := uint64(5)
			if testing.Short() {
				seeds = 2
			}
			for seed := range seeds {
				r := rand.New(rand.NewPCG(seed, 1))
				deaths := 0
				moments := l.play(time.Duration(r.IntN(8))*time.Second, func(string, int, bool) bool {
					dies := r.IntN(12) == 0
					if dies {
						deaths++
					}
					return dies
				})
				last := moments[len(moments)-1]
				if last.Outcome != tc.outcome {
					t.Errorf("seed %d, %d deaths: ended %+v, want %s", seed, deaths, last, tc.outcome)
				}
				checkRamp(t, seed, moments)
			}
		})
	}
}

func checkRamp(t *testing.T, seed uint64, moments []moment) {
	t.Helper()
	before := moment{}
	for _, m := range moments {
		if m.Outcome == "" {
			if m.LastBlock < before.LastBlock {
				t.Errorf("seed %d: the last block went back from %s to %s", seed, before.LastBlock, m.LastBlock)
			}
			for b := range strings.SplitSeq(before.Allocation, ",") {
				if !strings.Contains(m.Allocation, b) {
					t.Errorf("seed %d: bucket %s left the canary between %+v and %+v", seed, b, before, m)
				}
			}
			if before.RunStarted != "" && m.RunStarted != before.RunStarted {
				t.Errorf("seed %d: run %s became run %s", seed, before.RunStarted, m.RunStarted)
			}
		}
		before = m
	}
}

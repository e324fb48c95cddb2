package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// TestScaleUp: the canary has its replicas before anybody meets it, and each step waits for enough of them.
func TestScaleUp(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		edit   func(*v1alpha1.ScalingSpec)
		want   int64
		// needs are the available replicas without which the weight does not come: 5, 25, 50 and all.
		needs []int64
	}{
		"AsStable": {"as many as stable has", func(*v1alpha1.ScalingSpec) {}, 8, []int64{1, 2, 4, 8}},
		"Fixed":    {"as many as the spec says", func(s *v1alpha1.ScalingSpec) { s.Replicas = 3 }, 3, []int64{1, 1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, 8, scaled(tc.edit))
			w.turn()
			if got := w.replicas("v2"); got != tc.want {
				t.Fatalf("%s: the canary is told to have %d, want %d", tc.reason, got, tc.want)
			}
			reached := []func(*v1alpha1.Rollout) bool{atStep(1), atStep(2), atStep(3), ended(v1alpha1.OutcomePromoted)}
			for i, need := range tc.needs {
				w.available("coolant", "v2", need-1)
				waits := fmt.Sprintf("%d of %d replicas of Deployment %q are available, and the weight ahead", need-1, tc.want, "coolant-v2")
				w.until("waiting for replicas", func(ro *v1alpha1.Rollout) bool {
					if reached[i](ro) {
						t.Fatalf("%s: goes on to step %d with %d replicas, want %d", tc.reason, i+1, need-1, need)
					}
					return strings.HasPrefix(ro.Status.Message, waits) && strings.HasSuffix(ro.Status.Message, fmt.Sprint("needs ", need))
				})
				for range 12 {
					if ro := w.turn(); reached[i](ro) {
						t.Fatalf("%s: goes on to step %d with %d replicas, want %d", tc.reason, i+1, need-1, need)
					}
				}
				w.available("coolant", "v2", need)
				w.editStatus(func(st *v1alpha1.RolloutStatus) { // the cap's clock does not matter here
					st.Run.WaitingSince, st.Run.NotReadySince = &metav1.MicroTime{Time: w.clock}, nil
				})
				w.ask(v1alpha1.ActionResume)
				w.until(fmt.Sprint("step ", i+1), reached[i])
			}
			if got := w.replicas("v1"); got != 8 {
				t.Errorf("%s: stable has %d replicas, want what it had", tc.reason, got)
			}
		})
	}
}

// TestPromoteFullWithOne: a promotion by hand needs one replica, and gets the others afterwards.
func TestPromoteFullWithOne(t *testing.T) {
	w := begun(t, 8, scaled())
	w.turn()
	w.available("coolant", "v2", 1)
	w.until("at step 1", atStep(1))
	id := w.ask(v1alpha1.ActionPromoteFull)
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	if q := w.request(id); q.Outcome != "Done" || w.replicas("v2") != 8 {
		t.Errorf("request %+v with %d replicas, want it done with 8", q, w.replicas("v2"))
	}
}

// TestScaleUpForCopies: a shadow's share of copies needs as many replicas as that share of the units would.
func TestScaleUpForCopies(t *testing.T) {
	w := begun(t, 8, scaled(), func(ro *v1alpha1.Rollout) {
		ro.Spec.Strategy = &v1alpha1.StrategySpec{Shadow: &v1alpha1.ShadowSpec{Percent: 50}}
	})
	w.turn()
	w.available("coolant", "v2", 3)
	for range 5 {
		if ro := w.turn(); ro.Status.Mirror != 0 || ro.Status.Reason != "CanaryNotReady" {
			t.Fatalf("%d %% of the requests are copied to 3 replicas of 8: %s", ro.Status.Mirror, ro.Status.Reason)
		}
	}
	w.available("coolant", "v2", 4)
	w.until("copies", func(ro *v1alpha1.Rollout) bool { return ro.Status.Mirror == 50 })
}

// TestScaleDown: a version that nobody meets any more keeps its replicas for the delay, whatever process looks, and then
// has none.
func TestScaleDown(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, left string
		end          func(*world)
	}{
		"Promoted":   {"the old version goes", "v1", func(w *world) { w.play("promoted", ended(v1alpha1.OutcomePromoted)) }},
		"RolledBack": {"the canary goes", "v2", func(w *world) { w.ask(v1alpha1.ActionAbort); w.turn() }},
		"SetBack":    {"the canary goes", "v2", func(w *world) { w.want("v1"); w.turn() }},
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, 4, scaled())
			w.play("at step 2", atStep(2))
			tc.end(w)
			over := w.get().Status.LastRun.EndedAt.Add(5 * time.Minute)
			for w.clock.Before(over) {
				w.restart()
				w.turn()
				if w.clock.Before(over) && w.replicas(tc.left) != 4 {
					t.Fatalf("%s: %s has %d replicas %s before the delay is over", tc.reason, tc.left, w.replicas(tc.left), over.Sub(w.clock))
				}
			}
			if e := w.entry(tc.left); e.LeftAt == nil || e.Wanted != 4 {
				t.Errorf("%s: the status says %+v", tc.reason, e)
			}
			w.turn()
			if e := w.entry(tc.left); e.Wanted != 0 || w.replicas(tc.left) != 4 {
				t.Errorf("%s: the status says %+v with %d replicas, want the intent before the deed", tc.reason, e, w.replicas(tc.left))
			}
			w.restart()
			w.turn()
			if w.replicas(tc.left) != 0 || len(w.get().Status.Workloads) != 0 {
				t.Errorf("%s: %d replicas, and the status says %+v; want neither", tc.reason, w.replicas(tc.left), w.get().Status.Workloads)
			}
			if other := w.get().Status.StableVersion; w.replicas(other) != 4 {
				t.Errorf("%s: the stable version %s has %d replicas", tc.reason, other, w.replicas(other))
			}
		})
	}
}

// TestScaleDownCancelled: a version that is tried again before the delay is over keeps its replicas.
func TestScaleDownCancelled(t *testing.T) {
	long(t)
	w := begun(t, 4, scaled())
	w.play("promoted", ended(v1alpha1.OutcomePromoted))
	for range 3 {
		w.turn()
	}
	w.want("v1")
	w.play("v1 on trial", func(ro *v1alpha1.Rollout) bool { return ro.Status.CanaryVersion == "v1" && ro.Status.Step == 1 })
	if e := w.entry("v1"); e.LeftAt != nil {
		t.Errorf("the status says %+v of a version that is tried", e)
	}
	w.ask(v1alpha1.ActionPause)
	for end := w.clock.Add(6 * time.Minute); w.clock.Before(end); w.turn() {
		if w.replicas("v1") != 4 || w.replicas("v2") != 4 {
			t.Fatalf("replicas %d and %d in the run", w.replicas("v1"), w.replicas("v2"))
		}
	}
}

// TestScaleDownWaitsForRoutes: as long as the route in the mesh is another than the one that was decided on, nobody knows who
// meets the version.
func TestScaleDownWaitsForRoutes(t *testing.T) {
	long(t)
	w := begun(t, 4, scaled())
	w.play("promoted", ended(v1alpha1.OutcomePromoted))
	w.change(istioV1, "VirtualService", "coolant", func(o *unstructured.Unstructured) {
		if err := unstructured.SetNestedStringSlice(o.Object, []string{"elsewhere"}, "spec", "hosts"); err != nil {
			t.Fatal(err)
		}
	})
	w.tap.fail = failing("apply VirtualService", "update VirtualService")
	for range 40 {
		if err := w.try(); err == nil {
			t.Fatal("the route was written although it cannot be")
		}
		w.clock = w.clock.Add(time.Minute)
	}
	if got := w.replicas("v1"); got != 4 {
		t.Errorf("v1 has %d replicas although a route may lead there", got)
	}
	w.tap.fail = nil
	wrote := w.clock
	w.play("v1 to sleep", func(*v1alpha1.Rollout) bool { return w.replicas("v1") == 0 })
	if kept := w.clock.Sub(wrote); kept < 5*time.Minute {
		t.Errorf("v1 was scaled down %s after the route was written, want the delay of 5m", kept)
	}
}

// TestDynamicStable: stable's replicas go as units leave it, once the status says so, and are all back on a rollback, right
// after the route.
func TestDynamicStable(t *testing.T) {
	long(t)
	w := begun(t, 10, scaled(dynamic), func(ro *v1alpha1.Rollout) {
		for i := range ro.Spec.Steps {
			ro.Spec.Steps[i].Hold.Duration = 2 * time.Minute
		}
		ro.Spec.Analysis.Cap.Duration = time.Hour
	})
	for i, want := range []int64{10, 8, 5} {
		w.play(fmt.Sprint("at step ", i+1), atStep(int32(i+1)))
		written := w.clock
		w.tap.writes()
		w.play("stable lowered", func(ro *v1alpha1.Rollout) bool {
			return w.replicas("v1") == want && w.clock.Sub(written) >= 30*time.Second
		})
		writes := w.tap.writes()
		if at := slices.Index(writes, "scale Deployment"); at >= 0 && (!slices.Contains(writes[:at], "status Rollout") || w.entry("v1").Full != 10) {
			t.Errorf("writes %v with the entry %+v, want the status to say so before", writes, w.entry("v1"))
		}
	}
	if got := w.replicas("v2"); got != 10 {
		t.Errorf("the canary has %d replicas, want 10", got)
	}
	w.ask(v1alpha1.ActionAbort)
	w.tap.writes()
	w.turn()
	writes := w.tap.writes()
	if len(writes) < 3 || writes[0] != "apply VirtualService" || writes[1] != "scale Deployment" || writes[2] != "status Rollout" {
		t.Errorf("writes %v, want the route, then the replicas, then the status", writes)
	}
	if got := w.replicas("v1"); got != 10 || len(w.canary()) != 0 {
		t.Errorf("stable has %d replicas and %d buckets see the canary, want 10 and none", got, len(w.canary()))
	}
}

// TestDynamicStableSurvives: a process that dies between any two writes loses none of stable's replicas.
func TestDynamicStableSurvives(t *testing.T) {
	for name, tc := range map[string]struct {
		dies string
		nth  int
	}{
		"Begun":    {"status Rollout", 0},
		"Waiting":  {"status Rollout", 1},
		"Raising":  {"scale Deployment", 0},
		"Meant":    {"status Rollout", 5},
		"Done":     {"status Rollout", 6},
		"Lowering": {"scale Deployment", 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, 10, scaled(dynamic), half)
			count := 0
			w.tap.fail = func(call string) error {
				if call != tc.dies {
					return nil
				}
				if count++; count-1 == tc.nth {
					return errOutage
				}
				return nil
			}
			for i := 0; count <= tc.nth; i++ {
				if i > 50 {
					t.Fatalf("%q was called %d times in %d turns", tc.dies, count, i)
				}
				w.obey()
				if w.try() != nil {
					w.clock = w.clock.Add(time.Second)
				}
			}
			w.tap.fail = nil
			w.restart()
			w.want("v1")
			w.until("all of it back", func(ro *v1alpha1.Rollout) bool {
				return ro.Status.Run == nil && ro.Status.ObservedGeneration == ro.Generation && w.replicas("v1") == 10
			})
		})
	}
}

// TestScalingOfTiers: every tier has its own number.
func TestScalingOfTiers(t *testing.T) {
	long(t)
	w := newWorld(t, scaled(), withTier)
	w.run("coolant", "v1", 4)
	w.run("backend", "v1", 7)
	w.until("stable", stableOn("v1"))
	w.run("coolant", "v2", 0)
	w.run("backend", "v2", 0)
	w.want("v2")
	w.turn()
	if a, b := w.replicas("v2"), replicasOf(w.deployment("backend", "v2")); a != 4 || b != 7 {
		t.Errorf("the canaries are told to have %d and %d, want 4 and 7", a, b)
	}
	w.available("coolant", "v2", 4)
	for range 3 {
		if ro := w.turn(); ro.Status.Step > 0 {
			t.Fatal("the first step does not wait for the tier")
		}
	}
	w.available("backend", "v2", 7)
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	w.until("all asleep", func(*v1alpha1.Rollout) bool {
		return w.replicas("v1") == 0 && replicasOf(w.deployment("backend", "v1")) == 0
	})
}

// TestScalingSwitchedOff: when the spec no longer wants any scaling, what was taken from stable comes back, and the rest is
// forgotten.
func TestScalingSwitchedOff(t *testing.T) {
	w := lowered(t)
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Workload.Scaling = nil })
	w.turn()
	w.turn()
	if got := w.replicas("v1"); got != 10 || len(w.get().Status.Workloads) != 0 {
		t.Errorf("stable has %d replicas, and the status says %+v; want 10 and nothing", got, w.get().Status.Workloads)
	}
}

// TestDeletedWhileLowered: a rollout that is deleted gives back what it took, after the route, and is not held up when it
// cannot.
func TestDeletedWhileLowered(t *testing.T) {
	for name, fails := range map[string]bool{"Plain": false, "Fails": true} {
		t.Run(name, func(t *testing.T) {
			w := lowered(t)
			w.drop()
			if fails {
				w.tap.fail = failing("scale ")
			}
			w.tap.writes()
			_ = w.try2() // it may fail; then it is tried again
			if writes := w.tap.writes(); len(writes) < 2 || writes[0] != "apply VirtualService" || writes[1] != "scale Deployment" {
				t.Errorf("writes %v, want the route and then the replicas", writes)
			}
			if got := w.replicas("v1"); (got == 10) == fails {
				t.Errorf("stable has %d replicas", got)
			}
			w.tillGone()
		})
	}
}

// TestScalingKeepsVariants: a version that an experiment shows keeps its replicas, and the delay begins anew when it is over.
func TestScalingKeepsVariants(t *testing.T) {
	long(t)
	w := begun(t, 4, scaled())
	w.run("coolant", "v3", 4)
	w.play("at step 1", atStep(1))
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	x := &trials{world: w, means: map[string]float64{"v1": 4, "v2": 4, "v3": 4}, lost: map[string]float64{}}
	x.source.answer = x.answer
	x.reboot()
	x.begin("models", func(e *v1alpha1.Experiment) { e.Spec.Duration.Minimum.Duration = 20 * time.Minute })
	x.untilExp("models", "in force", inForce)
	for end := x.clock.Add(6 * time.Minute); x.clock.Before(end); x.round() {
		if got := x.replicas("v2"); got != 4 {
			t.Fatalf("v2, which an experiment shows, has %d replicas", got)
		}
	}
	if e := x.entry("v2"); e.LeftAt != nil {
		t.Errorf("the status says %+v of a version that is shown", e)
	}
	if err := x.client.Delete(t.Context(), x.exp("models")); err != nil {
		t.Fatal(err)
	}
	over := x.clock
	x.until("v2 to sleep", func(*v1alpha1.Rollout) bool { return x.replicas("v2") == 0 })
	if kept := x.clock.Sub(over); kept < 5*time.Minute || x.replicas("v3") != 4 {
		t.Errorf("v2 kept its replicas for %s, want 5m; v3, which took no part in a run, has %d", kept, x.replicas("v3"))
	}
}

// TestDynamicInMidRun: the status knows what stable had before anything is taken from it, whenever that begins.
func TestDynamicInMidRun(t *testing.T) {
	w := begun(t, 10, scaled(), half)
	w.play("at step 1", atStep(1))
	for end := w.clock.Add(time.Minute); w.clock.Before(end); {
		w.turn()
	}
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Workload.Scaling.DynamicStable = true })
	w.tap.fail = failing("status Rollout")
	if err := w.try(); err == nil {
		t.Fatal("the status was written although it cannot be")
	}
	if got := w.replicas("v1"); got != 10 {
		t.Errorf("stable has %d replicas, and nobody remembers that it had 10", got)
	}
	w.tap.fail = nil
	w.play("stable lowered", func(*v1alpha1.Rollout) bool { return w.replicas("v1") == 5 })
}

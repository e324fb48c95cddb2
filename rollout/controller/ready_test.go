package controller_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// previewed has testers see the canary for a day, and then everybody.
func previewed(ro *v1alpha1.Rollout) {
	ro.Spec.Strategy = &v1alpha1.StrategySpec{Preview: &v1alpha1.PreviewSpec{Hold: metav1.Duration{Duration: 24 * time.Hour}}}
	ro.Spec.Steps = []v1alpha1.StepSpec{{Weight: 100}}
}

// TestPreviewOutlivesABlip: a preview goes on while one replica lets testers in, and while the API does not answer; the first
// step waits for all of them.
func TestPreviewOutlivesABlip(t *testing.T) {
	w := begun(t, 10, scaled(), previewed)
	w.play("previewing", saying("Previewing"))
	began := w.clock
	w.clock = began.Add(23 * time.Hour)
	w.available("coolant", "v2", 9)
	if ro := w.turn(); ro.Status.Reason != "Previewing" {
		t.Errorf("with 9 replicas of 10: %s: %s", ro.Status.Reason, ro.Status.Message)
	}
	w.tap.fail = failing("list DeploymentList")
	if ro := w.turn(); ro.Status.Reason != "Previewing" {
		t.Errorf("without an answer: %s: %s", ro.Status.Reason, ro.Status.Message)
	}
	w.tap.fail, w.clock = nil, began.Add(24*time.Hour-20*time.Second)
	ro := w.until("waiting for all", saying("AwaitingCanary"))
	if took := w.clock.Sub(began); took < 24*time.Hour-time.Minute || took > 24*time.Hour+time.Minute || !strings.Contains(ro.Status.Message, "needs 10") || ro.Status.Weight != 0 {
		t.Errorf("after %s at weight %d: %s; want to wait for 10 after a day", took, ro.Status.Weight, ro.Status.Message)
	}
	w.available("coolant", "v2", 10)
	if ro := w.turn(); ro.Status.Step != 1 {
		t.Errorf("with all replicas %s: %s", ro.Status.Reason, ro.Status.Message)
	}
}

// TestPreviewBeginsAnew: a version that nobody could look at has not been looked at.
func TestPreviewBeginsAnew(t *testing.T) {
	w := begun(t, 10, scaled(), previewed)
	w.play("previewing", saying("Previewing"))
	w.clock = w.clock.Add(23 * time.Hour)
	w.available("coolant", "v2", 0)
	w.until("not ready", saying("CanaryNotReady"))
	w.obey()
	w.turn()
	w.clock = w.clock.Add(2 * time.Hour)
	if ro := w.turn(); ro.Status.Reason != "Previewing" {
		t.Errorf("two hours after the canary came back: %s: %s", ro.Status.Reason, ro.Status.Message)
	}
}

// TestFlapping: a canary that comes and goes before its first step begins its time anew, but not without end: it is paused
// once that time and the cap are over. To resume begins both anew.
func TestFlapping(t *testing.T) {
	long(t)
	w := newWorld(t, func(ro *v1alpha1.Rollout) {
		ro.Spec.Strategy = &v1alpha1.StrategySpec{Preview: &v1alpha1.PreviewSpec{Hold: metav1.Duration{Duration: 10 * time.Minute}}}
		ro.Spec.Analysis.Cap.Duration = time.Hour
	})
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.deploy("v2", false)
	w.want("v2")
	w.turn()
	began := w.clock
	flap := func(what string) time.Duration {
		for up := true; w.clock.Sub(began) < 4*time.Hour; up = !up {
			w.deploy("v2", up)
			if ro := w.turn(); ro.Status.Run.Paused != "" {
				if ro.Status.Run.Paused != "CanaryNotReady" || !strings.Contains(ro.Status.Message, "1h10m") {
					t.Errorf("%s: paused for %s: %s", what, ro.Status.Run.Paused, ro.Status.Message)
				}
				return w.clock.Sub(began)
			}
			if w.get().Status.Step > 0 {
				t.Fatalf("%s: goes on to the first step", what)
			}
			w.clock = w.clock.Add(4 * time.Minute)
		}
		t.Fatalf("%s: not paused after %s", what, w.clock.Sub(began))
		return 0
	}
	if after := flap("flapping"); after < 70*time.Minute || after > 90*time.Minute {
		t.Errorf("paused after %s, want the hold of 10 minutes and the cap of an hour", after)
	}
	w.ask(v1alpha1.ActionResume)
	w.turn()
	began = w.clock
	if after := flap("resumed"); after < 65*time.Minute {
		t.Errorf("paused again %s after it was resumed", after)
	}
}

// TestApprovalOutlivesABlip: a canary that waits for a person has had its time, so that a moment without it pauses nothing.
func TestApprovalOutlivesABlip(t *testing.T) {
	long(t)
	w := newWorld(t, func(ro *v1alpha1.Rollout) {
		ro.Spec.Strategy = &v1alpha1.StrategySpec{Preview: &v1alpha1.PreviewSpec{Hold: metav1.Duration{Duration: 10 * time.Minute}, Approval: "Manual"}}
	})
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.deploy("v2", true)
	w.want("v2")
	w.until("waiting for a person", saying("AwaitingPromotion"))
	w.clock = w.clock.Add(100 * time.Hour)
	w.turn()
	w.deploy("v2", false)
	if ro := w.turn(); ro.Status.Reason != "CanaryNotReady" || ro.Status.Run.Paused != "" {
		t.Errorf("%s, paused for %q; want to wait", ro.Status.Reason, ro.Status.Run.Paused)
	}
	w.deploy("v2", true)
	w.until("waiting for a person again", saying("AwaitingPromotion"))
}

// TestReadinessUnknown: whatever runs the versions, what the API does not say is as it was, and nothing goes on meanwhile.
func TestReadinessUnknown(t *testing.T) {
	w := running(t, 1)
	w.tap.fail = failing("list InferenceServiceList")
	for range 5 {
		w.turn()
	}
	if ro := w.turn(); ro.Status.Reason != "AwaitingCanary" || ro.Status.Step != 1 || !strings.Contains(ro.Status.Message, "listing every InferenceService") {
		t.Errorf("%s at step %d: %s; want to wait for an answer at step 1", ro.Status.Reason, ro.Status.Step, ro.Status.Message)
	}
	w.tap.fail = nil
	if ro := w.turn(); ro.Status.Step != 2 {
		t.Errorf("%s at step %d when the API answers", ro.Status.Reason, ro.Status.Step)
	}
}

// TestShadowOutlivesABlip: copies that have begun go on while a replica takes them, and while the API does not answer.
func TestShadowOutlivesABlip(t *testing.T) {
	w := begun(t, 8, scaled(), func(ro *v1alpha1.Rollout) {
		ro.Spec.Strategy = &v1alpha1.StrategySpec{Shadow: &v1alpha1.ShadowSpec{Percent: 50, Hold: metav1.Duration{Duration: time.Hour}}}
	})
	w.play("copies", func(ro *v1alpha1.Rollout) bool { return ro.Status.Mirror == 50 })
	began := w.get().Status.Run.StepStartedAt
	w.available("coolant", "v2", 3)
	w.turn()
	w.tap.fail = failing("list DeploymentList")
	w.turn()
	if ro := w.get(); ro.Status.Mirror != 50 || ro.Status.Reason != "Shadowing" || !ro.Status.Run.StepStartedAt.Equal(began) {
		t.Errorf("%s, %d %% copied, since %s; want it to go on since %s", ro.Status.Reason, ro.Status.Mirror, ro.Status.Run.StepStartedAt, began)
	}
}

// TestHoldBeyondCap: a step that is held for longer than the cap is not paused for a moment without the canary; one that waits
// for the canary alone for so long is.
func TestHoldBeyondCap(t *testing.T) {
	w := begun(t, 10, scaled(), func(ro *v1alpha1.Rollout) {
		ro.Spec.Steps = []v1alpha1.StepSpec{{Weight: 50, Hold: metav1.Duration{Duration: 3 * time.Hour}}}
		ro.Spec.Analysis.Cap.Duration = time.Hour
	})
	w.play("at step 1", atStep(1))
	w.clock = w.clock.Add(2 * time.Hour)
	w.turn()
	w.available("coolant", "v2", 0)
	if ro := w.turn(); ro.Status.Reason != "CanaryNotReady" || ro.Status.Run.Paused != "" {
		t.Errorf("%s, paused for %q; want to wait", ro.Status.Reason, ro.Status.Run.Paused)
	}
	w.available("coolant", "v2", 9)
	if ro := w.turn(); ro.Status.Reason != "HoldingStep" || ro.Status.Run.NotReadySince != nil {
		t.Errorf("%s, waits since %s; want the step held", ro.Status.Reason, ro.Status.Run.NotReadySince)
	}
	w.clock = w.clock.Add(2 * time.Hour)
	w.source.counts = healthy
	ro := w.until("waiting for all", saying("AwaitingCanary"))
	since := w.clock
	if ro.Status.Run.Paused != "" || !strings.Contains(ro.Status.Message, "9 of 10") {
		t.Errorf("paused for %q: %s", ro.Status.Run.Paused, ro.Status.Message)
	}
	w.clock = w.clock.Add(30 * time.Minute)
	w.turn()
	w.until("paused", func(ro *v1alpha1.Rollout) bool {
		w.clock = w.clock.Add(5 * time.Minute)
		return ro.Status.Run.Paused == "AwaitingCanary"
	})
	if waited := w.clock.Sub(since); waited < time.Hour || waited > 75*time.Minute {
		t.Errorf("paused after %s, want an hour", waited)
	}
}

// TestScalingInMidRun: nothing goes on before the replicas of a canary have been counted.
func TestScalingInMidRun(t *testing.T) {
	deployments := func(ro *v1alpha1.Rollout) {
		ro.Spec.Workload = v1alpha1.WorkloadSpec{Kind: "Deployment"}
		ro.Spec.Steps = []v1alpha1.StepSpec{{Weight: 5}, {Weight: 50}}
	}
	w := begun(t, 10, deployments)
	w.available("coolant", "v2", 1)
	w.until("at step 1", atStep(1))
	w.edit(scaled())
	w.tap.fail = failing("list DeploymentList")
	w.turn()
	w.tap.fail = nil
	for range 8 {
		if ro := w.turn(); ro.Status.Step > 1 {
			t.Fatal("half of the units meet one replica of ten")
		}
	}
	if ro := w.get(); w.replicas("v2") != 10 || ro.Status.Reason != "AwaitingCanary" {
		t.Errorf("v2 is told to have %d, and the run says %s: %s", w.replicas("v2"), ro.Status.Reason, ro.Status.Message)
	}
}

// TestNoScaling: a controller that may not scale says so at once, begins no run, and still takes traffic back.
func TestNoScaling(t *testing.T) {
	w := begun(t, 4, scaled(), half)
	w.o.NoScaling = true
	w.restart()
	for range 3 {
		w.turn()
	}
	if ro := w.get(); ro.Status.Reason != "Unsupported" || !strings.Contains(ro.Status.Message, "the chart's controller.scaling") || ro.Status.Run != nil || w.replicas("v2") != 0 {
		t.Errorf("%s: %s; v2 has %d replicas; want it refused", ro.Status.Reason, ro.Status.Message, w.replicas("v2"))
	}
	w.o.NoScaling = false
	w.restart()
	w.play("half of the units on v2", atStep(1))
	w.o.NoScaling = true
	w.restart()
	if ro := w.turn(); ro.Status.Reason != "Unsupported" || len(w.canary()) != 50 {
		t.Errorf("in mid-run %s with %d buckets on v2, want it refused with 50 as before", ro.Status.Reason, len(w.canary()))
	}
	w.ask(v1alpha1.ActionAbort)
	if w.turn(); len(w.canary()) != 0 {
		t.Errorf("%d buckets see v2 after an abort", len(w.canary()))
	}
}

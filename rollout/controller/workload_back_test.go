package controller_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// tillGone turns the loop until the rollout that was deleted has gone. Two hundred turns are too many.
func (w *world) tillGone() {
	w.t.Helper()
	for i := 0; w.exists(); i++ {
		if i > 200 {
			w.t.Fatal("the rollout is held for ever")
		}
		if w.try2() != nil {
			w.clock = w.clock.Add(time.Second)
		}
	}
}

// TestDeletedGivesBackLater: a deletion tries to give back for as long as it has patience, whatever failed at first.
func TestDeletedGivesBackLater(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, fails string
		before        func(*world)
	}{
		"Deployments": {"the Deployments cannot be listed for a while", "list DeploymentList", func(*world) {}},
		"Scale":       {"the replicas cannot be written for a while", "scale ", func(*world) {}},
		"Aborted": {"the run was aborted before, and its replicas could not be written", "scale ", func(w *world) {
			w.ask(v1alpha1.ActionAbort)
			w.until("aborted", ended(v1alpha1.OutcomeRolledBack))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := lowered(t)
			w.tap.fail = failing(tc.fails)
			tc.before(w)
			mended := w.drop().Add(75 * time.Second)
			w.tap.fail = func(call string) error {
				if w.clock.Before(mended) {
					return failing(tc.fails)(call)
				}
				return nil
			}
			w.tillGone()
			if got := w.replicas("v1"); got != 10 {
				t.Errorf("%s: the rollout went, and stable has %d replicas, want 10", tc.reason, got)
			}
		})
	}
}

// TestStalledGivesBack: what a run took comes back also where nothing else can be done for the rollout after its end.
func TestStalledGivesBack(t *testing.T) {
	for name, tc := range map[string]struct {
		stall func(*world)
		says  string
	}{
		"Spec": {func(w *world) { w.edit(unrenderable) }, "InvalidSpec"},
		"Rule": {func(w *world) { w.usurp("DestinationRule", map[string]any{"host": "other.example.com"}) }, "ObjectNotOwned"},
	} {
		t.Run(name, func(t *testing.T) {
			w := lowered(t)
			tc.stall(w)
			w.turn()
			w.ask(v1alpha1.ActionAbort)
			w.tap.fail = failing("scale ")
			for i := 0; w.get().Status.Run != nil; i++ {
				if _ = w.try(); i > 5 {
					t.Fatal("the run does not end")
				}
			}
			w.turn()
			before := w.clock
			if ro := w.turn(); ro.Status.Reason != tc.says || !w.clock.After(before) || w.replicas("v1") != 5 {
				t.Fatalf("%s with %d replicas, and again in %s; want %s with 5, and soon", ro.Status.Reason, w.replicas("v1"), w.clock.Sub(before), tc.says)
			}
			w.tap.fail = nil
			w.turn()
			if got := w.replicas("v1"); got != 10 {
				t.Errorf("stable has %d replicas, want 10", got)
			}
		})
	}
}

// usurp puts somebody else's object in the place of one of ours.
func (w *world) usurp(kind string, spec map[string]any) {
	w.t.Helper()
	o := w.object(istioV1, kind, "coolant")
	if err := w.client.Delete(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
	o = w.object(istioV1, kind, "coolant")
	o.Object["spec"] = spec
	if err := w.client.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// TestDeletedPutsToSleep: without a route the service spreads over all that runs, so that what Siskin woke sleeps before the
// route goes. Who else scales it has the last word.
func TestDeletedPutsToSleep(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		before func(*world)
		want   int64
	}{
		"MidRun": {"units see the canary", func(*world) {}, 0},
		"Aborted": {"its delay is not over", func(w *world) {
			w.ask(v1alpha1.ActionAbort)
			w.until("aborted", ended(v1alpha1.OutcomeRolledBack))
		}, 0},
		"Autoscaled": {"somebody else scales it", func(w *world) {
			o := w.object("autoscaling.example.com/v2", "HorizontalPodAutoscaler", "other")
			o.Object["spec"] = map[string]any{"scaleTargetRef": map[string]any{"kind": "Deployment", "name": "coolant-v2"}}
			if err := w.client.Create(w.t.Context(), o); err != nil {
				w.t.Fatal(err)
			}
		}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, 4, scaled(), half)
			w.play("half of the units on v2", atStep(1))
			tc.before(w)
			w.drop()
			removed := false
			w.tap.after = func(call string) {
				if call != "delete VirtualService" {
					return
				}
				if removed = true; w.replicas("v2") != tc.want {
					t.Errorf("%s: v2 has %d replicas when the route goes, want %d", tc.reason, w.replicas("v2"), tc.want)
				}
			}
			w.tillGone()
			if !removed || w.replicas("v1") != 4 {
				t.Errorf("%s: the route was removed: %t; stable has %d replicas, want 4", tc.reason, removed, w.replicas("v1"))
			}
		})
	}
}

// TestDeletedSleepsAfterRoute: a version that the route still leads to keeps its replicas.
func TestDeletedSleepsAfterRoute(t *testing.T) {
	w := begun(t, 4, scaled(), half)
	w.play("half of the units on v2", atStep(1))
	w.drop()
	w.tap.fail = failing("apply VirtualService", "delete VirtualService")
	w.tap.after = func(call string) {
		if call == "scale Deployment" && len(w.canary()) > 0 {
			t.Errorf("v2 has %d replicas while units see it", w.replicas("v2"))
		}
	}
	for end := w.clock.Add(45 * time.Second); w.clock.Before(end); {
		if w.try2() != nil {
			w.clock = w.clock.Add(time.Second)
		}
	}
	w.tap.fail = nil
	w.tillGone()
}

// TestHeldForADelay: a rollout at rest is held while a version is to be put to sleep, and no longer.
func TestHeldForADelay(t *testing.T) {
	long(t)
	w := begun(t, 4, scaled(), half)
	w.play("half of the units on v2", atStep(1))
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	held := func() bool { return strings.Join(w.get().Finalizers, "") == v1alpha1.Finalizer }
	if !held() {
		t.Error("nobody puts v2 to sleep when the rollout is deleted")
	}
	w.until("v2 to sleep", func(*v1alpha1.Rollout) bool { return w.replicas("v2") == 0 })
	if w.turn(); held() {
		t.Error("the rollout is held although nothing is left to do")
	}
}

// TestRemembered: the status has room for so many entries; those of a run are never cut, and what was left first goes first.
func TestRemembered(t *testing.T) {
	var all []v1alpha1.WorkloadStatus
	var parts []rollout.Part
	add := func(service, version string, part rollout.Part, left time.Duration) {
		e := v1alpha1.WorkloadStatus{Service: service, Version: version}
		if part == rollout.PartLeft {
			e.LeftAt = &metav1.MicroTime{Time: epoch.Add(left)}
		}
		all, parts = append(all, e), append(parts, part)
	}
	for i := range 9 {
		service := fmt.Sprint("tier-", i)
		add(service, "stable", rollout.PartStable, 0)
		add(service, "canary", rollout.PartCanary, 0)
		for j := range 8 {
			add(service, fmt.Sprint("v", j), rollout.PartLeft, time.Duration(10*j+i)*time.Minute)
		}
		add(service, "kept", rollout.PartKept, 0)
	}
	has := map[string]bool{}
	for _, e := range controller.Remembered(all, parts) {
		has[e.Service+" "+e.Version] = true
	}
	if len(has) != 64 {
		t.Errorf("%d entries, want 64", len(has))
	}
	for i, e := range all {
		kept := has[e.Service+" "+e.Version]
		if parts[i] != rollout.PartLeft && !kept {
			t.Errorf("%s of %s, which is %s, is forgotten", e.Version, e.Service, parts[i])
		}
		if parts[i] == rollout.PartLeft && !kept && e.LeftAt.After(epoch.Add(37*time.Minute)) {
			t.Errorf("%s of %s is forgotten, which was left at %s", e.Version, e.Service, e.LeftAt.Format(time.TimeOnly))
		}
	}
}

// TestScalingIsInterrupted: an abort does not queue behind an API that hangs.
func TestScalingIsInterrupted(t *testing.T) {
	w := begun(t, 4, scaled())
	var hung error
	w.o.Live = interceptor.NewClient(w.client, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if kind := list.GetObjectKind().GroupVersionKind().Kind; kind == "ScaledObjectList" && hung == nil {
				w.ask(v1alpha1.ActionAbort)
				<-ctx.Done()
				hung = ctx.Err()
				return hung
			}
			undo := standIn(list)
			defer undo()
			return c.List(ctx, list, opts...)
		},
	})
	w.restart()
	_ = w.try2() // somebody else wrote the rollout
	if !errors.Is(hung, context.Canceled) {
		t.Errorf("the look at who else scales ended by %v, want it given up", hung)
	}
}

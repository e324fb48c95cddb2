package controller_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// failing answers every call that has the prefix with an error.
func failing(prefixes ...string) func(string) error {
	return func(call string) error {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(call, p) }) {
			return errOutage
		}
		return nil
	}
}

// TestRollbackOnHarm: the route is the first thing that is written, and nothing else is needed for it.
func TestRollbackOnHarm(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		before func(w *world)
		// fails says that the turn which rolls back reports an error, because what comes after the route failed.
		fails bool
	}{
		"Plain":        {reason: "the plain case"},
		"Status":       {reason: "the status cannot be written", before: func(w *world) { w.tap.fail = failing("status Rollout") }, fails: true},
		"Subsets":      {reason: "the DestinationRule cannot be written", before: func(w *world) { w.tap.fail = failing("apply DestinationRule", "update DestinationRule") }},
		"SubsetsRead":  {reason: "the DestinationRule cannot be read", before: func(w *world) { w.tap.fail = failing("get DestinationRule") }, fails: true},
		"Workloads":    {reason: "the workloads cannot be listed", before: func(w *world) { w.tap.fail = failing("list ") }},
		"CanaryGone":   {reason: "the canary's pods are gone", before: func(w *world) { w.deploy("v2", false); w.undeploy("v2") }},
		"StableUnsure": {reason: "no stable replica says that it is ready", before: func(w *world) { w.deploy("v1", false) }},
		"SubsetsGone": {reason: "the DestinationRule was taken by somebody else", fails: false, before: func(w *world) {
			w.change(istioV1, "DestinationRule", "coolant", func(o *unstructured.Unstructured) {
				o.SetLabels(nil)
				o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Rollout", Name: "another", UID: "u", Controller: new(true)}})
			})
		}},
		"Limit": {reason: "the rate limit cannot be read", before: func(w *world) { w.tap.fail = failing("get EnvoyFilter") }},
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 2)
			w.source.counts = harmful
			for w.route() != nil && len(w.canary()) > 0 {
				w.tap.writes()
				w.tap.fail = nil
				if tc.before != nil {
					tc.before(w)
				}
				err := w.try()
				if len(w.canary()) > 0 {
					w.clock = w.clock.Add(time.Second)
					continue
				}
				if (err != nil) != tc.fails {
					t.Errorf("%s: the turn returned %v, want an error: %t", tc.reason, err, tc.fails)
				}
			}
			if writes := w.tap.writes(); len(writes) == 0 || writes[0] != "apply VirtualService" {
				t.Errorf("%s: writes %v, want the route first", tc.reason, writes)
			}
			w.tap.fail = nil
			if name == "SubsetsGone" {
				if err := w.client.Delete(t.Context(), w.find(istioV1, "DestinationRule", "coolant")); err != nil {
					t.Fatal(err)
				}
			}
			ro := w.until("rolled back", ended(v1alpha1.OutcomeRolledBack))
			if ro.Status.LastRun.Reason != "ErrorsHarm" || ro.Status.RejectedVersion != "v2" || ro.Status.StableVersion != "v1" {
				t.Errorf("%s: %+v, stable %q, rejected %q", tc.reason, ro.Status.LastRun, ro.Status.StableVersion, ro.Status.RejectedVersion)
			}
			if name != "SubsetsGone" { // which were made anew, without the canary's
				checkLeaving(t, w, "v2", []string{"v1"})
			}
			if other := onlyOther(w.targets(), "v1"); len(other) > 0 {
				t.Errorf("%s: the route leads to %v too", tc.reason, other)
			}
		})
	}
}

func onlyOther(all []string, but string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == but })
}

// TestRollbackIsKept: between the write of the route and that of the status everything else may fail too, and nobody who
// went back to stable may see the canary again.
func TestRollbackIsKept(t *testing.T) {
	w := running(t, 2)
	w.source.counts = harmful
	w.tap.fail = failing("status Rollout")
	for len(w.canary()) > 0 {
		if err := w.try(); err == nil {
			continue
		}
		w.clock = w.clock.Add(time.Second)
	}
	w.source.err = errors.New("connection refused")
	for range 3 {
		w.restart()
		if err := w.try(); err == nil {
			t.Fatal("the status was written although it cannot be")
		}
		if n := len(w.canary()); n > 0 {
			t.Fatalf("%d buckets see the canary again after the rollback", n)
		}
		w.clock = w.clock.Add(10 * time.Second)
	}
	w.tap.fail = nil
	ro := w.turn()
	if !ended(v1alpha1.OutcomeRolledBack)(ro) || ro.Status.LastRun.Reason != "ErrorsHarm" {
		t.Errorf("last run %+v, want it rolled back for ErrorsHarm", ro.Status.LastRun)
	}
}

// TestOutage: the API is away for a while, in the middle of a step and at the moment of the rollback.
func TestOutage(t *testing.T) {
	w := running(t, 1)
	w.tap.fail = func(string) error { return errOutage }
	for range 5 {
		if err := w.try(); !errors.Is(err, errOutage) {
			t.Fatalf("got %v, want the outage", err)
		}
		w.clock = w.clock.Add(20 * time.Second)
	}
	if len(w.canary()) != 5 {
		t.Errorf("%d buckets during the outage, want 5", len(w.canary()))
	}
	w.tap.fail = nil
	w.source.counts = harmfulFrom(w.clock)
	ro := w.until("rolled back", ended(v1alpha1.OutcomeRolledBack))
	if ro.Status.LastRun.Reason != "ErrorsHarm" {
		t.Errorf("reason %q, want ErrorsHarm", ro.Status.LastRun.Reason)
	}
}

// TestRollbackAfterOutage: an API that answers nothing for five seconds holds a rollback back for as long, and for one try more.
func TestRollbackAfterOutage(t *testing.T) {
	w := running(t, 2)
	limiter := controller.Backoff()
	w.deploy("v1", false) // stable is short of replicas, too
	w.ask(v1alpha1.ActionAbort)
	began := w.clock
	over := began.Add(5 * time.Second)
	w.tap.fail = func(call string) error {
		if strings.Contains(call, "DestinationRule") || w.clock.Before(over) {
			return errOutage
		}
		return nil
	}
	for len(w.canary()) > 0 {
		w.tap.writes()
		if err := w.try(); err != nil && len(w.canary()) > 0 {
			w.clock = w.clock.Add(limiter.When(ctrl.Request{NamespacedName: w.key()}))
		}
		if w.clock.Sub(began) > time.Minute {
			t.Fatal("the traffic does not leave the canary")
		}
	}
	if late := w.clock.Sub(over); late > time.Second {
		t.Errorf("the traffic left the canary %s after the outage, want at most a second", late)
	}
	if writes := w.tap.writes(); len(writes) == 0 || writes[0] != "apply VirtualService" {
		t.Errorf("writes %v, want the route first", writes)
	}
}

// TestAbortNeedsNothing: an abort is obeyed while every other thing is broken.
func TestAbortNeedsNothing(t *testing.T) {
	for name, before := range map[string]func(w *world){
		"Plain":      func(*world) {},
		"CanaryGone": func(w *world) { w.undeploy("v2") },
		"NoEvidence": func(w *world) { w.source.err = errors.New("connection refused") },
		"BadEvidence": func(w *world) {
			w.editStatus(func(st *v1alpha1.RolloutStatus) { st.Run.Evidence = []byte("not evidence") })
		},
		"Paused":    func(w *world) { w.ask(v1alpha1.ActionPause); w.turn() },
		"Workloads": func(w *world) { w.tap.fail = failing("list ") },
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 2)
			before(w)
			asked := len(w.source.asked)
			id := w.ask(v1alpha1.ActionAbort)
			w.tap.writes()
			ro := w.turn()
			if writes := w.tap.writes(); len(writes) == 0 || writes[0] != "apply VirtualService" {
				t.Errorf("writes %v, want the route first", writes)
			}
			if !ended(v1alpha1.OutcomeRolledBack)(ro) || ro.Status.LastRun.Reason != "Aborted" || len(w.canary()) != 0 {
				t.Errorf("last run %+v with %d buckets, want it aborted", ro.Status.LastRun, len(w.canary()))
			}
			if len(w.source.asked) != asked {
				t.Error("an abort asked for evidence")
			}
			if q := w.request(id); q.Outcome != "Done" || q.HandledAt == nil {
				t.Errorf("request %+v, want it done", q)
			}
		})
	}
}

// TestKnownHarm: what the status says already rolls back before anything else is read, and no call may hang for ever.
func TestKnownHarm(t *testing.T) {
	w := running(t, 2, withAlerts)
	w.editStatus(func(st *v1alpha1.RolloutStatus) {
		st.Alerts = []v1alpha1.AlertStatus{{
			Fingerprint: "a", Name: "CanaryDown", Severity: "critical", StartsAt: metav1.NewTime(w.clock),
			Labels: map[string]string{"rollout": "coolant", "namespace": w.ns},
		}}
	})
	w.o.Live = interceptor.NewClient(w.tap.wrap(w.client), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Errorf("reading %s has no deadline", key)
			}
			return c.Get(ctx, key, o, opts...)
		},
	})
	w.restart()
	w.tap.calls = nil
	if ro := w.turn(); !ended(v1alpha1.OutcomeRolledBack)(ro) || len(w.canary()) != 0 {
		t.Errorf("last run %+v, and %d buckets see the canary; want it rolled back", ro.Status.LastRun, len(w.canary()))
	}
	if diff := cmp.Diff([]string{"get Rollout", "get VirtualService", "apply VirtualService"}, w.tap.calls[:min(3, len(w.tap.calls))]); diff != "" {
		t.Errorf("the first calls (-want +got):\n%s", diff)
	}
}

// TestSetBack: setting the version back needs as little as an abort.
func TestSetBack(t *testing.T) {
	w := running(t, 3)
	w.source.err = errors.New("connection refused")
	w.undeploy("v2")
	w.want("v1")
	w.tap.writes()
	ro := w.turn()
	if writes := w.tap.writes(); len(writes) == 0 || writes[0] != "apply VirtualService" {
		t.Errorf("writes %v, want the route first", writes)
	}
	if ro.Status.LastRun == nil || ro.Status.LastRun.Reason != "VersionSetBack" || ro.Status.RejectedVersion != "" {
		t.Errorf("last run %+v, rejected %q; want VersionSetBack and nothing rejected", ro.Status.LastRun, ro.Status.RejectedVersion)
	}
	checkLeaving(t, w, "v2", []string{"v1"})
}

// TestSupersede: another version ends the run of the first and begins its own, through stable.
func TestSupersede(t *testing.T) {
	w := running(t, 2)
	first := w.get().Status.Run.ID
	w.deploy("v3", true)
	w.want("v3")
	w.tap.writes()
	ro := w.turn()
	if writes := w.tap.writes(); len(writes) == 0 || writes[0] != "apply VirtualService" {
		t.Errorf("writes %v, want the route first", writes)
	}
	if !ended(v1alpha1.OutcomeSuperseded)(ro) || len(w.canary()) != 0 {
		t.Errorf("last run %+v with %d buckets, want Superseded with none", ro.Status.LastRun, len(w.canary()))
	}
	ro = w.until("v3 at step 1", func(ro *v1alpha1.Rollout) bool { return ro.Status.CanaryVersion == "v3" && ro.Status.Step == 1 })
	if ro.Status.Run.ID == first {
		t.Error("the new run has the old one's id")
	}
	if !slices.Contains(w.subsets(), "v2") {
		t.Error("the subset of v2 went at once")
	}
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
}

package controller_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// TestRequests: each is handled in one turn, once, and says what came of it.
func TestRequests(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  string
		prepare func(w *world)
		action  v1alpha1.RequestAction
		outcome string // the beginning of the request's outcome
		is      func(st v1alpha1.RolloutStatus) bool
	}{
		"Pause": {
			reason: "a pause holds the weight", action: v1alpha1.ActionPause, outcome: "Done",
			is: func(st v1alpha1.RolloutStatus) bool { return st.Run.Paused == "PausedByRequest" && st.Weight == 5 },
		},
		"Resume": {
			reason: "a resume ends the pause", action: v1alpha1.ActionResume, outcome: "Done",
			prepare: func(w *world) { w.ask(v1alpha1.ActionPause); w.turn() },
			is:      func(st v1alpha1.RolloutStatus) bool { return st.Run.Paused == "" && st.Weight == 5 },
		},
		"ResumeNothing": {
			reason: "there is no pause to end", action: v1alpha1.ActionResume, outcome: "Nothing done: ",
			is: func(st v1alpha1.RolloutStatus) bool { return st.Run.Paused == "" && st.Weight == 5 },
		},
		"Promote": {
			reason: "the step is skipped", action: v1alpha1.ActionPromote, outcome: "Done",
			is: func(st v1alpha1.RolloutStatus) bool { return st.Step == 2 && st.Reason == "StepSkipped" },
		},
		"PromotePaused": {
			reason: "a paused run goes on with the next step", action: v1alpha1.ActionPromote, outcome: "Done",
			prepare: func(w *world) { w.ask(v1alpha1.ActionPause); w.turn() },
			is:      func(st v1alpha1.RolloutStatus) bool { return st.Step == 2 && st.Run.Paused == "" },
		},
		"PromoteNotReady": {
			reason: "no weight grows towards a version without an endpoint", action: v1alpha1.ActionPromote, outcome: "Nothing done: ",
			prepare: func(w *world) { w.deploy("v2", false) },
			is:      func(st v1alpha1.RolloutStatus) bool { return st.Step == 1 && st.Reason == "CanaryNotReady" },
		},
		"PromoteFull": {
			reason: "the run ends at once", action: v1alpha1.ActionPromoteFull, outcome: "Done",
			is: func(st v1alpha1.RolloutStatus) bool {
				return st.StableVersion == "v2" && st.LastRun.Reason == "PromotedByRequest"
			},
		},
		"PromoteFullNotReady": {
			reason: "no request may meet a version without an endpoint", action: v1alpha1.ActionPromoteFull, outcome: "Nothing done: ",
			prepare: func(w *world) { w.deploy("v2", false) },
			is:      func(st v1alpha1.RolloutStatus) bool { return st.Step == 1 && st.StableVersion == "v1" },
		},
		"RetryRunning": {
			reason: "nothing was rejected", action: v1alpha1.ActionRetry, outcome: "Nothing done: ",
			is: func(st v1alpha1.RolloutStatus) bool { return st.Step == 1 },
		},
		"Retry": {
			reason: "a rejected version is tried again", action: v1alpha1.ActionRetry, outcome: "Done",
			prepare: func(w *world) { w.ask(v1alpha1.ActionAbort); w.turn() },
			is:      func(st v1alpha1.RolloutStatus) bool { return st.Run != nil && st.Step == 0 && st.RejectedVersion == "" },
		},
		"AbortNothing": {
			reason: "there is no run", action: v1alpha1.ActionAbort, outcome: "Nothing done: ",
			prepare: func(w *world) { w.ask(v1alpha1.ActionAbort); w.turn() },
			is:      func(st v1alpha1.RolloutStatus) bool { return st.Run == nil && st.RejectedVersion == "v2" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 1)
			if tc.prepare != nil {
				tc.prepare(w)
			}
			id := w.ask(tc.action)
			ro := w.turn()
			q := w.request(id)
			if q.HandledAt == nil || !strings.HasPrefix(q.Outcome, tc.outcome) {
				t.Errorf("%s: request %+v, want outcome %q", tc.reason, q, tc.outcome)
			}
			if !tc.is(ro.Status) {
				t.Errorf("%s: status %+v", tc.reason, ro.Status)
			}
			at := *q.HandledAt
			w.turn()
			if again := w.request(id); !again.HandledAt.Equal(&at) {
				t.Errorf("%s: handled at %v and again at %v", tc.reason, at, again.HandledAt)
			}
		})
	}
}

// TestRequestsInOrder: many requests are taken one by one, oldest first, and the last ten are kept.
func TestRequestsInOrder(t *testing.T) {
	w := running(t, 1)
	w.editStatus(func(st *v1alpha1.RolloutStatus) {
		for i := range 14 {
			action := v1alpha1.ActionPause
			if i%2 == 1 {
				action = v1alpha1.ActionResume
			}
			st.Requests = append(st.Requests, v1alpha1.Request{ID: fmt.Sprintf("r%d", i), Action: action, RequestedAt: metav1.NewMicroTime(w.clock)})
		}
	})
	began := w.clock
	for range 14 {
		w.turn()
	}
	if w.clock.Sub(began).Seconds() > 10 {
		t.Errorf("14 requests took %v, want one turn each, at once", w.clock.Sub(began))
	}
	ro := w.get()
	if n := len(ro.Status.Requests); n != 10 {
		t.Errorf("%d requests are kept, want 10", n)
	}
	for i, q := range ro.Status.Requests {
		if want := fmt.Sprintf("r%d", i+4); q.ID != want || q.Outcome != "Done" {
			t.Errorf("request %d: %q %q, want %q Done", i, q.ID, q.Outcome, want)
		}
	}
	if ro.Status.Run.Paused != "" {
		t.Error("the last request was a resume, but the run is paused")
	}
}

// TestAbortOvertakes: an abort waits for no request that came before it, and does not come too late because of one.
func TestAbortOvertakes(t *testing.T) {
	for _, before := range []v1alpha1.RequestAction{v1alpha1.ActionPromoteFull, v1alpha1.ActionPause, v1alpha1.ActionPromote} {
		t.Run(string(before), func(t *testing.T) {
			w := running(t, 1)
			asked := len(w.source.asked)
			first, abort, after := w.ask(before), w.ask(v1alpha1.ActionAbort), w.ask(v1alpha1.ActionRetry)
			ro := w.turn()
			if !ended(v1alpha1.OutcomeRolledBack)(ro) || len(w.canary()) != 0 || len(w.source.asked) != asked {
				t.Errorf("after one turn: last run %+v, %d buckets see the canary, evidence asked for %d times; want it aborted without a question",
					ro.Status.LastRun, len(w.canary()), len(w.source.asked)-asked)
			}
			if q := w.request(first); q.HandledAt == nil || q.Outcome != "Nothing done: an abort came after it" {
				t.Errorf("the request before the abort: %+v", q)
			}
			if q := w.request(abort); q.Outcome != "Done" {
				t.Errorf("the abort: %+v, want it done", q)
			}
			if q := w.request(after); q.HandledAt != nil {
				t.Errorf("the request after the abort: %+v, want it taken up in its turn", q)
			}
		})
	}
}

// TestRejectedStays: a rejected version is not tried again by itself; another one is.
func TestRejectedStays(t *testing.T) {
	w := running(t, 1)
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	for range 5 {
		if ro := w.turn(); ro.Status.Run != nil || ro.Status.Reason != "Aborted" {
			t.Fatalf("run %v, reason %q; want none, and the reason why it ended", ro.Status.Run, ro.Status.Reason)
		}
	}
	w.deploy("v3", true)
	w.want("v3")
	w.until("v3 at step 1", func(ro *v1alpha1.Rollout) bool { return ro.Status.CanaryVersion == "v3" && ro.Status.Step == 1 })
}

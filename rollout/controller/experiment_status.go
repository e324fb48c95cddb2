package controller

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/experiment"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// reasonRoutesPending: the routes do not show the variants yet.
const reasonRoutesPending rollout.Reason = "RoutesPending"

// decide chooses between going on and a verdict, and writes it into the status.
func (t *trial) decide() {
	if t.run != nil {
		t.keep()
	}
	if !t.waits() && !t.inForce() {
		t.awaitRoutes()
	}
	t.describe()
}

// keep writes the run and its results, and ends the experiment when there is a verdict.
func (t *trial) keep() {
	st := &t.exp.Status
	keepTrial(st, *t.run)
	st.Variants = variantStatuses(t.result.Arms)
	st.SampleRatio, st.Remaining = "", ""
	if t.plan.Assigned.Name != "" {
		st.SampleRatio = number(t.result.SampleRatio)
	}
	if t.result.RemainingKnown {
		st.Remaining = t.result.Remaining.String()
	}
	if t.why.Reason == reasonControlNotStable || t.why.Reason == reasonRolloutDeleted {
		t.result.Verdict, t.result.Reason, t.result.Message = experiment.Invalid, t.why.Reason, t.why.Message
	}
	if t.result.Verdict == experiment.Running {
		return
	}
	t.why, t.stuck = rollout.Outcome{}, false
	st.State, st.Verdict, st.Winner, st.Harmful = v1alpha1.ExperimentEnded, string(t.result.Verdict), t.result.Winner, t.result.Harmful
	st.EndedAt, st.Evidence, st.Remaining = microTime(t.now), nil, ""
}

// awaitRoutes says why the routes do not show the variants, as the rollout says.
func (t *trial) awaitRoutes() {
	if t.exp.Status.State == v1alpha1.ExperimentEnded {
		return
	}
	t.wait(reasonRoutesPending, fmt.Sprintf("the routes of rollout %q do not show the variants yet", t.exp.Spec.Rollout))
	if t.shown != nil && t.shown.Reason != "" {
		t.wait(rollout.Reason(t.shown.Reason), t.shown.Message)
	}
}

// describe writes the outcome into the status: one word everywhere.
func (t *trial) describe() {
	st := &t.exp.Status
	st.ObservedGeneration = t.exp.Generation
	st.State = orElse(st.State, v1alpha1.ExperimentWaiting)
	switch {
	case t.waits():
		st.Reason, st.Message = string(t.why.Reason), t.why.Message
	case t.result.Verdict != "":
		st.Reason, st.Message = string(t.result.Reason), t.result.Message
	}
	over := st.State == v1alpha1.ExperimentEnded
	ready := metav1.ConditionFalse
	if over {
		ready = metav1.ConditionTrue
	}
	t.condition(v1alpha1.ConditionReady, ready, true)
	t.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, t.stuck && !over)
	t.condition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, !t.stuck && !over)
}

func (t *trial) condition(kind string, status metav1.ConditionStatus, present bool) {
	st := &t.exp.Status
	if !present {
		meta.RemoveStatusCondition(&st.Conditions, kind)
		return
	}
	meta.SetStatusCondition(&st.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: orElse(st.Reason, "Unknown"), Message: st.Message, ObservedGeneration: t.exp.Generation,
	})
}

// until is the time to the next turn; 0 when nothing is to be done any more.
func (t *trial) until(lag time.Duration) time.Duration {
	switch {
	case t.exp.Status.State == v1alpha1.ExperimentEnded && t.exp.Spec.PromoteWinner && t.exp.Status.Promotion == "":
		return time.Millisecond
	case t.exp.Status.State == v1alpha1.ExperimentEnded:
		return 0
	case t.run == nil || !t.inForce():
		return min(lookAgain, t.plan.Interval)
	}
	next := rollout.GridFloor(t.now.Add(-lag), t.plan.Interval).Add(t.plan.Interval + lag)
	return max(next.Sub(t.now), time.Millisecond)
}

// tellExperiment reports what changed: an event when the state, the verdict or the reason to wait changed.
func (e *ExperimentReconciler) tellExperiment(t *trial) {
	st, was := t.exp.Status, t.was.Status
	switch {
	case st.Promotion != was.Promotion:
		e.Record(t.exp, st.Promotion != promotionDone, "WinnerPromoted", fmt.Sprintf("promotion of %q: %s", st.Winner, st.Promotion))
	case st.State == was.State && st.Verdict == was.Verdict && (st.Reason == was.Reason || !t.waits()):
		return
	default:
		bad := t.stuck || st.Verdict == string(experiment.Harm) || st.Verdict == string(experiment.Invalid)
		e.Record(t.exp, bad, st.Reason, fmt.Sprintf("%s: %s", orElse(st.Verdict, st.State), st.Message))
	}
	e.Log.Info("Concluded", "namespace", t.exp.Namespace, "experiment", t.exp.Name,
		"state", st.State, "verdict", st.Verdict, "reason", st.Reason, "message", st.Message)
}

package controller

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// Reasons that only the controller gives; those of the judge are in package rollout.
const (
	reasonInvalidSpec    rollout.Reason = "InvalidSpec"
	reasonUnsupported    rollout.Reason = "Unsupported"
	reasonProviderOff    rollout.Reason = "ProviderDisabled"
	reasonNotOwned       rollout.Reason = "ObjectNotOwned"
	reasonAdopted        rollout.Reason = "Adopted"
	reasonStableNotReady rollout.Reason = "StableNotReady"
	reasonStable         rollout.Reason = "Stable"
	reasonRejected       rollout.Reason = "Rejected"
	reasonSettling       rollout.Reason = "StableNotSettled"
	reasonRunStarted     rollout.Reason = "RunStarted"
	reasonEvidenceLost   rollout.Reason = "EvidenceLost"
	reasonRestricted     rollout.Reason = "NotAsWritten"
	reasonNotLimited     rollout.Reason = "NotLimited"
)

// describe writes the outcome into the status: one word everywhere.
func (p *pass) describe() {
	st := &p.ro.Status
	st.ObservedGeneration = p.ro.Generation
	settled := p.outcome.Reason == reasonStable || p.outcome.Reason == reasonRejected
	ended := st.LastRun != nil && st.Run == nil
	st.Decision, st.Reason, st.Message = string(p.outcome.Decision), string(p.outcome.Reason), p.outcome.Message
	st.Remaining = ""
	if left, ok := rollout.Remaining(p.findings); ok && st.Run != nil {
		st.Remaining = left.String()
	}
	if settled && ended {
		// A finished run keeps saying why it ended, until something else happens.
		st.Decision, st.Reason, st.Message = string(rollout.Rollback), st.LastRun.Reason, st.LastRun.Message
		if st.LastRun.Outcome == v1alpha1.OutcomePromoted {
			st.Decision = string(rollout.Promote)
		}
	}
	p.conditions()
}

func (p *pass) conditions() {
	st := &p.ro.Status
	set := func(kind string, status metav1.ConditionStatus) {
		meta.SetStatusCondition(&st.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: orElse(st.Reason, "Unknown"), Message: st.Message, ObservedGeneration: p.ro.Generation,
		})
	}
	present := func(kind string, yes bool) {
		if yes {
			set(kind, metav1.ConditionTrue)
			return
		}
		meta.RemoveStatusCondition(&st.Conditions, kind)
	}
	paused := st.Run != nil && st.Run.Paused != ""
	rejected := st.Run == nil && st.StableVersion != "" && st.RejectedVersion == p.ro.Spec.Version
	ready := metav1.ConditionFalse
	if st.Run == nil && st.StableVersion == p.ro.Spec.Version && p.graceLeft() == 0 && p.unrendered == nil && p.arrived() {
		ready = metav1.ConditionTrue
	}
	set(v1alpha1.ConditionReady, ready)
	present(v1alpha1.ConditionPaused, paused)
	stalled := paused || rejected || p.unrendered != nil
	present(v1alpha1.ConditionStalled, stalled)
	present(v1alpha1.ConditionReconciling, ready == metav1.ConditionFalse && !stalled)
	p.restrict()
}

// arrived says whether the route has led to the stable version since it was adopted, or since the last run, as it was read. Who
// waits for Ready may take the version that was left away; once it was true, a foreign edit is repaired without a word.
func (p *pass) arrived() bool {
	if meta.IsStatusConditionTrue(p.was.Status.Conditions, v1alpha1.ConditionReady) {
		return true
	}
	o, err := p.draw(p.traffic(), p.left())
	return err == nil && p.inPlace(o)
}

// stall says in the status that nothing will happen until somebody acts, and why. Nothing that the pass had decided is
// written, and the routes stay as they are.
func (r *Reconciler) stall(ctx context.Context, ro *v1alpha1.Rollout, reason rollout.Reason, cause error) error {
	now := ro.DeepCopy()
	st := &now.Status
	st.ObservedGeneration = ro.Generation
	st.Decision, st.Reason, st.Message = string(rollout.Hold), string(reason), cause.Error()
	meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionReconciling)
	for kind, status := range map[string]metav1.ConditionStatus{
		v1alpha1.ConditionReady: metav1.ConditionFalse, v1alpha1.ConditionStalled: metav1.ConditionTrue,
	} {
		meta.SetStatusCondition(&st.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: st.Reason, Message: st.Message, ObservedGeneration: ro.Generation,
		})
	}
	if equality.Semantic.DeepEqual(ro.Status, now.Status) {
		return nil
	}
	if err := r.Client.Status().Update(ctx, now); err != nil {
		return fmt.Errorf("writing the status of rollout %q: %w", ro.Name, err)
	}
	r.Record(now, true, string(reason), cause.Error())
	return nil
}

// tell reports what changed: an event for people when the decision or its reason changed, and the metrics.
func (r *Reconciler) tell(p *pass) {
	st, was := p.ro.Status, p.was.Status
	r.Metrics.observe(p)
	if p.outcome.Decision == rollout.Hold && st.Reason == was.Reason {
		return
	}
	if st.Reason == was.Reason && st.Decision == was.Decision && st.Step == was.Step {
		return
	}
	warning := p.outcome.Decision == rollout.Rollback || p.outcome.Decision == rollout.Pause
	r.Record(p.ro, warning, st.Reason, fmt.Sprintf("%s: %s", st.Decision, st.Message))
	r.Log.Info("Decided", "namespace", p.ro.Namespace, "rollout", p.ro.Name,
		"decision", st.Decision, "reason", st.Reason, "message", st.Message, "weight", st.Weight)
}

// gateStatuses writes findings for the status: decimals in strings, since the API has no floats.
func gateStatuses(findings []rollout.Finding) []v1alpha1.GateStatus {
	out := make([]v1alpha1.GateStatus, 0, len(findings))
	for _, f := range findings {
		g := v1alpha1.GateStatus{
			Name: f.Gate.Name, Verdict: string(f.Verdict), Reason: string(f.Reason), Message: f.Message,
			Stable: number(f.Stable), Canary: number(f.Canary),
		}
		if f.RemainingKnown {
			g.Remaining = f.Remaining.String()
		}
		if f.Gate.Harms() {
			g.Limit = number(f.Gate.Margin)
			g.Harm, g.HarmBound = eValue(f.LogHarm), eValue(f.LogHarmBound)
			g.Safety, g.SafetyBound = eValue(f.LogSafety), eValue(f.LogSafetyBound)
			g.Low, g.High = number(f.Low), number(f.High)
		}
		if chance, ok := f.ChanceWorse(); ok {
			g.ChanceWorse = number(chance)
		}
		if f.Known {
			g.Estimate = number(f.Estimate)
		}
		out = append(out, g)
	}
	return out
}

// eValue writes an e-value given as a logarithm. One that is too large for a number is written as 1e300: it has passed
// every bound long before.
func eValue(log float64) string { return number(math.Exp(min(log, 300*math.Ln10))) }

// number writes a number to four digits; nothing for one that does not exist.
func number(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

package view

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// next says what happens next and what it waits for. Every branch ends either in a time or in somebody's action.
func next(ro *v1alpha1.Rollout, now time.Time) string {
	s := ro.Status
	switch {
	case s.ObservedGeneration < ro.Generation:
		return "the controller has yet to take up the latest change of the spec"
	case s.Run != nil && s.Run.Paused != "":
		return fmt.Sprintf("paused (%s): waits for resume, promote or abort", s.Run.Paused)
	case s.Run != nil:
		return nextInRun(ro, now)
	case stalled(ro) != "":
		return "nothing until somebody acts: " + stalled(ro)
	case s.RejectedVersion != "" && s.RejectedVersion == ro.Spec.Version:
		return fmt.Sprintf("nothing: %s was rejected; change spec.version, or retry", s.RejectedVersion)
	case s.StableVersion == ro.Spec.Version && abandoned(s) != "":
		return fmt.Sprintf("Ready once no proxy sends requests to %s any more: keep it running until then", abandoned(s))
	case s.StableVersion == "":
		return ro.Spec.Version + " becomes stable, without a run, when its workload is ready"
	case s.StableVersion == ro.Spec.Version && showing(s.Experiments) != "":
		return fmt.Sprintf("nothing: waits for a new spec.version, whose run begins once experiment %s has ended", showing(s.Experiments))
	case s.StableVersion == ro.Spec.Version:
		return "nothing: waits for a new spec.version"
	case s.Reason == "ExperimentRunning" || s.Reason == "StableNotSettled":
		return s.Message
	}
	return fmt.Sprintf("a run of %s starts when its workload is ready", ro.Spec.Version)
}

// abandoned is the version that the last run left, while proxies may still send requests to it.
func abandoned(s v1alpha1.RolloutStatus) string {
	switch {
	case s.LastRun == nil || !meta.IsStatusConditionFalse(s.Conditions, v1alpha1.ConditionReady):
		return ""
	case s.LastRun.Outcome == v1alpha1.OutcomePromoted:
		return s.LastRun.Previous
	}
	return s.LastRun.Version
}

// stalled is what stands in the way of a run, "" when nothing does. A rejected version has a clause of its own.
func stalled(ro *v1alpha1.Rollout) string {
	c := meta.FindStatusCondition(ro.Status.Conditions, v1alpha1.ConditionStalled)
	if c == nil || c.Status != metav1.ConditionTrue || ro.Status.RejectedVersion == ro.Spec.Version {
		return ""
	}
	if c.Message == "" {
		return c.Reason
	}
	return c.Message
}

func nextInRun(ro *v1alpha1.Rollout, now time.Time) string {
	if len(ro.Spec.Steps) == 0 {
		return "nothing: there are no steps"
	}
	if ro.Status.Step < 1 {
		return nextBeforeSteps(ro, now)
	}
	var waits []string
	if left := holdLeft(ro, now); left > 0 {
		waits = append(waits, "the hold ends in "+span(left+time.Second-1))
	}
	names, then := waiting(ro.Status.Gates), ""
	if len(names) > 0 {
		waits, then = append(waits, passing(names)), atCap(ro)
	}
	switch ro.Status.Reason { // these come before the gates, and pause at the cap
	case "CanaryNotReady":
		waits, then = append(waits, fmt.Sprintf("enough of %s is ready", ro.Status.CanaryVersion)), "pause"
	case "Converging", "WeightNotRealised":
		waits, then = append(waits, "the mesh shows the weight"), "pause"
	}
	text := target(ro)
	if len(waits) > 0 {
		text += " when " + strings.Join(waits, " and ")
	}
	return text + deadline(ro, now, then)
}

// nextBeforeSteps says what happens before the first step, while all units are on the stable version.
func nextBeforeSteps(ro *v1alpha1.Rollout, now time.Time) string {
	s := ro.Status
	switch s.Reason {
	case "Previewing", "Shadowing", "AwaitingPromotion":
		return s.Message
	case "Converging", "WeightNotRealised":
		return fmt.Sprintf("%s begins when every proxy knows %s", beginning(ro), s.CanaryVersion) + deadline(ro, now, "pause")
	}
	if names := waiting(s.Gates); (s.Mirror > 0 || controlled(ro)) && len(names) > 0 {
		return fmt.Sprintf("weight %d when %s", ro.Spec.Steps[0].Weight, passing(names)) + deadline(ro, now, atCap(ro))
	}
	return fmt.Sprintf("%s begins when %s is ready", beginning(ro), s.CanaryVersion) + deadline(ro, now, "pause")
}

// beginning is what a run has first.
func beginning(ro *v1alpha1.Rollout) string {
	switch s := ro.Spec.Strategy; {
	case s != nil && s.Preview != nil:
		return "the preview"
	case s != nil && s.Shadow != nil:
		return "the shadow"
	}
	return "the first step"
}

// controlled says whether the gates have a word in the preview: they compare a cohort with its control.
func controlled(ro *v1alpha1.Rollout) bool {
	s := ro.Spec.Strategy
	return s != nil && s.Preview != nil && s.Preview.Cohort != nil && s.Preview.Cohort.Control > 0 && ro.Status.Reason != "CanaryNotReady"
}

// passing is the clause that names the gates to wait for: "errors passes", "errors, latency and quality pass".
func passing(names []string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0] + " passes"
	}
	return strings.Join(names[:last], ", ") + " and " + names[last] + " pass"
}

func target(ro *v1alpha1.Rollout) string {
	if int(ro.Status.Step) >= len(ro.Spec.Steps) {
		return ro.Status.CanaryVersion + " is promoted"
	}
	return fmt.Sprintf("weight %d", ro.Spec.Steps[ro.Status.Step].Weight)
}

// deadline is the clause that says what comes when the step has waited for as long as it may, "" when there is none to tell.
func deadline(ro *v1alpha1.Rollout, now time.Time, then string) string {
	left := capLeft(ro, now)
	if left <= 0 || then == "" {
		return ""
	}
	return fmt.Sprintf("; at the cap in %s: %s", span(left+time.Second-1), then)
}

func atCap(ro *v1alpha1.Rollout) string {
	if ro.Spec.Analysis.OnInconclusive == "Rollback" {
		return "roll back, or pause for want of data"
	}
	return "pause"
}

func waiting(gates []v1alpha1.GateStatus) []string {
	var names []string
	for _, g := range gates {
		if g.Verdict != "Pass" && g.Reason != "NotJudgedOnCopies" && g.Reason != "NotJudgedInCohort" {
			names = append(names, g.Name)
		}
	}
	return names
}

// holdLeft is the rest of the present step's hold, 0 when it is over or unknown.
func holdLeft(ro *v1alpha1.Rollout, now time.Time) time.Duration {
	step := min(int(ro.Status.Step), len(ro.Spec.Steps)) // the spec may have lost steps since
	return left(ro.Status.Run.StepStartedAt, now, ro.Spec.Steps[step-1].Hold.Duration)
}

// capLeft is the rest of the time that the step may wait. What comes before the first step is counted from when the version
// was ready last; until it is, from when the run began.
func capLeft(ro *v1alpha1.Rollout, now time.Time) time.Duration {
	run, limit := ro.Status.Run, ro.Spec.Analysis.Cap.Duration
	waited := left(run.WaitingSince, now, limit)
	if ro.Status.Reason == "CanaryNotReady" {
		return waited
	}
	return max(waited, left(run.StepStartedAt, now, limit))
}

func left(since *metav1.MicroTime, now time.Time, d time.Duration) time.Duration {
	if since == nil || now.IsZero() {
		return 0
	}
	return max(since.Add(d).Sub(now), 0)
}

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition types of a Rollout. Ready, Reconciling and Stalled follow kstatus; the others are present only while they
// are true.
const (
	// ConditionReady is true when spec.version is stable and all traffic goes there: after a run also the proxies that learn of
	// it late, for which a grace is given. What ran another version may be taken away.
	ConditionReady = "Ready"
	// ConditionReconciling is present and true while a run is going on.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is present and true when nothing will happen until somebody acts.
	ConditionStalled = "Stalled"
	// ConditionPaused is present and true while a run is paused.
	ConditionPaused = "Paused"
	// ConditionRestricted is present and true while a part of the spec is not in force as it is written; its message says
	// which and why. Its reason is NotLimited where a rate limit is not in force because somebody else's object has its place, and
	// NotAsWritten otherwise. Nothing waits for it, but for an object that somebody changes as it is written, which no step goes past.
	ConditionRestricted = "Restricted"
)

// Labels and annotations that the outside sees.
const (
	// LabelRollout is the label that every object Siskin writes carries: the name of its rollout.
	LabelRollout = "siskin.dev/rollout"
	// Finalizer is held by a Rollout while units see another version than the stable one: deleting it then takes the traffic
	// back first.
	Finalizer = "siskin.dev/return-traffic"
	// FieldManager is the name under which Siskin applies objects.
	FieldManager = "siskin"
)

// RolloutStatus is what the controller observed and decided.
type RolloutStatus struct {
	// observedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// stableVersion is the version that all units saw when the last run ended.
	// +optional
	StableVersion string `json:"stableVersion,omitempty"`
	// canaryVersion is the version under test. It is empty when no run is going on.
	// +optional
	CanaryVersion string `json:"canaryVersion,omitempty"`
	// rejectedVersion is the version whose run ended in a rollback. It is not tried again until spec.version changes
	// or somebody asks for a retry.
	// +optional
	RejectedVersion string `json:"rejectedVersion,omitempty"`
	// weight is the number of buckets of 100 that see the canary now.
	// +optional
	Weight int32 `json:"weight"`
	// mirror is the share of the users' requests, in percent, of which the canary gets copies now.
	// +optional
	Mirror int32 `json:"mirror,omitempty"`
	// step is the number of the present step, counted from 1; 0 before the first.
	// +optional
	Step int32 `json:"step"`
	// realised is the share of requests, in percent, that met the canary when telemetry last told, such as "24.8". It is empty
	// while nothing has.
	// +optional
	Realised string `json:"realised,omitempty"`
	// allocation lists the canary's buckets, such as "03,17,42".
	// +optional
	Allocation string `json:"allocation,omitempty"`
	// decision is what the rollout did last: Hold, Advance, Promote, Rollback or Pause.
	// +optional
	Decision string `json:"decision,omitempty"`
	// reason is why, in one word; message says it with numbers.
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	// remaining is how much longer the evidence of this step is likely to need at the present traffic, if the versions do
	// not differ. It is empty while nobody can say.
	// +optional
	Remaining string `json:"remaining,omitempty"`
	// rendered is the last spec that could be rendered, as JSON. A spec that cannot be does not keep a run from going back.
	// +optional
	Rendered []byte `json:"rendered,omitempty"`
	// run is the run that is going on.
	// +optional
	Run *RunStatus `json:"run,omitempty"`
	// lastRun is how the last run ended.
	// +optional
	LastRun *LastRunStatus `json:"lastRun,omitempty"`
	// gates say what each gate made of the evidence at the last look.
	// +listType=map
	// +listMapKey=name
	// +optional
	Gates []GateStatus `json:"gates,omitempty"`
	// alerts are the alerts taken from Alertmanager that fire for this rollout.
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=fingerprint
	// +optional
	Alerts []AlertStatus `json:"alerts,omitempty"`
	// requests are what operators asked for, oldest first; the controller marks each as handled once and keeps the last ten.
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=id
	// +optional
	Requests []Request `json:"requests,omitempty"`
	// experiments are those of this rollout that hold buckets, with what the routes show of them.
	// +kubebuilder:validation:MaxItems=50
	// +listType=map
	// +listMapKey=name
	// +optional
	Experiments []RolloutExperiment `json:"experiments,omitempty"`
	// workloads are what spec.workload.scaling has to do with at present; a version that is as it should be, and is to stay so,
	// is not among them.
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=service
	// +listMapKey=version
	// +optional
	Workloads []WorkloadStatus `json:"workloads,omitempty"`
	// conditions follow kstatus: Ready, Reconciling and Stalled, and tell more: Paused and Restricted.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RunStatus is a run that is going on: everything that the next process needs to go on with it.
type RunStatus struct {
	// id names the run. The order in which buckets join the canary follows from it.
	ID string `json:"id"`
	// startedAt is when the run began.
	StartedAt metav1.MicroTime `json:"startedAt"`
	// stepStartedAt is when the present weight was decided.
	// +optional
	StepStartedAt *metav1.MicroTime `json:"stepStartedAt,omitempty"`
	// lastBlock is the end of the last block that was counted. No block that ends at or before it is counted again.
	// +optional
	LastBlock *metav1.MicroTime `json:"lastBlock,omitempty"`
	// waitingSince is when the clock of analysis.cap began: at the step's start, when the run was resumed, or when it last waited for an
	// approval.
	// +optional
	WaitingSince *metav1.MicroTime `json:"waitingSince,omitempty"`
	// notReadySince is since when the run has waited for the canary alone. The clock of analysis.cap runs from then, too.
	// +optional
	NotReadySince *metav1.MicroTime `json:"notReadySince,omitempty"`
	// paused says why the run waits for somebody. Empty when it does not.
	// +optional
	Paused string `json:"paused,omitempty"`
	// pausedAt is when it began to wait.
	// +optional
	PausedAt *metav1.MicroTime `json:"pausedAt,omitempty"`
	// spreadingAt is when the mesh last did not show the routes, or said that not every proxy has them. It may lie a minute ahead
	// until they stand.
	// +optional
	SpreadingAt *metav1.MicroTime `json:"spreadingAt,omitempty"`
	// shownAt is since when the objects of the mesh show the present weight. It is empty while they do not, or nobody has looked.
	// +optional
	ShownAt *metav1.MicroTime `json:"shownAt,omitempty"`
	// admitted says that the cohort and the preview hosts meet the canary: not before it can answer, and the mesh has its subset.
	// +optional
	Admitted bool `json:"admitted,omitempty"`
	// share is what telemetry says of the weight, in the encoding of the rollout package.
	// +optional
	Share []byte `json:"share,omitempty"`
	// evidence is the state of every gate's evidence, in the encoding of the rollout package.
	// +optional
	Evidence []byte `json:"evidence,omitempty"`
}

// Outcomes of a run.
const (
	OutcomePromoted   = "Promoted"
	OutcomeRolledBack = "RolledBack"
	OutcomeSuperseded = "Superseded"
)

// LastRunStatus is how a run ended.
type LastRunStatus struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	// previous is the version that was stable during the run.
	Previous string `json:"previous,omitempty"`
	Outcome  string `json:"outcome"`
	Reason   string `json:"reason"`
	Message  string `json:"message,omitempty"`
	// endedAt is when it ended: of a promotion, when its route was written. It may lie a minute ahead until that has succeeded.
	EndedAt metav1.MicroTime `json:"endedAt"`
}

// GateStatus is what one gate made of the evidence. Numbers are decimals in strings, because the API has no floats.
type GateStatus struct {
	Name string `json:"name"`
	// verdict is Pass, Harm, Wait, NoData or Invalid.
	Verdict string `json:"verdict"`
	// reason is one word; message says it with numbers.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// estimate is the ratio of canary to stable, low and high the ends of its confidence sequence.
	// +optional
	Estimate string `json:"estimate,omitempty"`
	// +optional
	Low string `json:"low,omitempty"`
	// +optional
	High string `json:"high,omitempty"`
	// remaining is how much longer the gate is likely to need at the present traffic, if the versions do not differ.
	// +optional
	Remaining string `json:"remaining,omitempty"`
	// stable and canary are what was measured in each variant at this step, in the gate's unit.
	// +optional
	Stable string `json:"stable,omitempty"`
	// +optional
	Canary string `json:"canary,omitempty"`
	// chanceWorse is the probability that the canary's rate is the higher one, from this step's counts. It is shown, and
	// nothing is decided by it: looking again and again makes it wrong.
	// +optional
	ChanceWorse string `json:"chanceWorse,omitempty"`
	// limit is the ratio that the canary must be shown to stay below.
	// +optional
	Limit string `json:"limit,omitempty"`
	// harm and safety are the e-values of the two sides; harmBound and safetyBound are where each decides.
	// +optional
	Harm string `json:"harm,omitempty"`
	// +optional
	HarmBound string `json:"harmBound,omitempty"`
	// +optional
	Safety string `json:"safety,omitempty"`
	// +optional
	SafetyBound string `json:"safetyBound,omitempty"`
}

// AlertStatus is an alert that fires.
type AlertStatus struct {
	// fingerprint identifies the alert in Alertmanager.
	Fingerprint string `json:"fingerprint"`
	Name        string `json:"name"`
	// severity is "critical", "warning" or "info".
	Severity string `json:"severity,omitempty"`
	Summary  string `json:"summary,omitempty"`
	// labels are the alert's labels, which the alerts gates match.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// startsAt is when it began to fire.
	StartsAt metav1.Time `json:"startsAt"`
}

// RequestAction is what an operator may ask for.
//
// +kubebuilder:validation:Enum=Promote;PromoteFull;Abort;Pause;Resume;Retry
type RequestAction string

// The actions.
const (
	// ActionPromote skips the rest of the present step, or resumes and skips when the run is paused.
	ActionPromote RequestAction = "Promote"
	// ActionPromoteFull promotes at once, whatever the gates say.
	ActionPromoteFull RequestAction = "PromoteFull"
	// ActionAbort rolls back at once.
	ActionAbort RequestAction = "Abort"
	// ActionPause holds the weight until ActionResume.
	ActionPause RequestAction = "Pause"
	// ActionResume ends a pause.
	ActionResume RequestAction = "Resume"
	// ActionRetry starts a new run of a version that was rejected.
	ActionRetry RequestAction = "Retry"
)

// Request is what an operator asked for. Writers add one with a new id; the controller fills handledAt and outcome.
type Request struct {
	// id is unique: a request is handled once.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ID     string        `json:"id"`
	Action RequestAction `json:"action"`
	// by is who asked, where the API server tells.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	By          string           `json:"by,omitempty"`
	RequestedAt metav1.MicroTime `json:"requestedAt"`
	// handledAt is when the controller took it up. It is empty while the request waits.
	// +optional
	HandledAt *metav1.MicroTime `json:"handledAt,omitempty"`
	// outcome is "Done", or why nothing was done.
	// +optional
	Outcome string `json:"outcome,omitempty"`
}

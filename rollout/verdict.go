package rollout

import (
	"time"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// Verdict is what a gate says.
type Verdict string

// The verdicts.
const (
	Pass    Verdict = "Pass"
	Harm    Verdict = "Harm"
	Wait    Verdict = "Wait"   // not enough evidence yet
	NoData  Verdict = "NoData" // nothing was counted
	Invalid Verdict = "Invalid"
)

// Decision is what the rollout does next.
type Decision string

// The decisions.
const (
	Hold     Decision = "Hold"
	Advance  Decision = "Advance"
	Promote  Decision = "Promote"
	Rollback Decision = "Rollback"
	Pause    Decision = "Pause"
)

// Reason says why, in one word: the same word is the condition's reason, the event's reason, the metric's label and
// what the CLI prints.
type Reason string

// The reasons of gates and decisions.
const (
	// Harm.
	ErrorsHarm  Reason = "ErrorsHarm"
	LatencyHarm Reason = "LatencyHarm"
	MeanHarm    Reason = "MeanHarm"
	EnergyHarm  Reason = "EnergyHarm"
	AlertFiring Reason = "AlertFiring"

	// Waiting.
	CollectingEvidence Reason = "CollectingEvidence"
	TooFewBuckets      Reason = "TooFewBuckets"
	HoldingStep        Reason = "HoldingStep"
	CanaryNotReady     Reason = "CanaryNotReady"
	AwaitingCanary     Reason = "AwaitingCanary"
	ExperimentRunning  Reason = "ExperimentRunning"
	Previewing         Reason = "Previewing"
	AwaitingPromotion  Reason = "AwaitingPromotion"
	Shadowing          Reason = "Shadowing"
	Converging         Reason = "Converging"
	WeightNotRealised  Reason = "WeightNotRealised"

	// Data.
	NoBlocks       Reason = "NoData"
	NoCanary       Reason = "NoCanaryData"
	NoStable       Reason = "NoStableData"
	BoundsChanged  Reason = "HistogramBoundsChanged"
	BelowThreshold Reason = "ThresholdBeyondBounds"
	NotOfCopies    Reason = "NotJudgedOnCopies"
	NotOfCohort    Reason = "NotJudgedInCohort"
	// Data that cannot be trusted.
	SampleRatioMismatch Reason = "SampleRatioMismatch"
	RequestsUnanswered  Reason = "RequestsUnanswered"

	// Progress.
	EvidenceSafe  Reason = "EvidenceSafe"
	NoAlerts      Reason = "NoAlerts"
	DataComplete  Reason = "DataComplete"
	CanaryReady   Reason = "CanaryReady"
	StepPassed    Reason = "StepPassed"
	AllPassed     Reason = "AllStepsPassed"
	Inconclusive  Reason = "Inconclusive"
	Paused        Reason = "Paused"
	PausedByAlert Reason = "PausedByAlert"

	// Requests of operators and changes of the spec.
	Aborted         Reason = "Aborted"
	PausedByRequest Reason = "PausedByRequest"
	Resumed         Reason = "Resumed"
	StepSkipped     Reason = "StepSkipped"
	StepChanged     Reason = "StepChanged"
	PromotedFull    Reason = "PromotedByRequest"
	VersionSetBack  Reason = "VersionSetBack"
	Superseded      Reason = "Superseded"
)

// Finding is what one gate made of the evidence, with the numbers behind it.
type Finding struct {
	Gate    Gate
	Verdict Verdict
	Reason  Reason
	Message string
	// Estimate is the ratio of canary to stable (of stable to canary where higher is better), Low and High the ends of
	// its confidence sequence at level 1 - FalseAlarm. Known is false while there is no estimate.
	Estimate, Low, High float64
	Known               bool
	// Stable and Canary are the measured rate or mean of each variant at this step; NaN while there is none.
	Stable, Canary float64
	// StableTotal and CanaryTotal are the requests (Count) and events (Sum) of this step, where requests are counted.
	StableTotal, CanaryTotal stats.Cluster
	// Remaining is how much longer the evidence is likely to need at the present traffic if there is no difference;
	// RemainingKnown is false where nobody can say.
	Remaining      time.Duration
	RemainingKnown bool
	// LogHarm and LogSafety are the natural logarithms of the e-values, the bounds what they must reach.
	LogHarm, LogHarmBound     float64
	LogSafety, LogSafetyBound float64
}

// Untold says that what there is to judge before the first step tells the gate nothing: it holds nothing, and no data is missing.
func (f Finding) Untold() bool { return f.Reason == NotOfCopies || f.Reason == NotOfCohort }

// Alert is an alert that fires.
type Alert struct {
	Name, Severity, Summary string
	Labels                  map[string]string
}

// Severities that the alerts gate acts on.
const (
	SeverityCritical = "critical"
	SeverityWarning  = "warning"
)

package experiment

import (
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// Verdict is what an experiment has shown. All but Running end it.
type Verdict string

// The verdicts.
const (
	// Running: not enough evidence yet, or no data.
	Running Verdict = "Running"
	// Winner: an arm is better than the control, by an estimate of at least the smallest effect.
	Winner Verdict = "Winner"
	// NoDifference: every arm is shown to differ from the control by less than the smallest effect.
	NoDifference Verdict = "NoDifference"
	// Inconclusive: none of the others at the maximum duration.
	Inconclusive Verdict = "Inconclusive"
	// Harm: an arm is shown to make the objective or a guardrail worse.
	Harm Verdict = "Harm"
	// Invalid: the data cannot be trusted, whatever it says.
	Invalid Verdict = "Invalid"
)

// Reasons of an experiment, beside those of package rollout, whose gates give theirs.
const (
	BetterThanControl    rollout.Reason = "BetterThanControl"
	BetterNotToldApart   rollout.Reason = "BetterButNotToldApart" // from another arm that also beats the control
	WithinSmallestEffect rollout.Reason = "WithinSmallestEffect"
	MaximumDuration      rollout.Reason = "MaximumDuration"
	MinimumDuration      rollout.Reason = "MinimumDuration"
	SeparatingArms       rollout.Reason = "SeparatingArms"
	Contaminated         rollout.Reason = "BucketsContaminated"
)

// Result is a verdict with its reason, in a word and in a sentence, and the numbers behind it.
type Result struct {
	Verdict Verdict
	Reason  rollout.Reason
	Message string
	// Winner is the name of the winning variant, with the verdict Winner; of the harmful one with Harm. Empty otherwise.
	Winner, Harmful string
	// Tied names the arms that could not be told apart from the winner.
	Tied []string
	// Arms are the results of the variants in the plan's order, the control among them.
	Arms []ArmResult
	// SampleRatio is the anytime-valid p-value of the shares; 1 where there is no such test.
	SampleRatio float64
	// Remaining is how much longer the evidence is likely to need at present traffic; at most until the maximum duration.
	Remaining      time.Duration
	RemainingKnown bool
}

// ArmResult is what is known of one variant.
type ArmResult struct {
	Name, Version string
	Control       bool
	// Buckets is the number of buckets it owns, Units how many units were newly assigned to it (0 where nothing counts them),
	// Count how many observations of the objective were made in it.
	Buckets      int
	Units, Count float64
	// Mean is the objective's mean or rate with its confidence sequence; NaN while there is none.
	Mean, MeanLow, MeanHigh float64
	// Ratio is the arm's mean by the control's, Low and High its confidence sequence at level 1 - FalseAlarm over all arms
	// together. Known is false while there is no estimate, and for the control.
	Ratio, Low, High float64
	Known            bool
	// ChanceToBeat is the chance that the arm is better than the control, with a flat prior on the ln of the ratio. It is shown
	// and decides nothing: it does not hold under repeated looks. NaN while there is none.
	ChanceToBeat float64
	// Lift is what an analysis with one look would say, to show beside the sequence: the relative difference from the control,
	// adjusted by the buckets' past, with a 95 % interval by Welch's test over buckets. It does not hold under repeated
	// looks. LiftKnown is false where there are no buckets, or none that vary.
	Lift, LiftLow, LiftHigh float64
	LiftKnown               bool
	// Objective and Guardrails are the findings against the control, as rollout.Judge gives them: with ratios turned so that
	// above 1 is worse. Empty for the control.
	Objective  rollout.Finding
	Guardrails []rollout.Finding
	// Contaminated is the share of observations that buckets had under another variant's version.
	Contaminated float64
	// Remaining is how much longer this arm's evidence is likely to need.
	Remaining      time.Duration
	RemainingKnown bool
}

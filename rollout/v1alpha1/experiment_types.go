package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Experiment compares two to ten variants of the service that a Rollout owns, each seen by its own buckets, until the
// evidence says which one is best, that none differs enough to matter, or that the time is up.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=exp,categories=siskin
// +kubebuilder:printcolumn:name="Rollout",type=string,JSONPath=`.spec.rollout`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Verdict",type=string,JSONPath=`.status.verdict`
// +kubebuilder:printcolumn:name="Winner",type=string,JSONPath=`.status.winner`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 52",message="metadata.name must be at most 52 characters, because the names of other objects may be derived from it"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.allocation) || size(oldSelf.status.allocation) == 0 || (self.spec.rollout == oldSelf.spec.rollout && has(self.spec.layer) == has(oldSelf.spec.layer) && (!has(self.spec.layer) || self.spec.layer == oldSelf.spec.layer) && has(self.spec.holdout) == has(oldSelf.spec.holdout) && (!has(self.spec.holdout) || self.spec.holdout == oldSelf.spec.holdout) && has(self.spec.control) == has(oldSelf.spec.control) && (!has(self.spec.control) || self.spec.control == oldSelf.spec.control) && self.spec.variants == oldSelf.spec.variants)",message="rollout, layer, holdout, control and variants may not be changed once the experiment holds buckets, because no unit may move between variants: create another experiment"
type Experiment struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// spec says what is compared.
	Spec ExperimentSpec `json:"spec"`
	// status says what was observed and concluded.
	// +optional
	Status ExperimentStatus `json:"status,omitempty"`
}

// ExperimentList is a list of experiments.
//
// +kubebuilder:object:root=true
type ExperimentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Experiment `json:"items"`
}

// ExperimentSpec says what is compared, by what, and for how long.
//
// +kubebuilder:validation:XValidation:rule="!has(self.control) || self.variants.exists(v, v.name == self.control)",message="control must be the name of one of the variants"
// +kubebuilder:validation:XValidation:rule="self.variants.map(v, v.share).sum() + (has(self.holdout) ? self.holdout : 0) <= 100",message="the shares of the variants and holdout may not be more than 100 buckets together"
type ExperimentSpec struct {
	// rollout is the name of the Rollout, in the same namespace, that owns the service. Its routes show the variants, and
	// a new version that it wants waits until the experiment has ended.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=52
	Rollout string `json:"rollout"`

	// variants are what is compared. The first one is the control, unless control names another.
	// +kubebuilder:validation:MinItems=2
	// +kubebuilder:validation:MaxItems=10
	// +listType=map
	// +listMapKey=name
	Variants []VariantSpec `json:"variants"`

	// control is the name of the variant that the others are compared with. It must serve the rollout's stable version.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Control string `json:"control,omitempty"`

	// layer is what the buckets belong to: experiments of one layer never share a bucket, whatever their rollouts. All
	// experiments of a rollout must be in one layer. The rollout's name by default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="layer must be a DNS label: lower-case letters, digits and '-'"
	// +optional
	Layer string `json:"layer,omitempty"`

	// holdout is the number of buckets of the layer that this experiment leaves to the stable version, always the same
	// ones: what they see tells what all experiments together have brought.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=50
	// +optional
	Holdout int32 `json:"holdout,omitempty"`

	// objective is what decides.
	Objective ObjectiveSpec `json:"objective"`

	// guardrails are what no variant may make worse than the control: one that does ends the experiment with the verdict Harm.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:XValidation:rule="self.all(g, !(g.type in ['Alerts','SampleRatio']))",message="the type of a guardrail may not be 'Alerts', which speak of a whole rollout, or 'SampleRatio', which units asks for"
	// +kubebuilder:validation:XValidation:rule="self.all(g, !(g.name in ['objective','units']))",message="the name of a guardrail may not be 'objective' or 'units', which are the experiment's own"
	// +optional
	Guardrails []GateSpec `json:"guardrails,omitempty"`

	// units is a PromQL series selector of a counter of newly assigned units, such as `siskin_units_total{model="coolant"}`,
	// whose version label is the objective's. When more or fewer units see a variant than its buckets say (a sample ratio
	// mismatch), the assignment is broken and the experiment ends with the verdict Invalid.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Units string `json:"units,omitempty"`

	// duration bounds the experiment's length.
	// +optional
	// +kubebuilder:default={}
	Duration ExperimentDuration `json:"duration,omitzero"`

	// analysis sets the error budget and the clock of the evidence.
	// +optional
	// +kubebuilder:default={}
	Analysis ExperimentAnalysis `json:"analysis,omitzero"`

	// promoteWinner sets spec.version of the rollout to the winner's version when there is one. The rollout then moves to
	// it by its own steps and gates.
	// +optional
	PromoteWinner bool `json:"promoteWinner,omitempty"`
}

// VariantSpec is one arm of an experiment.
type VariantSpec struct {
	// name of the variant: the value of the header x-siskin-variant that pins a request to it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="variant name must be a DNS label: lower-case letters, digits and '-'"
	// +kubebuilder:validation:XValidation:rule="!(self in ['stable','canary']) && !self.startsWith('pin-')",message="variant name must not be 'stable' or 'canary', nor begin with 'pin-': these are a rollout's own"
	Name string `json:"name"`
	// version is the value of the workload's version label.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",message="version must be a valid label value: letters, digits, '-', '_' and '.', beginning and ending with a letter or a digit"
	Version string `json:"version"`
	// share is the number of buckets of 100 that see the variant.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Share int32 `json:"share"`
}

// ObjectiveSpec is what decides: the mean of something that every unit has.
type ObjectiveSpec struct {
	// query names the two counters whose ratio is the mean.
	Query ObjectiveQuery `json:"query"`
	// direction says which way is better.
	// +kubebuilder:validation:Enum=Lower;Higher
	// +kubebuilder:default=Lower
	// +optional
	Direction string `json:"direction,omitempty"`
	// smallestEffect is the smallest relative difference that matters: a decimal, "0.05" for five per cent. Variants
	// that are shown to differ by less end the experiment with the verdict NoDifference.
	// +kubebuilder:validation:MaxLength=10
	// +kubebuilder:validation:XValidation:rule="self.matches('^0[.][0-9]+$') && double(self) > 0.0 && double(self) < 1.0",message="objective.smallestEffect must be a decimal between 0 and 1, such as \"0.05\""
	// +kubebuilder:default="0.05"
	// +optional
	SmallestEffect string `json:"smallestEffect,omitempty"`
}

// ObjectiveQuery names two counters: the mean is the increase of sum over the increase of count, in each bucket.
type ObjectiveQuery struct {
	// sum is a PromQL series selector of a counter, such as `siskin_prediction_absolute_error_total{model="coolant"}`.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Sum string `json:"sum"`
	// count is a PromQL series selector of a counter with the same labels.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Count string `json:"count"`
	// versionLabel is the label of both, and of units, that holds the version.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:default=version
	// +optional
	VersionLabel string `json:"versionLabel,omitempty"`
	// bucketLabel is the label of both that holds the unit's bucket, the unit of the statistics.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:default=bucket
	// +optional
	BucketLabel string `json:"bucketLabel,omitempty"`
}

// ExperimentDuration bounds an experiment's length, from the moment when the routes show its variants.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minimum) || !has(self.maximum) || duration(self.minimum) < duration(self.maximum)",message="duration.minimum must be shorter than duration.maximum"
type ExperimentDuration struct {
	// minimum is the time before which there is no winner and no NoDifference, such as a whole week.
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('2160h')",message="duration.minimum must be between 0s and 2160h"
	// +optional
	Minimum *metav1.Duration `json:"minimum,omitempty"`
	// maximum is the time after which the experiment ends with the verdict Inconclusive if there is no other.
	// +kubebuilder:default="336h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('2160h')",message="duration.maximum must be between 1s and 2160h"
	// +optional
	Maximum *metav1.Duration `json:"maximum,omitempty"`
}

// ExperimentAnalysis sets the error budget and the clock of the evidence.
type ExperimentAnalysis struct {
	// interval is the length of a block: evidence is counted on a wall-clock grid of this step.
	// +kubebuilder:default="15s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="analysis.interval must be between 1s and 1h"
	// +optional
	Interval metav1.Duration `json:"interval,omitzero"`
	// warmUp is the time after the routes show the variants whose blocks are not judged.
	// +kubebuilder:default="0s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="analysis.warmUp must be between 0s and 24h"
	// +optional
	WarmUp metav1.Duration `json:"warmUp,omitzero"`
	// falseAlarm bounds the probability of a wrong verdict over all variants and all looks.
	// +kubebuilder:default="0.05"
	// +kubebuilder:validation:MaxLength=10
	// +kubebuilder:validation:XValidation:rule="self.matches('^0[.][0-9]+$') && double(self) > 0.0 && double(self) <= 0.5",message="analysis.falseAlarm must be a decimal above 0 and at most 0.5, such as \"0.05\""
	// +optional
	FalseAlarm string `json:"falseAlarm,omitempty"`
}

// States of an experiment.
const (
	// ExperimentWaiting: it has no buckets yet, or the routes do not show its variants yet for the first time.
	ExperimentWaiting = "Waiting"
	// ExperimentRunning: units see its variants, or will once nothing stands in the way.
	ExperimentRunning = "Running"
	// ExperimentEnded: there is a verdict, and all its buckets see the stable version again.
	ExperimentEnded = "Ended"
)

// ExperimentStatus is what the controller observed and concluded.
type ExperimentStatus struct {
	// observedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// state is Waiting, Running or Ended.
	// +optional
	State string `json:"state,omitempty"`
	// verdict is Winner, NoDifference, Inconclusive, Harm or Invalid once the experiment has ended.
	// +optional
	Verdict string `json:"verdict,omitempty"`
	// winner is the name of the variant that won; harmful of the one that made things worse.
	// +optional
	Winner string `json:"winner,omitempty"`
	// +optional
	Harmful string `json:"harmful,omitempty"`
	// reason is why, in one word; message says it with numbers.
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	// allocation says which buckets see which variant.
	// +kubebuilder:validation:MaxItems=10
	// +listType=map
	// +listMapKey=name
	// +optional
	Allocation []VariantAllocation `json:"allocation,omitempty"`
	// startedAt is when the routes were first seen to show the variants; the durations count from here.
	// +optional
	StartedAt *metav1.MicroTime `json:"startedAt,omitempty"`
	// inForceSince is when the routes were seen to show them again after the last interruption. No earlier block is counted
	// any more.
	// +optional
	InForceSince *metav1.MicroTime `json:"inForceSince,omitempty"`
	// lastBlock is the end of the last block that was counted or passed over. No block that ends at or before it is
	// counted again.
	// +optional
	LastBlock *metav1.MicroTime `json:"lastBlock,omitempty"`
	// endedAt is when the verdict fell.
	// +optional
	EndedAt *metav1.MicroTime `json:"endedAt,omitempty"`
	// variants say what each variant did and how it compares with the control.
	// +kubebuilder:validation:MaxItems=10
	// +listType=map
	// +listMapKey=name
	// +optional
	Variants []VariantStatus `json:"variants,omitempty"`
	// sampleRatio is the anytime-valid p-value of the units' shares, where spec.units counts them.
	// +optional
	SampleRatio string `json:"sampleRatio,omitempty"`
	// remaining is how much longer the evidence is likely to need at present traffic, such as "3m20s".
	// +optional
	Remaining string `json:"remaining,omitempty"`
	// promotion says what became of promoteWinner: "Done", or why nothing was done.
	// +optional
	Promotion string `json:"promotion,omitempty"`
	// evidence is the state of the evidence, in the encoding of the rollout/experiment package.
	// +optional
	Evidence []byte `json:"evidence,omitempty"`
	// conditions follow kstatus: Ready, Reconciling and Stalled.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// VariantAllocation is a variant and its buckets.
type VariantAllocation struct {
	// name of the variant.
	Name string `json:"name"`
	// version that its units see.
	Version string `json:"version"`
	// buckets that see it, such as "03,17,42".
	// +kubebuilder:validation:MaxLength=299
	// +optional
	Buckets string `json:"buckets,omitempty"`
}

// VariantStatus is what a variant did and how it compares with the control. Numbers are decimals in strings, because the
// API has no floats.
type VariantStatus struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// units are the units that were newly assigned to it, where spec.units counts them.
	// +optional
	Units string `json:"units,omitempty"`
	// observations are how often the objective was measured in it.
	// +optional
	Observations string `json:"observations,omitempty"`
	// mean is the objective as measured.
	// +optional
	Mean string `json:"mean,omitempty"`
	// estimate is the ratio of its mean to the control's; low and high are the ends of its confidence sequence, which
	// holds for all variants and all looks together. The control has none.
	// +optional
	Estimate string `json:"estimate,omitempty"`
	// +optional
	Low string `json:"low,omitempty"`
	// +optional
	High string `json:"high,omitempty"`
	// chanceToBeat is the chance that it is better than the control. It is shown and decides nothing.
	// +optional
	ChanceToBeat string `json:"chanceToBeat,omitempty"`
	// guardrails say what each guardrail made of the evidence.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +optional
	Guardrails []GateStatus `json:"guardrails,omitempty"`
}

// RolloutExperiment is an experiment as the routes of its rollout show it.
type RolloutExperiment struct {
	// name of the Experiment, in the rollout's namespace.
	Name string `json:"name"`
	// uid tells it from another one of the same name.
	UID types.UID `json:"uid"`
	// layer that its buckets belong to.
	Layer string `json:"layer"`
	// variants lists the buckets of each variant. It has no buckets while the routes do not show the variants.
	// +kubebuilder:validation:MaxItems=10
	// +listType=map
	// +listMapKey=name
	// +optional
	Variants []VariantAllocation `json:"variants,omitempty"`
	// inForceSince is when the routes were seen to show exactly these variants.
	// +optional
	InForceSince *metav1.MicroTime `json:"inForceSince,omitempty"`
	// leftAt is when the routes ceased to show them. The versions stay reachable for a while.
	// +optional
	LeftAt *metav1.MicroTime `json:"leftAt,omitempty"`
	// reason and message say why the routes do not show the variants, where they do not.
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
}

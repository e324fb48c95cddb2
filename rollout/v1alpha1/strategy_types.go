package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StrategySpec says what comes before the first step. With a preview and one step of weight 100 a rollout is blue/green: testers
// see the new version first, then everybody at once, and everybody goes back at once.
type StrategySpec struct {
	// preview keeps every unit on the stable version while testers see the new one, by the request header
	// "x-siskin-variant: canary".
	// +optional
	Preview *PreviewSpec `json:"preview,omitempty"`
	// shadow keeps every unit on the stable version while the new one gets copies of their requests. Beside a preview, both last
	// until the longer hold has passed.
	// +optional
	Shadow *ShadowSpec `json:"shadow,omitempty"`
}

// ShadowSpec is a time in which the new version gets copies of users' requests. Nobody sees what it answers, and it does what
// the requests ask for a second time: copy only those that change nothing, such as inferences. The time ends when its hold has
// passed and the gates that can judge it pass: ErrorRate without a bucketLabel, Latency, EnergyPerRequest and Alerts.
type ShadowSpec struct {
	// percent of the users' requests are copied. Each is drawn.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Percent int32 `json:"percent"`
	// hold is the shortest time of the shadow, counted from when the new version was ready last.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('720h')",message="shadow.hold must be between 0s and 720h"
	// +optional
	Hold metav1.Duration `json:"hold,omitzero"`
}

// PreviewSpec is a time in which testers alone see the new version.
type PreviewSpec struct {
	// hold is the shortest time of the preview, counted from when the new version was ready last.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('720h')",message="preview.hold must be between 0s and 720h"
	// +optional
	Hold metav1.Duration `json:"hold,omitzero"`
	// approval says what ends the preview: the hold, or a promotion by request, which also ends the hold.
	// +kubebuilder:validation:Enum=Automatic;Manual
	// +kubebuilder:default=Automatic
	// +optional
	Approval string `json:"approval,omitempty"`
	// hosts are further hosts of the service, at which testers meet the new version as long as there is one; else the stable one.
	// They need service.gateways.
	// +kubebuilder:validation:MaxItems=4
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.all(h, h.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))",message="preview.hosts must be host names, such as 'preview.example.com'"
	// +listType=set
	// +optional
	Hosts []string `json:"hosts,omitempty"`
	// cohort are requests that meet the new version as testers do, from the preview to the end of the run. With a control, only
	// those whose bucket is not the control's do.
	// +optional
	Cohort *CohortSpec `json:"cohort,omitempty"`
}

// CohortSpec selects requests by a header. Whoever sends it meets the new version whatever the weight. With a control, only
// those whose bucket is not the control's do.
//
// +kubebuilder:validation:XValidation:rule="!has(self.control) || has(self.label)",message="preview.cohort.label must be specified together with control, because nothing else tells the cohort's requests from others"
type CohortSpec struct {
	// header is the name of the header, in lower case.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9-]+$') && !(self in ['cookie', 'x-siskin-variant'])",message="preview.cohort.header must consist of lower-case letters, digits and '-', and not be 'cookie' or 'x-siskin-variant'"
	Header string `json:"header"`
	// values are those of the header that belong to the cohort, as a whole.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	// +listType=set
	Values []string `json:"values"`
	// control is how many of 100 of the cohort's buckets stay on the stable version in the preview. The gates on errors, without
	// a bucketLabel, and on latency then compare the two within the cohort, and the preview lasts until they pass.
	// It needs provider Istio.
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=90
	// +optional
	Control int32 `json:"control,omitempty"`
	// label is a label of the mesh's own metrics of requests: "in" for those of the cohort, "out" for all others. With a control,
	// those without a bucket are others, since they are treated so. With the label the gates that read these metrics judge the
	// steps by the others alone; without it the cohort counts for the new version there, which is then compared with other users.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-zA-Z_][a-zA-Z0-9_]*$')",message="preview.cohort.label must be the name of a label, such as 'siskin_cohort'"
	// +optional
	Label string `json:"label,omitempty"`
}

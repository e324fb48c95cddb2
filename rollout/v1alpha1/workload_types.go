package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WorkloadSpec says what runs the versions: objects of one kind in the rollout's namespace, each carrying the label
// "app: <service.name>" and its version in the version label.
//
// +kubebuilder:validation:XValidation:rule="!has(self.scaling) || self.kind == 'Deployment'",message="workload.scaling may only be specified when workload.kind is 'Deployment', because KServe and Seldon scale what they run"
type WorkloadSpec struct {
	// kind is the kind of the objects that run a version; Model is Seldon's.
	// +kubebuilder:validation:Enum=Deployment;InferenceService;Model
	// +kubebuilder:default=Deployment
	// +optional
	Kind string `json:"kind,omitempty"`
	// versionLabel is the label that holds the version, on the objects and on their pods.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:default=version
	// +optional
	VersionLabel string `json:"versionLabel,omitempty"`
	// scaling lets Siskin set the replicas of the Deployments that run the versions. Without it Siskin scales nothing. A
	// Deployment that a HorizontalPodAutoscaler or KEDA scales is left to it: Siskin only wakes it from 0. Leave "replicas" out
	// of manifests that are applied again and again.
	// +optional
	Scaling *ScalingSpec `json:"scaling,omitempty"`
}

// ScalingSpec says how the replicas of the versions follow a run. Nothing that moves traffic back waits for it.
type ScalingSpec struct {
	// replicas are what each Deployment of a new version has before anybody meets it, and keeps when it is stable: as many as
	// the one of the stable version has when they are not set. Each step waits until enough for its weight are available.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Replicas int32 `json:"replicas,omitempty"`
	// scaleDownDelay is how long a version keeps its replicas after the last route to it has gone, promoted over or rolled back:
	// so long a way back is short. Then it has none. It is never less than the time that routes take to reach all proxies.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('720h')",message="scaling.scaleDownDelay must be between 0s and 720h"
	// +optional
	ScaleDownDelay *metav1.Duration `json:"scaleDownDelay,omitempty"`
	// dynamicStable takes replicas from the stable version as units leave it. A rollback waits for none of them: all units are
	// back at once, and meet what is left until the rest has started.
	// +optional
	DynamicStable bool `json:"dynamicStable,omitempty"`
}

// WorkloadStatus is a Deployment whose replicas follow the run.
type WorkloadStatus struct {
	// service is the rollout's or that of a tier, and version the one that the Deployment runs.
	Service string `json:"service"`
	Version string `json:"version"`
	// name of the Deployment; empty when there is none, or more than one.
	// +optional
	Name string `json:"name,omitempty"`
	// wanted replicas are those that it is to have now, replicas those that it was told to have, and available those that can
	// answer.
	// +optional
	Wanted int32 `json:"wanted"`
	// +optional
	Replicas int32 `json:"replicas"`
	// +optional
	Available int32 `json:"available"`
	// full replicas are those with which it carries all traffic, while Siskin has to bring it there.
	// +optional
	Full int32 `json:"full,omitempty"`
	// leftAt is when the last route to it went; it may lie a minute ahead while a route is refused. Its replicas go after
	// scaling.scaleDownDelay.
	// +optional
	LeftAt *metav1.MicroTime `json:"leftAt,omitempty"`
	// missingSince is since when no Deployment runs the version. One that was left is forgotten ten minutes later.
	// +optional
	MissingSince *metav1.MicroTime `json:"missingSince,omitempty"`
	// message says why it does not have what is wanted: who else scales it, or what failed.
	// +optional
	Message string `json:"message,omitempty"`
}

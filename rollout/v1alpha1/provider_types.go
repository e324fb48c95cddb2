package v1alpha1

import "k8s.io/apimachinery/pkg/runtime"

// Provider says what splits the traffic. What a provider cannot do, a Rollout may not ask for: it is stalled with the
// reason "Unsupported" and a sentence.
//
// +kubebuilder:validation:Enum=Istio;GatewayAPI;NGINX;Service;Seldon;KServe
type Provider string

// The providers.
const (
	// ProviderIstio writes a VirtualService and a DestinationRule. It can do everything.
	ProviderIstio Provider = "Istio"
	// ProviderGatewayAPI writes an HTTPRoute, and a Service for each version.
	ProviderGatewayAPI Provider = "GatewayAPI"
	// ProviderNGINX writes two Ingresses, one with NGINX's canary annotations, and a Service for each version. Of
	// service.gateways it takes the ingress class.
	ProviderNGINX Provider = "NGINX"
	// ProviderService writes the service itself, which selects one version: all change at once, in one step of weight 100.
	ProviderService Provider = "Service"
	// ProviderSeldon writes an Experiment of Seldon Core 2 between Models named "<service.name>-<version>".
	ProviderSeldon Provider = "Seldon"
	// ProviderKServe writes the InferenceService itself, which runs the versions as spec.kserve says.
	ProviderKServe Provider = "KServe"
)

// KServeSpec says how the InferenceService runs a version.
type KServeSpec struct {
	// mode is Standard, where KServe runs the canary beside the stable predictor (spec.canary), or Knative, where versions are
	// revisions of one predictor (canaryTrafficPercent).
	// +kubebuilder:validation:Enum=Standard;Knative
	// +kubebuilder:default=Standard
	// +optional
	Mode string `json:"mode,omitempty"`
	// predictor is KServe's spec.predictor. "$(version)" in its strings stands for the version. Siskin sets its name,
	// canaryTrafficPercent and the labels of versions.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	Predictor runtime.RawExtension `json:"predictor"`
}

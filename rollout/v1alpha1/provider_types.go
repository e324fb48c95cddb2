package v1alpha1

// Provider says what splits the traffic. What a provider cannot do, a Rollout may not ask for: it is stalled with the
// reason "Unsupported" and a sentence.
//
// +kubebuilder:validation:Enum=Istio;GatewayAPI
type Provider string

// The providers.
const (
	// ProviderIstio writes a VirtualService and a DestinationRule. It can do everything.
	ProviderIstio Provider = "Istio"
	// ProviderGatewayAPI writes an HTTPRoute, and a Service for each version.
	ProviderGatewayAPI Provider = "GatewayAPI"
)

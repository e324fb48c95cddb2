package v1alpha1

// Provider says what splits the traffic. What a provider cannot do, a Rollout may not ask for: it is stalled with the
// reason "Unsupported" and a sentence.
//
// +kubebuilder:validation:Enum=Istio;GatewayAPI;NGINX;Service;Seldon
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
)

package v1alpha1

// RateLimitSpec bounds the requests per second by an EnvoyFilter. It is a token bucket in each proxy, so what is let in is the
// rate times the number of proxies: of the service's pods at a sidecar, of the gateway's or the waypoint's elsewhere.
//
// +kubebuilder:validation:XValidation:rule="!has(self.burst) || self.burst >= self.requestsPerSecond",message="rateLimit.burst must be at least rateLimit.requestsPerSecond"
// +kubebuilder:validation:XValidation:rule="(has(self.at) && self.at != 'Sidecar') || (!has(self.selector) && !has(self.gateway))",message="rateLimit.selector and rateLimit.gateway may only be specified when at is 'Gateway' or 'Waypoint'"
// +kubebuilder:validation:XValidation:rule="!has(self.at) || self.at != 'Gateway' || has(self.selector) != has(self.gateway)",message="rateLimit must set one of selector and gateway when at is 'Gateway'"
// +kubebuilder:validation:XValidation:rule="!has(self.at) || self.at != 'Waypoint' || (has(self.gateway) && !has(self.selector))",message="rateLimit must set gateway, and no selector, when at is 'Waypoint', because Istio ignores selectors there"
type RateLimitSpec struct {
	// requestsPerSecond is the sustained rate per proxy.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	RequestsPerSecond int32 `json:"requestsPerSecond"`
	// burst is the size of the token bucket; requestsPerSecond when it is not set.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Burst int32 `json:"burst,omitempty"`
	// scope says whose requests are counted: those of the canary or those of every variant.
	// +kubebuilder:validation:Enum=Canary;All
	// +kubebuilder:default=Canary
	// +optional
	Scope string `json:"scope,omitempty"`
	// at says where requests are counted. At a Sidecar, everything that a limited pod takes, and every answer says what is
	// left (x-ratelimit-limit, -remaining, -reset). At a Gateway or a Waypoint each variant has a bucket of its own at each
	// HTTP port, other services pass, and a refusal carries retry-after. The proxies must be in the rollout's namespace and,
	// at a Gateway or a Waypoint, of Istio 1.28 or newer. A refused request has the status 429.
	// +kubebuilder:validation:Enum=Sidecar;Gateway;Waypoint
	// +kubebuilder:default=Sidecar
	// +optional
	At string `json:"at,omitempty"`
	// selector are the labels of the gateway's pods.
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=8
	// +optional
	Selector map[string]string `json:"selector,omitempty"`
	// gateway is the name of a Gateway of the Gateway API, whose proxies count.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="rateLimit.gateway must be the name of a Gateway: lower-case letters, digits, '-' and '.'"
	// +optional
	Gateway string `json:"gateway,omitempty"`
}

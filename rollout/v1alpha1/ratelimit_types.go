package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// RateLimitSpec bounds the requests by an EnvoyFilter: by a token bucket in each proxy (requestsPerSecond), by a quota that all
// proxies share (global), or by both. With token buckets what is let in is the rate times the number of proxies: of the service's
// pods at a sidecar, of the gateway's or the waypoint's elsewhere.
//
// +kubebuilder:validation:XValidation:rule="has(self.requestsPerSecond) || has(self.global)",message="rateLimit must set requestsPerSecond or global"
// +kubebuilder:validation:XValidation:rule="!has(self.burst) || (has(self.requestsPerSecond) && self.burst >= self.requestsPerSecond)",message="rateLimit.burst must be at least rateLimit.requestsPerSecond"
// +kubebuilder:validation:XValidation:rule="!has(self.ports) || has(self.requestsPerSecond)",message="rateLimit.ports may not be specified without rateLimit.requestsPerSecond, which is for the other ports"
// +kubebuilder:validation:XValidation:rule="(has(self.at) && self.at != 'Sidecar') || (!has(self.selector) && !has(self.gateway))",message="rateLimit.selector and rateLimit.gateway may only be specified when at is 'Gateway' or 'Waypoint'"
// +kubebuilder:validation:XValidation:rule="!has(self.at) || self.at != 'Gateway' || has(self.selector) != has(self.gateway)",message="rateLimit must set one of selector and gateway when at is 'Gateway'"
// +kubebuilder:validation:XValidation:rule="!has(self.at) || self.at != 'Waypoint' || (has(self.gateway) && !has(self.selector))",message="rateLimit must set gateway, and no selector, when at is 'Waypoint', because Istio ignores selectors there"
type RateLimitSpec struct {
	// requestsPerSecond is the sustained rate per proxy.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	RequestsPerSecond int32 `json:"requestsPerSecond,omitempty"`
	// burst is the size of the token bucket; requestsPerSecond when it is not set.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Burst int32 `json:"burst,omitempty"`
	// ports have token buckets of their own: rates for routes of one port, such as a slow batch endpoint beside a fast one.
	// At a Gateway one of another port than service.port counts only behind delegated routes (traffic.entry).
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=number
	// +optional
	Ports []PortRateLimit `json:"ports,omitempty"`
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
	// global is a quota that all proxies share. At a Sidecar the variant is what the route has written to x-siskin-variant;
	// what names no other variant counts as stable. At a Gateway the requests for service.hosts are counted. A refused request
	// has the status 429, and answers say what is left (x-ratelimit-limit, -remaining, -reset).
	// +optional
	Global *GlobalRateLimitSpec `json:"global,omitempty"`
}

// PortRateLimit is the token bucket of a port.
//
// +kubebuilder:validation:XValidation:rule="!has(self.burst) || self.burst >= self.requestsPerSecond",message="rateLimit.ports[].burst must be at least requestsPerSecond"
type PortRateLimit struct {
	// number is service.port or one of traffic.ports that speaks HTTP.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Number int32 `json:"number"`
	// requestsPerSecond is the sustained rate per proxy.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	RequestsPerSecond int32 `json:"requestsPerSecond"`
	// burst is the size of the token bucket; requestsPerSecond when it is not set.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Burst int32 `json:"burst,omitempty"`
}

// GlobalRateLimitSpec is a quota for each variant, which Envoy's reference rate limit service (github.com/envoyproxy/ratelimit), or
// one that speaks its protocol, counts for all proxies. Siskin writes the service's configuration to the ConfigMap
// <rollout>-ratelimit, for the service to mount; it does not run the service. The proxies must be of Istio 1.28 or newer, and the
// controller needs its flag --global-rate-limits (the chart's controller.globalRateLimits).
type GlobalRateLimitSpec struct {
	// host is the rate limit service's, as the mesh knows it. Its port must be named for gRPC.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="rateLimit.global.host must be a host name, such as 'ratelimit.edge.svc.cluster.local'"
	Host string `json:"host"`
	// port is the rate limit service's.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:default=8081
	// +optional
	Port int32 `json:"port,omitempty"`
	// domain sets the quotas apart from others that the service counts; the rollout's namespace, a dot and its name when it is
	// not set. Several rollouts of one domain need MERGE_DOMAIN_CONFIG of the service.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=127
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",message="rateLimit.global.domain must be letters, digits, '-', '_' and '.'"
	// +optional
	Domain string `json:"domain,omitempty"`
	// requestsPerUnit are let in for each variant in each unit.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000000
	RequestsPerUnit int32 `json:"requestsPerUnit"`
	// unit is the time for which requestsPerUnit is.
	// +kubebuilder:validation:Enum=Second;Minute;Hour;Day
	// +kubebuilder:default=Second
	// +optional
	Unit string `json:"unit,omitempty"`
	// timeout is how long a request waits for the service's answer, in whole milliseconds.
	// +kubebuilder:default="20ms"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('10s')",message="rateLimit.global.timeout must be between 1ms and 10s"
	// +optional
	Timeout metav1.Duration `json:"timeout,omitzero"`
	// onError says what becomes of a request while the service does not answer: it passes (Allow), or it is refused like one
	// above the quota (Deny).
	// +kubebuilder:validation:Enum=Allow;Deny
	// +kubebuilder:default=Allow
	// +optional
	OnError string `json:"onError,omitempty"`
}

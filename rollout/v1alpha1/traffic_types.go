package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrafficSpec says how proxies reach the service, beside who meets which variant.
//
// +kubebuilder:validation:XValidation:rule="!has(self.entry) || self.entry != 'Delegate' || ((!has(self.protocol) || self.protocol == 'HTTP') && (!has(self.ports) || self.ports.all(p, p.protocol == 'HTTP')))",message="traffic.protocol and traffic.ports must be HTTP when traffic.entry is 'Delegate', because Istio delegates nothing else"
type TrafficSpec struct {
	// policy is how proxies speak to the service's endpoints: Istio's TrafficPolicy, with the same names. A field that a
	// DestinationRule of yours for the same host sets is yours: it stays in force, and the condition Restricted says so.
	// +optional
	Policy *TrafficPolicy `json:"policy,omitempty"`
	// entry says how requests come to the routes. With Own they are bound to the service's host, and to service.hosts and
	// service.gateways. With Delegate they are bound to nothing: a VirtualService of yours delegates to ours, which has the
	// rollout's name. Your match must not ask for the headers that ours look at (the bucket header, cookie and
	// x-siskin-variant): Istio drops routes whose matches do not fit together.
	// +kubebuilder:validation:Enum=Own;Delegate
	// +kubebuilder:default=Own
	// +optional
	Entry string `json:"entry,omitempty"`
	// protocol is what service.port speaks. TCP, and TLS that is not terminated, are split by weight as connections are
	// opened; nothing is sticky, and a connection that is open stays where it is, also after a rollback. TLS is known by the server
	// that a client names: the service's host, service.hosts, NAME.NAMESPACE or NAME.NAMESPACE.svc. One that names another, or
	// none, cannot connect.
	// +kubebuilder:default=HTTP
	// +optional
	Protocol PortProtocol `json:"protocol,omitempty"`
	// ports are further ports of the service, which are split alike. Ports that are not listed are as without Siskin. Through
	// service.gateways HTTP comes to service.port alone, TCP and TLS to a further port where the gateway's server has its number.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=number
	// +optional
	Ports []PortSpec `json:"ports,omitempty"`
}

// PortProtocol is what a port speaks.
//
// +kubebuilder:validation:Enum=HTTP;TCP;TLS
type PortProtocol string

// PortSpec is a port of the service.
type PortSpec struct {
	// number of the service's port.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Number int32 `json:"number"`
	// protocol is what the port speaks.
	Protocol PortProtocol `json:"protocol"`
}

// TierSpec is a service behind the rollout's own, in the same namespace, of the same kind of workload and labelled alike:
// "app: <name>" and the version label.
type TierSpec struct {
	// name is the name of the Kubernetes Service.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="tier name must be a DNS label: lower-case letters, digits and '-', beginning with a letter"
	Name string `json:"name"`
	// port is the service port that the routes lead to.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
}

// TrafficPolicy is the part of Istio's TrafficPolicy that a Rollout may set. It holds for every version alike, so that no
// version is compared under rules of its own.
type TrafficPolicy struct {
	// connectionPool bounds connections and requests, per proxy and per version.
	// +optional
	ConnectionPool *ConnectionPool `json:"connectionPool,omitempty"`
	// loadBalancer chooses among the endpoints of a version.
	// +optional
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`
	// outlierDetection takes endpoints that fail out of the choice for a while, per proxy and per version.
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
	// tls says how connections to the endpoints are secured.
	// +optional
	TLS *ClientTLS `json:"tls,omitempty"`
}

// ConnectionPool bounds what a proxy keeps open to a version.
//
// +kubebuilder:validation:XValidation:rule="has(self.tcp) || has(self.http)",message="traffic.policy.connectionPool must set tcp or http"
type ConnectionPool struct {
	// tcp holds for HTTP as well.
	// +optional
	TCP *ConnectionPoolTCP `json:"tcp,omitempty"`
	// http holds for HTTP/1.1, HTTP/2 and gRPC.
	// +optional
	HTTP *ConnectionPoolHTTP `json:"http,omitempty"`
}

// ConnectionPoolTCP bounds connections.
type ConnectionPoolTCP struct {
	// maxConnections to all endpoints of a version.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MaxConnections int32 `json:"maxConnections,omitempty"`
	// connectTimeout is how long a connection may take to open. Istio's default is 10s.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('1h')",message="connectTimeout must be between 1ms and 1h"
	// +optional
	ConnectTimeout *metav1.Duration `json:"connectTimeout,omitempty"`
	// idleTimeout closes a connection on which nothing was sent for so long. Istio's default is 1h.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('720h')",message="idleTimeout must be between 1ms and 720h"
	// +optional
	IdleTimeout *metav1.Duration `json:"idleTimeout,omitempty"`
	// maxConnectionDuration closes a connection that is so old, whatever it does.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('720h')",message="maxConnectionDuration must be between 1ms and 720h"
	// +optional
	MaxConnectionDuration *metav1.Duration `json:"maxConnectionDuration,omitempty"`
}

// ConnectionPoolHTTP bounds requests.
type ConnectionPoolHTTP struct {
	// http1MaxPendingRequests is how many requests may wait for a connection.
	// +kubebuilder:validation:Minimum=1
	// +optional
	HTTP1MaxPendingRequests int32 `json:"http1MaxPendingRequests,omitempty"`
	// http2MaxRequests is how many requests may be in flight, in HTTP/1.1 too.
	// +kubebuilder:validation:Minimum=1
	// +optional
	HTTP2MaxRequests int32 `json:"http2MaxRequests,omitempty"`
	// maxRequestsPerConnection closes a connection after so many requests.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MaxRequestsPerConnection int32 `json:"maxRequestsPerConnection,omitempty"`
	// maxRetries is how many retries may be in flight.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MaxRetries int32 `json:"maxRetries,omitempty"`
	// idleTimeout closes a connection without requests for so long.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('720h')",message="idleTimeout must be between 1ms and 720h"
	// +optional
	IdleTimeout *metav1.Duration `json:"idleTimeout,omitempty"`
	// h2UpgradePolicy says whether HTTP/1.1 is sent on as HTTP/2.
	// +kubebuilder:validation:Enum=DEFAULT;DO_NOT_UPGRADE;UPGRADE
	// +optional
	H2UpgradePolicy string `json:"h2UpgradePolicy,omitempty"`
	// maxConcurrentStreams bounds the streams of one HTTP/2 connection.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MaxConcurrentStreams int32 `json:"maxConcurrentStreams,omitempty"`
}

// LoadBalancer chooses among the endpoints of a version. A consistent hash is not offered: it chooses an endpoint, not a
// version, and moves units whenever an endpoint comes or goes. See assignment for what is sticky.
type LoadBalancer struct {
	// simple is the algorithm.
	// +kubebuilder:validation:Enum=LEAST_REQUEST;ROUND_ROBIN;RANDOM
	// +optional
	Simple string `json:"simple,omitempty"`
	// localityLbSetting prefers endpoints that are near. Istio heeds it only together with outlierDetection.
	// +optional
	LocalityLbSetting *LocalityLbSetting `json:"localityLbSetting,omitempty"`
}

// LocalityLbSetting prefers endpoints that are near. A locality is "region/zone/sub-zone", and "*" ends it early.
//
// +kubebuilder:validation:XValidation:rule="(has(self.distribute) ? 1 : 0) + (has(self.failover) ? 1 : 0) + (has(self.failoverPriority) ? 1 : 0) <= 1",message="localityLbSetting may set only one of distribute, failover and failoverPriority"
type LocalityLbSetting struct {
	// enabled overrides the mesh's own setting.
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// distribute shares out the requests from a locality over localities.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Distribute []LocalityDistribute `json:"distribute,omitempty"`
	// failover names the region to go to when one has no healthy endpoint.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Failover []LocalityFailover `json:"failover,omitempty"`
	// failoverPriority are labels, the most important first, whose equality makes an endpoint near.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=317
	// +listType=atomic
	// +optional
	FailoverPriority []string `json:"failoverPriority,omitempty"`
}

// LocalityDistribute shares out the requests of one locality.
type LocalityDistribute struct {
	// from is the locality of the caller.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	From string `json:"from"`
	// to are localities and their shares in percent, 100 together.
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, self[k] >= 1 && self[k] <= 100) && self.map(k, self[k]).sum() == 100",message="distribute.to must have shares between 1 and 100 that sum to 100"
	To map[string]int32 `json:"to"`
}

// LocalityFailover names the region to go to when one has no healthy endpoint.
//
// +kubebuilder:validation:XValidation:rule="self.from != self.to",message="failover.from and failover.to must differ"
type LocalityFailover struct {
	// from is the region that has no healthy endpoint.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	From string `json:"from"`
	// to is the region to go to.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	To string `json:"to"`
}

// OutlierDetection takes endpoints that fail out of the choice for a while. It hides errors of a version from its callers
// once an endpoint is out, and counts them until then: a small consecutive5xxErrors makes an ErrorRate gate slower.
type OutlierDetection struct {
	// consecutive5xxErrors after which an endpoint is taken out; 0 turns this way off. Istio's default is 5.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Consecutive5xxErrors *int32 `json:"consecutive5xxErrors,omitempty"`
	// consecutiveGatewayErrors are those with 502, 503 and 504; 0 turns this way off, which is Istio's default.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ConsecutiveGatewayErrors *int32 `json:"consecutiveGatewayErrors,omitempty"`
	// interval between two sweeps. Istio's default is 10s.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('1h')",message="outlierDetection.interval must be between 1ms and 1h"
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`
	// baseEjectionTime is how long an endpoint stays out, times how often it was taken out. Istio's default is 30s.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="outlierDetection.baseEjectionTime must be between 1ms and 24h"
	// +optional
	BaseEjectionTime *metav1.Duration `json:"baseEjectionTime,omitempty"`
	// maxEjectionPercent of a version's endpoints may be out at a time. Istio's default is 10, and one endpoint always may.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	MaxEjectionPercent int32 `json:"maxEjectionPercent,omitempty"`
	// minHealthPercent turns ejection off while fewer of a version's endpoints are healthy. Istio's default is 0.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	MinHealthPercent int32 `json:"minHealthPercent,omitempty"`
}

// ClientTLS says how connections to the endpoints are secured.
//
// +kubebuilder:validation:XValidation:rule="self.mode != 'MUTUAL' || has(self.credentialName) || (has(self.clientCertificate) && has(self.privateKey))",message="tls.credentialName, or tls.clientCertificate and tls.privateKey, must be set when mode is 'MUTUAL'"
// +kubebuilder:validation:XValidation:rule="self.mode == 'MUTUAL' || !(has(self.clientCertificate) || has(self.privateKey))",message="tls.clientCertificate and tls.privateKey may only be specified when mode is 'MUTUAL'"
// +kubebuilder:validation:XValidation:rule="!(self.mode in ['DISABLE', 'ISTIO_MUTUAL']) || !(has(self.caCertificates) || has(self.credentialName) || has(self.sni) || has(self.subjectAltNames))",message="tls may set nothing but mode when mode is 'DISABLE' or 'ISTIO_MUTUAL'"
// +kubebuilder:validation:XValidation:rule="!has(self.credentialName) || !(has(self.clientCertificate) || has(self.privateKey) || has(self.caCertificates))",message="tls.credentialName may not be specified together with clientCertificate, privateKey or caCertificates"
type ClientTLS struct {
	// mode is DISABLE (plain text), SIMPLE (TLS), MUTUAL (TLS with your certificates) or ISTIO_MUTUAL (with Istio's own).
	// +kubebuilder:validation:Enum=DISABLE;SIMPLE;MUTUAL;ISTIO_MUTUAL
	Mode string `json:"mode"`
	// clientCertificate is a path in the proxy.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	ClientCertificate string `json:"clientCertificate,omitempty"`
	// privateKey is a path in the proxy.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	PrivateKey string `json:"privateKey,omitempty"`
	// caCertificates is a path in the proxy.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	CACertificates string `json:"caCertificates,omitempty"`
	// credentialName is a secret; only gateways read it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	CredentialName string `json:"credentialName,omitempty"`
	// subjectAltNames that the endpoint's certificate may have.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	SubjectAltNames []string `json:"subjectAltNames,omitempty"`
	// sni is the name that is sent to the endpoint.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	SNI string `json:"sni,omitempty"`
}

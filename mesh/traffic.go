// Package mesh decides which variant of a service a request meets, as plain values that every data plane understands.
//
// A Traffic value says which versions take part and which of the 100 buckets each one owns. Routes turns it into an
// ordered list of routes (first match wins), the one form that all sub-rooms render: istio writes it as a
// VirtualService, and the gateway obeys what was written. Nothing here knows an API or a clock.
package mesh

import "encoding/json"

// Buckets is the number of slots that units fall in.
const Buckets = 100

// Names of the headers that the outside sees.
const (
	// BucketHeader carries the unit's bucket, "00" to "99".
	BucketHeader = "x-siskin-bucket"
	// VariantHeader pins a request to a variant ("stable", "canary"), tells the tiers behind which variant was chosen,
	// and on the response says which variant answered.
	VariantHeader = "x-siskin-variant"
)

// Variant names one side of a split.
type Variant string

// The variants of a rollout.
const (
	Stable Variant = "stable"
	Canary Variant = "canary"
)

// Service is the service whose traffic is split.
type Service struct {
	Namespace string
	Name      string
	Port      int
	// TargetPort is the port of the pods, where it is not Port; 0 otherwise.
	TargetPort int
	// Hosts are further hosts, beside Name.Namespace.svc.cluster.local, that enter through Gateways ("namespace/name").
	Hosts    []string
	Gateways []string
	// Delegate is set when requests come to the routes through routes of the user's that delegate to them, and no other
	// way: then there are no Hosts and Gateways.
	Delegate bool
	// Protocol is what Port speaks; HTTP when it is empty.
	Protocol Protocol
	// Ports are further ports that are split alike.
	Ports []Port
}

// Protocol is what a port speaks.
type Protocol string

// The protocols. Streams (TCP, and TLS that is not terminated) are split by weight as they are opened, and nothing of them
// is sticky: there is no header to recognise a unit by.
const (
	HTTP Protocol = "HTTP"
	TCP  Protocol = "TCP"
	TLS  Protocol = "TLS"
)

// Port is a port of a service.
type Port struct {
	Number   int
	Protocol Protocol
}

// FQDN is the service's host in the mesh.
func (s Service) FQDN() string { return s.Name + "." + s.Namespace + ".svc.cluster.local" }

// Share is a variant, the version that it is now, and the buckets that it owns.
type Share struct {
	Variant Variant
	Version string
	// Buckets in ascending order, each 0 to 99.
	Buckets []int
}

// Cookie is the cookie that holds a bucket.
type Cookie struct {
	Name string
	// MaxAgeSeconds is how long a browser keeps its bucket. It is counted from the draw: nothing renews it.
	MaxAgeSeconds int
}

// Place is where a rate limit counts.
type Place string

// The places: each limited pod's own proxy, which is the default; the proxies of a gateway, or of an ambient waypoint.
const (
	AtSidecar  Place = "Sidecar"
	AtGateway  Place = "Gateway"
	AtWaypoint Place = "Waypoint"
)

// RateLimit bounds the requests by a token bucket in each proxy, by a quota that all proxies share, or by both.
type RateLimit struct {
	// RequestsPerSecond is the sustained rate of a token bucket per proxy: at a sidecar for all that the pod takes, elsewhere
	// for each variant. 0 means no token buckets.
	RequestsPerSecond int
	// Burst is the size of the bucket; 0 means RequestsPerSecond.
	Burst int
	// Ports have token buckets of their own, in the place of the one above.
	Ports []PortLimit
	// OnlyCanary limits the requests of the variant Canary alone.
	OnlyCanary bool
	// At is where requests are counted; empty means AtSidecar. The proxies of a gateway are those whose pods carry the labels
	// Selector, or those of the Gateway (of the Gateway API) that is named; of a waypoint, the latter. They are in the
	// service's namespace.
	At       Place
	Selector map[string]string
	Gateway  string
	// Global is the shared quota; nil for none.
	Global *GlobalLimit
}

// PortLimit is the token bucket of a port of the service.
type PortLimit struct {
	Number int
	// RequestsPerSecond and Burst are as in RateLimit.
	RequestsPerSecond int
	Burst             int
}

// Bucket is the token bucket of a port: its rate, and its size.
func (l RateLimit) Bucket(port int) (rate, size int) {
	for _, p := range l.Ports {
		if p.Number == port {
			return p.RequestsPerSecond, max(p.Burst, p.RequestsPerSecond)
		}
	}
	return l.RequestsPerSecond, max(l.Burst, l.RequestsPerSecond)
}

// IdlePorts are those of the limit's ports at which nothing is ever counted: from a gateway the routes lead to the service's own
// port alone, unless others delegate to them.
func (t Traffic) IdlePorts() []int {
	if t.RateLimit == nil || t.RateLimit.At != AtGateway || t.Service.Delegate {
		return nil
	}
	var idle []int
	for _, p := range t.RateLimit.Ports {
		if p.Number != t.Service.Port {
			idle = append(idle, p.Number)
		}
	}
	return idle
}

// Unit is the time for which a quota is.
type Unit string

// The units.
const (
	PerSecond Unit = "Second"
	PerMinute Unit = "Minute"
	PerHour   Unit = "Hour"
	PerDay    Unit = "Day"
)

// GlobalLimit is a quota for each variant that a rate limit service counts for all proxies together.
type GlobalLimit struct {
	// Host and Port are the rate limit service's, as the mesh knows it. It speaks Envoy's protocol over gRPC.
	Host string
	Port int
	// Domain sets the quotas apart from others that the service counts; see QuotaDomain.
	Domain string
	// Requests are let in for each variant in each Unit.
	Requests int
	Unit     Unit
	// TimeoutMillis is how long a proxy waits for the service; 0 means Envoy's 20.
	TimeoutMillis int
	// Deny refuses requests while the service does not answer; without it they pass.
	Deny bool
}

// QuotaDomain is the domain of the global limit: the one that is given, else one of the rollout's own.
func (t Traffic) QuotaDomain() string {
	if g := t.RateLimit.Global; g.Domain != "" {
		return g.Domain
	}
	return t.Service.Namespace + "." + t.Rollout
}

// Traffic is everything that decides who meets which variant. The shares' buckets are disjoint and together are all 100.
type Traffic struct {
	// Rollout is the name of the rollout, and of the objects that express this value.
	Rollout string
	Service Service
	// VersionLabel is the pod label that holds the version.
	VersionLabel string
	// Shares: the stable variant first, then the others. A variant without buckets still has its subset and its pin.
	Shares []Share
	// BucketHeader and Cookie say how a unit is recognised; empty and nil mean that way is not used.
	BucketHeader string
	Cookie       *Cookie
	// Cohort meets the canary whatever the buckets say; nil for none.
	Cohort *Cohort
	// HashHeader names a request header whose hash assigns what the ways above do not: the data plane computes it, so nobody
	// has to know of buckets. It has no salt, and with two variants a growing weight moves units in one direction only.
	HashHeader string
	RateLimit  *RateLimit
	// Policy is how proxies speak to the endpoints of every version: an object in the words of Istio's TrafficPolicy, with
	// the fields connectionPool, loadBalancer, outlierDetection and tls only. A data plane without such words refuses it.
	Policy json.RawMessage
	// Tiers are the services behind that follow the variant, in the order in which a request meets them.
	Tiers []Tier
	// Serving says how the versions run; nil where they run without the data plane, which is everywhere but in KServe.
	Serving *Serving
	// Preview says that testers must reach the canary by VariantHeader, also while it has no buckets.
	Preview bool
	// PreviewHosts are further hosts that enter through the service's gateways. Who asks for one meets the canary while there
	// is one, whatever the buckets say.
	PreviewHosts []string
	// Mirror is the share of the users' requests, in percent, of which the canary gets a copy while Stable owns all buckets.
	// Nobody sees its answers.
	Mirror int
}

// StringMatch matches a string: exactly one field is set. Regex is RE2 and must match the whole string.
type StringMatch struct {
	Exact string
	Regex string
}

// Match is a conjunction: every header condition must hold, and no Without condition may; a Port, unless it is 0, is the one
// that the caller addresses, a Host, unless it is empty, the one that it asks for, and the caller is a pod that carries the
// labels Source.
type Match struct {
	Source  map[string]string
	Port    int
	Host    string
	Headers map[string]StringMatch
	Without map[string]StringMatch
}

// Destination is a version, its weight among the destinations of a route, and the headers that choosing it adds.
type Destination struct {
	Variant Variant
	Version string
	Weight  int
	// SetRequest and SetResponse replace a header, AddResponse appends one.
	SetRequest  map[string]string
	SetResponse map[string]string
	AddResponse map[string]string
}

// Route sends what matches any of Matches (everything, when there are none) to Destinations, whose weights sum to 100.
type Route struct {
	Name         string
	Matches      []Match
	Destinations []Destination
	// Port is the port of the service that the destinations are reached at; 0 for the service's own.
	Port int
	// NoRetries is set where a retry could pick another variant.
	NoRetries bool
	// Mirror is who gets copies of the requests; nil for nobody.
	Mirror *Mirror
}

// Mirror is a version that gets copies of some requests, in percent. What it answers is thrown away.
type Mirror struct {
	Version string
	Percent int
}

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Rollout moves the traffic of one service from its stable version to the version that spec.version names, step by
// step, and decides by evidence whether to go on, to wait or to go back.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ro,categories=siskin
// +kubebuilder:printcolumn:name="Stable",type=string,JSONPath=`.status.stableVersion`
// +kubebuilder:printcolumn:name="Canary",type=string,JSONPath=`.status.canaryVersion`
// +kubebuilder:printcolumn:name="Weight",type=integer,JSONPath=`.status.weight`
// +kubebuilder:printcolumn:name="Step",type=integer,JSONPath=`.status.step`
// +kubebuilder:printcolumn:name="Decision",type=string,JSONPath=`.status.decision`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 52",message="metadata.name must be at most 52 characters, because the names of the objects that Siskin writes are derived from it"
type Rollout struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// spec says what is wanted.
	Spec RolloutSpec `json:"spec"`
	// status says what was observed and decided.
	// +optional
	Status RolloutStatus `json:"status,omitempty"`
}

// RolloutList is a list of rollouts.
//
// +kubebuilder:object:root=true
type RolloutList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Rollout `json:"items"`
}

// RolloutSpec says which version is wanted and how to get there.
//
// +kubebuilder:validation:XValidation:rule="has(self.kserve) == (self.provider == 'KServe')",message="kserve must be specified when provider is 'KServe', and may not be otherwise"
// +kubebuilder:validation:XValidation:rule="!has(self.workload) || !has(self.workload.scaling) || !(self.provider in ['KServe','Seldon'])",message="workload.scaling may not be specified when provider is 'KServe' or 'Seldon', which scale what they run"
// +kubebuilder:validation:XValidation:rule="!has(self.service.targetPort) || self.provider in ['GatewayAPI','NGINX','Service']",message="service.targetPort may only be specified when provider writes Services: 'GatewayAPI', 'NGINX' or 'Service'"
// +kubebuilder:validation:XValidation:rule="!has(self.traffic) || !has(self.traffic.entry) || self.traffic.entry != 'Delegate' || (!has(self.service.hosts) && !has(self.service.gateways))",message="service.hosts and service.gateways may not be specified when traffic.entry is 'Delegate', because the delegating VirtualService has them"
// +kubebuilder:validation:XValidation:rule="!has(self.traffic) || !has(self.traffic.ports) || self.traffic.ports.all(p, p.number != self.service.port)",message="traffic.ports must not repeat service.port"
// +kubebuilder:validation:XValidation:rule="!has(self.traffic) || !has(self.traffic.protocol) || self.traffic.protocol == 'HTTP' || (!has(self.assignment) && !has(self.rateLimit))",message="assignment and rateLimit may not be specified when traffic.protocol is not 'HTTP', because a connection has no headers"
// +kubebuilder:validation:XValidation:rule="!has(self.tiers) || self.tiers.all(t, t.name != self.service.name)",message="tiers must not repeat service.name"
// +kubebuilder:validation:XValidation:rule="!has(self.tiers) || !has(self.traffic) || !has(self.traffic.protocol) || self.traffic.protocol == 'HTTP'",message="tiers may not be specified when traffic.protocol is not 'HTTP', because there is no header to follow"
// +kubebuilder:validation:XValidation:rule="!has(self.assignment) || !has(self.assignment.hash) || !has(self.traffic) || !has(self.traffic.entry) || self.traffic.entry != 'Delegate'",message="assignment.hash may not be specified when traffic.entry is 'Delegate', because delegation changes the names of routes"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || !has(self.strategy.preview) || !has(self.strategy.preview.hosts) || size(self.strategy.preview.hosts) == 0 || (has(self.service.gateways) && size(self.service.gateways) > 0)",message="strategy.preview.hosts may not be specified without service.gateways"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || !has(self.strategy.preview) || !has(self.strategy.preview.hosts) || !has(self.service.hosts) || self.strategy.preview.hosts.all(h, !(h in self.service.hosts))",message="strategy.preview.hosts must not repeat service.hosts"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || !has(self.strategy.preview) || !has(self.traffic) || !has(self.traffic.protocol) || self.traffic.protocol == 'HTTP'",message="strategy.preview may not be specified when traffic.protocol is not 'HTTP', because no connection can name a version"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || !has(self.strategy.shadow) || !has(self.tiers)",message="strategy.shadow may not be specified together with tiers, because a copy would go on to them as a request of the stable version"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || !has(self.strategy.shadow) || !has(self.traffic) || !has(self.traffic.protocol) || self.traffic.protocol == 'HTTP'",message="strategy.shadow may not be specified when traffic.protocol is not 'HTTP', because connections are not copied"
// +kubebuilder:validation:XValidation:rule="!has(self.rateLimit) || !has(self.rateLimit.global) || !has(self.rateLimit.at) || self.rateLimit.at != 'Gateway' || has(self.service.hosts)",message="rateLimit.global may not be specified at 'Gateway' without service.hosts, which tell the service's requests there"
// +kubebuilder:validation:XValidation:rule="!has(self.rateLimit) || !has(self.rateLimit.global) || !has(self.rateLimit.at) || self.rateLimit.at != 'Gateway' || !has(self.service.hosts) || self.service.hosts.all(h, !h.startsWith('*'))",message="service.hosts may not have a wildcard together with rateLimit.global at 'Gateway', where the Gateway may name each host behind it by itself"
// +kubebuilder:validation:XValidation:rule="!has(self.rateLimit) || !has(self.rateLimit.at) || self.rateLimit.at != 'Gateway' || (has(self.service.gateways) && size(self.service.gateways) > 0) || (has(self.traffic) && has(self.traffic.entry) && self.traffic.entry == 'Delegate')",message="rateLimit.at may not be 'Gateway' without service.gateways, which lead to the service"
// +kubebuilder:validation:XValidation:rule="!has(self.rateLimit) || !has(self.rateLimit.ports) || self.rateLimit.ports.all(l, l.number == self.service.port || (has(self.traffic) && has(self.traffic.ports) && self.traffic.ports.exists(p, p.number == l.number && p.protocol == 'HTTP')))",message="rateLimit.ports must be service.port or traffic.ports that speak HTTP"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || !has(self.strategy.preview) || !has(self.strategy.preview.cohort) || !has(self.strategy.preview.cohort.control) || (has(self.assignment) && (has(self.assignment.header) || has(self.assignment.cookie)))",message="strategy.preview.cohort.control may only be specified together with assignment.header or assignment.cookie, because units are kept apart by their buckets"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || !has(self.strategy.preview) || !has(self.strategy.preview.cohort) || !has(self.strategy.preview.cohort.control) || (has(self.gates) && self.gates.exists(g, g.type == 'Latency' || (g.type == 'ErrorRate' && !has(g.bucketLabel))))",message="strategy.preview.cohort.control may only be specified together with a gate of type Latency, or ErrorRate without bucketLabel, because no other compares within a cohort"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || !has(self.strategy.shadow) || !has(self.strategy.preview) || !has(self.strategy.preview.cohort) || !has(self.strategy.preview.cohort.control)",message="strategy.shadow may not be specified together with strategy.preview.cohort.control: copies and a cohort cannot be judged at the same time"
type RolloutSpec struct {
	// version is the wanted version: the value of the workload's version label. The first one is taken for stable, without a
	// run, as soon as it is ready: it gets all the traffic. Afterwards a run starts when version differs from
	// status.stableVersion; changing it again supersedes the run; setting it back rolls back at once.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",message="version must be a valid label value: letters, digits, '-', '_' and '.', beginning and ending with a letter or a digit"
	Version string `json:"version"`

	// service is the service whose traffic is split.
	Service ServiceSpec `json:"service"`

	// provider says what splits the traffic. It may not be changed: what the old one wrote would stay.
	// +kubebuilder:default=Istio
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="provider may not be changed; delete the Rollout and create it anew"
	// +optional
	Provider Provider `json:"provider,omitempty"`

	// kserve says how the versions run, for provider KServe.
	// +optional
	KServe *KServeSpec `json:"kserve,omitempty"`

	// traffic says how proxies reach the service.
	// +optional
	Traffic *TrafficSpec `json:"traffic,omitempty"`

	// tiers are the services behind this one that must follow the variant, in the order in which a request meets them. Their
	// versions have the same names: a version is tried once all of them run it. A request goes on to the version that it met
	// before, by the header x-siskin-variant, which callers should pass on, or by the caller's labels where sidecars run.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +optional
	Tiers []TierSpec `json:"tiers,omitempty"`

	// workload says what runs the versions.
	// +optional
	Workload WorkloadSpec `json:"workload,omitempty"`

	// assignment says how a unit is recognised. Without it requests are drawn at random and nothing is sticky.
	// +optional
	Assignment *AssignmentSpec `json:"assignment,omitempty"`

	// rateLimit bounds the requests by an EnvoyFilter, per proxy or for all of them together.
	// +optional
	RateLimit *RateLimitSpec `json:"rateLimit,omitempty"`

	// strategy says what comes before the first step.
	// +optional
	Strategy *StrategySpec `json:"strategy,omitempty"`

	// steps are the weights to reach, in order. After the last one passes the version is promoted.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +kubebuilder:validation:XValidation:rule="self.all(i, s, i == 0 || s.weight > self[i-1].weight)",message="steps must have growing weights, because units move only from stable to canary during a ramp"
	Steps []StepSpec `json:"steps"`

	// gates are the reasons to go on or not. Every gate must pass; any one can roll back.
	// +kubebuilder:validation:MaxItems=10
	// +listType=map
	// +listMapKey=name
	// +optional
	Gates []GateSpec `json:"gates,omitempty"`

	// analysis sets the error budgets and the clock of the evidence.
	// +optional
	// +kubebuilder:default={}
	Analysis AnalysisSpec `json:"analysis,omitzero"`
}

// ServiceSpec names the service whose traffic is split.
//
// +kubebuilder:validation:XValidation:rule="!has(self.hosts) || size(self.hosts) == 0 || (has(self.gateways) && size(self.gateways) > 0)",message="service.hosts may not be specified without service.gateways"
type ServiceSpec struct {
	// name is the name of the Kubernetes Service (or of the ServiceEntry) in the rollout's namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="service.name must be a DNS label: lower-case letters, digits and '-', beginning with a letter"
	Name string `json:"name"`
	// port is the service port that the routes lead to.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// targetPort is the port of the pods, for providers that write Services; port when it is not set.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	TargetPort int32 `json:"targetPort,omitempty"`
	// hosts are further hosts of the VirtualService, beside the service itself. They need gateways.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	Hosts []string `json:"hosts,omitempty"`
	// gateways are what the routes are bound to beside the mesh, as "namespace/name": Istio's Gateways, or those of the
	// Gateway API. For provider NGINX, the ingress class, as the only one.
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	Gateways []string `json:"gateways,omitempty"`
}

// StepSpec is a weight to reach and the time to stay there at least.
type StepSpec struct {
	// weight is the number of buckets of 100 that see the canary.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`
	// hold is the shortest time to stay at this weight.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('720h')",message="hold must be between 0s and 720h"
	// +optional
	Hold metav1.Duration `json:"hold,omitzero"`
}

// GateType says what a gate measures.
//
// +kubebuilder:validation:Enum=ErrorRate;Latency;Mean;EnergyPerRequest;Alerts;SampleRatio;Data
type GateType string

// The gate types.
const (
	GateErrorRate GateType = "ErrorRate"
	GateLatency   GateType = "Latency"
	GateMean      GateType = "Mean"
	GateAlerts    GateType = "Alerts"
	// GateEnergyPerRequest compares the joules that a request costs.
	GateEnergyPerRequest GateType = "EnergyPerRequest"
	// GateSampleRatio tests whether new units are shared out as the weights say.
	GateSampleRatio GateType = "SampleRatio"
	// GateData tests whether both variants answer the same share of the requests that are sent.
	GateData GateType = "Data"
)

// GateSpec is one reason to go on or not.
//
// +kubebuilder:validation:XValidation:rule="self.type != 'Latency' || has(self.threshold)",message="threshold is required when type is 'Latency'"
// +kubebuilder:validation:XValidation:rule="self.type == 'Latency' || !has(self.threshold)",message="threshold may only be specified when type is 'Latency'"
// +kubebuilder:validation:XValidation:rule="self.type != 'Mean' || has(self.query)",message="query is required when type is 'Mean'"
// +kubebuilder:validation:XValidation:rule="self.type in ['Mean','EnergyPerRequest','SampleRatio','Data'] || !has(self.query)",message="query may only be specified when type is 'Mean', 'EnergyPerRequest', 'SampleRatio' or 'Data'"
// +kubebuilder:validation:XValidation:rule="!has(self.query) || (self.type == 'SampleRatio') != has(self.query.sum)",message="query.sum is required, except that type 'SampleRatio' has only query.count"
// +kubebuilder:validation:XValidation:rule="!has(self.query) || !has(self.query.range) || (self.type == 'Mean' && has(self.query.compare) && self.query.compare == 'Blocks')",message="query.range may only be specified when type is 'Mean' and query.compare is 'Blocks'"
// +kubebuilder:validation:XValidation:rule="self.type == 'ErrorRate' || !has(self.bucketLabel)",message="bucketLabel may only be specified when type is 'ErrorRate'"
// +kubebuilder:validation:XValidation:rule="self.type == 'Mean' || !has(self.direction)",message="direction may only be specified when type is 'Mean'"
// +kubebuilder:validation:XValidation:rule="self.type == 'Alerts' || !has(self.matchers)",message="matchers may only be specified when type is 'Alerts'"
// +kubebuilder:validation:XValidation:rule="!(self.type in ['Alerts','SampleRatio','Data']) || !has(self.margin)",message="margin may not be specified when type is 'Alerts', 'SampleRatio' or 'Data'"
// +kubebuilder:validation:XValidation:rule="self.type in ['ErrorRate','Latency'] || !has(self.tolerance)",message="tolerance may only be specified when type is 'ErrorRate' or 'Latency'"
type GateSpec struct {
	// name of the gate, unique in the rollout.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="gate name must be a DNS label: lower-case letters, digits and '-', beginning with a letter"
	Name string `json:"name"`
	// type says what is measured.
	Type GateType `json:"type"`
	// margin is the ratio of canary to stable that counts as bad enough to matter; the canary passes when the
	// evidence says that it is below. A decimal above 1 and at most 100; "1.5" when it is not set.
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9]+([.][0-9]+)?$') && double(self) > 1.0 && double(self) <= 100.0",message="margin must be a decimal above 1 and at most 100, such as \"1.5\""
	// +optional
	Margin string `json:"margin,omitempty"`
	// tolerance is a share of requests so small that it does not matter: the canary also passes when the evidence
	// says that its own share of errors (or of requests slower than the threshold) is below. "0.01" by default.
	// +kubebuilder:validation:MaxLength=10
	// +kubebuilder:validation:XValidation:rule="self.matches('^0([.][0-9]+)?$') && double(self) > 0.0",message="tolerance must be a decimal between 0 and 1, such as \"0.01\""
	// +optional
	Tolerance string `json:"tolerance,omitempty"`
	// threshold is the latency that a request should not exceed. The smallest histogram bound that is not below it is used.
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('1h')",message="threshold must be above 0s and at most 1h"
	// +optional
	Threshold *metav1.Duration `json:"threshold,omitempty"`
	// query names the counters: for Mean the quantity and the observations; for EnergyPerRequest the joules and the
	// requests; for Data the requests answered and sent; for SampleRatio, as count, the units that were newly assigned. All but
	// Mean have defaults: what the energy exporter, the mesh and ingest count.
	// +optional
	Query *MeanQuery `json:"query,omitempty"`
	// bucketLabel is the label of the mesh's request counter that holds the unit's bucket. With it errors are judged by
	// bucket, which is right also when a few users always fail; without it requests are taken for independent.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	BucketLabel string `json:"bucketLabel,omitempty"`
	// direction says which way is better. Lower by default.
	// +kubebuilder:validation:Enum=Lower;Higher
	// +optional
	Direction string `json:"direction,omitempty"`
	// matchers select the alerts that count, by their labels. By default those with the labels "rollout" and
	// "namespace" of this rollout.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +optional
	Matchers []LabelMatcher `json:"matchers,omitempty"`
}

// MeanQuery names two counters: the mean is the increase of sum over the increase of count.
type MeanQuery struct {
	// sum is a PromQL series selector of a counter, such as `siskin_prediction_absolute_error_total{model="coolant"}`.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Sum string `json:"sum,omitempty"`
	// count is a PromQL series selector of a counter with the same labels.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Count string `json:"count"`
	// versionLabel is the label of both that holds the version.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:default=version
	// +optional
	VersionLabel string `json:"versionLabel,omitempty"`
	// bucketLabel is the label of both that holds the unit's bucket, the unit of the statistics.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:default=bucket
	// +optional
	BucketLabel string `json:"bucketLabel,omitempty"`
	// compare says what a mean is compared by: the units' buckets, or, for counters without a bucket label, the blocks.
	// +kubebuilder:validation:Enum=Buckets;Blocks
	// +kubebuilder:default=Buckets
	// +optional
	Compare string `json:"compare,omitempty"`
	// range bounds a single observation. A mean compared by blocks is then judged by an exact test.
	// +optional
	Range *ValueRange `json:"range,omitempty"`
}

// ValueRange bounds an observation.
//
// +kubebuilder:validation:XValidation:rule="double(self.lowest) < double(self.highest)",message="range.lowest must be below range.highest"
type ValueRange struct {
	// lowest value, a decimal such as "0".
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^-?[0-9]+([.][0-9]+)?$')",message="range.lowest must be a decimal, such as \"0\""
	Lowest string `json:"lowest"`
	// highest value, a decimal such as "1".
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^-?[0-9]+([.][0-9]+)?$')",message="range.highest must be a decimal, such as \"1\""
	Highest string `json:"highest"`
}

// LabelMatcher is a label and the value that it must have.
type LabelMatcher struct {
	// name of the label.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// value of the label.
	// +kubebuilder:validation:MaxLength=253
	Value string `json:"value"`
}

// AnalysisSpec sets the error budgets and the clock of the evidence.
type AnalysisSpec struct {
	// interval is the length of a block: evidence is counted on a wall-clock grid of this step.
	// +kubebuilder:default="15s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="analysis.interval must be between 1s and 1h"
	// +optional
	Interval metav1.Duration `json:"interval,omitzero"`
	// warmUp is the time after each change of weight whose blocks are not judged, beside the block of the change itself.
	// +kubebuilder:default="0s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="analysis.warmUp must be between 0s and 24h"
	// +optional
	WarmUp metav1.Duration `json:"warmUp,omitzero"`
	// falseAlarm bounds the probability that a healthy canary is rolled back on evidence, over all gates and all looks.
	// +kubebuilder:default="0.01"
	// +kubebuilder:validation:MaxLength=10
	// +kubebuilder:validation:XValidation:rule="self.matches('^0[.][0-9]+$') && double(self) > 0.0 && double(self) <= 0.5",message="analysis.falseAlarm must be a decimal above 0 and at most 0.5, such as \"0.01\""
	// +optional
	FalseAlarm string `json:"falseAlarm,omitempty"`
	// miss bounds the probability that a canary at or beyond a gate's margin is promoted, over all steps.
	// +kubebuilder:default="0.05"
	// +kubebuilder:validation:MaxLength=10
	// +kubebuilder:validation:XValidation:rule="self.matches('^0[.][0-9]+$') && double(self) > 0.0 && double(self) <= 0.5",message="analysis.miss must be a decimal above 0 and at most 0.5, such as \"0.05\""
	// +optional
	Miss string `json:"miss,omitempty"`
	// cap is the longest time that a step may wait for evidence.
	// +kubebuilder:default="2h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="analysis.cap must be between 1s and 720h"
	// +optional
	Cap metav1.Duration `json:"cap,omitzero"`
	// onInconclusive says what to do at the cap when the evidence says neither harm nor safety. Missing data always pauses.
	// +kubebuilder:validation:Enum=Pause;Rollback
	// +kubebuilder:default=Pause
	// +optional
	OnInconclusive string `json:"onInconclusive,omitempty"`
}

package controller_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

const goodManifest = `
apiVersion: siskin.dev/v1alpha1
kind: Rollout
metadata: {name: coolant, namespace: validation}
spec:
  version: v1
  service: {name: coolant, port: 8080}
  steps: [{weight: 5}]
`

// celCases has a bad object for every rule of the CRD: a patch of the good manifest, by path, and the sentence.
var celCases = map[string]struct {
	path string
	bad  string // YAML
	want string
	// then, where there is one, is what the value is changed to after it was created.
	then string
}{
	"ScalingOfKServe":  {path: "spec.workload", bad: "{kind: InferenceService, scaling: {}}", want: "workload.scaling may only be specified when workload.kind is 'Deployment', because KServe and Seldon scale what they run"},
	"ScalingBySeldon":  {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, steps: [{weight: 5}], provider: Seldon, workload: {scaling: {}}}", want: "workload.scaling may not be specified when provider is 'KServe' or 'Seldon', which scale what they run"},
	"ScaleDownDelay":   {path: "spec.workload", bad: "{scaling: {scaleDownDelay: 721h}}", want: "scaling.scaleDownDelay must be between 0s and 720h"},
	"TargetPort":       {path: "spec.service.targetPort", bad: "9000", want: "service.targetPort may only be specified when provider writes Services: 'GatewayAPI', 'NGINX' or 'Service'"},
	"KServeOfOther":    {path: "spec.kserve", bad: "{predictor: {model: {}}}", want: "kserve must be specified when provider is 'KServe', and may not be otherwise"},
	"ProviderChange":   {path: "spec.provider", bad: "Istio", then: "GatewayAPI", want: "provider may not be changed; delete the Rollout and create it anew"},
	"LongName":         {path: "metadata.name", bad: strings.Repeat("a", 53), want: "metadata.name must be at most 52 characters, because the names of the objects that Siskin writes are derived from it"},
	"Version":          {path: "spec.version", bad: "-v1", want: "version must be a valid label value: letters, digits, '-', '_' and '.', beginning and ending with a letter or a digit"},
	"ServiceName":      {path: "spec.service.name", bad: "Coolant", want: "service.name must be a DNS label: lower-case letters, digits and '-', beginning with a letter"},
	"HostsAlone":       {path: "spec.service", bad: "{name: coolant, port: 80, hosts: [a.example.com]}", want: "service.hosts may not be specified without service.gateways"},
	"Steps":            {path: "spec.steps", bad: "[{weight: 5}, {weight: 5}]", want: "steps must have growing weights, because units move only from stable to canary during a ramp"},
	"Hold":             {path: "spec.steps", bad: "[{weight: 5, hold: 721h}]", want: "hold must be between 0s and 720h"},
	"Assignment":       {path: "spec.assignment", bad: "{}", want: "assignment must set header, cookie or hash"},
	"Header":           {path: "spec.assignment", bad: "{header: {name: X-Bucket}}", want: "assignment.header.name must consist of lower-case letters, digits and '-'"},
	"HeaderOfThePin":   {path: "spec.assignment", bad: "{header: {name: x-siskin-variant}}", want: "assignment.header.name must not be 'x-siskin-variant', which pins a request to a variant"},
	"Cookie":           {path: "spec.assignment", bad: "{cookie: {name: 'a b'}}", want: "assignment.cookie.name must consist of letters, digits, '_' and '-'"},
	"CookieAge":        {path: "spec.assignment", bad: "{cookie: {name: a, maxAge: 500ms}}", want: "assignment.cookie.maxAge must be between 1s and 8760h"},
	"Burst":            {path: "spec.rateLimit", bad: "{requestsPerSecond: 5, burst: 4}", want: "rateLimit.burst must be at least rateLimit.requestsPerSecond"},
	"DelegateTCP":      {path: "spec.traffic", bad: "{entry: Delegate, ports: [{number: 9000, protocol: TCP}]}", want: "traffic.protocol and traffic.ports must be HTTP when traffic.entry is 'Delegate', because Istio delegates nothing else"},
	"DelegateHosts":    {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80, gateways: [a]}, steps: [{weight: 5}], traffic: {entry: Delegate}}", want: "service.hosts and service.gateways may not be specified when traffic.entry is 'Delegate', because the delegating VirtualService has them"},
	"PortTwice":        {path: "spec.traffic", bad: "{ports: [{number: 8080, protocol: HTTP}]}", want: "traffic.ports must not repeat service.port"},
	"StickyTCP":        {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, steps: [{weight: 5}], traffic: {protocol: TCP}, assignment: {header: {}}}", want: "assignment and rateLimit may not be specified when traffic.protocol is not 'HTTP', because a connection has no headers"},
	"TierName":         {path: "spec.tiers", bad: "[{name: Backend, port: 80}]", want: "tier name must be a DNS label: lower-case letters, digits and '-', beginning with a letter"},
	"TierOfItself":     {path: "spec.tiers", bad: "[{name: coolant, port: 80}]", want: "tiers must not repeat service.name"},
	"TierOfTCP":        {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, steps: [{weight: 5}], traffic: {protocol: TLS}, tiers: [{name: a, port: 80}]}", want: "tiers may not be specified when traffic.protocol is not 'HTTP', because there is no header to follow"},
	"LimitNothing":     {path: "spec.rateLimit", bad: "{scope: All}", want: "rateLimit must set requestsPerSecond or global"},
	"LimitBurstAlone":  {path: "spec.rateLimit", bad: "{burst: 4, global: {host: a, requestsPerUnit: 5}}", want: "rateLimit.burst must be at least rateLimit.requestsPerSecond"},
	"LimitPortsAlone":  {path: "spec.rateLimit", bad: "{global: {host: a, requestsPerUnit: 5}, ports: [{number: 80, requestsPerSecond: 5}]}", want: "rateLimit.ports may not be specified without rateLimit.requestsPerSecond, which is for the other ports"},
	"LimitPortsBurst":  {path: "spec.rateLimit", bad: "{requestsPerSecond: 5, ports: [{number: 80, requestsPerSecond: 5, burst: 4}]}", want: "rateLimit.ports[].burst must be at least requestsPerSecond"},
	"LimitPortsOther":  {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, steps: [{weight: 5}], traffic: {ports: [{number: 81, protocol: TCP}]}, rateLimit: {requestsPerSecond: 5, ports: [{number: 81, requestsPerSecond: 5}]}}", want: "rateLimit.ports must be service.port or traffic.ports that speak HTTP"},
	"QuotaHost":        {path: "spec.rateLimit", bad: "{global: {host: a_b, requestsPerUnit: 5}}", want: "rateLimit.global.host must be a host name, such as 'ratelimit.edge.svc.cluster.local'"},
	"QuotaDomain":      {path: "spec.rateLimit", bad: "{global: {host: a, domain: a/b, requestsPerUnit: 5}}", want: "rateLimit.global.domain must be letters, digits, '-', '_' and '.'"},
	"QuotaTimeout":     {path: "spec.rateLimit", bad: "{global: {host: a, timeout: 11s, requestsPerUnit: 5}}", want: "rateLimit.global.timeout must be between 1ms and 10s"},
	"QuotaNoHosts":     {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, steps: [{weight: 5}], rateLimit: {at: Gateway, gateway: public, global: {host: a, requestsPerUnit: 5}}}", want: "rateLimit.global may not be specified at 'Gateway' without service.hosts, which tell the service's requests there"},
	"QuotaWildcard":    {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80, hosts: ['*.example.com'], gateways: [a]}, steps: [{weight: 5}], rateLimit: {at: Gateway, gateway: public, global: {host: a, requestsPerUnit: 5}}}", want: "service.hosts may not have a wildcard together with rateLimit.global at 'Gateway', where the Gateway may name each host behind it by itself"},
	"LimitNoGateway":   {path: "spec.rateLimit", bad: "{requestsPerSecond: 5, at: Gateway, gateway: public}", want: "rateLimit.at may not be 'Gateway' without service.gateways, which lead to the service"},
	"PreviewOfTLS":     {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, steps: [{weight: 5}], traffic: {protocol: TLS}, strategy: {preview: {}}}", want: "strategy.preview may not be specified when traffic.protocol is not 'HTTP', because no connection can name a version"},
	"LimitSelector":    {path: "spec.rateLimit", bad: "{requestsPerSecond: 5, selector: {a: b}}", want: "rateLimit.selector and rateLimit.gateway may only be specified when at is 'Gateway' or 'Waypoint'"},
	"LimitNowhere":     {path: "spec.rateLimit", bad: "{requestsPerSecond: 5, at: Gateway}", want: "rateLimit must set one of selector and gateway when at is 'Gateway'"},
	"LimitWaypoint":    {path: "spec.rateLimit", bad: "{requestsPerSecond: 5, at: Waypoint, gateway: a, selector: {a: b}}", want: "rateLimit must set gateway, and no selector, when at is 'Waypoint', because Istio ignores selectors there"},
	"LimitGateway":     {path: "spec.rateLimit", bad: "{requestsPerSecond: 5, at: Gateway, gateway: A}", want: "rateLimit.gateway must be the name of a Gateway: lower-case letters, digits, '-' and '.'"},
	"HashAndCookie":    {path: "spec.assignment", bad: "{hash: {header: a}, cookie: {name: a}}", want: "assignment may not set both cookie and hash"},
	"HashHeader":       {path: "spec.assignment", bad: "{hash: {header: cookie}}", want: "assignment.hash.header must consist of lower-case letters, digits and '-', and not be 'cookie' or 'x-siskin-variant'"},
	"HashDelegate":     {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, steps: [{weight: 5}], traffic: {entry: Delegate}, assignment: {hash: {header: a}}}", want: "assignment.hash may not be specified when traffic.entry is 'Delegate', because delegation changes the names of routes"},
	"PoolEmpty":        {path: "spec.traffic", bad: "{policy: {connectionPool: {}}}", want: "traffic.policy.connectionPool must set tcp or http"},
	"ConnectTimeout":   {path: "spec.traffic", bad: "{policy: {connectionPool: {tcp: {connectTimeout: 2h}}}}", want: "connectTimeout must be between 1ms and 1h"},
	"IdleTCP":          {path: "spec.traffic", bad: "{policy: {connectionPool: {tcp: {idleTimeout: 0s}}}}", want: "idleTimeout must be between 1ms and 720h"},
	"IdleHTTP":         {path: "spec.traffic", bad: "{policy: {connectionPool: {http: {idleTimeout: 721h}}}}", want: "idleTimeout must be between 1ms and 720h"},
	"ConnectionAge":    {path: "spec.traffic", bad: "{policy: {connectionPool: {tcp: {maxConnectionDuration: 10us}}}}", want: "maxConnectionDuration must be between 1ms and 720h"},
	"TwoLocalities":    {path: "spec.traffic", bad: "{policy: {loadBalancer: {localityLbSetting: {failoverPriority: [a], failover: [{from: a, to: b}]}}}}", want: "localityLbSetting may set only one of distribute, failover and failoverPriority"},
	"Distribute":       {path: "spec.traffic", bad: "{policy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 60, b: 39}}]}}}}", want: "distribute.to must have shares between 1 and 100 that sum to 100"},
	"Failover":         {path: "spec.traffic", bad: "{policy: {loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}}}", want: "failover.from and failover.to must differ"},
	"OutlierInterval":  {path: "spec.traffic", bad: "{policy: {outlierDetection: {interval: 61m}}}", want: "outlierDetection.interval must be between 1ms and 1h"},
	"OutlierTime":      {path: "spec.traffic", bad: "{policy: {outlierDetection: {baseEjectionTime: 0s}}}", want: "outlierDetection.baseEjectionTime must be between 1ms and 24h"},
	"MutualAlone":      {path: "spec.traffic", bad: "{policy: {tls: {mode: MUTUAL, clientCertificate: /c}}}", want: "tls.credentialName, or tls.clientCertificate and tls.privateKey, must be set when mode is 'MUTUAL'"},
	"KeyOfSimple":      {path: "spec.traffic", bad: "{policy: {tls: {mode: SIMPLE, privateKey: /k}}}", want: "tls.clientCertificate and tls.privateKey may only be specified when mode is 'MUTUAL'"},
	"NameOfIstio":      {path: "spec.traffic", bad: "{policy: {tls: {mode: ISTIO_MUTUAL, sni: a}}}", want: "tls may set nothing but mode when mode is 'DISABLE' or 'ISTIO_MUTUAL'"},
	"TwoCredentials":   {path: "spec.traffic", bad: "{policy: {tls: {mode: SIMPLE, credentialName: a, caCertificates: /c}}}", want: "tls.credentialName may not be specified together with clientCertificate, privateKey or caCertificates"},
	"GateName":         {path: "spec.gates", bad: "[{name: Errors, type: ErrorRate}]", want: "gate name must be a DNS label: lower-case letters, digits and '-', beginning with a letter"},
	"NoThreshold":      {path: "spec.gates", bad: "[{name: a, type: Latency}]", want: "threshold is required when type is 'Latency'"},
	"ThresholdOfOther": {path: "spec.gates", bad: "[{name: a, type: ErrorRate, threshold: 1s}]", want: "threshold may only be specified when type is 'Latency'"},
	"ThresholdZero":    {path: "spec.gates", bad: "[{name: a, type: Latency, threshold: 0s}]", want: "threshold must be above 0s and at most 1h"},
	"NoQuery":          {path: "spec.gates", bad: "[{name: a, type: Mean}]", want: "query is required when type is 'Mean'"},
	"QueryOfOther":     {path: "spec.gates", bad: "[{name: a, type: ErrorRate, query: {sum: a, count: b}}]", want: "query may only be specified when type is 'Mean', 'EnergyPerRequest', 'SampleRatio' or 'Data'"},
	"SumOfUnits":       {path: "spec.gates", bad: "[{name: a, type: SampleRatio, query: {sum: a, count: b}}]", want: "query.sum is required, except that type 'SampleRatio' has only query.count"},
	"NoSum":            {path: "spec.gates", bad: "[{name: a, type: Mean, query: {count: b}}]", want: "query.sum is required, except that type 'SampleRatio' has only query.count"},
	"RangeOfBuckets":   {path: "spec.gates", bad: "[{name: a, type: Mean, query: {sum: a, count: b, range: {lowest: '0', highest: '1'}}}]", want: "query.range may only be specified when type is 'Mean' and query.compare is 'Blocks'"},
	"BucketsOfOther":   {path: "spec.gates", bad: "[{name: a, type: Latency, threshold: 1s, bucketLabel: b}]", want: "bucketLabel may only be specified when type is 'ErrorRate'"},
	"RangeOrder":       {path: "spec.gates", bad: "[{name: a, type: Mean, query: {sum: a, count: b, compare: Blocks, range: {lowest: '1', highest: '1'}}}]", want: "range.lowest must be below range.highest"},
	"RangeLowest":      {path: "spec.gates", bad: "[{name: a, type: Mean, query: {sum: a, count: b, compare: Blocks, range: {lowest: '1e3', highest: '1e4'}}}]", want: `range.lowest must be a decimal, such as "0"`},
	"RangeHighest":     {path: "spec.gates", bad: "[{name: a, type: Mean, query: {sum: a, count: b, compare: Blocks, range: {lowest: '0', highest: '1e4'}}}]", want: `range.highest must be a decimal, such as "1"`},
	"DirectionOfOther": {path: "spec.gates", bad: "[{name: a, type: ErrorRate, direction: Lower}]", want: "direction may only be specified when type is 'Mean'"},
	"MatchersOfOther":  {path: "spec.gates", bad: "[{name: a, type: ErrorRate, matchers: [{name: a, value: b}]}]", want: "matchers may only be specified when type is 'Alerts'"},
	"MarginOfAlerts":   {path: "spec.gates", bad: "[{name: a, type: Alerts, margin: '1.5'}]", want: "margin may not be specified when type is 'Alerts', 'SampleRatio' or 'Data'"},
	"ToleranceOfMean":  {path: "spec.gates", bad: "[{name: a, type: Mean, query: {sum: a, count: b}, tolerance: '0.1'}]", want: "tolerance may only be specified when type is 'ErrorRate' or 'Latency'"},
	"Margin":           {path: "spec.gates", bad: "[{name: a, type: ErrorRate, margin: '1.0'}]", want: `margin must be a decimal above 1 and at most 100, such as "1.5"`},
	"MarginWord":       {path: "spec.gates", bad: "[{name: a, type: ErrorRate, margin: 'much'}]", want: `margin must be a decimal above 1 and at most 100, such as "1.5"`},
	"MarginNaN":        {path: "spec.gates", bad: "[{name: a, type: ErrorRate, margin: 'NaN'}]", want: `margin must be a decimal above 1 and at most 100, such as "1.5"`},
	"Tolerance":        {path: "spec.gates", bad: "[{name: a, type: ErrorRate, tolerance: '1.5'}]", want: `tolerance must be a decimal between 0 and 1, such as "0.01"`},
	"CohortHeader":     {path: "spec.strategy", bad: "{preview: {cohort: {header: X-Fleet, values: [a]}}}", want: "preview.cohort.header must consist of lower-case letters, digits and '-', and not be 'cookie' or 'x-siskin-variant'"},
	"ControlShadow":    {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, assignment: {header: {}}, steps: [{weight: 5}], gates: [{name: e, type: ErrorRate}], strategy: {shadow: {percent: 5}, preview: {cohort: {header: x-fleet, values: [a], control: 50, label: c}}}}", want: "strategy.shadow may not be specified together with strategy.preview.cohort.control: copies and a cohort cannot be judged at the same time"},
	"CohortLabel":      {path: "spec.strategy", bad: "{preview: {cohort: {header: x-fleet, values: [a], label: a-b}}}", want: "preview.cohort.label must be the name of a label, such as 'siskin_cohort'"},
	"ControlUntold":    {path: "spec.strategy", bad: "{preview: {cohort: {header: x-fleet, values: [a], control: 50}}}", want: "preview.cohort.label must be specified together with control, because nothing else tells the cohort's requests from others"},
	"ControlUnits":     {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, steps: [{weight: 5}], gates: [{name: e, type: ErrorRate}], strategy: {preview: {cohort: {header: x-fleet, values: [a], control: 50, label: c}}}}", want: "strategy.preview.cohort.control may only be specified together with assignment.header or assignment.cookie, because units are kept apart by their buckets"},
	"ControlGates":     {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, assignment: {header: {}}, steps: [{weight: 5}], gates: [{name: e, type: ErrorRate, bucketLabel: b}], strategy: {preview: {cohort: {header: x-fleet, values: [a], control: 50, label: c}}}}", want: "strategy.preview.cohort.control may only be specified together with a gate of type Latency, or ErrorRate without bucketLabel, because no other compares within a cohort"},
	"PreviewHost":      {path: "spec.strategy", bad: "{preview: {hosts: [Preview]}}", want: "preview.hosts must be host names, such as 'preview.example.com'"},
	"PreviewNowhere":   {path: "spec.strategy", bad: "{preview: {hosts: [preview.example.com]}}", want: "strategy.preview.hosts may not be specified without service.gateways"},
	"PreviewRepeats":   {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80, gateways: [a/b], hosts: [a.b]}, steps: [{weight: 5}], strategy: {preview: {hosts: [a.b]}}}", want: "strategy.preview.hosts must not repeat service.hosts"},
	"PreviewHold":      {path: "spec.strategy", bad: "{preview: {hold: 721h}}", want: "preview.hold must be between 0s and 720h"},
	"ShadowHold":       {path: "spec.strategy", bad: "{shadow: {percent: 10, hold: 721h}}", want: "shadow.hold must be between 0s and 720h"},
	"ShadowTiers":      {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, steps: [{weight: 5}], tiers: [{name: a, port: 80}], strategy: {shadow: {percent: 10}}}", want: "strategy.shadow may not be specified together with tiers, because a copy would go on to them as a request of the stable version"},
	"ShadowTCP":        {path: "spec", bad: "{version: v1, service: {name: coolant, port: 80}, steps: [{weight: 5}], traffic: {protocol: TCP}, strategy: {shadow: {percent: 10}}}", want: "strategy.shadow may not be specified when traffic.protocol is not 'HTTP', because connections are not copied"},
	"Interval":         {path: "spec.analysis", bad: "{interval: 100ms}", want: "analysis.interval must be between 1s and 1h"},
	"WarmUp":           {path: "spec.analysis", bad: "{warmUp: 25h}", want: "analysis.warmUp must be between 0s and 24h"},
	"FalseAlarm":       {path: "spec.analysis", bad: "{falseAlarm: '0.6'}", want: `analysis.falseAlarm must be a decimal above 0 and at most 0.5, such as "0.01"`},
	"Miss":             {path: "spec.analysis", bad: "{miss: '5e-2'}", want: `analysis.miss must be a decimal above 0 and at most 0.5, such as "0.05"`},
	"Cap":              {path: "spec.analysis", bad: "{cap: 721h}", want: "analysis.cap must be between 1s and 720h"},
}

func TestValidation(t *testing.T) {
	c, err := client.New(api.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set := func(o *unstructured.Unstructured, path, text string) {
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		if err := unstructured.SetNestedField(o.Object, value, strings.Split(path, ".")...); err != nil {
			t.Fatal(err)
		}
	}
	create := func(path, bad, then string) error {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(goodManifest), &o.Object); err != nil {
			t.Fatal(err)
		}
		if path != "" {
			set(o, path, bad)
		}
		if then == "" {
			return c.Create(t.Context(), o, client.DryRunAll)
		}
		o.SetName("changed")
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		set(o, path, then)
		return c.Update(t.Context(), o, client.DryRunAll)
	}
	if err := create("", "", ""); err != nil {
		t.Fatalf("the good manifest: %v", err)
	}
	for name, tc := range celCases {
		t.Run(name, func(t *testing.T) {
			err := create(tc.path, tc.bad, tc.then)
			var status *apierrors.StatusError
			if !errors.As(err, &status) || !apierrors.IsInvalid(err) {
				t.Fatalf("%s: %s: got %v, want an invalid error", tc.path, tc.bad, err)
			}
			var got []string
			for _, cause := range status.Status().Details.Causes {
				got = append(got, cause.Message)
			}
			if !slices.ContainsFunc(got, func(m string) bool { return strings.HasSuffix(m, ": "+tc.want) || m == tc.want }) {
				t.Errorf("%s: %s: got %q, want %q", tc.path, tc.bad, got, tc.want)
			}
		})
	}
}

// TestEveryRuleIsTested keeps the table above whole.
func TestEveryRuleIsTested(t *testing.T) {
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(charts.RolloutCRD, &crd); err != nil {
		t.Fatal(err)
	}
	rules := 0
	var walk func(s *apiextensionsv1.JSONSchemaProps)
	walk = func(s *apiextensionsv1.JSONSchemaProps) {
		for _, rule := range s.XValidations {
			rules++
			tested := false
			for _, tc := range celCases {
				tested = tested || tc.want == rule.Message
			}
			if !tested {
				t.Errorf("no case for the rule %q with the message %q", rule.Rule, rule.Message)
			}
		}
		for _, p := range s.Properties {
			walk(&p)
		}
		if s.Items != nil && s.Items.Schema != nil {
			walk(s.Items.Schema)
		}
	}
	walk(crd.Spec.Versions[0].Schema.OpenAPIV3Schema)
	if rules < 25 {
		t.Errorf("found %d rules in the CRD; the walk misses some", rules)
	}
}

// TestInvalidSpec: what the CRD lets through and the mesh cannot express stalls the rollout with a sentence, decides
// nothing, and goes on when it is put right.
func TestInvalidSpec(t *testing.T) {
	w := running(t, 1)
	w.edit(func(ro *v1alpha1.Rollout) {
		ro.Spec.Service.Gateways = []string{"edge/public"}
		ro.Spec.Service.Hosts = []string{"coolant." + ro.Namespace + ".svc.cluster.local"}
	})
	w.source.counts = nothing
	before := w.get()
	ro := w.turn()
	stalled := meta.FindStatusCondition(ro.Status.Conditions, v1alpha1.ConditionStalled)
	if stalled == nil || stalled.Reason != "InvalidSpec" || !strings.Contains(stalled.Message, "the service's own host") {
		t.Fatalf("stalled: %+v, want InvalidSpec with the host", stalled)
	}
	if ro.Status.Weight != 5 || len(w.canary()) != 5 || ro.Status.Run.ID != before.Status.Run.ID {
		t.Errorf("weight %d, %d buckets; want the step as it was", ro.Status.Weight, len(w.canary()))
	}
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Service.Hosts = nil })
	w.source.counts = healthy
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
}

// TestEvidenceOfAnotherRelease: evidence that cannot be read begins anew, and nobody's variant changes for it.
func TestEvidenceOfAnotherRelease(t *testing.T) {
	for name, raw := range map[string][]byte{
		"Garbage": []byte("not evidence at all"),
		"Short":   {1},
		"Zeroes":  make([]byte, 4096),
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 1)
			w.turn()
			last := w.get().Status.Run.LastBlock
			w.editStatus(func(st *v1alpha1.RolloutStatus) { st.Run.Evidence = raw })
			w.clock = w.clock.Add(10 * time.Second)
			w.turn()
			q := w.source.asked[len(w.source.asked)-1]
			if q.From.Before(last.Time) {
				t.Errorf("blocks from %v are asked for again, although those up to %v were counted", q.From, last)
			}
			if !slices.ContainsFunc(w.events, func(e string) bool { return strings.Contains(e, "EvidenceLost") }) {
				t.Errorf("nobody was told: %q", w.events)
			}
			w.until("promoted", ended(v1alpha1.OutcomePromoted))
		})
	}
}

// TestIntervalChange: after a change of the interval the blocks lie on the new grid, and none overlaps one that counted.
func TestIntervalChange(t *testing.T) {
	w := running(t, 1)
	w.turn()
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Analysis.Interval.Duration = 7 * time.Second })
	last := w.get().Status.Run.LastBlock.Time
	w.source.asked = nil
	for range 4 {
		w.turn()
	}
	if len(w.source.asked) == 0 {
		t.Fatal("nothing was asked")
	}
	for _, q := range w.source.asked {
		for _, at := range []time.Time{q.From, q.To} {
			if !rollout.GridFloor(at, 7*time.Second).Equal(at) {
				t.Errorf("asked for blocks from %v to %v, want instants of the grid of 7s", q.From, q.To)
			}
		}
		if q.From.Before(last) {
			t.Errorf("asked for blocks from %v, although those up to %v were counted", q.From, last)
		}
		last = q.To
	}
}

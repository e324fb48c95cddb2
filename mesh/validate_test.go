package mesh

import (
	"slices"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   func(*Traffic)
		// want are parts of the message: the field, the value and what was expected. None: the traffic is valid.
		want []string
	}{
		"Valid":        {"The starting point of the other cases.", func(*Traffic) {}, nil},
		"StableOnly":   {"A rollout at rest has one share.", func(t *Traffic) { t.Shares = []Share{{Stable, "v1", allBuckets()}} }, nil},
		"SameVersion":  {"Comparing a version with itself is a fair test of the machinery.", func(t *Traffic) { t.Shares[1].Version = "v1" }, nil},
		"NoAssignment": {"Without header and cookie requests are drawn.", func(t *Traffic) { t.BucketHeader, t.Cookie = "", nil }, nil},
		"Exposed": {"Hosts enter through gateways.", func(t *Traffic) {
			t.Service.Hosts, t.Service.Gateways = []string{"predict.example.com", "*.example.org"}, []string{"edge/public"}
		}, nil},
		"Limited":       {"A burst of 0 is the rate.", func(t *Traffic) { t.RateLimit = &RateLimit{RequestsPerSecond: 1} }, nil},
		"Policy":        {"A policy is an object of known fields.", func(t *Traffic) { t.Policy = []byte(`{"tls":{"mode":"DISABLE"}}`) }, nil},
		"PolicyField":   {"Others would be lost.", func(t *Traffic) { t.Policy = []byte(`{"tunnel":{}}`) }, []string{"policy.tunnel", `one of ["connectionPool"`}},
		"PolicyShape":   {"Nor is it a list.", func(t *Traffic) { t.Policy = []byte(`[]`) }, []string{`policy "[]"`, "must be an object"}},
		"Delegate":      {"What is delegated to has no hosts of its own.", func(t *Traffic) { t.Service.Delegate = true }, nil},
		"DelegateHost":  {"Those are the user's to say.", func(t *Traffic) { t.Service.Delegate, t.Service.Gateways = true, []string{"a"} }, []string{"service.gateways", "with service.delegate"}},
		"DelegateTCP":   {"Istio delegates HTTP only.", func(t *Traffic) { t.Service.Delegate, t.Service.Ports = true, []Port{{9000, TCP}} }, []string{`service.ports[0].protocol "TCP"`, `must be "HTTP" with`}},
		"Ports":         {"Ports beside the service's own.", func(t *Traffic) { t.Service.Ports = []Port{{9000, TCP}, {9001, HTTP}} }, nil},
		"PortTwice":     {"Each is there once.", func(t *Traffic) { t.Service.Ports = []Port{{8080, TCP}} }, []string{"service.ports[0].number 8080", "given once"}},
		"PortProtocol":  {"A port speaks something.", func(t *Traffic) { t.Service.Ports = []Port{{8081, ""}} }, []string{`service.ports[0].protocol ""`, `"HTTP", "TCP" or "TLS"`}},
		"StickyStream":  {"A stream has no headers.", func(t *Traffic) { t.Service.Protocol = TCP }, []string{`service.protocol "TCP"`, "which need HTTP"}},
		"PreviewStream": {"A connection names no variant.", func(t *Traffic) { *t = ramp(5, false, false); t.Service.Protocol, t.Preview = TLS, true }, []string{`service.protocol "TLS"`, "with preview"}},
		"Tiers":         {"Services behind.", func(t *Traffic) { t.Tiers = []Tier{{"a", 80}, {"b", 81}} }, nil},
		"TierName":      {"A tier is a service.", func(t *Traffic) { t.Tiers = []Tier{{"A", 80}} }, []string{`tiers[0].name "A"`, "must be a DNS label"}},
		"TierTwice":     {"A request passes each once.", func(t *Traffic) { t.Tiers = []Tier{{"a", 80}, {"a", 81}} }, []string{`tiers[1].name "a"`, "given once"}},
		"TierOfTCP":     {"A stream has no header to follow.", func(t *Traffic) { *t = ramp(5, false, false); t.Service.Protocol, t.Tiers = TCP, []Tier{{"a", 80}} }, []string{"tiers", "no header to follow"}},
		"LimitGateway": {"A gateway is known by its pods.", func(t *Traffic) {
			t.Service.Gateways = []string{"edge/public"}
			t.RateLimit = &RateLimit{RequestsPerSecond: 1, At: AtGateway, Selector: map[string]string{"istio": "a"}}
		}, nil},
		"LimitDelegated": {"The user's routes may be bound to it.", func(t *Traffic) {
			t.Service.Delegate, t.RateLimit = true, &RateLimit{RequestsPerSecond: 1, At: AtGateway, Gateway: "public"}
		}, nil},
		"LimitNoGateway": {"A gateway that leads nowhere counts nothing.", func(t *Traffic) {
			t.RateLimit = &RateLimit{RequestsPerSecond: 1, At: AtGateway, Gateway: "public"}
		}, []string{`rateLimit.at "Gateway"`, "without service.gateways"}},
		"LimitBoth": {"Or by its name, not by both.", func(t *Traffic) {
			t.RateLimit = &RateLimit{RequestsPerSecond: 1, At: AtGateway, Selector: map[string]string{"istio": "a"}, Gateway: "b"}
		}, []string{"rateLimit.selector map[istio:a]", "one without the other"}},
		"LimitWaypoint": {"A waypoint is known by its name.", func(t *Traffic) { t.RateLimit = &RateLimit{RequestsPerSecond: 1, At: AtWaypoint} }, []string{`rateLimit.gateway ""`, "the gateway alone"}},
		"LimitSidecar":  {"A sidecar is the pod's own.", func(t *Traffic) { t.RateLimit = &RateLimit{RequestsPerSecond: 1, Gateway: "b"} }, []string{`rateLimit.gateway "b"`, `may not be specified at "Sidecar"`}},
		"Quota":         {"A quota needs no token buckets.", func(t *Traffic) { t.RateLimit = &RateLimit{Global: quota()} }, nil},
		"QuotaAtGateway": {"The hosts tell whose requests they are.", func(t *Traffic) {
			t.Service.Hosts, t.Service.Gateways = []string{"predict.example.com"}, []string{"edge/public"}
			t.RateLimit = &RateLimit{At: AtGateway, Gateway: "public", Global: quota()}
		}, nil},
		"QuotaNoHosts": {"Without hosts nothing tells them apart.", func(t *Traffic) {
			t.RateLimit = &RateLimit{At: AtGateway, Gateway: "public", Global: quota()}
		}, []string{"rateLimit.global", `"Gateway" without service.hosts`}},
		"QuotaWildcard": {"A Gateway names what is behind a wildcard as it likes.", func(t *Traffic) {
			t.Service.Hosts, t.Service.Gateways = []string{"*.example.com"}, []string{"edge/public"}
			t.RateLimit = &RateLimit{At: AtGateway, Gateway: "public", Global: quota()}
		}, []string{`service.hosts ["*.example.com"]`, "may not have a wildcard with rateLimit.global"}},
		"QuotaBurst": {"A burst is of a rate.", func(t *Traffic) { t.RateLimit = &RateLimit{Burst: 5, Global: quota()} }, []string{"rateLimit.requestsPerSecond 0"}},
		"PortLimits": {"A port may have a rate of its own.", func(t *Traffic) {
			t.Service.Ports = []Port{{8081, HTTP}}
			t.RateLimit = &RateLimit{RequestsPerSecond: 1, Ports: []PortLimit{{t.Service.Port, 5, 5}, {8081, 7, 0}}}
		}, nil},
		"PortLimitsBad": {"Of a port that is the service's, and once.", func(t *Traffic) {
			t.Service.Ports = []Port{{9000, TCP}}
			t.RateLimit = &RateLimit{Global: quota(), Ports: []PortLimit{{t.Service.Port, 5, 4}, {t.Service.Port, 0, 0}, {9000, 1, 0}}}
		}, []string{
			"rateLimit.ports[0].burst 4", "rateLimit.ports[1].requestsPerSecond 0", "rateLimit.ports[1].number", "rateLimit.ports[2].number 9000",
			"without requestsPerSecond",
		}},
		"QuotaFields": {"Every field has its bounds.", func(t *Traffic) {
			t.RateLimit = &RateLimit{Global: &GlobalLimit{Host: "*.a", Domain: "a b", Unit: "Week", TimeoutMillis: 10_001}}
		}, []string{
			`rateLimit.global.host "*.a"`, "rateLimit.global.port 0", `rateLimit.global.domain "a b"`, "rateLimit.global.requests 0", `rateLimit.global.unit "Week"`,
			`"Second", "Minute", "Hour" or "Day"`, "rateLimit.global.timeoutMillis 10001",
		}},
		"LimitPlace": {"There are no other places.", func(t *Traffic) { t.RateLimit = &RateLimit{RequestsPerSecond: 1, At: "x"} }, []string{`rateLimit.at "x"`, `"Sidecar", "Gateway" or "Waypoint"`}},
		"Hash":       {"A hash beside a bucket header.", func(t *Traffic) { t.Cookie, t.HashHeader = nil, "x-vehicle-id" }, nil},
		"HashCookie": {"A cookie takes what a hash would.", func(t *Traffic) { t.HashHeader = "x-vehicle-id" }, []string{`hashHeader "x-vehicle-id"`, "may not be specified with cookie"}},
		"HashBucket": {"A bucket is no unit.", func(t *Traffic) { t.Cookie, t.HashHeader = nil, t.BucketHeader }, []string{"hashHeader", "nothing else is read from"}},
		"HashArms": {"A third arm has no end of its own.", func(t *Traffic) {
			t.Cookie, t.HashHeader = nil, "x-vehicle-id"
			t.Shares = append(t.Shares, Share{"a", "v3", nil}, Share{"b", "v4", nil})
		}, []string{"hashHeader", "more than 3 variants, and there are 4"}},
		"Mirror":       {"Copies go to a canary that nobody meets.", func(t *Traffic) { *t = ramp(0, true, true); t.Mirror = 100 }, nil},
		"MirrorRange":  {"More than all cannot be copied.", func(t *Traffic) { *t = ramp(0, true, true); t.Mirror = 101 }, []string{"mirror 101", "between 1 and 100"}},
		"MirrorSplit":  {"What is copied is stable's.", func(t *Traffic) { t.Mirror = 10 }, []string{"mirror 10", `unless "stable" owns all buckets`}},
		"MirrorNobody": {"Somebody gets the copies.", func(t *Traffic) { t.Shares, t.Mirror = []Share{{Stable, "v1", allBuckets()}}, 10 }, []string{"mirror 10", `the variant "canary"`}},
		"MirrorTCP":    {"A connection cannot be copied.", func(t *Traffic) { *t = ramp(0, false, false); t.Service.Protocol, t.Mirror = TCP, 10 }, []string{`service.protocol "TCP"`, "with mirror"}},
		"MirrorTiers":  {"The tiers would take a copy for stable's.", func(t *Traffic) { *t = ramp(0, true, true); t.Mirror, t.Tiers = 10, []Tier{{"a", 80}} }, []string{"tiers", "with mirror"}},
		"NoRollout":    {"Objects need a name.", func(t *Traffic) { t.Rollout = "" }, []string{`rollout ""`, "must be a DNS name"}},
		"LongRollout":  {"The name is a label value too.", func(t *Traffic) { t.Rollout = strings.Repeat("r", 64) }, []string{"rollout", "at most 63 characters"}},
		"Namespace":    {"A namespace is one label of the host.", func(t *Traffic) { t.Service.Namespace = "a.b" }, []string{`service.namespace "a.b"`, "must be a DNS label"}},
		"ServiceName":  {"So is the name.", func(t *Traffic) { t.Service.Name = "Coolant" }, []string{`service.name "Coolant"`, "must be a DNS label"}},
		"Port":         {"A port has 16 bits.", func(t *Traffic) { t.Service.Port = 65536 }, []string{"service.port 65536", "between 1 and 65535"}},
		"TargetPort":   {"So has that of the pods.", func(t *Traffic) { t.Service.TargetPort = -1 }, []string{"service.targetPort -1", "between 0 and 65535"}},
		"Host":         {"A host of everything would take the traffic of every service.", func(t *Traffic) { t.Service.Hosts, t.Service.Gateways = []string{"*"}, []string{"edge/public"} }, []string{`service.hosts[0] "*"`, "must be a host name"}},
		"HostTwice":    {"Istio refuses duplicates.", func(t *Traffic) { t.Service.Hosts, t.Service.Gateways = []string{"a.b", "a.b"}, []string{"g"} }, []string{`service.hosts[1] "a.b"`, "given once"}},
		"OwnHost":      {"The service's own host is always there.", func(t *Traffic) { t.Service.Hosts, t.Service.Gateways = []string{t.Service.FQDN()}, []string{"g"} }, []string{"service.hosts[0]", "not be the service's own host"}},
		"HostNoDoor":   {"A host without a gateway would change the route of that host for the whole mesh.", func(t *Traffic) { t.Service.Hosts = []string{"a.b"} }, []string{`service.hosts ["a.b"]`, "without service.gateways"}},
		"Gateway":      {"A gateway is a name, with or without its namespace.", func(t *Traffic) { t.Service.Gateways = []string{"a/b/c"} }, []string{`service.gateways[0] "a/b/c"`, "must be a gateway"}},
		"MeshGateway":  {"The mesh is bound beside any gateway.", func(t *Traffic) { t.Service.Gateways = []string{"mesh"} }, []string{`service.gateways[0] "mesh"`, "always bound"}},
		"VersionLabel": {"Subsets select pods by it.", func(t *Traffic) { t.VersionLabel = "a b" }, []string{`versionLabel "a b"`, "must be a label key"}},
		"NoShares":     {"Somebody has to answer.", func(t *Traffic) { t.Shares = nil }, []string{"shares []", `at least the variant "stable"`}},
		"StableSecond": {"Stable comes first, so that it takes what is left.", func(t *Traffic) { slices.Reverse(t.Shares) }, []string{`shares[0].variant "canary"`, `must be "stable"`}},
		"Variant":      {"Route names and header values are made of it.", func(t *Traffic) { t.Shares[1].Variant = "Arm 1" }, []string{`shares[1].variant "Arm 1"`, "must be a DNS label"}},
		"VariantTwice": {"A variant is one version.", func(t *Traffic) { t.Shares[1].Variant = Stable }, []string{`shares[1].variant "stable"`, "given once"}},
		"VariantPin":   {"A variant named pin-x would name the route of the pin to x-buckets.", func(t *Traffic) { t.Shares[1].Variant = "pin-x" }, []string{`shares[1].variant "pin-x"`, "may not begin"}},
		"Version":      {"Subsets select pods by it.", func(t *Traffic) { t.Shares[1].Version = "v/2" }, []string{`shares[1].version "v/2"`, "must be a label value"}},
		"NoVersion":    {"A route to no version meets nobody.", func(t *Traffic) { t.Shares[1].Version = "" }, []string{`shares[1].version ""`, "must be a label value"}},
		"BucketRange":  {"There are 100 buckets.", func(t *Traffic) { t.Shares[1].Buckets[24] = 100 }, []string{"shares[1].buckets[24] 100", "between 0 and 99"}},
		"Unsorted":     {"One order keeps what is written the same.", func(t *Traffic) { slices.Reverse(t.Shares[1].Buckets) }, []string{"shares[1].buckets[1]", "ascending order"}},
		"TwoOwners": {
			"Shares are disjoint.", func(t *Traffic) { t.Shares[0].Buckets = allBuckets() },
			[]string{"shares[1].buckets[0]", `must have one owner, and "stable" has it`},
		},
		"NoOwner": {
			"A bucket without an owner would meet nobody.", func(t *Traffic) { t.Shares[0].Buckets = t.Shares[0].Buckets[1:] },
			[]string{"shares", "must own all 100 buckets", "nobody owns ["},
		},
		"Header":       {"Data planes compare names in lower case.", func(t *Traffic) { t.BucketHeader = "X-Bucket" }, []string{`bucketHeader "X-Bucket"`, "must be a header name in lower case"}},
		"HeaderTaken":  {"The pin would be read as a bucket.", func(t *Traffic) { t.BucketHeader = VariantHeader }, []string{`bucketHeader "x-siskin-variant"`, "must not be"}},
		"HeaderCookie": {"The cookie has its own way.", func(t *Traffic) { t.BucketHeader = "cookie" }, []string{`bucketHeader "cookie"`, "must not be"}},
		"CookieName":   {"A name with RE2 syntax in it would change the expression.", func(t *Traffic) { t.Cookie.Name = "a.*" }, []string{`cookie.name "a.*"`, "must be a cookie name"}},
		"CookieAge":    {"A cookie that is never kept makes nobody sticky.", func(t *Traffic) { t.Cookie.MaxAgeSeconds = 0 }, []string{"cookie.maxAgeSeconds 0", "between 1 and 31536000"}},
		"Rate":         {"A rate of 0 would refuse everything.", func(t *Traffic) { t.RateLimit = &RateLimit{} }, []string{"rateLimit.requestsPerSecond 0", "between 1 and 1000000"}},
		"Burst":        {"A bucket below the rate never lets the rate through.", func(t *Traffic) { t.RateLimit = &RateLimit{RequestsPerSecond: 5, Burst: 4} }, []string{"rateLimit.burst 4", "at least requestsPerSecond, 5"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			traffic := ramp(25, true, true)
			tc.args(&traffic)
			err := traffic.Validate()
			if (err != nil) != (len(tc.want) > 0) {
				t.Fatalf("%s\nValidate() = %v, want parts %q", tc.reason, err, tc.want)
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s\nValidate() = %v, want it to say %q", tc.reason, err, part)
				}
			}
		})
	}
}

// TestValidateSaysEverything checks that one look shows all mistakes, one per line.
func TestValidateSaysEverything(t *testing.T) {
	err := Traffic{}.Validate()
	if err == nil {
		t.Fatal("Validate() of nothing = nil")
	}
	for _, field := range []string{"rollout", "service.namespace", "service.name", "service.port", "versionLabel", "shares"} {
		if !strings.Contains("\n"+err.Error(), "\n"+field) {
			t.Errorf("Validate() of nothing does not name %s:\n%v", field, err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	traffic := ramp(25, true, true)
	b.ReportAllocs()
	for b.Loop() {
		if err := traffic.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}

func quota() *GlobalLimit {
	return &GlobalLimit{Host: "ratelimit.edge.svc.cluster.local", Port: 8081, Requests: 5, Unit: PerMinute}
}

package mesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A form is what a name must look like.
type form struct {
	pattern *regexp.Regexp
	longest int
	// expected completes "must be".
	expected string
}

// The building blocks of the forms below.
const (
	label     = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
	subdomain = label + `([.]` + label + `)*`
	value     = `[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?`
)

// The forms, compiled once and never changed.
var (
	labelForm     = newForm(label, 63, "a DNS label, such as \"coolant\"")
	variantForm   = newForm(label, 32, "a DNS label, such as \"canary\"")
	subdomainForm = newForm(subdomain, 63, "a DNS name, such as \"coolant\"")
	hostForm      = newForm(`([*][.])?`+subdomain, 253, "a host name, such as \"predict.example.com\"")
	plainHostForm = newForm(subdomain, 253, "a host name without a wildcard, such as \"ratelimit.edge.svc.cluster.local\"")
	domainForm    = newForm(value, 127, "letters, digits, '-', '_' and '.', such as \"edge.coolant\"")
	gatewayForm   = newForm(`(`+label+`/)?`+subdomain, 253, "a gateway, such as \"edge/public\"")
	versionForm   = newForm(value, 63, "a label value, such as \"v2\"")
	labelKeyForm  = newForm(`(`+subdomain+`/)?`+value, 317, "a label key, such as \"version\"")
	headerForm    = newForm(`[a-z0-9-]+`, 63, "a header name in lower case, such as \"x-siskin-bucket\"")
	cookieForm    = newForm(`[A-Za-z0-9_-]+`, 63, "a cookie name, such as \"siskin-coolant\"")
)

func newForm(pattern string, longest int, expected string) form {
	return form{pattern: regexp.MustCompile(`^(?:` + pattern + `)$`), longest: longest, expected: expected}
}

// check says whether a field's value has the form.
func (f form) check(field, value string) error {
	if len(value) > f.longest {
		return fmt.Errorf("%s %q: must be at most %d characters long", field, value, f.longest)
	}
	if !f.pattern.MatchString(value) {
		return fmt.Errorf("%s %q: must be %s", field, value, f.expected)
	}
	return nil
}

// maxCookieAge is a year in seconds; browsers keep no cookie much longer.
const maxCookieAge = 365 * 24 * 60 * 60

// maxRate bounds requests per second, and the burst, per proxy.
const maxRate = 1_000_000

// maxQuota is the largest quota: what is sent to proxies and services is a uint32.
const maxQuota = 1_000_000_000

// Validate says everything that is wrong with the traffic: each error names the field, its value and what was expected.
// Routes and the renderers need a valid value.
func (t Traffic) Validate() error {
	return errors.Join(
		subdomainForm.check("rollout", t.Rollout),
		t.Service.validate(),
		labelKeyForm.check("versionLabel", t.VersionLabel),
		validateShares(t.Shares),
		validateBuckets(t.Shares),
		validateBucketHeader(t.BucketHeader),
		t.validateCohort(),
		t.validatePreviewHosts(),
		t.Cookie.validate(),
		t.RateLimit.validate(),
		t.validateQuota(),
		t.validateLimitedGateway(),
		t.validatePortLimits(),
		validatePolicy(t.Policy),
		t.validateStreams(),
		t.validateHash(),
		t.validateTiers(),
		t.validateMirror(),
	)
}

// validateTiers checks that each tier is another service.
func (t Traffic) validateTiers() error {
	var errs []error
	for i, tier := range t.Tiers {
		field := fmt.Sprintf("tiers[%d]", i)
		errs = append(errs, labelForm.check(field+".name", tier.Name), between(field+".port", tier.Port, 1, 65535))
		if slices.Contains(t.callers(i), tier.Name) {
			errs = append(errs, fmt.Errorf("%s.name %q: must be given once, and not be service.name", field, tier.Name))
		}
	}
	if p := t.Service.Protocol; len(t.Tiers) > 0 && (p == TCP || p == TLS) {
		errs = append(errs, fmt.Errorf("tiers: may not be specified with service.protocol %q, which has no header to follow", t.Service.Protocol))
	}
	return errors.Join(errs...)
}

// maxHashed is how many variants a hash can tell apart so that growing moves units only out of stable: one at each end.
const maxHashed = 3

func (t Traffic) validateHash() error {
	if t.HashHeader == "" {
		return nil
	}
	errs := []error{headerForm.check("hashHeader", t.HashHeader)}
	if t.HashHeader == t.BucketHeader || t.HashHeader == VariantHeader || t.HashHeader == "cookie" {
		errs = append(errs, fmt.Errorf("hashHeader %q: must be a header that nothing else is read from", t.HashHeader))
	}
	if t.Cookie != nil || t.Service.Delegate {
		errs = append(errs, fmt.Errorf("hashHeader %q: may not be specified with cookie or service.delegate", t.HashHeader))
	}
	if len(t.Shares) > maxHashed {
		errs = append(errs, fmt.Errorf("hashHeader %q: may not be specified with more than %d variants, and there are %d", t.HashHeader, maxHashed, len(t.Shares)))
	}
	return errors.Join(errs...)
}

// validateStreams refuses what a service whose own port is a stream cannot have.
func (t Traffic) validateStreams() error {
	p := t.Service.Protocol
	if p != TCP && p != TLS {
		return nil
	}
	var errs []error
	if t.BucketHeader != "" || t.HashHeader != "" || t.Cookie != nil || t.RateLimit != nil {
		errs = append(errs, fmt.Errorf("service.protocol %q: may not be specified with bucketHeader, hashHeader, cookie or rateLimit, which need HTTP", p))
	}
	if t.Preview {
		errs = append(errs, fmt.Errorf("service.protocol %q: may not be specified with preview, where no connection can name a variant", p))
	}
	return errors.Join(errs...)
}

// between checks a number against its bounds, both included.
func between(field string, value, low, high int) error {
	if value < low || value > high {
		return fmt.Errorf("%s %d: must be between %d and %d", field, value, low, high)
	}
	return nil
}

func (s Service) validate() error {
	errs := []error{
		labelForm.check("service.namespace", s.Namespace),
		labelForm.check("service.name", s.Name),
		between("service.port", s.Port, 1, 65535),
		between("service.targetPort", s.TargetPort, 0, 65535),
	}
	for i, host := range s.Hosts {
		field := fmt.Sprintf("service.hosts[%d]", i)
		errs = append(errs, hostForm.check(field, host))
		if host == s.FQDN() || slices.Contains(s.Hosts[:i], host) {
			errs = append(errs, fmt.Errorf("%s %q: must be given once, and not be the service's own host", field, host))
		}
	}
	for i, gateway := range s.Gateways {
		field := fmt.Sprintf("service.gateways[%d]", i)
		errs = append(errs, gatewayForm.check(field, gateway))
		if gateway == "mesh" || slices.Contains(s.Gateways[:i], gateway) {
			errs = append(errs, fmt.Errorf("%s %q: must be given once, and not be the mesh, which is always bound", field, gateway))
		}
	}
	errs = append(errs, s.validatePorts())
	if s.Delegate && len(s.Hosts)+len(s.Gateways) > 0 {
		errs = append(errs, fmt.Errorf("service.hosts %q, service.gateways %q: may not be specified with service.delegate", s.Hosts, s.Gateways))
	}
	if len(s.Hosts) > 0 && len(s.Gateways) == 0 {
		errs = append(errs, fmt.Errorf("service.hosts %q: may not be specified without service.gateways", s.Hosts))
	}
	return errors.Join(errs...)
}

// validatePorts checks that each port is there once, and that what is delegated is HTTP.
func (s Service) validatePorts() error {
	errs := []error{s.Protocol.validate("service.protocol", s, true)}
	for i, p := range s.Ports {
		field := fmt.Sprintf("service.ports[%d]", i)
		errs = append(errs, between(field+".number", p.Number, 1, 65535), p.Protocol.validate(field+".protocol", s, false))
		if p.Number == s.Port || slices.ContainsFunc(s.Ports[:i], func(o Port) bool { return o.Number == p.Number }) {
			errs = append(errs, fmt.Errorf("%s.number %d: must be given once, and not be service.port", field, p.Number))
		}
	}
	return errors.Join(errs...)
}

func (p Protocol) validate(field string, s Service, mayBeEmpty bool) error {
	switch {
	case p == HTTP || p == "" && mayBeEmpty:
		return nil
	case p != TCP && p != TLS:
		return fmt.Errorf("%s %q: must be %q, %q or %q", field, p, HTTP, TCP, TLS)
	case s.Delegate:
		return fmt.Errorf("%s %q: must be %q with service.delegate", field, p, HTTP)
	}
	return nil
}

func validateShares(shares []Share) error {
	if len(shares) == 0 {
		return fmt.Errorf("shares []: must have at least the variant %q", Stable)
	}
	var errs []error
	if first := shares[0].Variant; first != Stable {
		errs = append(errs, fmt.Errorf("shares[0].variant %q: must be %q", first, Stable))
	}
	for i, s := range shares {
		field := fmt.Sprintf("shares[%d]", i)
		errs = append(errs,
			variantForm.check(field+".variant", string(s.Variant)),
			versionForm.check(field+".version", s.Version))
		if strings.HasPrefix(string(s.Variant), "pin-") {
			errs = append(errs, fmt.Errorf("%s.variant %q: may not begin with \"pin-\", which names routes", field, s.Variant))
		}
		if slices.ContainsFunc(shares[:i], func(o Share) bool { return o.Variant == s.Variant }) {
			errs = append(errs, fmt.Errorf("%s.variant %q: must be given once", field, s.Variant))
		}
	}
	return errors.Join(errs...)
}

// validateBuckets checks that every bucket has exactly one owner, which also makes the weights sum to 100.
func validateBuckets(shares []Share) error {
	var errs []error
	owners := map[int]Variant{}
	for i, s := range shares {
		for j, b := range s.Buckets {
			field := fmt.Sprintf("shares[%d].buckets[%d]", i, j)
			errs = append(errs, between(field, b, 0, Buckets-1))
			if j > 0 && b <= s.Buckets[j-1] {
				errs = append(errs, fmt.Errorf("%s %d: must be above %d, in ascending order", field, b, s.Buckets[j-1]))
			}
			if owner, taken := owners[b]; taken && owner != s.Variant {
				errs = append(errs, fmt.Errorf("%s %d: must have one owner, and %q has it", field, b, owner))
			}
			owners[b] = s.Variant
		}
	}
	missing := slices.DeleteFunc(allBuckets(), func(b int) bool { _, owned := owners[b]; return owned })
	if len(missing) > 0 {
		errs = append(errs, fmt.Errorf("shares: must own all %d buckets, and nobody owns %v", Buckets, missing))
	}
	return errors.Join(errs...)
}

func validateBucketHeader(header string) error {
	if header == "" {
		return nil
	}
	if header == VariantHeader || header == "cookie" {
		return fmt.Errorf("bucketHeader %q: must not be %q or %q, which have their own meaning", header, VariantHeader, "cookie")
	}
	return headerForm.check("bucketHeader", header)
}

// validatePolicy checks that a policy is an object of known fields. What is in the fields is for the data plane to say.
func validatePolicy(policy json.RawMessage) error {
	if len(policy) == 0 {
		return nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(policy, &fields); err != nil {
		return fmt.Errorf("policy %.120q: must be an object: %w", policy, err)
	}
	var errs []error
	known := []string{"connectionPool", "loadBalancer", "outlierDetection", "tls"}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("policy.%s: must be one of %q", name, known))
		}
	}
	return errors.Join(errs...)
}

func (c *Cookie) validate() error {
	if c == nil {
		return nil
	}
	return errors.Join(
		cookieForm.check("cookie.name", c.Name),
		between("cookie.maxAgeSeconds", c.MaxAgeSeconds, 1, maxCookieAge),
	)
}

func (l *RateLimit) validate() error {
	if l == nil {
		return nil
	}
	least := 1
	if l.Global != nil && l.Burst == 0 {
		least = 0 // the quota alone
	}
	errs := []error{
		between("rateLimit.requestsPerSecond", l.RequestsPerSecond, least, maxRate),
		between("rateLimit.burst", l.Burst, 0, maxRate),
		l.validatePlace(),
	}
	if l.Burst != 0 && l.Burst < l.RequestsPerSecond {
		errs = append(errs, fmt.Errorf("rateLimit.burst %d: must be 0 or at least requestsPerSecond, %d", l.Burst, l.RequestsPerSecond))
	}
	return errors.Join(errs...)
}

// validatePortLimits checks that each port is one of the service's that speaks HTTP, and is there once.
func (t Traffic) validatePortLimits() error {
	if t.RateLimit == nil {
		return nil
	}
	var errs []error
	for i, p := range t.RateLimit.Ports {
		field := fmt.Sprintf("rateLimit.ports[%d]", i)
		errs = append(errs, between(field+".requestsPerSecond", p.RequestsPerSecond, 1, maxRate), between(field+".burst", p.Burst, 0, maxRate))
		if p.Burst != 0 && p.Burst < p.RequestsPerSecond {
			errs = append(errs, fmt.Errorf("%s.burst %d: must be 0 or at least requestsPerSecond, %d", field, p.Burst, p.RequestsPerSecond))
		}
		known := p.Number == t.Service.Port || slices.Contains(t.Service.Ports, Port{p.Number, HTTP})
		if !known || slices.ContainsFunc(t.RateLimit.Ports[:i], func(o PortLimit) bool { return o.Number == p.Number }) {
			errs = append(errs, fmt.Errorf("%s.number %d: must be given once, and be a port of the service that speaks HTTP", field, p.Number))
		}
	}
	if len(t.RateLimit.Ports) > 0 && t.RateLimit.RequestsPerSecond == 0 {
		errs = append(errs, fmt.Errorf("rateLimit.ports: may not be specified without requestsPerSecond, which is for the other ports"))
	}
	return errors.Join(errs...)
}

// maxWait is the longest that a proxy may wait for the rate limit service, in milliseconds: every request waits for it.
const maxWait = 10_000

// validateQuota checks the global limit, and that a gateway can tell the service's requests from those of others.
func (t Traffic) validateQuota() error {
	if t.RateLimit == nil || t.RateLimit.Global == nil {
		return nil
	}
	g := t.RateLimit.Global
	errs := []error{
		plainHostForm.check("rateLimit.global.host", g.Host),
		between("rateLimit.global.port", g.Port, 1, 65535),
		domainForm.check("rateLimit.global.domain", t.QuotaDomain()),
		between("rateLimit.global.requests", g.Requests, 1, maxQuota),
		between("rateLimit.global.timeoutMillis", g.TimeoutMillis, 0, maxWait),
	}
	if !slices.Contains([]Unit{PerSecond, PerMinute, PerHour, PerDay}, g.Unit) {
		errs = append(errs, fmt.Errorf("rateLimit.global.unit %q: must be %q, %q, %q or %q", g.Unit, PerSecond, PerMinute, PerHour, PerDay))
	}
	if t.RateLimit.At == AtGateway && len(t.Service.Hosts) == 0 {
		errs = append(errs, fmt.Errorf("rateLimit.global: may not be specified at %q without service.hosts, which tell the service's requests there", AtGateway))
	}
	if t.RateLimit.At == AtGateway && slices.ContainsFunc(t.Service.Hosts, func(h string) bool { return strings.HasPrefix(h, "*") }) {
		errs = append(errs, fmt.Errorf("service.hosts %q: may not have a wildcard with rateLimit.global at %q, where the Gateway may name each host behind it by itself", t.Service.Hosts, AtGateway))
	}
	return errors.Join(errs...)
}

// validateLimitedGateway checks that requests come through a gateway that counts: it knows them by where the routes lead.
func (t Traffic) validateLimitedGateway() error {
	if t.RateLimit == nil || t.RateLimit.At != AtGateway || len(t.Service.Gateways) > 0 || t.Service.Delegate {
		return nil
	}
	return fmt.Errorf("rateLimit.at %q: may not be specified without service.gateways, which lead to the service", AtGateway)
}

// validatePlace checks that the proxies that count are named, in a way that the place knows.
func (l *RateLimit) validatePlace() error {
	selected, named := len(l.Selector) > 0, l.Gateway != ""
	switch l.At {
	case "", AtSidecar:
		if selected || named {
			return fmt.Errorf("rateLimit.selector %v, rateLimit.gateway %q: may not be specified at %q", l.Selector, l.Gateway, AtSidecar)
		}
	case AtGateway:
		if selected == named {
			return fmt.Errorf("rateLimit.selector %v, rateLimit.gateway %q: must be set one without the other at %q", l.Selector, l.Gateway, l.At)
		}
	case AtWaypoint:
		if selected || !named {
			return fmt.Errorf("rateLimit.selector %v, rateLimit.gateway %q: must be the gateway alone at %q", l.Selector, l.Gateway, l.At)
		}
	default:
		return fmt.Errorf("rateLimit.at %q: must be %q, %q or %q", l.At, AtSidecar, AtGateway, AtWaypoint)
	}
	if named {
		return subdomainForm.check("rateLimit.gateway", l.Gateway)
	}
	return nil
}

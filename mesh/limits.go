package mesh

import (
	"errors"
	"fmt"
	"slices"
)

// Feature is something that a Traffic can ask of a data plane. Its text completes "cannot do".
type Feature string

// The features. Every field of a Traffic that a data plane could fail to express asks for one of them.
const (
	// Split is a share of the traffic other than all or nothing.
	Split Feature = "a split by weight"
	// HeaderBuckets recognises units by a bucket in a request header, CookieBuckets by one in a cookie that it draws.
	HeaderBuckets Feature = "buckets in a header"
	CookieBuckets Feature = "buckets in a cookie"
	// Variants is more variants at once than a data plane tells apart: the arms of experiments, see Limits.Most.
	Variants Feature = "so many variants at once"
	// RateLimits bounds the requests per second.
	RateLimits Feature = "a rate limit"
	// Quotas bound the requests of all proxies together.
	Quotas Feature = "a global rate limit"
	// Exposure is further hosts that enter through gateways.
	Exposure Feature = "hosts behind gateways"
	// Policies are settings for how proxies speak to the endpoints.
	Policies Feature = "a traffic policy"
	// Delegation is routes that the user's own lead to.
	Delegation Feature = "delegated routes"
	// MorePorts is further ports, and StreamPort one that speaks TCP or TLS.
	MorePorts  Feature = "several ports"
	StreamPort Feature = "TCP and TLS ports"
	// Cohorts are requests that meet the canary whatever their bucket.
	Cohorts Feature = "a cohort"
	// Controls are the cohort's units that stay where they are.
	Controls Feature = "a cohort with a control"
	// FollowTiers is services behind that follow the variant.
	FollowTiers Feature = "tiers"
	// Pins are testers who reach a version by VariantHeader before any unit does.
	Pins Feature = "a preview by header"
	// PreviewHosts are hosts at which testers reach the canary.
	PreviewHosts Feature = "a preview by host"
	// RunVersions is running the versions itself.
	RunVersions Feature = "predictors of its own"
	// HashUnits assigns by the hash of a header.
	HashUnits Feature = "assignment by hash"
	// Mirrors are copies of requests to a version whose answers nobody sees.
	Mirrors Feature = "a mirror"
)

// Features lists all features.
func Features() []Feature {
	return []Feature{Split, HeaderBuckets, CookieBuckets, Variants, RateLimits, Quotas, Exposure, Policies, Delegation, MorePorts, StreamPort, Cohorts, Controls, FollowTiers, HashUnits, RunVersions, Pins, PreviewHosts, Mirrors}
}

// Limits say what a data plane can do, and why it cannot do the rest.
type Limits struct {
	// Plane names the data plane as spec.provider does.
	Plane string
	// Can are the features that it has. One that is not here is refused, so that a new feature is nowhere lost in silence.
	Can []Feature
	// Most is how many variants it tells apart at once; 0 means any number.
	Most int
	// Why has a sentence for every feature that is not in Can, and for Variants where there is a Most.
	Why map[Feature]string
}

// UnsupportedError says that a data plane cannot do what a traffic asks for.
type UnsupportedError struct {
	Plane   string
	Feature Feature
	Why     string
}

// Error implements error.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("provider %s cannot do %s: %s", e.Plane, e.Feature, e.Why)
}

// Check returns an UnsupportedError for each thing that the traffic asks for and the data plane cannot do, joined.
func (l Limits) Check(t Traffic) error {
	var errs []error
	for _, f := range t.asks() {
		if !slices.Contains(l.Can, f) {
			errs = append(errs, &UnsupportedError{l.Plane, f, l.Why[f]})
		}
	}
	if l.Most > 0 && len(t.Shares) > l.Most {
		errs = append(errs, &UnsupportedError{l.Plane, Variants, l.Why[Variants]})
	}
	return errors.Join(errs...)
}

// asks lists the features that the traffic needs.
func (t Traffic) asks() []Feature {
	var all []Feature
	need := func(f Feature, needed bool) {
		if needed {
			all = append(all, f)
		}
	}
	need(Split, slices.ContainsFunc(t.Shares, func(s Share) bool { return len(s.Buckets) > 0 && len(s.Buckets) < Buckets }))
	need(HeaderBuckets, t.BucketHeader != "")
	need(CookieBuckets, t.Cookie != nil)
	need(RateLimits, t.RateLimit != nil)
	need(Quotas, t.RateLimit != nil && t.RateLimit.Global != nil)
	need(Policies, len(t.Policy) > 0)
	need(Delegation, t.Service.Delegate)
	need(MorePorts, len(t.Service.Ports) > 0)
	need(StreamPort, len(Streams(t)) > 0)
	need(HashUnits, t.HashHeader != "")
	need(Pins, t.Preview)
	need(PreviewHosts, len(t.PreviewHosts) > 0)
	need(Mirrors, t.Mirror > 0)
	need(RunVersions, t.Serving != nil)
	need(Cohorts, t.Cohort != nil)
	need(Controls, t.Cohort != nil && t.Cohort.Buckets != nil)
	need(FollowTiers, len(t.Tiers) > 0)
	need(Exposure, len(t.Service.Hosts)+len(t.Service.Gateways) > 0)
	return all
}

package mesh

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLimits(t *testing.T) {
	exposed := func(t *Traffic) {
		t.Service.Hosts, t.Service.Gateways = []string{"predict.example.com"}, []string{"edge/public"}
	}
	arms := func(t *Traffic) {
		t.Shares = append(t.Shares, Share{Variant: "a", Version: "v3"}, Share{Variant: "b", Version: "v4"})
	}
	why := map[Feature]string{
		Split: "s", HeaderBuckets: "h", CookieBuckets: "c", RateLimits: "r", Quotas: "q", Exposure: "e", Policies: "p", Delegation: "d", MorePorts: "m", StreamPort: "t", FollowTiers: "f", Cohorts: "o", Controls: "l", HashUnits: "u", Pins: "n", PreviewHosts: "v", Mirrors: "i", Variants: "at most 3",
	}
	everything := Limits{Plane: "P", Can: Features()}
	nothing := Limits{Plane: "P", Why: why}
	cases := map[string]struct {
		reason string
		limits Limits
		args   func(*Traffic)
		want   []Feature
	}{
		"Everything":  {"What can do all refuses nothing.", everything, exposed, nil},
		"Nothing":     {"What can do nothing refuses all that is asked for, and no more.", nothing, nil, []Feature{Split, HeaderBuckets, CookieBuckets}},
		"AllOrNone":   {"All of the traffic on one version is no split.", nothing, func(t *Traffic) { *t = ramp(100, false, false) }, nil},
		"Rest":        {"Nor is none of it on the canary.", nothing, func(t *Traffic) { *t = ramp(0, false, false) }, nil},
		"Exposed":     {"Hosts need gateways that understand the routes.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets}, Why: why}, exposed, []Feature{Exposure}},
		"Limited":     {"A rate limit is asked for by its field.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets}, Why: why}, func(t *Traffic) { t.RateLimit = &RateLimit{RequestsPerSecond: 1} }, []Feature{RateLimits}},
		"Quota":       {"A quota is more than a limit.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets, RateLimits}, Why: why}, func(t *Traffic) { t.RateLimit = &RateLimit{Global: quota()} }, []Feature{Quotas}},
		"Policy":      {"So is a policy.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets}, Why: why}, func(t *Traffic) { t.Policy = []byte("{}") }, []Feature{Policies}},
		"Delegated":   {"Delegation is asked for by its field.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets}, Why: why}, func(t *Traffic) { t.Service.Delegate = true }, []Feature{Delegation}},
		"Ports":       {"So are ports, and what they speak.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets}, Why: why}, func(t *Traffic) { t.Service.Ports = []Port{{9000, TCP}} }, []Feature{MorePorts, StreamPort}},
		"Cohort":      {"So is a cohort.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets}, Why: why}, func(t *Traffic) { t.Cohort = &Cohort{"x-fleet", []string{"a"}, nil} }, []Feature{Cohorts}},
		"Control":     {"With a control it is more.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets, Cohorts}, Why: why}, func(t *Traffic) { t.Cohort = &Cohort{"x-fleet", []string{"a"}, []int{1}} }, []Feature{Controls}},
		"Tiers":       {"So are tiers.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets}, Why: why}, func(t *Traffic) { t.Tiers = []Tier{{"a", 80}} }, []Feature{FollowTiers}},
		"Hash":        {"So is a hash.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets}, Why: why}, func(t *Traffic) { t.HashHeader = "x-vehicle" }, []Feature{HashUnits}},
		"Mirror":      {"So is a mirror.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets}, Why: why}, func(t *Traffic) { t.Mirror = 10 }, []Feature{Mirrors}},
		"Preview":     {"Testers ask for it before there is a split.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets}, Why: why}, func(t *Traffic) { t.Preview = true }, []Feature{Pins}},
		"PreviewHost": {"So do those who know a host.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets, CookieBuckets}, Why: why}, func(t *Traffic) { t.PreviewHosts = []string{"preview.example.com"} }, []Feature{PreviewHosts}},
		"TooMany":     {"Four variants are more than three.", Limits{Plane: "P", Can: Features(), Most: 3, Why: why}, arms, []Feature{Variants}},
		"JustEnough":  {"Two are not.", Limits{Plane: "P", Can: Features(), Most: 2, Why: why}, nil, nil},
		"AnyNumber":   {"Without a bound any number will do.", everything, arms, nil},
		"CookieAlone": {"A plane that reads headers may not draw cookies.", Limits{Plane: "P", Can: []Feature{Split, HeaderBuckets}, Why: why}, nil, []Feature{CookieBuckets}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			traffic := ramp(25, true, true)
			if tc.args != nil {
				tc.args(&traffic)
			}
			if diff := cmp.Diff(tc.want, refused(t, tc.limits.Check(traffic))); diff != "" {
				t.Errorf("%s\nCheck(...): -want, +got:\n%s", tc.reason, diff)
			}
		})
	}
}

// refused lists the features of a joined error, each of which must carry its sentence.
func refused(t *testing.T, err error) []Feature {
	t.Helper()
	if err == nil {
		return nil
	}
	var all []Feature
	for _, each := range err.(interface{ Unwrap() []error }).Unwrap() {
		var no *UnsupportedError
		if !errors.As(each, &no) || no.Plane != "P" || no.Why == "" {
			t.Errorf("error %v: want an UnsupportedError of P with its sentence", each)
			continue
		}
		all = append(all, no.Feature)
	}
	return all
}

func TestUnsupportedErrorIsASentence(t *testing.T) {
	err := Limits{Plane: "Service", Why: map[Feature]string{Split: "a Service selects the pods of one version"}}.Check(ramp(25, false, false))
	const want = "provider Service cannot do a split by weight: a Service selects the pods of one version"
	if err == nil || err.Error() != want {
		t.Errorf("Check(...) = %v, want %q", err, want)
	}
}

// TestEveryFieldAsks makes whoever adds a field decide what a data plane must be able to do for it: such a field is one
// that asks looks at, or one that every data plane expresses.
func TestEveryFieldAsks(t *testing.T) {
	known := map[reflect.Type][]string{
		reflect.TypeFor[Traffic](): {"Rollout", "Service", "VersionLabel", "Shares", "BucketHeader", "Cookie", "Cohort", "HashHeader", "RateLimit", "Policy", "Tiers", "Serving", "Preview", "PreviewHosts", "Mirror"},
		reflect.TypeFor[Service](): {"Namespace", "Name", "Port", "TargetPort", "Hosts", "Gateways", "Delegate", "Protocol", "Ports"},
		reflect.TypeFor[Share]():   {"Variant", "Version", "Buckets"},
		// What follows is looked into, or goes with its feature: a plane that has it has all of it.
		reflect.TypeFor[Cohort]():      {"Header", "Values", "Buckets"},
		reflect.TypeFor[Cookie]():      {"Name", "MaxAgeSeconds"},
		reflect.TypeFor[Port]():        {"Number", "Protocol"},
		reflect.TypeFor[Tier]():        {"Name", "Port"},
		reflect.TypeFor[Serving]():     {"Predictor", "Revisions", "Tried"},
		reflect.TypeFor[RateLimit]():   {"RequestsPerSecond", "Burst", "Ports", "OnlyCanary", "At", "Selector", "Gateway", "Global"},
		reflect.TypeFor[PortLimit]():   {"Number", "RequestsPerSecond", "Burst"},
		reflect.TypeFor[GlobalLimit](): {"Host", "Port", "Domain", "Requests", "Unit", "TimeoutMillis", "Deny"},
	}
	for kind, fields := range known {
		for f := range kind.Fields() {
			if name := f.Name; !slices.Contains(fields, name) {
				t.Errorf("%s.%s: must be looked at by asks, as a Feature that not every data plane has, and be named here", kind, name)
			}
		}
	}
}

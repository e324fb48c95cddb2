package mesh

import (
	"slices"
	"strings"
	"testing"
)

// TestCohort: at any weight, the cohort meets the canary and nobody else does who would not without it; a pin still wins.
func TestCohort(t *testing.T) {
	for weight := 0; weight <= Buckets; weight += 20 {
		traffic := ramp(weight, true, true)
		traffic.Cohort = &Cohort{Header: "x-fleet", Values: []string{"works", "test"}}
		if err := traffic.Validate(); err != nil {
			t.Fatal(err)
		}
		routes := Routes(traffic)
		holds(t, weight, routes)
		for b := range Buckets {
			bucket := FormatBucket(b)
			for _, tc := range []struct {
				fleet, pin string
				want       Variant
			}{
				{"works", "", Canary}, {"test", "", Canary}, {"tests", "", owner(traffic, b)}, {"", "", owner(traffic, b)}, {"works", "stable", Stable},
			} {
				request := Request{BucketHeader: bucket, "x-fleet": tc.fleet}
				if tc.pin != "" {
					request[VariantHeader] = tc.pin
				}
				if got := chosen(t, routes, request, 0.5); got != tc.want {
					t.Fatalf("weight %d, bucket %s, fleet %q, pin %q: met %q, want %q", weight, bucket, tc.fleet, tc.pin, got, tc.want)
				}
			}
		}
	}
}

// TestCohortControl: only the cohort's own buckets meet the canary before others do; its control meets it when everybody else of
// the bucket does, by header and by cookie alike.
func TestCohortControl(t *testing.T) {
	for weight := 0; weight <= Buckets; weight += 20 {
		traffic := ramp(weight, true, true)
		traffic.Cohort = &Cohort{Header: "x-fleet", Values: []string{"works", "test"}, Buckets: []int{3, 4, 50, 99}}
		if err := traffic.Validate(); err != nil {
			t.Fatal(err)
		}
		routes := Routes(traffic)
		holds(t, weight, routes)
		for b := range Buckets {
			want := owner(traffic, b)
			if slices.Contains(traffic.Cohort.Buckets, b) {
				want = Canary
			}
			for way, request := range map[string]Request{
				"header": {BucketHeader: FormatBucket(b)}, "cookie": {"cookie": traffic.Cookie.Name + "=" + FormatBucket(b)},
			} {
				for fleet, want := range map[string]Variant{"works": want, "test": want, "": owner(traffic, b)} {
					request["x-fleet"] = fleet
					if got := chosen(t, routes, request, 0.5); got != want {
						t.Fatalf("weight %d, bucket %d in a %s, fleet %q: met %q, want %q", weight, b, way, fleet, got, want)
					}
				}
			}
		}
	}
}

// TestCohortWithoutCanary: at rest there is nothing to send a cohort to.
func TestCohortWithoutCanary(t *testing.T) {
	traffic := ramp(0, true, false)
	traffic.Shares = traffic.Shares[:1]
	traffic.Cohort = &Cohort{Header: "x-fleet", Values: []string{"works"}}
	if i := slices.IndexFunc(Routes(traffic), func(r Route) bool { return r.Name == "canary-cohort" }); i >= 0 {
		t.Error("there is a route for a cohort without a canary")
	}
}

func TestCohortValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		cohort Cohort
		change func(*Traffic)
		want   string
	}{
		"Header":   {Cohort{"X-Fleet", []string{"a"}, nil}, func(*Traffic) {}, `cohort.header "X-Fleet": must be a header name in lower case`},
		"NoValues": {Cohort{"x-fleet", nil, nil}, func(*Traffic) {}, "cohort.values: their number"},
		"Empty":    {Cohort{"x-fleet", []string{""}, nil}, func(*Traffic) {}, "cohort.values: must not be empty"},
		"Pin":      {Cohort{VariantHeader, []string{"a"}, nil}, func(*Traffic) {}, "must be a header that nothing else is read from"},
		"Bucket":   {Cohort{BucketHeader, []string{"07"}, nil}, func(*Traffic) {}, "must be a header that nothing else is read from"},
		"Order":    {Cohort{"x-fleet", []string{"a"}, []int{4, 3}}, func(*Traffic) {}, "cohort.buckets [4 3]: must be some of 0 to 99 in ascending order"},
		"NoUnits":  {Cohort{"x-fleet", []string{"a"}, []int{}}, func(*Traffic) {}, "cohort.buckets []: must be some"},
		"NoBucket": {Cohort{"x-fleet", []string{"a"}, []int{3}}, func(t *Traffic) { t.BucketHeader, t.Cookie = "", nil }, "where a header or a cookie holds a bucket"},
		"TCP": {Cohort{"x-fleet", []string{"a"}, nil}, func(t *Traffic) {
			t.Service.Protocol, t.BucketHeader, t.Cookie = TCP, "", nil
		}, `service.protocol "TCP": may not be specified with cohort`},
	} {
		t.Run(name, func(t *testing.T) {
			traffic := ramp(5, true, true)
			traffic.Cohort = &tc.cohort
			tc.change(&traffic)
			if err := traffic.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

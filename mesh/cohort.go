package mesh

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Cohort are the requests that meet the canary before others do: those with one of the values in a header.
type Cohort struct {
	Header string
	Values []string
	// Buckets are those of the cohort's units that meet it so, in ascending order; nil for all units, and for requests without a
	// bucket. The rest of the cohort is treated as everybody else.
	Buckets []int
}

// cohort sends them to the canary; there is no such route without one.
func cohort(t Traffic) []Route {
	canary, there := t.Canary()
	if t.Cohort == nil || !there {
		return nil
	}
	r := Route{Name: "canary-cohort", Destinations: []Destination{destination(canary, Buckets)}}
	units := []Match{{}}
	if t.Cohort.Buckets != nil {
		units = bucketMatches(t, t.Cohort.Buckets)
	}
	for _, v := range t.Cohort.Values {
		for _, m := range units {
			headers := map[string]StringMatch{t.Cohort.Header: {Exact: v}}
			maps.Copy(headers, m.Headers)
			r.Matches = append(r.Matches, Match{Headers: headers, Without: m.Without})
		}
	}
	return []Route{r}
}

// maxCohort is how many values a cohort may have: each is a match of a route.
const maxCohort = 16

func (t Traffic) validateCohort() error {
	c := t.Cohort
	if c == nil {
		return nil
	}
	errs := []error{headerForm.check("cohort.header", c.Header), between("cohort.values: their number", len(c.Values), 1, maxCohort)}
	if slices.Contains([]string{VariantHeader, t.BucketHeader, "cookie"}, c.Header) {
		errs = append(errs, fmt.Errorf("cohort.header %q: must be a header that nothing else is read from", c.Header))
	}
	if slices.Contains(c.Values, "") {
		errs = append(errs, errors.New("cohort.values: must not be empty"))
	}
	if c.Buckets != nil && ((t.BucketHeader == "" && t.Cookie == nil) || !ascending(c.Buckets)) {
		errs = append(errs, fmt.Errorf("cohort.buckets %v: must be some of 0 to 99 in ascending order, where a header or a cookie holds a bucket", c.Buckets))
	}
	if p := t.Service.Protocol; p == TCP || p == TLS {
		errs = append(errs, fmt.Errorf("service.protocol %q: may not be specified with cohort, which needs HTTP", p))
	}
	return errors.Join(errs...)
}

// ascending says whether there are buckets, each once and in order.
func ascending(buckets []int) bool {
	for i, b := range buckets {
		if b < 0 || b >= Buckets || (i > 0 && buckets[i-1] >= b) {
			return false
		}
	}
	return len(buckets) > 0
}

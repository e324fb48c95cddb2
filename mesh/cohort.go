package mesh

import (
	"errors"
	"fmt"
	"slices"
)

// Cohort are the requests that meet the canary whatever their bucket: those with one of the values in a header.
type Cohort struct {
	Header string
	Values []string
}

// cohort sends them to the canary; there is no such route without one.
func cohort(t Traffic) []Route {
	i := canaryOf(t)
	if t.Cohort == nil || i < 0 {
		return nil
	}
	r := Route{Name: "canary-cohort", Destinations: []Destination{destination(t.Shares[i], Buckets)}}
	for _, v := range t.Cohort.Values {
		r.Matches = append(r.Matches, Match{Headers: map[string]StringMatch{t.Cohort.Header: {Exact: v}}})
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
	if p := t.Service.Protocol; p == TCP || p == TLS {
		errs = append(errs, fmt.Errorf("service.protocol %q: may not be specified with cohort, which needs HTTP", p))
	}
	return errors.Join(errs...)
}

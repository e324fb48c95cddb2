package mesh

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// ramp is the traffic at a weight: the canary owns the first weight buckets of an order seeded as a run's would be.
func ramp(weight int, header bool, cookie bool) Traffic {
	order := rand.New(rand.NewPCG(7, 11)).Perm(Buckets)
	canary, stable := slices.Clone(order[:weight]), slices.Clone(order[weight:])
	slices.Sort(canary)
	slices.Sort(stable)
	t := Traffic{
		Rollout:      "coolant",
		Service:      Service{Namespace: "edge", Name: "coolant", Port: 8080},
		VersionLabel: "version",
		Shares: []Share{
			{Variant: Stable, Version: "v1", Buckets: stable},
			{Variant: Canary, Version: "v2", Buckets: canary},
		},
	}
	if header {
		t.BucketHeader = BucketHeader
	}
	if cookie {
		t.Cookie = &Cookie{Name: "siskin-coolant", MaxAgeSeconds: 86400}
	}
	return t
}

// owner is the variant that owns a bucket.
func owner(t Traffic, bucket int) Variant {
	for _, s := range t.Shares {
		if slices.Contains(s.Buckets, bucket) {
			return s.Variant
		}
	}
	return ""
}

// chosen is the variant that a request meets.
func chosen(t *testing.T, routes []Route, req Request, draw float64) Variant {
	t.Helper()
	d, ok := Choose(routes, req, draw)
	if !ok {
		t.Fatalf("Choose(%v, %v): no route", req, draw)
	}
	return d.Variant
}

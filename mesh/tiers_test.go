package mesh

import "testing"

// chain is a ramp with two tiers.
func chain(weight int) Traffic {
	t := ramp(weight, true, false)
	t.Tiers = []Tier{{"app-service", 8080}, {"model-service", 9090}}
	return t
}

// TestTierRoutesHold checks the promises of any list of routes, and that no route has two versions: no retry crosses.
func TestTierRoutesHold(t *testing.T) {
	for _, weight := range []int{0, 1, 25, 100} {
		traffic := chain(weight)
		if err := traffic.Validate(); err != nil {
			t.Fatal(err)
		}
		for i := range traffic.Tiers {
			routes := TierRoutes(traffic, i)
			holds(t, weight, routes)
			for _, r := range routes {
				if len(r.Destinations) != 1 {
					t.Errorf("weight %d: route %q of tier %d has %d destinations, want one", weight, r.Name, i, len(r.Destinations))
				}
			}
		}
	}
}

// TestOneVersionThroughAllTiers sends every bucket in at the front: each tier answers with the version of the first service,
// whether callers pass the header on or not.
func TestOneVersionThroughAllTiers(t *testing.T) {
	for _, weight := range []int{0, 5, 50, 100} {
		traffic := chain(weight)
		for b := range Buckets {
			first, _ := Choose(Routes(traffic), Request{BucketHeader: FormatBucket(b)}, 0)
			for _, passes := range []bool{true, false} {
				at, app := first, traffic.Service.Name
				for i, tier := range traffic.Tiers {
					req := Request{}
					if passes {
						req[VariantHeader] = at.SetRequest[VariantHeader]
					}
					caller := Caller{Labels: map[string]string{"app": app, "version": at.Version}}
					next, ok := caller.Choose(TierRoutes(traffic, i), req, 0)
					if !ok || next.Version != first.Version || next.SetRequest[VariantHeader] != string(first.Variant) {
						t.Fatalf("weight %d, bucket %d, header passed on: %t: %s answers with %+v, want %s", weight, b, passes, tier.Name, next, first.Version)
					}
					at, app = next, tier.Name
				}
			}
		}
	}
}

func TestTierCallers(t *testing.T) {
	pod := func(app, version string) Caller {
		return Caller{Labels: map[string]string{"app": app, "version": version}}
	}
	cases := map[string]struct {
		reason  string
		caller  Caller
		header  string
		tier    int
		leaving []string
		want    string
		shown   string
	}{
		"Nobody":        {"Who comes from elsewhere meets stable.", Caller{}, "", 1, nil, "v1", "stable"},
		"Stranger":      {"A pod of another service is no canary for carrying the version.", pod("billing", "v2"), "", 0, nil, "v1", "stable"},
		"Frontend":      {"The first service calls every tier.", pod("coolant", "v2"), "", 1, nil, "v2", "canary"},
		"Tier":          {"So does a tier before.", pod("app-service", "v2"), "", 1, nil, "v2", "canary"},
		"Behind":        {"A tier behind does not: requests go one way.", pod("model-service", "v2"), "", 0, nil, "v1", "stable"},
		"Header":        {"The header is the request's own; the caller may serve both.", pod("coolant", "v1"), "canary", 0, nil, "v2", "canary"},
		"UnknownHeader": {"A variant that is gone says nothing, and the caller's version is all there is.", pod("coolant", "v2"), "old", 0, nil, "v2", "canary"},
		"Leaving":       {"A pod of a version that leaves stays within it, as no variant.", pod("coolant", "v0"), "", 0, []string{"v0"}, "v0", ""},
		"Left":          {"Once it has left, its pods meet stable.", pod("coolant", "v0"), "", 0, nil, "v1", "stable"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			req := Request{}
			if tc.header != "" {
				req[VariantHeader] = tc.header
			}
			got, ok := tc.caller.Choose(TierRoutes(chain(25), tc.tier, tc.leaving...), req, 0)
			if !ok || got.Version != tc.want || got.SetRequest[VariantHeader] != tc.shown {
				t.Errorf("%s\nChoose(...) = %+v, %t, want %s as %q", tc.reason, got, ok, tc.want, tc.shown)
			}
		})
	}
}

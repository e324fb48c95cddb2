package gatewayapi

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
	"github.com/siskin-dev/siskin/mesh"
)

var update = flag.Bool("update", false, "write the golden outputs anew")

func render(t *testing.T, traffic mesh.Traffic) mesh.Object {
	t.Helper()
	route, err := Render(traffic)
	if err != nil {
		t.Fatal(err)
	}
	return route
}

func TestGolden(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, path string, traffic mesh.Traffic) {
		meshtest.Golden(t, path, *update, render(t, traffic))
	})
}

func TestLimits(t *testing.T) { meshtest.Complete(t, Limits()) }

// TestAPIServerTakesIt writes every route to an API server with the HTTPRoute of the Gateway API.
func TestAPIServerTakesIt(t *testing.T) {
	crd, err := os.ReadFile("testdata/crds/httproute.yaml")
	if err != nil {
		t.Fatal(err)
	}
	api := meshtest.NewAPI(t, kubetest.Start(t, crd))
	meshtest.Each(t, func(t *testing.T, _ string, traffic mesh.Traffic) {
		route := render(t, traffic)
		if _, err := api.Apply(t, route); err != nil {
			t.Error(err)
		}
		// The check above can fail: by an unknown field, by a bound, and by a rule of the schema.
		for name, spoil := range map[string]func(rule map[string]any){
			"Unknown": func(r map[string]any) { r["retries"] = int64(0) },
			"Bound":   func(r map[string]any) { r["name"] = "No Label" },
			"Rule":    func(r map[string]any) { r["filters"] = []any{map[string]any{"type": "RequestHeaderModifier"}} },
		} {
			bad := render(t, traffic)
			spoil(bad["spec"].(map[string]any)["rules"].([]any)[0].(map[string]any))
			if _, err := api.Apply(t, bad); err == nil {
				t.Errorf("%s: the API server took a bad route", name)
			}
		}
	})
}

// TestRefuses holds that what an HTTPRoute cannot do is an error that says so, and nothing is rendered.
func TestRefuses(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   func(*mesh.Traffic)
		want   mesh.Feature
	}{
		"Cookie":    {"Buckets are drawn from 100 destinations.", func(t *mesh.Traffic) { t.Cookie = &mesh.Cookie{Name: "c", MaxAgeSeconds: 1} }, mesh.CookieBuckets},
		"RateLimit": {"Nobody would limit.", func(t *mesh.Traffic) { t.RateLimit = &mesh.RateLimit{RequestsPerSecond: 1} }, mesh.RateLimits},
		"EightArms": {"The rules are too few.", func(t *mesh.Traffic) {
			for i := range 6 {
				t.Shares = append(t.Shares, mesh.Share{Variant: mesh.Variant(fmt.Sprintf("arm-%d", i)), Version: "v3"})
			}
		}, mesh.Variants},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			traffic := meshtest.Read(t, "testdata/header-25.in.yaml")
			tc.args(&traffic)
			route, err := Render(traffic)
			var no *mesh.UnsupportedError
			if !errors.As(err, &no) || no.Feature != tc.want || route != nil {
				t.Errorf("%s\nRender(...) = %v, %v; want an UnsupportedError of %q", tc.reason, route, err, tc.want)
			}
		})
	}
}

func TestInvalidTraffic(t *testing.T) {
	if _, err := Render(mesh.Traffic{Rollout: "coolant"}); err == nil || !strings.Contains(err.Error(), `rollout "coolant"`) {
		t.Errorf("Render of an invalid traffic: %v, want an error that names the rollout", err)
	}
}

// TestSameAsTheOracle reads the routes as the Gateway API says, and compares every bucket, pin and draw with what
// mesh.Choose says of the traffic.
func TestSameAsTheOracle(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, _ string, traffic mesh.Traffic) {
		route, routes := render(t, traffic), mesh.Routes(traffic)
		for _, bucket := range append(everyBucket(), "", "7", "100", "07,08") {
			for _, pin := range []string{"", "stable", "canary", "a", "f", "nobody"} {
				for _, draw := range []float64{0, 0.05, 0.2499, 0.5, 0.7501, 0.99} {
					req := mesh.Request{}
					if bucket != "" {
						req[mesh.BucketHeader] = bucket
					}
					if pin != "" {
						req[mesh.VariantHeader] = pin
					}
					want, _ := mesh.Choose(routes, req, draw)
					if got := choose(route, req, draw); got != traffic.Service.Of(want.Version)+" "+string(want.Variant) {
						t.Fatalf("request %v, draw %g: got %q, want version %q, variant %q", req, draw, got, want.Version, want.Variant)
					}
				}
			}
		}
	})
}

func everyBucket() []string {
	var all []string
	for b := range mesh.Buckets {
		all = append(all, mesh.FormatBucket(b))
	}
	return all
}

// choose is the backend that a request meets and the variant that it is told: of the rules that match, the one whose
// match has the most header conditions, and the first of equals.
func choose(route mesh.Object, req mesh.Request, draw float64) string {
	var chosen map[string]any
	most := -1
	for _, each := range route["spec"].(map[string]any)["rules"].([]any) {
		r := each.(map[string]any)
		for _, m := range r["matches"].([]any) {
			conditions, _ := m.(map[string]any)["headers"].([]any)
			if len(conditions) > most && holds(conditions, req) {
				chosen, most = r, len(conditions)
			}
		}
	}
	if chosen == nil {
		return ""
	}
	backends := chosen["backendRefs"].([]any)
	total, edge := int64(0), int64(0)
	for _, b := range backends {
		total += b.(map[string]any)["weight"].(int64)
	}
	for _, each := range backends {
		b := each.(map[string]any)
		if edge += b["weight"].(int64); draw*float64(total) < float64(edge) {
			return b["name"].(string) + " " + told(chosen, b)
		}
	}
	return ""
}

func holds(conditions []any, req mesh.Request) bool {
	for _, each := range conditions {
		c := each.(map[string]any)
		value, present := req[c["name"].(string)]
		switch want := c["value"].(string); {
		case !present:
			return false
		case c["type"] == "RegularExpression" && !regexp.MustCompile(`^(?:`+want+`)$`).MatchString(value):
			return false
		case c["type"] == "Exact" && value != want:
			return false
		}
	}
	return true
}

// told is the variant that the request carries on, which must be the one that the response names.
func told(rule, backend map[string]any) string {
	filters, ok := backend["filters"].([]any)
	if !ok {
		filters = rule["filters"].([]any)
	}
	var told []string
	for _, each := range filters {
		f := each.(map[string]any)
		for _, kind := range []string{"requestHeaderModifier", "responseHeaderModifier"} {
			if m, ok := f[kind].(map[string]any); ok {
				set := m["set"].([]any)[0].(map[string]any)
				told = append(told, set["name"].(string)+"="+set["value"].(string))
			}
		}
	}
	if len(told) != 2 || told[0] != told[1] {
		return strings.Join(told, " ")
	}
	return strings.TrimPrefix(told[0], mesh.VariantHeader+"=")
}

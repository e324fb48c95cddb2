package nginx

import (
	"errors"
	"flag"
	"regexp"
	"strconv"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
	"github.com/siskin-dev/siskin/mesh"
)

var update = flag.Bool("update", false, "write the golden outputs anew")

func render(t *testing.T, traffic mesh.Traffic) Ingresses {
	t.Helper()
	out, err := Render(traffic)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGolden(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, path string, traffic mesh.Traffic) {
		out := render(t, traffic)
		meshtest.Golden(t, path, *update, out.Main, out.Canary)
	})
}

func TestLimits(t *testing.T) { meshtest.Complete(t, Limits()) }

// typed reads an Ingress with Kubernetes' own type, which knows every field and no other.
func typed(t *testing.T, o mesh.Object) networkingv1.Ingress {
	t.Helper()
	data, err := yaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var out networkingv1.Ingress
	if err := yaml.UnmarshalStrict(data, &out); err != nil {
		t.Fatalf("reading an Ingress: %v", err)
	}
	return out
}

// meets is the Service that a request meets, as the ingress controller decides: the canary's header first, whose pattern
// matches anywhere in the value, then its weight.
func meets(t *testing.T, main, canary networkingv1.Ingress, req mesh.Request, draw int) string {
	t.Helper()
	get := func(name string) string { return canary.Annotations["nginx.ingress.kubernetes.io/"+name] }
	service := func(i networkingv1.Ingress) string { return i.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Name }
	if get("canary") != "true" {
		t.Fatal("the canary's Ingress is no canary")
	}
	if value, sent := req[get("canary-by-header")]; sent {
		if v, p := get("canary-by-header-value"), get("canary-by-header-pattern"); v != "" && v == value || p != "" && regexp.MustCompile(p).MatchString(value) {
			return service(canary)
		}
	}
	weight, err := strconv.Atoi(get("canary-weight"))
	if err != nil {
		t.Fatal(err)
	}
	if draw <= weight {
		return service(canary)
	}
	return service(main)
}

// TestExposure: with buckets exactly those of the canary meet it, whatever is drawn; without them the draw decides.
func TestExposure(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, _ string, traffic mesh.Traffic) {
		out := render(t, traffic)
		main, canary := typed(t, out.Main), typed(t, out.Canary)
		size := 0
		if len(traffic.Shares) > 1 {
			size = len(traffic.Shares[1].Buckets)
		}
		for draw := 1; draw <= 100; draw++ {
			for b := range mesh.Buckets {
				req := mesh.Request{mesh.BucketHeader: mesh.FormatBucket(b)}
				want, _ := mesh.Choose(mesh.Routes(traffic), req, 0)
				if traffic.BucketHeader == "" && draw <= size {
					want.Version = traffic.Shares[1].Version
				} else if traffic.BucketHeader == "" {
					want.Version = traffic.Shares[0].Version
				}
				if got := meets(t, main, canary, req, draw); got != traffic.Service.Of(want.Version) {
					t.Fatalf("bucket %d, draw %d: met %q, want version %q", b, draw, got, want.Version)
				}
			}
		}
		for _, no := range []string{"7", "107", "07,08", ""} {
			if got := meets(t, main, canary, mesh.Request{mesh.BucketHeader: no}, 100); got != traffic.Service.Of(traffic.Shares[0].Version) {
				t.Errorf("header %q is no bucket, and met %q", no, got)
			}
		}
	})
}

// TestEverybody: all buckets are all requests, with and without a header.
func TestEverybody(t *testing.T) {
	traffic := meshtest.Read(t, "testdata/header-25.in.yaml")
	traffic.Shares[1].Buckets, traffic.Shares[0].Buckets = append(traffic.Shares[1].Buckets, traffic.Shares[0].Buckets...), nil
	traffic.Shares[1].Buckets = nil
	for b := range mesh.Buckets {
		traffic.Shares[1].Buckets = append(traffic.Shares[1].Buckets, b)
	}
	out := render(t, traffic)
	if got := meets(t, typed(t, out.Main), typed(t, out.Canary), mesh.Request{}, 100); got != "coolant-v2-pods" {
		t.Errorf("at weight 100 a request without a bucket met %q", got)
	}
}

// TestPin: where units are not recognised, a tester reaches the canary by the variant header.
func TestPin(t *testing.T) {
	out := render(t, meshtest.Read(t, "testdata/none-5.in.yaml"))
	if got := meets(t, typed(t, out.Main), typed(t, out.Canary), mesh.Request{mesh.VariantHeader: "canary"}, 100); got != "coolant-v2-pods" {
		t.Errorf("a pinned request met %q", got)
	}
}

func TestRefuses(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   func(*mesh.Traffic)
		want   mesh.Feature
	}{
		"Cookie":    {"The cookie holds no bucket.", func(t *mesh.Traffic) { t.Cookie = &mesh.Cookie{Name: "c", MaxAgeSeconds: 1} }, mesh.CookieBuckets},
		"RateLimit": {"A limit would hold for all variants together.", func(t *mesh.Traffic) { t.RateLimit = &mesh.RateLimit{RequestsPerSecond: 1} }, mesh.RateLimits},
		"Arms":      {"There is one canary.", func(t *mesh.Traffic) { t.Shares = append(t.Shares, mesh.Share{Variant: "a", Version: "v3"}) }, mesh.Variants},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			traffic := meshtest.Read(t, "testdata/header-25.in.yaml")
			tc.args(&traffic)
			_, err := Render(traffic)
			var no *mesh.UnsupportedError
			if !errors.As(err, &no) || no.Feature != tc.want {
				t.Errorf("%s\nRender(...): %v; want an UnsupportedError of %q", tc.reason, err, tc.want)
			}
		})
	}
}

func TestNeedsHostsAndClass(t *testing.T) {
	for name, spoil := range map[string]func(*mesh.Traffic){
		"Nothing":    func(t *mesh.Traffic) { t.Service.Hosts, t.Service.Gateways = nil, nil },
		"NoHosts":    func(t *mesh.Traffic) { t.Service.Hosts = nil },
		"TwoClasses": func(t *mesh.Traffic) { t.Service.Gateways = []string{"a", "b"} },
	} {
		traffic := meshtest.Read(t, "testdata/header-25.in.yaml")
		spoil(&traffic)
		if _, err := Render(traffic); err == nil || !strings.Contains(err.Error(), "ingress class") {
			t.Errorf("%s: Render(...): %v, want an error about the ingress class", name, err)
		}
	}
	if _, err := Render(mesh.Traffic{Rollout: "coolant"}); err == nil {
		t.Error("an invalid traffic was rendered")
	}
}

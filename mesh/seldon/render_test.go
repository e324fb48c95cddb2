package seldon

import (
	"errors"
	"flag"
	"os"
	"testing"

	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
	"github.com/siskin-dev/siskin/mesh"
)

var update = flag.Bool("update", false, "write the golden outputs anew")

func render(t *testing.T, traffic mesh.Traffic) mesh.Object {
	t.Helper()
	o, err := Render(traffic)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestGolden(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, path string, traffic mesh.Traffic) {
		meshtest.Golden(t, path, *update, render(t, traffic))
	})
}

func TestLimits(t *testing.T) { meshtest.Complete(t, Limits()) }

// TestWeights: each version has as many of 100 as its variants have buckets, and is there once.
func TestWeights(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, _ string, traffic mesh.Traffic) {
		want := map[string]int64{}
		for _, s := range traffic.Shares {
			want[Model(traffic.Service, s.Version)] += int64(len(s.Buckets))
		}
		total := int64(0)
		seen := map[string]bool{}
		for _, each := range render(t, traffic)["spec"].(map[string]any)["candidates"].([]any) {
			c := each.(map[string]any)
			name, weight := c["name"].(string), c["weight"].(int64)
			if weight != want[name] || weight == 0 || seen[name] {
				t.Errorf("candidate %q has weight %d, want %d, once and not 0", name, weight, want[name])
			}
			seen[name] = true
			total += weight
		}
		if total != mesh.Buckets {
			t.Errorf("the weights sum to %d", total)
		}
	})
}

// TestAPIServerTakesIt writes every Experiment to an API server with a schema of the fields of Seldon's, which also refuses.
func TestAPIServerTakesIt(t *testing.T) {
	crd, err := os.ReadFile("testdata/crds/experiment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	api := meshtest.NewAPI(t, kubetest.Start(t, crd))
	meshtest.Each(t, func(t *testing.T, _ string, traffic mesh.Traffic) {
		if _, err := api.Apply(t, render(t, traffic)); err != nil {
			t.Error(err)
		}
		bad := render(t, traffic)
		bad["spec"].(map[string]any)["shares"] = "x"
		if _, err := api.Apply(t, bad); err == nil {
			t.Error("the API server took an unknown field")
		}
	})
}

func TestRefuses(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   func(*mesh.Traffic)
		want   mesh.Feature
	}{
		"Header": {"Nobody reads it.", func(t *mesh.Traffic) { t.BucketHeader = mesh.BucketHeader }, mesh.HeaderBuckets},
		"Cookie": {"Nobody sets it.", func(t *mesh.Traffic) { t.Cookie = &mesh.Cookie{Name: "c", MaxAgeSeconds: 1} }, mesh.CookieBuckets},
		"Limit":  {"Nobody limits.", func(t *mesh.Traffic) { t.RateLimit = &mesh.RateLimit{RequestsPerSecond: 1} }, mesh.RateLimits},
		"Hosts": {"There is one gateway.", func(t *mesh.Traffic) {
			t.Service.Hosts, t.Service.Gateways = []string{"a.b"}, []string{"g"}
		}, mesh.Exposure},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			traffic := meshtest.Read(t, "testdata/weight-25.in.yaml")
			tc.args(&traffic)
			_, err := Render(traffic)
			var no *mesh.UnsupportedError
			if !errors.As(err, &no) || no.Feature != tc.want {
				t.Errorf("%s\nRender(...): %v; want an UnsupportedError of %q", tc.reason, err, tc.want)
			}
		})
	}
	if _, err := Render(mesh.Traffic{Rollout: "coolant"}); err == nil {
		t.Error("an invalid traffic was rendered")
	}
}

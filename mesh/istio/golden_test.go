package istio

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/mesh"
)

var update = flag.Bool("update", false, "write the golden outputs anew")

// readTraffic reads a Traffic from YAML, with the field names in lower camel case. A stable share without a list of
// buckets owns the rest.
func readTraffic(t testing.TB, path string) mesh.Traffic {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var traffic mesh.Traffic
	if err := yaml.UnmarshalStrict(data, &traffic); err != nil {
		t.Fatalf("reading %s: %v", path, err)
	}
	if traffic.Shares[0].Buckets == nil {
		traffic.Shares[0].Buckets = rest(traffic.Shares[1:])
	}
	return traffic
}

func rest(taken []mesh.Share) []int {
	var buckets []int
	for b := range mesh.Buckets {
		if !slices.ContainsFunc(taken, func(s mesh.Share) bool { return slices.Contains(s.Buckets, b) }) {
			buckets = append(buckets, b)
		}
	}
	return buckets
}

// applied is every object that is written for the traffic, in the order in which they are applied.
func applied(t testing.TB, o Objects) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	add := func(u *unstructured.Unstructured, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, u)
	}
	add(Unstructured(o.DestinationRule))
	add(Unstructured(o.VirtualService))
	if o.Hash != nil {
		add(Unstructured(o.Hash))
	}
	for _, tier := range o.Tiers {
		add(Unstructured(tier.DestinationRule))
		add(Unstructured(tier.VirtualService))
	}
	if o.EnvoyFilter != nil {
		add(Unstructured(o.EnvoyFilter))
	}
	return out
}

// eachGolden runs a test on every input of testdata.
func eachGolden(t *testing.T, test func(t *testing.T, path string, traffic mesh.Traffic)) {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("finding testdata: %d files, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".in.yaml"), func(t *testing.T) {
			test(t, path, readTraffic(t, path))
		})
	}
}

func render(t testing.TB, traffic mesh.Traffic) Objects {
	t.Helper()
	o, err := Render(traffic)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestGolden(t *testing.T) {
	eachGolden(t, func(t *testing.T, path string, traffic mesh.Traffic) {
		var documents [][]byte
		for _, u := range applied(t, render(t, traffic)) {
			data, err := yaml.Marshal(u.Object)
			if err != nil {
				t.Fatal(err)
			}
			documents = append(documents, data)
		}
		got := bytes.Join(documents, []byte("---\n"))
		golden := strings.TrimSuffix(path, ".in.yaml") + ".out.yaml"
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("Render: -want %s, +got (run with -update when it is meant):\n%s", golden, diff)
		}
	})
}

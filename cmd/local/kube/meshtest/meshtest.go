// Package meshtest holds what the data planes of package mesh write to golden files, and to the schemas that an API
// server has for it. It is for tests.
package meshtest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/cmd/local/kube"
	"github.com/siskin-dev/siskin/mesh"
)

// Read reads a Traffic from YAML, with the field names in lower camel case. A stable share without a list of buckets owns
// the rest.
func Read(t testing.TB, path string) mesh.Traffic {
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

// Each runs a test on every testdata/*.in.yaml.
func Each(t *testing.T, test func(t *testing.T, path string, traffic mesh.Traffic)) {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("finding testdata: %d files, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".in.yaml"), func(t *testing.T) { test(t, path, Read(t, path)) })
	}
}

// Golden compares the objects with the golden file beside the input; update writes it anew.
func Golden(t *testing.T, path string, update bool, objects ...mesh.Object) {
	t.Helper()
	var documents [][]byte
	for _, o := range objects {
		data, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, data)
	}
	got := bytes.Join(documents, []byte("---\n"))
	golden := strings.TrimSuffix(path, ".in.yaml") + ".out.yaml"
	if update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("-want %s, +got (run with -update when it is meant):\n%s", golden, diff)
	}
}

// Complete checks that every feature which the data plane lacks has its sentence, and that none has one for nothing.
func Complete(t *testing.T, l mesh.Limits) {
	t.Helper()
	if l.Plane == "" {
		t.Error("the data plane has no name")
	}
	for _, f := range mesh.Features() {
		able := slices.Contains(l.Can, f) && (f != mesh.Variants || l.Most == 0)
		if able != (l.Why[f] == "") {
			t.Errorf("%s: able to do %s: %t, with the sentence %q", l.Plane, f, able, l.Why[f])
		}
	}
}

// API is a client that writes to an API server as the controller does: by server-side apply, which refuses unknown
// fields.
type API struct{ client.Client }

// NewAPI returns a client of the server.
func NewAPI(t testing.TB, s *kube.API) API {
	t.Helper()
	c, err := client.New(s.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return API{c}
}

// Apply writes an object and returns what the server made of it.
func (a API) Apply(t testing.TB, o mesh.Object) (*unstructured.Unstructured, error) {
	t.Helper()
	u := (&unstructured.Unstructured{Object: o}).DeepCopy() // fails on numbers that JSON does not know
	return u, a.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("siskin"), client.ForceOwnership)
}

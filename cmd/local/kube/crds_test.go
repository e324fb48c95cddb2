package kube_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// TestIstioCRDsEqualModule holds the trimmed copy to the file of the module it was taken from.
func TestIstioCRDsEqualModule(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api").Output()
	if err != nil {
		t.Fatalf("finding module istio.io/api: %v", err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "kubernetes", "customresourcedefinitions.gen.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	theirs := documents(source)
	var names []string
	ours, err := os.ReadFile(filepath.Join("crds", "istio.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range documents(ours)[1:] { // the first one is the comment about where they come from
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(doc, &crd); err != nil {
			t.Fatal(err)
		}
		names = append(names, crd.Spec.Names.Kind)
		if !slices.ContainsFunc(theirs, func(d []byte) bool { return bytes.Equal(d, doc) }) {
			t.Errorf("%s differs from the module's definition: copy it again", crd.Name)
		}
	}
	slices.Sort(names)
	want := []string{"DestinationRule", "EnvoyFilter", "Gateway", "ServiceEntry", "VirtualService", "WorkloadEntry"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}

func documents(data []byte) [][]byte {
	docs := bytes.Split(data, []byte("\n---\n"))
	for i := range docs {
		docs[i] = bytes.TrimSpace(docs[i])
	}
	return docs
}

package lint_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/cmd/rollout/lint"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func newLinter(tb testing.TB) *lint.Linter {
	tb.Helper()
	l, err := lint.New(charts.RolloutCRD, charts.ExperimentCRD)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func inputs(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("finding inputs: %v, %v", files, err)
	}
	return files
}

func TestLint(t *testing.T) {
	l := newLinter(t)
	for _, in := range inputs(t) {
		t.Run(filepath.Base(in), func(t *testing.T) {
			var b strings.Builder
			r := l.Lint(t.Context(), read(t, in))
			for _, f := range r.Findings {
				fmt.Fprintf(&b, "%d: %s: %s: %s\n", f.Line, f.Level, f.Field, f.Message)
			}
			fmt.Fprintf(&b, "rollouts: %d, experiments: %d\n", r.Rollouts, r.Experiments)
			golden := strings.TrimSuffix(in, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(read(t, golden)), b.String()); diff != "" {
				t.Errorf("findings differ (-want +got):\n%s", diff)
			}
		})
	}
}

// TestExamples: the manifests that the documents show are free of errors and need no advice.
func TestExamples(t *testing.T) {
	for path, want := range map[string]string{
		"../../../README.md":         "1 rollouts, 0 experiments",
		"../../../rollout/DESIGN.md": "0 rollouts, 1 experiments",
	} {
		_, manifest, _ := strings.Cut(string(read(t, path)), "<<'EOF'\n")
		manifest, _, _ = strings.Cut(manifest, "\nEOF\n")
		r := newLinter(t).Lint(t.Context(), []byte(manifest))
		for _, f := range r.Findings {
			t.Errorf("%s, line %d of the manifest: %s: %s: %s", path, f.Line, f.Level, f.Field, f.Message)
		}
		if got := fmt.Sprintf("%d rollouts, %d experiments", r.Rollouts, r.Experiments); got != want {
			t.Errorf("%s shows %s, want %s", path, got, want)
		}
	}
}

// TestAgreesWithServer creates every document of the inputs on a real API: lint must find an error in exactly those that
// the server refuses, but for the one file of errors that only the controller would find.
func TestAgreesWithServer(t *testing.T) {
	api := kubetest.Start(t, charts.RolloutCRD, charts.ExperimentCRD)
	c, err := client.New(api.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	strict := client.WithFieldValidation(c, "Strict")
	l := newLinter(t)
	compared := 0
	for _, in := range inputs(t) {
		if filepath.Base(in) == "mesh.yaml" {
			continue
		}
		for i, doc := range strings.Split(string(read(t, in)), "\n---\n") {
			report := l.Lint(t.Context(), []byte(doc))
			u := &unstructured.Unstructured{}
			if report.Rollouts+report.Experiments == 0 || yaml.Unmarshal([]byte(doc), &u.Object) != nil {
				continue // not ours, or not YAML: it never reaches the server
			}
			u.SetNamespace(fmt.Sprintf("doc-%d", i))
			u.SetName(u.GetName() + "-" + strings.TrimSuffix(filepath.Base(in), ".yaml"))
			refused := strict.Create(t.Context(), u)
			found := false
			for _, f := range report.Findings {
				found = found || f.Level == lint.Error
			}
			if found != (refused != nil) {
				t.Errorf("%s, document %d: lint found errors: %v; the server says: %v", in, i, found, refused)
			}
			compared++
		}
	}
	if compared < 7 {
		t.Errorf("compared %d documents, want at least 7", compared)
	}
}

func TestNewRefusesOtherCRDs(t *testing.T) {
	for name, crd := range map[string]string{
		"NotYAML":     "{",
		"Unknown":     "kind: CustomResourceDefinition\nnope: 1\n",
		"NoVersion":   "kind: CustomResourceDefinition\nmetadata: {name: x}\nspec: {versions: []}\n",
		"OnlyAnother": "kind: CustomResourceDefinition\nspec: {versions: [{name: v9, served: true, storage: true}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := lint.New([]byte(crd)); err == nil {
				t.Error("got no error, want one")
			}
		})
	}
}

// FuzzLint holds that no bytes make the linter panic, and that every finding says something about a line of the input.
func FuzzLint(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	l := newLinter(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, finding := range l.Lint(t.Context(), data).Findings {
			if finding.Message == "" || finding.Line < 0 {
				t.Errorf("got %+v, want a message and no negative line", finding)
			}
		}
	})
}

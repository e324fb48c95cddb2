package istio

import (
	"bytes"
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
	"github.com/siskin-dev/siskin/mesh"
)

// checker holds one version of one kind to its CRD, as the API server does: the schema, its CEL rules, no unknown field.
type checker struct {
	schema     validation.SchemaValidator
	structural *schema.Structural
	rules      *cel.Validator
}

func (c checker) check(u *unstructured.Unstructured) []string {
	var problems []string
	for _, err := range validation.ValidateCustomResource(nil, u.Object, c.schema) {
		problems = append(problems, err.Error())
	}
	errs, _ := c.rules.Validate(context.Background(), nil, c.structural, u.Object, nil, math.MaxInt64)
	for _, err := range errs {
		problems = append(problems, err.Error())
	}
	unknown := pruning.PruneWithOptions(u.DeepCopy().Object, c.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, field := range unknown {
		problems = append(problems, "unknown field "+field)
	}
	return problems
}

// istioCRDs reads the CRDs from the very module that the types come from.
func istioCRDs(t *testing.T) map[runtimeschema.GroupVersionKind]checker {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api").Output()
	if err != nil {
		t.Fatalf("finding module %q: %v", "istio.io/api", err)
	}
	data, err := os.ReadFile(filepath.Join(string(bytes.TrimSpace(dir)), "kubernetes", "customresourcedefinitions.gen.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	checkers := map[runtimeschema.GroupVersionKind]checker{}
	for document := range bytes.SplitSeq(data, []byte("\n---\n")) {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(document, &crd); err != nil {
			t.Fatalf("reading Istio's CRDs: %v", err)
		}
		switch crd.Spec.Names.Kind {
		case "VirtualService", "DestinationRule", "EnvoyFilter":
			for _, version := range crd.Spec.Versions {
				gvk := runtimeschema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind}
				checkers[gvk] = newChecker(t, version)
			}
		}
	}
	return checkers
}

func newChecker(t *testing.T, version apiextensionsv1.CustomResourceDefinitionVersion) checker {
	t.Helper()
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, &internal, nil); err != nil {
		t.Fatal(err)
	}
	validator, _, err := validation.NewSchemaValidator(&internal)
	if err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(&internal)
	if err != nil {
		t.Fatal(err)
	}
	// The limit is the API server's cost of one call; here only the verdict counts.
	return checker{schema: validator, structural: structural, rules: cel.NewValidator(structural, true, math.MaxInt64)}
}

func TestObjectsFitIstiosSchemas(t *testing.T) {
	checkers := istioCRDs(t)
	meshtest.Each(t, func(t *testing.T, _ string, traffic mesh.Traffic) {
		for _, u := range applied(t, render(t, traffic)) {
			if u.GetKind() == "ConfigMap" {
				continue // Kubernetes' own; see TestQuotaConfig
			}
			c, known := checkers[u.GroupVersionKind()]
			if !known {
				t.Fatalf("Istio has no CRD for %s", u.GroupVersionKind())
			}
			for _, problem := range c.check(u) {
				t.Errorf("%s: %s", u.GetKind(), problem)
			}
		}
	})
}

// TestSchemasRefuse makes sure that the check above can fail, for each of its three parts.
func TestSchemasRefuse(t *testing.T) {
	checkers := istioCRDs(t)
	cases := map[string]struct {
		reason string
		args   func(vs map[string]any)
	}{
		"Type":    {"A host is a string.", func(vs map[string]any) { set(t, vs, []any{int64(1)}, "spec", "hosts") }},
		"Unknown": {"A field that Istio does not know would be dropped.", func(vs map[string]any) { set(t, vs, "x", "spec", "colour") }},
		"Rule":    {"No CEL rule of a match allows two ways at once.", func(vs map[string]any) { set(t, vs, twoWays(), "spec", "http") }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			u, err := Unstructured(render(t, meshtest.Read(t, "testdata/header-25.in.yaml")).VirtualService)
			if err != nil {
				t.Fatal(err)
			}
			tc.args(u.Object)
			if problems := checkers[u.GroupVersionKind()].check(u); len(problems) == 0 {
				t.Errorf("%s\nThe check found nothing", tc.reason)
			}
		})
	}
}

func set(t *testing.T, object map[string]any, value any, fields ...string) {
	t.Helper()
	if err := unstructured.SetNestedField(object, value, fields...); err != nil {
		t.Fatal(err)
	}
}

func twoWays() []any {
	both := map[string]any{"exact": "a", "prefix": "b"}
	return []any{map[string]any{"match": []any{map[string]any{"uri": both}}}}
}

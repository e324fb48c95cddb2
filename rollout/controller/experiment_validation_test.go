package controller_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

const goodExperiment = `
apiVersion: siskin.dev/v1alpha1
kind: Experiment
metadata: {name: models, namespace: validation}
spec:
  rollout: coolant
  variants: [{name: control, version: v1, share: 50}, {name: deeper, version: v2, share: 40}]
  objective: {query: {sum: a, count: b}}
`

type celCase struct {
	path string
	bad  string // YAML
	want string
}

// experimentCases has a bad object for every rule of the Experiment's definition, like celCases.
var experimentCases = map[string]celCase{
	"LongName":       {path: "metadata.name", bad: strings.Repeat("a", 53), want: "metadata.name must be at most 52 characters, because the names of other objects may be derived from it"},
	"Control":        {path: "spec.control", bad: "other", want: "control must be the name of one of the variants"},
	"Shares":         {path: "spec.holdout", bad: "11", want: "the shares of the variants and holdout may not be more than 100 buckets together"},
	"Layer":          {path: "spec.layer", bad: "Models", want: "layer must be a DNS label: lower-case letters, digits and '-'"},
	"VariantName":    {path: "spec.variants", bad: "[{name: control, version: v1, share: 1}, {name: Deeper, version: v2, share: 1}]", want: "variant name must be a DNS label: lower-case letters, digits and '-'"},
	"VariantCanary":  {path: "spec.variants", bad: "[{name: control, version: v1, share: 1}, {name: canary, version: v2, share: 1}]", want: reservedVariant},
	"VariantPin":     {path: "spec.variants", bad: "[{name: control, version: v1, share: 1}, {name: pin-a, version: v2, share: 1}]", want: reservedVariant},
	"Version":        {path: "spec.variants", bad: "[{name: control, version: v1, share: 1}, {name: deeper, version: v2-, share: 1}]", want: "version must be a valid label value: letters, digits, '-', '_' and '.', beginning and ending with a letter or a digit"},
	"GuardrailType":  {path: "spec.guardrails", bad: "[{name: a, type: Alerts}]", want: "the type of a guardrail may not be 'Alerts', which speak of a whole rollout, or 'SampleRatio', which units asks for"},
	"GuardrailUnits": {path: "spec.guardrails", bad: "[{name: units, type: ErrorRate}]", want: "the name of a guardrail may not be 'objective' or 'units', which are the experiment's own"},
	"Effect":         {path: "spec.objective", bad: "{query: {sum: a, count: b}, smallestEffect: '0.0'}", want: `objective.smallestEffect must be a decimal between 0 and 1, such as "0.05"`},
	"EffectWord":     {path: "spec.objective", bad: "{query: {sum: a, count: b}, smallestEffect: 5%}", want: `objective.smallestEffect must be a decimal between 0 and 1, such as "0.05"`},
	"Minimum":        {path: "spec.duration", bad: "{minimum: 2161h, maximum: 2h}", want: "duration.minimum must be between 0s and 2160h"},
	"Maximum":        {path: "spec.duration", bad: "{minimum: 0s, maximum: 0s}", want: "duration.maximum must be between 1s and 2160h"},
	"Durations":      {path: "spec.duration", bad: "{minimum: 2h, maximum: 2h}", want: "duration.minimum must be shorter than duration.maximum"},
	"Interval":       {path: "spec.analysis", bad: "{interval: 100ms}", want: "analysis.interval must be between 1s and 1h"},
	"WarmUp":         {path: "spec.analysis", bad: "{warmUp: 25h}", want: "analysis.warmUp must be between 0s and 24h"},
	"FalseAlarm":     {path: "spec.analysis", bad: "{falseAlarm: '0.6'}", want: `analysis.falseAlarm must be a decimal above 0 and at most 0.5, such as "0.05"`},
}

const (
	reservedVariant = "variant name must not be 'stable' or 'canary', nor begin with 'pin-': these are a rollout's own"
	keptSpec        = "rollout, layer, holdout, control and variants may not be changed once the experiment holds buckets, because no unit may move between variants: create another experiment"
)

// guardrailCases are those of a rollout's gates: guardrails are of the same type and keep its rules.
func guardrailCases() map[string]celCase {
	out := map[string]celCase{}
	for name, tc := range celCases {
		if tc.path == "spec.gates" {
			out["Guardrail"+name] = celCase{path: "spec.guardrails", bad: tc.bad, want: tc.want}
		}
	}
	return out
}

func TestExperimentValidation(t *testing.T) {
	c, err := client.New(api.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := maps.Clone(experimentCases)
	maps.Copy(all, guardrailCases())
	if err := c.Create(t.Context(), changed(t, goodExperiment, "", ""), client.DryRunAll); err != nil {
		t.Fatalf("the good manifest: %v", err)
	}
	for name, tc := range all {
		t.Run(name, func(t *testing.T) {
			refused(t, c.Create(t.Context(), changed(t, goodExperiment, tc.path, tc.bad), client.DryRunAll), tc.want)
		})
	}
}

// changed is a manifest with one field replaced.
func changed(t *testing.T, manifest, path, value string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &o.Object); err != nil {
		t.Fatal(err)
	}
	if path == "" {
		return o
	}
	var v any
	if err := yaml.Unmarshal([]byte(value), &v); err != nil {
		t.Fatal(err)
	}
	if err := unstructured.SetNestedField(o.Object, v, strings.Split(path, ".")...); err != nil {
		t.Fatal(err)
	}
	return o
}

// refused says whether an error is the API's refusal with a sentence.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	var status *apierrors.StatusError
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) {
		t.Fatalf("got %v, want an invalid error", err)
	}
	var got []string
	for _, cause := range status.Status().Details.Causes {
		got = append(got, cause.Message)
	}
	if !slices.ContainsFunc(got, func(m string) bool { return strings.HasSuffix(m, ": "+want) || m == want }) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestExperimentIsKept: what decides who sees what may be put right while the experiment has no buckets, and not after.
func TestExperimentIsKept(t *testing.T) {
	w := newWorld(t)
	e := newExperiment(w.ns, "models")
	if err := w.client.Create(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	e.Spec.Variants[1].Share = 20
	if err := w.client.Update(t.Context(), e); err != nil {
		t.Fatalf("changing a share before the experiment holds buckets: %v", err)
	}
	e.Status.Allocation = []v1alpha1.VariantAllocation{{Name: "control", Version: "v1", Buckets: "01"}}
	if err := w.client.Status().Update(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*v1alpha1.ExperimentSpec){
		"Share":   func(s *v1alpha1.ExperimentSpec) { s.Variants[1].Share = 21 },
		"Version": func(s *v1alpha1.ExperimentSpec) { s.Variants[1].Version = "v9" },
		"Variant": func(s *v1alpha1.ExperimentSpec) { s.Variants = s.Variants[:2] },
		"Control": func(s *v1alpha1.ExperimentSpec) { s.Control = "deeper" },
		"Layer":   func(s *v1alpha1.ExperimentSpec) { s.Layer = "coolant" },
		"HoldOut": func(s *v1alpha1.ExperimentSpec) { s.Holdout = 0 },
		"Rollout": func(s *v1alpha1.ExperimentSpec) { s.Rollout = "other" },
	} {
		bad := e.DeepCopy()
		change(&bad.Spec)
		t.Run(name, func(t *testing.T) { refused(t, w.client.Update(t.Context(), bad), keptSpec) })
	}
	e.Spec.Duration.Maximum.Duration *= 2
	e.Spec.PromoteWinner = true
	if err := w.client.Update(t.Context(), e); err != nil {
		t.Errorf("giving the experiment more time and a promotion: %v", err)
	}
}

// TestEveryExperimentRuleIsTested keeps the tables above whole.
func TestEveryExperimentRuleIsTested(t *testing.T) {
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(charts.ExperimentCRD, &crd); err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{keptSpec: true}
	for _, cases := range []map[string]celCase{experimentCases, guardrailCases()} {
		for _, tc := range cases {
			tested[tc.want] = true
		}
	}
	rules := 0
	var walk func(path string, s *apiextensionsv1.JSONSchemaProps)
	walk = func(path string, s *apiextensionsv1.JSONSchemaProps) {
		for _, rule := range s.XValidations {
			rules++
			if !tested[rule.Message] {
				t.Errorf("%s: no case for the rule %q with the message %q", path, rule.Rule, rule.Message)
			}
		}
		for name, p := range s.Properties {
			walk(path+"."+name, &p)
		}
		if s.Items != nil && s.Items.Schema != nil {
			walk(path+"[]", s.Items.Schema)
		}
	}
	walk("", crd.Spec.Versions[0].Schema.OpenAPIV3Schema)
	if rules < 25 {
		t.Errorf("found %d rules in the CRD; the walk misses some", rules)
	}
}

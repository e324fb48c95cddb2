package lint

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// schema is the definition of the kind in the forms that the API server's library checks with.
type schema struct {
	structural *structural.Structural
	openAPI    validation.SchemaValidator
	rules      *cel.Validator
}

func newSchema(crd []byte) (kind string, s *schema, err error) {
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(crd, &definition); err != nil {
		return "", nil, fmt.Errorf("parsing CRD: %w", err)
	}
	i := slices.IndexFunc(definition.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool {
		return v.Name == v1alpha1.GroupVersion.Version
	})
	if i < 0 || definition.Spec.Versions[i].Schema == nil {
		return "", nil, fmt.Errorf("reading CRD %q: no schema for version %q", definition.Name, v1alpha1.GroupVersion.Version)
	}
	var props apiextensions.JSONSchemaProps
	source := definition.Spec.Versions[i].Schema.OpenAPIV3Schema
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(source, &props, nil); err != nil {
		return "", nil, fmt.Errorf("converting schema of CRD %q: %w", definition.Name, err)
	}
	shape, err := structural.NewStructural(&props)
	if err != nil {
		return "", nil, fmt.Errorf("reading schema of CRD %q: %w", definition.Name, err)
	}
	openAPI, _, err := validation.NewSchemaValidator(&props)
	if err != nil {
		return "", nil, fmt.Errorf("compiling schema of CRD %q: %w", definition.Name, err)
	}
	rules := cel.NewValidator(shape, true, celconfig.PerCallLimit)
	return definition.Spec.Names.Kind, &schema{structural: shape, openAPI: openAPI, rules: rules}, nil
}

// check does to the object what an API server does on create: it sets defaults in place and returns what it refuses.
// CEL rules are evaluated only on what the schema accepts, as there.
func (s *schema) check(ctx context.Context, object map[string]any) []Finding {
	var findings []Finding
	unknown := pruning.PruneWithOptions(object, s.structural, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, path := range unknown {
		findings = append(findings, Finding{Level: Error, Field: path, Message: "unknown field"})
	}
	defaulting.Default(object, s.structural)
	errs := named(object)
	errs = append(errs, validation.ValidateCustomResource(nil, object, s.openAPI)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, object)...)
	if len(errs) == 0 {
		broken, _ := s.rules.Validate(ctx, nil, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, broken...)
	}
	for _, err := range errs {
		findings = append(findings, Finding{Level: Error, Field: strings.TrimPrefix(err.Field, "<nil>"), Message: message(err)})
	}
	return findings
}

// named checks the object's own name, which the schema leaves to the API server.
func named(object map[string]any) field.ErrorList {
	u := unstructured.Unstructured{Object: object}
	path := field.NewPath("metadata", "name")
	name := u.GetName()
	if name == "" && u.GetGenerateName() != "" {
		return nil
	}
	if name == "" {
		return field.ErrorList{field.Required(path, "it needs a name")}
	}
	var errs field.ErrorList
	for _, reason := range apivalidation.NameIsDNSSubdomain(name, false) {
		errs = append(errs, field.Invalid(path, name, reason))
	}
	return errs
}

// message is the rule's own sentence where there is one.
func message(err *field.Error) string {
	if err.Type == field.ErrorTypeInvalid && err.Detail != "" {
		return err.Detail
	}
	return err.ErrorBody()
}

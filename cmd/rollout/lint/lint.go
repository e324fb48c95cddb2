// Package lint says what is wrong with the YAML of a Rollout or an Experiment without a cluster.
//
// It applies what an API server would: strict parsing, the schema of the CRD, its defaults and its CEL rules. To that
// it adds what only Siskin knows: advice about plans that are valid and still unlikely to be meant.
package lint

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/json"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/cmd/internal/wire"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// Level says how bad a finding is.
type Level string

// The levels: an Error is refused by the API server or by the controller; Advice is accepted.
const (
	Error  Level = "error"
	Advice Level = "advice"
)

// Finding is one thing that is wrong, and where.
type Finding struct {
	// Line is counted from 1 in the whole file; 0 when the place is not known.
	Line  int
	Level Level
	// Field is the path of the field, such as spec.steps[1].weight; "" for the document as a whole.
	Field   string
	Message string
}

// Report is what a file holds.
type Report struct {
	// Rollouts and Experiments count the documents of these kinds; documents of other kinds are skipped.
	Rollouts    int
	Experiments int
	Findings    []Finding
}

// Linter checks objects against the definitions of their kinds. It may be used from any goroutine.
type Linter struct {
	schemas map[string]*schema // by kind
}

// New builds a linter from the definitions of the kinds that it is to know.
func New(crds ...[]byte) (*Linter, error) {
	l := &Linter{schemas: map[string]*schema{}}
	for _, crd := range crds {
		kind, s, err := newSchema(crd)
		if err != nil {
			return nil, err
		}
		l.schemas[kind] = s
	}
	return l, nil
}

// Lint checks every document of a YAML stream.
func (l *Linter) Lint(ctx context.Context, data []byte) Report {
	var r Report
	for _, doc := range split(data) {
		findings, kind := l.document(ctx, doc.text)
		switch kind {
		case "Rollout":
			r.Rollouts++
		case "Experiment":
			r.Experiments++
		}
		for _, f := range findings {
			if f.Line > 0 {
				f.Line += doc.line
			}
			r.Findings = append(r.Findings, f)
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(b.Level, a.Level))
	})
	return r
}

// document checks one document. It returns no kind when the document is of one that the linter does not know.
func (l *Linter) document(ctx context.Context, text []byte) (findings []Finding, kind string) {
	var root yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, ""
		}
		return []Finding{syntax(err)}, ""
	}
	object, err := decode(text)
	if err != nil {
		return []Finding{syntax(err)}, ""
	}
	kind, _ = object["kind"].(string)
	s := l.schemas[kind]
	if s == nil || !group(object["apiVersion"]) {
		return nil, ""
	}
	findings = s.object(ctx, object, kind)
	for i := range findings {
		findings[i].Line = line(&root, findings[i].Field)
	}
	return findings, kind
}

// decode keeps whole numbers whole, as the API server does: its rules tell 5 from 5.0.
func decode(text []byte) (map[string]any, error) {
	data, err := sigsyaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	var object map[string]any
	return object, json.Unmarshal(data, &object)
}

// group says whether an apiVersion is one of ours, whatever the version: a wrong one is an error, not another kind.
func group(apiVersion any) bool {
	s, ok := apiVersion.(string)
	return ok && (s == v1alpha1.GroupVersion.Group || strings.HasPrefix(s, v1alpha1.GroupVersion.Group+"/"))
}

func (s *schema) object(ctx context.Context, object map[string]any, kind string) []Finding {
	if v := object["apiVersion"]; v != v1alpha1.GroupVersion.String() {
		return []Finding{{Level: Error, Field: "apiVersion", Message: fmt.Sprintf("must be %q, not %q", v1alpha1.GroupVersion, v)}}
	}
	if findings := s.check(ctx, object); len(findings) > 0 || kind != "Rollout" {
		return findings
	}
	data, err := sigsyaml.Marshal(object)
	if err != nil {
		return []Finding{syntax(err)}
	}
	ro := &v1alpha1.Rollout{}
	if err := sigsyaml.Unmarshal(data, ro); err != nil {
		return []Finding{syntax(err)}
	}
	return append(refused(ro), advise(ro)...)
}

// refused says what the provider cannot do, in the controller's words.
func refused(ro *v1alpha1.Rollout) []Finding {
	router := wire.Router(cmp.Or(ro.Spec.Provider, v1alpha1.ProviderIstio))
	if router == nil {
		return nil // the schema has refused it
	}
	placed := ro.DeepCopy()
	placed.Namespace = cmp.Or(placed.Namespace, "default") // as kubectl does; it says nothing of what is refused
	err := controller.Refusal(router, placed)
	if err == nil {
		return nil
	}
	return []Finding{{Level: Error, Field: "spec.provider", Message: err.Error()}}
}

// part is a document of a stream and the number of lines before it.
type part struct {
	text []byte
	line int
}

// split cuts a stream at its document separators, so that an error in one document does not hide the others.
func split(data []byte) []part {
	var parts []part
	var current part
	number := 0
	for l := range bytes.Lines(data) {
		number++
		if bytes.Equal(bytes.TrimRight(l, " \r\n\t"), []byte("---")) {
			parts = append(parts, current)
			current = part{line: number}
			continue
		}
		current.text = append(current.text, l...)
	}
	return append(parts, current)
}

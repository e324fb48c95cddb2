package trees

import (
	"fmt"
	"math"
)

// parseUBJSON reads the same parts as parseJSON.
func parseUBJSON(data []byte) (*document, error) {
	r := &ubReader{data: data}
	kind, err := r.marker()
	if err != nil {
		return nil, err
	}
	top, err := r.value(kind, 0)
	if err != nil {
		return nil, err
	}
	if r.at != len(data) {
		return nil, r.fail("%d bytes after the model", len(data)-r.at)
	}
	var p picker
	doc := p.document(p.object(top, "learner"))
	return doc, p.err
}

// picker takes typed fields out of generic values and keeps the first error. A missing field is the zero value; what
// must be there is found out by the checks that both formats share.
type picker struct {
	params
}

func (p *picker) fail(name string, v any, want string) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: %s is a %T, want %s", ErrMalformed, name, v, want)
	}
}

func (p *picker) object(v any, name string) map[string]any {
	fields, _ := v.(map[string]any)
	inner, ok := fields[name].(map[string]any)
	if !ok && fields[name] != nil {
		p.fail(name, fields[name], "an object")
	}
	return inner
}

func (p *picker) text(v map[string]any, name string) string {
	s, ok := v[name].(string)
	if !ok && v[name] != nil {
		p.fail(name, v[name], "a string")
	}
	return s
}

func (p *picker) list(v map[string]any, name string) []any {
	l, ok := v[name].([]any)
	if n, typed := v[name].(numbers); !ok && v[name] != nil && (!typed || len(n.data) > 0) {
		p.fail(name, v[name], "an array")
	}
	return l
}

func (p *picker) document(learner map[string]any) *document {
	param := p.object(learner, "learner_model_param")
	booster := p.object(learner, "gradient_booster")
	doc := &document{
		booster:    p.text(booster, "name"),
		objective:  p.text(p.object(learner, "objective"), "name"),
		baseScore:  p.text(param, "base_score"),
		numFeature: p.int("num_feature", p.text(param, "num_feature")),
		numClass:   p.intOr("num_class", p.text(param, "num_class"), 0),
		numTarget:  p.intOr("num_target", p.text(param, "num_target"), 1),
	}
	for _, v := range p.list(learner, "feature_names") {
		name, ok := v.(string)
		if !ok {
			p.fail("feature_names", v, "strings")
		}
		doc.featureNames = append(doc.featureNames, name)
	}
	if doc.booster == "gbtree" {
		p.model(doc, p.object(booster, "model"))
	}
	return doc
}

func (p *picker) model(doc *document, model map[string]any) {
	param := p.object(model, "gbtree_model_param")
	doc.numTrees = p.int("num_trees", p.text(param, "num_trees"))
	doc.leafVector = p.intOr("size_leaf_vector", p.text(param, "size_leaf_vector"), 0)
	doc.treeInfo = p.ints(model, "tree_info")
	for i, v := range p.list(model, "trees") {
		t, ok := v.(map[string]any)
		if !ok {
			p.fail(fmt.Sprintf("trees[%d]", i), v, "an object")
			return
		}
		doc.trees = append(doc.trees, p.tree(t))
	}
}

func (p *picker) tree(t map[string]any) rawTree {
	param := p.object(t, "tree_param")
	return rawTree{
		numNodes:    p.int("num_nodes", p.text(param, "num_nodes")),
		leafVector:  p.intOr("size_leaf_vector", p.text(param, "size_leaf_vector"), 0),
		left:        p.ints(t, "left_children"),
		right:       p.ints(t, "right_children"),
		indices:     p.ints(t, "split_indices"),
		conditions:  p.floats(t, "split_conditions"),
		defaultLeft: p.flags(t, "default_left"),
		splitType:   p.ints(t, "split_type"),
	}
}

// ints reads an array of integers, strongly typed or not.
func (p *picker) ints(v map[string]any, name string) []int32 {
	var out []int32
	add := func(n int64, ok bool) {
		if !ok || n != int64(int32(n)) {
			p.fail(name, n, "32-bit integers")
		}
		out = append(out, int32(n))
	}
	switch a := v[name].(type) {
	case nil:
	case numbers:
		w := width(a.kind)
		out = make([]int32, 0, len(a.data)/w)
		for d := a.data; len(d) > 0; d = d[w:] {
			add(integer(a.kind, d))
		}
	case []any:
		for _, e := range a {
			n, ok := e.(int64)
			add(n, ok)
		}
	default:
		p.fail(name, a, "an array of integers")
	}
	return out
}

// flags reads an array of 0 and 1, or of booleans.
func (p *picker) flags(v map[string]any, name string) []int32 {
	list, ok := v[name].([]any)
	if _, booleans := first(list).(bool); ok && booleans {
		out := make([]int32, len(list))
		for i, e := range list {
			set, isBool := e.(bool)
			if !isBool {
				p.fail(name, e, "booleans")
			}
			if set {
				out[i] = 1
			}
		}
		return out
	}
	out := p.ints(v, name)
	for _, n := range out {
		if n != 0 && n != 1 {
			p.fail(name, n, "0 or 1")
		}
	}
	return out
}

func first(list []any) any {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// floats reads an array of numbers as float32, strongly typed or not.
func (p *picker) floats(v map[string]any, name string) []float32 {
	var out []float32
	switch a := v[name].(type) {
	case nil:
	case numbers:
		w := width(a.kind)
		out = make([]float32, 0, len(a.data)/w)
		for d := a.data; len(d) > 0; d = d[w:] {
			out = append(out, float32At(a.kind, d))
		}
	case []any:
		for _, e := range a {
			out = append(out, p.float(e, name))
		}
	default:
		p.fail(name, a, "an array of numbers")
	}
	return out
}

func (p *picker) float(v any, name string) float32 {
	switch n := v.(type) {
	case float32:
		return n
	case int64:
		return float32(n)
	}
	p.fail(name, v, "numbers")
	return float32(math.NaN())
}

package trees

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// jsonModel names the parts of XGBoost's JSON that a prediction needs. Numbers that are parameters are strings there.
type jsonModel struct {
	Learner struct {
		FeatureNames []string `json:"feature_names"`
		Param        struct {
			BaseScore  string `json:"base_score"`
			NumClass   string `json:"num_class"`
			NumFeature string `json:"num_feature"`
			NumTarget  string `json:"num_target"`
		} `json:"learner_model_param"`
		Objective struct {
			Name string `json:"name"`
		} `json:"objective"`
		Booster struct {
			Name  string `json:"name"`
			Model struct {
				Param struct {
					NumTrees       string `json:"num_trees"`
					SizeLeafVector string `json:"size_leaf_vector"`
				} `json:"gbtree_model_param"`
				TreeInfo []int32    `json:"tree_info"`
				Trees    []jsonTree `json:"trees"`
			} `json:"model"`
		} `json:"gradient_booster"`
	} `json:"learner"`
}

type jsonTree struct {
	Param struct {
		NumNodes       string `json:"num_nodes"`
		SizeLeafVector string `json:"size_leaf_vector"`
	} `json:"tree_param"`
	Left        []int32   `json:"left_children"`
	Right       []int32   `json:"right_children"`
	Indices     []int32   `json:"split_indices"`
	Conditions  []float32 `json:"split_conditions"`
	DefaultLeft []flag    `json:"default_left"`
	SplitType   []int32   `json:"split_type"`
}

// flag reads 0 and 1, and the booleans of older files.
type flag int32

// UnmarshalJSON implements json.Unmarshaler.
func (f *flag) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case "0", "false":
		*f = 0
	case "1", "true":
		*f = 1
	default:
		return fmt.Errorf("reading default_left %.20q: want 0 or 1", data)
	}
	return nil
}

func parseJSON(data []byte) (*document, error) {
	var m jsonModel
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%w: reading JSON: %w", ErrMalformed, err)
	}
	l := &m.Learner
	var p params
	doc := &document{
		booster:      l.Booster.Name,
		objective:    l.Objective.Name,
		baseScore:    l.Param.BaseScore,
		numFeature:   p.int("num_feature", l.Param.NumFeature),
		numClass:     p.intOr("num_class", l.Param.NumClass, 0),
		numTarget:    p.intOr("num_target", l.Param.NumTarget, 1),
		featureNames: l.FeatureNames,
	}
	if doc.booster == "gbtree" {
		model := &l.Booster.Model
		doc.numTrees = p.int("num_trees", model.Param.NumTrees)
		doc.leafVector = p.intOr("size_leaf_vector", model.Param.SizeLeafVector, 0)
		doc.treeInfo = model.TreeInfo
		doc.trees = make([]rawTree, len(model.Trees))
		for i := range model.Trees {
			doc.trees[i] = model.Trees[i].raw(&p)
		}
	}
	return doc, p.err
}

func (t *jsonTree) raw(p *params) rawTree {
	r := rawTree{
		numNodes:    p.int("num_nodes", t.Param.NumNodes),
		leafVector:  p.intOr("size_leaf_vector", t.Param.SizeLeafVector, 0),
		left:        t.Left,
		right:       t.Right,
		indices:     t.Indices,
		conditions:  t.Conditions,
		splitType:   t.SplitType,
		defaultLeft: make([]int32, len(t.DefaultLeft)),
	}
	for i, f := range t.DefaultLeft {
		r.defaultLeft[i] = int32(f)
	}
	return r
}

// params reads the numbers that XGBoost writes as strings and keeps the first error.
type params struct{ err error }

func (p *params) int(name, value string) int {
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("%w: %s is %q, want an integer", ErrMalformed, name, value)
	}
	return int(n)
}

// intOr is int for a parameter that older versions do not write.
func (p *params) intOr(name, value string, absent int) int {
	if value == "" {
		return absent
	}
	return p.int(name, value)
}

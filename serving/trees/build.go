package trees

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
)

var inf = float32(math.Inf(1))

// document is what both file formats say, before it is checked.
type document struct {
	booster      string
	objective    string
	baseScore    string
	numFeature   int
	numClass     int
	numTarget    int
	numTrees     int
	leafVector   int
	featureNames []string
	treeInfo     []int32
	trees        []rawTree
}

// rawTree is one tree as XGBoost writes it: parallel arrays by node id, root 0, -1 for "no child", and in a leaf the
// value in conditions.
type rawTree struct {
	numNodes    int
	leafVector  int
	left        []int32
	right       []int32
	indices     []int32
	conditions  []float32
	defaultLeft []int32
	splitType   []int32
}

// build checks doc and lays its trees out for walking.
func build(doc *document) (*Booster, error) {
	for _, check := range []func(*document) error{checkBooster, checkOutputs, checkCounts} {
		if err := check(doc); err != nil {
			return nil, err
		}
	}
	obj, err := findObjective(doc.objective)
	if err != nil {
		return nil, err
	}
	base, err := parseBaseScore(doc.baseScore)
	if err != nil {
		return nil, err
	}
	margin := obj.margin(base)
	if !finite(margin) {
		return nil, fmt.Errorf("%w: base_score %q has no finite margin under objective %q", ErrMalformed, doc.baseScore, obj.name)
	}
	b := &Booster{
		objective: obj, features: doc.numFeature, featureNames: doc.featureNames, baseMargin: margin, trees: len(doc.trees),
	}
	if err := b.layOut(doc.trees); err != nil {
		return nil, err
	}
	size := blockRows * 2 * b.features
	b.scratch = &sync.Pool{New: func() any { s := make([]float32, size); return &s }}
	return b, nil
}

func checkBooster(doc *document) error {
	if doc.booster != "gbtree" {
		return fmt.Errorf("%w: booster %q, want \"gbtree\"", ErrUnsupported, doc.booster)
	}
	return nil
}

func checkOutputs(doc *document) error {
	switch {
	case doc.numClass > 1:
		return fmt.Errorf("%w: num_class is %d, want one output", ErrUnsupported, doc.numClass)
	case doc.numTarget > 1:
		return fmt.Errorf("%w: num_target is %d, want one output", ErrUnsupported, doc.numTarget)
	case doc.leafVector > 1:
		return fmt.Errorf("%w: size_leaf_vector is %d, want scalar leaves", ErrUnsupported, doc.leafVector)
	}
	for i, class := range doc.treeInfo {
		if class != 0 {
			return fmt.Errorf("%w: tree_info[%d] is %d in a model of one output", ErrMalformed, i, class)
		}
	}
	return nil
}

// maxFeatures bounds the memory of a block of rows (16 MiB); wider models exist only by mistake here.
const maxFeatures = 1 << 16

func checkCounts(doc *document) error {
	switch {
	case doc.numFeature < 1 || doc.numFeature > maxFeatures:
		return fmt.Errorf("%w: num_feature is %d, want 1 to %d", ErrMalformed, doc.numFeature, maxFeatures)
	case len(doc.featureNames) > 0 && len(doc.featureNames) != doc.numFeature:
		return fmt.Errorf("%w: %d feature_names for num_feature %d", ErrMalformed, len(doc.featureNames), doc.numFeature)
	case len(doc.trees) != doc.numTrees:
		return fmt.Errorf("%w: %d trees for num_trees %d", ErrMalformed, len(doc.trees), doc.numTrees)
	case len(doc.treeInfo) != len(doc.trees):
		return fmt.Errorf("%w: %d entries of tree_info for %d trees", ErrMalformed, len(doc.treeInfo), len(doc.trees))
	}
	return nil
}

// parseBaseScore reads "5E-1" and, as XGBoost 3.1 writes it, "[5E-1]".
func parseBaseScore(s string) (float32, error) {
	inner := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		inner = s[1 : len(s)-1]
	}
	if strings.Contains(inner, ",") {
		return 0, fmt.Errorf("%w: base_score %q has several values, want one", ErrUnsupported, s)
	}
	v, err := strconv.ParseFloat(inner, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: base_score %q is not a float32", ErrMalformed, s)
	}
	return float32(v), nil
}

func finite(v float32) bool { return v-v == 0 }

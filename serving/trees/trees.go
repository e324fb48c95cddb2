// Package trees runs gradient-boosted tree models in pure Go.
//
// It reads what XGBoost saves as JSON and as UBJSON, and answers what XGBoost answers: sums are float32, the base margin
// first and then the trees in file order, so a margin equals the library's bit for bit. A model that needs more than
// this package does (gblinear, dart, categorical splits, vector leaves, several classes or targets) is refused when it
// is read, never answered wrongly.
//
//	booster, err := trees.Parse(data)            // model.json or model.ubj
//	...
//	err = booster.Predict(rows, out)             // rows: len(out) rows of booster.Features() values, NaN is missing
package trees

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// ErrUnsupported tells that a model is well formed but needs what this package does not do.
var ErrUnsupported = errors.New("unsupported model")

// ErrMalformed tells that the bytes are not a model: broken syntax, counts that disagree, a child out of range, a cycle.
var ErrMalformed = errors.New("malformed model")

// Booster is one model, ready to predict. It never changes, so any number of goroutines may share it.
type Booster struct {
	objective    objective
	features     int
	featureNames []string
	baseMargin   float32
	trees        int

	nodes  []node
	leaves []float32 // by node index; 0 where the node is a split
	groups []group

	// scratch holds *[]float32 of len blockRows*2*features: the rows of one block with their missing values resolved.
	scratch *sync.Pool
}

// Parse reads a model in XGBoost's JSON or UBJSON. UBJSON is told from JSON by its second byte.
func Parse(data []byte) (*Booster, error) {
	doc, err := parseDocument(data)
	if err != nil {
		return nil, err
	}
	return build(doc)
}

func parseDocument(data []byte) (*document, error) {
	if isUBJSON(data) {
		return parseUBJSON(data)
	}
	return parseJSON(data)
}

// Features returns how many values a row has.
func (b *Booster) Features() int { return b.features }

// FeatureNames returns the names that the model was trained with, in row order, or nil when it has none.
func (b *Booster) FeatureNames() []string { return slices.Clone(b.featureNames) }

// Objective returns XGBoost's name of the objective, for example "reg:squarederror".
func (b *Booster) Objective() string { return b.objective.name }

// Trees returns how many trees the model has.
func (b *Booster) Trees() int { return b.trees }

// Nodes returns how many nodes a prediction can meet.
func (b *Booster) Nodes() int { return len(b.nodes) }

// Margin writes the raw score of each row: the value before the objective's link function.
func (b *Booster) Margin(rows, out []float32) error { return margins(b, rows, out) }

// Predict writes the prediction of each row. rows holds len(out) rows of Features values, one after the other; NaN is a
// missing value.
func (b *Booster) Predict(rows, out []float32) error { return predict(b, rows, out) }

// Predict64 is Predict for float64 values, which are rounded to float32 first, as XGBoost does.
func (b *Booster) Predict64(rows, out []float64) error { return predict(b, rows, out) }

func predict[T float](b *Booster, rows, out []T) error {
	if err := margins(b, rows, out); err != nil {
		return err
	}
	for i, m := range out {
		out[i] = T(b.objective.transform(float32(m)))
	}
	return nil
}

func margins[T float](b *Booster, rows, out []T) error {
	if len(rows) != len(out)*b.features {
		return fmt.Errorf("predicting %d rows of %d features: got %d values, want %d",
			len(out), b.features, len(rows), len(out)*b.features)
	}
	buf := b.scratch.Get().(*[]float32)
	defer b.scratch.Put(buf)
	for len(out) > 0 {
		n := min(len(out), blockRows)
		walkBlock(b, rows[:n*b.features], out[:n], *buf)
		rows, out = rows[n*b.features:], out[n:]
	}
	return nil
}

package trees

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/siskin-dev/siskin/serving"
)

// maxModelBytes bounds a model file after gunzip.
const maxModelBytes = 1 << 30

// Decode makes a served model of an artefact: the model from the first of model.ubj, model.json and model.json.gz that is
// there, and what the model file does not say (feature names, target, unit) from metadata.json. It is a serving.Decoder.
func Decode(a serving.Artefact) (serving.Model, error) {
	file, data, err := modelFile(a.Files)
	if err != nil {
		return nil, err
	}
	b, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", file, err)
	}
	m := &model{Booster: b, spec: serving.Spec{
		Platform:   "xgboost_" + format(data),
		Features:   b.FeatureNames(),
		Output:     serving.FP32,
		Parameters: map[string]any{"objective": b.Objective(), "trees": b.Trees()},
	}}
	if text := a.Files["metadata.json"]; text != nil {
		if err := m.describe(text); err != nil {
			return nil, fmt.Errorf("reading \"metadata.json\": %w", err)
		}
	}
	if len(m.spec.Features) == 0 {
		for i := range b.Features() {
			m.spec.Features = append(m.spec.Features, "f"+strconv.Itoa(i))
		}
	}
	return m, nil
}

func modelFile(files map[string][]byte) (name string, data []byte, err error) {
	for _, name := range []string{"model.ubj", "model.json"} {
		if data, ok := files[name]; ok {
			return name, data, nil
		}
	}
	name = "model.json.gz"
	packed, ok := files[name]
	if !ok {
		return "", nil, errors.New("no model.ubj, model.json or model.json.gz")
	}
	data, err = gunzip(packed)
	if err != nil {
		return "", nil, fmt.Errorf("unpacking %q: %w", name, err)
	}
	return name, data, nil
}

func gunzip(packed []byte) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(zr, maxModelBytes+1))
	if err == nil && len(data) > maxModelBytes {
		err = fmt.Errorf("more than %d bytes", maxModelBytes)
	}
	return data, err
}

func format(data []byte) string {
	if isUBJSON(data) {
		return "ubj"
	}
	return "json"
}

// model is a Booster as the server sees it.
type model struct {
	*Booster
	spec serving.Spec
}

// Spec implements serving.Model.
func (m *model) Spec() serving.Spec { return m.spec }

// Predict implements serving.Model.
func (m *model) Predict(rows, out []float64) error { return m.Predict64(rows, out) }

// describe takes from metadata.json what callers want to know. Feature names that disagree with the model's own mean that
// the two files do not belong together.
func (m *model) describe(text []byte) error {
	var meta struct {
		Name         string   `json:"name"`
		Target       string   `json:"target"`
		Unit         string   `json:"unit"`
		FeatureNames []string `json:"feature_names"`
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		return err
	}
	own := m.spec.Features
	if n := len(meta.FeatureNames); n > 0 {
		if n != m.Features() || len(own) > 0 && !slices.Equal(own, meta.FeatureNames) {
			return fmt.Errorf("feature_names %.200q, want the model's %d, %.200q", meta.FeatureNames, m.Features(), own)
		}
		m.spec.Features = meta.FeatureNames
	}
	for key, value := range map[string]string{"trained_as": meta.Name, "target": meta.Target, "unit": meta.Unit} {
		if value != "" {
			m.spec.Parameters[key] = value
		}
	}
	return nil
}

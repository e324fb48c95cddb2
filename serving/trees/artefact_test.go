package trees

import (
	"bytes"
	"compress/gzip"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/serving"
)

func zip(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// and returns a copy of m with more keys and values.
func and(m map[string]any, more ...string) map[string]any {
	m = maps.Clone(m)
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

func TestDecode(t *testing.T) {
	text := encodings(t, smallModel())
	unnamed := smallModel()
	delete(unnamed["learner"].(obj), "feature_names")
	bare := encodings(t, unnamed)["JSON"]
	base := map[string]any{"objective": "reg:squarederror", "trees": 2}
	for reason, c := range map[string]struct {
		files map[string][]byte
		want  serving.Spec
		says  string
	}{
		"UBJSON": {
			files: map[string][]byte{"model.ubj": text["UBJSON"]},
			want:  serving.Spec{Platform: "xgboost_ubj", Features: []string{"a", "b"}, Output: serving.FP32, Parameters: base},
		},
		"JSON": {
			files: map[string][]byte{"model.json": text["JSON"]},
			want:  serving.Spec{Platform: "xgboost_json", Features: []string{"a", "b"}, Output: serving.FP32, Parameters: base},
		},
		"JSON, packed": {
			files: map[string][]byte{"model.json.gz": zip(t, text["JSON"])},
			want:  serving.Spec{Platform: "xgboost_json", Features: []string{"a", "b"}, Output: serving.FP32, Parameters: base},
		},
		"UBJSON comes first": {
			files: map[string][]byte{"model.ubj": text["UBJSON"], "model.json": []byte("broken")},
			want:  serving.Spec{Platform: "xgboost_ubj", Features: []string{"a", "b"}, Output: serving.FP32, Parameters: base},
		},
		"metadata": {
			files: map[string][]byte{"model.ubj": text["UBJSON"], "metadata.json": []byte(`{"name":"v1","unit":"Celsius","target":"T","feature_names":["a","b"]}`)},
			want:  serving.Spec{Platform: "xgboost_ubj", Features: []string{"a", "b"}, Output: serving.FP32, Parameters: and(base, "trained_as", "v1", "unit", "Celsius", "target", "T")},
		},
		"names from metadata": {
			files: map[string][]byte{"model.json": bare, "metadata.json": []byte(`{"feature_names":["x","y"]}`)},
			want:  serving.Spec{Platform: "xgboost_json", Features: []string{"x", "y"}, Output: serving.FP32, Parameters: base},
		},
		"no names at all": {
			files: map[string][]byte{"model.json": bare},
			want:  serving.Spec{Platform: "xgboost_json", Features: []string{"f0", "f1"}, Output: serving.FP32, Parameters: base},
		},
		"no model":             {files: map[string][]byte{"model.txt": nil}, says: "no model.ubj"},
		"broken model":         {files: map[string][]byte{"model.ubj": text["UBJSON"][:50]}, says: "model.ubj"},
		"broken gzip":          {files: map[string][]byte{"model.json.gz": text["JSON"]}, says: "model.json.gz"},
		"broken metadata":      {files: map[string][]byte{"model.ubj": text["UBJSON"], "metadata.json": []byte("{")}, says: "metadata.json"},
		"other model's names":  {files: map[string][]byte{"model.ubj": text["UBJSON"], "metadata.json": []byte(`{"feature_names":["b","a"]}`)}, says: "feature_names"},
		"too many names given": {files: map[string][]byte{"model.json": bare, "metadata.json": []byte(`{"feature_names":["a","b","c"]}`)}, says: "feature_names"},
	} {
		m, err := Decode(serving.Artefact{Files: c.files})
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: Decode says %v, want an error naming %q", reason, err, c.says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", reason, err)
			continue
		}
		if diff := cmp.Diff(c.want, m.Spec()); diff != "" {
			t.Errorf("%s: %s", reason, diff)
		}
		out := make([]float64, 1)
		if err := m.Predict([]float64{9, 4}, out); err != nil || out[0] != 2 {
			t.Errorf("%s: Predict gives %v, %v, want 2", reason, out[0], err)
		}
	}
}

// TestServeModels loads every model through a repository, which checks its golden rows, and finds that another model's
// rows are refused.
func TestServeModels(t *testing.T) {
	dir := modelsDir(t)
	names := modelNames(t, dir)
	source := folders{dir: dir, golden: func(version string) string { return version }}
	repo := serving.NewRepository(serving.RepositoryOptions{Source: source, Decode: Decode})
	for _, name := range names {
		if err := repo.Load(t.Context(), "coolant", name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	source.golden = func(version string) string { return names[(slices.Index(names, version)+1)%len(names)] }
	repo = serving.NewRepository(serving.RepositoryOptions{Source: source, Decode: Decode})
	for _, name := range names {
		if err := repo.Load(t.Context(), "coolant", name); err == nil && len(names) > 1 {
			t.Errorf("%s: loaded with the golden rows of %s", name, source.golden(name))
		}
	}
}

// folders is a Source of the test's models; golden says whose golden rows a version comes with.
type folders struct {
	dir    string
	golden func(version string) string
}

func (f folders) Revision(context.Context, string, string) (string, error) { return "", nil }

func (f folders) Fetch(_ context.Context, name, version string) (serving.Artefact, error) {
	a := serving.Artefact{Name: name, Version: version, Files: map[string][]byte{}}
	for _, file := range []string{"model.ubj", "metadata.json", "golden.csv"} {
		folder := version
		if file == "golden.csv" {
			folder = f.golden(version)
		}
		data, err := os.ReadFile(filepath.Join(f.dir, folder, file))
		if err != nil {
			return a, err
		}
		a.Files[file] = data
	}
	return a, nil
}

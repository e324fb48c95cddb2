package serving

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// fakeModel is a Model made of functions.
type fakeModel struct {
	spec    Spec
	predict func(row []float64) (float64, error)
}

func (m fakeModel) Spec() Spec { return m.spec }

func (m fakeModel) Predict(rows, out []float64) error {
	n := len(m.spec.Features)
	for i := range out {
		v, err := m.predict(rows[i*n : (i+1)*n])
		if err != nil {
			return err
		}
		out[i] = v
	}
	return nil
}

// riskModel is the fixture of testdata/oip_cases.json by its stated semantics, in float64: x0 <= 80.5 is 0.125, else
// x2 <= 105 is 0.5, else 0.875; a missing value is read as 0.
func riskModel() fakeModel {
	return fakeModel{
		spec: Spec{Platform: "fixture", Features: []string{"speed", "rpm", "coolant", "throttle"}, Output: FP64},
		predict: func(x []float64) (float64, error) {
			switch {
			case x[0] <= 80.5 || x[0] != x[0]:
				return 0.125, nil
			case x[2] <= 105 || x[2] != x[2]:
				return 0.5, nil
			}
			return 0.875, nil
		},
	}
}

// constant answers the same for every row of two features.
func constant(v float64) fakeModel {
	return fakeModel{
		spec:    Spec{Platform: "constant", Features: []string{"a", "b"}, Output: FP32},
		predict: func([]float64) (float64, error) { return v, nil },
	}
}

// fakeSource is a Source made of a map. Decoding takes the model from the same place.
type fakeSource struct {
	stored map[string]fakeStored // by name/version
}

type fakeStored struct {
	revision   string
	model      Model
	golden     string
	fetch      error
	decode     error
	onRevision error
}

func (s *fakeSource) Fetch(_ context.Context, name, version string) (Artefact, error) {
	v, ok := s.stored[name+"/"+version]
	if !ok {
		return Artefact{}, errors.New("no such file")
	}
	a := Artefact{Name: name, Version: version, Revision: v.revision, Files: map[string][]byte{}}
	if v.golden != "" {
		a.Files[goldenFile] = []byte(v.golden)
	}
	return a, v.fetch
}

func (s *fakeSource) Revision(_ context.Context, name, version string) (string, error) {
	v := s.stored[name+"/"+version]
	return v.revision, v.onRevision
}

func (s *fakeSource) decoder(a Artefact) (Model, error) {
	v := s.stored[a.Name+"/"+a.Version]
	return v.model, v.decode
}

// newFake returns a repository over a fake source.
func newFake(stored map[string]fakeStored) (*Repository, *fakeSource) {
	s := &fakeSource{stored: stored}
	return NewRepository(RepositoryOptions{Source: s, Decode: s.decoder}), s
}

// serveRisk returns a handler with the fixture model loaded.
func serveRisk(tb testing.TB, o HandlerOptions) http.Handler {
	tb.Helper()
	repo, _ := newFake(map[string]fakeStored{"vehicle-risk/1": {model: riskModel()}})
	if err := repo.Load(tb.Context(), "vehicle-risk", "1"); err != nil {
		tb.Fatal(err)
	}
	return NewHandler(repo, o)
}

// call sends one request to a handler.
func send(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func body1(shape, data string) string {
	return fmt.Sprintf(`{"inputs":[{"name":"input0","datatype":"FP32","shape":%s,"data":%s}]}`, shape, data)
}

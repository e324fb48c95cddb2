package trees

import (
	"errors"
	"math"
	"testing"
)

// fuzzParse holds a parser to its promises: no panic, an error of a known kind, and a model that is accepted answers
// every row with a finite margin.
func fuzzParse(f *testing.F, format string, parse func([]byte) (*document, error)) {
	f.Add(encodings(f, smallModel())[format])
	set := smallModel()
	set["learner"].(obj)["objective"] = obj{"name": "binary:logistic"}
	f.Add(encodings(f, set)[format])
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := parse(data)
		var b *Booster
		if err == nil {
			b, err = build(doc)
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("error of no known kind: %v", err)
			}
			return
		}
		rows := make([]float32, 3*b.Features())
		for i := range b.Features() {
			rows[i], rows[b.Features()+i] = float32(math.NaN()), float32(i)
		}
		var out [3]float32
		if err := b.Predict(rows, out[:]); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"learner":{}}`))
	f.Add([]byte(`[`))
	fuzzParse(f, "JSON", parseJSON)
}

func FuzzParseUBJSON(f *testing.F) {
	f.Add([]byte("{i\x01a[$d#i\x05\x00\x00"))
	f.Add([]byte("{#i\x01i\x01a[$L#i\x00"))
	f.Add([]byte("{NNNi\x01aC\x40}"))
	fuzzParse(f, "UBJSON", parseUBJSON)
}

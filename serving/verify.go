package serving

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

// goldenFile is the name of the rows that an artefact may carry together with what its library answered for them: the
// feature columns in the model's order, then "pred"; other columns after the features are ignored.
const goldenFile = "golden.csv"

// maxUlps is how far an answer may be from the golden one: exp differs between C libraries in the last places.
const maxUlps = 2

// verify asks a model before anybody depends on it. With golden rows the answers must match; without them a row of
// zeros must have a finite answer. Either way the model's memory has been touched when it returns.
func verify(m Model, golden []byte) error {
	spec := m.Spec()
	if len(spec.Features) == 0 || spec.Output != FP32 && spec.Output != FP64 {
		return fmt.Errorf("reading spec: %d features and output %q, want features and %q or %q",
			len(spec.Features), spec.Output, FP32, FP64)
	}
	if golden != nil {
		return verifyGolden(m, spec, golden)
	}
	var out [1]float64
	if err := m.Predict(make([]float64, len(spec.Features)), out[:]); err != nil {
		return fmt.Errorf("predicting a row of zeros: %w", err)
	}
	if math.IsNaN(out[0]) || math.IsInf(out[0], 0) {
		return fmt.Errorf("predicting a row of zeros: got %v, want a finite number", out[0])
	}
	return nil
}

func verifyGolden(m Model, spec Spec, golden []byte) error {
	r := csv.NewReader(bytes.NewReader(golden))
	head, err := r.Read()
	if err != nil {
		return fmt.Errorf("reading %s: %w", goldenFile, err)
	}
	n := len(spec.Features)
	if len(head) < n || !slices.Equal(head[:n], spec.Features) {
		return fmt.Errorf("reading %s: columns %.200q, want the model's features first, %.200q", goldenFile, head, spec.Features)
	}
	pred := slices.Index(head, "pred")
	if pred < n {
		return fmt.Errorf("reading %s: no column \"pred\" after the features", goldenFile)
	}
	rows := 0
	for ; ; rows++ {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = verifyRow(m, spec, rec[:n], rec[pred])
		}
		if err != nil {
			return fmt.Errorf("checking row %d of %s: %w", rows+1, goldenFile, err)
		}
	}
	if rows == 0 {
		return fmt.Errorf("reading %s: no rows", goldenFile)
	}
	return nil
}

func verifyRow(m Model, spec Spec, cells []string, answer string) error {
	row := make([]float64, len(cells))
	for i, cell := range cells {
		v, err := strconv.ParseFloat(cell, 64)
		if err != nil {
			return fmt.Errorf("reading %s %.40q: want a number", spec.Features[i], cell)
		}
		row[i] = v
	}
	want, err := strconv.ParseFloat(answer, 64)
	if err != nil {
		return fmt.Errorf("reading pred %.40q: want a number", answer)
	}
	var out [1]float64
	if err := m.Predict(row, out[:]); err != nil {
		return fmt.Errorf("predicting: %w", err)
	}
	if !near(out[0], want, spec.Output) {
		return fmt.Errorf("predicting: got %v, want %v", out[0], want)
	}
	return nil
}

// near tells whether two finite values are at most maxUlps apart in the given datatype.
func near(got, want float64, datatype string) bool {
	if math.IsNaN(got) || math.IsInf(got, 0) {
		return false
	}
	if datatype == FP32 {
		return abs(order32(float32(got))-order32(float32(want))) <= maxUlps
	}
	return abs(order64(got)-order64(want)) <= maxUlps
}

// order32 and order64 number the floats in their order, zero at zero.
func order32(f float32) int64 {
	bits := int64(math.Float32bits(f))
	if bits > math.MaxInt32 {
		return -(bits & math.MaxInt32)
	}
	return bits
}

func order64(f float64) int64 {
	bits := int64(math.Float64bits(f))
	if bits < 0 {
		return -(bits & math.MaxInt64)
	}
	return bits
}

func abs(n int64) int64 { return max(n, -n) }

package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
)

// compare says whether a copy was answered as the request itself. Two statuses are different. Bodies are the same when their
// bytes are, or when both are JSON and say the same: of an inference (V2) the outputs, since the identifier and the model's
// version always differ, and of anything else everything. Numbers may be as far apart as the tolerance says. What is not
// there as a whole, or compressed and not equal, is skipped: nobody knows.
func (a response) compare(other response, tolerance float64) string {
	switch {
	case a.status == 0:
		return shadowSkipped
	case a.status != other.status:
		return shadowDifferent
	case !a.whole || !other.whole:
		return shadowSkipped
	case bytes.Equal(a.body, other.body):
		return shadowSame
	case a.encoded || other.encoded:
		return shadowSkipped
	}
	one, ok := decoded(a.body)
	two, okToo := decoded(other.body)
	if ok && okToo && alike(said(one), said(two), tolerance) {
		return shadowSame
	}
	return shadowDifferent
}

// decoded is a body that is one JSON value.
func decoded(body []byte) (value any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return nil, false
	}
	_, err := d.Token()
	return value, err == io.EOF
}

// said is what an answer says: the outputs of an inference, or all of it.
func said(value any) any {
	if o, ok := value.(map[string]any); ok && o["outputs"] != nil {
		return o["outputs"]
	}
	return value
}

// alike compares two values of JSON.
func alike(a, b any, tolerance float64) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		return ok && near(a, b, tolerance)
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !alike(a[i], b[i], tolerance) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name := range a {
			if other, there := b[name]; !there || !alike(a[name], other, tolerance) {
				return false
			}
		}
		return true
	}
	return a == b
}

// near says whether two numbers differ by no more than the tolerance of the greater one, or of 1 where both are smaller.
func near(a, b json.Number, tolerance float64) bool {
	if a == b {
		return true
	}
	x, errX := a.Float64()
	y, errY := b.Float64()
	return errX == nil && errY == nil && math.Abs(x-y) <= tolerance*max(1, math.Abs(x), math.Abs(y))
}

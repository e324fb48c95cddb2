package serving

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"testing"
)

// FuzzDecodeRequest holds the decoder to encoding/json: what it accepts is valid JSON with the same values, what it
// refuses is the client's fault, and nothing panics or grows beyond the body.
func FuzzDecodeRequest(f *testing.F) {
	for _, s := range []string{
		body1("[1,4]", "[1,2,3,4]"),
		body1("[2,4]", "[[1,null,-3e2,4],[5,6.25,7,8]]"),
		`{"id":"a\u00e9","parameters":{"x":1,"y":"z","b":true},"inputs":[{"data":[1,2,3,4],"shape":[1,4],"datatype":"FP64","name":"input0"}],"outputs":[{"name":"predict"}]}`,
		`{"inputs":[{"name":"input0","shape":[9223372036854775807,4],"datatype":"FP32","data":[1]}]}`,
		`{"a":[{"b":[[[]]]}],"inputs":[]}`,
		`{"inputs":[{"name":"input0","shape":[1,4],"datatype":"FP32","data":[NaN,1e400,01,"a"]}]}`,
		``, `[`, `{"\ud800":0}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		const features = 4
		var req request
		if err := decodeRequest(body, features, &req); err != nil {
			var s *statusError
			if !errors.As(err, &s) || s.code != http.StatusBadRequest {
				t.Fatalf("error %v, want a 400", err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatalf("accepted %q, which is not JSON", body)
		}
		if len(req.values) != req.rows*features || len(req.values) > len(body) {
			t.Fatalf("%d values for %d rows in %d bytes", len(req.values), req.rows, len(body))
		}
		checkAgainstJSON(t, body, &req)
	})
}

// checkAgainstJSON compares with encoding/json. That reads keys in any case; where such a key stands beside the real one
// the two may differ, so only the exact map is asked.
func checkAgainstJSON(t *testing.T, body []byte, req *request) {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	var inputs []map[string]json.RawMessage
	if err := json.Unmarshal(m["inputs"], &inputs); err != nil || len(inputs) != 1 {
		t.Fatalf("inputs %s: %v", m["inputs"], err)
	}
	var datatype string
	var data []any
	if err := errors.Join(json.Unmarshal(inputs[0]["datatype"], &datatype), json.Unmarshal(inputs[0]["data"], &data)); err != nil {
		t.Fatal(err)
	}
	var flat []any
	for _, v := range data {
		if row, ok := v.([]any); ok {
			flat = append(flat, row...)
			continue
		}
		flat = append(flat, v)
	}
	if len(flat) != len(req.values) {
		t.Fatalf("%d values, encoding/json reads %d", len(req.values), len(flat))
	}
	for i, v := range flat {
		want, ok := v.(float64)
		got := req.values[i]
		switch {
		case !ok && got != got:
		case datatype == FP64 && got == want:
		case datatype == FP32 && math.Abs(got-want) <= math.Abs(want)*1e-7+math.SmallestNonzeroFloat32:
		default:
			t.Fatalf("value %d is %v, encoding/json reads %v", i, got, v)
		}
	}
}

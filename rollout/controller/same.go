package controller

import (
	"encoding/json"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// sameSpec says whether a live object says what is wanted and nothing else. Fields of the spec that nobody has written are
// the API server's, such as the address of a Service, and count for nothing.
func sameSpec(live, want *unstructured.Unstructured) bool {
	a, b := plain(live.Object["spec"]), plain(want.Object["spec"])
	if reflect.DeepEqual(a, b) {
		return true
	}
	left, ok := a.(map[string]any)
	wanted, also := b.(map[string]any)
	if !ok || !also {
		return false
	}
	written := writtenFields(live)
	for field := range left {
		if _, ours := wanted[field]; !ours && !written[field] {
			delete(left, field) // plain has copied it
		}
	}
	return reflect.DeepEqual(left, wanted)
}

// writtenFields are the fields of the spec that somebody has written, by the object's own account.
func writtenFields(live *unstructured.Unstructured) map[string]bool {
	written := map[string]bool{}
	for _, m := range live.GetManagedFields() {
		if m.Subresource != "" || m.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		if json.Unmarshal(m.FieldsV1.Raw, &fields) != nil {
			continue
		}
		for field := range fields.Spec {
			if len(field) > len("f:") {
				written[field[len("f:"):]] = true
			}
		}
	}
	return written
}

// plain is a value as JSON has it: numbers of one value may have several Go types.
func plain(v any) any {
	raw, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var out any
	if json.Unmarshal(raw, &out) != nil {
		return v
	}
	return out
}

package controller

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// body is the field that holds what an object says: a ConfigMap has no spec.
func body(o *unstructured.Unstructured) string {
	if _, ok := o.Object["data"]; ok {
		return "data"
	}
	return "spec"
}

// sameSpec says whether a live object says what is wanted and nothing else. Fields of the spec that nobody has written are
// the API server's, such as the address of a Service, and count for nothing.
func sameSpec(live, want *unstructured.Unstructured) bool {
	a, b := compared(live, want)
	if filledIn(want) {
		return covers(a, b) && covers(plain(live.GetAnnotations()), plain(want.GetAnnotations()))
	}
	return sameAnnotations(live, want) && reflect.DeepEqual(a, b)
}

// compared returns what a live object says and what is wanted, without the fields that are the API server's.
func compared(live, want *unstructured.Unstructured) (a, b any) {
	field := body(want)
	a, b = plain(live.Object[field]), plain(want.Object[field])
	left, ok := a.(map[string]any)
	wanted, also := b.(map[string]any)
	if !ok || !also || reflect.DeepEqual(a, b) {
		return a, b
	}
	written := writtenFields(live, field)
	for field := range left {
		if _, ours := wanted[field]; !ours && !written[field] {
			delete(left, field) // plain has copied it
		}
	}
	return left, wanted
}

// filledIn says whether the cluster fills in fields inside the spec, so that only what is wanted can be compared.
func filledIn(want *unstructured.Unstructured) bool {
	return want.GetAnnotations()[mesh.DefaultsAnnotation] != ""
}

// covers says whether a value has all that another one has: maps may have more keys, lists not more elements.
func covers(live, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		l, ok := live.(map[string]any)
		for k := range w {
			ok = ok && covers(l[k], w[k])
		}
		return ok
	case []any:
		l, ok := live.([]any)
		if !ok && live != nil || len(l) != len(w) {
			return false
		}
		for i := range w {
			if !covers(l[i], w[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(live, want)
}

// sameAnnotations compares the annotations that are part of what an object says: those that are wanted, and whatever else
// has the prefix of one of them, since who reads one reads its neighbours. Siskin's own are none of them.
func sameAnnotations(live, want *unstructured.Unstructured) bool {
	return len(foreignAnnotations(live, want)) == 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(want.GetAnnotations())), func(key string) bool {
		return !ofSiskin(key) && live.GetAnnotations()[key] != want.GetAnnotations()[key]
	})
}

func foreignAnnotations(live, want *unstructured.Unstructured) []string {
	prefixes := map[string]bool{}
	for key := range want.GetAnnotations() {
		if prefix, _, found := strings.Cut(key, "/"); found && !ofSiskin(key) {
			prefixes[prefix] = true
		}
	}
	var foreign []string
	for key := range live.GetAnnotations() {
		prefix, _, _ := strings.Cut(key, "/")
		if _, wanted := want.GetAnnotations()[key]; prefixes[prefix] && !wanted {
			foreign = append(foreign, key)
		}
	}
	return foreign
}

func ofSiskin(annotation string) bool {
	return strings.HasPrefix(annotation, v1alpha1.GroupVersion.Group+"/")
}

// overwrite makes an object say what is wanted and nothing else.
func overwrite(live, want *unstructured.Unstructured) {
	live.Object[body(want)] = want.Object[body(want)]
	if filledIn(want) {
		return
	}
	if foreign := foreignAnnotations(live, want); len(foreign) > 0 {
		annotations := live.GetAnnotations()
		for _, key := range foreign {
			delete(annotations, key)
		}
		live.SetAnnotations(annotations)
	}
}

// writtenFields are the fields of the spec, or of what stands for it, that somebody has written, by the object's own account.
func writtenFields(live *unstructured.Unstructured, of string) map[string]bool {
	written := map[string]bool{}
	for _, m := range live.GetManagedFields() {
		if m.Subresource != "" || m.FieldsV1 == nil {
			continue
		}
		var fields map[string]json.RawMessage
		if json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		var inside map[string]json.RawMessage
		if json.Unmarshal(fields["f:"+of], &inside) != nil {
			continue
		}
		for field := range inside {
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

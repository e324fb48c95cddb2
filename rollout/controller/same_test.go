package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/mesh"
)

// saying is an object with a spec, annotations by key and value, and what somebody has written of the spec.
func saying(spec map[string]any, written string, annotations ...string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	all := map[string]string{}
	for i := 0; i < len(annotations); i += 2 {
		all[annotations[i]] = annotations[i+1]
	}
	o.SetAnnotations(all)
	if written != "" {
		o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "somebody", FieldsV1: metav1.NewFieldsV1(written)}})
	}
	return o
}

// holding is an object with files in its data: one of ours, and one of somebody's unless it is empty.
func holding(mine, theirs string) *unstructured.Unstructured {
	data := map[string]any{"mine": mine}
	o := &unstructured.Unstructured{Object: map[string]any{"data": data}}
	if theirs != "" {
		data["theirs"] = theirs
		o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "somebody", FieldsV1: metav1.NewFieldsV1(`{"f:data":{"f:theirs":{}}}`)}})
	}
	return o
}

func TestSameSpec(t *testing.T) {
	const ours = `{"f:metadata":{},"f:spec":{"f:port":{}}}`
	cases := map[string]struct {
		reason     string
		live, want *unstructured.Unstructured
		same       bool
	}{
		"Equal":      {"Numbers of one value are the same whatever their type.", saying(map[string]any{"port": int64(1)}, ""), saying(map[string]any{"port": 1.0}, ""), true},
		"Changed":    {"A value is another one.", saying(map[string]any{"port": int64(2)}, ours), saying(map[string]any{"port": int64(1)}, ""), false},
		"Missing":    {"A value was taken away.", saying(map[string]any{}, ours), saying(map[string]any{"port": int64(1)}, ""), false},
		"Default":    {"A field that nobody wrote is the API server's.", saying(map[string]any{"port": int64(1), "clusterIP": "10.0.0.1"}, ours), saying(map[string]any{"port": int64(1)}, ""), true},
		"Added":      {"One that somebody wrote is drift.", saying(map[string]any{"port": int64(1), "clusterIP": "10.0.0.1"}, `{"f:spec":{"f:clusterIP":{}}}`), saying(map[string]any{"port": int64(1)}, ""), false},
		"Inside":     {"Further down every field counts.", saying(map[string]any{"port": map[string]any{"a": "b", "c": "d"}}, ours), saying(map[string]any{"port": map[string]any{"a": "b"}}, ""), false},
		"NoSpec":     {"An object without a spec says nothing.", &unstructured.Unstructured{Object: map[string]any{}}, saying(map[string]any{"port": int64(1)}, ""), false},
		"Data":       {"What has no spec says it in its data.", holding("a: 1", ""), holding("a: 1", ""), true},
		"OtherData":  {"It says something else.", holding("a: 2", ""), holding("a: 1", ""), false},
		"MoreData":   {"Somebody added a file.", holding("a: 1", "b: 1"), holding("a: 1", ""), false},
		"Noted":      {"An annotation that is wanted is there.", saying(nil, "", "a/b", "1"), saying(nil, "", "a/b", "1"), true},
		"NotNoted":   {"It says something else.", saying(nil, "", "a/b", "2"), saying(nil, "", "a/b", "1"), false},
		"Neighbour":  {"Who reads the one reads the other, which nobody wanted.", saying(nil, "", "a/b", "1", "a/c", "1"), saying(nil, "", "a/b", "1"), false},
		"Stranger":   {"An annotation for somebody else is none of ours.", saying(nil, "", "a/b", "1", "z/c", "1"), saying(nil, "", "a/b", "1"), true},
		"FilledIn":   {"Where the cluster fills in, more is the same.", saying(map[string]any{"p": map[string]any{"a": 1, "b": 2}, "l": []any{}}, "", mesh.DefaultsAnnotation, "inside", "a/b", "1"), saying(map[string]any{"p": map[string]any{"a": 1}}, "", mesh.DefaultsAnnotation, "inside"), true},
		"FilledLess": {"Less is not.", saying(map[string]any{"p": map[string]any{}}, "", mesh.DefaultsAnnotation, "inside"), saying(map[string]any{"p": map[string]any{"a": 1}}, "", mesh.DefaultsAnnotation, "inside"), false},
		"FilledList": {"Nor is a longer list.", saying(map[string]any{"l": []any{1}}, "", mesh.DefaultsAnnotation, "inside"), saying(map[string]any{"l": []any{}}, "", mesh.DefaultsAnnotation, "inside"), false},
		"Signature":  {"Siskin's own say nothing about the traffic.", saying(nil, "", "siskin.dev/ended-run", "1"), saying(nil, "", "siskin.dev/x", "2"), true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := sameSpec(tc.live, tc.want); got != tc.same {
				t.Errorf("%s\nsameSpec(...) = %t, want %t", tc.reason, got, tc.same)
			}
			overwrite(tc.live, tc.want)
			if !cmp.Equal(plain(tc.live.Object[body(tc.want)]), plain(tc.want.Object[body(tc.want)])) || (!filledIn(tc.want) && len(foreignAnnotations(tc.live, tc.want)) > 0) {
				t.Errorf("overwritten: %v, want what %v says", tc.live.Object, tc.want.Object)
			}
		})
	}
}

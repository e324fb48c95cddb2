package controller

import (
	"strconv"
	"strings"
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

// TestDifferences: what differs is named by its path, by the rules that say whether anything does, and is never long.
func TestDifferences(t *testing.T) {
	routes := func(timeouts ...string) map[string]any {
		var all []any
		for _, d := range timeouts {
			all = append(all, map[string]any{"timeout": d})
		}
		return map[string]any{"http": all}
	}
	long := strings.Repeat("é", 400)
	cases := map[string]struct {
		reason     string
		live, want *unstructured.Unstructured
		says       string
	}{
		"Changed":   {"A field deep inside.", saying(routes("3s", "5s"), ""), saying(routes("3s", "3s"), ""), `spec.http[1].timeout is "5s", written "3s"`},
		"Missing":   {"It was taken away.", saying(map[string]any{}, ""), saying(map[string]any{"host": "a"}, ""), `spec.host is missing, written "a"`},
		"Added":     {"It was added, and somebody says so.", saying(map[string]any{"host": "a", "exportTo": []any{"."}}, `{"f:spec":{"f:exportTo":{}}}`), saying(map[string]any{"host": "a"}, ""), `spec.exportTo is ["."], not written`},
		"Default":   {"Nobody has written it.", saying(map[string]any{"host": "b", "clusterIP": "10.0.0.1"}, `{"f:spec":{"f:host":{}}}`), saying(map[string]any{"host": "a"}, ""), `spec.host is "b", written "a"`},
		"Longer":    {"Of a list of another length no element is compared.", saying(routes("1s", "2s"), ""), saying(routes("2s"), ""), `spec.http has 2 elements, written 1`},
		"NoList":    {"It is of another kind.", saying(map[string]any{"http": "a"}, ""), saying(routes("2s"), ""), `spec.http is "a", written [{"timeout":"2s"}]`},
		"Name":      {"A name with dots is quoted.", saying(map[string]any{"a.b/c": 1}, `{"f:spec":{"f:a.b/c":{}}}`), saying(map[string]any{"a.b/c": 2}, ""), `spec["a.b/c"] is 1, written 2`},
		"Many":      {"Three fields, and how many more.", saying(routes("1s", "1s", "1s", "1s", "1s"), ""), saying(routes("2s", "2s", "2s", "2s", "1s"), ""), `spec.http[0].timeout is "1s", written "2s", spec.http[1].timeout is "1s", written "2s", spec.http[2].timeout is "1s", written "2s", and 1 more`},
		"Data":      {"What has no spec.", holding("a: 2", ""), holding("a: 1", ""), `data.mine is "a: 2", written "a: 1"`},
		"Neighbour": {"An annotation.", saying(nil, "", "a/b", "2", "a/c", "1", "z/c", "1"), saying(nil, "", "a/b", "1", "siskin.dev/x", "2"), `metadata.annotations["a/b"] is "2", written "1", metadata.annotations["a/c"] is "1", not written`},
		"FilledIn":  {"Where the cluster fills in, only what is wanted counts.", saying(map[string]any{"p": map[string]any{"a": 1, "b": 2}}, "", mesh.DefaultsAnnotation, "inside"), saying(map[string]any{"p": map[string]any{"a": 3}}, "", mesh.DefaultsAnnotation, "inside"), `spec.p.a is 1, written 3`},
		"Long":      {"Values and paths are cut.", saying(map[string]any{long: long}, `{"f:spec":{"f:`+long+`":{}}}`), saying(map[string]any{long: "a"}, ""), `spec["` + strings.Repeat("é", 37) + `... is "` + strings.Repeat("é", 27) + `..., written "a"`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := differences(tc.live, tc.want); got != tc.says {
				t.Errorf("%s\ngot  %s\nwant %s", tc.reason, got, tc.says)
			}
			if sameSpec(tc.live, tc.want) || differences(tc.want, tc.want) != "" {
				t.Errorf("%s\nwhat differs is the same, or what is the same differs: %q", tc.reason, differences(tc.want, tc.want))
			}
		})
	}
}

// TestDifferencesFitAnEvent: however much differs, an event, which takes 1024 bytes, has room for it and for a name.
func TestDifferencesFitAnEvent(t *testing.T) {
	live, want := map[string]any{}, map[string]any{}
	for i := range 200 {
		name := strings.Repeat("n", 400) + strconv.Itoa(i)
		live[name], want[name] = strings.Repeat("é", 400), strings.Repeat("ü", 400)
	}
	if got := differences(saying(live, ""), saying(want, "")); len(got) > 700 || !strings.HasSuffix(got, ", and 197 more") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}

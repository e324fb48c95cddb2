package plain

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/mesh"
)

func traffic() mesh.Traffic {
	return mesh.Traffic{
		Rollout:      "coolant",
		Service:      mesh.Service{Namespace: "edge", Name: "coolant", Port: 8080},
		VersionLabel: "version",
		Shares:       []mesh.Share{{Variant: mesh.Stable, Version: "v2"}, {Variant: mesh.Canary, Version: "v10"}},
	}
}

func TestOfVersions(t *testing.T) {
	cases := map[string]struct {
		reason string
		extra  []string
		want   []string // versions, which name the Services
	}{
		"Shares":  {"One for each version, in one order.", nil, []string{"v10", "v2"}},
		"Leaving": {"A version that leaves is reachable for now; none is written twice.", []string{"v1", "v2", ""}, []string{"v1", "v10", "v2"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var names, want, versions []string
			for _, o := range OfVersions(traffic(), tc.extra...) {
				names = append(names, o["metadata"].(map[string]any)["name"].(string))
				versions = append(versions, Version(o, "version"))
			}
			for _, v := range tc.want {
				want = append(want, traffic().Service.Of(v))
			}
			if diff := cmp.Diff(tc.want, versions); diff != "" {
				t.Errorf("%s\nversions: -want, +got:\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("%s\nnames: -want, +got:\n%s", tc.reason, diff)
			}
		})
	}
}

func TestPorts(t *testing.T) {
	port := func(t mesh.Traffic) any { return OfVersions(t)[0]["spec"].(map[string]any)["ports"].([]any)[0] }
	tr := traffic()
	if diff := cmp.Diff(any(map[string]any{"name": "http", "protocol": "TCP", "port": int64(8080), "targetPort": int64(8080)}), port(tr)); diff != "" {
		t.Errorf("without a target port: -want, +got:\n%s", diff)
	}
	tr.Service.TargetPort = 9000
	if diff := cmp.Diff(any(map[string]any{"name": "http", "protocol": "TCP", "port": int64(8080), "targetPort": int64(9000)}), port(tr)); diff != "" {
		t.Errorf("with one: -want, +got:\n%s", diff)
	}
}

func TestVersionOfOthers(t *testing.T) {
	for name, o := range map[string]mesh.Object{
		"Empty": {}, "NoSelector": {"spec": map[string]any{}}, "Other": {"spec": map[string]any{"selector": map[string]any{"app": "coolant"}}},
	} {
		if v := Version(o, "version"); strings.TrimSpace(v) != "" {
			t.Errorf("%s: Version(...) = %q, want none", name, v)
		}
	}
}

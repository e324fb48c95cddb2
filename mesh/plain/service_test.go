package plain

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
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

func everybody(version string) mesh.Traffic {
	t := traffic()
	t.Shares = []mesh.Share{{Variant: mesh.Stable, Version: "v1"}, {Variant: mesh.Canary, Version: "v2"}}
	for i, s := range t.Shares {
		for b := 0; s.Version == version && b < mesh.Buckets; b++ {
			t.Shares[i].Buckets = append(t.Shares[i].Buckets, b)
		}
	}
	return t
}

// TestRender: the Service selects whoever has all buckets, and nothing else of it changes.
func TestRender(t *testing.T) {
	blue, err := Render(everybody("v1"))
	if err != nil {
		t.Fatal(err)
	}
	green, err := Render(everybody("v2"))
	if err != nil {
		t.Fatal(err)
	}
	if b, g := Version(blue, "version"), Version(green, "version"); b != "v1" || g != "v2" {
		t.Errorf("versions: %q and %q, want v1 and v2", b, g)
	}
	want := mesh.Object{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": "coolant", "namespace": "edge", "labels": map[string]any{
			"siskin.dev/rollout": "coolant", "app.kubernetes.io/managed-by": "siskin",
		}},
		"spec": map[string]any{
			"selector": map[string]any{"app": "coolant", "version": "v2"},
			"ports":    []any{map[string]any{"name": "http", "protocol": "TCP", "port": int64(8080), "targetPort": int64(8080)}},
		},
	}
	if diff := cmp.Diff(want, green); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

func TestLimits(t *testing.T) { meshtest.Complete(t, Limits()) }

// TestTyped reads what is written with Kubernetes' own type, which knows every field and no other.
func TestTyped(t *testing.T) {
	green, err := Render(everybody("v2"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range append(OfVersions(everybody("v2")), green) {
		data, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var s corev1.Service
		if err := yaml.UnmarshalStrict(data, &s); err != nil {
			t.Error(err)
		}
	}
}

func TestRefuses(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   func(*mesh.Traffic)
		want   mesh.Feature
	}{
		"Split": {"One version is selected.", func(t *mesh.Traffic) {
			t.Shares[0].Buckets, t.Shares[1].Buckets = t.Shares[0].Buckets[:90], t.Shares[0].Buckets[90:]
		}, mesh.Split},
		"Header": {"Nobody reads it.", func(t *mesh.Traffic) { t.BucketHeader = mesh.BucketHeader }, mesh.HeaderBuckets},
		"Cookie": {"Nobody sets it.", func(t *mesh.Traffic) { t.Cookie = &mesh.Cookie{Name: "c", MaxAgeSeconds: 1} }, mesh.CookieBuckets},
		"Limit":  {"Nobody limits.", func(t *mesh.Traffic) { t.RateLimit = &mesh.RateLimit{RequestsPerSecond: 1} }, mesh.RateLimits},
		"Hosts": {"There is no gateway.", func(t *mesh.Traffic) {
			t.Service.Hosts, t.Service.Gateways = []string{"a.b"}, []string{"g"}
		}, mesh.Exposure},
		"Arms": {"Three are too many.", func(t *mesh.Traffic) { t.Shares = append(t.Shares, mesh.Share{Variant: "a", Version: "v3"}) }, mesh.Variants},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tr := everybody("v1")
			tc.args(&tr)
			_, err := Render(tr)
			var no *mesh.UnsupportedError
			if !errors.As(err, &no) || no.Feature != tc.want {
				t.Errorf("%s\nRender(...): %v; want an UnsupportedError of %q", tc.reason, err, tc.want)
			}
		})
	}
	if _, err := Render(mesh.Traffic{Rollout: "coolant"}); err == nil {
		t.Error("an invalid traffic was rendered")
	}
}

package wire

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// TestProvidersAreTheEnum: a Rollout can name every provider that there is, and no other.
func TestProvidersAreTheEnum(t *testing.T) {
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(charts.RolloutCRD, &crd); err != nil {
		t.Fatal(err)
	}
	var enum []string
	for _, v := range crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties["provider"].Enum {
		enum = append(enum, strings.Trim(string(v.Raw), `"`))
	}
	slices.Sort(enum)
	if diff := cmp.Diff(enum, Providers()); diff != "" {
		t.Errorf("providers: -CRD, +wire:\n%s", diff)
	}
}

func TestRoutersFor(t *testing.T) {
	routers, err := routersFor(nil, false)
	if err != nil || len(routers) != 1 || routers[v1alpha1.ProviderIstio] == nil {
		t.Errorf("routersFor(nothing) = %v, %v; want Istio's", routers, err)
	}
	routers, err = routersFor([]string{"GatewayAPI"}, false)
	if err != nil || len(routers) != 1 || routers[v1alpha1.ProviderGatewayAPI] == nil {
		t.Errorf("routersFor(GatewayAPI) = %v, %v; want that one alone", routers, err)
	}
	if _, err = routersFor([]string{"Istio", "Linkerd"}, false); err == nil || !strings.Contains(err.Error(), `"Linkerd"`) {
		t.Errorf("routersFor(Linkerd): %v, want an error that names it", err)
	}
}

// TestQuotas: without the right to ConfigMaps a global limit is refused with a sentence, and no ConfigMap is so much as looked at.
func TestQuotas(t *testing.T) {
	limited := mesh.Traffic{
		Rollout: "coolant", VersionLabel: "version", Service: mesh.Service{Namespace: "edge", Name: "coolant", Port: 8080},
		Shares:    []mesh.Share{{Variant: mesh.Stable, Version: "v1", Buckets: rollout.Others(nil)}},
		RateLimit: &mesh.RateLimit{Global: &mesh.GlobalLimit{Host: "ratelimit.edge.svc.cluster.local", Port: 8081, Requests: 5, Unit: mesh.PerSecond}},
	}
	free := limited
	free.RateLimit = nil
	kindsOf := func(all []*unstructured.Unstructured) (kinds []string) {
		for _, o := range all {
			kinds = append(kinds, o.GetKind())
		}
		slices.Sort(kinds)
		return kinds
	}
	_, err := Istio{}.Render(limited, nil)
	if no, ok := errors.AsType[*mesh.UnsupportedError](err); !ok || !strings.Contains(no.Error(), "--global-rate-limits") {
		t.Errorf("Render(...) = %v, want an UnsupportedError that names the flag", err)
	}
	cases := map[string]struct {
		reason       string
		router       Istio
		args         mesh.Traffic
		limits, keys []string
	}{
		"Off":  {"What may not be written is not read.", Istio{}, free, nil, []string{"EnvoyFilter"}},
		"On":   {"The quotas go with the filter.", Istio{Quotas: true}, limited, []string{"ConfigMap", "EnvoyFilter"}, []string{"ConfigMap", "EnvoyFilter"}},
		"Free": {"Earlier ones have to go.", Istio{Quotas: true}, free, nil, []string{"ConfigMap", "EnvoyFilter"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o, err := tc.router.Render(tc.args, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.limits, kindsOf(o.Limits)) + cmp.Diff(tc.keys, kindsOf(o.LimitKeys)); diff != "" {
				t.Errorf("%s\nlimits and keys: -want, +got:\n%s", tc.reason, diff)
			}
		})
	}
}

// TestRouters: what a router writes is of the kinds that it says, carries the rollout's label, and what makes a version
// reachable can be read back.
func TestRouters(t *testing.T) {
	for name, r := range all(true) {
		t.Run(string(name), func(t *testing.T) {
			traffic := mesh.Traffic{
				Rollout: "coolant", VersionLabel: "version", Service: mesh.Service{Namespace: "edge", Name: "coolant", Port: 8080},
				Shares: []mesh.Share{{Variant: mesh.Stable, Version: "v1", Buckets: rollout.Others(nil)}},
			}
			want := []string{"v0", "v1"}
			switch name {
			case v1alpha1.ProviderNGINX:
				traffic.Service.Hosts, traffic.Service.Gateways = []string{"predict.example.com"}, []string{"nginx"}
			case v1alpha1.ProviderService:
				want = want[1:] // one write changes the version
			case v1alpha1.ProviderSeldon:
				want = nil // the Models are the user's
			case v1alpha1.ProviderKServe:
				want, traffic.Serving = nil, &mesh.Serving{Predictor: []byte("{}")} // one object runs them all
			}
			o, err := r.Render(traffic, []string{"v0"})
			if err != nil {
				t.Fatal(err)
			}
			var versions []string
			for _, s := range append(slices.Clone(o.Subsets), o.Route) {
				if !slices.Contains(r.Kinds(), s.GroupVersionKind()) {
					t.Errorf("%s is not among the kinds %v", s.GroupVersionKind(), r.Kinds())
				}
				if s.GetLabels()[v1alpha1.LabelRollout] != "coolant" || s.GetNamespace() != "edge" {
					t.Errorf("%s %q has labels %v", s.GetKind(), s.GetName(), s.GetLabels())
				}
				versions = append(versions, r.Versions(s, "version")...)
			}
			if diff := cmp.Diff(want, versions); diff != "" {
				t.Errorf("versions that are reachable: -want, +got:\n%s", diff)
			}
		})
	}
}

package istio

import (
	"encoding/json"
	"testing"
	"time"

	api "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
	"github.com/siskin-dev/siskin/mesh"
)

// TestEqualAfterTheAPIServer sends each object through the JSON that an API server keeps and compares it with itself.
func TestEqualAfterTheAPIServer(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, _ string, traffic mesh.Traffic) {
		o := render(t, traffic)
		sameAfter(t, o.VirtualService, &networkingv1.VirtualService{})
		sameAfter(t, o.DestinationRule, &networkingv1.DestinationRule{})
		if o.EnvoyFilter != nil {
			sameAfter(t, o.EnvoyFilter, o.EnvoyFilter.DeepCopy())
		}
	})
}

func sameAfter[T Object](t *testing.T, written, read T) {
	t.Helper()
	u, err := Unstructured(written)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, read); err != nil {
		t.Fatal(err)
	}
	if !Equal(written, read) {
		t.Errorf("%T is not equal to what it becomes in JSON:\n%s", written, data)
	}
}

func TestEqual(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   func(vs *networkingv1.VirtualService)
		want   bool
	}{
		"Same":     {"A copy is equal.", func(*networkingv1.VirtualService) {}, true},
		"Metadata": {"What the API server adds is no difference.", func(vs *networkingv1.VirtualService) { vs.ResourceVersion, vs.Generation = "7", 3 }, true},
		"Marshal":  {"Nor is what a message remembers of being marshalled.", func(vs *networkingv1.VirtualService) { _, _ = json.Marshal(vs) }, true},
		"Weight": {"A foreign edit of a weight is.", func(vs *networkingv1.VirtualService) {
			weighted := vs.Spec.Http[len(vs.Spec.Http)-1]
			weighted.Route[0].Weight, weighted.Route[1].Weight = weighted.Route[1].Weight, weighted.Route[0].Weight
		}, false},
		"Zero": {"So is a weight of 0, although JSON does not show it.", func(vs *networkingv1.VirtualService) { vs.Spec.Http[0].Route[0].Weight = 0 }, false},
		"Retries": {"No retries and Istio's default are different, although both have no attempts.", func(vs *networkingv1.VirtualService) {
			vs.Spec.Http[len(vs.Spec.Http)-1].Retries = nil
		}, false},
		"Order": {"The first match wins, so order counts.", func(vs *networkingv1.VirtualService) {
			vs.Spec.Http[0], vs.Spec.Http[1] = vs.Spec.Http[1], vs.Spec.Http[0]
		}, false},
		"Foreign": {"A field that Siskin never sets is a difference too.", func(vs *networkingv1.VirtualService) { vs.Spec.Http[0].Fault = &api.HTTPFaultInjection{} }, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			wanted := render(t, meshtest.Read(t, "testdata/header-25.in.yaml")).VirtualService
			observed := wanted.DeepCopy()
			tc.args(observed)
			if got := Equal(wanted, observed); got != tc.want {
				t.Errorf("%s\nEqual(...) = %t, want %t", tc.reason, got, tc.want)
			}
		})
	}
}

func TestEqualNil(t *testing.T) {
	limited := render(t, meshtest.Read(t, "testdata/ratelimit-all.in.yaml")).EnvoyFilter
	free := render(t, meshtest.Read(t, "testdata/stable.in.yaml")).EnvoyFilter
	if free != nil {
		t.Fatal("Without a rate limit there is an EnvoyFilter")
	}
	if Equal(limited, free) || Equal(free, limited) || !Equal(free, free) {
		t.Error("A filter and none are equal, or none is not equal to none")
	}
}

func TestUnstructuredIsReadyToApply(t *testing.T) {
	vs := render(t, meshtest.Read(t, "testdata/header-25.in.yaml")).VirtualService
	// As read from an API server: apply refuses managed fields, and the rest is not ours to say.
	vs.CreationTimestamp = metav1.NewTime(time.Unix(1_700_000_000, 0))
	vs.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "other"}}
	vs.ResourceVersion, vs.UID, vs.Generation = "7", "u", 3
	vs.OwnerReferences = []metav1.OwnerReference{{Kind: "Rollout", Name: "coolant"}}
	vs.Status.ObservedGeneration = 3
	u, err := Unstructured(vs)
	if err != nil {
		t.Fatal(err)
	}
	metadata := u.Object["metadata"].(map[string]any)
	for _, field := range []string{"name", "namespace", "labels", "ownerReferences"} {
		if _, there := metadata[field]; !there {
			t.Errorf("metadata.%s is missing", field)
		}
	}
	if len(metadata) != 4 || len(u.Object) != 4 {
		t.Errorf("object = %v with metadata %v, want apiVersion, kind, spec and only our metadata", u.Object, metadata)
	}
	if u.GetLabels()[RolloutLabel] != "coolant" || u.GetLabels()[ManagedByLabel] != ManagedBy {
		t.Errorf("labels = %v", u.GetLabels())
	}
	if got := u.GroupVersionKind().String(); got != "networking.istio.io/v1, Kind=VirtualService" {
		t.Errorf("kind = %s", got)
	}
	// Unstructured content holds int64 and float64 only, else a deep copy panics.
	u.DeepCopy()
}

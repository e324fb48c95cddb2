package istio

import (
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
	"github.com/siskin-dev/siskin/mesh"
)

// TestSameAfterTheAPIServer sends each object through the JSON that an API server keeps and compares it with itself.
func TestSameAfterTheAPIServer(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, _ string, traffic mesh.Traffic) {
		o := render(t, traffic)
		vs, dr := &networkingv1.VirtualService{}, &networkingv1.DestinationRule{}
		sameAfter(t, o.VirtualService, vs, &o.VirtualService.Spec, &vs.Spec)
		sameAfter(t, o.DestinationRule, dr, &o.DestinationRule.Spec, &dr.Spec)
		if o.EnvoyFilter != nil {
			ef := &v1alpha3.EnvoyFilter{}
			sameAfter(t, o.EnvoyFilter, ef, &o.EnvoyFilter.Spec, &ef.Spec)
		}
	})
}

func sameAfter[T Object](t *testing.T, written, read T, wrote, is proto.Message) {
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
	if !proto.Equal(wrote, is) {
		t.Errorf("%T is not equal to what it becomes in JSON:\n%s", written, data)
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

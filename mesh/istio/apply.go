package istio

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// Object is one of the kinds that Render writes.
type Object interface {
	*networkingv1.VirtualService | *networkingv1.DestinationRule | *v1alpha3.EnvoyFilter
	runtime.Object
}

// Equal says whether two objects have the same spec. It compares messages, not memory nor JSON: in JSON a weight of 0
// and no weight are the same, and a message that was marshalled holds more than its fields. Two nils are equal.
func Equal[T Object](a, b T) bool { return proto.Equal(spec(a), spec(b)) }

// spec is nil for a nil object.
func spec(object any) proto.Message {
	switch o := object.(type) {
	case *networkingv1.VirtualService:
		if o != nil {
			return &o.Spec
		}
	case *networkingv1.DestinationRule:
		if o != nil {
			return &o.Spec
		}
	case *v1alpha3.EnvoyFilter:
		if o != nil {
			return &o.Spec
		}
	}
	return nil
}

// Unstructured is the object in the form for server-side apply: only what Siskin says, without a status and without
// what the API server fills in.
func Unstructured[T Object](object T) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", object, err)
	}
	u := &unstructured.Unstructured{}
	// This decoder keeps integers, as the API server's patches do.
	if err := utiljson.Unmarshal(data, &u.Object); err != nil {
		return nil, fmt.Errorf("decoding %T: %w", object, err)
	}
	unstructured.RemoveNestedField(u.Object, "status")
	for _, field := range []string{"creationTimestamp", "managedFields", "resourceVersion", "uid", "generation", "selfLink"} {
		unstructured.RemoveNestedField(u.Object, "metadata", field)
	}
	return u, nil
}

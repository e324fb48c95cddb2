package istio

import (
	"encoding/json"
	"fmt"

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

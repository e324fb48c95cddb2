package istio

import (
	"flag"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
	"github.com/siskin-dev/siskin/mesh"
)

var update = flag.Bool("update", false, "write the golden outputs anew")

// applied is every object that is written for the traffic, in the order in which they are applied.
func applied(t testing.TB, o Objects) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	add := func(u *unstructured.Unstructured, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, u)
	}
	add(Unstructured(o.DestinationRule))
	add(Unstructured(o.VirtualService))
	if o.Hash != nil {
		add(Unstructured(o.Hash))
	}
	for _, tier := range o.Tiers {
		add(Unstructured(tier.DestinationRule))
		add(Unstructured(tier.VirtualService))
	}
	if o.EnvoyFilter != nil {
		add(Unstructured(o.EnvoyFilter))
	}
	if o.Quotas != nil {
		add(&unstructured.Unstructured{Object: o.Quotas}, nil)
	}
	return out
}

func render(t testing.TB, traffic mesh.Traffic) Objects {
	t.Helper()
	o, err := Render(traffic)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestGolden(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, path string, traffic mesh.Traffic) {
		var objects []mesh.Object
		for _, u := range applied(t, render(t, traffic)) {
			objects = append(objects, u.Object)
		}
		meshtest.Golden(t, path, *update, objects...)
	})
}

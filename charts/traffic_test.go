package charts_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/istio"
)

// split is a static split and the traffic that it stands for.
type split struct {
	mode           string
	canary         int
	stable, other  string
	hosts, gateway string
}

func (s split) values() string {
	return fmt.Sprintf(`
controller: {enabled: false}
crds: {install: false}
traffic:
  service: {name: coolant, port: 8080, hosts: [%s], gateways: [%s]}
  stable: {version: %q, weight: %d}
  canary: {version: %q, weight: %d}
  stickiness: {mode: %s}
`, s.hosts, s.gateway, s.stable, 100-s.canary, s.other, s.canary, s.mode)
}

func (s split) traffic() mesh.Traffic {
	t := mesh.Traffic{
		Rollout: "coolant", Service: mesh.Service{Namespace: "edge", Name: "coolant", Port: 8080}, VersionLabel: "version",
		Shares: []mesh.Share{{Variant: mesh.Stable, Version: s.stable, Buckets: buckets(s.canary, 100)}},
	}
	if s.other != "" {
		t.Shares = append(t.Shares, mesh.Share{Variant: mesh.Canary, Version: s.other, Buckets: buckets(0, s.canary)})
	}
	if s.hosts != "" {
		t.Service.Hosts, t.Service.Gateways = []string{s.hosts}, []string{s.gateway}
	}
	switch s.mode {
	case "cookie":
		t.Cookie = &mesh.Cookie{Name: "siskin-coolant", MaxAgeSeconds: 86400}
	case "header":
		t.BucketHeader = mesh.BucketHeader
	}
	return t
}

func buckets(from, to int) []int {
	var all []int
	for b := from; b < to; b++ {
		all = append(all, b)
	}
	return all
}

// TestSplitIsTheControllers holds that the static split is, object for object, what the controller would write for the
// same buckets: every weight in every mode, with odd versions and further hosts. What is proven of the one holds for the
// other.
func TestSplitIsTheControllers(t *testing.T) {
	var splits []split
	step := 1
	if testing.Short() {
		step = 20 // Helm takes a tenth of a second per chart under the race detector
	}
	for _, mode := range []string{"none", "cookie", "header"} {
		for weight := 0; weight <= 100; weight += step {
			splits = append(splits, split{mode: mode, canary: weight, stable: "v1", other: "v2"})
		}
		splits = append(splits,
			split{mode: mode, canary: 0, stable: "v1"},
			split{mode: mode, canary: 10, stable: "V1.0_rc", other: "v1-0--x"},
			split{mode: mode, canary: 10, stable: "1", other: "2026.11"},
			split{mode: mode, canary: 10, stable: "v1", other: "v2", hosts: "predict.example.com", gateway: "edge/public"})
	}
	for _, s := range splits {
		files, err := render(values(t, s.values()))
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		all := objects(t, files)
		want, err := istio.Render(s.traffic())
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		vs, dr := &networkingv1.VirtualService{}, &networkingv1.DestinationRule{}
		into(t, all["VirtualService/coolant"], vs)
		into(t, all["DestinationRule/coolant"], dr)
		if !proto.Equal(&vs.Spec, &want.VirtualService.Spec) {
			t.Fatalf("%+v: the VirtualService differs (-controller +chart):\n%s", s, cmp.Diff(text(t, &want.VirtualService.Spec), text(t, &vs.Spec)))
		}
		if !proto.Equal(&dr.Spec, &want.DestinationRule.Spec) {
			t.Fatalf("%+v: the DestinationRule differs (-controller +chart):\n%s", s, cmp.Diff(text(t, &want.DestinationRule.Spec), text(t, &dr.Spec)))
		}
	}
}

func into(t *testing.T, o object, out any) {
	t.Helper()
	data, err := sigsyaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := sigsyaml.Unmarshal(data, out); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, spec any) string {
	t.Helper()
	data, err := sigsyaml.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestObjectsAreAccepted creates what the chart renders for other projects' kinds on a real API with their definitions,
// refusing unknown fields.
func TestObjectsAreAccepted(t *testing.T) {
	api := kubetest.Start(t)
	c, err := client.New(api.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	strict := client.WithFieldValidation(c, metav1.FieldValidationStrict)
	created := map[string]int{}
	for i, v := range []string{
		split{mode: "none", canary: 10, stable: "v1", other: "v2"}.values(),
		split{mode: "cookie", canary: 10, stable: "v1", other: "v2"}.values(),
		split{mode: "header", canary: 10, stable: "v1", other: "v2"}.values(),
		"prometheusRule: {enabled: true}",
	} {
		files, err := render(values(t, v))
		if err != nil {
			t.Fatal(err)
		}
		for key, o := range objects(t, files) {
			u := &unstructured.Unstructured{Object: o}
			switch u.GetKind() {
			case "VirtualService", "DestinationRule", "PrometheusRule":
			default:
				continue
			}
			u.SetNamespace(fmt.Sprintf("case-%d", i))
			if err := strict.Create(t.Context(), u); err != nil {
				t.Errorf("%s: %v", key, err)
			}
			created[u.GetKind()]++
		}
	}
	if want := map[string]int{"VirtualService": 3, "DestinationRule": 3, "PrometheusRule": 1}; !cmp.Equal(want, created) {
		t.Errorf("created %v, want %v", created, want)
	}
}

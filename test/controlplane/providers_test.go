package controlplane_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/controlplane"
)

// provided is a rollout of another provider than Istio, in a namespace of its own, of the controller's binary and with
// the rights that the chart gives it.
type provided struct{ *world }

func provide(t *testing.T, p *controlplane.Plane, space string) *provided {
	t.Helper()
	q := p.For(t)
	return &provided{&world{Plane: q, t: t, Client: reader(t, q), space: space}}
}

func (w *provided) until(what string, is func() error) {
	w.t.Helper()
	controlplane.Until(w.t, what, func(context.Context) error {
		if err := is(); err != nil {
			st := w.get().Status
			return fmt.Errorf("%w; the status is %s %q", err, st.Reason, st.Message)
		}
		return nil
	})
}

func (w *provided) weight(want int32) func() error {
	return func() error {
		if st := w.get().Status; st.StableVersion == "" || st.Weight != want {
			return fmt.Errorf("weight %d of stable %q", st.Weight, st.StableVersion)
		}
		return nil
	}
}

// begin has v1 stable, and v2 on trial at the first weight.
func (w *provided) begin(spec v1alpha1.RolloutSpec, weight int32) {
	w.t.Helper()
	w.start(spec, weight)
	w.until("the first weight", w.weight(weight))
}

// start has v1 stable, and asks for v2, of which the first step has the weight.
func (w *provided) start(spec v1alpha1.RolloutSpec, weight int32) {
	w.t.Helper()
	w.Plane.Apply(controlplane.NamespaceOf(w.space))
	spec.Version, spec.Workload.Kind = "v1", cmp.Or(spec.Workload.Kind, "Deployment")
	spec.Gates = []v1alpha1.GateSpec{{Name: "alerts", Type: v1alpha1.GateAlerts}}
	spec.Analysis = v1alpha1.AnalysisSpec{Interval: metav1.Duration{Duration: time.Second}, Cap: metav1.Duration{Duration: 2 * time.Hour}}
	spec.Steps = []v1alpha1.StepSpec{{Weight: weight, Hold: metav1.Duration{Duration: time.Hour}}}
	ro := &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Namespace: w.space, Name: service}, Spec: spec}
	if err := w.Client.Create(w.t.Context(), ro); err != nil {
		w.t.Fatal(err)
	}
	for _, version := range []string{"v1", "v2"} {
		if spec.Provider == v1alpha1.ProviderKServe {
			break // it runs them itself: nothing is there before the InferenceService is
		}
		if spec.Workload.Kind == "Model" {
			w.model(version)
		} else {
			w.deploy(version)
		}
	}
	w.until("v1 to be stable", w.weight(0))
	w.want("v2")
}

// quiet waits for more looks and holds that the controller wrote none of the objects again: what the API server fills
// in is no drift.
func (w *provided) quiet(objects ...client.Object) {
	w.t.Helper()
	versions := func() string {
		var all []string
		for _, o := range objects {
			if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
				w.t.Fatal(err)
			}
			all = append(all, o.GetResourceVersion())
		}
		return strings.Join(all, " ")
	}
	look := func(block *metav1.MicroTime) *metav1.MicroTime {
		w.until("another look", func() error {
			if now := w.get().Status.Run.LastBlock; now == nil || (block != nil && !now.After(block.Time)) {
				return fmt.Errorf("the last block began at %v", now)
			}
			return nil
		})
		return w.get().Status.Run.LastBlock
	}
	first := look(w.get().Status.Run.LastBlock) // the weight was written to the status before it was written to the mesh
	before := versions()
	look(look(first))
	if after := versions(); after != before {
		w.t.Errorf("resource versions %s became %s although nothing changed", before, after)
	}
	var list eventsv1.EventList
	if err := w.Client.List(w.t.Context(), &list, client.InNamespace(w.space)); err != nil {
		w.t.Fatal(err)
	}
	if slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool { return e.Reason == "DriftRepaired" }) {
		w.t.Error("the controller repaired a drift that nobody made")
	}
}

// selected is the version that a Service selects; empty when there is none.
func (w *provided) selected(name string) string {
	w.t.Helper()
	var s corev1.Service
	err := w.Client.Get(w.t.Context(), client.ObjectKey{Namespace: w.space, Name: name}, &s)
	if client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	}
	if err == nil && (s.Spec.ClusterIP == "" || s.Spec.Ports[0].Port != 8080) {
		w.t.Errorf("Service %q has no address, or another port: %+v", name, s.Spec)
	}
	return s.Spec.Selector["version"]
}

// canaries holds that the InferenceService, which it reads, has canaries with these shares.
func (w *provided) canaries(isvc *unstructured.Unstructured, want ...int64) func() error {
	return func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(isvc), isvc); err != nil {
			return err
		}
		var got []int64
		all, _, _ := unstructured.NestedSlice(isvc.Object, "spec", "canary")
		for _, c := range all {
			got = append(got, c.(map[string]any)["trafficPercent"].(int64))
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("its canaries have %d", got)
		}
		return nil
	}
}

// model runs a version as a Model of Seldon, which is ready.
func (w *provided) model(version string) {
	w.t.Helper()
	o := controlplane.Object("mlops.seldon.io/v1alpha1", "Model", w.space, service+"-"+version, map[string]string{"app": service, "version": version})
	o.Object["spec"] = map[string]any{}
	if err := w.Client.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
	o.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}
	if err := w.Client.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// candidates holds that the Experiment of Seldon, which it reads, splits by these weights.
func (w *provided) candidates(experiment *unstructured.Unstructured, want map[string]int64) func() error {
	return func() error {
		if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(experiment), experiment); err != nil {
			return err
		}
		got := map[string]int64{}
		all, _, _ := unstructured.NestedSlice(experiment.Object, "spec", "candidates")
		for _, c := range all {
			m := c.(map[string]any)
			got[m["name"].(string)] = m["weight"].(int64)
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("its candidates are %v", got)
		}
		return nil
	}
}

func at(space, name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: space, Name: name} }

// TestProviders runs a rollout of each provider but Istio against the real API server, with the kinds as their projects define them; Seldon's
// are written by hand after theirs, which may not be copied.
func TestProviders(t *testing.T) {
	p := controlplane.Start(t)
	p.StartController("providers", p.StartPrometheus("global: {scrape_interval: 1s}\n"), "--grace=1s", "--evidence-lag=1s")
	header := &v1alpha1.AssignmentSpec{Header: &v1alpha1.HeaderAssignment{}}

	t.Run("GatewayAPI", func(t *testing.T) {
		w := provide(t, p, "by-gatewayapi")
		w.begin(v1alpha1.RolloutSpec{Provider: v1alpha1.ProviderGatewayAPI, Service: v1alpha1.ServiceSpec{Name: service, Port: 8080}, Assignment: header}, 25)
		route := &unstructured.Unstructured{}
		route.SetAPIVersion("gateway.networking.k8s.io/v1")
		route.SetKind("HTTPRoute")
		route.SetNamespace(w.space)
		route.SetName(service)
		w.quiet(route, &corev1.Service{ObjectMeta: at(w.space, "coolant-v1-pods")}, &corev1.Service{ObjectMeta: at(w.space, "coolant-v2-pods")})
		if a, b := w.selected("coolant-v1-pods"), w.selected("coolant-v2-pods"); a != "v1" || b != "v2" {
			t.Errorf("the Services select %q and %q", a, b)
		}
		w.want("v1")
		w.until("the run to be taken back", w.weight(0))
		w.until("v2's Service to go", func() error {
			if v := w.selected("coolant-v2-pods"); v != "" {
				return fmt.Errorf("it selects %q", v)
			}
			return nil
		})
		if v := w.selected("coolant-v1-pods"); v != "v1" {
			t.Errorf("v1's Service selects %q", v)
		}
	})
	t.Run("NGINX", func(t *testing.T) {
		w := provide(t, p, "by-nginx")
		w.begin(v1alpha1.RolloutSpec{
			Provider: v1alpha1.ProviderNGINX, Assignment: header,
			Service: v1alpha1.ServiceSpec{Name: service, Port: 8080, Hosts: []string{"predict.example.com"}, Gateways: []string{"nginx"}},
		}, 25)
		canary := &networkingv1.Ingress{ObjectMeta: at(w.space, service+"-canary")}
		w.quiet(canary, &networkingv1.Ingress{ObjectMeta: at(w.space, service)})
		const pattern = "nginx.ingress.kubernetes.io/canary-by-header-pattern"
		if canary.Annotations[pattern] == "" || canary.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Name != "coolant-v2-pods" {
			t.Errorf("the canary's Ingress: %+v %+v", canary.Annotations, canary.Spec)
		}
		canary.Annotations["nginx.ingress.kubernetes.io/canary-by-cookie"] = "everybody"
		canary.Annotations[pattern] = ".*"
		if err := w.Client.Update(t.Context(), canary, client.FieldOwner("somebody")); err != nil {
			t.Fatal(err)
		}
		w.until("the annotations to be put right", func() error {
			if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(canary), canary); err != nil {
				return err
			}
			if canary.Annotations[pattern] == ".*" || len(canary.Annotations["nginx.ingress.kubernetes.io/canary-by-cookie"]) > 0 {
				return fmt.Errorf("they are %v", canary.Annotations)
			}
			return nil
		})
		w.want("v1")
		w.until("the run to be taken back", func() error {
			if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(canary), canary); err != nil {
				return err
			}
			if canary.Annotations[pattern] != "" || canary.Annotations["nginx.ingress.kubernetes.io/canary-weight"] != "0" {
				return fmt.Errorf("the annotations are %v", canary.Annotations)
			}
			return nil
		})
	})
	t.Run("Service", func(t *testing.T) {
		w := provide(t, p, "by-service")
		w.begin(v1alpha1.RolloutSpec{Provider: v1alpha1.ProviderService, Service: v1alpha1.ServiceSpec{Name: service, Port: 8080}}, 100)
		w.quiet(&corev1.Service{ObjectMeta: at(w.space, service)})
		if v := w.selected(service); v != "v2" {
			t.Errorf("at weight 100 the Service selects %q", v)
		}
		w.want("v1")
		w.until("the Service to select v1", func() error {
			if v := w.selected(service); v != "v1" {
				return fmt.Errorf("it selects %q", v)
			}
			return nil
		})
	})
	t.Run("KServe", func(t *testing.T) {
		w := provide(t, p, "by-kserve")
		predictor := []byte(`{"model":{"name":"kserve-container","modelFormat":{"name":"xgboost"},"storageUri":"s3://models/$(version)/"}}`)
		w.start(v1alpha1.RolloutSpec{
			Provider: v1alpha1.ProviderKServe, Service: v1alpha1.ServiceSpec{Name: service, Port: 8080},
			KServe: &v1alpha1.KServeSpec{Mode: "Standard", Predictor: runtime.RawExtension{Raw: predictor}},
		}, 25)
		isvc := &unstructured.Unstructured{}
		isvc.SetAPIVersion("serving.kserve.io/v1beta1")
		isvc.SetKind("InferenceService")
		isvc.SetNamespace(w.space)
		isvc.SetName(service)
		w.until("v2 to be there in the dark", w.canaries(isvc, 0))
		isvc.Object["status"] = map[string]any{
			"observedGeneration": isvc.GetGeneration(),
			"canaryStatuses":     []any{map[string]any{"name": "v2", "ready": true, "trafficPercent": int64(0)}},
		}
		if err := w.Client.Status().Update(t.Context(), isvc); err != nil {
			t.Fatal(err)
		}
		w.until("its share", w.canaries(isvc, 25))
		w.quiet(isvc)
		w.want("v1")
		w.until("the run to be taken back", w.canaries(isvc))
	})
	t.Run("Seldon", func(t *testing.T) {
		w := provide(t, p, "by-seldon")
		w.begin(v1alpha1.RolloutSpec{
			Provider: v1alpha1.ProviderSeldon, Service: v1alpha1.ServiceSpec{Name: service, Port: 8080}, Workload: v1alpha1.WorkloadSpec{Kind: "Model"},
		}, 25)
		experiment := controlplane.Object("mlops.seldon.io/v1alpha1", "Experiment", w.space, service, nil)
		w.quiet(experiment)
		w.until("its share", w.candidates(experiment, map[string]int64{service + "-v1": 75, service + "-v2": 25}))
		w.want("v1")
		w.until("the run to be taken back", w.candidates(experiment, map[string]int64{service + "-v1": 100}))
	})
	allowed(t, p)
}

package controller_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/gatewayapi"
	"github.com/siskin-dev/siskin/mesh/kserve"
	"github.com/siskin-dev/siskin/mesh/nginx"
	"github.com/siskin-dev/siskin/mesh/plain"
	"github.com/siskin-dev/siskin/mesh/seldon"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

const gatewayV1 = "gateway.networking.k8s.io/v1"

func routers() map[v1alpha1.Provider]controller.Router {
	return map[v1alpha1.Provider]controller.Router{
		v1alpha1.ProviderIstio: istioRouter{}, v1alpha1.ProviderGatewayAPI: gatewayRouter{},
		v1alpha1.ProviderNGINX:   routeOnly{func(t mesh.Traffic) (mesh.Object, error) { i, err := nginx.Render(t); return i.Canary, err }},
		v1alpha1.ProviderService: routeOnly{plain.Render},
		v1alpha1.ProviderSeldon:  routeOnly{seldon.Render},
		v1alpha1.ProviderKServe:  kserveRouter{routeOnly{kserve.Render}},
	}
}

// routeOnly is a router of one object. Kinds that the API of the tests does not serve are for what is refused.
type routeOnly struct {
	render func(mesh.Traffic) (mesh.Object, error)
}

// Render implements controller.Router.
func (r routeOnly) Render(t mesh.Traffic, _ []string) (controller.Objects, error) {
	route, err := r.render(t)
	return controller.Objects{Route: &unstructured.Unstructured{Object: route}}, err
}

// Versions implements controller.Router.
func (routeOnly) Versions(*unstructured.Unstructured, string) []string { return nil }

// Kinds implements controller.Router.
func (routeOnly) Kinds() []schema.GroupVersionKind { return nil }

// kserveRouter is a router whose object runs the versions. That of the binaries is run against a real API server (TestProviders).
type kserveRouter struct{ routeOnly }

// Ready implements controller.Runner.
func (kserveRouter) Ready(route *unstructured.Unstructured, version string) bool {
	return kserve.Ready(route.Object, version)
}

// Settled implements controller.Runner.
func (kserveRouter) Settled(route *unstructured.Unstructured, stable string) bool {
	return kserve.Settled(route.Object, stable)
}

// quotasV1 has what stands for a ConfigMap: the API of the tests serves no core kinds. The tests of the control plane run with
// ConfigMaps.
const quotasV1 = "stand-in.test/v1"

const quotasCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: configmaps.stand-in.test}
spec:
  group: stand-in.test
  names: {kind: ConfigMap, plural: configmaps}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {data: {type: object, additionalProperties: {type: string}}}}}
`

// withProviders adds the kinds of other data planes to those of the API, and puts KServe's own schema in the place of the one
// that the local API serves.
func withProviders(crds [][]byte) ([][]byte, error) {
	crds = append(crds, []byte(quotasCRD))
	for _, path := range []string{
		"../../mesh/gatewayapi/testdata/crds/httproute.yaml", "../../mesh/seldon/testdata/crds/experiment.yaml",
		"../../mesh/seldon/testdata/crds/model.yaml", "../../mesh/kserve/testdata/crds/inferenceservice.yaml", "testdata/crds/scaling.yaml",
	} {
		crd, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		crds = append(crds, crd)
	}
	return crds, nil
}

// gatewayRouter renders the HTTPRoute that the binaries' router renders, and a ServiceEntry in place of the Service of each
// version: the API of the tests serves no Services. The tests of the control plane run with Services.
type gatewayRouter struct{}

// Render implements controller.Router.
func (gatewayRouter) Render(t mesh.Traffic, leaving []string) (controller.Objects, error) {
	route, err := gatewayapi.Render(t)
	if err != nil {
		return controller.Objects{}, err
	}
	out := controller.Objects{Route: &unstructured.Unstructured{Object: route}, Prune: true}
	for _, o := range plain.OfVersions(t, leaving...) {
		name := o["metadata"].(map[string]any)["name"].(string)
		entry := t.Object(istioV1, "ServiceEntry", name, map[string]any{
			"hosts": []any{name + ".local"}, "resolution": "STATIC",
			"ports":            []any{map[string]any{"number": int64(t.Service.Port), "name": "http"}},
			"workloadSelector": map[string]any{"labels": o["spec"].(map[string]any)["selector"]},
		})
		out.Subsets = append(out.Subsets, &unstructured.Unstructured{Object: entry})
	}
	return out, nil
}

// Versions implements controller.Router.
func (gatewayRouter) Versions(o *unstructured.Unstructured, versionLabel string) []string {
	v, _, _ := unstructured.NestedString(o.Object, "spec", "workloadSelector", "labels", versionLabel)
	return []string{v}
}

// Kinds implements controller.Router.
func (gatewayRouter) Kinds() []schema.GroupVersionKind { return nil }

func onGatewayAPI(ro *v1alpha1.Rollout) { ro.Spec.Provider = v1alpha1.ProviderGatewayAPI }

// backends lists the Services that the HTTPRoute leads to, each once, and the buckets that its canary has.
func (w *world) backends() (names []string, canary int) {
	w.t.Helper()
	route := w.find(gatewayV1, "HTTPRoute", "coolant")
	if route == nil {
		w.t.Fatal("there is no HTTPRoute")
	}
	rules, _, _ := unstructured.NestedSlice(route.Object, "spec", "rules")
	for _, each := range rules {
		r := each.(map[string]any)
		for _, b := range r["backendRefs"].([]any) {
			names = append(names, b.(map[string]any)["name"].(string))
		}
		if r["name"] == "canary-buckets" {
			header := r["matches"].([]any)[0].(map[string]any)["headers"].([]any)[0].(map[string]any)
			canary = len(matching(header["value"].(string), true))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), canary
}

// reachable lists what stands in for the Services of versions.
func (w *world) reachable() []string {
	w.t.Helper()
	var list unstructured.UnstructuredList
	list.SetAPIVersion(istioV1)
	list.SetKind("ServiceEntryList")
	if err := w.client.List(w.t.Context(), &list, client.InNamespace(w.ns)); err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, o := range list.Items {
		names = append(names, o.GetName())
	}
	slices.Sort(names)
	return names
}

// TestGatewayAPI runs a rollout through an HTTPRoute: the same steps, make before break, and what is left over goes.
func TestGatewayAPI(t *testing.T) {
	both := []string{"coolant-v1-pods", "coolant-v2-pods"}
	w := running(t, 1, onGatewayAPI)
	w.turn()
	names, canary := w.backends()
	if diff := cmp.Diff(both, names); diff != "" || canary != 5 {
		t.Errorf("at weight 5: %d buckets; backends -want, +got:\n%s", canary, diff)
	}
	if route := w.route(); route != nil {
		t.Error("a VirtualService was written for a rollout of another provider")
	}

	w.tap.writes()
	w.turn()
	for _, call := range w.tap.writes() {
		if strings.Contains(call, "HTTPRoute") || strings.Contains(call, "ServiceEntry") {
			t.Errorf("nothing has changed, and the loop did %q: defaults of the API server are no drift", call)
		}
	}

	w.ask(v1alpha1.ActionAbort)
	w.tap.writes()
	w.turn()
	if calls := w.tap.writes(); len(calls) == 0 || calls[0] != "apply HTTPRoute" {
		t.Errorf("writes of the rollback: %q, want the HTTPRoute first", calls)
	}
	if names, _ := w.backends(); !slices.Equal(names, both[:1]) {
		t.Errorf("after the rollback the route leads to %q", names)
	}
	if got := w.reachable(); !slices.Equal(got, both) {
		t.Errorf("right after the rollback %q are reachable, want %q: proxies learn of the route later", got, both)
	}
	w.clock = w.clock.Add(31 * time.Second)
	w.turn()
	if got := w.reachable(); !slices.Equal(got, both[:1]) {
		t.Errorf("after the grace period %q are reachable, want %q", got, both[:1])
	}
}

// TestPruneSparesOthers: only what Siskin wrote for this very rollout goes.
func TestPruneSparesOthers(t *testing.T) {
	w := newWorld(t, onGatewayAPI)
	w.deploy("v1", true)
	theirs := w.object(istioV1, "ServiceEntry", "coolant-v0-pods")
	theirs.SetLabels(map[string]string{v1alpha1.LabelRollout: "coolant"})
	theirs.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Rollout", Name: "another", UID: "u", Controller: new(true)}})
	theirs.Object["spec"] = map[string]any{"hosts": []any{"a.b"}}
	if err := w.client.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	w.until("stable", stableOn("v1"))
	w.turn()
	if got := w.reachable(); !slices.Equal(got, []string{"coolant-v0-pods", "coolant-v1-pods"}) {
		t.Errorf("reachable: %q, want the other rollout's object untouched", got)
	}
}

// TestGatewayAPIDrift: what somebody changes in a route, or adds to it, is put right at the present weight.
func TestGatewayAPIDrift(t *testing.T) {
	for name, meddle := range map[string]func(o *unstructured.Unstructured){
		"Weights": func(o *unstructured.Unstructured) {
			all, _, _ := unstructured.NestedSlice(o.Object, "spec", "rules")
			_ = unstructured.SetNestedSlice(o.Object, all[len(all)-1:], "spec", "rules")
		},
		"Added": func(o *unstructured.Unstructured) {
			_ = unstructured.SetNestedStringSlice(o.Object, []string{"a.example.com"}, "spec", "hostnames")
		},
		"AddedInside": func(o *unstructured.Unstructured) {
			all, _, _ := unstructured.NestedSlice(o.Object, "spec", "rules")
			all[0].(map[string]any)["timeouts"] = map[string]any{"request": "1ms"}
			_ = unstructured.SetNestedSlice(o.Object, all, "spec", "rules")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 1, onGatewayAPI)
			w.turn()
			before := w.find(gatewayV1, "HTTPRoute", "coolant").Object["spec"]
			w.change(gatewayV1, "HTTPRoute", "coolant", meddle)
			w.turn()
			if diff := cmp.Diff(before, w.find(gatewayV1, "HTTPRoute", "coolant").Object["spec"]); diff != "" {
				t.Errorf("after a foreign edit: -before, +after:\n%s", diff)
			}
		})
	}
}

// stalled returns the condition Stalled, which must be there.
func (w *world) stalled() metav1.Condition {
	w.t.Helper()
	c := meta.FindStatusCondition(w.turn().Status.Conditions, v1alpha1.ConditionStalled)
	if c == nil {
		w.t.Fatal("the rollout is not stalled")
	}
	return *c
}

// TestUnsupported: what a provider cannot do is refused before anything is written, with a reason and its sentence.
func TestUnsupported(t *testing.T) {
	cases := map[string]struct {
		reason string
		edit   func(*v1alpha1.Rollout)
		want   string
	}{
		"Cookie": {"100 destinations are too many for a rule.", func(ro *v1alpha1.Rollout) { ro.Spec.Assignment.Cookie = &v1alpha1.CookieAssignment{Name: "c"} }, "provider GatewayAPI cannot do buckets in a cookie: "},
		"NGINXCookie": {"A cookie says always or never.", func(ro *v1alpha1.Rollout) {
			ro.Spec.Provider = v1alpha1.ProviderNGINX
			ro.Spec.Assignment.Cookie = &v1alpha1.CookieAssignment{Name: "c"}
		}, "provider NGINX cannot do buckets in a cookie: "},
		"SeldonHeader": {"Seldon reads no bucket.", func(ro *v1alpha1.Rollout) { ro.Spec.Provider = v1alpha1.ProviderSeldon }, "provider Seldon cannot do buckets in a header: "},
		"KServeHeader": {"KServe reads no bucket.", func(ro *v1alpha1.Rollout) {
			onKServe("Standard")(ro)
			ro.Spec.Assignment = &v1alpha1.AssignmentSpec{Header: &v1alpha1.HeaderAssignment{}}
		}, "provider KServe cannot do buckets in a header: "},
		"Preview": {"Testers cannot reach a version that a Service does not select.", func(ro *v1alpha1.Rollout) {
			ro.Spec.Provider, ro.Spec.Assignment, ro.Spec.Steps = v1alpha1.ProviderService, nil, []v1alpha1.StepSpec{{Weight: 100}}
			ro.Spec.Strategy = &v1alpha1.StrategySpec{Preview: &v1alpha1.PreviewSpec{}}
		}, "provider Service cannot do a preview by header: "},
		"Shadow": {"A Service copies nothing.", func(ro *v1alpha1.Rollout) {
			ro.Spec.Provider, ro.Spec.Assignment, ro.Spec.Steps = v1alpha1.ProviderService, nil, []v1alpha1.StepSpec{{Weight: 100}}
			ro.Spec.Strategy = &v1alpha1.StrategySpec{Shadow: &v1alpha1.ShadowSpec{Percent: 10}}
		}, "provider Service cannot do a mirror: "},
		"Steps": {"A step that a Service cannot show is refused before the run.", func(ro *v1alpha1.Rollout) {
			ro.Spec.Provider, ro.Spec.Assignment = v1alpha1.ProviderService, nil
		}, "provider Service cannot do a split by weight: "},
		"RateLimit": {"An HTTPRoute has no such thing.", func(ro *v1alpha1.Rollout) { ro.Spec.RateLimit = &v1alpha1.RateLimitSpec{RequestsPerSecond: 5} }, "provider GatewayAPI cannot do a rate limit: "},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, onGatewayAPI, tc.edit)
			w.deploy("v1", true)
			got := w.stalled()
			if got.Reason != "Unsupported" || !strings.Contains(got.Message, tc.want) {
				t.Errorf("%s\nstalled: %s: %s; want Unsupported with %q", tc.reason, got.Reason, got.Message, tc.want)
			}
			if w.find(gatewayV1, "HTTPRoute", "coolant") != nil || len(w.reachable()) > 0 {
				t.Errorf("%s\nsomething was written although it was refused", tc.reason)
			}
			if w.get().Spec.Provider != v1alpha1.ProviderGatewayAPI {
				return
			}
			w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Assignment.Cookie, ro.Spec.RateLimit = nil, nil })
			w.until("stable", stableOn("v1"))
		})
	}
}

// TestProviderDisabled: a controller that does not run a provider says so.
func TestProviderDisabled(t *testing.T) {
	w := newWorld(t, onGatewayAPI)
	w.o.Routers = map[v1alpha1.Provider]controller.Router{v1alpha1.ProviderIstio: istioRouter{}}
	w.restart()
	w.deploy("v1", true)
	if got := w.stalled(); got.Reason != "ProviderDisabled" || !strings.Contains(got.Message, `"GatewayAPI"`) || !strings.Contains(got.Message, `["Istio"]`) {
		t.Errorf("stalled: %s: %s; want ProviderDisabled with both providers", got.Reason, got.Message)
	}
}

// TestExperimentUnsupported: an experiment with more arms than the provider can show is not shown, and the rollout says why.
func TestExperimentUnsupported(t *testing.T) {
	x := newTrials(t, onGatewayAPI)
	x.begin("many", func(e *v1alpha1.Experiment) {
		e.Spec.Variants, e.Spec.Holdout = nil, 0
		for i := range 7 {
			e.Spec.Variants = append(e.Spec.Variants, v1alpha1.VariantSpec{Name: fmt.Sprintf("arm-%d", i), Version: fmt.Sprintf("v%d", 1+i%3), Share: 10})
		}
	})
	var shown []v1alpha1.RolloutExperiment
	for range 10 {
		x.round()
		if shown = x.get().Status.Experiments; len(shown) > 0 {
			break
		}
	}
	if len(shown) != 1 || shown[0].Reason != "Unsupported" || !strings.Contains(shown[0].Message, "provider GatewayAPI cannot do so many variants at once") {
		t.Fatalf("experiments of the rollout: %+v; want one that is Unsupported", shown)
	}
	if names, _ := x.backends(); !slices.Equal(names, []string{"coolant-v1-pods"}) {
		t.Errorf("the route leads to %q, want stable alone", names)
	}
}

const seldonV1 = "mlops.seldon.io/v1alpha1"

func onSeldon(ro *v1alpha1.Rollout) {
	ro.Spec.Provider, ro.Spec.Assignment, ro.Spec.Workload.Kind = v1alpha1.ProviderSeldon, nil, "Model"
}

// model runs a version as a Model of Seldon, ready or not.
func (w *world) model(version, ready string) {
	w.t.Helper()
	o := w.object(seldonV1, "Model", "coolant-"+version)
	o.SetLabels(map[string]string{"app": "coolant", "version": version})
	o.Object["spec"] = map[string]any{}
	if err := w.client.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
	o.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready}}}
	if err := w.client.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// candidates are the weights of the Experiment of Seldon, by Model.
func (w *world) candidates() map[string]int64 {
	w.t.Helper()
	all, _, _ := unstructured.NestedSlice(w.find(seldonV1, "Experiment", "coolant").Object, "spec", "candidates")
	weights := map[string]int64{}
	for _, each := range all {
		c := each.(map[string]any)
		weights[c["name"].(string)] = c["weight"].(int64)
	}
	return weights
}

// TestSeldon runs a rollout of Models through an Experiment of Seldon: a Model that is not ready gets nothing, one that is
// gets its weight, and an abort takes it back.
func TestSeldon(t *testing.T) {
	w := newWorld(t, onSeldon)
	w.model("v1", "True")
	w.until("stable", stableOn("v1"))
	w.want("v2")
	for range 3 {
		w.turn()
	}
	if diff := cmp.Diff(map[string]int64{"coolant-v1": 100}, w.candidates()); diff != "" {
		t.Errorf("before the Model is ready: -want, +got:\n%s", diff)
	}
	w.model("v2", "True")
	w.until("at step 1", atStep(1))
	w.turn()
	if diff := cmp.Diff(map[string]int64{"coolant-v1": 95, "coolant-v2": 5}, w.candidates()); diff != "" {
		t.Errorf("at weight 5: -want, +got:\n%s", diff)
	}
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	if diff := cmp.Diff(map[string]int64{"coolant-v1": 100}, w.candidates()); diff != "" {
		t.Errorf("after the abort: -want, +got:\n%s", diff)
	}
}

const kserveV1 = "serving.kserve.io/v1beta1"

func onKServe(mode string) func(*v1alpha1.Rollout) {
	return func(ro *v1alpha1.Rollout) {
		ro.Spec.Provider, ro.Spec.Assignment = v1alpha1.ProviderKServe, nil
		ro.Spec.KServe = &v1alpha1.KServeSpec{Mode: mode, Predictor: runtime.RawExtension{
			Raw: []byte(`{"model":{"name":"kserve-container","modelFormat":{"name":"xgboost"},"storageUri":"s3://models/$(version)/"}}`),
		}}
	}
}

// kserve writes KServe's status, and what its webhook would fill in.
func (w *world) kserve(status map[string]any) {
	w.t.Helper()
	w.change(kserveV1, "InferenceService", "coolant", func(o *unstructured.Unstructured) {
		_ = unstructured.SetNestedField(o.Object, "v2", "spec", "predictor", "model", "protocolVersion")
	})
	o := w.find(kserveV1, "InferenceService", "coolant")
	status["observedGeneration"] = o.GetGeneration()
	o.Object["status"] = status
	if err := w.client.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// predictor is the storage of the InferenceService's predictor, and the shares of its other versions, in Standard mode by
// spec.canary and in Knative mode by canaryTrafficPercent.
func (w *world) predictor() (uri string, shares []int64) {
	w.t.Helper()
	spec := w.find(kserveV1, "InferenceService", "coolant").Object["spec"].(map[string]any)
	all, _, _ := unstructured.NestedSlice(spec, "canary")
	for _, c := range all {
		shares = append(shares, c.(map[string]any)["trafficPercent"].(int64))
	}
	if percent, there, _ := unstructured.NestedInt64(spec, "predictor", "canaryTrafficPercent"); there {
		shares = append(shares, percent)
	}
	uri, _, _ = unstructured.NestedString(spec, "predictor", "model", "storageUri")
	return strings.TrimPrefix(uri, "s3://models/"), shares
}

// TestKServe runs rollouts that KServe runs the versions of: the canary waits in the dark until KServe reports it, gets its
// weight, and a rollback takes it away without making a new revision.
func TestKServe(t *testing.T) {
	type object = map[string]any
	cases := map[string]struct {
		ready                  object
		begun, tried, rejected string // what the predictor stores at each moment, and the shares
	}{
		"Standard": {
			ready: object{"canaryStatuses": []any{object{"name": "v2", "ready": true, "trafficPercent": int64(0)}}},
			begun: "v1/ [0]", tried: "v1/ [5]", rejected: "v1/ []",
		},
		"Knative": {
			ready: object{"components": object{"predictor": object{"latestCreatedRevision": "r2", "latestReadyRevision": "r2", "latestRolledoutRevision": "r1"}}},
			begun: "v2/ [0]", tried: "v2/ [5]", rejected: "v2/ [0]",
		},
	}
	for mode, tc := range cases {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, onKServe(mode))
			shows := func(when, want string) {
				t.Helper()
				uri, shares := w.predictor()
				if got := fmt.Sprint(uri, " ", shares); got != want {
					t.Errorf("%s: the predictor has %s, want %s", when, got, want)
				}
			}
			w.until("stable", stableOn("v1"))
			w.turn()
			w.kserve(rolledOut("r1"))
			w.want("v2")
			for range 3 {
				w.turn()
			}
			shows("before KServe reports v2", tc.begun)
			w.kserve(tc.ready)
			w.until("at step 1", atStep(1))
			w.turn()
			shows("at weight 5", tc.tried)
			w.tap.writes()
			w.turn()
			if calls := w.tap.writes(); slices.Contains(calls, "apply InferenceService") {
				t.Errorf("what KServe filled in was taken for drift: %q", calls)
			}
			w.ask(v1alpha1.ActionAbort)
			w.turn()
			shows("after the abort", tc.rejected)
			w.turn()
			shows("and later", tc.rejected)
		})
	}
}

// TestKServePromotes: what was promoted is the predictor, with everything, and nothing beside it.
func TestKServePromotes(t *testing.T) {
	type object = map[string]any
	for mode, want := range map[string]string{"Standard": "v2/ []", "Knative": "v2/ [100]"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, onKServe(mode))
			w.until("stable", stableOn("v1"))
			w.turn()
			w.kserve(rolledOut("r1"))
			w.want("v2")
			w.until("promoted", func(ro *v1alpha1.Rollout) bool {
				if ro.Status.Run != nil {
					w.kserve(object{
						"canaryStatuses": []any{object{"name": "v2", "ready": true, "trafficPercent": int64(0)}},
						"components":     object{"predictor": object{"latestCreatedRevision": "r2", "latestReadyRevision": "r2", "latestRolledoutRevision": "r1"}},
					})
				}
				return ended(v1alpha1.OutcomePromoted)(ro)
			})
			w.turn()
			if uri, shares := w.predictor(); fmt.Sprint(uri, " ", shares) != want {
				t.Errorf("after the promotion the predictor has %s %v, want %s", uri, shares, want)
			}
			// KServe has not yet seen v2 with everything: another predictor now, and everybody would be back on v1.
			w.want("v3")
			ro := w.turn()
			if uri, shares := w.predictor(); mode == "Knative" && (fmt.Sprint(uri, " ", shares) != want || ro.Status.Reason != "StableNotSettled") {
				t.Errorf("before v2 was taken for what to go back to, the predictor has %s %v, and the reason is %s", uri, shares, ro.Status.Reason)
			}
			w.kserve(rolledOut("r2"))
			w.until("trying v3", func(ro *v1alpha1.Rollout) bool { return ro.Status.CanaryVersion == "v3" })
		})
	}
}

// rolledOut is the status of an InferenceService of which one revision has all the traffic.
func rolledOut(revision string) map[string]any {
	return map[string]any{"components": map[string]any{"predictor": map[string]any{
		"latestCreatedRevision": revision, "latestReadyRevision": revision, "latestRolledoutRevision": revision,
	}}}
}

package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/cmd/local/kube"
	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/istio"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/evidence"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// router renders Istio's objects, as the controller's binary does.
type router struct{}

// Render implements controller.Router.
func (router) Render(t mesh.Traffic, leaving []string) (controller.Objects, error) {
	w, err := istio.Write(t, leaving...)
	w.LimitKeys = nil // no test has a limit, and the API no ConfigMaps
	return controller.Objects(w), err
}

// Kinds implements controller.Router. The tests call the reconciler themselves.
func (router) Kinds() []schema.GroupVersionKind { return nil }

// Versions implements controller.Router.
func (router) Versions(subsets *unstructured.Unstructured, versionLabel string) []string {
	return istio.Versions(subsets, versionLabel)
}

func object(apiVersion, kind, namespace, name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

// cluster is a rollout in a namespace of a real Kubernetes API, and a reconciler that the test calls.
type cluster struct {
	t         *testing.T
	namespace string
	client    client.WithWatch
	r         *controller.Reconciler
}

// newCluster has v1 stable and v2 on trial with half of the buckets. Its only gate is that of alerts, so nothing else can
// end the run. Wrap may put something between the reconciler and the API.
func newCluster(t *testing.T, api *kube.API, namespace string, wrap func(client.WithWatch) client.WithWatch) *cluster {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.NewWithWatch(api.Config(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	through := wrap(c)
	source, err := evidence.New(evidence.Options{API: unasked{}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := controller.New(controller.Options{Client: through, Live: through, Evidence: source, Routers: map[v1alpha1.Provider]controller.Router{v1alpha1.ProviderIstio: router{}}, Rules: true, Settle: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	w := &cluster{t: t, namespace: namespace, client: c, r: r}
	if err := c.Create(t.Context(), newRollout(namespace)); err != nil {
		t.Fatal(err)
	}
	w.deploy("v1")
	w.turns("stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })
	w.deploy("v2")
	ro := w.get()
	ro.Spec.Version = "v2"
	if err := c.Update(t.Context(), ro); err != nil {
		t.Fatal(err)
	}
	w.turns("on trial", func(ro *v1alpha1.Rollout) bool { return ro.Status.Weight == 50 })
	return w
}

// unwrapped leaves the client as it is.
func unwrapped(c client.WithWatch) client.WithWatch { return c }

func newRollout(namespace string) *v1alpha1.Rollout {
	return &v1alpha1.Rollout{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: service},
		Spec: v1alpha1.RolloutSpec{
			Version:    "v1",
			Service:    v1alpha1.ServiceSpec{Name: service, Port: 8080},
			Workload:   v1alpha1.WorkloadSpec{Kind: "InferenceService"},
			Assignment: &v1alpha1.AssignmentSpec{Header: &v1alpha1.HeaderAssignment{}},
			Steps:      []v1alpha1.StepSpec{{Weight: 50, Hold: metav1.Duration{Duration: time.Hour}}},
			Gates:      []v1alpha1.GateSpec{{Name: "alerts", Type: v1alpha1.GateAlerts}},
			Analysis: v1alpha1.AnalysisSpec{
				Interval: metav1.Duration{Duration: time.Second}, Cap: metav1.Duration{Duration: 2 * time.Hour},
			},
		},
	}
}

// deploy runs a version and says that it is ready.
func (w *cluster) deploy(version string) {
	w.t.Helper()
	o := object("serving.kserve.io/v1beta1", "InferenceService", w.namespace, service+"-"+version)
	o.SetLabels(map[string]string{"app": service, "version": version})
	o.Object["spec"] = map[string]any{"predictor": map[string]any{}}
	if err := w.client.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
	o.Object["status"] = map[string]any{"conditions": []any{map[string]any{
		"type": "Ready", "status": "True", "lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
	}}}
	if err := w.client.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *cluster) key() types.NamespacedName {
	return types.NamespacedName{Namespace: w.namespace, Name: service}
}

func (w *cluster) get() *v1alpha1.Rollout {
	w.t.Helper()
	var ro v1alpha1.Rollout
	if err := w.client.Get(w.t.Context(), w.key(), &ro); err != nil {
		w.t.Fatal(err)
	}
	return &ro
}

// turn reconciles once.
func (w *cluster) turn() *v1alpha1.Rollout {
	w.t.Helper()
	if _, err := w.r.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: w.key()}); err != nil {
		w.t.Fatalf("reconciling: %v", err)
	}
	return w.get()
}

// turns reconciles until the rollout is as wanted; nothing that it needs takes more than a few turns.
func (w *cluster) turns(what string, is func(*v1alpha1.Rollout) bool) {
	w.t.Helper()
	var ro *v1alpha1.Rollout
	for range 5 {
		if ro = w.turn(); is(ro) {
			return
		}
	}
	w.t.Fatalf("rollout %s is not %s: %s %s", w.key(), what, ro.Status.Reason, ro.Status.Message)
}

// rules reads the PrometheusRule that the controller wrote.
func (w *cluster) rules() *unstructured.Unstructured {
	w.t.Helper()
	o := object("monitoring.coreos.com/v1", "PrometheusRule", w.namespace, service)
	if err := w.client.Get(w.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		w.t.Fatal(err)
	}
	return o
}

// outcome is what became of the run, in one line.
func outcome(ro *v1alpha1.Rollout) string {
	st := ro.Status
	if st.Run == nil && st.LastRun != nil {
		return fmt.Sprintf("%s %s, weight %d", st.LastRun.Outcome, st.LastRun.Reason, st.Weight)
	}
	if st.Run != nil && st.Run.Paused != "" {
		return fmt.Sprintf("%s %s, weight %d", rollout.Pause, st.Run.Paused, st.Weight)
	}
	return fmt.Sprintf("%s %s, weight %d", st.Decision, st.Reason, st.Weight)
}

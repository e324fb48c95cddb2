package controller_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// standIn makes an object of a kind that the API of the tests cannot serve one of its stand-in (testdata/crds/scaling.yaml),
// and returns what makes it, or the list that was read meanwhile, the real kind again.
func standIn(o runtime.Object) (undo func()) {
	gvk := o.GetObjectKind().GroupVersionKind()
	if _, raw := o.(runtime.Unstructured); !raw || (gvk.Group != "apps" && gvk.Group != "autoscaling") {
		return func() {}
	}
	set := func(o runtime.Object, group string) {
		was := o.GetObjectKind().GroupVersionKind()
		o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: was.Version, Kind: was.Kind})
	}
	set(o, gvk.Group+".example.com")
	return func() {
		set(o, gvk.Group)
		if list, ok := o.(*unstructured.UnstructuredList); ok {
			for i := range list.Items {
				set(&list.Items[i], gvk.Group)
			}
		}
	}
}

// applyScale applies the body for a scale subresource to the stand-in of the Deployment itself: the API of the tests serves custom
// resources alone, whose scale cannot be applied.
func applyScale(ctx context.Context, c client.Client, opts ...client.SubResourceApplyOption) error {
	var asked client.SubResourceApplyOptions
	asked.ApplyOpts(opts)
	raw, err := json.Marshal(asked.SubResourceBody)
	if err != nil {
		return err
	}
	scale := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &scale.Object); err != nil {
		return err
	}
	scale.SetGroupVersionKind(schema.GroupVersionKind{Group: "apps.example.com", Version: "v1", Kind: "Deployment"})
	return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(scale), &asked.ApplyOptions)
}

// scaled has Deployments run the versions, and Siskin scale them.
func scaled(edit ...func(*v1alpha1.ScalingSpec)) func(*v1alpha1.Rollout) {
	return func(ro *v1alpha1.Rollout) {
		ro.Spec.Workload = v1alpha1.WorkloadSpec{Kind: "Deployment", Scaling: &v1alpha1.ScalingSpec{ScaleDownDelay: &metav1.Duration{Duration: 5 * time.Minute}}}
		for _, e := range edit {
			e(ro.Spec.Workload.Scaling)
		}
	}
}

func dynamic(s *v1alpha1.ScalingSpec) { s.DynamicStable = true }

// deployment reads the Deployment of a version.
func (w *world) deployment(service, version string) *unstructured.Unstructured {
	w.t.Helper()
	return w.find("apps.example.com/v1", "Deployment", service+"-"+version)
}

// run makes the Deployment of a version, with so many replicas that are all available.
func (w *world) run(service, version string, replicas int64) {
	w.t.Helper()
	o := w.object("apps.example.com/v1", "Deployment", service+"-"+version)
	o.SetLabels(map[string]string{"app": service, "version": version})
	o.Object["spec"] = map[string]any{"replicas": replicas}
	if err := w.client.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
	w.available(service, version, replicas)
}

// available plays the controller of Deployments, and the scheduler.
func (w *world) available(service, version string, replicas int64) {
	w.t.Helper()
	o := w.deployment(service, version)
	o.Object["status"] = map[string]any{"replicas": replicas, "availableReplicas": replicas}
	if err := w.client.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// replicas are those that the version is told to have; -1 when nobody runs it.
func (w *world) replicas(version string) int64 {
	w.t.Helper()
	return replicasOf(w.deployment("coolant", version))
}

func replicasOf(o *unstructured.Unstructured) int64 {
	if o == nil {
		return -1
	}
	n, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
	return n
}

// obey makes every Deployment have available what it is told to have.
func (w *world) obey() {
	w.t.Helper()
	for _, version := range []string{"v1", "v2", "v3"} {
		if n := w.replicas(version); n >= 0 {
			w.available("coolant", version, n)
		}
	}
}

// play turns the loop, with every Deployment at once as it is told to be, until the rollout is as wanted.
func (w *world) play(what string, is func(*v1alpha1.Rollout) bool) *v1alpha1.Rollout {
	w.t.Helper()
	return w.until(what, func(ro *v1alpha1.Rollout) bool {
		w.obey()
		return is(ro)
	})
}

// entry is what the status says of a version; nothing when it says nothing.
func (w *world) entry(version string) v1alpha1.WorkloadStatus {
	w.t.Helper()
	for _, e := range w.get().Status.Workloads {
		if e.Version == version && e.Service == "coolant" {
			return e
		}
	}
	return v1alpha1.WorkloadStatus{}
}

// begun is a world in which v1 is stable with so many replicas, and v2, which has none, is wanted.
func begun(t *testing.T, replicas int64, edit ...func(*v1alpha1.Rollout)) *world {
	t.Helper()
	w := newWorld(t, edit...)
	w.run("coolant", "v1", replicas)
	w.until("stable", stableOn("v1"))
	w.run("coolant", "v2", 0)
	w.want("v2")
	return w
}

// half has one step, of half the units, that lasts.
func half(ro *v1alpha1.Rollout) {
	ro.Spec.Steps = []v1alpha1.StepSpec{{Weight: 50, Hold: metav1.Duration{Duration: 10 * time.Minute}}}
	ro.Spec.Analysis.Cap.Duration = time.Hour
}

// lowered is a world in which half of the units see v2, and half of v1's ten replicas have been taken from it.
func lowered(t *testing.T) *world {
	t.Helper()
	w := begun(t, 10, scaled(dynamic), half)
	w.play("stable lowered", func(*v1alpha1.Rollout) bool { return w.replicas("v1") == 5 })
	return w
}

// twin runs a version a second time, as a copy for debugging does.
func (w *world) twin(version string) *unstructured.Unstructured {
	w.t.Helper()
	o := w.object("apps.example.com/v1", "Deployment", "twin")
	o.SetLabels(map[string]string{"app": "coolant", "version": version})
	o.Object["spec"] = map[string]any{"replicas": int64(1)}
	if err := w.client.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
	return o
}

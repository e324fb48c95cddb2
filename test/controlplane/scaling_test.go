package controlplane_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/controlplane"
)

// scaledObjects stand in for KEDA's kind, of which the API server keeps every field here. Nothing acts on it.
const scaledObjects = `{
  "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "scaledobjects.keda.sh"},
  "spec": {
    "group": "keda.sh", "scope": "Namespaced",
    "names": {"kind": "ScaledObject", "listKind": "ScaledObjectList", "plural": "scaledobjects", "singular": "scaledobject"},
    "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]
  }
}`

// TestScaling has the controller scale Deployments of the real API server by the rights of the chart. No controller of
// Deployments runs: the test makes replicas available, and pods and endpoints of those, as one would. Nor does an
// autoscaler: what the objects of one say is what counts.
func TestScaling(t *testing.T) {
	p := controlplane.Start(t)
	faults := p.StartFaults()
	p.StartController("controller", p.StartPrometheus("global: {scrape_interval: 1s}\n"), "--grace=1s", "--kubeconfig="+faults.Kubeconfig)
	scenarios := map[string]func(*scenario){
		"Promoted": (*scenario).scaledPromotion, "Dynamic": (*scenario).dynamicStable, "Autoscaled": (*scenario).autoscaled,
		"MadeAgain": (*scenario).madeAgain,
	}
	for i, name := range slices.Sorted(maps.Keys(scenarios)) {
		t.Run(name, func(t *testing.T) {
			q := p.For(t)
			s := &scenario{&world{Plane: q, t: t, Client: reader(t, q), space: "scaling-" + strings.ToLower(name)}, i, faults, nil}
			s.Plane.Apply(controlplane.NamespaceOf(s.space))
			scenarios[name](s)
		})
	}
	asked := allowed(t, p)
	wrote := 0
	for a, n := range asked {
		if a.Kind == "deployments/scale" && a.Verb == "patch" && a.Code == 200 {
			wrote += n
		}
		if a.Kind == "deployments" && a.Verb != "list" {
			t.Errorf("the controller did %+v, want it to write nothing but the scale", a)
		}
	}
	if wrote == 0 {
		t.Error("the controller scaled nothing as itself")
	}
}

// scaling is a rollout that scales its versions.
func (s *scenario) scaling(delay time.Duration, weights ...int32) *v1alpha1.Rollout {
	ro := s.rollout(weights...)
	ro.Spec.Workload.Scaling = &v1alpha1.ScalingSpec{ScaleDownDelay: &metav1.Duration{Duration: delay}}
	return ro
}

// told are the replicas that a version is told to have.
func (s *scenario) told(version string) int32 {
	s.t.Helper()
	var d appsv1.Deployment
	if err := s.Client.Get(s.t.Context(), client.ObjectKey{Namespace: s.space, Name: service + "-" + version}, &d); err != nil {
		s.t.Fatal(err)
	}
	return *d.Spec.Replicas
}

// tells waits until a version is told to have so many replicas.
func (s *scenario) tells(version string, want int32) {
	s.t.Helper()
	controlplane.Until(s.t, fmt.Sprintf("%s to be told %d replicas", version, want), func(context.Context) error {
		if got := s.told(version); got != want {
			return fmt.Errorf("it is told %d; the status says %+v", got, s.get().Status.Workloads)
		}
		return nil
	})
}

// available plays the controller of Deployments: the version has so many replicas available, and a pod and an endpoint
// when it has any.
func (s *scenario) available(version string, n int32) {
	s.t.Helper()
	d := &appsv1.Deployment{}
	d.Namespace, d.Name = s.space, service+"-"+version
	status, err := json.Marshal(map[string]any{"status": map[string]any{"replicas": n, "readyReplicas": n, "availableReplicas": n, "updatedReplicas": n}})
	if err == nil {
		err = s.Client.Status().Patch(s.t.Context(), d, client.RawPatch("application/merge-patch+json", status))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	pods := map[string]string{}
	for i, v := range []string{"v1", "v2"} {
		var other appsv1.Deployment
		err := s.Client.Get(s.t.Context(), client.ObjectKey{Namespace: s.space, Name: service + "-" + v}, &other)
		if client.IgnoreNotFound(err) != nil {
			s.t.Fatal(err)
		}
		if other.Status.AvailableReplicas > 0 {
			name := service + "-" + v
			pods[name] = fmt.Sprintf("10.250.%d.%d", s.number, i+1)
			s.Pod(s.space, name, pods[name], map[string]string{"app": service, "version": v})
		}
	}
	s.Plane.Service(s.space, service, pods)
}

// wantSleeping has v1 stable with so many replicas, and v2 without any, wanted.
func (s *scenario) wantSleeping(ro *v1alpha1.Rollout, replicas int32) {
	s.t.Helper()
	s.make(ro)
	s.scale("v1", int64(replicas), 0)
	s.available("v1", replicas)
	s.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })
	s.scale("v2", 0, 0)
	s.want("v2")
}

// scaledPromotion: the canary is scaled up before its first unit, a weight waits for enough replicas, and the old version
// goes to sleep after the delay.
func (s *scenario) scaledPromotion() {
	s.wantSleeping(s.scaling(5*time.Second, 5, 50), 4)
	s.tells("v2", 4)
	if ro := s.get(); ro.Status.Weight != 0 {
		s.t.Errorf("weight %d although no replica is available", ro.Status.Weight)
	}
	s.available("v2", 1)
	s.reach(5)
	s.split("v2", 5)
	s.ask(v1alpha1.ActionPromote)
	s.until("the step to wait for replicas", func(ro *v1alpha1.Rollout) bool {
		asked := ro.Status.Requests[len(ro.Status.Requests)-1]
		return asked.HandledAt != nil && ro.Status.Weight == 5 && strings.Contains(asked.Outcome, "needs 2")
	})
	s.available("v2", 4)
	s.ask(v1alpha1.ActionPromote)
	s.reach(50)
	s.split("v2", 50)
	s.ask(v1alpha1.ActionPromote)
	s.tells("v1", 0) // seen at once: it is looked at all the time
	last := s.get().Status.LastRun
	if kept := time.Since(last.EndedAt.Time); kept < 5*time.Second {
		s.t.Errorf("v1 kept its replicas for %s, want 5s", kept)
	}
	s.all("v2")
	s.available("v1", 0)
	s.all("v2")
	s.until("nothing left to scale", func(ro *v1alpha1.Rollout) bool { return len(ro.Status.Workloads) == 0 })
	s.events("Scaled")

	s.want("v1") // and back again, while v1 sleeps
	s.tells("v1", 4)
	s.available("v1", 4)
	s.reach(5)
}

// dynamicStable: stable's replicas go as units leave it, and an abort takes all traffic back before they have come.
func (s *scenario) dynamicStable() {
	ro := s.scaling(time.Hour, 50)
	ro.Spec.Workload.Scaling.DynamicStable = true
	s.wantSleeping(ro, 10)
	s.tells("v2", 10)
	if got := s.told("v1"); got != 10 {
		s.t.Errorf("v1 was told %d replicas before a unit had left it", got)
	}
	s.available("v2", 10)
	s.reach(50)
	s.tells("v1", 5)
	s.available("v1", 5)
	s.split("v2", 50)
	s.takenBack() // all traffic, with five replicas
	s.tells("v1", 10)
	if got := s.told("v2"); got != 10 {
		s.t.Errorf("v2 was told %d replicas before the delay was over", got)
	}
}

// madeAgain: a rollout that is made again wakes its version where Siskin had put it to sleep, and not where somebody else has.
func (s *scenario) madeAgain() {
	s.wantSleeping(s.scaling(time.Second, 5), 3)
	s.tells("v2", 3)
	s.available("v2", 3)
	s.ask(v1alpha1.ActionPromoteFull)
	s.tells("v1", 0)
	s.available("v1", 0)
	s.remove(s.get())
	s.make(s.scaling(time.Second, 5))
	s.tells("v1", 3)
	s.available("v1", 2)
	s.until("v1 to wait for all of its replicas", func(ro *v1alpha1.Rollout) bool {
		return ro.Status.Reason == "StableNotReady" && strings.Contains(ro.Status.Message, "2 of 3 replicas")
	})
	s.available("v1", 3)
	s.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })
	s.all("v1")

	s.remove(s.get())
	for _, n := range []int32{2, 0} { // as kubectl scale does
		d, scale := &appsv1.Deployment{}, &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: n}}
		d.Namespace, d.Name = s.space, service+"-v1"
		if err := s.Client.SubResource("scale").Update(s.t.Context(), d, client.WithSubResourceBody(scale)); err != nil {
			s.t.Fatal(err)
		}
	}
	s.available("v1", 0)
	s.make(s.scaling(time.Second, 5))
	s.until("v1 to be waited for", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "StableNotReady" })
	if got := s.told("v1"); got != 0 {
		s.t.Errorf("v1 was told %d replicas, although somebody has put it to sleep", got)
	}
}

// autoscaled: a Deployment at 0 replicas is woken for its autoscaler, and then left to it.
func (s *scenario) autoscaled() {
	least, ref := int32(2), autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: service + "-v2"}
	hpa := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.space, Name: "v2"},
		Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: ref, MinReplicas: &least, MaxReplicas: 9},
	}
	keda := &unstructured.Unstructured{}
	crd := &unstructured.Unstructured{}
	if err := errors.Join(json.Unmarshal([]byte(scaledObjects), &crd.Object), s.Client.Create(s.t.Context(), hpa)); err != nil {
		s.t.Fatal(err)
	}
	s.wantSleeping(s.scaling(time.Second, 5), 4)
	s.tells("v2", 2)
	s.available("v2", 2)
	s.reach(5)
	if got := s.told("v2"); got != 2 {
		s.t.Errorf("v2 was told %d replicas, want the 2 that its autoscaler began with", got)
	}
	s.takenBack()
	left := func(to string) func(*v1alpha1.Rollout) bool {
		return func(ro *v1alpha1.Rollout) bool {
			return slices.ContainsFunc(ro.Status.Workloads, func(w v1alpha1.WorkloadStatus) bool { return w.Version == "v2" && w.Message == to })
		}
	}
	s.until("v2 to be left to its autoscaler", left(`left to HorizontalPodAutoscaler "v2"`))

	s.Plane.Apply(crd)
	controlplane.Until(s.t, "KEDA's kind", func(ctx context.Context) error {
		keda.Object = map[string]any{"spec": map[string]any{"scaleTargetRef": map[string]any{"name": service + "-v2"}}}
		keda.SetAPIVersion("keda.sh/v1alpha1")
		keda.SetKind("ScaledObject")
		keda.SetNamespace(s.space)
		keda.SetName("v2")
		return s.Client.Create(ctx, keda)
	})
	s.until("v2 to be left to KEDA", left(`left to ScaledObject "v2"`))
	s.scale("v2", 0, 0)
	s.ask(v1alpha1.ActionRetry)
	s.until("v2 to be kept asleep by KEDA", left(`ScaledObject "v2" keeps it at 0: set its minReplicaCount to 1 or more while a version is to be tried`))
	if got := s.told("v2"); got != 0 {
		s.t.Errorf("v2 was told %d replicas against KEDA", got)
	}
}

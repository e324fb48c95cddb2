package controller_test

import (
	"fmt"
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

// TestScaleUp: the canary has its replicas before anybody meets it, and each step waits for enough of them.
func TestScaleUp(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		edit   func(*v1alpha1.ScalingSpec)
		want   int64
		// needs are the available replicas without which the weight does not come: 5, 25, 50 and all.
		needs []int64
	}{
		"AsStable": {"as many as stable has", func(*v1alpha1.ScalingSpec) {}, 8, []int64{1, 2, 4, 8}},
		"Fixed":    {"as many as the spec says", func(s *v1alpha1.ScalingSpec) { s.Replicas = 3 }, 3, []int64{1, 1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, 8, scaled(tc.edit))
			w.turn()
			if got := w.replicas("v2"); got != tc.want {
				t.Fatalf("%s: the canary is told to have %d, want %d", tc.reason, got, tc.want)
			}
			reached := []func(*v1alpha1.Rollout) bool{atStep(1), atStep(2), atStep(3), ended(v1alpha1.OutcomePromoted)}
			for i, need := range tc.needs {
				w.available("coolant", "v2", need-1)
				waits := fmt.Sprintf("%d of %d replicas of Deployment %q are available, and the weight ahead", need-1, tc.want, "coolant-v2")
				w.until("waiting for replicas", func(ro *v1alpha1.Rollout) bool {
					if reached[i](ro) {
						t.Fatalf("%s: goes on to step %d with %d replicas, want %d", tc.reason, i+1, need-1, need)
					}
					return strings.HasPrefix(ro.Status.Message, waits) && strings.HasSuffix(ro.Status.Message, fmt.Sprint("needs ", need))
				})
				for range 12 {
					if ro := w.turn(); reached[i](ro) {
						t.Fatalf("%s: goes on to step %d with %d replicas, want %d", tc.reason, i+1, need-1, need)
					}
				}
				w.available("coolant", "v2", need)
				w.editStatus(func(st *v1alpha1.RolloutStatus) { // the cap's clock does not matter here
					st.Run.WaitingSince, st.Run.NotReadySince = &metav1.MicroTime{Time: w.clock}, nil
				})
				w.ask(v1alpha1.ActionResume)
				w.until(fmt.Sprint("step ", i+1), reached[i])
			}
			if got := w.replicas("v1"); got != 8 {
				t.Errorf("%s: stable has %d replicas, want what it had", tc.reason, got)
			}
		})
	}
}

// TestPromoteFullWithOne: a promotion by hand needs one replica, and gets the others afterwards.
func TestPromoteFullWithOne(t *testing.T) {
	w := begun(t, 8, scaled())
	w.turn()
	w.available("coolant", "v2", 1)
	w.until("at step 1", atStep(1))
	id := w.ask(v1alpha1.ActionPromoteFull)
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	if q := w.request(id); q.Outcome != "Done" || w.replicas("v2") != 8 {
		t.Errorf("request %+v with %d replicas, want it done with 8", q, w.replicas("v2"))
	}
}

// TestScaleUpForCopies: a shadow's share of copies needs as many replicas as that share of the units would.
func TestScaleUpForCopies(t *testing.T) {
	w := begun(t, 8, scaled(), func(ro *v1alpha1.Rollout) {
		ro.Spec.Strategy = &v1alpha1.StrategySpec{Shadow: &v1alpha1.ShadowSpec{Percent: 50}}
	})
	w.turn()
	w.available("coolant", "v2", 3)
	for range 5 {
		if ro := w.turn(); ro.Status.Mirror != 0 || ro.Status.Reason != "CanaryNotReady" {
			t.Fatalf("%d %% of the requests are copied to 3 replicas of 8: %s", ro.Status.Mirror, ro.Status.Reason)
		}
	}
	w.available("coolant", "v2", 4)
	w.until("copies", func(ro *v1alpha1.Rollout) bool { return ro.Status.Mirror == 50 })
}

// TestScaleDown: a version that nobody meets any more keeps its replicas for the delay, whatever process looks, and then
// has none.
func TestScaleDown(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, left string
		end          func(*world)
	}{
		"Promoted":   {"the old version goes", "v1", func(w *world) { w.play("promoted", ended(v1alpha1.OutcomePromoted)) }},
		"RolledBack": {"the canary goes", "v2", func(w *world) { w.ask(v1alpha1.ActionAbort); w.turn() }},
		"SetBack":    {"the canary goes", "v2", func(w *world) { w.want("v1"); w.turn() }},
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, 4, scaled())
			w.play("at step 2", atStep(2))
			tc.end(w)
			over := w.get().Status.LastRun.EndedAt.Add(5 * time.Minute)
			for w.clock.Before(over) {
				w.restart()
				w.turn()
				if w.clock.Before(over) && w.replicas(tc.left) != 4 {
					t.Fatalf("%s: %s has %d replicas %s before the delay is over", tc.reason, tc.left, w.replicas(tc.left), over.Sub(w.clock))
				}
			}
			if e := w.entry(tc.left); e.LeftAt == nil || e.Wanted != 4 {
				t.Errorf("%s: the status says %+v", tc.reason, e)
			}
			w.turn()
			if e := w.entry(tc.left); e.Wanted != 0 || w.replicas(tc.left) != 4 {
				t.Errorf("%s: the status says %+v with %d replicas, want the intent before the deed", tc.reason, e, w.replicas(tc.left))
			}
			w.restart()
			w.turn()
			if w.replicas(tc.left) != 0 || len(w.get().Status.Workloads) != 0 {
				t.Errorf("%s: %d replicas, and the status says %+v; want neither", tc.reason, w.replicas(tc.left), w.get().Status.Workloads)
			}
			if other := w.get().Status.StableVersion; w.replicas(other) != 4 {
				t.Errorf("%s: the stable version %s has %d replicas", tc.reason, other, w.replicas(other))
			}
		})
	}
}

// TestScaleDownCancelled: a version that is tried again before the delay is over keeps its replicas.
func TestScaleDownCancelled(t *testing.T) {
	w := begun(t, 4, scaled())
	w.play("promoted", ended(v1alpha1.OutcomePromoted))
	for range 3 {
		w.turn()
	}
	w.want("v1")
	w.play("v1 on trial", func(ro *v1alpha1.Rollout) bool { return ro.Status.CanaryVersion == "v1" && ro.Status.Step == 1 })
	if e := w.entry("v1"); e.LeftAt != nil {
		t.Errorf("the status says %+v of a version that is tried", e)
	}
	w.ask(v1alpha1.ActionPause)
	for end := w.clock.Add(6 * time.Minute); w.clock.Before(end); w.turn() {
		if w.replicas("v1") != 4 || w.replicas("v2") != 4 {
			t.Fatalf("replicas %d and %d in the run", w.replicas("v1"), w.replicas("v2"))
		}
	}
}

// TestScaleDownWaitsForRoutes: as long as the route in the mesh is another than the one that was decided on, nobody knows who
// meets the version.
func TestScaleDownWaitsForRoutes(t *testing.T) {
	w := begun(t, 4, scaled())
	w.play("promoted", ended(v1alpha1.OutcomePromoted))
	w.change(istioV1, "VirtualService", "coolant", func(o *unstructured.Unstructured) {
		if err := unstructured.SetNestedStringSlice(o.Object, []string{"elsewhere"}, "spec", "hosts"); err != nil {
			t.Fatal(err)
		}
	})
	w.tap.fail = failing("apply VirtualService", "update VirtualService")
	for range 40 {
		if err := w.try(); err == nil {
			t.Fatal("the route was written although it cannot be")
		}
		w.clock = w.clock.Add(time.Minute)
	}
	if got := w.replicas("v1"); got != 4 {
		t.Errorf("v1 has %d replicas although a route may lead there", got)
	}
	w.tap.fail = nil
	wrote := w.clock
	w.play("v1 to sleep", func(*v1alpha1.Rollout) bool { return w.replicas("v1") == 0 })
	if kept := w.clock.Sub(wrote); kept < 5*time.Minute {
		t.Errorf("v1 was scaled down %s after the route was written, want the delay of 5m", kept)
	}
}

// TestDynamicStable: stable's replicas go as units leave it, once the status says so, and are all back on a rollback, right
// after the route.
func TestDynamicStable(t *testing.T) {
	w := begun(t, 10, scaled(dynamic), func(ro *v1alpha1.Rollout) {
		for i := range ro.Spec.Steps {
			ro.Spec.Steps[i].Hold.Duration = 2 * time.Minute
		}
		ro.Spec.Analysis.Cap.Duration = time.Hour
	})
	for i, want := range []int64{10, 8, 5} {
		w.play(fmt.Sprint("at step ", i+1), atStep(int32(i+1)))
		written := w.clock
		w.tap.writes()
		w.play("stable lowered", func(ro *v1alpha1.Rollout) bool {
			return w.replicas("v1") == want && w.clock.Sub(written) >= 30*time.Second
		})
		writes := w.tap.writes()
		if at := slices.Index(writes, "scale Deployment"); at >= 0 && (!slices.Contains(writes[:at], "status Rollout") || w.entry("v1").Full != 10) {
			t.Errorf("writes %v with the entry %+v, want the status to say so before", writes, w.entry("v1"))
		}
	}
	if got := w.replicas("v2"); got != 10 {
		t.Errorf("the canary has %d replicas, want 10", got)
	}
	w.ask(v1alpha1.ActionAbort)
	w.tap.writes()
	w.turn()
	writes := w.tap.writes()
	if len(writes) < 3 || writes[0] != "apply VirtualService" || writes[1] != "scale Deployment" || writes[2] != "status Rollout" {
		t.Errorf("writes %v, want the route, then the replicas, then the status", writes)
	}
	if got := w.replicas("v1"); got != 10 || len(w.canary()) != 0 {
		t.Errorf("stable has %d replicas and %d buckets see the canary, want 10 and none", got, len(w.canary()))
	}
}

// TestDynamicStableSurvives: a process that dies between any two writes loses none of stable's replicas.
func TestDynamicStableSurvives(t *testing.T) {
	for name, tc := range map[string]struct {
		dies string
		nth  int
	}{
		"Begun":    {"status Rollout", 0},
		"Waiting":  {"status Rollout", 1},
		"Raising":  {"scale Deployment", 0},
		"Meant":    {"status Rollout", 5},
		"Done":     {"status Rollout", 6},
		"Lowering": {"scale Deployment", 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, 10, scaled(dynamic), half)
			count := 0
			w.tap.fail = func(call string) error {
				if call != tc.dies {
					return nil
				}
				if count++; count-1 == tc.nth {
					return errOutage
				}
				return nil
			}
			for i := 0; count <= tc.nth; i++ {
				if i > 50 {
					t.Fatalf("%q was called %d times in %d turns", tc.dies, count, i)
				}
				w.obey()
				if w.try() != nil {
					w.clock = w.clock.Add(time.Second)
				}
			}
			w.tap.fail = nil
			w.restart()
			w.want("v1")
			w.until("all of it back", func(ro *v1alpha1.Rollout) bool {
				return ro.Status.Run == nil && ro.Status.ObservedGeneration == ro.Generation && w.replicas("v1") == 10
			})
		})
	}
}

// TestScalingNeverBlocks: whatever about scaling fails, traffic goes back at once; it is told, and put right later.
func TestScalingNeverBlocks(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		fails  []string
		told   string
	}{
		"Scale":       {"the replicas cannot be written", []string{"scale "}, "scaling Deployment"},
		"Deployments": {"the Deployments cannot be listed", []string{"list DeploymentList"}, "listing the Deployments"},
		"Autoscalers": {"nobody knows who else scales them", []string{"list HorizontalPodAutoscalerList", "list ScaledObjectList"}, "listing every HorizontalPodAutoscaler"},
	} {
		t.Run(name, func(t *testing.T) {
			w := lowered(t)
			w.tap.fail = failing(tc.fails...)
			w.turn()
			if got := len(w.canary()); got != 50 {
				t.Errorf("%s: %d buckets see the canary, want 50 as before", tc.reason, got)
			}
			w.ask(v1alpha1.ActionAbort)
			w.tap.writes()
			ro := w.turn()
			if writes := w.tap.writes(); writes[0] != "apply VirtualService" || !ended(v1alpha1.OutcomeRolledBack)(ro) || len(w.canary()) != 0 {
				t.Errorf("%s: writes %v and last run %+v", tc.reason, writes, ro.Status.LastRun)
			}
			if e := w.entry("v1"); !strings.Contains(e.Message, tc.told) {
				t.Errorf("%s: the status says %q, want %q", tc.reason, e.Message, tc.told)
			}
			failed := w.clock
			w.tap.fail = nil
			w.turn()
			if got := w.replicas("v1"); got != 10 || w.clock.Sub(failed) > time.Minute {
				t.Errorf("%s: stable has %d replicas after another try", tc.reason, got)
			}
		})
	}
}

// TestAutoscaled: who else scales a Deployment is not contradicted; at 0 replicas it is woken if that is of use.
func TestAutoscaled(t *testing.T) {
	hpa := func(spec map[string]any) map[string]any {
		return map[string]any{"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling.example.com/v2", "spec": spec}
	}
	keda := func(spec map[string]any, annotations ...string) map[string]any {
		o := map[string]any{"kind": "ScaledObject", "apiVersion": "keda.sh/v1alpha1", "spec": spec}
		if len(annotations) > 0 {
			o["metadata"] = map[string]any{"annotations": map[string]any{annotations[0]: annotations[1]}}
		}
		return o
	}
	spec := func(more ...any) map[string]any {
		s := map[string]any{"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "coolant-v2"}}
		for i := 0; i < len(more); i += 2 {
			s[more[i].(string)] = more[i+1]
		}
		return s
	}
	for name, tc := range map[string]struct {
		reason  string
		objects []map[string]any
		has     int64
		want    int64
		told    string
	}{
		"Nobody":       {"nobody else scales it", nil, 0, 4, ""},
		"Asleep":       {"it does nothing at 0 replicas", []map[string]any{hpa(spec("minReplicas", int64(2)))}, 0, 2, `woken for HorizontalPodAutoscaler "other"`},
		"Default":      {"one is its default", []map[string]any{hpa(spec())}, 0, 1, "woken"},
		"Awake":        {"it knows better", []map[string]any{hpa(spec("minReplicas", int64(2)))}, 3, 3, `left to HorizontalPodAutoscaler "other"`},
		"ToZero":       {"it would take the replica away", []map[string]any{hpa(spec("minReplicas", int64(0)))}, 0, 0, "set its minReplicas"},
		"OfOther":      {"it scales something else", []map[string]any{hpa(map[string]any{"scaleTargetRef": map[string]any{"kind": "Deployment", "name": "other"}})}, 0, 4, ""},
		"OfOtherKind":  {"it scales something else of that name", []map[string]any{hpa(map[string]any{"scaleTargetRef": map[string]any{"kind": "StatefulSet", "name": "coolant-v2"}})}, 0, 4, ""},
		"KEDA":         {"KEDA keeps a minimum", []map[string]any{keda(spec("minReplicaCount", int64(3)))}, 0, 3, `woken for ScaledObject "other"`},
		"KEDADefaults": {"Deployment is KEDA's default", []map[string]any{keda(map[string]any{"scaleTargetRef": map[string]any{"name": "coolant-v2"}, "minReplicaCount": int64(1)})}, 0, 1, "woken"},
		"KEDAToZero":   {"without a minimum KEDA takes it away at once", []map[string]any{keda(spec())}, 0, 0, "set its minReplicaCount"},
		"KEDAIdle":     {"idle means none", []map[string]any{keda(spec("minReplicaCount", int64(3), "idleReplicaCount", int64(0)))}, 0, 0, "set its minReplicaCount"},
		"KEDAHeld":     {"KEDA holds it at 0", []map[string]any{keda(spec("minReplicaCount", int64(3)), "autoscaling.keda.sh/paused-replicas", "0")}, 0, 0, "remove its annotation autoscaling.keda.sh/paused-replicas"},
		"KEDAHeldAt":   {"KEDA holds it at 2", []map[string]any{keda(spec(), "autoscaling.keda.sh/paused-replicas", "2")}, 0, 2, "woken"},
		"KEDAPaused":   {"KEDA does nothing", []map[string]any{keda(spec(), "autoscaling.keda.sh/paused", "true")}, 0, 1, "woken"},
		"KEDAAwake":    {"it knows better", []map[string]any{keda(spec())}, 1, 1, `left to ScaledObject "other"`},
		"KEDAsOwn":     {"KEDA's word counts, not that of the autoscaler that it makes", []map[string]any{hpa(spec("minReplicas", int64(1))), keda(spec())}, 0, 0, "ScaledObject"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, scaled())
			w.run("coolant", "v1", 4)
			w.until("stable", stableOn("v1"))
			w.run("coolant", "v2", tc.has)
			for _, raw := range tc.objects {
				o := &unstructured.Unstructured{Object: raw}
				o.SetNamespace(w.ns)
				o.SetName("other")
				if err := w.client.Create(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			w.want("v2")
			w.turn()
			if e := w.entry("v2"); w.replicas("v2") != tc.want || !strings.Contains(e.Message, tc.told) || (tc.told == "") != (e.Message == "") {
				t.Errorf("%s: %d replicas, and the status says %q; want %d and %q", tc.reason, w.replicas("v2"), e.Message, tc.want, tc.told)
			}
			for range 5 {
				w.obey()
				w.turn()
			}
			if got := w.replicas("v2"); got != tc.want {
				t.Errorf("%s: after a while %d replicas, want %d", tc.reason, got, tc.want)
			}
			if atLeastOne := w.get().Status.Step > 0; atLeastOne != (tc.want > 0) {
				t.Errorf("%s: step %d with %d replicas", tc.reason, w.get().Status.Step, tc.want)
			}
		})
	}
}

// TestAutoscaledOldVersion: an old version that somebody else scales is left to it, and the status says so without end.
func TestAutoscaledOldVersion(t *testing.T) {
	w := begun(t, 4, scaled())
	o := w.object("autoscaling.example.com/v2", "HorizontalPodAutoscaler", "other")
	o.Object["spec"] = map[string]any{"scaleTargetRef": map[string]any{"kind": "Deployment", "name": "coolant-v1"}}
	if err := w.client.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	w.play("promoted", ended(v1alpha1.OutcomePromoted))
	for range 30 { // at rest that is a quarter of an hour
		w.turn()
	}
	if w.clock.Before(w.get().Status.LastRun.EndedAt.Add(10 * time.Minute)) {
		t.Error("the loop does not rest")
	}
	if e := w.entry("v1"); w.replicas("v1") != 4 || e.Message != `left to HorizontalPodAutoscaler "other"` {
		t.Errorf("%d replicas, and the status says %q", w.replicas("v1"), e.Message)
	}
}

// TestWithoutKEDA: where KEDA is not installed nobody misses it.
func TestWithoutKEDA(t *testing.T) {
	w := begun(t, 4, scaled())
	w.tap.fail = func(call string) error {
		if call == "list ScaledObjectList" {
			return &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: "keda.sh", Kind: "ScaledObject"}}
		}
		return nil
	}
	w.turn()
	if got := w.replicas("v2"); got != 4 {
		t.Errorf("the canary is told to have %d, want 4", got)
	}
}

// TestWhatRunsAVersion: Siskin scales one Deployment, and says so when it finds another number of them.
func TestWhatRunsAVersion(t *testing.T) {
	w := newWorld(t, scaled())
	w.run("coolant", "v1", 2)
	w.until("stable", stableOn("v1"))
	w.want("v2")
	w.turn()
	ro := w.turn()
	if e := w.entry("v2"); !strings.HasPrefix(e.Message, "0 Deployments") || ro.Status.Reason != "CanaryNotReady" || !strings.Contains(ro.Status.Message, "no Deployment with the labels app=coolant and version=v2") {
		t.Errorf("the status says %q, and %q of the workload", ro.Status.Message, e.Message)
	}
	w.run("coolant", "v2", 0)
	twin := w.twin("v2")
	w.turn()
	if e := w.entry("v2"); !strings.HasPrefix(e.Message, "2 Deployments") || w.replicas("v2") != 0 {
		t.Errorf("the status says %q with %d replicas", e.Message, w.replicas("v2"))
	}
	if err := w.client.Delete(t.Context(), twin); err != nil {
		t.Fatal(err)
	}
	w.play("at step 1", atStep(1))
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

// TestStableOutOfSight: what stable had is not forgotten while nobody can say which Deployment runs it.
func TestStableOutOfSight(t *testing.T) {
	label := func(w *world, is string) {
		w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Workload.VersionLabel = is })
	}
	for name, tc := range map[string]struct {
		reason     string
		hide, show func(*world)
	}{
		"Twin": {"a second Deployment has its labels", func(w *world) { w.twin("v1") }, func(w *world) {
			if err := w.client.Delete(w.t.Context(), w.object("apps.example.com/v1", "Deployment", "twin")); err != nil {
				w.t.Fatal(err)
			}
		}},
		"Label": {"another label holds the version for a while", func(w *world) { label(w, "release") }, func(w *world) { label(w, "version") }},
	} {
		t.Run(name, func(t *testing.T) {
			w := lowered(t)
			tc.hide(w)
			w.turn()
			if e := w.entry("v1"); e.Name != "" || e.Full != 10 || !strings.Contains(e.Message, "there must be one") {
				t.Errorf("%s: the status says %+v, want no name, and that it had 10", tc.reason, e)
			}
			tc.show(w)
			for range 5 {
				w.obey()
				w.turn()
			}
			if e := w.entry("v1"); w.replicas("v1") != 5 || e.Full != 10 {
				t.Errorf("%s: stable has %d replicas, and the status says %+v; want 5 of 10", tc.reason, w.replicas("v1"), e)
			}
			w.ask(v1alpha1.ActionAbort)
			w.until("all of it back", func(*v1alpha1.Rollout) bool { return w.replicas("v1") == 10 })
		})
	}
}

// TestCanaryOutOfSight: nothing is taken from stable while nobody can say which Deployment runs the canary.
func TestCanaryOutOfSight(t *testing.T) {
	for name, hide := range map[string]func(*world){
		"Gone": func(w *world) {
			if err := w.client.Delete(w.t.Context(), w.deployment("coolant", "v2")); err != nil {
				w.t.Fatal(err)
			}
		},
		"Twin": func(w *world) { w.twin("v2") },
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, 10, scaled(dynamic), half)
			w.play("half of the units on v2", atStep(1))
			hide(w)
			for end := w.clock.Add(2 * time.Minute); w.clock.Before(end); w.turn() {
				if w.obey(); w.replicas("v1") != 10 {
					t.Fatalf("stable is lowered to %d", w.replicas("v1"))
				}
			}
		})
	}
}

// TestScalingOfTiers: every tier has its own number.
func TestScalingOfTiers(t *testing.T) {
	w := newWorld(t, scaled(), withTier)
	w.run("coolant", "v1", 4)
	w.run("backend", "v1", 7)
	w.until("stable", stableOn("v1"))
	w.run("coolant", "v2", 0)
	w.run("backend", "v2", 0)
	w.want("v2")
	w.turn()
	if a, b := w.replicas("v2"), replicasOf(w.deployment("backend", "v2")); a != 4 || b != 7 {
		t.Errorf("the canaries are told to have %d and %d, want 4 and 7", a, b)
	}
	w.available("coolant", "v2", 4)
	for range 3 {
		if ro := w.turn(); ro.Status.Step > 0 {
			t.Fatal("the first step does not wait for the tier")
		}
	}
	w.available("backend", "v2", 7)
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	w.until("all asleep", func(*v1alpha1.Rollout) bool {
		return w.replicas("v1") == 0 && replicasOf(w.deployment("backend", "v1")) == 0
	})
}

// TestScalingSwitchedOff: when the spec no longer wants any scaling, what was taken from stable comes back, and the rest is
// forgotten.
func TestScalingSwitchedOff(t *testing.T) {
	w := lowered(t)
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Workload.Scaling = nil })
	w.turn()
	w.turn()
	if got := w.replicas("v1"); got != 10 || len(w.get().Status.Workloads) != 0 {
		t.Errorf("stable has %d replicas, and the status says %+v; want 10 and nothing", got, w.get().Status.Workloads)
	}
}

// TestDeletedWhileLowered: a rollout that is deleted gives back what it took, after the route, and is not held up when it
// cannot.
func TestDeletedWhileLowered(t *testing.T) {
	for name, fails := range map[string]bool{"Plain": false, "Fails": true} {
		t.Run(name, func(t *testing.T) {
			w := lowered(t)
			w.drop()
			if fails {
				w.tap.fail = failing("scale ")
			}
			w.tap.writes()
			_ = w.try2() // it may fail; then it is tried again
			if writes := w.tap.writes(); len(writes) < 2 || writes[0] != "apply VirtualService" || writes[1] != "scale Deployment" {
				t.Errorf("writes %v, want the route and then the replicas", writes)
			}
			if got := w.replicas("v1"); (got == 10) == fails {
				t.Errorf("stable has %d replicas", got)
			}
			w.tillGone()
		})
	}
}

// TestScalingIsOff: without the field Siskin lists no more than it did and scales nothing.
func TestScalingIsOff(t *testing.T) {
	w := begun(t, 4, func(ro *v1alpha1.Rollout) { ro.Spec.Workload = v1alpha1.WorkloadSpec{Kind: "Deployment"} })
	w.available("coolant", "v2", 1)
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	for range 30 {
		w.turn()
	}
	if slices.ContainsFunc(w.tap.calls, func(c string) bool { return c == "scale Deployment" || c == "list ScaledObjectList" }) {
		t.Errorf("calls %v", w.tap.calls)
	}
	if diff := cmp.Diff([]int64{4, 0}, []int64{w.replicas("v1"), w.replicas("v2")}); diff != "" {
		t.Errorf("replicas (-want +got):\n%s", diff)
	}
}

// TestScalingKeepsVariants: a version that an experiment shows keeps its replicas, and the delay begins anew when it is over.
func TestScalingKeepsVariants(t *testing.T) {
	w := begun(t, 4, scaled())
	w.run("coolant", "v3", 4)
	w.play("at step 1", atStep(1))
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	x := &trials{world: w, means: map[string]float64{"v1": 4, "v2": 4, "v3": 4}, lost: map[string]float64{}}
	x.source.answer = x.answer
	x.reboot()
	x.begin("models", func(e *v1alpha1.Experiment) { e.Spec.Duration.Minimum.Duration = 20 * time.Minute })
	x.untilExp("models", "in force", inForce)
	for end := x.clock.Add(6 * time.Minute); x.clock.Before(end); x.round() {
		if got := x.replicas("v2"); got != 4 {
			t.Fatalf("v2, which an experiment shows, has %d replicas", got)
		}
	}
	if e := x.entry("v2"); e.LeftAt != nil {
		t.Errorf("the status says %+v of a version that is shown", e)
	}
	if err := x.client.Delete(t.Context(), x.exp("models")); err != nil {
		t.Fatal(err)
	}
	over := x.clock
	x.until("v2 to sleep", func(*v1alpha1.Rollout) bool { return x.replicas("v2") == 0 })
	if kept := x.clock.Sub(over); kept < 5*time.Minute || x.replicas("v3") != 4 {
		t.Errorf("v2 kept its replicas for %s, want 5m; v3, which took no part in a run, has %d", kept, x.replicas("v3"))
	}
}

// TestDynamicInMidRun: the status knows what stable had before anything is taken from it, whenever that begins.
func TestDynamicInMidRun(t *testing.T) {
	w := begun(t, 10, scaled(), half)
	w.play("at step 1", atStep(1))
	for end := w.clock.Add(time.Minute); w.clock.Before(end); {
		w.turn()
	}
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Workload.Scaling.DynamicStable = true })
	w.tap.fail = failing("status Rollout")
	if err := w.try(); err == nil {
		t.Fatal("the status was written although it cannot be")
	}
	if got := w.replicas("v1"); got != 10 {
		t.Errorf("stable has %d replicas, and nobody remembers that it had 10", got)
	}
	w.tap.fail = nil
	w.play("stable lowered", func(*v1alpha1.Rollout) bool { return w.replicas("v1") == 5 })
}

package controller_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

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
	long(t)
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

// TestScalingIsOff: without the field Siskin lists no more than it did and scales nothing.
func TestScalingIsOff(t *testing.T) {
	long(t)
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

// TestLeftOutOfSight: a version that was left is put to sleep after its delay, although nobody could say for a while which
// Deployment runs it. One that has gone for good is forgotten, and a later one of its labels is left alone.
func TestLeftOutOfSight(t *testing.T) {
	remove := func(w *world) {
		if err := w.client.Delete(w.t.Context(), w.deployment("coolant", "v1")); err != nil {
			w.t.Fatal(err)
		}
	}
	again := func(w *world) { w.run("coolant", "v1", 4) }
	for name, tc := range map[string]struct {
		reason     string
		after      time.Duration // since the promotion
		hide, show func(*world)
		lasts      time.Duration
		want       int64
	}{
		"Replaced": {"it is made again within the delay", 0, remove, again, time.Minute, 0},
		"Late":     {"it is made again after the delay", 4 * time.Minute, remove, again, 5 * time.Minute, 0},
		"Twin": {"a copy for debugging stands for long", 0, func(w *world) { w.twin("v1") }, func(w *world) {
			if err := w.client.Delete(w.t.Context(), w.object("apps.example.com/v1", "Deployment", "twin")); err != nil {
				w.t.Fatal(err)
			}
		}, time.Hour, 0},
		"Gone": {"somebody deleted it, and made another one long after", 0, remove, again, 11 * time.Minute, 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, 4, scaled())
			w.play("promoted", ended(v1alpha1.OutcomePromoted))
			pass := func(d time.Duration) {
				for end := w.clock.Add(d); w.clock.Before(end); w.turn() {
				}
			}
			pass(tc.after)
			tc.hide(w)
			w.turn()
			if e := w.entry("v1"); e.Name != "" || e.LeftAt == nil || !strings.Contains(e.Message, "there must be one") {
				t.Errorf("%s: the status says %+v, want no name, and when it was left", tc.reason, e)
			}
			pass(tc.lasts)
			tc.show(w)
			w.tap.writes()
			w.turn()
			if slices.Contains(w.tap.writes(), "scale Deployment") {
				t.Errorf("%s: scaled before the status said so", tc.reason)
			}
			pass(6 * time.Minute)
			if got := w.replicas("v1"); got != tc.want || len(w.get().Status.Workloads) != 0 {
				t.Errorf("%s: v1 has %d replicas, and the status says %+v; want %d and nothing", tc.reason, got, w.get().Status.Workloads, tc.want)
			}
		})
	}
}

package controller_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

func withTier(ro *v1alpha1.Rollout) {
	ro.Spec.Tiers = []v1alpha1.TierSpec{{Name: "backend", Port: 9090}}
}

// tierRun returns a world in which v1 is stable in both services and v2 is on trial.
func tierRun(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, withTier)
	w.deployTier("v1")
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.deploy("v2", true)
	w.want("v2")
	return w
}

// deployTier runs a version of the tier.
func (w *world) deployTier(version string) {
	w.t.Helper()
	o := w.object("serving.kserve.io/v1beta1", "InferenceService", "backend-"+version)
	o.SetLabels(map[string]string{"app": "backend", "version": version})
	o.Object["spec"] = map[string]any{"predictor": map[string]any{}}
	if err := w.client.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
	o.Object["status"] = map[string]any{"conditions": []any{map[string]any{
		"type": "Ready", "status": "True", "lastTransitionTime": epoch.Format(time.RFC3339),
	}}}
	if err := w.client.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// tierRoutes names the routes of the tier, and tierSubsets its subsets.
func (w *world) tierRoutes() []string {
	w.t.Helper()
	o := w.find("networking.istio.io/v1", "VirtualService", "coolant-tier-backend")
	if o == nil {
		return nil
	}
	var names []string
	all, _, _ := unstructured.NestedSlice(o.Object, "spec", "http")
	for _, r := range all {
		route, _ := r.(map[string]any)
		name, _ := route["name"].(string)
		names = append(names, name)
	}
	return names
}

func (w *world) tierSubsets() []string {
	w.t.Helper()
	o := w.find("networking.istio.io/v1", "DestinationRule", "coolant-tier-backend")
	if o == nil {
		return nil
	}
	return istioRouter{}.Versions(o, "version")
}

// tierSound holds that the tier's routes never lead to a subset that is not there.
func (w *world) tierSound() {
	w.t.Helper()
	subsets := w.tierSubsets()
	for _, name := range w.tierRoutes() {
		if version, from := strings.CutPrefix(name, "from-"); from && !slices.Contains(subsets, version) {
			w.t.Errorf("the tier's route %q leads to none of the subsets %q", name, subsets)
		}
	}
}

// TestTierMustBeReady: nobody meets a canary before every tier runs it.
func TestTierMustBeReady(t *testing.T) {
	w := tierRun(t)
	for range 5 {
		if ro := w.turn(); ro.Status.Weight != 0 || len(w.canary()) != 0 {
			t.Fatalf("weight %d although the tier does not run v2", ro.Status.Weight)
		}
	}
	w.deployTier("v2")
	w.until("at step 1", atStep(1))
	if got := w.tierRoutes(); !slices.Equal(got, []string{"follow-canary", "follow-stable", "from-v1", "from-v2", "rest"}) {
		t.Errorf("the tier has the routes %q", got)
	}
}

// TestTierStandsBeforeTheRoute: whichever write of the tier's objects fails, no canary is met at the front before they stand,
// and a rollback waits for none of them.
func TestTierStandsBeforeTheRoute(t *testing.T) {
	for _, kind := range []string{"VirtualService", "DestinationRule"} {
		t.Run(kind, func(t *testing.T) {
			w := tierRun(t)
			w.deployTier("v2")
			broken := true
			w.failTier(kind, &broken)
			failed := 0
			for range 6 {
				if w.try() != nil {
					failed++
				}
				w.clock = w.clock.Add(time.Second)
			}
			if failed == 0 || len(w.canary()) != 0 {
				t.Errorf("%d turns failed and %d buckets see the canary; want some failures, and nobody ahead of the tier", failed, len(w.canary()))
			}
			broken = false
			w.until("shown", func(*v1alpha1.Rollout) bool { return len(w.canary()) == 5 })
			broken = true
			w.want("v1")
			_ = w.try() // what goes with the route may fail
			if n := len(w.canary()); n != 0 {
				t.Errorf("%d buckets see the canary after the rollback, want none", n)
			}
		})
	}
}

// failTier makes the writes of the tier's object of a kind fail while broken.
func (w *world) failTier(kind string, broken *bool) {
	w.t.Helper()
	w.o.Client = interceptor.NewClient(w.tap.wrap(w.client), interceptor.Funcs{
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			named, ok := o.(interface{ GetName() string })
			if *broken && ok && named.GetName() == "coolant-tier-backend" && appliedKind(o) == kind {
				return errOutage
			}
			return c.Apply(ctx, o, opts...)
		},
	})
	w.restart()
}

// TestTierLeaves: after a promotion the old version's pods find their tier until the grace period is over, then the routes go
// before the subsets; without tiers in the spec the objects go, routes first.
func TestTierLeaves(t *testing.T) {
	w := tierRun(t)
	w.deployTier("v2")
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	if got := w.tierRoutes(); !slices.Equal(got, []string{"follow-stable", "from-v1", "from-v2", "rest"}) {
		t.Errorf("after the promotion the tier has the routes %q", got)
	}
	w.tap.after = func(string) { w.tierSound() }
	w.clock = w.clock.Add(time.Minute)
	w.turn()
	w.turn()
	if got, subsets := w.tierRoutes(), w.tierSubsets(); !slices.Equal(got, []string{"follow-stable", "from-v2", "rest"}) || !slices.Equal(subsets, []string{"v2"}) {
		t.Errorf("after the grace period the tier has the routes %q and the subsets %q", got, subsets)
	}
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Tiers = nil })
	w.turn()
	if got, subsets := w.tierRoutes(), w.tierSubsets(); got != nil || subsets != nil {
		t.Errorf("without tiers there are still the routes %q and the subsets %q", got, subsets)
	}
	if w.route() == nil || len(w.subsets()) == 0 {
		t.Error("the rollout's own objects went with the tier's")
	}
}

// TestTierGoesLate: what could not be removed when a tier was taken from the spec goes when it can be, also by another process.
func TestTierGoesLate(t *testing.T) {
	w := tierRun(t)
	w.want("v1")
	w.turn()
	w.tap.fail = failing("delete ")
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Tiers = nil })
	w.turn()
	w.turn()
	if w.tierRoutes() == nil {
		t.Fatal("the tier's route went although it cannot be deleted")
	}
	w.tap.fail = nil
	w.tap.after = func(string) { w.tierSound() }
	w.restart()
	w.turn()
	if got, subsets := w.tierRoutes(), w.tierSubsets(); got != nil || subsets != nil {
		t.Errorf("without tiers there are still the routes %q and the subsets %q", got, subsets)
	}
}

// TestDeleteWithTiers: a tier's routes go before the subsets that they lead to.
func TestDeleteWithTiers(t *testing.T) {
	w := tierRun(t)
	w.deployTier("v2")
	w.until("at step 1", atStep(1))
	w.drop()
	w.tap.after = func(string) { w.tierSound() }
	for w.exists() {
		w.next()
		if w.route() == nil && w.tierRoutes() != nil {
			t.Error("the tier's routes stay after the rollout's")
		}
	}
	if got, subsets := w.tierRoutes(), w.tierSubsets(); got != nil || subsets != nil {
		t.Errorf("the rollout has gone, and there are still the routes %q and the subsets %q", got, subsets)
	}
}

// TestReadyWithTiers: a promotion is Ready a grace after it, however often somebody looks: that the tiers' routes let go of the
// version that was left is not a late write of the promotion.
func TestReadyWithTiers(t *testing.T) {
	w := tierRun(t)
	w.deployTier("v2")
	end := w.until("promoted", ended(v1alpha1.OutcomePromoted)).Status.LastRun.EndedAt.Time
	ready := func() bool { return meta.IsStatusConditionTrue(w.get().Status.Conditions, v1alpha1.ConditionReady) }
	for after := time.Second; after <= w.o.Grace+time.Second; after += 10 * time.Second {
		w.clock = end.Add(after)
		w.turn()
	}
	if w.turn(); !ready() || slices.Contains(w.subsets(), "v1") {
		t.Errorf("a grace after the promotion Ready is %t and the subsets %v, last run %+v", ready(), w.subsets(), w.get().Status.LastRun)
	}
}

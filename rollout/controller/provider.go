package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// disabledError says that the controller does not speak to a provider.
type disabledError struct {
	wanted  v1alpha1.Provider
	enabled []v1alpha1.Provider
}

func (e *disabledError) Error() string {
	return fmt.Sprintf("spec.provider %q: the controller does not run it; it runs %q (see its flag --providers, the chart's controller.providers)", e.wanted, e.enabled)
}

// errNoScaling says that the controller may not scale.
var errNoScaling = errors.New("spec.workload.scaling: the controller may not scale Deployments (see its flag --scaling, the chart's controller.scaling)")

// reasonOf is the reason of the condition that an error in the spec leads to.
func reasonOf(err error) rollout.Reason {
	var no *mesh.UnsupportedError
	var off *disabledError
	switch {
	case errors.As(err, &no), errors.Is(err, errNoScaling):
		return reasonUnsupported
	case errors.As(err, &off):
		return reasonProviderOff
	}
	return reasonInvalidSpec
}

// routerFor returns the router of the spec's provider. It is an error when the provider cannot do what the spec asks for.
func (r *Reconciler) routerFor(ro *v1alpha1.Rollout) (Router, error) {
	provider := v1alpha1.Provider(orElse(string(ro.Spec.Provider), string(v1alpha1.ProviderIstio)))
	router, on := r.Routers[provider]
	if !on {
		return nil, &disabledError{provider, slices.Sorted(maps.Keys(r.Routers))}
	}
	if err := Refusal(router, ro); err != nil {
		return nil, err
	}
	return router, nil
}

// Refusal returns why a router cannot do what a rollout asks for, now or once a run has reached its first weight: nobody is to
// learn of that half way. It is nil, or wraps a mesh.UnsupportedError.
func Refusal(router Router, ro *v1alpha1.Rollout) error {
	canary := rollout.Allocate(ro.Name, int(ro.Spec.Steps[0].Weight))
	t := trafficOf(ro)
	t.Policy = policyOf(ro, nil)
	t.Shares = []mesh.Share{
		{Variant: mesh.Stable, Version: ro.Spec.Version, Buckets: rollout.Others(canary)},
		{Variant: mesh.Canary, Version: ro.Spec.Version, Buckets: canary},
	}
	var no *mesh.UnsupportedError
	if _, err := router.Render(t, nil); errors.As(err, &no) {
		return err
	}
	if s := ro.Spec.Strategy; s != nil && s.Shadow != nil {
		t.Mirror, t.Shares[0].Buckets, t.Shares[1].Buckets = int(s.Shadow.Percent), rollout.Others(nil), nil
		if _, err := router.Render(t, nil); errors.As(err, &no) {
			return err
		}
	}
	return nil
}

// Runner is a router whose objects run the versions, too: nothing else has to run before they are written.
type Runner interface {
	// Ready says whether a version that is not the stable one can answer, by the route as it stands.
	Ready(route *unstructured.Unstructured, version string) bool
	// Settled says whether the stable version is what is left when a newer one gets nothing; before, none may begin.
	Settled(route *unstructured.Unstructured, stable string) bool
}

// settled says whether a run may begin as far as the data plane goes.
func (p *pass) settled() bool {
	runs, ok := p.router.(Runner)
	if !ok {
		return true
	}
	route := p.live[p.route]
	return route != nil && runs.Settled(route, p.ro.Status.StableVersion)
}

// servingOf says how the data plane runs the versions; nil when it does not.
func servingOf(ro *v1alpha1.Rollout) *mesh.Serving {
	k := ro.Spec.KServe
	if k == nil {
		return nil
	}
	s := &mesh.Serving{Predictor: k.Predictor.Raw, Revisions: k.Mode == "Knative"}
	if last := ro.Status.LastRun; last != nil && last.Outcome != v1alpha1.OutcomePromoted {
		s.Tried = last.Version
	}
	return s
}

// carries returns why the provider cannot show an experiment beside those that it shows; nil when it can.
func (p *pass) carries(e v1alpha1.Experiment) error {
	t := trafficOf(p.ro)
	t.Shares = []mesh.Share{{Variant: mesh.Stable, Version: p.ro.Status.StableVersion}}
	add := func(all []v1alpha1.VariantAllocation) {
		for _, v := range all {
			set, _ := bucketsOf(v.Buckets) // was read before
			t.Shares = append(t.Shares, mesh.Share{Variant: mesh.Variant(v.Name), Version: v.Version, Buckets: set})
		}
	}
	for _, s := range p.shown {
		if shows(s) {
			add(s.Variants)
		}
	}
	add(e.Status.Allocation)
	var taken []int
	for _, s := range t.Shares {
		taken = append(taken, s.Buckets...)
	}
	t.Shares[0].Buckets = rollout.Others(taken)
	var no *mesh.UnsupportedError
	if _, err := p.router.Render(t, nil); errors.As(err, &no) {
		return err
	}
	return nil
}

// keyOf tells the objects of a rollout's namespace apart.
func keyOf(o *unstructured.Unstructured) string { return o.GetKind() + "/" + o.GetName() }

// prune deletes what made versions reachable that no route leads to any more, and what the spec asks for no longer, such as a tier.
// Where there is one object for all versions only the latter can be: it is looked for until that has succeeded once for the
// objects that there are to be, and unless the spec has just changed the watched kinds among what the watch knows.
func (r *Reconciler) prune(ctx context.Context, p *pass, o Objects) error {
	done := pruned(o)
	if !o.Prune && r.calm.ever(p, done) {
		return nil
	}
	keep := map[string]bool{}
	var kinds []schema.GroupVersionKind
	for _, s := range slices.Concat(o.Behind, []*unstructured.Unstructured{o.Route}, o.Subsets, o.LimitKeys) {
		if gvk := s.GroupVersionKind(); !slices.Contains(kinds, gvk) {
			kinds = append(kinds, gvk)
		}
	}
	for _, s := range append(o.written(), o.Limits...) {
		keep[keyOf(s)] = true
	}
	var errs []error
	for _, gvk := range kinds {
		known := r.Live
		if !o.Prune && p.was.Status.ObservedGeneration == p.ro.Generation && slices.Contains(p.router.Kinds(), gvk) {
			known = r.Client // nothing of it has just been written
		}
		var list metav1.PartialObjectMetadataList
		list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
		errs = append(errs, known.List(ctx, &list, client.InNamespace(p.ro.Namespace), client.MatchingLabels{v1alpha1.LabelRollout: p.ro.Name}))
		for i := range list.Items {
			old := &list.Items[i]
			old.SetGroupVersionKind(gvk)
			if !keep[gvk.Kind+"/"+old.Name] && metav1.IsControlledBy(old, p.ro) {
				errs = append(errs, client.IgnoreNotFound(r.Client.Delete(ctx, old)))
			}
		}
	}
	err := errors.Join(errs...)
	if err == nil {
		r.calm.note(p, done)
	}
	return err
}

// pruned stands for the absence of every object but those that are written.
func pruned(o Objects) *unstructured.Unstructured {
	var names []any
	for _, w := range o.written() {
		names = append(names, keyOf(w))
	}
	done := &unstructured.Unstructured{Object: map[string]any{"spec": names}}
	done.SetKind("Pruned")
	return done
}

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// A rollout that is deleted while units see another version than the stable one takes its traffic back first: it holds a
// finalizer for as long as that is so, and no longer, so that one at rest goes with nobody's help.

const (
	// patience is how long a deletion waits, beside the graces, for what cannot be written.
	patience = time.Minute

	reasonLeaving rollout.Reason = "Leaving"
	reasonLetGo   rollout.Reason = "LetGo"
)

// bind sets the finalizer before units may see another version than the stable one, and removes it when they no longer do.
func (r *Reconciler) bind(ctx context.Context, p *pass, bound bool) error {
	if slices.Contains(p.ro.Finalizers, v1alpha1.Finalizer) == bound {
		return nil
	}
	return r.setFinalizer(ctx, p.ro, p.was, bound)
}

// setFinalizer writes the finalizer alone, into the objects of the pass too.
func (r *Reconciler) setFinalizer(ctx context.Context, ro, was *v1alpha1.Rollout, bound bool) error {
	before := &v1alpha1.Rollout{}
	before.Namespace, before.Name, before.ResourceVersion, before.Finalizers = ro.Namespace, ro.Name, ro.ResourceVersion, ro.Finalizers
	after := before.DeepCopy()
	after.Finalizers = slices.DeleteFunc(slices.Clone(ro.Finalizers), func(f string) bool { return f == v1alpha1.Finalizer })
	if bound {
		after.Finalizers = append(after.Finalizers, v1alpha1.Finalizer)
	}
	all := after.Finalizers
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, after, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		return fmt.Errorf("setting the finalizer of rollout %q: %w", ro.Name, err)
	}
	for _, o := range []*v1alpha1.Rollout{ro, was} {
		o.ResourceVersion, o.Finalizers = after.ResourceVersion, all
	}
	return nil
}

// exposes says whether units see another version than the stable one, or are about to.
func exposes(st v1alpha1.RolloutStatus) bool {
	return st.Run != nil || slices.ContainsFunc(st.Experiments, shows)
}

// holds says whether a deletion leaves something to be done before the rollout may go: traffic to take back, replicas to give
// back, or a version to put to sleep that nothing else will.
func holds(st v1alpha1.RolloutStatus) bool {
	return exposes(st) || slices.ContainsFunc(st.Workloads, func(w v1alpha1.WorkloadStatus) bool {
		return owed(st, w) || (w.LeftAt != nil && w.Message == "")
	})
}

// leave takes the traffic of a rollout that is being deleted back to its stable version and then lets go, in the reverse
// order of a rollout's beginning: the routes lead to the stable version alone; after a grace they go; after another one what they
// led to does. What cannot be done within the patience is left undone: nothing blocks a deletion for ever.
func (r *Reconciler) leave(ctx context.Context, ro *v1alpha1.Rollout) (ctrl.Result, error) {
	if !slices.Contains(ro.Finalizers, v1alpha1.Finalizer) {
		return ctrl.Result{}, nil
	}
	now, asked := r.Now(), ro.DeletionTimestamp.Time
	routeGoes, restGoes := asked.Add(r.Grace), asked.Add(2*r.Grace)
	err := r.takeBack(ctx, ro, !now.Before(routeGoes), !now.Before(restGoes))
	var foreign *foreignError
	switch {
	case errors.As(err, &foreign), err != nil && !now.Before(restGoes.Add(patience)):
		r.repay(ctx, ro)
		r.Log.Warn("Let go of a rollout without taking its traffic back", "namespace", ro.Namespace, "rollout", ro.Name, "error", err)
		r.Record(ro, true, string(reasonLetGo), fmt.Sprintf("could not take the traffic back: %v", err))
	case err != nil:
		return quiet(err)
	case now.Before(routeGoes):
		r.Record(ro, false, string(reasonLeaving), fmt.Sprintf("all units see %q; the routes go in %s", ro.Status.StableVersion, r.Grace))
		return ctrl.Result{RequeueAfter: routeGoes.Sub(now)}, nil
	case now.Before(restGoes):
		return ctrl.Result{RequeueAfter: restGoes.Sub(now)}, nil
	}
	return quiet(client.IgnoreNotFound(r.setFinalizer(ctx, ro, ro, false)))
}

// takeBack makes the routes lead to the stable version alone, or removes them, and then the rest of the objects. Without a route
// the service spreads over all that runs, so that what Siskin has woken is put to sleep before.
func (r *Reconciler) takeBack(ctx context.Context, ro *v1alpha1.Rollout, routeGoes, restGoes bool) error {
	p, err := r.open(ctx, ro)
	if err != nil {
		return err
	}
	st := &p.ro.Status
	st.Run, st.CanaryVersion, st.Weight, st.Mirror, st.Experiments, p.run = nil, "", 0, 0, nil, nil
	objects, err := p.render()
	if err != nil {
		return err
	}
	if !routeGoes {
		_, err = r.put(ctx, p, objects.Route)
		return errors.Join(err, r.giveBack(ctx, p, false))
	}
	led := p.live[p.route] == nil || p.stands(objects.Route)
	if err := r.giveBack(ctx, p, led); err != nil {
		return err
	}
	for _, o := range append([]*unstructured.Unstructured{objects.Route}, objects.Behind...) {
		if err := r.remove(ctx, p, o); err != nil {
			return err
		}
	}
	if !restGoes {
		return nil
	}
	rest := append(objects.Subsets, objects.LimitKeys...)
	if r.Rules {
		rest = append(rest, rulesFor(p.ro, nil))
	}
	for _, o := range rest {
		err = errors.Join(err, r.remove(ctx, p, o))
	}
	return err
}

// remove deletes an object of ours.
func (r *Reconciler) remove(ctx context.Context, p *pass, like *unstructured.Unstructured) error {
	live, err := r.read(ctx, like)
	if err == nil && ours(p.ro, live) {
		err = r.Client.Delete(ctx, live)
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %s %q: %w", like.GetKind(), like.GetName(), err)
	}
	return nil
}

package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// annotationEnded on a route holds the run that the route brought to its end, as status.lastRun will show it. The route
// is written first when traffic leaves the canary; if the status cannot be written after it, the next pass ends the run
// by this and by nothing else: the evidence of then may be out of reach, and nobody may see the canary again.
const annotationEnded = "siskin.dev/ended-run"

// sign writes the end of a run on the route that brings it about.
func sign(route *unstructured.Unstructured, last *v1alpha1.LastRunStatus) error {
	raw, err := json.Marshal(last)
	if err != nil {
		return fmt.Errorf("encoding the end of run %q: %w", last.ID, err)
	}
	all := route.GetAnnotations()
	if all == nil {
		all = map[string]string{}
	}
	all[annotationEnded] = string(raw)
	route.SetAnnotations(all)
	return nil
}

// lookAtMesh reads the route and the subsets as they stand. It ends the pass when one of them is somebody else's.
func (r *Reconciler) lookAtMesh(ctx context.Context, p *pass) error {
	p.live = map[string]*unstructured.Unstructured{}
	r.lookAtRules(ctx, p)
	t := p.traffic()
	if t.Shares[0].Version == "" {
		t.Shares[0].Version = p.ro.Spec.Version
	}
	objects, err := p.router.Render(t, nil)
	if err != nil {
		return &specError{err}
	}
	p.route = keyOf(objects.Route)
	for _, o := range slices.Concat([]*unstructured.Unstructured{objects.Route}, objects.Subsets, objects.Behind) {
		live, err := r.read(ctx, o)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			// No rollback waits for the subsets.
			if p.blind = fmt.Errorf("reading %s %q: %w", o.GetKind(), o.GetName(), err); o == objects.Route {
				return p.blind
			}
		case !ours(p.ro, live):
			if p.foreign = (&foreignError{o.GetKind(), o.GetName()}); o == objects.Route {
				return p.foreign
			}
			p.blind = p.foreign
		default:
			p.live[keyOf(o)] = live
		}
	}
	p.gone = endedBy(p.live[p.route], p.ro.Status.Run)
	return nil
}

// endedBy returns how the route ended the run; nil when it did not.
func endedBy(route *unstructured.Unstructured, run *v1alpha1.RunStatus) *v1alpha1.LastRunStatus {
	if route == nil || run == nil {
		return nil
	}
	var last v1alpha1.LastRunStatus
	if err := json.Unmarshal([]byte(route.GetAnnotations()[annotationEnded]), &last); err != nil || last.ID != run.ID {
		return nil
	}
	return &last
}

// repair makes the mesh show the present step again if it does not, before anything slower is done. An error is left to
// act, which comes to the same write.
func (r *Reconciler) repair(ctx context.Context, p *pass) {
	if p.ro.Status.ObservedGeneration != p.ro.Generation {
		return // the spec was changed, not the mesh
	}
	objects, err := r.render(p)
	if err != nil {
		return
	}
	if route := p.live[keyOf(objects.Route)]; route != nil && sameSpec(route, objects.Route) {
		return
	}
	if err := r.express(ctx, p, objects); err != nil {
		r.Log.Warn("Could not repair the route", "namespace", p.ro.Namespace, "rollout", p.ro.Name, "error", err)
	}
}

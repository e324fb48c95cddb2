package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
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

// lookAtMesh reads the route as it stands, and what goes with it, unless the run ends by what is known already: then that is read
// once traffic has left. It ends the pass when the route is somebody else's.
func (r *Reconciler) lookAtMesh(ctx context.Context, p *pass) error {
	p.live = map[string]*unstructured.Unstructured{}
	objects, err := p.draw(p.shownTraffic(), nil)
	if err != nil {
		return &specError{err}
	}
	p.route = keyOf(objects.Route)
	live, err := r.read(ctx, objects.Route)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("reading %s %q: %w", objects.Route.GetKind(), objects.Route.GetName(), err)
	case !ours(p.ro, live):
		return &foreignError{objects.Route.GetKind(), objects.Route.GetName()}
	default:
		p.live[p.route] = live
	}
	p.gone = endedBy(p.live[p.route], p.ro.Status.Run)
	if p.judging() {
		p.judge() // by what was told or counted before this pass: an alert, or harm that could not be acted on
	}
	if p.hasty() {
		return nil
	}
	return r.lookAround(ctx, p)
}

// shownTraffic is the traffic as the status that was read has it; of a new rollout, what it will be.
func (p *pass) shownTraffic() mesh.Traffic {
	t := p.traffic()
	if t.Shares[0].Version == "" {
		t.Shares[0].Version = p.ro.Spec.Version
	}
	return t
}

// lookAround reads what goes with the route, once in a pass. What cannot be read blinds the pass: no rollback waits for it.
func (r *Reconciler) lookAround(ctx context.Context, p *pass) error {
	if p.looked {
		return nil
	}
	p.looked = true
	r.lookAtRules(ctx, p)
	objects, err := p.draw(p.shownTraffic(), nil)
	if err != nil {
		return &specError{err}
	}
	for _, o := range slices.Concat(objects.Subsets, objects.Behind) {
		live, err := r.read(ctx, o)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			p.blind = fmt.Errorf("reading %s %q: %w", o.GetKind(), o.GetName(), err)
		case !ours(p.ro, live):
			p.foreign = &foreignError{o.GetKind(), o.GetName()}
			p.blind = p.foreign
		default:
			p.live[keyOf(o)] = live
		}
	}
	r.lookAtLimits(ctx, p, objects.Limits)
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

// lookAtRoutes finds out whether the mesh shows the present step, before anything slower is done. What somebody has changed is
// put right at once. What was never seen to stand is a write of our own that failed, or that a process did not live to make:
// the status says first that the weight is not shown, then act writes it. Until it is seen to stand the run goes no further.
func (r *Reconciler) lookAtRoutes(ctx context.Context, p *pass) {
	switch {
	case p.blind != nil:
		p.spreading = p.blind.Error()
		return
	case p.ro.Status.ObservedGeneration != p.ro.Generation: // the spec was changed, not the mesh
		if p.run.Shown.IsZero() {
			p.spreading = "the spec was changed before the weight was seen in the mesh"
		}
		return
	}
	missing := p.missing()
	if missing != "" && !p.run.Shown.IsZero() {
		missing = cmp.Or(r.repair(ctx, p), p.missing())
	}
	switch {
	case missing != "":
		p.spreading, p.run.Spreading, p.run.Shown = missing, rollout.Awaited(p.run.Spreading, p.run.Since(), p.now), time.Time{}
	case p.run.Shown.IsZero():
		p.run.Spreading = rollout.Arrived(p.run.Spreading, p.now)
		p.run.Shown = p.run.StepStarted
		if p.run.Spreading.After(p.run.Shown) {
			p.run.Shown = p.run.Spreading
		}
	}
}

// missing names an object that is not in the mesh as the status that was read needs it; empty when all are. Those of versions
// that were left, where they are objects of their own, are not looked at.
func (p *pass) missing() string {
	needed, err := p.draw(p.shownTraffic(), nil)
	if err != nil {
		return err.Error()
	}
	objects, err := p.render()
	if err != nil {
		return err.Error()
	}
	known := map[string]bool{}
	for _, o := range needed.written() {
		known[keyOf(o)] = true
	}
	for _, o := range objects.written() {
		if known[keyOf(o)] && !p.stands(o) {
			return cmp.Or(p.altered[keyOf(o)], fmt.Sprintf("%s %q does not show weight %d yet", o.GetKind(), o.GetName(), p.ro.Status.Weight))
		}
	}
	return ""
}

// repair makes the mesh show the present step again, and says why it could not.
func (r *Reconciler) repair(ctx context.Context, p *pass) string {
	objects, err := p.render()
	if err == nil {
		err = r.express(ctx, p, objects)
	}
	if err != nil {
		r.Log.Warn("Could not repair the routes", "namespace", p.ro.Namespace, "rollout", p.ro.Name, "error", err)
		return err.Error()
	}
	return ""
}

package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// act writes what was decided. A weight that grows is written to the status first: if this process dies in between, the
// next one finds the step in the status and writes the route. A weight that falls is written to the mesh first, and
// to the route alone: nothing else may fail before it.
func (r *Reconciler) act(ctx context.Context, p *pass) error {
	if p.ro.Status.StableVersion == "" {
		return r.store(ctx, p)
	}
	if p.urgent {
		if err := r.hurry(ctx, p); err != nil {
			r.Metrics.found(p)
			r.warn(p, "RollbackFailed", "", err)
			return err
		}
	}
	objects, err := p.render()
	if err != nil {
		return err
	}
	p.noteRendered()
	p.noteInForce(objects)
	p.noteLate(objects)
	r.scale(ctx, p, objects)
	if p.leaves() {
		if err := r.express(ctx, p, objects); err != nil {
			return err
		}
	}
	bound := holds(p.ro.Status)
	if bound {
		if err := r.bind(ctx, p, true); err != nil {
			return err
		}
	}
	if err := r.store(ctx, p); err != nil {
		return err
	}
	if err := r.express(ctx, p, objects); err != nil {
		r.warn(p, "NotWritten", "", err)
		return err
	}
	if bound {
		return nil
	}
	return r.bind(ctx, p, false)
}

// warn tells people of what goes wrong with an object, by keyOf, or with all of them: at once, and again every minute for as long
// as it is the same.
func (r *Reconciler) warn(p *pass, reason, about string, err error) {
	told := &unstructured.Unstructured{Object: map[string]any{"spec": err.Error()}}
	told.SetKind(reason)
	told.SetName(about)
	if apierrors.IsConflict(err) || r.calm.since(p, told) {
		return // of a conflict the next pass comes at once
	}
	r.calm.note(p, told)
	r.Record(p.ro, true, reason, err.Error())
}

// hurry writes the route of a run that ends, and reads what it did not wait for.
func (r *Reconciler) hurry(ctx context.Context, p *pass) error {
	objects, err := p.draw(p.traffic(), nil)
	if err != nil {
		return &specError{err}
	}
	if err := sign(objects.Route, p.ro.Status.LastRun); err != nil {
		return err
	}
	if _, err := r.put(ctx, p, objects.Route); err != nil {
		return err
	}
	r.Metrics.routed(r.Now().Sub(p.now))
	return r.lookAround(ctx, p)
}

// draw renders traffic. What is asked for again in the same pass is the same value.
func (p *pass) draw(t mesh.Traffic, leaving []string) (Objects, error) {
	key, err := json.Marshal([]any{t, leaving})
	if err != nil {
		return Objects{}, fmt.Errorf("encoding the traffic of %q: %w", t.Rollout, err)
	}
	if done, ok := p.drawn[string(key)]; ok {
		return done, nil
	}
	objects, err := p.router.Render(t, leaving)
	if err == nil {
		p.drawn[string(key)] = objects
	}
	return objects, err
}

// render returns the objects for the status to write. Versions that a route may still lead to stay reachable: those in
// the live subsets while the route is about to change, and those of the last run for a grace period after it ended,
// since proxies learn of the route's change later than the API server.
func (p *pass) render() (Objects, error) {
	t := p.traffic()
	var leaving []string
	if last := p.ro.Status.LastRun; p.graceLeft() > 0 {
		leaving = append(leaving, last.Version, last.Previous)
	}
	leaving = append(leaving, p.left()...)
	settled, err := p.draw(t, leaving)
	if err != nil {
		return Objects{}, &specError{err}
	}
	if p.inPlace(settled) {
		return settled, nil
	}
	for _, subsets := range p.live {
		leaving = append(leaving, p.router.Versions(subsets, t.VersionLabel)...)
	}
	reachable, err := p.draw(t, leaving)
	settled.Subsets = reachable.Subsets
	return settled, err
}

// inPlace says whether every route is in the mesh as it should be.
func (p *pass) inPlace(o Objects) bool {
	return p.stands(o.Route) && !slices.ContainsFunc(o.Behind, func(b *unstructured.Unstructured) bool { return !p.stands(b) })
}

// written lists what express writes, in that order.
func (o Objects) written() []*unstructured.Unstructured {
	return slices.Concat(o.Subsets, o.Behind, []*unstructured.Unstructured{o.Route})
}

// stands says whether an object is in the mesh as it should be.
func (p *pass) stands(want *unstructured.Unstructured) bool {
	live := p.live[keyOf(want)]
	return live != nil && sameSpec(live, want)
}

// express makes the mesh show the status: what must be reachable first, then the route, then the rest, which the split of
// the traffic does not wait for.
func (r *Reconciler) express(ctx context.Context, p *pass, o Objects) error {
	if p.blind != nil {
		return p.blind
	}
	for _, subsets := range o.Subsets {
		if _, err := r.put(ctx, p, subsets); err != nil {
			return err
		}
	}
	for _, behind := range o.Behind {
		if _, err := r.put(ctx, p, behind); err != nil {
			return err
		}
	}
	changed, err := r.put(ctx, p, o.Route)
	if err != nil {
		return err
	}
	if changed && p.stands(o.Route) {
		r.noteRoute(p, o.Route.GetKind())
	}
	err = errors.Join(r.limit(ctx, p, o), r.prune(ctx, p, o))
	r.noteAltered(p, o)
	if r.Rules {
		err = errors.Join(err, r.putRules(ctx, p))
	}
	if err != nil {
		r.Log.Warn("Could not write what goes with the route", "namespace", p.ro.Namespace, "rollout", p.ro.Name, "error", err)
	}
	return nil
}

// sameRoutes says whether the routes are to show what they were to show before the pass.
func (p *pass) sameRoutes() bool {
	was, st := p.was.Status, p.ro.Status
	return was.Weight == st.Weight && was.Mirror == st.Mirror && admitted(was) == admitted(st) && was.StableVersion == st.StableVersion &&
		was.CanaryVersion == st.CanaryVersion && was.ObservedGeneration == p.ro.Generation && p.sameArms()
}

// shownBefore says whether the routes have been seen to show the status that was read: what they do not show now somebody has
// changed. A promotion has been seen once the rollout is Ready.
func (p *pass) shownBefore() bool {
	if run := p.was.Status.Run; run != nil {
		return run.ShownAt != nil
	}
	last := p.was.Status.LastRun
	return last == nil || last.Outcome != v1alpha1.OutcomePromoted || meta.IsStatusConditionTrue(p.was.Status.Conditions, v1alpha1.ConditionReady)
}

// noteRoute tells a repair of a foreign edit from a step of our own.
func (r *Reconciler) noteRoute(p *pass, kind string) {
	if p.sameRoutes() && p.shownBefore() {
		r.Metrics.repaired(p.ro)
		r.Record(p.ro, true, "DriftRepaired", fmt.Sprintf("the %s did not show weight %d; wrote it again", kind, p.ro.Status.Weight))
		return
	}
	decided := p.now
	if p.sameRoutes() && p.run != nil {
		decided = p.run.StepStarted // a pass before this one could not write it
	}
	r.Metrics.routed(r.Now().Sub(decided))
}

// putRules writes the alert rules.
func (r *Reconciler) putRules(ctx context.Context, p *pass) error {
	rules := rulesFor(p.ro, r.RuleLabels)
	if r.calm.since(p, rules) {
		return nil
	}
	_, err := r.put(ctx, p, rules)
	if err == nil {
		r.calm.note(p, rules)
	}
	return err
}

// foreignError says that an object which Siskin would have to write belongs to somebody else.
type foreignError struct{ kind, name string }

func (e *foreignError) Error() string {
	return fmt.Sprintf("%s %q exists and is not Siskin's: rename the rollout or delete the object", e.kind, e.name)
}

// specError says that the spec cannot be expressed in the mesh.
type specError struct{ error }

// Unwrap returns what is wrong with the spec.
func (e *specError) Unwrap() error { return e.error }

// put makes an object of ours what it should be, and says whether it was not. Server-side apply sets whole objects; what
// somebody else added to one of ours is then removed by an update.
func (r *Reconciler) put(ctx context.Context, p *pass, want *unstructured.Unstructured) (bool, error) {
	own(p.ro, want)
	live, err := r.known(ctx, p, want)
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("reading %s %q: %w", want.GetKind(), want.GetName(), err)
	}
	if err == nil {
		if !ours(p.ro, live) {
			return false, &foreignError{want.GetKind(), want.GetName()}
		}
		if sameSpec(live, want) && marked(p.ro, live, want) {
			return false, nil
		}
	}
	applied := want.DeepCopy()
	if err := r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(applied), client.FieldOwner(v1alpha1.FieldManager), client.ForceOwnership); err != nil {
		return false, fmt.Errorf("applying %s %q: %w", want.GetKind(), want.GetName(), err)
	}
	if !sameSpec(applied, want) {
		overwrite(applied, want)
		if err := r.Client.Update(ctx, applied, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
			return false, fmt.Errorf("removing foreign fields of %s %q: %w", want.GetKind(), want.GetName(), err)
		}
	}
	p.live[keyOf(want)] = applied
	return true, nil
}

// marked says whether a live object carries the labels, the owner and the signature that it should.
func marked(ro *v1alpha1.Rollout, live, want *unstructured.Unstructured) bool {
	signature, signed := want.GetAnnotations()[annotationEnded]
	for name, value := range want.GetLabels() {
		if live.GetLabels()[name] != value {
			return false
		}
	}
	return live.GetLabels()[v1alpha1.LabelRollout] == ro.Name && metav1.IsControlledBy(live, ro) &&
		(!signed || live.GetAnnotations()[annotationEnded] == signature)
}

// known returns the live object as the pass has read it, or reads it. What changes meanwhile wakes the next pass.
func (r *Reconciler) known(ctx context.Context, p *pass, like *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	for _, read := range []map[string]*unstructured.Unstructured{p.live, p.limits} {
		if live, ok := read[keyOf(like)]; ok {
			return live, nil
		}
	}
	return r.read(ctx, like)
}

// read returns the live object of the same kind and name.
func (r *Reconciler) read(ctx context.Context, like *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(like.GroupVersionKind())
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(like), live)
	return live, err
}

// ours says whether an object was written for this rollout, or for an earlier one of its name.
func ours(ro *v1alpha1.Rollout, live *unstructured.Unstructured) bool {
	if owner := metav1.GetControllerOf(live); owner != nil && (owner.Kind != "Rollout" || owner.Name != ro.Name) {
		return false
	}
	if live.GetLabels()[v1alpha1.LabelRollout] == ro.Name || metav1.IsControlledBy(live, ro) {
		return true
	}
	for _, m := range live.GetManagedFields() {
		if m.Manager == v1alpha1.FieldManager && m.Operation == metav1.ManagedFieldsOperationApply {
			return true
		}
	}
	return false
}

// own makes the rollout the object's controller, so that it goes when the rollout goes. It does not block the deletion: nothing
// waits for that, and a cluster that guards it (OwnerReferencesPermissionEnforcement) would ask for one more right.
func own(ro *v1alpha1.Rollout, o *unstructured.Unstructured) {
	yes := true
	o.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "Rollout", Name: ro.Name, UID: ro.UID,
		Controller: &yes,
	}})
}

// store writes the status if it changed. It fails on a conflict, so a pass that read an old rollout changes nothing.
func (r *Reconciler) store(ctx context.Context, p *pass) error {
	if equality.Semantic.DeepEqual(p.was.Status, p.ro.Status) {
		r.Metrics.observe(p)
		return nil
	}
	if err := r.Client.Status().Update(ctx, p.ro); err != nil {
		return fmt.Errorf("writing the status of rollout %q: %w", p.ro.Name, err)
	}
	r.tell(p)
	return nil
}

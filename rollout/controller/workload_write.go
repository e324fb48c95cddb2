package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// What is written of the plan that workload.go makes: the replicas, unless somebody else scales the Deployment, and not before
// the status has said what goes. And what is given back where the loop does not come to that.

// rescale makes a Deployment have what it is to have.
func (r *Reconciler) rescale(ctx context.Context, p *pass, e *part) {
	if p.ro.Spec.Workload.Scaling == nil && e.part != rollout.PartStable {
		return
	}
	p.awaitDelay(e)
	if e.Wanted == e.Replicas || r.leftToOthers(ctx, p, e) {
		return
	}
	if p.unsaid(e) {
		p.scaling.soon(time.Millisecond)
		return
	}
	r.noteScale(p, e, r.writeScale(ctx, e))
}

// awaitDelay asks for a pass when the delay of a version that was left is over.
func (p *pass) awaitDelay(e *part) {
	if e.part != rollout.PartLeft || e.LeftAt == nil || e.Replicas == 0 {
		return
	}
	if left := e.LeftAt.Add(p.scaling.Delay).Sub(p.now); left > 0 {
		p.scaling.soon(left)
	}
}

// leftToOthers leaves a Deployment to whoever else scales it, unless it has to be woken for them.
func (r *Reconciler) leftToOthers(ctx context.Context, p *pass, e *part) bool {
	other, err := r.scaledBy(ctx, p, e.Name)
	if err != nil {
		e.Message = err.Error()
		p.scaling.soon(rescaleAgain)
		return true
	}
	if other == nil {
		return false
	}
	to, why := other.wakes(int(e.Replicas), int(e.Wanted))
	if e.leave(why); to > 0 {
		e.Wanted = int32(to) //nolint:gosec // an int32 of the API
	}
	return to == 0
}

// leave says that somebody else scales the Deployment.
func (e *part) leave(why string) {
	e.Wanted, e.Message = e.Replicas, why
	e.Full = min(e.Full, e.Replicas)
}

// unsaid says whether the status has to say first that replicas go. Of a rollout that is being deleted nobody reads it.
func (p *pass) unsaid(e *part) bool {
	was := entryFor(p.was.Status.Workloads, workloadKey{e.Service, e.Version})
	return !p.scaling.over && e.Wanted < e.Replicas && (was == nil || was.Name != e.Name || was.Wanted > e.Wanted)
}

// noteScale tells what came of the write.
func (r *Reconciler) noteScale(p *pass, e *part, err error) {
	switch {
	case err == nil:
		r.Record(p.ro, false, "Scaled", fmt.Sprintf("Deployment %q, which runs %s, from %d to %d replicas", e.Name, e.Version, e.Replicas, e.Wanted))
		e.Replicas = e.Wanted
		return
	case apierrors.IsConflict(err), errors.Is(err, context.Canceled):
		p.scaling.soon(askAgain) // the Deployment has changed since it was read, or something is more urgent
		return
	}
	e.Message = fmt.Sprintf("scaling Deployment %q from %d to %d: %v", e.Name, e.Replicas, e.Wanted, err)
	p.scaling.soon(rescaleAgain)
	r.Log.Warn("Could not scale a Deployment", "namespace", p.ro.Namespace, "rollout", p.ro.Name, "error", e.Message)
	if was := entryFor(p.was.Status.Workloads, workloadKey{e.Service, e.Version}); was == nil || was.Message != e.Message {
		r.Record(p.ro, true, "ScalingFailed", e.Message)
	}
}

// soon asks for another pass after a time.
func (s *scaling) soon(after time.Duration) {
	if s.again == 0 || after < s.again {
		s.again = after
	}
}

// writeScale sets the replicas of a Deployment that is still as it was read. It is an apply, because an update to 0 leaves no trace
// of who made it (see asleep).
func (r *Reconciler) writeScale(ctx context.Context, e *part) error {
	scale := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": int64(e.Wanted)}}}
	scale.SetGroupVersionKind(schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"})
	scale.SetNamespace(e.deployment.GetNamespace())
	scale.SetName(e.Name)
	scale.SetResourceVersion(e.deployment.GetResourceVersion())
	body := &client.SubResourceApplyOptions{SubResourceBody: client.ApplyConfigurationFromUnstructured(scale)}
	return r.Client.SubResource("scale").Apply(ctx, client.ApplyConfigurationFromUnstructured(e.deployment.DeepCopy()), body,
		client.FieldOwner(v1alpha1.FieldManager), client.ForceOwnership)
}

// owed says whether an entry is that of a stable version which has not got back what was taken from it.
func owed(st v1alpha1.RolloutStatus, w v1alpha1.WorkloadStatus) bool {
	return w.Version == st.StableVersion && w.Replicas < max(w.Full, w.Wanted)
}

// giveBack returns to the stable version of a rollout that is being deleted what was taken from it, and, where the routes lead
// nowhere else, takes their replicas from the others.
func (r *Reconciler) giveBack(ctx context.Context, p *pass, led bool) error {
	r.lookAtScaling(ctx, p)
	if p.scaling == nil {
		return nil
	}
	if led {
		p.scaling.over, p.scaling.Delay = true, 0
	}
	r.scale(ctx, p, Objects{Route: &unstructured.Unstructured{}})
	for _, w := range p.ro.Status.Workloads {
		found := p.scaling.unread != nil || len(p.scaling.found[workloadKey{w.Service, w.Version}]) > 0
		switch {
		case found && owed(p.ro.Status, w):
			return fmt.Errorf("giving its replicas back to version %q: %s", w.Version, cmp.Or(w.Message, "not all are back"))
		case led && w.Version != p.ro.Status.StableVersion && (w.Replicas > w.Wanted || p.scaling.unread != nil):
			return fmt.Errorf("putting version %q to sleep: %s", w.Version, cmp.Or(w.Message, "it is not yet"))
		}
	}
	return nil
}

// repay gives back what was taken from stable, where nothing else can be done for a rollout whose run is over. It returns when
// to try again; 0 for never.
func (r *Reconciler) repay(ctx context.Context, ro *v1alpha1.Rollout) time.Duration {
	p := &pass{was: ro, ro: ro.DeepCopy(), now: r.Now().UTC()}
	st := &p.ro.Status
	if st.Run, st.CanaryVersion = nil, ""; !slices.ContainsFunc(st.Workloads, func(w v1alpha1.WorkloadStatus) bool { return owed(*st, w) }) {
		return 0
	}
	if r.scale(ctx, p, Objects{Route: &unstructured.Unstructured{}}); p.scaling == nil {
		return 0
	}
	return p.scaling.again
}

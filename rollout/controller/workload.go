package controller

import (
	"cmp"
	"context"
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

// Scaling comes after the route: replicas that are to grow are written in the pass that decides so, behind a rollback's
// write of the route and before the status; those that are to shrink once the status says so. What fails is told in
// status.workloads and tried again, and no route waits for it. A first or a further step does, as it does for endpoints.

const (
	// rescaleAgain is when to try again what could not be scaled.
	rescaleAgain = 5 * time.Second
	// maxWorkloads is the bound of status.workloads.
	maxWorkloads = 64
)

// workloadKey names a version of a service.
type workloadKey struct{ service, version string }

// scaling is what a pass knows of the Deployments.
type scaling struct {
	rollout.Scaling
	found map[workloadKey][]unstructured.Unstructured
	// unread is why they could not be listed.
	unread error
	// again is when the pass wants another one because of them; 0 when it does not.
	again time.Duration
	// over says that the rollout is being deleted and its routes lead to stable alone: all others have had their time.
	over bool
	// others are who else scales Deployments, by the name of the Deployment, once somebody has asked.
	others map[string]autoscaler
	asked  bool
	// unasked is why that could not be found out.
	unasked error
}

// scalingOf reads the spec in the terms of the rollout package; nil when Siskin scales nothing. What was taken from a
// stable version comes back also when the spec has been changed to that.
func (r *Reconciler) scalingOf(ro *v1alpha1.Rollout) *scaling {
	spec := ro.Spec.Workload.Scaling
	if spec == nil && len(ro.Status.Workloads) == 0 {
		return nil
	}
	s := &scaling{Scaling: rollout.Scaling{Delay: r.Grace}}
	if spec == nil {
		return s
	}
	delay := 10 * time.Minute
	if spec.ScaleDownDelay != nil {
		delay = spec.ScaleDownDelay.Duration
	}
	s.Scaling = rollout.Scaling{Replicas: int(spec.Replicas), Delay: max(delay, r.Grace), Dynamic: spec.DynamicStable}
	return s
}

// lookAtScaling lists the Deployments of every service whose versions may have to be scaled.
func (r *Reconciler) lookAtScaling(ctx context.Context, p *pass) {
	st := p.ro.Status
	p.scaling = r.scalingOf(p.ro)
	if p.scaling == nil || st.StableVersion == "" || (st.Run == nil && len(st.Workloads) == 0) {
		p.scaling = nil
		return
	}
	p.scaling.found = map[workloadKey][]unstructured.Unstructured{}
	for _, service := range p.scaledServices() {
		var list unstructured.UnstructuredList
		list.SetGroupVersionKind(workloadKinds["Deployment"].gvk)
		if err := r.Live.List(ctx, &list, client.InNamespace(p.ro.Namespace), client.MatchingLabels{"app": service}, client.HasLabels{versionLabel(p.ro)}); err != nil {
			p.scaling.unread = fmt.Errorf("listing the Deployments of service %q: %w", service, err)
			return
		}
		for _, d := range list.Items {
			key := workloadKey{service, d.GetLabels()[versionLabel(p.ro)]}
			p.scaling.found[key] = append(p.scaling.found[key], d)
		}
	}
}

// scaledServices are the rollout's service and its tiers, those too that the spec no longer has.
func (p *pass) scaledServices() []string {
	all := appsOf(p.ro)
	for _, w := range p.ro.Status.Workloads {
		if !slices.Contains(all, w.Service) {
			all = append(all, w.Service)
		}
	}
	return all
}

// uncounted says why nobody knows what the canary is ready for: the Deployments could not be listed, or the first plan is made in
// this pass.
func (p *pass) uncounted() error {
	if p.scaling.unread != nil {
		return p.scaling.unread
	}
	for _, service := range appsOf(p.ro) {
		if p.workload(workloadKey{service, p.ro.Status.CanaryVersion}) == nil {
			return fmt.Errorf("the replicas of version %q of service %q are not yet planned", p.ro.Status.CanaryVersion, service)
		}
	}
	return nil
}

// lacks says what is missing of the replicas of the canary that a weight needs; empty when nothing is.
func (p *pass) lacks(weight int) string {
	for _, service := range appsOf(p.ro) {
		key := workloadKey{service, p.ro.Status.CanaryVersion}
		found := p.scaling.found[key]
		if len(found) == 0 {
			return fmt.Sprintf("there is no Deployment with the labels app=%s and %s=%s", service, versionLabel(p.ro), key.version)
		}
		available := 0
		for _, d := range found {
			available += number32(d, "status", "availableReplicas")
		}
		w := rollout.Workload{Wanted: int(p.workload(key).Wanted)}
		if need := w.Needs(weight); available < need {
			return fmt.Sprintf("%d of %d replicas of Deployment %q are available, and the weight ahead, %d, needs %d",
				available, w.Wanted, found[0].GetName(), weight, need)
		}
		if weight > p.weightNow() && len(found) > 1 {
			return several(len(found), service, versionLabel(p.ro), key.version)
		}
	}
	return ""
}

// weightNow is the weight that the canary must be able to answer for: the one that it has, or the share of copies that is to
// begin. A promotion by hand asks for one replica and no more.
func (p *pass) weightNow() int {
	switch {
	case p.action() == rollout.AskPromoteFull:
		return 0
	case p.run.Shadowed(p.plan) && p.was.Status.Mirror == 0:
		return p.plan.Shadow.Percent
	}
	return p.run.Weight(p.plan)
}

// weightAhead is the weight that the canary gets next, or the share of copies that it gets before.
func (p *pass) weightAhead() int {
	switch {
	case p.action() == rollout.AskPromoteFull:
		return 0
	case p.run.Step == 0:
		return max(p.plan.Shadow.Percent, p.plan.Steps[0].Weight)
	case p.run.Planned(p.plan) > p.run.Weight:
		return p.run.Planned(p.plan)
	case p.run.Step < len(p.plan.Steps):
		return p.plan.Steps[p.run.Step].Weight
	}
	return 100
}

// workload is the entry of the status for a version of a service; nil when there is none.
func (p *pass) workload(key workloadKey) *v1alpha1.WorkloadStatus {
	return entryFor(p.ro.Status.Workloads, key)
}

func entryFor(all []v1alpha1.WorkloadStatus, key workloadKey) *v1alpha1.WorkloadStatus {
	for i := range all {
		if all[i].Service == key.service && all[i].Version == key.version {
			return &all[i]
		}
	}
	return nil
}

// scale plans the replicas of every service and writes what may be written now. It returns nothing: whatever fails is in
// the status. A pass that takes traffic back has not looked at Deployments before.
func (r *Reconciler) scale(ctx context.Context, p *pass, o Objects) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	if p.scaling == nil {
		r.lookAtScaling(ctx, p)
	}
	if p.scaling == nil {
		return
	}
	if err := p.scaling.unread; err != nil {
		for i := range p.ro.Status.Workloads {
			p.ro.Status.Workloads[i].Message = err.Error()
		}
		p.scaling.again = rescaleAgain
		return
	}
	at := rollout.Stand{Running: p.run != nil, Weight: int(p.ro.Status.Weight), Settled: p.scaling.over || r.settled(p, o), Now: p.now}
	if p.scaling.over {
		p.scaling.Delay = 0
	}
	var all []v1alpha1.WorkloadStatus
	for _, service := range p.scaledServices() {
		all = append(all, r.scaleService(ctx, p, service, at)...)
	}
	p.ro.Status.Workloads = all[:min(len(all), maxWorkloads)]
}

// settled says whether the routes are as they should be: in a run, since long enough for every proxy to know. After one nothing
// is taken before a delay, which is the grace at least and begins when they are.
func (r *Reconciler) settled(p *pass, o Objects) bool {
	if p.blind != nil || !p.inPlace(o) {
		return false
	}
	converging := p.outcome.Reason == rollout.Converging || p.outcome.Reason == rollout.WeightNotRealised
	return p.run == nil || (!converging && !p.now.Before(p.run.Since().Add(r.Grace)))
}

// scaleService plans one service, and returns the entries that its versions have from now on.
func (r *Reconciler) scaleService(ctx context.Context, p *pass, service string, at rollout.Stand) []v1alpha1.WorkloadStatus {
	entries := p.partsOf(service)
	plan := make([]rollout.Workload, 0, len(entries))
	for i := range entries {
		plan = append(plan, entries[i].terms())
	}
	var out []v1alpha1.WorkloadStatus
	for i, w := range p.scaling.Plan(at, plan) {
		e := &entries[i]
		if e.take(w); e.Name != "" {
			r.rescale(ctx, p, e)
		}
		if p.matters(*e) {
			out = append(out, e.WorkloadStatus)
		}
	}
	return out
}

// part is an entry of the status with what its version has to do with the rollout now.
type part struct {
	v1alpha1.WorkloadStatus
	part       rollout.Part
	deployment unstructured.Unstructured
}

// partsOf are the versions of a service that there is something to say of: stable, the canary, and those that took part
// before, the last first.
func (p *pass) partsOf(service string) []part {
	st := p.ro.Status
	versions := []string{st.StableVersion}
	if st.Run != nil {
		versions = append(versions, st.CanaryVersion)
	}
	before := slices.DeleteFunc(slices.Clone(st.Workloads), func(w v1alpha1.WorkloadStatus) bool {
		return w.Service != service || slices.Contains(versions, w.Version)
	})
	slices.SortFunc(before, func(a, b v1alpha1.WorkloadStatus) int { return timeOf(b.LeftAt).Compare(timeOf(a.LeftAt)) })
	for _, w := range before {
		versions = append(versions, w.Version)
	}
	kept := p.kept()
	out := make([]part, 0, len(versions))
	for i, version := range versions {
		e := part{part: rollout.PartLeft}
		switch {
		case i == 0:
			e.part = rollout.PartStable
		case version == st.CanaryVersion:
			e.part = rollout.PartCanary
		case slices.Contains(kept, version):
			e.part = rollout.PartKept
		}
		key := workloadKey{service, version}
		if known := p.workload(key); known != nil {
			e.WorkloadStatus = *known
		}
		e.Service, e.Version, e.Name, e.Message = service, version, "", ""
		e.meet(p.scaling.found[key], versionLabel(p.ro))
		out = append(out, e)
	}
	return out
}

// kept are the versions that experiments show, and the one that is wanted next.
func (p *pass) kept() []string {
	if p.scaling.over {
		return nil
	}
	all := p.left()
	for _, s := range p.arms() {
		all = append(all, s.Version)
	}
	if p.ro.Spec.Version != p.ro.Status.RejectedVersion {
		all = append(all, p.ro.Spec.Version)
	}
	return all
}

// meet reads the one Deployment that runs the version. What the version had before it was lowered outlives a moment in which
// there is none, or more than one.
func (e *part) meet(found []unstructured.Unstructured, label string) {
	if len(found) != 1 {
		e.Message = several(len(found), e.Service, label, e.Version)
		e.Wanted, e.Replicas, e.Available = 0, 0, 0
		return
	}
	e.deployment, e.Name = found[0], found[0].GetName()
	e.Replicas, e.Available = 1, int32(number32(found[0], "status", "availableReplicas")) //nolint:gosec // an int32 of the API
	if n, ok, _ := unstructured.NestedInt64(found[0].Object, "spec", "replicas"); ok {
		e.Replicas = int32(n) //nolint:gosec // an int32 of the API
	}
}

// several says that it is not one Deployment that runs a version.
func several(n int, service, label, version string) string {
	return fmt.Sprintf("%d Deployments have the labels app=%s and %s=%s: there must be one to be scaled", n, service, label, version)
}

// number32 reads a number of the API; 0 when there is none.
func number32(o unstructured.Unstructured, path ...string) int {
	n, _, _ := unstructured.NestedInt64(o.Object, path...)
	return int(n)
}

// terms are the entry in the terms of the rollout package.
func (e *part) terms() rollout.Workload {
	return rollout.Workload{
		Part: e.part, Replicas: int(e.Replicas), Available: int(e.Available), Wanted: int(e.Wanted), Full: int(e.Full), Since: timeOf(e.LeftAt),
	}
}

// take writes a plan into the entry.
func (e *part) take(w rollout.Workload) {
	e.Wanted, e.Full, e.LeftAt = int32(w.Wanted), int32(w.Full), microTime(w.Since) //nolint:gosec // of int32s, and at most as large
}

// leave says that somebody else scales the Deployment.
func (e *part) leave(why string) {
	e.Wanted, e.Message = e.Replicas, why
	e.Full = min(e.Full, e.Replicas)
}

// matters says whether the status has to remember the entry. A stable version without a run is as it should be when nothing
// was taken from it; a version that was left is done with when it has no replicas.
func (p *pass) matters(e part) bool {
	scales := p.ro.Spec.Workload.Scaling != nil
	switch e.part {
	case rollout.PartStable:
		return e.Full > 0 || (scales && p.run != nil)
	case rollout.PartCanary:
		return scales
	case rollout.PartKept:
		return scales && e.Name != ""
	case rollout.PartLeft:
	}
	return scales && e.Replicas > 0
}

// rescale makes a Deployment have what it is to have, unless somebody else scales it.
func (r *Reconciler) rescale(ctx context.Context, p *pass, e *part) {
	if p.ro.Spec.Workload.Scaling == nil && e.part != rollout.PartStable {
		return
	}
	if e.part == rollout.PartLeft && e.LeftAt != nil && e.Replicas > 0 {
		if left := e.LeftAt.Add(p.scaling.Delay).Sub(p.now); left > 0 {
			p.scaling.soon(left)
		}
	}
	if e.Wanted == e.Replicas {
		return
	}
	other, err := r.scaledBy(ctx, p, e.Name)
	if err != nil {
		e.Message = err.Error()
		p.scaling.soon(rescaleAgain)
		return
	}
	if other != nil {
		to, why := other.wakes(int(e.Replicas), int(e.Wanted))
		if e.leave(why); to == 0 {
			return
		}
		e.Wanted = int32(to) //nolint:gosec // an int32 of the API
	}
	if was := entryFor(p.was.Status.Workloads, workloadKey{e.Service, e.Version}); !p.scaling.over && e.Wanted < e.Replicas && (was == nil || was.Wanted > e.Wanted) {
		p.scaling.soon(time.Millisecond) // the status has to say so first
		return
	}
	err = r.writeScale(ctx, e)
	if apierrors.IsConflict(err) {
		p.scaling.soon(askAgain) // the Deployment has changed since it was read
		return
	}
	if err != nil {
		e.Message = fmt.Sprintf("scaling Deployment %q from %d to %d: %v", e.Name, e.Replicas, e.Wanted, err)
		p.scaling.soon(rescaleAgain)
		r.Log.Warn("Could not scale a Deployment", "namespace", p.ro.Namespace, "rollout", p.ro.Name, "error", e.Message)
		if was := entryFor(p.was.Status.Workloads, workloadKey{e.Service, e.Version}); was == nil || was.Message != e.Message {
			r.Record(p.ro, true, "ScalingFailed", e.Message)
		}
		return
	}
	r.Record(p.ro, false, "Scaled", fmt.Sprintf("Deployment %q, which runs %s, from %d to %d replicas", e.Name, e.Version, e.Replicas, e.Wanted))
	e.Replicas = e.Wanted
}

// soon asks for another pass after a time.
func (s *scaling) soon(after time.Duration) {
	if s.again == 0 || after < s.again {
		s.again = after
	}
}

// writeScale sets the replicas of a Deployment that is still as it was read.
func (r *Reconciler) writeScale(ctx context.Context, e *part) error {
	scale := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": int64(e.Wanted)}}}
	scale.SetGroupVersionKind(schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"})
	scale.SetNamespace(e.deployment.GetNamespace())
	scale.SetName(e.Name)
	scale.SetResourceVersion(e.deployment.GetResourceVersion())
	return r.Client.SubResource("scale").Update(ctx, &e.deployment, client.WithSubResourceBody(scale))
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
	p.scaling.over = led
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

package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
	// outOfSight is how long a version that took part before is remembered without a Deployment: one that is replaced by another
	// of its name is gone for a moment.
	outOfSight = 10 * time.Minute
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
	r.findDeployments(ctx, p)
}

func (r *Reconciler) findDeployments(ctx context.Context, p *pass) {
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
// the status. A pass that takes traffic back has not looked at Deployments before. What hangs does not hold up an abort.
func (r *Reconciler) scale(ctx context.Context, p *pass, o Objects) {
	if r.scalingOf(p.ro) == nil {
		return
	}
	ctx, stop := r.interruptible(ctx, p)
	defer stop()
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
	var all []part
	for _, service := range p.scaledServices() {
		all = append(all, r.scaleService(ctx, p, service, at)...)
	}
	p.ro.Status.Workloads = remembered(all)
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
func (r *Reconciler) scaleService(ctx context.Context, p *pass, service string, at rollout.Stand) []part {
	entries := p.partsOf(service)
	plan := make([]rollout.Workload, 0, len(entries))
	for i := range entries {
		plan = append(plan, entries[i].terms())
	}
	var out []part
	for i, w := range p.scaling.Plan(at, plan) {
		e := &entries[i]
		if e.take(w); e.Name != "" {
			r.rescale(ctx, p, e)
		}
		if p.matters(*e) {
			out = append(out, *e)
		}
	}
	return out
}

// remembered are the entries that the status has room for. Where there are too many, what was left first is forgotten first, and
// the versions that a run needs never are.
func remembered(all []part) []v1alpha1.WorkloadStatus {
	rank := map[rollout.Part]int{rollout.PartStable: 0, rollout.PartCanary: 0, rollout.PartKept: 1, rollout.PartLeft: 2}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b part) int {
		return cmp.Or(rank[a.part]-rank[b.part], timeOf(b.LeftAt).Compare(timeOf(a.LeftAt)))
	})
	out := make([]v1alpha1.WorkloadStatus, 0, len(all))
	for _, e := range all[:min(len(all), maxWorkloads)] {
		out = append(out, e.WorkloadStatus)
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
		as := rollout.PartLeft
		switch {
		case i == 0:
			as = rollout.PartStable
		case version == st.CanaryVersion:
			as = rollout.PartCanary
		case slices.Contains(kept, version):
			as = rollout.PartKept
		}
		out = append(out, p.partOf(workloadKey{service, version}, as))
	}
	return out
}

// partOf is what the status knows of a version, with its Deployment as it was found.
func (p *pass) partOf(key workloadKey, as rollout.Part) part {
	e := part{part: as}
	if known := p.workload(key); known != nil {
		e.WorkloadStatus = *known
	}
	e.Service, e.Version, e.Name, e.Message = key.service, key.version, "", ""
	e.meet(p.scaling.found[key], versionLabel(p.ro), p.now)
	return e
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
func (e *part) meet(found []unstructured.Unstructured, label string, now time.Time) {
	switch {
	case len(found) > 0:
		e.MissingSince = nil
	case e.MissingSince == nil:
		e.MissingSince = microTime(now)
	}
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

// matters says whether the status has to remember the entry. A stable version without a run is as it should be when nothing
// was taken from it; a version that was left is done with when it has no replicas, or has had no Deployment for long.
func (p *pass) matters(e part) bool {
	scales := p.ro.Spec.Workload.Scaling != nil
	awaited := e.Name == "" && (e.MissingSince == nil || p.now.Before(e.MissingSince.Add(outOfSight)))
	switch e.part {
	case rollout.PartStable:
		return e.Full > 0 || (scales && p.run != nil)
	case rollout.PartCanary:
		return scales
	case rollout.PartKept:
		return scales && (e.Name != "" || awaited)
	case rollout.PartLeft:
	}
	return scales && (e.Replicas > 0 || awaited)
}

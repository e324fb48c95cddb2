package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// A rollout that is made again remembers nothing of the one before, which may have put the version to sleep that this one takes
// for stable. The Deployment itself tells: the API server notes who set its replicas.

// rouse wakes the Deployments that Siskin had put to sleep, of the version that a new rollout takes for stable, and says what
// lacks until all of their replicas are available. It is empty where Siskin woke nothing.
func (r *Reconciler) rouse(ctx context.Context, p *pass) (lacking string) {
	if p.ro.Spec.Workload.Scaling == nil || r.NoScaling {
		return ""
	}
	ctx, stop := r.interruptible(ctx, p)
	defer stop()
	p.scaling = r.scalingOf(p.ro)
	if r.findDeployments(ctx, p); p.scaling.unread != nil {
		p.scaling.soon(rescaleAgain)
		return p.scaling.unread.Error()
	}
	var woken []v1alpha1.WorkloadStatus
	for _, service := range appsOf(p.ro) {
		key := workloadKey{service, p.ro.Spec.Version}
		e := p.partOf(key, rollout.PartStable)
		e.Wanted = e.Replicas
		switch {
		case asleep(e.deployment):
			e.Wanted = p.awake(service)
			r.rescale(ctx, p, &e)
		case p.workload(key) == nil || e.Replicas == 0:
			continue // somebody else's, or somebody else's by now
		}
		woken = append(woken, e.WorkloadStatus)
		if e.Message != "" || e.Available < max(e.Wanted, 1) {
			lacking = cmp.Or(lacking, e.Message, fmt.Sprintf("%d of %d replicas of Deployment %q are available", e.Available, e.Wanted, e.Name))
		}
	}
	p.ro.Status.Workloads = woken
	return lacking
}

// awake is how many replicas the Deployment of a service gets that is to carry its traffic: as many as the spec says, or as the
// version that has most.
func (p *pass) awake(service string) int32 {
	most := max(p.scaling.Replicas, 1)
	for key, found := range p.scaling.found {
		for _, d := range found {
			if key.service == service && p.scaling.Replicas == 0 {
				most = max(most, number32(d, "spec", "replicas"))
			}
		}
	}
	return int32(most) //nolint:gosec // an int32 of the API
}

// asleep says whether a Deployment has no replicas and nobody but Siskin has a say in that.
func asleep(d unstructured.Unstructured) bool {
	if n, ok, _ := unstructured.NestedInt64(d.Object, "spec", "replicas"); !ok || n > 0 {
		return false
	}
	slept := false
	for _, m := range d.GetManagedFields() {
		var sets struct {
			Spec struct {
				Replicas *struct{} `json:"f:replicas"`
			} `json:"f:spec"`
		}
		if m.FieldsV1 == nil || json.Unmarshal(m.FieldsV1.GetRawBytes(), &sets) != nil || sets.Spec.Replicas == nil {
			continue
		}
		if m.Manager != v1alpha1.FieldManager {
			return false
		}
		slept = true
	}
	return slept
}

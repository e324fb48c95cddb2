package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// A spec that cannot be rendered holds nothing back: while units see another version than the stable one, the pass goes by
// the last spec that could be, with the version that is wanted now. It may roll back, and it goes no further. No more does one whose
// replicas the controller may not touch.

// open begins a pass and reads the mesh.
func (r *Reconciler) open(ctx context.Context, ro *v1alpha1.Rollout) (*pass, error) {
	p, err := r.start(ctx, ro)
	if err == nil && r.NoScaling && ro.Spec.Workload.Scaling != nil {
		p.unrendered = errNoScaling
	}
	if err == nil || !exposes(ro.Status) || !ofSpec(err) {
		return p, err
	}
	last, lost := asRendered(ro)
	if lost != nil {
		return p, errors.Join(err, lost)
	}
	p, again := r.start(ctx, last)
	if again != nil {
		return p, again
	}
	p.unrendered = err
	return p, nil
}

// start begins a pass by the spec as it stands and reads the mesh.
func (r *Reconciler) start(ctx context.Context, ro *v1alpha1.Rollout) (*pass, error) {
	p, err := r.begin(ro)
	if err != nil {
		return &pass{was: ro}, &specError{err}
	}
	return p, r.lookAtMesh(ctx, p)
}

// ofSpec says whether an error is one of the spec.
func ofSpec(err error) bool {
	var spec *specError
	return errors.As(err, &spec)
}

// asRendered returns the rollout with the last spec that could be rendered and the version that is wanted now.
func asRendered(ro *v1alpha1.Rollout) (*v1alpha1.Rollout, error) {
	last := ro.DeepCopy()
	var spec v1alpha1.RolloutSpec
	if err := json.Unmarshal(ro.Status.Rendered, &spec); err != nil {
		return nil, fmt.Errorf("reading status.rendered: %w", err)
	}
	last.Spec, last.Spec.Version = spec, ro.Spec.Version
	return last, nil
}

// noteRendered keeps the spec that was rendered in the status.
func (p *pass) noteRendered() {
	if p.unrendered != nil {
		return
	}
	raw, err := json.Marshal(p.ro.Spec)
	if err == nil && !bytes.Equal(raw, p.ro.Status.Rendered) {
		p.ro.Status.Rendered = raw
	}
}

// refuse holds what goes further than the spec that could be rendered.
func (p *pass) refuse(o rollout.Outcome) rollout.Outcome {
	if p.unrendered == nil || o.Decision == rollout.Rollback || o.Decision == rollout.Pause {
		return o
	}
	return rollout.Outcome{Decision: rollout.Hold, Reason: reasonOf(p.unrendered), Message: p.unrendered.Error()}
}

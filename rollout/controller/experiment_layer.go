package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/experiment"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// Buckets are given out in two writes. The first one claims them in the status; the second one, after a look at all other
// claims, makes the experiment run. Of two claims that clash at least the later one is seen by its own second look, whatever
// processes make them, so that no bucket ever has two owners. The routes show only experiments that run.

// Reasons why an experiment has no buckets yet.
const (
	reasonRolloutNotFound  rollout.Reason = "RolloutNotFound"
	reasonRolloutDeleted   rollout.Reason = "RolloutDeleted"
	reasonNotEnoughBuckets rollout.Reason = "NotEnoughBuckets"
	reasonClaiming         rollout.Reason = "ClaimingBuckets"
)

// allot gives the experiment its buckets, once and for all. Without them it says why.
func (e *ExperimentReconciler) allot(ctx context.Context, t *trial) error {
	st := &t.exp.Status
	if st.State == v1alpha1.ExperimentRunning || t.waits() {
		return nil
	}
	e.allotting.Lock()
	defer e.allotting.Unlock()
	if len(st.Allocation) == 0 {
		if err := e.claim(ctx, t); err != nil || t.waits() {
			return err
		}
	}
	return e.confirm(ctx, t)
}

// claim chooses free buckets and writes them into the status.
func (e *ExperimentReconciler) claim(ctx context.Context, t *trial) error {
	others, rollouts, err := e.neighbours(ctx, t.exp)
	if err != nil {
		return err
	}
	for _, o := range others {
		if len(o.Status.Allocation) > 0 && t.clashes(o) {
			return nil
		}
	}
	shares := make([]int, len(t.plan.Variants))
	for i, v := range t.plan.Variants {
		shares[i] = v.Share
	}
	sets, err := experiment.Allocate(trialID(t.exp), shares, layer(t.exp, others, rollouts))
	if _, few := errors.AsType[*experiment.NotEnoughError](err); few {
		t.wait(reasonNotEnoughBuckets, fmt.Sprintf("layer %q: %v", layerOf(t.exp), err))
		return nil
	}
	if err != nil {
		return err
	}
	t.exp.Status.Allocation = nil
	for i, v := range t.plan.Variants {
		t.exp.Status.Allocation = append(t.exp.Status.Allocation, v1alpha1.VariantAllocation{
			Name: v.Name, Version: v.Version, Buckets: rollout.FormatBuckets(sets[i]),
		})
	}
	t.wait(reasonClaiming, "buckets are claimed")
	t.describe()
	if err := e.write(ctx, t); err != nil {
		return err
	}
	t.why = rollout.Outcome{}
	return nil
}

// confirm looks at all claims once more and makes the experiment run, or gives way: to one that runs, and to one that was
// created earlier.
func (e *ExperimentReconciler) confirm(ctx context.Context, t *trial) error {
	others, rollouts, err := e.neighbours(ctx, t.exp)
	if err != nil {
		return err
	}
	for _, o := range others {
		if len(o.Status.Allocation) == 0 || !t.clashes(o) {
			continue
		}
		if running(&o) || older(o, *t.exp) < 0 {
			t.exp.Status.Allocation = nil
		}
		return nil
	}
	if b, held := overlap(t.exp.Status.Allocation, leftovers(t.exp, others, rollouts)); held {
		t.wait(reasonBucketsTaken, fmt.Sprintf("the routes still show bucket %s to another experiment", rollout.FormatBucket(b)))
		t.exp.Status.Allocation = nil
		return nil
	}
	t.exp.Status.State = v1alpha1.ExperimentRunning
	return nil
}

// neighbours reads, live, the other experiments of the namespace that have not ended, and the rollouts.
func (e *ExperimentReconciler) neighbours(ctx context.Context, mine *v1alpha1.Experiment) ([]v1alpha1.Experiment, []v1alpha1.Rollout, error) {
	var all v1alpha1.ExperimentList
	if err := e.Live.List(ctx, &all, client.InNamespace(mine.Namespace)); err != nil {
		return nil, nil, fmt.Errorf("listing experiments: %w", err)
	}
	// The rollouts come second: what an experiment that is over has left to see in the routes is then not missed.
	var rollouts v1alpha1.RolloutList
	if err := e.Live.List(ctx, &rollouts, client.InNamespace(mine.Namespace)); err != nil {
		return nil, nil, fmt.Errorf("listing rollouts: %w", err)
	}
	others := slices.DeleteFunc(all.Items, func(o v1alpha1.Experiment) bool {
		return o.UID == mine.UID || o.Status.State == v1alpha1.ExperimentEnded || !o.DeletionTimestamp.IsZero()
	})
	return others, rollouts.Items, nil
}

// layer says what is taken in the experiment's layer: what others hold, what the routes still show of those that are over, and
// the hold-out, which is as large as the largest that any of them asks for.
func layer(mine *v1alpha1.Experiment, others []v1alpha1.Experiment, rollouts []v1alpha1.Rollout) experiment.Layer {
	name, holdout := layerOf(mine), mine.Spec.Holdout
	var l experiment.Layer
	for _, o := range others {
		if layerOf(&o) != name || len(o.Status.Allocation) == 0 {
			continue
		}
		holdout = max(holdout, o.Spec.Holdout)
		l.Owned = append(l.Owned, ownedBy(o.Status.Allocation)...)
	}
	l.Owned = append(l.Owned, ownedBy(leftovers(mine, others, rollouts))...)
	l.HoldOut = experiment.HoldOut(name, int(holdout))
	return l
}

// leftovers are the variants that routes still show of experiments of the layer that are over or gone.
func leftovers(mine *v1alpha1.Experiment, others []v1alpha1.Experiment, rollouts []v1alpha1.Rollout) []v1alpha1.VariantAllocation {
	var out []v1alpha1.VariantAllocation
	for _, ro := range rollouts {
		for _, s := range ro.Status.Experiments {
			alive := slices.ContainsFunc(others, func(o v1alpha1.Experiment) bool { return o.UID == s.UID })
			if shows(s) && s.Layer == layerOf(mine) && s.UID != mine.UID && !alive {
				out = append(out, s.Variants...)
			}
		}
	}
	return out
}

func ownedBy(all []v1alpha1.VariantAllocation) []experiment.Owned {
	var out []experiment.Owned
	for _, a := range all {
		set, _ := bucketsOf(a.Buckets) // what cannot be read is nobody's
		out = append(out, experiment.Owned{Version: a.Version, Buckets: set})
	}
	return out
}

// overlap returns a bucket that both have.
func overlap(a, b []v1alpha1.VariantAllocation) (bucket int, found bool) {
	theirs := ownedBy(b)
	for _, mine := range ownedBy(a) {
		for _, o := range theirs {
			for _, bucket := range mine.Buckets {
				if slices.Contains(o.Buckets, bucket) {
					return bucket, true
				}
			}
		}
	}
	return 0, false
}

// clashes says whether the experiment cannot run beside another one, and notes why.
func (t *trial) clashes(o v1alpha1.Experiment) bool {
	mine := t.exp
	if o.Spec.Rollout == mine.Spec.Rollout {
		if layerOf(&o) != layerOf(mine) {
			t.stall(reasonLayerMismatch, mismatch(o.Name, layerOf(&o), layerOf(mine)))
			return true
		}
		for _, v := range o.Spec.Variants {
			if slices.ContainsFunc(mine.Spec.Variants, func(m v1alpha1.VariantSpec) bool { return m.Name == v.Name }) {
				t.wait(reasonVariantNameTaken, fmt.Sprintf("experiment %q of the same rollout has a variant named %q, too", o.Name, v.Name))
				return true
			}
		}
	}
	if layerOf(&o) != layerOf(mine) {
		return false
	}
	b, found := overlap(mine.Status.Allocation, o.Status.Allocation)
	if found {
		t.wait(reasonBucketsTaken, fmt.Sprintf("experiment %q has claimed bucket %s, too", o.Name, rollout.FormatBucket(b)))
	}
	return found
}

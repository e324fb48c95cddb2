package controller

import (
	"context"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// Backoff is backoff, for the tests.
var Backoff = backoff

// ConcernsLoop is concernsLoop.
var ConcernsLoop = concernsLoop

// Remembered is remembered, of entries that each have a part.
func Remembered(all []v1alpha1.WorkloadStatus, parts []rollout.Part) []v1alpha1.WorkloadStatus {
	entries := make([]part, len(all))
	for i := range all {
		entries[i] = part{WorkloadStatus: all[i], part: parts[i]}
	}
	return remembered(entries)
}

// BesideRule is besideRule.
func (r *Reconciler) BesideRule(ctx context.Context, rule client.Object) []ctrl.Request {
	return r.besideRule(ctx, rule)
}

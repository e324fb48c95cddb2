package controller

import (
	"context"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Backoff is backoff, for the tests.
var Backoff = backoff

// ConcernsLoop is concernsLoop.
var ConcernsLoop = concernsLoop

// BesideRule is besideRule.
func (r *Reconciler) BesideRule(ctx context.Context, rule client.Object) []ctrl.Request {
	return r.besideRule(ctx, rule)
}

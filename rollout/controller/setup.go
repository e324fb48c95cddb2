package controller

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// maxBackoff is the longest time to the next try after errors.
const maxBackoff = 5 * time.Second

// SetupWithManager registers the reconciler for rollouts and for the routes that it writes: a foreign edit wakes it.
// Workers is how many rollouts are reconciled at once.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, workers int) error {
	owned := handler.EnqueueRequestForOwner(mgr.GetScheme(), mgr.GetRESTMapper(), &v1alpha1.Rollout{}, handler.OnlyControllerOwner())
	b := ctrl.NewControllerManagedBy(mgr).Named("rollout").For(&v1alpha1.Rollout{}).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			// After an outage of the API a rollback must not wait for a backoff that has grown to minutes.
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](5*time.Millisecond, maxBackoff),
		})
	for _, kind := range []string{"VirtualService", "DestinationRule"} {
		route := &unstructured.Unstructured{}
		route.SetAPIVersion("networking.istio.io/v1")
		route.SetKind(kind)
		b = b.Watches(route, owned)
	}
	if err := b.Complete(r); err != nil {
		return fmt.Errorf("setting up the rollout controller: %w", err)
	}
	return nil
}

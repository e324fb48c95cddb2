package controller

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// SetupWithManager registers the reconciler for rollouts and for the routes that it writes: a foreign edit wakes it.
// Workers is how many rollouts are reconciled at once.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, workers int) error {
	owned := handler.EnqueueRequestForOwner(mgr.GetScheme(), mgr.GetRESTMapper(), &v1alpha1.Rollout{}, handler.OnlyControllerOwner())
	b := ctrl.NewControllerManagedBy(mgr).Named("rollout").For(&v1alpha1.Rollout{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers})
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

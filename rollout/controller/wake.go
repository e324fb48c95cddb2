package controller

import (
	"context"
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// concernsLoop says whether a rollout changed in what somebody else may have written: the spec, the metadata, an operator's
// request, an alert. The rest of the status is the loop's own, and its echo asks for no pass: a thousand of them would
// stand in the way of an abort.
func concernsLoop(was, now client.Object) bool {
	a, ok := was.(*v1alpha1.Rollout)
	b, too := now.(*v1alpha1.Rollout)
	return !ok || !too || a.Generation != b.Generation || !a.DeletionTimestamp.Equal(b.DeletionTimestamp) ||
		!maps.Equal(a.Labels, b.Labels) || !maps.Equal(a.Annotations, b.Annotations) || !equality.Semantic.DeepEqual(a.Finalizers, b.Finalizers) ||
		waiting(b.Status.Requests) || !equality.Semantic.DeepEqual(a.Status.Alerts, b.Status.Alerts)
}

// waiting says whether a request has not been handled.
func waiting(all []v1alpha1.Request) bool {
	for _, q := range all {
		if q.HandledAt == nil {
			return true
		}
	}
	return false
}

// ruleKind are the rules in which users, too, say how proxies speak to a service.
var ruleKind = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "DestinationRule"}

// ofKind is the metadata of an object of a kind.
func ofKind(kind schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(kind)
	return o
}

// besideRule lists the rollouts that a rule of the user may concern: those of its namespace that it may disturb. Which
// host the rule is about the metadata does not say.
func (r *Reconciler) besideRule(ctx context.Context, rule client.Object) []ctrl.Request {
	if rule.GetLabels()[v1alpha1.LabelRollout] != "" {
		return nil // ours wakes its owner
	}
	var all v1alpha1.RolloutList
	if err := r.Client.List(ctx, &all, client.InNamespace(rule.GetNamespace())); err != nil {
		return nil // they look again by themselves
	}
	var out []ctrl.Request
	for i := range all.Items {
		if ro := &all.Items[i]; mindsRules(ro) {
			out = append(out, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(ro)})
		}
	}
	return out
}

// mindsRules says whether what the user's own rules say of the service changes what a rollout does: where it says itself how
// proxies speak to the service, or lets a hash assign, which a rule may mix another one into.
func mindsRules(ro *v1alpha1.Rollout) bool {
	return (ro.Spec.Traffic != nil && ro.Spec.Traffic.Policy != nil) || hashes(ro)
}

func hashes(ro *v1alpha1.Rollout) bool {
	return ro.Spec.Assignment != nil && ro.Spec.Assignment.Hash != nil
}

// respecified says whether an object's spec or labels changed: its status is nobody's business here.
func respecified(was, now client.Object) bool {
	return was.GetGeneration() != now.GetGeneration() || !maps.Equal(was.GetLabels(), now.GetLabels())
}

package controller

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// autoscaler is somebody else who scales a Deployment.
type autoscaler struct {
	kind, name string
	// least is how many replicas it keeps by itself when there is nothing to do; at 0 it takes away what Siskin would wake.
	least int
	// why says what to change where least is 0.
	why string
}

// wakes returns to how many replicas a Deployment of so many may be set that is to have others; 0 when it is left alone. A
// HorizontalPodAutoscaler does nothing at 0 replicas; everything else is its own business.
func (a *autoscaler) wakes(replicas, wanted int) (to int, why string) {
	switch {
	case replicas > 0 || wanted == 0:
		return 0, fmt.Sprintf("left to %s %q", a.kind, a.name)
	case a.least == 0:
		return 0, fmt.Sprintf("%s %q keeps it at 0: %s", a.kind, a.name, a.why)
	}
	return a.least, fmt.Sprintf("woken for %s %q", a.kind, a.name)
}

// scaledBy returns who else scales a Deployment; nil when nobody does.
func (r *Reconciler) scaledBy(ctx context.Context, p *pass, deployment string) (*autoscaler, error) {
	if s := p.scaling; !s.asked {
		s.asked = true
		s.others, s.unasked = r.autoscalers(ctx, p.ro.Namespace)
	}
	if p.scaling.unasked != nil {
		return nil, p.scaling.unasked
	}
	if a, ok := p.scaling.others[deployment]; ok {
		return &a, nil
	}
	return nil, nil //nolint:nilnil // nobody is an answer, not an error
}

// autoscalers lists who scales the Deployments of a namespace, by their names. KEDA's own objects come last: it makes a
// HorizontalPodAutoscaler for each of them.
func (r *Reconciler) autoscalers(ctx context.Context, namespace string) (map[string]autoscaler, error) {
	out := map[string]autoscaler{}
	for _, each := range []struct {
		gvk  schema.GroupVersionKind
		read func(unstructured.Unstructured) autoscaler
	}{
		{schema.GroupVersionKind{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"}, horizontal},
		{schema.GroupVersionKind{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledObject"}, scaledObject},
	} {
		var list unstructured.UnstructuredList
		list.SetGroupVersionKind(each.gvk.GroupVersion().WithKind(each.gvk.Kind + "List"))
		err := r.Live.List(ctx, &list, client.InNamespace(namespace))
		if meta.IsNoMatchError(err) {
			continue // KEDA is not installed
		}
		if err != nil {
			return nil, fmt.Errorf("listing every %s of namespace %q: %w", each.gvk.Kind, namespace, err)
		}
		for _, o := range list.Items {
			if target := targetOf(o); target != "" {
				a := each.read(o)
				a.kind, a.name = each.gvk.Kind, o.GetName()
				out[target] = a
			}
		}
	}
	return out, nil
}

// targetOf is the Deployment that an autoscaler scales; empty when it scales something else. KEDA's default is a Deployment.
func targetOf(o unstructured.Unstructured) string {
	ref, _, _ := unstructured.NestedStringMap(o.Object, "spec", "scaleTargetRef")
	if (ref["kind"] != "" && ref["kind"] != "Deployment") || (ref["apiVersion"] != "" && !strings.HasPrefix(ref["apiVersion"], "apps/")) {
		return ""
	}
	return ref["name"]
}

func horizontal(o unstructured.Unstructured) autoscaler {
	a := autoscaler{least: 1, why: "set its minReplicas to 1 or more"}
	if n, ok, _ := unstructured.NestedInt64(o.Object, "spec", "minReplicas"); ok {
		a.least = int(n)
	}
	return a
}

// Annotations by which KEDA's ScaledObject is paused: at a number of replicas that KEDA then holds, or as it is.
const (
	annotationPausedAt = "autoscaling.keda.sh/paused-replicas"
	annotationPaused   = "autoscaling.keda.sh/paused"
)

// scaledObject reads one of KEDA's. KEDA takes the replicas of one without a minimum away while no trigger is active.
func scaledObject(o unstructured.Unstructured) autoscaler {
	if held, err := strconv.Atoi(o.GetAnnotations()[annotationPausedAt]); err == nil && held >= 0 {
		return autoscaler{least: held, why: fmt.Sprintf("remove its annotation %s", annotationPausedAt)}
	}
	a := autoscaler{least: number32(o, "spec", "minReplicaCount"), why: "set its minReplicaCount to 1 or more while a version is to be tried"}
	if o.GetAnnotations()[annotationPaused] == "true" {
		a.least = max(a.least, 1)
		return a
	}
	if idle, ok, _ := unstructured.NestedInt64(o.Object, "spec", "idleReplicaCount"); ok {
		a.least = int(idle)
	}
	return a
}

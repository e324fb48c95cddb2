package controller

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// rulesFor returns the PrometheusRule of a rollout. Its alerts are a safety net that does not run in the controller:
// they need only Prometheus and Alertmanager, and reach the rollout's alerts gate through their labels.
func rulesFor(ro *v1alpha1.Rollout) *unstructured.Unstructured {
	selector := fmt.Sprintf(`destination_service_name=%q,destination_service_namespace=%q`, ro.Spec.Service.Name, ro.Namespace)
	canary := fmt.Sprintf(`%s,destination_version=%q`, selector, ro.Status.CanaryVersion)
	labels := func(severity string) map[string]any {
		return map[string]any{"severity": severity, "rollout": ro.Name, "namespace": ro.Namespace, "gate": "canary"}
	}
	rules := []any{}
	if ro.Status.CanaryVersion != "" {
		rules = append(rules, map[string]any{
			"alert": "SiskinCanaryFailing",
			"expr": fmt.Sprintf("sum(rate(istio_requests_total{%s,response_code=~\"5..\"}[1m]))\n  / sum(rate(istio_requests_total{%s}[1m])) > 0.5",
				canary, canary),
			"for":    "30s",
			"labels": labels("critical"),
			"annotations": map[string]any{
				"summary":     fmt.Sprintf("More than half of the requests to the canary of rollout %s fail", ro.Name),
				"description": "The canary has failed more than half of its requests for 30 seconds. The alerts gate of the rollout rolls it back.",
				"runbook_url": "https://siskin.dev/runbooks#siskincanaryfailing",
			},
		})
	}
	u := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{"groups": []any{map[string]any{"name": "siskin." + ro.Namespace + "." + ro.Name, "rules": rules}}},
	}}
	u.SetAPIVersion("monitoring.coreos.com/v1")
	u.SetKind("PrometheusRule")
	u.SetNamespace(ro.Namespace)
	u.SetName(ro.Name)
	u.SetLabels(map[string]string{v1alpha1.LabelRollout: ro.Name, "app.kubernetes.io/managed-by": "siskin"})
	return u
}

package main

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/cmd/local/node"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// The names of the demo's one service.
const (
	namespace = "edge"
	service   = "coolant"
	model     = "coolant"
	host      = service + "." + namespace + ".svc.cluster.local"
)

// serviceEntry is the service: its endpoints are the WorkloadEntries that carry its label.
func serviceEntry() *unstructured.Unstructured {
	return object("networking.istio.io/v1", "ServiceEntry", service, map[string]any{
		"hosts": []any{host}, "location": "MESH_INTERNAL", "resolution": "STATIC",
		"ports":            []any{map[string]any{"name": "http", "number": int64(8080), "protocol": "HTTP"}},
		"workloadSelector": map[string]any{"labels": map[string]any{"app": service}},
	})
}

// inferenceService runs one version.
func inferenceService(version, artefact, fault string) *unstructured.Unstructured {
	o := object("serving.kserve.io/v1beta1", "InferenceService", service+"-"+version, map[string]any{
		"predictor": map[string]any{"model": map[string]any{
			"modelFormat": map[string]any{"name": "xgboost"}, "protocolVersion": "v2",
			"storageUri": fmt.Sprintf("s3://models/%s/%s/", model, artefact),
		}},
	})
	o.SetLabels(map[string]string{"app": service, "version": version})
	if fault != "" {
		o.SetAnnotations(map[string]string{node.FaultAnnotation: fault})
	}
	return o
}

func object(apiVersion, kind, name string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

// newRollout is the demo's rollout, with blocks of one second so that a run fits into a minute.
func newRollout(version string, steps []v1alpha1.StepSpec, limit time.Duration) *v1alpha1.Rollout {
	return &v1alpha1.Rollout{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: service},
		Spec: v1alpha1.RolloutSpec{
			Version:    version,
			Service:    v1alpha1.ServiceSpec{Name: service, Port: 8080},
			Workload:   v1alpha1.WorkloadSpec{Kind: "InferenceService"},
			Assignment: &v1alpha1.AssignmentSpec{Header: &v1alpha1.HeaderAssignment{}, Cookie: &v1alpha1.CookieAssignment{Name: "siskin-" + service, MaxAge: metav1.Duration{Duration: 24 * time.Hour}}},
			Steps:      steps,
			Gates: []v1alpha1.GateSpec{
				{Name: "errors", Type: v1alpha1.GateErrorRate, Margin: "1.5", Tolerance: "0.01"},
				{Name: "latency", Type: v1alpha1.GateLatency, Threshold: &metav1.Duration{Duration: 250 * time.Millisecond}, Margin: "1.5", Tolerance: "0.01"},
				{Name: "quality", Type: v1alpha1.GateMean, Direction: "Lower", Margin: "1.75", Query: &v1alpha1.MeanQuery{
					Sum:   fmt.Sprintf("siskin_prediction_absolute_error_total{model=%q}", model),
					Count: fmt.Sprintf("siskin_predictions_total{model=%q}", model),
				}},
				{Name: "alerts", Type: v1alpha1.GateAlerts},
			},
			Analysis: v1alpha1.AnalysisSpec{
				Interval: metav1.Duration{Duration: time.Second}, WarmUp: metav1.Duration{Duration: time.Second},
				FalseAlarm: "0.01", Miss: "0.05", Cap: metav1.Duration{Duration: limit},
			},
		},
	}
}

// shadowed adds the story's shadow, with a hold that no harm waits for.
func (s scenario) shadowed(ro *v1alpha1.Rollout) *v1alpha1.Rollout {
	if s.shadow > 0 {
		ro.Spec.Strategy = &v1alpha1.StrategySpec{Shadow: &v1alpha1.ShadowSpec{Percent: s.shadow, Hold: metav1.Duration{Duration: 8 * time.Second}}}
	}
	return ro
}

// wanted sets the version that the rollout is to bring about.
func wanted(ctx context.Context, c client.Client, version string) error {
	ro := &v1alpha1.Rollout{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: service}, ro); err != nil {
		return fmt.Errorf("reading the rollout: %w", err)
	}
	before := ro.DeepCopy()
	ro.Spec.Version = version
	if err := c.Patch(ctx, ro, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("setting spec.version to %q: %w", version, err)
	}
	return nil
}

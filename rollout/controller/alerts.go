package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

const (
	maxWebhookBytes = 1 << 20
	maxAlerts       = 64   // the bound of status.alerts
	maxSummary      = 1024 // bytes of an alert's summary that the status keeps
)

// notification is Alertmanager's webhook payload, version 4; fields that Siskin does not need are left out.
type notification struct {
	Version string              `json:"version"`
	Alerts  []notificationAlert `json:"alerts"`
}

type notificationAlert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	Fingerprint string            `json:"fingerprint"`
}

// Webhook takes Alertmanager's notifications. It answers 200 only when every alert stands in the status of every
// rollout that it matches, so that a notification that was accepted is not lost when the process dies.
func (r *Reconciler) Webhook() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodPost {
			http.Error(w, "method must be POST", http.StatusMethodNotAllowed)
			return
		}
		var n notification
		if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxWebhookBytes)).Decode(&n); err != nil {
			code := http.StatusBadRequest
			if _, large := errors.AsType[*http.MaxBytesError](err); large {
				code = http.StatusRequestEntityTooLarge
			}
			http.Error(w, fmt.Sprintf("decoding the notification: %v", err), code)
			return
		}
		if err := n.check(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := r.take(req.Context(), n); err != nil {
			r.Log.Error("Could not store alerts", "error", err)
			w.Header().Set("Retry-After", "5")
			http.Error(w, "storing the alerts: try again", http.StatusServiceUnavailable)
		}
	})
}

func (n notification) check() error {
	if n.Version != "4" {
		return fmt.Errorf("version %q: must be \"4\"", n.Version)
	}
	for i, a := range n.Alerts {
		if a.Status != "firing" && a.Status != "resolved" {
			return fmt.Errorf("alerts[%d].status %q: must be \"firing\" or \"resolved\"", i, a.Status)
		}
		if a.Labels["alertname"] == "" {
			return fmt.Errorf("alerts[%d].labels.alertname: must be set", i)
		}
	}
	return nil
}

func (r *Reconciler) take(ctx context.Context, n notification) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var all v1alpha1.RolloutList
	if err := r.Client.List(ctx, &all); err != nil {
		return fmt.Errorf("listing rollouts: %w", err)
	}
	for i := range all.Items {
		ro := &all.Items[i]
		mine := slices.DeleteFunc(slices.Clone(n.Alerts), func(a notificationAlert) bool { return !concerns(ro, a) })
		if len(mine) == 0 {
			continue
		}
		if err := r.storeAlerts(ctx, client.ObjectKeyFromObject(ro), mine); err != nil {
			return err
		}
	}
	return nil
}

// concerns says whether an alerts gate of the rollout matches the alert.
func concerns(ro *v1alpha1.Rollout, a notificationAlert) bool {
	return slices.ContainsFunc(ro.Spec.Gates, func(g v1alpha1.GateSpec) bool {
		if g.Type != v1alpha1.GateAlerts {
			return false
		}
		for name, value := range matchersOf(ro, g) {
			if a.Labels[name] != value {
				return false
			}
		}
		return true
	})
}

func (r *Reconciler) storeAlerts(ctx context.Context, key client.ObjectKey, alerts []notificationAlert) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		var ro v1alpha1.Rollout
		if err := r.Live.Get(ctx, key, &ro); err != nil {
			return client.IgnoreNotFound(err)
		}
		before := len(ro.Status.Alerts)
		for _, a := range alerts {
			ro.Status.Alerts = withAlert(ro.Status.Alerts, a)
		}
		if before == 0 && len(ro.Status.Alerts) == 0 {
			return nil
		}
		return r.Client.Status().Update(ctx, &ro)
	})
	if err != nil {
		return fmt.Errorf("storing alerts of rollout %q: %w", key, err)
	}
	return nil
}

// withAlert adds a firing alert, or removes one that is resolved. A full list drops its oldest entry.
func withAlert(all []v1alpha1.AlertStatus, a notificationAlert) []v1alpha1.AlertStatus {
	id := a.Fingerprint
	if id == "" {
		id = a.identity()
	}
	all = slices.DeleteFunc(all, func(s v1alpha1.AlertStatus) bool { return s.Fingerprint == id })
	if a.Status == "resolved" {
		return all
	}
	all = append(all, v1alpha1.AlertStatus{
		Fingerprint: id, Name: a.Labels["alertname"], Severity: a.Labels["severity"],
		Summary: cut(a.Annotations["summary"], maxSummary), Labels: a.Labels, StartsAt: metav1.NewTime(a.StartsAt),
	})
	return all[max(0, len(all)-maxAlerts):]
}

// cut shortens a text to a number of bytes, at the end of a character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}

// identity stands for a fingerprint where an old Alertmanager sends none: the labels in order.
func (a notificationAlert) identity() string {
	words := make([]string, 0, len(a.Labels))
	for k, v := range a.Labels {
		words = append(words, k+"="+v)
	}
	slices.Sort(words)
	return strings.Join(words, ",")
}

// rulesFor returns the PrometheusRule of a rollout. Its alerts are a safety net that does not run in the controller:
// they need only Prometheus and Alertmanager, and reach the rollout's alerts gate through their labels. The object gets labels
// beside its own, by which a Prometheus may select it.
func rulesFor(ro *v1alpha1.Rollout, beside map[string]string) *unstructured.Unstructured {
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
				"runbook_url": "https://github.com/siskin-dev/siskin/blob/main/alerts/README.md#siskincanaryfailing",
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
	mark := map[string]string{}
	maps.Copy(mark, beside)
	maps.Copy(mark, map[string]string{v1alpha1.LabelRollout: ro.Name, "app.kubernetes.io/managed-by": "siskin"})
	u.SetLabels(mark)
	return u
}

package controller_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// notify sends a body to the webhook.
func (w *world) notify(method, body string) *httptest.ResponseRecorder {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.r.Webhook().ServeHTTP(rec, httptest.NewRequestWithContext(w.t.Context(), method, "/api/v1/alerts", strings.NewReader(body)))
	return rec
}

// alert returns a notification as Alertmanager writes it, about one alert of this world's rollout.
func (w *world) alert(status, name, severity string) string {
	return fmt.Sprintf(`{"version":"4","groupKey":"{}:{}","truncatedAlerts":0,"status":%[1]q,"receiver":"siskin",
	"groupLabels":{"alertname":%[2]q},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://alertmanager:9093",
	"alerts":[{"status":%[1]q,"labels":{"alertname":%[2]q,"severity":%[3]q,"rollout":"coolant","namespace":%[4]q},
	"annotations":{"summary":"It burns"},"startsAt":"2026-03-01T12:00:00Z","endsAt":"0001-01-01T00:00:00Z",
	"generatorURL":"http://prometheus:9090/graph","fingerprint":"f-%[2]s"}]}`, status, name, severity, w.ns)
}

func (w *world) mustNotify(body string) {
	w.t.Helper()
	if rec := w.notify(http.MethodPost, body); rec.Code != http.StatusOK {
		w.t.Fatalf("webhook: %d %s, want 200", rec.Code, rec.Body)
	}
}

func TestAlerts(t *testing.T) {
	for name, tc := range map[string]struct {
		reason   string
		severity string
		is       func(ro *v1alpha1.Rollout) bool
	}{
		"Critical": {
			reason: "a critical alert rolls back", severity: "critical",
			is: func(ro *v1alpha1.Rollout) bool {
				return ended(v1alpha1.OutcomeRolledBack)(ro) && ro.Status.LastRun.Reason == "AlertFiring"
			},
		},
		"Warning": {
			reason: "a warning pauses", severity: "warning",
			is: func(ro *v1alpha1.Rollout) bool {
				return ro.Status.Run != nil && ro.Status.Run.Paused == "PausedByAlert" && ro.Status.Weight == 5
			},
		},
		"Info": {
			reason: "anything else is only shown", severity: "info",
			is: func(ro *v1alpha1.Rollout) bool { return ro.Status.Run != nil && ro.Status.Run.Paused == "" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 1, withAlerts)
			w.source.err = errors.New("connection refused") // an alert needs no evidence
			asked := len(w.source.asked)
			w.mustNotify(w.alert("firing", "Fire", tc.severity))
			if all := w.get().Status.Alerts; len(all) != 1 || all[0].Name != "Fire" || all[0].Summary != "It burns" {
				t.Fatalf("%s: alerts %+v", tc.reason, all)
			}
			ro := w.turn()
			if !tc.is(ro) {
				t.Errorf("%s: %s %s: %s", tc.reason, ro.Status.Decision, ro.Status.Reason, ro.Status.Message)
			}
			if tc.severity == "critical" && len(w.source.asked) != asked {
				t.Errorf("%s: evidence was asked for before the rollback", tc.reason)
			}
			w.mustNotify(w.alert("resolved", "Fire", tc.severity))
			if all := w.get().Status.Alerts; len(all) != 0 {
				t.Errorf("%s: alerts %+v after all are resolved", tc.reason, all)
			}
			if tc.severity == "warning" {
				w.source.err = nil
				w.ask(v1alpha1.ActionResume)
				w.until("promoted", ended(v1alpha1.OutcomePromoted))
			}
		})
	}
}

// TestAlertsOfOthers: an alert without the rollout's labels, or of a rollout without an alerts gate, changes nothing.
func TestAlertsOfOthers(t *testing.T) {
	w := running(t, 1, withAlerts)
	w.mustNotify(strings.ReplaceAll(w.alert("firing", "Fire", "critical"), `"rollout":"coolant"`, `"rollout":"other"`))
	if all := w.get().Status.Alerts; len(all) != 0 {
		t.Errorf("alerts %+v of another rollout", all)
	}
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Gates = ro.Spec.Gates[:1] })
	w.mustNotify(w.alert("firing", "Fire", "critical"))
	if all := w.get().Status.Alerts; len(all) != 0 {
		t.Errorf("alerts %+v without an alerts gate", all)
	}
	w.edit(func(ro *v1alpha1.Rollout) {
		ro.Spec.Gates = append(ro.Spec.Gates, v1alpha1.GateSpec{
			Name: "team", Type: v1alpha1.GateAlerts,
			Matchers: []v1alpha1.LabelMatcher{{Name: "alertname", Value: "Fire"}},
		})
	})
	w.mustNotify(w.alert("firing", "Water", "critical"))
	w.mustNotify(w.alert("firing", "Fire", "warning"))
	if all := w.get().Status.Alerts; len(all) != 1 || all[0].Name != "Fire" {
		t.Errorf("alerts %+v, want those that the gate's matchers select", all)
	}
}

// TestWebhookRefuses: what cannot be taken is refused with a sentence, and a caller's mistake is never a 5xx.
func TestWebhookRefuses(t *testing.T) {
	w := running(t, 1, withAlerts)
	good := w.alert("firing", "Fire", "critical")
	for name, tc := range map[string]struct {
		method, body string
		code         int
		want         string
	}{
		"Method":    {method: http.MethodGet, body: good, code: 405, want: "method must be POST"},
		"NotJSON":   {body: "alerts: []", code: 400, want: "decoding the notification"},
		"Truncated": {body: good[:len(good)-3], code: 400, want: "decoding the notification"},
		"WrongType": {body: strings.Replace(good, `"alerts":[`, `"alerts":[7,`, 1), code: 400, want: "decoding the notification"},
		"Version":   {body: strings.Replace(good, `"version":"4"`, `"version":"5"`, 1), code: 400, want: `version "5": must be "4"`},
		"Status":    {body: strings.ReplaceAll(good, `"firing"`, `"burning"`), code: 400, want: `alerts[0].status "burning": must be "firing" or "resolved"`},
		"NoName":    {body: strings.Replace(good, `"labels":{"alertname":"Fire",`, `"labels":{`, 1), code: 400, want: "alerts[0].labels.alertname: must be set"},
		"TooLarge":  {body: `{"version":"4","alerts":[` + strings.Repeat(" ", 1<<20) + `]}`, code: 413, want: "decoding the notification"},
	} {
		t.Run(name, func(t *testing.T) {
			method := tc.method
			if method == "" {
				method = http.MethodPost
			}
			rec := w.notify(method, tc.body)
			if rec.Code != tc.code || !strings.Contains(rec.Body.String(), tc.want) {
				t.Errorf("got %d %q, want %d with %q", rec.Code, rec.Body, tc.code, tc.want)
			}
		})
	}
	if all := w.get().Status.Alerts; len(all) != 0 {
		t.Errorf("alerts %+v after refused notifications", all)
	}
}

// TestWebhookLosesNothing: what cannot be stored is not accepted, so that Alertmanager sends it again.
func TestWebhookLosesNothing(t *testing.T) {
	w := running(t, 1, withAlerts)
	body := w.alert("firing", "Fire", "critical")
	for _, broken := range []string{"list RolloutList", "list Rollout", "get Rollout", "status Rollout"} {
		w.tap.fail = failing(broken)
		rec := w.notify(http.MethodPost, body)
		stored := len(w.get().Status.Alerts) == 1
		if (rec.Code == http.StatusOK) != stored || (rec.Code != http.StatusOK && rec.Code != http.StatusServiceUnavailable) {
			t.Errorf("while %q fails: %d, stored: %t", broken, rec.Code, stored)
		}
		if rec.Code == http.StatusServiceUnavailable && rec.Header().Get("Retry-After") == "" {
			t.Errorf("while %q fails: no Retry-After", broken)
		}
	}
	w.tap.fail = nil
	w.editStatus(func(st *v1alpha1.RolloutStatus) { st.Alerts = nil })
	raced := false
	w.tap.fail = func(call string) error {
		if call == "status Rollout" && !raced {
			raced = true // somebody else writes the status between the read and the write
			w.editStatus(func(st *v1alpha1.RolloutStatus) { st.Message = "raced" })
		}
		return nil
	}
	w.mustNotify(body)
	if len(w.get().Status.Alerts) != 1 || !raced {
		t.Error("the alert was lost in a conflict")
	}
}

// TestAlertsAreBounded: the newest alerts are kept.
func TestAlertsAreBounded(t *testing.T) {
	w := running(t, 1, withAlerts)
	var n struct {
		Version string           `json:"version"`
		Alerts  []map[string]any `json:"alerts"`
	}
	n.Version = "4"
	for i := range 80 {
		n.Alerts = append(n.Alerts, map[string]any{
			"status": "firing", "startsAt": "2026-03-01T12:00:00Z", // no fingerprint: the labels tell alerts apart
			"labels":      map[string]string{"alertname": fmt.Sprintf("A%d", i), "rollout": "coolant", "namespace": w.ns, "severity": "info"},
			"annotations": map[string]string{"summary": strings.Repeat("x", 5000)},
		})
	}
	body, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	w.mustNotify(string(body))
	all := w.get().Status.Alerts
	if len(all) != 64 || all[63].Name != "A79" {
		t.Errorf("%d alerts, the last %q; want the newest 64", len(all), all[len(all)-1].Name)
	}
	if len(all[0].Summary) > 1024 {
		t.Errorf("a summary of %d bytes in the status, want at most 1024", len(all[0].Summary))
	}
}

func TestPrometheusRule(t *testing.T) {
	w := newWorld(t, withAlerts)
	w.o.Rules = true
	w.restart()
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.o.RuleLabels = map[string]string{"release": "prometheus", v1alpha1.LabelRollout: "mine"} // an operator adds what was forgotten
	w.restart()
	w.deploy("v2", true)
	w.want("v2")
	w.until("at step 1", atStep(1))
	rules := w.find("monitoring.coreos.com/v1", "PrometheusRule", "coolant")
	if rules == nil {
		t.Fatal("the PrometheusRule is missing")
	}
	want := map[string]string{"release": "prometheus", v1alpha1.LabelRollout: "coolant", "app.kubernetes.io/managed-by": "siskin"}
	if diff := cmp.Diff(want, rules.GetLabels()); diff != "" {
		t.Errorf("labels of the PrometheusRule (-want +got):\n%s", diff)
	}
	groups, _, _ := unstructured.NestedSlice(rules.Object, "spec", "groups")
	list, _, _ := unstructured.NestedSlice(groups[0].(map[string]any), "rules")
	if len(list) == 0 {
		t.Fatal("no rule while a canary is on trial")
	}
	for _, r := range list {
		rule := r.(map[string]any)
		labels, _, _ := unstructured.NestedStringMap(rule, "labels")
		notes, _, _ := unstructured.NestedStringMap(rule, "annotations")
		if labels["rollout"] != "coolant" || labels["namespace"] != w.ns || labels["severity"] == "" {
			t.Errorf("labels %v do not reach the rollout's alerts gate", labels)
		}
		if notes["summary"] == "" || notes["description"] == "" || notes["runbook_url"] == "" {
			t.Errorf("annotations %v, want summary, description and runbook_url", notes)
		}
	}
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	groups, _, _ = unstructured.NestedSlice(w.find("monitoring.coreos.com/v1", "PrometheusRule", "coolant").Object, "spec", "groups")
	if list, _, _ := unstructured.NestedSlice(groups[0].(map[string]any), "rules"); len(list) != 0 {
		t.Errorf("%d rules watch a canary that is gone", len(list))
	}
}

// TestRulesAreNoGate: a cluster without PrometheusRule, or one that refuses it, still rolls out.
func TestRulesAreNoGate(t *testing.T) {
	w := newWorld(t)
	w.o.Rules = true
	w.restart()
	w.tap.fail = failing("get PrometheusRule", "apply PrometheusRule")
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.deploy("v2", true)
	w.want("v2")
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
}

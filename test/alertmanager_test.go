package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/process"
)

// unasked is a Prometheus that must not be asked: an alerts gate needs none.
type unasked struct{}

// Query implements evidence.API.
func (unasked) Query(_ context.Context, query string, _ time.Time, _ ...promv1.Option) (model.Value, promv1.Warnings, promv1.Infos, error) {
	return nil, nil, nil, fmt.Errorf("a rollout with an alerts gate alone asked for %q", query)
}

// alertmanager is an Alertmanager that notifies one webhook.
type alertmanager struct {
	*process.Process
	t    *testing.T
	addr string
}

func startAlertmanager(t *testing.T, webhook string) *alertmanager {
	t.Helper()
	config := fmt.Sprintf(`
route:
  receiver: siskin
  group_by: [namespace, rollout]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
- name: siskin
  webhook_configs: [{url: '%s', send_resolved: true}]
`, webhook)
	a := &alertmanager{t: t, addr: process.FreeAddr(t)}
	a.Process = start(t, find(t, "prometheus-alertmanager", "prometheus-alertmanager"),
		"--config.file="+write(t, "alertmanager.yaml", config), "--storage.path="+t.TempDir(),
		"--web.listen-address="+a.addr, "--cluster.listen-address=", "--log.level=warn")
	process.Until(t, "Alertmanager", process.Answers("http://"+a.addr+"/-/ready"))
	return a
}

// post tells Alertmanager of an alert, as Prometheus does; one that has ended is resolved.
func (a *alertmanager) post(labels map[string]string, ends time.Time) {
	a.t.Helper()
	body, err := json.Marshal([]map[string]any{{
		"labels": labels, "annotations": map[string]string{"summary": "the canary is unwell"},
		"startsAt": time.Now().Add(-time.Minute).Format(time.RFC3339Nano), "endsAt": ends.Format(time.RFC3339Nano),
	}})
	if err != nil {
		a.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, "http://"+a.addr+"/api/v2/alerts", bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := errors.Join(status(res), res.Body.Close()); err != nil {
		a.t.Fatal(err)
	}
}

// alertsAre waits until the status shows so many alerts. Nothing reconciles meanwhile: only the webhook writes.
func (w *cluster) alertsAre(n int) *v1alpha1.Rollout {
	w.t.Helper()
	process.Until(w.t, fmt.Sprintf("%d alerts in the status", n), func(context.Context) error {
		if got := w.get().Status.Alerts; len(got) != n {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
	return w.get()
}

// TestAlertmanager sends alerts through a real Alertmanager to the controller's webhook.
func TestAlertmanager(t *testing.T) {
	api := kubetest.Start(t, charts.RolloutCRD)
	tests := map[string]struct {
		reason, namespace, severity string
		away                        int64 // how often the API is away when a notification comes
		fires, resolved             string
	}{
		"Critical": {
			"a critical alert rolls back, and stays rolled back", "critical", "critical", 0,
			"RolledBack AlertFiring, weight 0", "RolledBack AlertFiring, weight 0",
		},
		"Warning": {
			"a warning pauses until somebody resumes", "warning", "warning", 0,
			"Pause PausedByAlert, weight 50", "Pause PausedByAlert, weight 50",
		},
		"Info": {
			"nothing else stops a run", "info", "info", 0,
			"Hold HoldingStep, weight 50", "Hold HoldingStep, weight 50",
		},
		"Outage": {
			"what could not be stored comes again", "outage", "critical", 2,
			"RolledBack AlertFiring, weight 0", "RolledBack AlertFiring, weight 0",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var away, refused atomic.Int64
			w := newCluster(t, api, tc.namespace, func(c client.WithWatch) client.WithWatch { return failing(c, &away) })
			webhook := httptest.NewServer(refusals(w.r.Webhook(), &refused))
			t.Cleanup(webhook.Close)
			manager := startAlertmanager(t, webhook.URL+"/api/v1/alerts")
			labels := map[string]string{"alertname": "Unwell", "rollout": service, "namespace": tc.namespace, "severity": tc.severity}
			other := map[string]string{"alertname": "Other", "rollout": "another", "namespace": tc.namespace, "severity": "critical"}
			away.Store(tc.away)
			manager.post(other, time.Now().Add(time.Hour))
			manager.post(labels, time.Now().Add(time.Hour))

			st := w.alertsAre(1).Status
			got := map[string]string{"summary": st.Alerts[0].Summary, "name": st.Alerts[0].Name, "severity": st.Alerts[0].Severity}
			if diff := cmp.Diff(map[string]string{"summary": "the canary is unwell", "name": "Unwell", "severity": tc.severity}, got); diff != "" {
				t.Errorf("%s: alert (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(labels, st.Alerts[0].Labels); diff != "" {
				t.Errorf("%s: labels (-sent +got):\n%s", tc.reason, diff)
			}
			if got := outcome(w.turn()); got != tc.fires {
				t.Errorf("%s: firing: got %q, want %q", tc.reason, got, tc.fires)
			}
			manager.post(labels, time.Now().Add(-time.Second))
			w.alertsAre(0)
			if got := outcome(w.turn()); got != tc.resolved {
				t.Errorf("%s: resolved: got %q, want %q", tc.reason, got, tc.resolved)
			}
			if refused.Load() != tc.away {
				t.Errorf("%s: %d notifications were refused, want %d", tc.reason, refused.Load(), tc.away)
			}
		})
	}
}

// failing lets lists fail as often as the number says.
func failing(c client.WithWatch, times *atomic.Int64) client.WithWatch {
	return interceptor.NewClient(c, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			if _, ok := l.(*v1alpha1.RolloutList); ok && times.Add(-1) >= 0 {
				return errors.New("the API is away")
			}
			return c.List(ctx, l, opts...)
		},
	})
}

// refusals counts the answers that are not 200.
func refusals(h http.Handler, n *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&counting{w, n}, r)
	})
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

// WriteHeader implements http.ResponseWriter.
func (c *counting) WriteHeader(code int) {
	if code != http.StatusOK {
		c.n.Add(1)
	}
	c.ResponseWriter.WriteHeader(code)
}

package test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/mesh/gateway"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/test/process"
)

// TestNetBelow is the whole chain without the controller's own evidence: the PrometheusRule that it wrote, evaluated by a
// real Prometheus on the metrics of a real gateway, goes through a real Alertmanager to its webhook and rolls back.
func TestNetBelow(t *testing.T) {
	api := kubetest.Start(t, charts.RolloutCRD)
	w := newCluster(t, api, space, unwrapped)
	rule := groupsOf(t, w.rules())
	checkRules(t, "rollout.yaml", rule, "rollout.test.yaml")

	d := newData(t, rollout.Allocate(w.get().Status.Run.ID, 50), faults{failEvery: 1})
	d.watch(t, api.Config())
	webhook := httptest.NewServer(w.r.Webhook())
	t.Cleanup(webhook.Close)
	manager := startAlertmanager(t, webhook.URL+"/api/v1/alerts")
	startPrometheus(t, scrapes(d.metrics, fmt.Sprintf(`
rule_files: ['%s']
alerting:
  alertmanagers: [{static_configs: [{targets: ['%s']}]}]
`, write(t, "rollout.yaml", string(rule)), manager.addr)))

	process.Until(t, "the alert in the status", func(context.Context) error {
		d.send(t, 20)
		if n := len(w.get().Status.Alerts); n != 1 {
			return fmt.Errorf("%d alerts", n)
		}
		return nil
	})
	if a := w.get().Status.Alerts[0]; a.Name != "SiskinCanaryFailing" || a.Severity != "critical" {
		t.Errorf("alert: got %s %s, want critical SiskinCanaryFailing", a.Severity, a.Name)
	}
	if got := outcome(w.turn()); got != "RolledBack AlertFiring, weight 0" {
		t.Errorf("outcome: got %q", got)
	}
	process.Until(t, "all buckets on v1", func(context.Context) error {
		before := d.backends["v2"].requests.Load()
		d.send(t, 200)
		if n := d.backends["v2"].requests.Load() - before; n != 0 {
			return fmt.Errorf("v2 answered %d of 200", n)
		}
		return nil
	})
	promtool(t, t.TempDir(), "check", "rules", write(t, "after.yaml", string(groupsOf(t, w.rules()))))
}

// watch creates the service and its endpoints in the API, and lets the gateway obey what stands there.
func (d *data) watch(t *testing.T, config *rest.Config) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := networkingv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	objects := []client.Object{d.objects.ServiceEntries[0]}
	for _, e := range d.objects.WorkloadEntries {
		objects = append(objects, e)
	}
	for _, o := range objects {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- gateway.Watch(ctx, config, space, d.gateway.Load()) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("watching: %v", err)
		}
	})
	process.Until(t, "the gateway", func(ctx context.Context) error {
		before := d.backends["v2"].requests.Load()
		d.send(t, 50)
		if d.backends["v2"].requests.Load() == before {
			return fmt.Errorf("no request reached v2")
		}
		return nil
	})
}

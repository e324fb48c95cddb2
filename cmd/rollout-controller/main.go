// Command rollout-controller runs the rollout loop in a cluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/siskin-dev/siskin/cmd/internal/run"
	"github.com/siskin-dev/siskin/cmd/internal/wire"
)

func main() {
	os.Exit(run.Main(run.Options{Name: "rollout-controller", Admin: ":8080"}, bind))
}

type settings struct {
	wire.Options
	kubeconfig string
	webhook    string
	scaling    bool
}

func bind(fs *flag.FlagSet) run.Body {
	s := &settings{}
	fs.StringVar(&s.kubeconfig, "kubeconfig", "", "kubeconfig file; the pod's service account when empty")
	fs.StringVar(&s.PrometheusURL, "prometheus-url", "http://prometheus.monitoring:9090", "URL of the Prometheus that scrapes the mesh")
	fs.StringVar(&s.Reporter, "reporter", "source", "reporter label of Istio's metrics that counts: source, destination or waypoint")
	fs.Func("providers", "what splits traffic, by comma: "+strings.Join(wire.Providers(), ", ")+"; Istio when not given", func(text string) error {
		s.Providers = strings.Split(text, ",")
		return nil
	})
	fs.BoolVar(&s.Quotas, "global-rate-limits", false, "let rollouts have global rate limits, whose configuration is written as ConfigMaps")
	fs.BoolVar(&s.scaling, "scaling", true, "let rollouts scale the Deployments of their versions")
	fs.StringVar(&s.Namespace, "namespace", "", "namespace to watch; all when empty")
	fs.StringVar(&s.webhook, "webhook-listen", ":8081", "address that takes Alertmanager's notifications at /api/v1/alerts")
	fs.BoolVar(&s.LeaderElect, "leader-elect", true, "let one of several replicas act")
	fs.StringVar(&s.LeaseNamespace, "lease-namespace", "", "namespace of the lease; the pod's when empty")
	fs.BoolVar(&s.Rules, "prometheus-rules", true, "write a PrometheusRule for each rollout")
	fs.Func("prometheus-rule-labels", "labels of every PrometheusRule, as name=value by comma: those by which Prometheus selects rules", func(text string) (err error) {
		s.RuleLabels, err = labels.ConvertSelectorToLabelsMap(text)
		return err
	})
	fs.BoolVar(&s.Events, "events", true, "record Kubernetes events")
	fs.IntVar(&s.Workers, "workers", 16, "rollouts reconciled at once; at most half of them wait for Prometheus")
	fs.DurationVar(&s.Lag, "evidence-lag", 5*time.Second, "how long after its end a block is complete in Prometheus")
	fs.DurationVar(&s.Lookback, "evidence-lookback", time.Minute, "how old a sample may be to stand for an instant; at least two scrapes")
	fs.DurationVar(&s.Grace, "grace", 30*time.Second, "how long a version stays reachable after the last route to it was removed")
	return s.run
}

func (s *settings) run(ctx context.Context, p *run.Process) error {
	cfg, err := s.config()
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.Registry, s.Log, s.NoScaling = registry, p.Log(), !s.scaling
	ctrl.SetLogger(run.Logr(p.Log()))
	mgr, reconciler, err := wire.Controller(cfg, s.Options)
	if err != nil {
		return err
	}
	synced := run.Check{Name: "cache", Do: func(ctx context.Context) error {
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("the cache is not synced")
		}
		return nil
	}}
	if _, err := p.ServeAdmin(ctx, registry, synced); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/api/v1/alerts", reconciler.Webhook())
	if _, err := p.Serve(ctx, "alerts", s.webhook, mux); err != nil {
		return err
	}
	p.Go("controller", mgr.Start)
	return p.Wait(ctx)
}

func (s *settings) config() (*rest.Config, error) {
	if s.kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("reading the pod's service account (set --kubeconfig outside a cluster): %w", err)
		}
		return cfg, nil
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig %q: %w", s.kubeconfig, err)
	}
	return cfg, nil
}

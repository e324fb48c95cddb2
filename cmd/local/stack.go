package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/cmd/internal/run"
	"github.com/siskin-dev/siskin/cmd/internal/usage"
	"github.com/siskin-dev/siskin/cmd/internal/wire"
	"github.com/siskin-dev/siskin/cmd/local/kube"
	"github.com/siskin-dev/siskin/cmd/local/kube/server"
	"github.com/siskin-dev/siskin/cmd/local/node"
	"github.com/siskin-dev/siskin/cmd/local/prom"
	"github.com/siskin-dev/siskin/cmd/local/store"
	"github.com/siskin-dev/siskin/energy"
	"github.com/siskin-dev/siskin/energy/cgroup"
	"github.com/siskin-dev/siskin/energy/rapl"
	"github.com/siskin-dev/siskin/ingest"
	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/gateway"
	"github.com/siskin-dev/siskin/serving"
	artefacts "github.com/siskin-dev/siskin/serving/store"
	"github.com/siskin-dev/siskin/serving/trees"
)

// scrapeInterval is a quarter of the demo's blocks.
const scrapeInterval = 250 * time.Millisecond

// stack is everything of Siskin in one process. Each part speaks to the others as it would in a cluster: through the
// Kubernetes API, HTTP, Redis, S3 and Prometheus.
type stack struct {
	p   *run.Process
	dir string

	kube       *server.Server
	kubeconfig string
	client     client.Client
	stores     *store.Server
	prom       *prom.Server
	gateway    string // URL
	gatewayIn  *gateway.Gateway
	energy     *energy.Collector
	meter      energy.Info
	serving    *prometheus.Registry
	webhook    string
	ingest     string
	names      *ingest.Pseudonymiser
	lost       atomic.Pointer[map[string]bool] // vehicles whose requests do not arrive
}

// startStack starts the parts in the order in which they need each other.
func startStack(ctx context.Context, p *run.Process, dir string, models fs.FS) (*stack, error) {
	s := &stack{p: p, dir: dir}
	steps := []struct {
		name  string
		start func(context.Context) error
	}{
		{"Kubernetes API", s.startKube},
		{"Redis and S3", func(ctx context.Context) error { return s.startStores(ctx, models) }},
		{"Prometheus", s.startProm},
		{"gateway", s.startGateway},
		{"model node", s.startNode},
		{"energy meter", s.startEnergy},
		{"rollout controller", s.startController},
	}
	for _, step := range steps {
		if err := step.start(ctx); err != nil {
			return nil, fmt.Errorf("starting the %s: %w", step.name, err)
		}
	}
	return s, nil
}

func (s *stack) startKube(ctx context.Context) error {
	var err error
	server.RouteLogs(s.p.Log().Handler())
	ctrl.SetLogger(run.Logr(s.p.Log()))
	if s.kube, err = server.Start(ctx, server.Options{Dir: filepath.Join(s.dir, "kube")}); err != nil {
		return err
	}
	s.p.OnStop("kubernetes", func(context.Context) error { return s.kube.Stop() })
	crds, err := kube.CRDs()
	if err != nil {
		return err
	}
	if err := s.kube.InstallCRDs(ctx, append(crds, charts.RolloutCRD, charts.ExperimentCRD)...); err != nil {
		return err
	}
	s.kubeconfig = filepath.Join(s.dir, "kubeconfig")
	if err := s.kube.Kubeconfig(s.kubeconfig, namespace); err != nil {
		return err
	}
	scheme, err := wire.Scheme()
	if err != nil {
		return err
	}
	s.client, err = client.New(s.kube.Config(), client.Options{Scheme: scheme})
	return err
}

func (s *stack) startStores(ctx context.Context, models fs.FS) error {
	var err error
	if s.stores, err = store.Start(ctx, store.Options{Logger: s.p.Log()}); err != nil {
		return err
	}
	s.p.OnStop("stores", func(context.Context) error { return s.stores.Stop() })
	_, err = s.stores.PutModels(ctx, model, models)
	return err
}

func (s *stack) startProm(ctx context.Context) error {
	var err error
	s.prom, err = prom.Start(ctx, prom.Options{
		Dir: filepath.Join(s.dir, "prometheus"), Interval: scrapeInterval, Align: true, Lookback: 5 * time.Second, Logger: s.p.Log(),
	})
	if err == nil {
		s.p.OnStop("prometheus", func(context.Context) error { return s.prom.Stop() })
	}
	return err
}

// scrape makes Prometheus read a registry of this process as the job of that name.
func (s *stack) scrape(job string) (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	_, err := s.prom.AddTarget(prom.Target{Job: job, Instance: job, Gatherer: registry})
	return registry, err
}

func (s *stack) startGateway(ctx context.Context) error {
	registry, err := s.scrape("gateway")
	if err != nil {
		return err
	}
	s.gatewayIn = gateway.New(gateway.Options{
		// The hundred buckets are cheap here, and let a gate judge errors by them.
		Metrics: gateway.MetricsOptions{BucketHeader: mesh.BucketHeader}.New(registry), Logger: s.p.Log(),
	})
	s.p.OnStop("copies of requests", func(context.Context) error { s.gatewayIn.Close(); return nil })
	addr, err := s.p.Serve(ctx, "gateway", "127.0.0.1:0", s.gatewayIn)
	if err != nil {
		return err
	}
	s.gateway = "http://" + addr.String()
	s.p.Go("gateway watch", func(ctx context.Context) error {
		return gateway.Watch(ctx, s.kube.Config(), namespace, s.gatewayIn)
	})
	return nil
}

func (s *stack) startNode(ctx context.Context) error {
	var err error
	if s.serving, err = s.scrape("serving"); err != nil {
		return err
	}
	skip := true // two demos in one test process carry the same controller name
	mgr, err := ctrl.NewManager(s.kube.Config(), ctrl.Options{
		Metrics: metricsserver.Options{BindAddress: "0"}, Logger: run.Logr(s.p.Log()),
		Controller: config.Controller{SkipNameValidation: &skip},
	})
	if err != nil {
		return err
	}
	n := node.New(node.Options{
		Open: s.openModel, Decode: trees.Decode, Metrics: serving.NewMetrics(s.serving), Log: s.p.Log(), Client: mgr.GetClient(),
	})
	if err := n.SetupWithManager(mgr); err != nil {
		return err
	}
	s.p.OnStop("models", n.Close)
	s.p.Go("node", mgr.Start)
	return nil
}

// openModel reads artefacts from the S3 of this process.
func (s *stack) openModel(uri string) (serving.Source, error) {
	return artefacts.Open(uri, artefacts.S3Options{
		Endpoint: "http://" + s.stores.S3Addr(), AccessKey: store.AccessKey, SecretKey: store.SecretKey,
	})
}

// startEnergy meters with RAPL where the machine has it, and with a stated power model where it has not.
func (s *stack) startEnergy(context.Context) error {
	registry, err := s.scrape("energy")
	if err != nil {
		return err
	}
	proc := cgroup.NewNode("")
	o := energy.Options{
		Metrics: energy.NewMetrics(registry), Log: s.p.Log(), Busy: proc, Now: time.Now, Usage: usage.Gatherer(s.serving, ""),
	}
	if o.Meter, o.StaticMicrowatts, err = meterOf(proc); err != nil {
		return err
	}
	s.meter = o.Meter.Info()
	ticker := time.NewTicker(time.Second)
	s.p.OnStop("energy ticks", func(context.Context) error { ticker.Stop(); return nil })
	o.Ticks = ticker.C
	if s.energy, err = energy.NewCollector(o); err != nil {
		return err
	}
	s.p.Go("energy", s.energy.Run)
	return nil
}

func meterOf(proc cgroup.Node) (energy.Meter, uint64, error) {
	if m, err := rapl.New(rapl.Options{}); err == nil {
		return m, 0, nil
	}
	busy, err := proc.Busy()
	if err != nil {
		return nil, 0, err
	}
	static := energy.DefaultStaticPerCPU * busy.CPUs
	m, err := energy.NewModel(energy.ModelOptions{Static: static, PerCPU: energy.DefaultDynamicPerCPU, Busy: proc, Now: time.Now})
	return m, static, err
}

// startController runs the controller of the cluster, with a clock that suits blocks of one second.
func (s *stack) startController(ctx context.Context) error {
	registry, err := s.scrape("controller")
	if err != nil {
		return err
	}
	mgr, reconciler, err := wire.Controller(s.kube.Config(), wire.Options{
		PrometheusURL: s.prom.URL(), Rules: true, Events: true, Registry: registry, Log: s.p.Log(),
		Lag: 600 * time.Millisecond, Lookback: 2 * time.Second, Grace: 3 * time.Second,
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/api/v1/alerts", reconciler.Webhook())
	addr, err := s.p.Serve(ctx, "alerts", "127.0.0.1:0", mux)
	if err != nil {
		return err
	}
	s.webhook = "http://" + addr.String() + "/api/v1/alerts"
	s.p.Go("controller", mgr.Start)
	return nil
}

// workDir makes a folder for the state of one run, which goes with it.
func workDir(p *run.Process) (string, error) {
	dir, err := os.MkdirTemp("", "siskin-")
	if err != nil {
		return "", fmt.Errorf("making a working folder: %w", err)
	}
	p.OnStop("working folder", func(context.Context) error { return os.RemoveAll(dir) })
	return dir, nil
}

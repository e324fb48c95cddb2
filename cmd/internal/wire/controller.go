package wire

import (
	"fmt"
	"log/slog"
	"time"

	promapi "github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/siskin-dev/siskin/cmd/internal/run"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/evidence"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// Options say what the controller speaks to.
type Options struct {
	// PrometheusURL answers the questions of the loop. Required.
	PrometheusURL string
	// Reporter is the reporter label of Istio's metrics that counts; "source" by default.
	Reporter string
	// Providers are those that rollouts may name; Istio by default. The kinds that they write must be installed.
	Providers []string
	// Quotas lets rollouts have global rate limits, whose configuration the controller writes as ConfigMaps.
	Quotas bool
	// NoScaling refuses rollouts that want Deployments to be scaled.
	NoScaling bool
	// Namespace restricts the controller to one namespace; all by default.
	Namespace string
	// LeaderElect lets one of several replicas act. It needs the Lease API, and LeaseNamespace outside a cluster.
	LeaderElect    bool
	LeaseNamespace string
	// Rules makes the controller write a PrometheusRule for each rollout, with RuleLabels beside its own.
	Rules      bool
	RuleLabels map[string]string
	// Events makes the controller record Kubernetes events. It needs the events API.
	Events bool
	// Workers is how many rollouts are reconciled at once; 16 by default. At most half of them wait for Prometheus.
	Workers int
	// Lag, Lookback and Grace: see controller.Options and evidence.Options.
	Lag, Lookback, Grace time.Duration
	// Registry takes the controller's metrics. Required.
	Registry prometheus.Registerer
	// Log, nowhere by default.
	Log *slog.Logger
}

// Scheme knows the API's kinds.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		return nil, fmt.Errorf("registering the API types: %w", err)
	}
	return s, nil
}

// Controller builds the manager and the reconciler that runs in it.
func Controller(cfg *rest.Config, o Options) (ctrl.Manager, *controller.Reconciler, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	mgr, err := manager(cfg, o)
	if err != nil {
		return nil, nil, err
	}
	source, err := Evidence(o)
	if err != nil {
		return nil, nil, err
	}
	routers, err := routersFor(o.Providers, o.Quotas)
	if err != nil {
		return nil, nil, err
	}
	var record controller.Recorder
	if o.Events {
		record = recorder(mgr.GetEventRecorder("siskin"))
	}
	workers := o.Workers
	if workers <= 0 {
		workers = 16
	}
	r, err := controller.New(controller.Options{
		Questions: max(workers/2, 1),
		Client:    mgr.GetClient(), Live: mgr.GetAPIReader(), Evidence: source, Routers: routers,
		NoScaling: o.NoScaling, Rules: o.Rules, RuleLabels: o.RuleLabels, Record: record, Lag: o.Lag, Grace: o.Grace, Log: o.Log,
		Metrics: controller.NewMetrics(o.Registry),
	})
	if err != nil {
		return nil, nil, err
	}
	if err := r.SetupWithManager(mgr, workers); err != nil {
		return nil, nil, err
	}
	return mgr, r, nil
}

// manager returns a manager that keeps no informers of what the reconciler reads live, and leaves metrics and probes to
// the admin server.
func manager(cfg *rest.Config, o Options) (ctrl.Manager, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	if cfg.QPS == 0 {
		// No throttle on this side: an abort must not queue behind the looks at a thousand rollouts. The API server has its
		// own fairness, and the workers bound what is under way.
		cfg.QPS = -1
	}
	skip := true // two managers in one test process carry the same controller name
	mo := ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Logger: run.Logr(o.Log),
		LeaderElection: o.LeaderElect, LeaderElectionID: "siskin-rollout-controller", LeaderElectionNamespace: o.LeaseNamespace,
		LeaderElectionReleaseOnCancel: true, Controller: config.Controller{SkipNameValidation: &skip},
		Client: client.Options{Cache: &client.CacheOptions{Unstructured: false}},
	}
	if o.Namespace != "" {
		mo.Cache = cache.Options{DefaultNamespaces: map[string]cache.Config{o.Namespace: {}}}
	}
	mgr, err := ctrl.NewManager(cfg, mo)
	if err != nil {
		return nil, fmt.Errorf("building the controller manager: %w", err)
	}
	return mgr, nil
}

// Evidence builds the source of evidence.
func Evidence(o Options) (*evidence.Source, error) {
	api, err := promapi.NewClient(promapi.Config{Address: o.PrometheusURL})
	if err != nil {
		return nil, fmt.Errorf("building the Prometheus client for %q: %w", o.PrometheusURL, err)
	}
	return evidence.New(evidence.Options{API: promv1.NewAPI(api), Reporter: o.Reporter, Lookback: o.Lookback})
}

func recorder(events events.EventRecorder) controller.Recorder {
	return func(about client.Object, warning bool, reason, message string) {
		kind := corev1.EventTypeNormal
		if warning {
			kind = corev1.EventTypeWarning
		}
		events.Eventf(about, nil, kind, reason, "Decide", "%s", message)
	}
}

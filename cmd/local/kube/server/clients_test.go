package server_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/siskin-dev/siskin/cmd/local/kube"
)

// testManager runs a controller on the API: its leader election, its cache, its watch and its events.
func testManager(t *testing.T, s *kube.API) {
	m, err := ctrl.NewManager(s.Config(), ctrl.Options{
		Logger:                  logr.Discard(),
		Metrics:                 metricsserver.Options{BindAddress: "0"},
		LeaderElection:          true,
		LeaderElectionID:        "test",
		LeaderElectionNamespace: "manager",
	})
	if err != nil {
		t.Fatal(err)
	}
	kind := widget("", "", nil)
	seen := make(chan string, 10)
	err = builder.ControllerManagedBy(m).For(kind).Complete(reconcile.Func(func(ctx context.Context, r ctrl.Request) (ctrl.Result, error) {
		w := widget(r.Namespace, r.Name, nil)
		if err := m.GetClient().Get(ctx, r.NamespacedName, w); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		m.GetEventRecorder("test").Eventf(w, nil, "Normal", "Seen", "Reconcile", "saw %s", w.GetName())
		seen <- w.GetNamespace() + "/" + w.GetName()
		return ctrl.Result{}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Start(ctx) }()
	if err := newClient(t, s).Create(ctx, widget("manager", "w", map[string]any{"size": int64(2)})); err != nil {
		t.Fatal(err)
	}
	timeout := time.After(time.Minute)
	for got := ""; got != "manager/w"; {
		select {
		case got = <-seen:
		case <-timeout:
			t.Fatal("the controller did not reconcile the new object")
		}
	}
	awaitEvent(t, newClient(t, s), "manager")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("stopping the manager: %v", err)
	}
}

// awaitEvent returns when an event with the reason Seen can be read in the namespace.
func awaitEvent(t *testing.T, c client.WithWatch, namespace string) {
	t.Helper()
	w, err := c.Watch(t.Context(), &eventsv1.EventList{}, client.InNamespace(namespace))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	timeout := time.After(time.Minute)
	for {
		select {
		case got := <-w.ResultChan():
			if e, ok := got.Object.(*eventsv1.Event); ok && e.Reason == "Seen" && e.Note == "saw w" {
				return
			}
		case <-timeout:
			t.Fatal("the controller's event was not stored")
		}
	}
}

// testDiscovery asks for the groups as newer clients do, aggregated, and as older ones do.
func testDiscovery(t *testing.T, s *kube.API) {
	legacy := s.Config()
	legacy.ContentConfig = rest.ContentConfig{AcceptContentTypes: "application/json"}
	for name, config := range map[string]*rest.Config{"Aggregated": s.Config(), "Plain": legacy} {
		t.Run(name, func(t *testing.T) {
			c, err := discovery.NewDiscoveryClientForConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			c.UseLegacyDiscovery = name == "Plain"
			groups, lists, err := c.ServerGroupsAndResources()
			if err != nil {
				t.Fatal(err)
			}
			preferred := map[string]string{}
			for _, g := range groups {
				preferred[g.Name] = g.PreferredVersion.Version
			}
			for group, want := range map[string]string{
				"networking.istio.io": "v1", "monitoring.coreos.com": "v1",
				"serving.kserve.io": "v1beta1", "test.siskin.dev": "v1", "apiextensions.k8s.io": "v1",
			} {
				if preferred[group] != want {
					t.Errorf("preferred version of %q: got %q, want %q", group, preferred[group], want)
				}
			}
			var kinds []string
			for _, l := range lists {
				for _, r := range l.APIResources {
					kinds = append(kinds, l.GroupVersion+"/"+r.Kind)
				}
			}
			for _, want := range []string{
				"networking.istio.io/v1/VirtualService", "networking.istio.io/v1beta1/ServiceEntry",
				"networking.istio.io/v1alpha3/EnvoyFilter", "networking.istio.io/v1/WorkloadEntry",
			} {
				if !slices.Contains(kinds, want) {
					t.Errorf("kinds: %q is missing", want)
				}
			}
		})
	}
}

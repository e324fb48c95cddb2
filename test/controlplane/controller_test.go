package controlplane_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/controlplane"
)

const (
	space   = "edge"
	service = "coolant"
)

// reader is the admin's client for typed objects.
func reader(t *testing.T, p *controlplane.Plane) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, networkingv1.AddToScheme, clientgoscheme.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(p.Admin, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// world is a namespace with a rollout in a real control plane.
type world struct {
	*controlplane.Plane
	t *testing.T
	client.Client
	space string
}

// create makes a rollout of v1, with steps of these weights that end only when somebody asks for it.
func (w *world) create(weights ...int32) {
	w.t.Helper()
	w.make(w.rollout(weights...))
}

func (w *world) make(ro *v1alpha1.Rollout) {
	w.t.Helper()
	if err := w.Client.Create(w.t.Context(), ro); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) rollout(weights ...int32) *v1alpha1.Rollout {
	ro := &v1alpha1.Rollout{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.space, Name: service},
		Spec: v1alpha1.RolloutSpec{
			Version:    "v1",
			Service:    v1alpha1.ServiceSpec{Name: service, Port: 8080},
			Workload:   v1alpha1.WorkloadSpec{Kind: "Deployment"},
			Assignment: &v1alpha1.AssignmentSpec{Header: &v1alpha1.HeaderAssignment{}},
			Gates:      []v1alpha1.GateSpec{{Name: "alerts", Type: v1alpha1.GateAlerts}},
			RateLimit: &v1alpha1.RateLimitSpec{
				RequestsPerSecond: 200, Scope: "Canary",
				Global: &v1alpha1.GlobalRateLimitSpec{Host: "ratelimit.edge.svc.cluster.local", RequestsPerUnit: 1000},
			},
			Analysis: v1alpha1.AnalysisSpec{
				Interval: metav1.Duration{Duration: time.Second}, Cap: metav1.Duration{Duration: 2 * time.Hour},
			},
		},
	}
	for _, weight := range weights {
		ro.Spec.Steps = append(ro.Spec.Steps, v1alpha1.StepSpec{Weight: weight, Hold: metav1.Duration{Duration: time.Hour}})
	}
	return ro
}

// ask is what an operator does.
func (w *world) ask(action v1alpha1.RequestAction) {
	w.t.Helper()
	controlplane.Until(w.t, "the API to take "+string(action), func(ctx context.Context) error {
		ro := w.get()
		ro.Status.Requests = append(ro.Status.Requests, v1alpha1.Request{
			ID: rand.Text(), Action: action, RequestedAt: metav1.NowMicro(),
		})
		return w.Client.Status().Update(ctx, ro) // a conflict is tried again
	})
}

func (w *world) get() *v1alpha1.Rollout {
	w.t.Helper()
	var ro v1alpha1.Rollout
	if err := w.Client.Get(w.t.Context(), client.ObjectKey{Namespace: w.space, Name: service}, &ro); err != nil {
		w.t.Fatal(err)
	}
	return &ro
}

// until waits for the rollout to be as wanted.
func (w *world) until(what string, is func(*v1alpha1.Rollout) bool) {
	w.t.Helper()
	controlplane.Until(w.t, what, func(context.Context) error {
		if ro := w.get(); !is(ro) {
			return fmt.Errorf("the status is %s %q, weight %d, stable %q", ro.Status.Reason, ro.Status.Message, ro.Status.Weight, ro.Status.StableVersion)
		}
		return nil
	})
}

// want asks for a version.
func (w *world) want(version string) {
	w.t.Helper()
	ro := w.get()
	before := client.MergeFrom(ro.DeepCopy())
	ro.Spec.Version = version
	if err := w.Client.Patch(w.t.Context(), ro, before); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deploy(version string) {
	w.t.Helper()
	w.scale(version, 1, 1)
}

// scale gives a version so many replicas, of which so many are available.
func (w *world) scale(version string, replicas, available int64) {
	w.t.Helper()
	w.Deploy(w.space, service+"-"+version, map[string]string{"app": service, "version": version}, replicas, available)
}

// routes waits until the VirtualService, which is Siskin's alone, has the routes of these names, in order.
func (w *world) routes(want ...string) {
	w.t.Helper()
	controlplane.Until(w.t, "the routes", func(ctx context.Context) error {
		var vs networkingv1.VirtualService
		if err := w.Client.Get(ctx, client.ObjectKey{Namespace: w.space, Name: service}, &vs); err != nil {
			return err
		}
		if managers := vs.GetManagedFields(); len(managers) != 1 || managers[0].Manager != "siskin" {
			return fmt.Errorf("the VirtualService is managed by %v, want siskin alone", managers)
		}
		var names []string
		for _, r := range vs.Spec.Http {
			names = append(names, r.GetName())
		}
		return same(names, want)
	})
}

// subsets waits until the DestinationRule has the subsets of these names, in order.
func (w *world) subsets(want ...string) {
	w.t.Helper()
	controlplane.Until(w.t, "the subsets", func(ctx context.Context) error {
		var dr networkingv1.DestinationRule
		if err := w.Client.Get(ctx, client.ObjectKey{Namespace: w.space, Name: service}, &dr); err != nil {
			return err
		}
		var names []string
		for _, s := range dr.Spec.Subsets {
			names = append(names, s.GetName())
		}
		return same(names, want)
	})
}

func same(got, want []string) error {
	if !slices.Equal(got, want) {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	return nil
}

// quotas edits the ConfigMap for the rate limit service as somebody else, and waits until it has the one file again.
func (w *world) quotas() {
	w.t.Helper()
	var config corev1.ConfigMap
	key := client.ObjectKey{Namespace: w.space, Name: service + "-ratelimit"}
	controlplane.Until(w.t, "the quotas", func(ctx context.Context) error { return w.Client.Get(ctx, key, &config) })
	meant := maps.Clone(config.Data)
	if text := meant[w.space+"."+service+".yaml"]; len(meant) != 1 || !strings.Contains(text, "requests_per_unit: 1000") {
		w.t.Errorf("the quotas are %v", meant)
	}
	config.Data = map[string]string{w.space + "." + service + ".yaml": "domain: none", "theirs.yaml": "domain: theirs"}
	if err := w.Client.Update(w.t.Context(), &config, client.FieldOwner("somebody")); err != nil {
		w.t.Fatal(err)
	}
	controlplane.Until(w.t, "the quotas to be put right", func(ctx context.Context) error {
		if err := w.Client.Get(ctx, key, &config); err != nil {
			return err
		}
		if !maps.Equal(config.Data, meant) {
			return fmt.Errorf("they are %v", config.Data)
		}
		return nil
	})
}

// leader holds the lease.
func (w *world) leader(ctx context.Context) (string, error) {
	var lease coordinationv1.Lease
	err := w.Client.Get(ctx, client.ObjectKey{Namespace: controlplane.Namespace, Name: "siskin-rollout-controller"}, &lease)
	if err != nil || lease.Spec.HolderIdentity == nil {
		return "", err
	}
	return *lease.Spec.HolderIdentity, nil
}

// TestController runs the controller's binary with the chart's arguments and rights against the real API server: a rollout
// becomes stable, a run starts, another replica takes over, and the run is taken back.
func TestController(t *testing.T) {
	t.Parallel() // it has a control plane of its own, and waits most of the time
	p := controlplane.Start(t)
	w := &world{Plane: p, t: t, Client: reader(t, p), space: space}
	prometheus := p.StartPrometheus("global: {scrape_interval: 1s}\n")
	first := p.StartController("first", prometheus)

	p.Apply(controlplane.NamespaceOf(space))
	w.create(25)
	w.deploy("v1")
	w.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })
	w.routes("pin-stable", "stable-buckets", "weighted")

	w.want("v2")
	w.until("the run to wait for v2", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run != nil })
	if ro := w.get(); ro.Status.Weight != 0 {
		t.Errorf("nobody runs v2, and it has weight %d", ro.Status.Weight)
	}
	w.deploy("v2")
	w.until("v2 to have its first step", func(ro *v1alpha1.Rollout) bool { return ro.Status.Weight == 25 })
	w.routes("pin-canary", "pin-stable", "canary-buckets", "stable-buckets", "weighted")
	w.subsets("v1", "v2")
	w.quotas()

	w.handOver(first, prometheus)
	w.want("v1")
	w.until("the run to be taken back", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run == nil && ro.Status.Weight == 0 })
	w.routes("pin-stable", "stable-buckets", "weighted")
	w.events("VersionSetBack")
	controlplane.Until(t, "the canary's quotas to go", func(ctx context.Context) error {
		err := w.Client.Get(ctx, client.ObjectKey{Namespace: w.space, Name: service + "-ratelimit"}, &corev1.ConfigMap{})
		if err == nil {
			err = errors.New("they are there")
		}
		return client.IgnoreNotFound(err)
	})
	w.audit()
}

// handOver stops the leader; another replica has waited for that and goes on.
func (w *world) handOver(first *controlplane.Controller, prometheus string) {
	w.t.Helper()
	before, err := w.leader(w.t.Context())
	if err != nil || before == "" {
		w.t.Fatalf("reading the lease: held by %q, %v", before, err)
	}
	w.StartController("second", prometheus)
	if err := first.Stop(); err != nil {
		w.t.Errorf("stopping the leader: %v", err)
	}
	controlplane.Until(w.t, "the second replica to lead", func(ctx context.Context) error {
		now, err := w.leader(ctx)
		if err == nil && (now == "" || now == before) {
			err = fmt.Errorf("the lease is held by %q", now)
		}
		return err
	})
	if ro := w.get(); ro.Status.Run == nil || ro.Status.Weight != 25 {
		w.t.Errorf("after the hand-over: weight %d, run %v; want the run at 25", ro.Status.Weight, ro.Status.Run)
	}
}

// events waits for an event with the reason.
func (w *world) events(reason string) {
	w.t.Helper()
	controlplane.Until(w.t, "an event "+reason, func(ctx context.Context) error {
		var list eventsv1.EventList
		if err := w.Client.List(ctx, &list, client.InNamespace(w.space)); err != nil {
			return err
		}
		var got []string
		for _, e := range list.Items {
			got = append(got, e.Reason)
		}
		if !slices.Contains(got, reason) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
}

// allowed holds that the controller was never refused, and returns what it asked for.
func allowed(t *testing.T, p *controlplane.Plane) map[controlplane.Asked]int {
	t.Helper()
	asked := p.Audit()
	for a, n := range asked {
		if a.Code == 401 || a.Code == 403 {
			t.Errorf("the chart's rights do not allow what the controller asks for: %+v, %d times", a, n)
		}
	}
	return asked
}

// audit holds that the controller was never refused, and wrote all that it writes as itself; nobody else did, but for the test,
// once.
func (w *world) audit() {
	w.t.Helper()
	asked := allowed(w.t, w.Plane)
	for _, wrote := range []struct{ group, kind string }{
		{"networking.istio.io", "virtualservices"},
		{"networking.istio.io", "destinationrules"},
		{"networking.istio.io", "envoyfilters"},
		{"", "configmaps"},
		{"monitoring.coreos.com", "prometheusrules"},
		{"siskin.dev", "rollouts/status"},
		{"coordination.k8s.io", "leases"},
		{"events.k8s.io", "events"},
	} {
		n := 0
		for a, times := range asked {
			if a.Other == "" && a.Group == wrote.group && a.Kind == wrote.kind && a.Code < 300 && slices.Contains([]string{"create", "update", "patch"}, a.Verb) {
				n += times
			}
		}
		if n == 0 {
			w.t.Errorf("the controller wrote no %s of %q as itself", wrote.kind, wrote.group)
		}
	}
	others := map[string]int{}
	for a, n := range asked {
		if a.Other != "" && a.Namespace == w.space && strings.HasPrefix(a.Name, service) { // istiod has ConfigMaps of its own there
			others[fmt.Sprintf("%s %s %s/%s: %d", a.Other, a.Verb, a.Kind, a.Name, a.Code)] += n
		}
	}
	if want := map[string]int{"admin update configmaps/coolant-ratelimit: 200": 1}; !maps.Equal(others, want) {
		w.t.Errorf("others than the controller wrote its objects: %v, want %v", others, want)
	}
}

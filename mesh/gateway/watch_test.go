package gateway

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
)

// soon bounds what should take milliseconds.
const soon = 30 * time.Second

// eventually waits until the gateway has loaded a table for which done holds.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(soon)
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%s did not happen within %v", what, soon)
		}
	}
}

func newClient(t *testing.T, cfg *rest.Config) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(networkingv1.AddToScheme(scheme), v1alpha3.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	log.SetLogger(logr.Discard())
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func flatten(o Objects) []client.Object {
	var out []client.Object
	for _, object := range o.DestinationRules {
		out = append(out, object)
	}
	for _, object := range o.ServiceEntries {
		out = append(out, object)
	}
	for _, object := range o.WorkloadEntries {
		out = append(out, object)
	}
	for _, object := range o.EnvoyFilters {
		out = append(out, object)
	}
	for _, object := range o.VirtualServices {
		out = append(out, object)
	}
	return out
}

// TestWatch follows objects of a real API: created, changed and deleted.
func TestWatch(t *testing.T) {
	server := kubetest.Start(t)
	c := newClient(t, server.Config())
	objects := bothVersions(t)
	traffic := split(rollout.Allocate("run-1", 10))
	traffic.RateLimit = &mesh.RateLimit{RequestsPerSecond: 1_000_000, Burst: 1_000_000}
	objects = rendered(t, traffic, objects)
	for _, o := range flatten(objects) {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatalf("creating %T: %v", o, err)
		}
	}
	g := start(t, Objects{}, Options{})
	g.table.Store(nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, server.Config(), "edge", g.Gateway) }()
	eventually(t, "Syncing", func() bool { return g.table.Load() != nil })
	seen := make([]bool, population())
	checkVehicles(t, traffic, vehicles(t, g, population()), seen)

	grown := split(rollout.Allocate("run-1", 50))
	vs := rendered(t, grown, Objects{}).VirtualServices[0]
	vs.ResourceVersion = objects.VirtualServices[0].ResourceVersion
	written := time.Now()
	if err := c.Update(t.Context(), vs); err != nil {
		t.Fatal(err)
	}
	joined := mesh.FormatBucket(rollout.Order("run-1")[49])
	eventually(t, "The ramp", func() bool {
		res, _ := g.get(t, "/", mesh.BucketHeader, joined)
		return res.Header.Get("Version") == "v2"
	})
	t.Logf("A write was in force after %v", time.Since(written))
	checkVehicles(t, grown, vehicles(t, g, population()), seen)

	if err := c.Delete(t.Context(), objects.WorkloadEntries[0]); err != nil {
		t.Fatal(err)
	}
	gone := objects.WorkloadEntries[0].Spec.Labels["version"]
	variant := map[string]string{"v1": "stable", "v2": "canary"}[gone]
	eventually(t, "The endpoint's end", func() bool {
		res, _ := g.get(t, "/", mesh.VariantHeader, variant)
		return res.StatusCode == 503
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Watch(...) = %v", err)
	}
}

package controlplane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/xds"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/controlplane"
)

// versionHeader is what a backend says of itself.
const versionHeader = "version"

// serve runs a gRPC server that answers health checks with its version, and returns its port.
func serve(t *testing.T, version string) int64 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if err := grpc.SetHeader(ctx, metadata.Pairs(versionHeader, version)); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}))
	grpc_health_v1.RegisterHealthServer(s, healthgrpc.NewServer())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil {
			t.Errorf("serving %s: %v", version, err)
		}
	})
	return int64(l.Addr().(*net.TCPAddr).Port)
}

// backends runs a server of each version and tells the mesh about them.
func backends(t *testing.T, versions ...string) *unstructured.Unstructured {
	t.Helper()
	endpoints := []any{}
	for _, v := range versions {
		endpoints = append(endpoints, map[string]any{
			"address": "127.0.0.1", "ports": map[string]any{"grpc": serve(t, v)}, "labels": map[string]any{"app": service, "version": v},
		})
	}
	o := controlplane.Object("networking.istio.io/v1", "ServiceEntry", space, service, nil)
	o.Object["spec"] = map[string]any{
		"hosts": []any{service + "." + space + ".svc.cluster.local"}, "location": "MESH_INTERNAL", "resolution": "STATIC",
		"ports":     []any{map[string]any{"number": int64(8080), "name": "grpc", "protocol": "GRPC"}},
		"endpoints": endpoints,
	}
	return o
}

// dial connects to the service as an application does that is its own proxy. A call that fails is not tried again:
// what a retry hides would not be seen.
func dial(t *testing.T, ads string) grpc_health_v1.HealthClient {
	t.Helper()
	bootstrap, err := json.Marshal(map[string]any{
		"xds_servers": []any{map[string]any{
			"server_uri": ads, "channel_creds": []any{map[string]any{"type": "insecure"}}, "server_features": []any{"xds_v3"},
		}},
		"node": map[string]any{
			"id":       "sidecar~127.0.0.1~caller." + space + "~" + space + ".svc.cluster.local",
			"metadata": map[string]any{"GENERATOR": "grpc", "NAMESPACE": space, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.1"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	resolver, err := xds.NewXDSResolverWithConfigForTesting(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///"+service+"."+space+".svc.cluster.local:8080", grpc.WithResolvers(resolver), grpc.WithDisableRetry(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return grpc_health_v1.NewHealthClient(conn)
}

// call is one call, with a bucket where it is 0 to 99, and the version that answered.
func call(ctx context.Context, c grpc_health_v1.HealthClient, bucket int) (string, error) {
	if bucket >= 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, mesh.BucketHeader, rollout.FormatBucket(bucket))
	}
	var header metadata.MD
	if _, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&header)); err != nil {
		return "", err
	}
	if v := header.Get(versionHeader); len(v) == 1 {
		return v[0], nil
	}
	return "", fmt.Errorf("the answer says no version: %v", header)
}

// traffic is what vehicles, one for each bucket, meet while the test does other things.
type traffic struct {
	calls, failed atomic.Int64
	mu            sync.Mutex // guards met
	met           [rollout.Buckets][]string
}

// send sends calls of all buckets, again and again, until the test ends.
func (r *traffic) send(t *testing.T, c grpc_health_v1.HealthClient) {
	ctx, stop := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	t.Cleanup(func() { stop(); senders.Wait() })
	for sender := range 4 {
		senders.Go(func() {
			for bucket := sender; ctx.Err() == nil; bucket = (bucket + 4) % rollout.Buckets {
				version, err := call(ctx, c, bucket)
				if ctx.Err() != nil {
					return
				}
				r.calls.Add(1)
				if err != nil {
					r.failed.Add(1)
					t.Errorf("a call of bucket %02d failed: %v", bucket, err)
					return
				}
				r.note(bucket, version)
			}
		})
	}
}

// note remembers the versions that a bucket met, one after another.
func (r *traffic) note(bucket int, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if met := r.met[bucket]; len(met) == 0 || met[len(met)-1] != version {
		r.met[bucket] = append(met, version)
	}
}

// shares waits until exactly the canary's buckets meet v2, and then compares the share of calls without a bucket.
func shares(t *testing.T, c grpc_health_v1.HealthClient, canary []int) {
	t.Helper()
	controlplane.Until(t, fmt.Sprintf("%d buckets on v2", len(canary)), func(ctx context.Context) error {
		var got []int
		for b := range rollout.Buckets {
			version, err := call(ctx, c, b)
			if err != nil {
				t.Fatalf("a call of bucket %02d failed: %v", b, err)
			}
			if version == "v2" {
				got = append(got, b)
			}
		}
		if !slices.Equal(got, canary) {
			return fmt.Errorf("on v2 are %v, want %v", got, canary)
		}
		return nil
	})
	const n = 4000
	drawn := 0
	for range n {
		version, err := call(t.Context(), c, -1)
		if err != nil {
			t.Fatalf("a call without a bucket failed: %v", err)
		}
		if version == "v2" {
			drawn++
		}
	}
	p := float64(len(canary)) / 100
	// Six standard deviations: less than once in a hundred million runs by chance.
	if want, width := n*p, 6*math.Sqrt(n*p*(1-p)); math.Abs(float64(drawn)-want) > width {
		t.Errorf("of %d calls without a bucket %d met v2, want %.0f ± %.0f", n, drawn, want, width)
	}
	t.Logf("weight %d: %d of %d calls without a bucket met v2", len(canary), drawn, n)
}

// TestProxyless lets applications that are their own proxies (gRPC with xDS) call the service while the controller
// ramps and rolls back. Buckets move once, in the order of the run, and back; no call fails.
func TestProxyless(t *testing.T) {
	p := controlplane.Start(t)
	w := &world{Plane: p, t: t, Client: reader(t, p)}
	p.StartController("controller", p.StartPrometheus("global: {scrape_interval: 1s}\n"), "--grace=1s")
	p.Apply(controlplane.NamespaceOf(space), backends(t, "v1", "v2"))
	w.create(5, 25, 50)
	w.deploy("v1")
	w.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })

	c := dial(t, p.ADS)
	controlplane.Until(t, "the first call", func(ctx context.Context) error {
		_, err := call(ctx, c, 0)
		return err
	})
	var all traffic
	all.send(t, c)
	w.deploy("v2")
	w.want("v2")
	w.until("the first step", func(ro *v1alpha1.Rollout) bool { return ro.Status.Weight == 5 })
	run := w.get().Status.Run.ID
	for _, weight := range []int{5, 25, 50} {
		w.until(fmt.Sprintf("weight %d", weight), func(ro *v1alpha1.Rollout) bool { return int(ro.Status.Weight) == weight })
		shares(t, c, rollout.Allocate(run, weight))
		if weight < 50 {
			w.ask(v1alpha1.ActionPromote)
		}
	}
	w.ask(v1alpha1.ActionAbort)
	w.until("the rollback", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run == nil })
	shares(t, c, nil)
	w.subsets("v1")
	shares(t, c, nil)
	all.moved(t, rollout.Allocate(run, 50))
}

// moved holds that the canary's buckets went to v2 and back, once, and no other bucket ever.
func (r *traffic) moved(t *testing.T, canary []int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for b, met := range r.met {
		want := []string{"v1"}
		if slices.Contains(canary, b) {
			want = []string{"v1", "v2", "v1"}
		}
		if !slices.Equal(met, want) {
			t.Errorf("bucket %s met %v, want %v", strconv.Itoa(b), met, want)
		}
	}
	t.Logf("%d calls, %d failed", r.calls.Load(), r.failed.Load())
}

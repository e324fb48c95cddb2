package controlplane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/xds"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
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

// application is a caller that is its own proxy, and what went wrong on its way.
type application struct {
	grpc_health_v1.HealthClient
	t *testing.T
	// raced counts the calls that met a new route before its cluster was ready, inside the client: gRPC takes up the
	// routes first. Istio's default has them tried again, at the same cluster; on a busy machine that may be too soon.
	raced atomic.Int64
}

// dial connects to the service as such an application does.
func dial(t *testing.T, ads string) *application {
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
	a := &application{t: t}
	conn, err := grpc.NewClient("xds:///"+service+"."+space+".svc.cluster.local:8080", grpc.WithResolvers(resolver), grpc.WithStatsHandler(a),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	a.HealthClient = grpc_health_v1.NewHealthClient(conn)
	return a
}

// HandleRPC implements stats.Handler. It hears of every attempt, so that no retry hides a failure.
func (a *application) HandleRPC(ctx context.Context, s stats.RPCStats) {
	end, ok := s.(*stats.End)
	switch {
	case !ok || end.Error == nil || ctx.Err() != nil:
	case raced(end.Error): // what the call counts
		ctx.Value(racing{}).(*atomic.Bool).Store(true)
	default:
		a.t.Errorf("an attempt failed: %v", end.Error)
	}
}

// racing is the key of whether an attempt of a call raced.
type racing struct{}

// raced says whether the client itself was not ready: nothing left it.
func raced(err error) bool { return strings.Contains(err.Error(), "unknown cluster selected for RPC") }

// TagRPC implements stats.Handler.
func (a *application) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (a *application) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (a *application) HandleConn(context.Context, stats.ConnStats) {}

// call is one call, with a bucket where it is 0 to 99, and the version that answered.
func (a *application) call(ctx context.Context, bucket int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if bucket >= 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, mesh.BucketHeader, rollout.FormatBucket(bucket))
	}
	var header metadata.MD
	var met atomic.Bool
	ctx = context.WithValue(ctx, racing{}, &met)
	_, err := a.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&header))
	for err != nil && raced(err) && ctx.Err() == nil {
		_, err = a.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&header))
	}
	if met.Load() {
		a.raced.Add(1)
	}
	if err != nil {
		return "", err
	}
	if v := header.Get(versionHeader); len(v) == 1 {
		return v[0], nil
	}
	return "", fmt.Errorf("the answer says no version: %v", header)
}

package controlplane

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/siskin-dev/siskin/test/process"
)

// StartRateLimits runs Envoy's reference rate limit service on a Redis of its own until the test ends, with the files of a
// ConfigMap in its folder of configurations, and returns a connection to it.
func (p *Plane) StartRateLimits(files map[string]string) *grpc.ClientConn {
	p.tb.Helper()
	redis := p.startRedis()
	folder := filepath.Join(p.tb.TempDir(), "ratelimit", "config")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		p.tb.Fatal(err)
	}
	for name, text := range files {
		p.write(filepath.Join(folder, name), text)
	}
	addr := process.FreeAddr(p.tb)
	env := []string{
		"RUNTIME_ROOT=" + filepath.Dir(filepath.Dir(folder)), "RUNTIME_SUBDIRECTORY=ratelimit", "RUNTIME_WATCH_ROOT=false",
		"RUNTIME_IGNOREDOTFILES=true", "REDIS_SOCKET_TYPE=tcp", "REDIS_URL=" + redis, "USE_STATSD=false", "LOG_LEVEL=debug",
	}
	for prefix, at := range map[string]string{"": process.FreeAddr(p.tb), "DEBUG_": process.FreeAddr(p.tb), "GRPC_": addr} {
		host, port, err := net.SplitHostPort(at)
		if err != nil {
			p.tb.Fatal(err)
		}
		env = append(env, prefix+"HOST="+host, prefix+"PORT="+port)
	}
	service := process.Run(p.tb, p.dir, "ratelimit", p.RateLimit, env)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		p.tb.Fatal(err)
	}
	p.tb.Cleanup(func() { _ = conn.Close() }) // nothing is under way
	p.until("the rate limit service", service, func(ctx context.Context) error {
		_, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: "ratelimit"})
		return err
	})
	return conn
}

func (p *Plane) startRedis() string {
	p.tb.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		p.tb.Fatal("redis-server is not installed: apt-get install redis-server")
	}
	addr := process.FreeAddr(p.tb)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		p.tb.Fatal(err)
	}
	redis := process.Run(p.tb, p.tb.TempDir(), "redis", path, nil, "--bind", host, "--port", port, "--save", "", "--appendonly", "no")
	p.until("Redis", redis, func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return addr
}

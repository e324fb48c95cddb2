package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
)

// startEtcd runs a single-member etcd on free loopback ports and waits until it serves.
func startEtcd(ctx context.Context, dir string, log *slog.Logger) (*embed.Etcd, error) {
	// Port 0 in the advertised URLs too: with one member nobody dials them, and the member keeps its identity when it
	// starts again on other ports.
	loopback := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c := embed.NewConfig()
	c.Dir = dir
	c.ListenClientUrls, c.AdvertiseClientUrls = loopback, loopback
	c.ListenPeerUrls, c.AdvertisePeerUrls = loopback, loopback
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	// The data need not outlive a power cut. Without fsync a write takes tens of microseconds instead of milliseconds.
	c.UnsafeNoFsync = true
	// A single member elects itself after one election timeout, which is 1 s by default.
	c.TickMs, c.ElectionMs = 10, 100
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZapLogger(log))
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("starting etcd in %q: %w", dir, err)
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case err = <-e.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	e.Close()
	return nil, fmt.Errorf("waiting for etcd in %q: %w", dir, err)
}

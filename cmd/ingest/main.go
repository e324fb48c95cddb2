// Command ingest takes telemetry from vehicles over HTTP, keeps it in a Redis stream, asks the model about it through
// the mesh, and exports how far the model is off.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/siskin-dev/siskin/cmd/internal/run"
	"github.com/siskin-dev/siskin/ingest"
	"github.com/siskin-dev/siskin/ingest/redis"
)

func main() { os.Exit(run.Main(run.Options{Name: "ingest", Admin: ":9090"}, bind)) }

// run starts what others lean on first.
func (s *settings) run(ctx context.Context, p *run.Process) error {
	schema, err := ingest.OBD()
	if err != nil {
		return err
	}
	key, err := os.ReadFile(s.keyFile)
	if err != nil {
		return fmt.Errorf("reading the pseudonym key: %w", err)
	}
	names, err := ingest.NewPseudonymiser(key)
	if err != nil {
		return err
	}
	model, err := ingest.NewOIP(s.oip)
	if err != nil {
		return err
	}
	features, err := s.waitFeatures(ctx, p, model)
	if err != nil {
		return err
	}
	s.redis.Schema = schema
	log, err := redis.New(s.redis)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	server, err := ingest.New(ingest.Options{
		Salt: s.salt, Model: s.oip.Model, Features: features, Target: s.target, Logger: p.Log(),
		Schema: schema, Pseudonyms: names, Log: log, Predictor: model, Units: log, Metrics: ingest.NewMetrics(registry),
	})
	if err != nil {
		return err
	}
	p.OnStop("redis", func(context.Context) error { return log.Close() })
	p.Go("log", log.Run)
	p.Go("predictions", server.Run)
	if _, err := p.Serve(ctx, "api", s.listen, server); err != nil {
		return err
	}
	if _, err := p.ServeAdmin(ctx, registry, run.Check{Name: "redis", Do: log.Ping}); err != nil {
		return err
	}
	return p.Wait(ctx)
}

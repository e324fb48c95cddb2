package main

import (
	"context"
	"io/fs"
	"net/http"
	"time"

	"github.com/siskin-dev/siskin/cmd/local/fleet"
	"github.com/siskin-dev/siskin/ingest"
	"github.com/siskin-dev/siskin/ingest/redis"
)

// pseudonymKey is the demo's key: it keeps nothing secret, since the demo's vehicles are made up.
const pseudonymKey = "siskin demo pseudonym key"

// startIngest takes telemetry, once the gateway leads to a model that can say what its inputs are.
func (s *stack) startIngest(ctx context.Context, schema *ingest.Schema) error {
	names, err := ingest.NewPseudonymiser([]byte(pseudonymKey))
	if err != nil {
		return err
	}
	s.names = names
	oip, err := ingest.NewOIP(ingest.OIPOptions{Gateway: s.gateway, Host: host, Model: model})
	if err != nil {
		return err
	}
	features, err := waitFeatures(ctx, oip)
	if err != nil {
		return err
	}
	log, err := redis.New(redis.Options{Addr: s.stores.RedisAddr(), Schema: schema, MaxLen: 20_000})
	if err != nil {
		return err
	}
	registry, err := s.scrape("ingest")
	if err != nil {
		return err
	}
	server, err := ingest.New(ingest.Options{
		Salt: service, Model: model, Features: features, Logger: s.p.Log(),
		Schema: schema, Pseudonyms: names, Log: log, Predictor: oip, Metrics: ingest.NewMetrics(registry),
		Units: log, UnitSpread: 5 * time.Second, // a step of the demo lasts a few seconds
	})
	if err != nil {
		return err
	}
	s.p.OnStop("redis client", func(context.Context) error { return log.Close() })
	s.p.Go("telemetry log", log.Run)
	s.p.Go("predictions", server.Run)
	addr, err := s.p.Serve(ctx, "ingest", "127.0.0.1:0", server)
	if err == nil {
		s.ingest = "http://" + addr.String()
	}
	return err
}

func waitFeatures(ctx context.Context, oip *ingest.OIP) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		features, err := oip.Features(ctx)
		if err == nil {
			return features, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// inFlight bounds the requests of the fleet at one time.
const inFlight = 64

// startFleet lets the vehicles drive.
func (s *stack) startFleet(trips fs.FS, schema *ingest.Schema, o *settings) (*fleet.Fleet, error) {
	all, err := fleet.LoadTrips(trips, schema)
	if err != nil {
		return nil, err
	}
	f, err := fleet.New(fleet.Options{
		URL: s.ingest, Trips: all, Schema: schema, Vehicles: o.vehicles, Rate: o.rate, Seed: 1,
		Stride:    max(1, int(o.speed*fleet.RecordedRate/o.rate)),
		Transport: lossyNetwork{&http.Transport{MaxIdleConnsPerHost: inFlight, MaxConnsPerHost: inFlight}, &s.lost}, MaxInFlight: inFlight,
	})
	if err != nil {
		return nil, err
	}
	s.p.Go("fleet", f.Run)
	return f, nil
}

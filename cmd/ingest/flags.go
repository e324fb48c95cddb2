package main

import (
	"context"
	"flag"
	"strings"
	"time"

	"github.com/siskin-dev/siskin/cmd/internal/run"
	"github.com/siskin-dev/siskin/ingest"
	"github.com/siskin-dev/siskin/ingest/redis"
)

// settings are the flags.
type settings struct {
	listen, keyFile, features, target string
	redis                             redis.Options
	oip                               ingest.OIPOptions
	salt                              string
}

func bind(fs *flag.FlagSet) run.Body {
	var s settings
	fs.StringVar(&s.listen, "listen", ":8080", "address for vehicles")
	fs.StringVar(&s.keyFile, "pseudonym-key-file", "", "file with the secret that turns VINs into pseudonyms, at least 16 bytes")
	fs.StringVar(&s.redis.Addr, "redis", "127.0.0.1:6379", "address of Redis")
	fs.StringVar(&s.redis.Stream, "stream", "siskin:telemetry", "key of the stream")
	fs.Int64Var(&s.redis.MaxLen, "stream-max-len", 1_000_000, "about how many measurements the stream keeps")
	fs.StringVar(&s.oip.Gateway, "gateway", "", "URL of the mesh or model server, such as http://coolant.edge:8080")
	fs.StringVar(&s.oip.Host, "host", "", "Host header of the service; default the gateway's")
	fs.StringVar(&s.oip.Model, "model", "", "name of the model")
	fs.StringVar(&s.features, "features", "", "the model's inputs in order, separated by commas; default: what the model server says")
	fs.StringVar(&s.target, "target", "Vehicle.OBD.CoolantTemperature", "the signal that the model predicts")
	fs.StringVar(&s.salt, "salt", "", "salt of the buckets: the name of the service")
	return s.run
}

// waitFeatures asks the model server until it answers: in a cluster it may start after ingest.
func (s *settings) waitFeatures(ctx context.Context, p *run.Process, model *ingest.OIP) ([]string, error) {
	if s.features != "" {
		return strings.Split(s.features, ","), nil
	}
	for {
		features, err := model.Features(ctx)
		if err == nil {
			return features, nil
		}
		p.Log().Warn("Waited for the model's features", "error", err)
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

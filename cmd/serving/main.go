// Command serving answers predictions of one model over the Open Inference Protocol v2. It loads the model from S3 or a
// directory, and swaps it when what is stored there changes and proves good.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/siskin-dev/siskin/cmd/internal/run"
	"github.com/siskin-dev/siskin/serving"
	"github.com/siskin-dev/siskin/serving/store"
	"github.com/siskin-dev/siskin/serving/trees"
)

func main() { os.Exit(run.Main(run.Options{Name: "serving", Admin: ":9090"}, bind)) }

// settings are the flags.
type settings struct {
	listen, model, version, uri string
	refresh                     time.Duration
	s3                          store.S3Options
}

func bind(fs *flag.FlagSet) run.Body {
	var s settings
	fs.StringVar(&s.listen, "listen", ":8080", "address for inference requests")
	fs.StringVar(&s.model, "model", "model", "name of the model")
	fs.StringVar(&s.version, "version", "1", "version of the model")
	fs.StringVar(&s.uri, "storage-uri", "/mnt/models", "folder of the model: s3://bucket/prefix or a path; {model} and {version} stand for the names")
	fs.StringVar(&s.s3.Endpoint, "s3-endpoint", "", "URL of the S3 service; default Amazon's")
	fs.StringVar(&s.s3.Region, "s3-region", os.Getenv("AWS_DEFAULT_REGION"), "region of the bucket")
	fs.DurationVar(&s.refresh, "refresh", 10*time.Second, "how often to look for a changed model")
	return s.run
}

// run serves before the model is there, so that probes get an answer: 503 until it is.
func (s *settings) run(ctx context.Context, p *run.Process) error {
	s.s3.AccessKey, s.s3.SecretKey = os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	s.s3.SessionToken = os.Getenv("AWS_SESSION_TOKEN")
	if s.refresh <= 0 {
		return fmt.Errorf("reading refresh %v: want more than 0", s.refresh)
	}
	source, err := store.Open(s.uri, s.s3)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	repo := serving.NewRepository(serving.RepositoryOptions{
		Source: source, Decode: trees.Decode, Metrics: serving.NewMetrics(registry),
	})
	repo.Expect(s.model, s.version)
	p.Go("models", func(ctx context.Context) error { return s.watch(ctx, p, repo) })
	if _, err := p.Serve(ctx, "api", s.listen, serving.NewHandler(repo, serving.HandlerOptions{})); err != nil {
		return err
	}
	ready := run.Check{Name: "models", Do: func(context.Context) error { return repo.Ready() }}
	if _, err := p.ServeAdmin(ctx, registry, ready); err != nil {
		return err
	}
	return p.Wait(ctx)
}

// watch loads the model and again whenever it changes. A load that fails is logged and tried again at the next turn.
func (s *settings) watch(ctx context.Context, p *run.Process, repo *serving.Repository) error {
	for {
		swapped, err := repo.Refresh(ctx, s.model, s.version)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the process stops
		case err != nil:
			p.Log().Error("Kept the model that was served before", "error", err)
		case swapped:
			p.Log().Info("Put a model in place", "model", s.model, "version", s.version)
		}
		// Up to a tenth more, so that replicas that started together do not ask together for ever.
		wait := time.NewTimer(s.refresh + rand.N(s.refresh/10+1))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
	}
}

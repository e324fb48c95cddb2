// Command energy runs on every node: it reads the node's energy and CPU clocks and exports the joules of each pod and
// of each model version's inferences.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/siskin-dev/siskin/cmd/internal/run"
	"github.com/siskin-dev/siskin/cmd/internal/usage"
	"github.com/siskin-dev/siskin/energy"
	"github.com/siskin-dev/siskin/energy/cgroup"
)

func main() { os.Exit(run.Main(run.Options{Name: "energy", Admin: ":9102"}, bind)) }

// run joins meter, clocks and collector.
func (s *settings) run(ctx context.Context, p *run.Process) error {
	if s.interval < minInterval || s.interval > maxInterval {
		return fmt.Errorf("checking --interval %v: must be %v to %v", s.interval, minInterval, maxInterval)
	}
	node := cgroup.NewNode(s.procfs)
	meter, static, err := s.meter(p.Log(), node)
	if err != nil {
		return err
	}
	parties, err := s.usage(ctx)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	collector, err := energy.NewCollector(energy.Options{
		StaticMicrowatts: static, Metrics: energy.NewMetrics(s.labelled(registry)), Log: p.Log(),
		Meter: meter, Usage: parties, Busy: node, Now: time.Now, Ticks: ticker.C,
	})
	if err != nil {
		return err
	}
	p.Go("collector", collector.Run)
	if _, err := p.ServeAdmin(ctx, registry, run.Check{Name: "meter", Do: measuring(collector)}); err != nil {
		return err
	}
	return p.Wait(ctx)
}

// measuring is ready when every reader has answered once.
func measuring(c *energy.Collector) func(context.Context) error {
	return func(context.Context) error {
		if len(c.Totals().Zones) == 0 {
			return errors.New("no reading yet")
		}
		return nil
	}
}

// usage joins pods and model servers.
func (s *settings) usage(ctx context.Context) (energy.Usage, error) {
	var sources []energy.Usage
	nested := false
	if s.cgroupRoot != "" {
		pods, err := cgroup.NewPods(s.cgroupRoot)
		if err != nil {
			return nil, err
		}
		found, err := pods.Usage()
		if err != nil {
			return nil, err
		}
		nested = len(found) > 0
		sources = append(sources, pods)
	}
	for _, t := range s.targets {
		if nested && t.Instance == "" {
			return nil, fmt.Errorf("checking --serving-metrics %q: must be POD_UID=%s on a node with pods, "+
				"or its CPU time would count twice", t.URL, t.URL)
		}
	}
	if len(s.targets) > 0 {
		sources = append(sources, usage.NewScraper(context.WithoutCancel(ctx), s.targets))
	}
	return joined(sources), nil
}

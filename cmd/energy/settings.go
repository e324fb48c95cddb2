package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/siskin-dev/siskin/cmd/internal/run"
	"github.com/siskin-dev/siskin/cmd/internal/usage"
	"github.com/siskin-dev/siskin/energy"
	"github.com/siskin-dev/siskin/energy/rapl"
)

// The interval must outlast RAPL's own update (1 ms) and the kernel's tick (10 ms) many times over, and be half of the
// fastest wrap at 2 kW (65.5 kJ: 32 s) or less.
const (
	minInterval = 100 * time.Millisecond
	maxInterval = 15 * time.Second
)

// settings are the flags.
type settings struct {
	sysfs, procfs, cgroupRoot, nodeName string
	staticWatts, wattsPerCPU            float64
	interval                            time.Duration
	targets                             []usage.Target
}

func bind(fs *flag.FlagSet) run.Body {
	var s settings
	fs.StringVar(&s.sysfs, "sysfs", "/sys", "where sysfs is mounted")
	fs.StringVar(&s.procfs, "procfs", "/proc", "where procfs is mounted")
	fs.StringVar(&s.cgroupRoot, "cgroup-root", "/sys/fs/cgroup", "where cgroups are mounted; empty to read no pods")
	fs.StringVar(&s.nodeName, "node-name", "", "value of the label node on every metric; empty for no such label")
	fs.Float64Var(&s.staticWatts, "static-watts", math.NaN(),
		"power of the idle node; unset, 0 where it is measured and 0.74 W per CPU where it is modelled")
	fs.Float64Var(&s.wattsPerCPU, "watts-per-cpu", energy.DefaultDynamicPerCPU/1e6,
		"power of a busy CPU beyond idle, for machines that cannot be measured")
	fs.DurationVar(&s.interval, "interval", 5*time.Second, "time between readings, 100ms to 15s")
	fs.Func("serving-metrics", "metrics of model servers on this node, as [POD_UID=]URL, separated by commas; may repeat", s.addTargets)
	return s.run
}

func (s *settings) addTargets(list string) error {
	for text := range strings.SplitSeq(list, ",") {
		target, err := usage.ParseTarget(text)
		if err != nil {
			return err
		}
		s.targets = append(s.targets, target)
	}
	return nil
}

// labelled puts the node's name on every metric.
func (s *settings) labelled(reg prometheus.Registerer) prometheus.Registerer {
	if s.nodeName == "" {
		return reg
	}
	return prometheus.WrapRegistererWith(prometheus.Labels{"node": s.nodeName}, reg)
}

// meter is the node's counters, or a model where it has none, with the idle power in microwatts.
func (s *settings) meter(log *slog.Logger, busy energy.Busy) (energy.Meter, uint64, error) {
	measured, err := rapl.New(rapl.Options{Sysfs: s.sysfs})
	if err != nil {
		return s.model(log, busy, err)
	}
	if problems := measured.Problems(); problems != nil {
		log.Warn("Some energy zones were left out", "problems", problems)
	}
	if math.IsNaN(s.staticWatts) {
		log.Info("Idle power was not given and all energy counts as dynamic", "flag", "static-watts")
		return measured, 0, nil
	}
	static, err := energy.Microwatts(s.staticWatts)
	if err != nil {
		return nil, 0, fmt.Errorf("checking --static-watts: %w", err)
	}
	return measured, static, nil
}

func (s *settings) model(log *slog.Logger, busy energy.Busy, why error) (energy.Meter, uint64, error) {
	now, err := busy.Busy()
	if err != nil {
		return nil, 0, err
	}
	static := uint64(energy.DefaultStaticPerCPU) * now.CPUs
	if !math.IsNaN(s.staticWatts) {
		if static, err = energy.Microwatts(s.staticWatts); err != nil {
			return nil, 0, fmt.Errorf("checking --static-watts: %w", err)
		}
	}
	perCPU, err := energy.Microwatts(s.wattsPerCPU)
	if err != nil {
		return nil, 0, fmt.Errorf("checking --watts-per-cpu: %w", err)
	}
	log.Warn("Energy cannot be measured and is modelled", "reason", why,
		"staticWatts", float64(static)/1e6, "wattsPerCPU", float64(perCPU)/1e6)
	model, err := energy.NewModel(energy.ModelOptions{Static: static, PerCPU: perCPU, Busy: busy, Now: time.Now})
	return model, static, err
}

// joined reads several sources as one: what one cannot tell is missing, the others are read.
func joined(sources []energy.Usage) energy.Usage {
	return energy.UsageFunc(func() ([]energy.Party, error) {
		var all []energy.Party
		var errs []error
		for _, s := range sources {
			parties, err := s.Usage()
			all, errs = append(all, parties...), append(errs, err)
		}
		return all, errors.Join(errs...)
	})
}

package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strconv"
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
	// static is nil if it was not given; both are in microwatts.
	static   *uint64
	perCPU   uint64
	interval time.Duration
	targets  []usage.Target
}

func bind(fs *flag.FlagSet) run.Body {
	var s settings
	fs.StringVar(&s.sysfs, "sysfs", "/sys", "where sysfs is mounted")
	fs.StringVar(&s.procfs, "procfs", "/proc", "where procfs is mounted")
	fs.StringVar(&s.cgroupRoot, "cgroup-root", "/sys/fs/cgroup", "where cgroups are mounted; empty to read no pods")
	fs.StringVar(&s.nodeName, "node-name", "", "value of the label node on every metric; empty for no such label")
	fs.Func("static-watts", "power of the idle node (default 0 where it is measured, 0.74 per CPU where it is modelled)",
		func(text string) (err error) {
			s.static = new(uint64)
			*s.static, err = parseWatts(text)
			return err
		})
	s.perCPU = energy.DefaultDynamicPerCPU
	fs.Func("watts-per-cpu", "power of a busy CPU beyond idle, for machines that cannot be measured (default 2.76)",
		func(text string) (err error) {
			s.perCPU, err = parseWatts(text)
			return err
		})
	fs.DurationVar(&s.interval, "interval", 5*time.Second, "time between readings, 100ms to 15s")
	fs.Func("serving-metrics", "metrics of model servers on this node, as [POD_UID=]URL, separated by commas; may repeat", s.addTargets)
	return s.run
}

func parseWatts(text string) (uint64, error) {
	watts, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("parsing watts %q: must be a number", text)
	}
	return energy.Microwatts(watts)
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
	if s.static == nil {
		log.Info("Idle power was not given and all energy counts as dynamic", "flag", "static-watts")
		return measured, 0, nil
	}
	return measured, *s.static, nil
}

func (s *settings) model(log *slog.Logger, busy energy.Busy, why error) (energy.Meter, uint64, error) {
	now, err := busy.Busy()
	if err != nil {
		return nil, 0, err
	}
	static := energy.DefaultStaticPerCPU * now.CPUs
	if s.static != nil {
		static = *s.static
	}
	log.Warn("Energy cannot be measured and is modelled", "reason", why,
		"staticWatts", float64(static)/1e6, "wattsPerCpu", float64(s.perCPU)/1e6)
	model, err := energy.NewModel(energy.ModelOptions{Static: static, PerCPU: s.perCPU, Busy: busy, Now: time.Now})
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

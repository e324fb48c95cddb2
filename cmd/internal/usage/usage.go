// Package usage reads from serving's metrics what each model version has used, as parties to attribute energy to.
//
// Serving counts the CPU time of its threads by model and version. The metrics come from a registry in the same process
// or from another process by HTTP; either way the two counters of a version are of one scrape, so they fit together.
package usage

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/siskin-dev/siskin/energy"
)

// The metrics read, all with labels model and version.
const (
	cpuMetric        = "siskin_serving_cpu_seconds_total"
	inferencesMetric = "siskin_inferences_total"
	// servingPrefix tells the page of a server that has no version yet from that of something else.
	servingPrefix = "siskin_serving_"
)

// Gatherer reads the versions from a registry of this process. The instance names the process; it may be empty.
func Gatherer(g prometheus.Gatherer, instance string) energy.Usage {
	return energy.UsageFunc(func() ([]energy.Party, error) {
		families, err := g.Gather()
		if err != nil {
			return nil, fmt.Errorf("gathering serving metrics: %w", err)
		}
		return parties(families, instance)
	})
}

// parties turns a page of metrics into parties, in the order of model and version. A version without CPU time, even 0, is
// none.
func parties(families []*dto.MetricFamily, instance string) ([]energy.Party, error) {
	cpu, err := byVersion(families, cpuMetric, 1e9)
	if err != nil {
		return nil, err
	}
	inferences, err := byVersion(families, inferencesMetric, 1)
	if err != nil {
		return nil, err
	}
	var found []energy.Party
	for id, nanoseconds := range cpu {
		p := energy.Party{ID: id, CPU: nanoseconds, Inferences: inferences[id]}
		p.Instance = instance
		found = append(found, p)
	}
	slices.SortFunc(found, func(a, b energy.Party) int {
		return cmp.Or(strings.Compare(a.Model, b.Model), strings.Compare(a.Version, b.Version))
	})
	return found, nil
}

// byVersion reads one metric by model and version, in 1/unit of its own unit.
func byVersion(families []*dto.MetricFamily, name string, unit float64) (map[energy.ID]uint64, error) {
	values := map[energy.ID]uint64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			id := versionOf(m)
			n, err := whole(m, unit)
			if err == nil && id.Model == "" {
				err = errors.New("must have the label model")
			}
			if err != nil {
				return nil, fmt.Errorf("reading metric %q: %w", name, err)
			}
			values[id] += n
		}
	}
	return values, nil
}

func versionOf(m *dto.Metric) energy.ID {
	var id energy.ID
	for _, l := range m.GetLabel() {
		switch l.GetName() {
		case "model":
			id.Model = l.GetValue()
		case "version":
			id.Version = l.GetValue()
		}
	}
	return id
}

// whole turns a counter's value into whole units.
func whole(m *dto.Metric, unit float64) (uint64, error) {
	v := m.GetCounter().GetValue() * unit
	if m.GetCounter() == nil {
		v = m.GetUntyped().GetValue() * unit
	}
	if math.IsNaN(v) || v < 0 || v >= math.MaxInt64 {
		return 0, fmt.Errorf("reading value %v: must be a count of 0 or more", v/unit)
	}
	return uint64(math.Round(v)), nil
}

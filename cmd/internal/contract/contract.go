// Package contract knows every metric that Siskin's code exports, from the code itself, so that dashboards and alerts can
// be held to it.
package contract

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/siskin-dev/siskin/energy"
	"github.com/siskin-dev/siskin/ingest"
	"github.com/siskin-dev/siskin/mesh/gateway"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/serving"
)

// Metrics maps the name of each series that can be queried to its labels, sorted. A histogram has its three series.
type Metrics map[string][]string

// Emitted asks every room for its metrics. The gateway's include Istio's, under Istio's names and labels.
func Emitted() (Metrics, error) {
	c := &collector{metrics: Metrics{}}
	gateway.NewMetrics(c)
	ingest.NewMetrics(c)
	serving.NewMetrics(c)
	energy.NewMetrics(c)
	controller.NewMetrics(c)
	return c.metrics, c.err
}

// Check says which of a query's labels the metric does not have.
func (m Metrics) Check(metric string, labels []string) error {
	known, ok := m[metric]
	if !ok {
		return fmt.Errorf("metric %q: no code exports it", metric)
	}
	for _, l := range labels {
		if !slices.Contains(known, l) {
			return fmt.Errorf("metric %q has no label %q: it has %q", metric, l, known)
		}
	}
	return nil
}

// Names returns the names, sorted.
func (m Metrics) Names() []string { return slices.Sorted(maps.Keys(m)) }

// collector is a registerer that reads descriptions. The library keeps their fields private and prints them.
type collector struct {
	metrics Metrics
	err     error
}

var (
	described = regexp.MustCompile(`^Desc\{fqName: "([^"]+)".*variableLabels: \{([^}]*)\}\}$`)
	constant  = regexp.MustCompile(`constLabels: \{([^}]*)\}`)
	constName = regexp.MustCompile(`(\w+)=`)
)

// Register implements prometheus.Registerer.
func (c *collector) Register(from prometheus.Collector) error {
	ch := make(chan *prometheus.Desc)
	go func() { from.Describe(ch); close(ch) }()
	for d := range ch {
		if err := c.add(from, d.String()); err != nil {
			return err
		}
	}
	return nil
}

// MustRegister implements prometheus.Registerer. It keeps the error for Emitted to return.
func (c *collector) MustRegister(all ...prometheus.Collector) {
	for _, one := range all {
		if err := c.Register(one); err != nil && c.err == nil {
			c.err = err
		}
	}
}

// Unregister implements prometheus.Registerer.
func (*collector) Unregister(prometheus.Collector) bool { return false }

func (c *collector) add(from prometheus.Collector, desc string) error {
	parts := described.FindStringSubmatch(desc)
	if parts == nil {
		return fmt.Errorf("reading description %q: form is not known", desc)
	}
	name, labels := parts[1], strings.FieldsFunc(parts[2], func(r rune) bool { return r == ',' || r == ' ' })
	for _, l := range constName.FindAllStringSubmatch(constant.FindStringSubmatch(desc)[1], -1) {
		labels = append(labels, l[1])
	}
	slices.Sort(labels)
	if !isHistogram(from) {
		c.metrics[name] = labels
		return nil
	}
	c.metrics[name+"_sum"], c.metrics[name+"_count"] = labels, labels
	c.metrics[name+"_bucket"] = append(slices.Clone(labels), "le")
	return nil
}

func isHistogram(c prometheus.Collector) bool {
	switch c.(type) {
	case *prometheus.HistogramVec, prometheus.Histogram:
		return true
	}
	return false
}

package energy

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics shows a collector's books to Prometheus. Counters are computed from the integers at each scrape, so that they
// are as exact as a float64 is. A nil *Metrics shows nothing.
//
// Do not sum zones (they overlap), nor the scopes of inference and pod joules (full includes dynamic), nor pod joules
// with inference joules (the pod's include its versions').
type Metrics struct {
	// mu guards info and totals, set when a collector is created while scrapes may already run.
	mu     sync.Mutex
	info   Info
	totals func() Totals
}

// Descriptions of what Metrics collects.
var (
	inferenceJoules = desc("siskin_inference_joules_total",
		"Energy that a model version's inferences used. Scope full adds the version's share of the idle node to dynamic.",
		"model", "version", "scope", "source")
	inferences = desc("siskin_energy_inferences_total",
		"Inferences answered in the intervals that siskin_inference_joules_total covers.", "model", "version")
	podJoules = desc("siskin_energy_pod_joules_total",
		"Energy that a pod used, its model versions included.", "pod_uid", "scope", "source")
	nodeJoules = desc("siskin_energy_node_joules_total",
		"Energy measured by zone since the start. Zones overlap.", "zone", "source")
	measuredJoules = desc("siskin_energy_measured_joules_total",
		"Energy of the zones that do not overlap: attributed + idle + unallocated.", "source")
	attributedJoules = desc("siskin_energy_attributed_joules_total",
		"Dynamic energy of all parties, the system included.", "source")
	systemJoules = desc("siskin_energy_system_joules_total",
		"Dynamic energy of what is no party: kernel, daemons, other processes.", "source")
	idleJoules = desc("siskin_energy_idle_joules_total",
		"Energy of the idle node given to parties by their CPU requests.", "source")
	unallocatedJoules = desc("siskin_energy_unallocated_joules_total",
		"Energy of the idle node that no party requested.", "source")
	residual = desc("siskin_energy_attribution_residual_microjoules",
		"Measured less attributed, idle and unallocated energy. Anything but 0 is a bug.")
	meterInfo = desc("siskin_energy_meter_info",
		"Where energy readings come from, and whether they are measured or modelled.", "source", "quality")
	readFailures = desc("siskin_energy_read_failures_total",
		"Reads that failed in whole or in part.", "reader")
	refusals = desc("siskin_energy_refused_readings_total",
		"Readings refused because they cannot be true.", "reader", "reason")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// NewMetrics registers the metrics. A nil registerer is allowed, and shows nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{}
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
}

func (m *Metrics) show(info Info, totals func() Totals) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.info, m.totals = info, totals
}

// Describe sends every description.
func (*Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		inferenceJoules, inferences, podJoules, nodeJoules, measuredJoules, attributedJoules, systemJoules, idleJoules,
		unallocatedJoules, residual, meterInfo, readFailures, refusals,
	} {
		ch <- d
	}
}

// Collect sends the books as they are now.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	info, totals := m.info, m.totals
	m.mu.Unlock()
	if totals == nil {
		return
	}
	s := sender{ch: ch, source: info.Source}
	t := totals()
	ch <- prometheus.MustNewConstMetric(meterInfo, prometheus.GaugeValue, 1, info.Source, info.Quality)
	ch <- prometheus.MustNewConstMetric(residual, prometheus.GaugeValue, float64(t.Residual()))
	s.node(t)
	s.health(t)
	s.parties(t)
}

// sender turns integers into metrics.
type sender struct {
	ch     chan<- prometheus.Metric
	source string
}

func (s sender) count(d *prometheus.Desc, n uint64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (s sender) joules(d *prometheus.Desc, microjoules uint64, labels ...string) {
	v := float64(microjoules) / 1e6
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, append(labels, s.source)...)
}

func (s sender) node(t Totals) {
	for _, z := range t.Zones {
		s.joules(nodeJoules, z.Microjoules, z.Name)
	}
	s.joules(measuredJoules, t.Measured)
	s.joules(attributedJoules, t.Attributed())
	s.joules(systemJoules, t.System)
	s.joules(idleJoules, t.Idle())
	s.joules(unallocatedJoules, t.Unallocated)
}

func (s sender) health(t Totals) {
	for _, r := range []Reader{ReaderMeter, ReaderUsage, ReaderBusy} {
		s.count(readFailures, t.Failures[r], string(r))
		for _, o := range []Outcome{Reset, Jump, Sentinel} {
			s.count(refusals, t.Refusals[Refusal{r, o}], string(r), string(o))
		}
	}
}

// parties sums over the instances of a version, and over the versions in an instance.
func (s sender) parties(t Totals) {
	versions, pods := map[ID]PartyTotal{}, map[string]PartyTotal{}
	for _, p := range t.Parties {
		if p.Model == "" {
			pods[p.Instance] = p
			continue
		}
		key := ID{Model: p.Model, Version: p.Version}
		versions[key] = versions[key].plus(p)
	}
	for _, p := range t.Parties {
		if pod, ok := pods[p.Instance]; ok && p.Model != "" {
			pods[p.Instance] = pod.plus(p)
		}
	}
	for id, v := range versions {
		s.joules(inferenceJoules, v.Dynamic, id.Model, id.Version, "dynamic")
		s.joules(inferenceJoules, v.Dynamic+v.Idle, id.Model, id.Version, "full")
		s.count(inferences, v.Inferences, id.Model, id.Version)
	}
	for uid, p := range pods {
		s.joules(podJoules, p.Dynamic, uid, "dynamic")
		s.joules(podJoules, p.Dynamic+p.Idle, uid, "full")
	}
}

func (p PartyTotal) plus(q PartyTotal) PartyTotal {
	p.Dynamic += q.Dynamic
	p.Idle += q.Idle
	p.Inferences += q.Inferences
	return p
}

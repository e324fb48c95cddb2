package serving

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the server does. Model and version are the repository's names, never a client's words: requests
// for a model that is not there are counted with both labels empty.
type Metrics struct {
	requests     *prometheus.CounterVec
	duration     *prometheus.HistogramVec
	cpuSeconds   *prometheus.CounterVec
	inferences   *prometheus.CounterVec
	info         *prometheus.GaugeVec
	loadFailures *prometheus.CounterVec
}

// NewMetrics registers the server's metrics; with a nil registerer nobody sees them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	version := []string{"model", "version"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(version, labels...))
	}
	m := &Metrics{
		requests: counter("siskin_serving_requests_total", "Inference requests by HTTP status code.", "code"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "siskin_serving_request_duration_seconds",
			Help:    "Time from the first byte of an inference request to its answer, failures included.",
			Buckets: durationBuckets(),
		}, version),
		cpuSeconds:   counter("siskin_serving_cpu_seconds_total", "CPU time of the answering threads: decoding, predicting and encoding."),
		inferences:   counter("siskin_inferences_total", "Rows predicted."),
		info:         prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "siskin_serving_model_info", Help: "1 for each version that answers requests, with its format."}, append(version, "format")),
		loadFailures: counter("siskin_serving_model_load_failures_total", "Loads that failed to be fetched, decoded or verified; what was served before is still served."),
	}
	if r != nil {
		r.MustRegister(m.requests, m.duration, m.cpuSeconds, m.inferences, m.info, m.loadFailures)
	}
	return m
}

// durationBuckets are the mesh's bounds from 0.5 ms to 10 s, in seconds, with two below for what trees take.
func durationBuckets() []float64 {
	return []float64{0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
}

// expect makes a version's counters visible at 0 before the first event, so that a rate sees the first one.
func (m *Metrics) expect(model, version string) {
	m.loadFailures.WithLabelValues(model, version)
	m.inferences.WithLabelValues(model, version)
	m.cpuSeconds.WithLabelValues(model, version)
	m.requests.WithLabelValues(model, version, "200")
}

func (m *Metrics) loaded(model, version, format string) {
	m.info.DeletePartialMatch(prometheus.Labels{"model": model, "version": version})
	m.info.WithLabelValues(model, version, format).Set(1)
}

func (m *Metrics) loadFailed(model, version string) {
	m.loadFailures.WithLabelValues(model, version).Inc()
}

func (m *Metrics) refused(code int) { m.requests.WithLabelValues("", "", strconv.Itoa(code)).Inc() }

// modelMetrics are the series of one version, found once.
type modelMetrics struct {
	requests *prometheus.CounterVec
	ok       prometheus.Counter
	duration prometheus.Observer
	seconds  prometheus.Counter
	rows     prometheus.Counter
}

func (m *Metrics) model(name, version string) *modelMetrics {
	requests := m.requests.MustCurryWith(prometheus.Labels{"model": name, "version": version})
	return &modelMetrics{
		requests: requests,
		ok:       requests.WithLabelValues("200"),
		duration: m.duration.WithLabelValues(name, version),
		seconds:  m.cpuSeconds.WithLabelValues(name, version),
		rows:     m.inferences.WithLabelValues(name, version),
	}
}

func (m *modelMetrics) request(code int, d time.Duration) {
	m.duration.Observe(d.Seconds())
	if code == 200 {
		m.ok.Inc()
		return
	}
	m.requests.WithLabelValues(strconv.Itoa(code)).Inc()
}

// cpu adds what a thread spent. A clock that stands still (other systems than Linux) or runs back adds nothing: the
// counter must not fall.
func (m *modelMetrics) cpu(d time.Duration) {
	if d > 0 {
		m.seconds.Add(d.Seconds())
	}
}

func (m *modelMetrics) inferences(rows int) { m.rows.Add(float64(rows)) }

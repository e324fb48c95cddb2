package ingest

import (
	"math"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/siskin-dev/siskin/rollout"
)

// result says what became of a measurement that was sent. The set is closed: it is a metric label.
type result string

// accepted and duplicate are acknowledged; every other result means that the vehicle still holds the measurement.
const (
	accepted    result = "accepted"
	duplicate   result = "duplicate"
	malformedIn result = "malformed"
	invalid     result = "invalid"
	tooLarge    result = "too_large"
	unsupported result = "unsupported"
	regression  result = "regression"
	overload    result = "overload"
	vehicleBusy result = "vehicle_busy"
	unavailable result = "unavailable"
)

// Reasons why a measurement that is in the log got no prediction. The sets are closed: they are metric labels.
const (
	dropLane     = "lane_full"
	dropQueue    = "queue_full"
	dropShutdown = "shutdown"

	skipEngine = "engine_off"
	skipTruth  = "no_truth"
)

// maxVersions bounds the version label: a version comes from outside. Each costs 2 x 100 series.
const maxVersions = 16

// Metrics are the room's counters. Use NewMetrics.
type Metrics struct {
	measurements *prometheus.CounterVec
	dropped      *prometheus.CounterVec
	skipped      *prometheus.CounterVec
	failures     *prometheus.CounterVec
	predictions  *prometheus.CounterVec
	errors       *prometheus.CounterVec
	units        *prometheus.CounterVec
	inFlight     prometheus.Gauge
	queued       prometheus.Gauge
	appends      prometheus.Histogram

	mu       sync.Mutex
	versions []modelVersion // most recently seen last
}

type modelVersion struct{ model, version string }

// NewMetrics registers the metrics. A nil registerer keeps them unregistered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		measurements: counter("siskin_ingest_measurements_total",
			"Measurements sent by vehicles, by what became of them. A request refused before it was decoded counts as one.", "result"),
		dropped: counter("siskin_ingest_dropped_total",
			"Measurements that are safe in the log but got no prediction, by reason.", "reason"),
		skipped: counter("siskin_ingest_unscored_total",
			"Measurements that a prediction cannot be held against, by reason: engine_off (or just started), no_truth.", "reason"),
		failures: counter("siskin_ingest_prediction_failures_total",
			"Predictions that failed, by reason.", "model", "reason"),
		predictions: counter("siskin_predictions_total",
			"Predictions held against the measured value, by version that answered and bucket of the vehicle.", "model", "version", "bucket"),
		errors: counter("siskin_prediction_absolute_error_total",
			"Sum of |prediction - measured value|, in the unit of the model's target. Divide by siskin_predictions_total.",
			"model", "version", "bucket"),
		units: counter("siskin_units_total",
			"Units newly assigned, by version that answered: each is counted once while the same versions answer. Nothing is counted while one version answers alone.",
			"model", "version"),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "siskin_ingest_requests_in_flight", Help: "Requests of vehicles being answered.",
		}),
		queued: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "siskin_ingest_queue_items", Help: "Measurements that wait for their prediction.",
		}),
		appends: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "siskin_ingest_append_duration_seconds", Help: "Time to write one batch to the log, waiting for its group included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
		}),
	}
	m.preset()
	if reg != nil {
		reg.MustRegister(m.measurements, m.dropped, m.skipped, m.failures, m.predictions, m.errors, m.units, m.inFlight, m.queued, m.appends)
	}
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// preset shows the closed label sets at 0 from the start, so that the first event is a rise.
func (m *Metrics) preset() {
	for _, r := range []result{
		accepted, duplicate, malformedIn, invalid, tooLarge, unsupported, regression, overload, vehicleBusy, unavailable,
	} {
		m.measurements.WithLabelValues(string(r))
	}
	for _, r := range []string{dropLane, dropQueue, dropShutdown} {
		m.dropped.WithLabelValues(r)
	}
	for _, r := range []string{skipEngine, skipTruth} {
		m.skipped.WithLabelValues(r)
	}
}

// presetModel does the same for one model's failures.
func (m *Metrics) presetModel(model string) {
	for _, r := range reasons() {
		m.failures.WithLabelValues(model, string(r))
	}
}

func (m *Metrics) measured(r result, n int) {
	m.measurements.WithLabelValues(string(r)).Add(float64(n))
}

func (m *Metrics) drop(reason string, n int) { m.dropped.WithLabelValues(reason).Add(float64(n)) }

func (m *Metrics) skip(reason string) { m.skipped.WithLabelValues(reason).Inc() }

func (m *Metrics) failed(model string, reason Reason) {
	m.failures.WithLabelValues(model, string(reason)).Inc()
}

// scored adds one prediction and its error.
func (m *Metrics) scored(model string, bucket int, p Prediction, truth float64) {
	m.remember(modelVersion{model, p.Version})
	b := rollout.FormatBucket(bucket)
	m.predictions.WithLabelValues(model, p.Version, b).Inc()
	m.errors.WithLabelValues(model, p.Version, b).Add(math.Abs(p.Value - truth))
}

// assigned adds one unit to those that a version was assigned.
func (m *Metrics) assigned(model, version string) { m.units.WithLabelValues(model, version).Inc() }

// remember keeps the versions with series few: beyond maxVersions the one unseen for longest loses its series.
func (m *Metrics) remember(v modelVersion) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := len(m.versions) - 1
	for i := last; i >= 0; i-- {
		if m.versions[i] == v {
			copy(m.versions[i:], m.versions[i+1:])
			m.versions[last] = v
			return
		}
	}
	m.versions = append(m.versions, v)
	m.units.WithLabelValues(v.model, v.version) // at 0, so that the first unit is a rise
	if len(m.versions) <= maxVersions {
		return
	}
	gone := prometheus.Labels{"model": m.versions[0].model, "version": m.versions[0].version}
	m.versions = append(m.versions[:0], m.versions[1:]...)
	m.predictions.DeletePartialMatch(gone)
	m.errors.DeletePartialMatch(gone)
	m.units.DeletePartialMatch(gone)
}

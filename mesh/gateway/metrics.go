package gateway

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what the gateway counts. The names and labels of istio_* are Istio's, so that the same queries work on a
// mesh and here.
type Metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	refused   *prometheus.GaugeVec
	applied   prometheus.Gauge
	loads     prometheus.Counter
	unready   prometheus.Counter
	retries   prometheus.Counter
	mirrored  *prometheus.CounterVec
}

// NewMetrics registers the metrics. With a nil registerer nothing is registered.
func NewMetrics(r prometheus.Registerer) *Metrics {
	labels := []string{
		"reporter", "source_workload", "source_workload_namespace", "destination_workload", "destination_workload_namespace",
		"destination_service", "destination_service_name", "destination_service_namespace", "destination_version",
		"destination_canonical_revision", "destination_app", "request_protocol", "response_code", "response_flags",
		"connection_security_policy",
	}
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "istio_requests_total", Help: "Requests by destination, response code and response flags.",
		}, labels),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{ //nolint:promlinter // Istio's name
			Name:    "istio_request_duration_milliseconds",
			Help:    "Time from a request's arrival to the end of its response, in milliseconds.",
			Buckets: durationBounds(),
		}, labels),
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "siskin_gateway_refused_objects", Help: "1 for each object whose present version the gateway refuses.",
		}, []string{"kind", "namespace", "name"}),
		applied: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "siskin_gateway_config_applied_timestamp_seconds", Help: "When the table in force was applied, as Unix time.",
		}),
		loads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "siskin_gateway_config_loads_total", Help: "Tables that were applied.",
		}),
		unready: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "siskin_gateway_unready_requests_total", Help: "Requests answered with 503 before the first table. istio_requests_total does not count them.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "siskin_gateway_retries_total", Help: "Requests that were sent upstream again.",
		}),
		mirrored: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "siskin_gateway_mirrored_requests_total", Help: "Copies of requests by result: sent, failed, or dropped because the body or the number of copies in flight was too large.",
		}, []string{"result"}),
	}
	for _, result := range []string{mirrorSent, mirrorFailed, mirrorDropped} {
		m.mirrored.WithLabelValues(result)
	}
	if r != nil {
		r.MustRegister(m.requests, m.durations, m.refused, m.applied, m.loads, m.unready, m.retries, m.mirrored)
	}
	return m
}

// Results of a mirrored request.
const (
	mirrorSent    = "sent"
	mirrorFailed  = "failed"
	mirrorDropped = "dropped"
)

// durationBounds are Istio's, in milliseconds.
func durationBounds() []float64 {
	return []float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000}
}

// outcome is what differs between the requests of one destination. Its values are few: codes are three digits and
// flags are the gateway's own.
type outcome struct {
	code  int
	flags string
	grpc  bool
}

// series counts the requests of one destination. Looking an outcome up allocates nothing and takes no lock.
type series struct {
	metrics *Metrics
	source  Identity
	peer    peer
	// mu serialises writers of children, which is replaced and never changed.
	mu       sync.Mutex
	children atomic.Pointer[map[outcome]child]
}

type child struct {
	requests  prometheus.Counter
	durations prometheus.Observer
}

func (s *series) observe(o outcome, took time.Duration) {
	c, ok := s.known()[o]
	if !ok {
		c = s.add(o)
	}
	c.requests.Inc()
	c.durations.Observe(float64(took) / float64(time.Millisecond))
}

func (s *series) known() map[outcome]child {
	if children := s.children.Load(); children != nil {
		return *children
	}
	return nil
}

func (s *series) add(o outcome) child {
	s.mu.Lock()
	defer s.mu.Unlock()
	protocol := "http"
	if o.grpc {
		protocol = "grpc"
	}
	p := s.peer
	values := []string{
		"source", s.source.Workload, orUnknown(s.source.Namespace), p.workload, p.workloadNamespace,
		p.service, p.serviceName, p.serviceNamespace, p.version, p.revision, p.app,
		protocol, strconv.Itoa(o.code), o.flags, unknown,
	}
	c := child{requests: s.metrics.requests.WithLabelValues(values...), durations: s.metrics.durations.WithLabelValues(values...)}
	children := maps.Clone(s.known())
	if children == nil {
		children = map[outcome]child{}
	}
	children[o] = c
	s.children.Store(&children)
	return c
}

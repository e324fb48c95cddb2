package gateway

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/siskin-dev/siskin/mesh"
)

// Metrics are what the gateway counts. The names and labels of istio_* are Istio's, so that the same queries work on a
// mesh and here.
type Metrics struct {
	// bucketHeader is the header whose bucket labels requests; empty for none.
	bucketHeader string

	sent      *prometheus.CounterVec
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	refused   *prometheus.GaugeVec
	applied   prometheus.Gauge
	loads     prometheus.Counter
	unready   prometheus.Counter
	retries   prometheus.Counter
	mirrored  *prometheus.CounterVec
	answers   *prometheus.CounterVec
}

// BucketLabel is the label of istio_requests_total that holds the unit's bucket, where it is counted.
const BucketLabel = "siskin_bucket"

// MetricsOptions configure Metrics. The zero value counts what Istio counts.
type MetricsOptions struct {
	// BucketHeader names the request header that holds the unit's bucket, such as mesh.BucketHeader. With it,
	// istio_requests_total has the label siskin_bucket: "00" to "99", or "unknown" for anything else. That is up to a
	// hundred times as many series of requests, so it is off by default; latencies are not counted by bucket.
	BucketHeader string
}

// NewMetrics registers the metrics. With a nil registerer nothing is registered.
func NewMetrics(r prometheus.Registerer) *Metrics { return MetricsOptions{}.New(r) }

// New registers the metrics as NewMetrics does.
func (o MetricsOptions) New(r prometheus.Registerer) *Metrics {
	labels := []string{
		"reporter", "source_workload", "source_workload_namespace", "destination_workload", "destination_workload_namespace",
		"destination_service", "destination_service_name", "destination_service_namespace", "destination_version",
		"destination_canonical_revision", "destination_app", "request_protocol", "response_code", "response_flags",
		"connection_security_policy",
	}
	counted := labels
	if o.BucketHeader != "" {
		counted = append(slices.Clone(labels), BucketLabel)
	}
	m := &Metrics{
		bucketHeader: o.BucketHeader,
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "siskin_gateway_sent_requests_total",
			Help: "Requests sent to a destination, counted when they are sent, answered or not. A retry is not counted again.",
		}, []string{"destination_service_name", "destination_service_namespace", "destination_version"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "istio_requests_total", Help: "Requests by destination, response code and response flags.",
		}, counted),
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
	m.answers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "siskin_gateway_shadow_answers_total",
		Help: "Answers to copies of requests, by what they are beside the request's own: same, different, failed (none came), or skipped (not compared).",
	}, []string{"destination_service_name", "destination_service_namespace", "destination_version", "result"})
	for _, result := range []string{mirrorSent, mirrorFailed, mirrorDropped} {
		m.mirrored.WithLabelValues(result)
	}
	if r != nil {
		r.MustRegister(m.sent, m.requests, m.durations, m.refused, m.applied, m.loads, m.unready, m.retries, m.mirrored, m.answers)
	}
	return m
}

// Results of a mirrored request.
const (
	mirrorSent    = "sent"
	mirrorFailed  = "failed"
	mirrorDropped = "dropped"
)

// What the answer to a copy is beside the request's own.
const (
	shadowSame      = "same"
	shadowDifferent = "different"
	shadowFailed    = "failed"
	shadowSkipped   = "skipped"
)

// shadowed counts the answer to a copy.
func (m *Metrics) shadowed(p peer, result string) {
	m.answers.WithLabelValues(p.serviceName, p.serviceNamespace, p.version, result).Inc()
}

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
	// bucket is the unit's, or noBucket.
	bucket int8
	// arrived is set where the destination counts, and not the source.
	arrived bool
}

// reporter is Istio's word for who counts.
func (o outcome) reporter() string {
	if o.arrived {
		return "destination"
	}
	return "source"
}

// noBucket stands for a request whose unit has no bucket, or where buckets are not counted.
const noBucket = -1

// bucketOf reads the unit's bucket: two digits.
func (m *Metrics) bucketOf(r *http.Request) int8 {
	if m.bucketHeader == "" {
		return noBucket
	}
	text := r.Header.Get(m.bucketHeader)
	if len(text) != 2 || text[0] < '0' || text[0] > '9' || text[1] < '0' || text[1] > '9' {
		return noBucket
	}
	return int8(10*(text[0]-'0') + text[1] - '0')
}

// sentTo is the counter of requests sent to a destination.
func (m *Metrics) sentTo(p peer) prometheus.Counter {
	return m.sent.WithLabelValues(p.serviceName, p.serviceNamespace, p.version)
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

// arrived counts a request as its destination's proxy would: from when it was sent there, and nothing that never came. Only
// requests that may be copied, and their copies, are counted so: a source does not count its copies.
func (s *series) arrived(o outcome, took time.Duration) {
	if o.flags != flagConnect {
		o.arrived = true
		s.observe(o, took)
	}
}

func (o outcome) bucketLabel() string {
	if o.bucket == noBucket {
		return unknown
	}
	return mesh.FormatBucket(int(o.bucket))
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
		o.reporter(), s.source.Workload, orUnknown(s.source.Namespace), p.workload, p.workloadNamespace,
		p.service, p.serviceName, p.serviceNamespace, p.version, p.revision, p.app,
		protocol, strconv.Itoa(o.code), o.flags, unknown,
	}
	c := child{durations: s.metrics.durations.WithLabelValues(values...)}
	if s.metrics.bucketHeader != "" {
		values = append(values, o.bucketLabel())
	}
	c.requests = s.metrics.requests.WithLabelValues(values...)
	children := maps.Clone(s.known())
	if children == nil {
		children = map[outcome]child{}
	}
	children[o] = c
	s.children.Store(&children)
	return c
}

// Package gateway is a data plane in Go that obeys the Istio objects that Siskin writes, for machines without a mesh.
//
// Compile turns VirtualServices, DestinationRules, ServiceEntries, WorkloadEntries and local rate limits (EnvoyFilters)
// into a Table, without side effects. A Gateway serves HTTP by the table in force, which Load swaps in one step, and
// Watch feeds Load from a Kubernetes API.
//
// What the gateway does not support it refuses when the object is loaded, never when a request meets it: a Refusal names
// the object, the field and the value, and the version of the object that was accepted last stays in force. An object of
// which no version was accepted is as if it were not there. Before the
// first Load every request is answered with 503 and Retry-After, so that a restart never serves an empty table.
//
// # Supported and refused
//
// Every field that is set and not in this table is refused, those that Istio adds later included.
//
//	VirtualService
//	  hosts              names, short names, "*.suffix" and "*"; an older object keeps a host that two objects claim
//	  gateways           the object, or the match, counts when it names one of Identity.Gateways ("mesh" by default)
//	  match              name, uri, ignoreUriCase, scheme, method, authority, headers, withoutHeaders, queryParams, port,
//	                     gateways, sourceLabels, sourceNamespace; exact, prefix and regex (RE2, of the whole value). The port is
//	                     the authority's where the services of the object's hosts have it, else the first that they have; one
//	                     for which no route is possible is as if there were no object
//	  route              weights by share of their sum; headers set, add and remove per route and per destination
//	  redirect           uri, authority, scheme, port, redirectCode
//	  directResponse     status, body
//	  rewrite            uri, authority
//	  fault              fixedDelay, httpStatus
//	  mirror, mirrors    of bodies up to Options.MaxBodyBytes; the answers are compared and counted
//	  timeout, retries   attempts, perTryTimeout, backoff, retryOn; a retry stays in the destination that was drawn
//	  refused            tls, tcp, delegate, corsPolicy, rewrite.uriRegexRewrite, match.statPrefix, header values with "%",
//	                     gRPC faults, retriable headers, exportTo other than "*"
//	DestinationRule
//	  host, subsets      labels
//	  trafficPolicy      loadBalancer.simple (LEAST_REQUEST, ROUND_ROBIN, RANDOM), tls.mode DISABLE
//	  refused            consistentHash, connectionPool, outlierDetection, other TLS modes, port level settings
//	ServiceEntry
//	  hosts, ports       protocol HTTP; targetPort
//	  resolution         STATIC and DNS
//	  endpoints          address, ports, labels
//	  workloadSelector   the WorkloadEntries of the namespace that carry the labels
//	  refused            addresses, other protocols, NONE, subjectAltNames
//	WorkloadEntry
//	  address, ports, labels; not ready while its status has the condition Healthy=False
//	  refused            network, locality, weight, serviceAccount, Unix sockets
//	EnvoyFilter
//	  local rate limit   envoy.filters.http.local_ratelimit, inserted before the router of SIDECAR_INBOUND: token_bucket,
//	                     status, filter_enabled, filter_enforced, response_headers_to_add, enable_x_ratelimit_headers
//	  refused            every other patch
//
// # Where it differs from Envoy
//
// A local rate limit counts once per gateway for all endpoints that the filter selects, not once per pod. Runtime keys
// have no effect. perTryTimeout ends when the response's headers are there. Paths are matched as they were sent, without
// normalisation. Upstreams speak plain HTTP/1.1. Requests of mirrored routes, and their copies, are also counted as their
// destinations would, which have no proxies of their own here.
package gateway

import (
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Options configure a Gateway. The zero value works.
type Options struct {
	// Identity is who the gateway is in the mesh.
	Identity Identity
	// Metrics count requests; by default they are counted and shown nowhere.
	Metrics *Metrics
	// Logger takes refusals as errors, and what httputil.ReverseProxy has to say at the debug level. By default
	// nothing is logged.
	Logger *slog.Logger
	// Transport sends requests upstream. The default keeps up to 1024 idle connections per endpoint, connects within
	// 10 s, which is Istio's default, and knows no proxies.
	Transport http.RoundTripper
	// Draw returns 32 random bits. It must be safe for concurrent use. The default is math/rand/v2.
	Draw func() uint32
	// Now tells the time for token buckets. The default is time.Now.
	Now func() time.Time
	// MaxBodyBytes is the largest request body that is kept for retries and mirrors, 64 KiB by default. A longer one,
	// and one of unknown length, is sent as it comes, is not mirrored, and is sent again only while nothing of it was.
	MaxBodyBytes int64
	// ShadowTolerance is how far apart two numbers of a request's answer and of its copy's may be and still be the same, as a share
	// of the greater one, or of 1 where both are smaller; 1e-6 by default.
	ShadowTolerance float64
	// MaxMirrors is how many copies of requests may be in flight, 64 by default. Copies beyond that are dropped.
	MaxMirrors int
}

// Gateway serves HTTP by the table in force. Its methods may be called concurrently.
type Gateway struct {
	Options
	table     atomic.Pointer[Table]
	exchanges sync.Pool
	buffers   bufferPool
	// unrouted counts requests that have no destination.
	unrouted *series
	// slots bounds the copies in flight, and copies waits for them.
	slots  chan struct{}
	copies sync.WaitGroup

	// mu serialises Load and guards what follows.
	mu       sync.Mutex
	accepted accepted
	refused  map[Refusal]bool
	series   map[peer]*series
	buckets  map[bucketKey]*tokenBucket
	active   map[string]*atomic.Int64
}

// bucketKey is what a token bucket outlives tables by. A changed rate begins with a full bucket.
type bucketKey struct {
	object Object
	index  int
	rate   bucketRate
}

// New returns a gateway that answers 503 until the first Load.
func New(o Options) *Gateway {
	g := &Gateway{Options: o.withDefaults(), series: map[peer]*series{}}
	g.slots = make(chan struct{}, g.MaxMirrors)
	g.exchanges.New = func() any { return newExchange(g) }
	g.unrouted = g.seriesOf(nobody())
	return g
}

func (o Options) withDefaults() Options {
	if o.Identity.Workload == "" {
		o.Identity.Workload = "siskin-gateway"
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Transport == nil {
		o.Transport = newTransport()
	}
	if o.Draw == nil {
		o.Draw = rand.Uint32
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 64 << 10
	}
	if o.ShadowTolerance == 0 {
		o.ShadowTolerance = 1e-6
	}
	if o.MaxMirrors == 0 {
		o.MaxMirrors = 64
	}
	return o
}

func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		DialContext:         dialer.DialContext,
		MaxIdleConnsPerHost: 1024,
		IdleConnTimeout:     90 * time.Second,
		// The client and the server agree on an encoding; the gateway adds none.
		DisableCompression:    true,
		ExpectContinueTimeout: time.Second,
	}
}

// Close waits for the copies of requests that are in flight, at most mirrorTimeout. Stop serving first.
func (g *Gateway) Close() { g.copies.Wait() }

// Load compiles the objects and serves by them from now on. Requests in flight keep the table that they began with.
// Where an object is refused its last accepted version stays in force, as long as the object is there.
func (g *Gateway) Load(objects Objects) []Refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	table, refusals := Compile(objects, g.Identity)
	effective := g.accepted.keep(objects, refusals)
	if len(refusals) > 0 {
		table, _ = Compile(effective, g.Identity)
	}
	g.bind(table)
	g.table.Store(table)
	g.Metrics.applied.SetToCurrentTime()
	g.Metrics.loads.Inc()
	g.report(refusals)
	return refusals
}

// bind joins the table with what outlives it: counters and token buckets.
func (g *Gateway) bind(t *Table) {
	buckets, active := map[bucketKey]*tokenBucket{}, map[string]*atomic.Int64{}
	for _, l := range t.limits {
		key := bucketKey{object: l.object, index: l.index, rate: l.rate}
		if l.bucket = g.buckets[key]; l.bucket == nil {
			l.bucket = newTokenBucket(l.rate, g.Now())
		}
		buckets[key] = l.bucket
	}
	for _, cl := range t.clusters {
		cl.failed = g.seriesOf(cl.peer)
		for _, e := range cl.endpoints {
			e.series, e.sent = g.seriesOf(e.peer), g.Metrics.sentTo(e.peer)
			if active[e.address] == nil {
				active[e.address] = g.active[e.address]
			}
			if active[e.address] == nil {
				active[e.address] = &atomic.Int64{}
			}
			e.active = active[e.address]
		}
	}
	g.buckets, g.active = buckets, active
}

func (g *Gateway) seriesOf(p peer) *series {
	s := g.series[p]
	if s == nil {
		s = &series{metrics: g.Metrics, source: g.Identity, peer: p}
		g.series[p] = s
	}
	return s
}

// report logs each refusal once and keeps the gauge to what is refused now.
func (g *Gateway) report(refusals []Refusal) {
	now := map[Refusal]bool{}
	objects := map[Object]bool{}
	for _, r := range refusals {
		now[r], objects[r.Object] = true, true
		g.Metrics.refused.WithLabelValues(r.Object.Kind, r.Object.Namespace, r.Object.Name).Set(1)
		if !g.refused[r] {
			g.Logger.Error("Refused object", "kind", r.Object.Kind, "namespace", r.Object.Namespace, "name", r.Object.Name,
				"field", r.Field, "value", r.Value, "why", r.Why)
		}
	}
	for r := range g.refused {
		if !objects[r.Object] {
			g.Metrics.refused.DeleteLabelValues(r.Object.Kind, r.Object.Namespace, r.Object.Name)
		}
	}
	g.refused = now
}

// accepted holds the last accepted version of each object that is there.
type accepted struct{ objects Objects }

// keep replaces refused objects by their last accepted version, where there is one, and remembers the others.
func (a *accepted) keep(in Objects, refusals []Refusal) Objects {
	refused := map[Object]bool{}
	for _, r := range refusals {
		refused[r.Object] = true
	}
	var out Objects
	was, good := a.objects, &a.objects
	out.VirtualServices, good.VirtualServices = lastGood("VirtualService", in.VirtualServices, was.VirtualServices, refused)
	out.DestinationRules, good.DestinationRules = lastGood("DestinationRule", in.DestinationRules, was.DestinationRules, refused)
	out.ServiceEntries, good.ServiceEntries = lastGood("ServiceEntry", in.ServiceEntries, was.ServiceEntries, refused)
	out.WorkloadEntries, good.WorkloadEntries = lastGood("WorkloadEntry", in.WorkloadEntries, was.WorkloadEntries, refused)
	out.EnvoyFilters, good.EnvoyFilters = lastGood("EnvoyFilter", in.EnvoyFilters, was.EnvoyFilters, refused)
	return out
}

// lastGood returns what is to be in force, and what of it was accepted.
func lastGood[T metav1.Object](kind string, in, was []T, refused map[Object]bool) (effective, good []T) {
	old := map[Object]T{}
	for _, o := range was {
		old[named(kind, o).object] = o
	}
	for _, o := range in {
		id := named(kind, o).object
		before, had := old[id]
		switch {
		case !refused[id]:
			effective, good = append(effective, o), append(good, o)
		case had:
			effective, good = append(effective, before), append(good, before)
		default:
			effective = append(effective, o)
		}
	}
	return effective, good
}

// ServeHTTP routes one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	table := g.table.Load()
	if table == nil {
		g.Metrics.unready.Inc()
		w.Header().Set("Retry-After", "1")
		http.Error(w, "gateway has no configuration yet", http.StatusServiceUnavailable)
		return
	}
	x := g.exchanges.Get().(*exchange)
	x.begin(w, r)
	defer x.end()
	x.serve(table)
}

// bufferPool lends the buffers through which responses are copied.
type bufferPool struct{ pool sync.Pool }

// bufferSize is that of httputil.ReverseProxy, in bytes.
const bufferSize = 32 << 10

// Get is part of httputil.BufferPool.
func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, bufferSize)
}

// Put is part of httputil.BufferPool.
func (p *bufferPool) Put(b []byte) { p.pool.Put(&b) }

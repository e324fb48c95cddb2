package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	promclient "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	istioapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/gateway"
	"github.com/siskin-dev/siskin/mesh/istio"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/test/process"
)

const (
	service = "coolant"
	space   = "edge" // the namespace
	host    = service + "." + space + ".svc.cluster.local"

	// workFor keeps the lowest bounds of the histogram empty: a count there of one or two after a restart of the gateway
	// would look like that of before, so the restart could not be told.
	workFor       = 12 * time.Millisecond
	slowFor       = 400 * time.Millisecond // far from the threshold on both sides
	slowThreshold = 250 * time.Millisecond
)

// tally is what was counted of one version.
type tally struct{ Requests, Errors, Slow int }

// faults says which requests of a backend go wrong: every so many; 0 for none.
type faults struct{ failEvery, abortEvery, slowEvery int64 }

// backend answers for one version and counts what it did.
type backend struct {
	faults
	requests, errors, slow atomic.Int64
	hung                   chan struct{} // receives when a request to /hang arrives
}

func every(n, of int64) bool { return of > 0 && n%of == 0 }

// ServeHTTP implements http.Handler.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that a client goes
	if r.URL.Path == "/hang" {
		b.hung <- struct{}{}
		<-r.Context().Done()
		return
	}
	n := b.requests.Add(1)
	time.Sleep(workFor)
	switch {
	case every(n, b.abortEvery):
		b.errors.Add(1)
		panic(http.ErrAbortHandler) // closes the connection without an answer
	case every(n, b.failEvery):
		b.errors.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	case every(n, b.slowEvery):
		b.slow.Add(1)
		w.Header().Set("Slow", "yes")
		time.Sleep(slowFor)
	}
}

func (b *backend) tally() tally {
	return tally{int(b.requests.Load()), int(b.errors.Load()), int(b.slow.Load())}
}

// data is a gateway with backends, clients that count, and an endpoint with its metrics.
type data struct {
	backends map[string]*backend
	objects  gateway.Objects
	canary   []int
	registry atomic.Pointer[promclient.Registry]
	gateway  atomic.Pointer[gateway.Gateway]
	front    *httptest.Server
	metrics  string // address

	mu    sync.Mutex // guards what the clients count
	seen  map[string]tally
	maybe map[string]int // requests that were not slow but that a client waited long for
	next  int            // the last vehicle that sent; only send uses it
}

// newData runs the versions v1 and v2; objects are loaded by restart or by a watch.
func newData(t *testing.T, canary []int, v2 faults) *data {
	t.Helper()
	d := &data{canary: canary, seen: map[string]tally{}, maybe: map[string]int{}, backends: map[string]*backend{
		"v1": {faults: faults{failEvery: 50, slowEvery: 40}, hung: make(chan struct{})}, "v2": {faults: v2, hung: make(chan struct{})},
	}}
	for version, b := range d.backends {
		server := httptest.NewServer(b)
		t.Cleanup(server.Close)
		d.objects.WorkloadEntries = append(d.objects.WorkloadEntries, workloadEntry(t, version, server.Listener.Addr()))
	}
	d.objects.ServiceEntries = []*networkingv1.ServiceEntry{serviceEntry()}
	d.restart()
	d.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.gateway.Load().ServeHTTP(w, r) }))
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		promhttp.HandlerFor(d.registry.Load(), promhttp.HandlerOpts{}).ServeHTTP(w, r)
	}))
	d.metrics = admin.Listener.Addr().String()
	t.Cleanup(admin.Close)
	t.Cleanup(func() { d.gateway.Load().Close() })
	t.Cleanup(d.front.Close)
	return d
}

// restart puts a new gateway in the place of the one before: its counters begin at nothing.
func (d *data) restart() {
	registry := promclient.NewRegistry()
	g := gateway.New(gateway.Options{Metrics: gateway.NewMetrics(registry)})
	d.registry.Store(registry)
	if old := d.gateway.Swap(g); old != nil {
		old.Close()
	}
}

// load makes the gateway obey the objects that Siskin writes for the canary's buckets.
func (d *data) load(t *testing.T) {
	t.Helper()
	o, err := istio.Render(mesh.Traffic{
		Rollout: service, Service: mesh.Service{Namespace: space, Name: service, Port: 8080},
		VersionLabel: "version", BucketHeader: mesh.BucketHeader,
		Shares: []mesh.Share{
			{Variant: mesh.Stable, Version: "v1", Buckets: rollout.Others(d.canary)},
			{Variant: mesh.Canary, Version: "v2", Buckets: d.canary},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.objects.VirtualServices = []*networkingv1.VirtualService{o.VirtualService}
	d.objects.DestinationRules = []*networkingv1.DestinationRule{o.DestinationRule}
	if refusals := d.gateway.Load().Load(d.objects); len(refusals) > 0 {
		t.Fatalf("the gateway refuses: %v", refusals)
	}
}

func serviceEntry() *networkingv1.ServiceEntry {
	return &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: service},
		Spec: istioapi.ServiceEntry{
			Hosts: []string{host}, Location: istioapi.ServiceEntry_MESH_INTERNAL, Resolution: istioapi.ServiceEntry_STATIC,
			Ports:            []*istioapi.ServicePort{{Number: 8080, Name: "http", Protocol: "HTTP"}},
			WorkloadSelector: &istioapi.WorkloadSelector{Labels: map[string]string{"app": service}},
		},
	}
}

func workloadEntry(t *testing.T, version string, addr net.Addr) *networkingv1.WorkloadEntry {
	t.Helper()
	name, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return &networkingv1.WorkloadEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: service + "-" + version},
		Spec: istioapi.WorkloadEntry{
			Address: name, Ports: map[string]uint32{"http": uint32(number)},
			Labels: map[string]string{"app": service, "version": version},
		},
	}
}

// send sends n requests of as many vehicles, eight at a time, and counts what came of them.
func (d *data) send(t *testing.T, n int) {
	t.Helper()
	var clients sync.WaitGroup
	left := make(chan int)
	for range 8 {
		clients.Go(func() {
			for i := range left {
				d.one(t, fmt.Sprintf("vehicle-%d", i))
			}
		})
	}
	for range n {
		d.next++
		left <- d.next
	}
	close(left)
	clients.Wait()
}

func (d *data) request(ctx context.Context, path, unit string) (version string, r *http.Request, err error) {
	bucket := rollout.BucketOf(service, unit)
	version = "v1"
	if slices.Contains(d.canary, bucket) {
		version = "v2"
	}
	r, err = http.NewRequestWithContext(ctx, http.MethodPost, d.front.URL+path, strings.NewReader("{}"))
	if err == nil {
		r.Host = host
		r.Header.Set(mesh.BucketHeader, rollout.FormatBucket(bucket))
	}
	return version, r, err
}

// one sends one request to the version that owns the vehicle's bucket.
func (d *data) one(t *testing.T, unit string) {
	version, r, err := d.request(t.Context(), "/", unit)
	if err != nil {
		t.Error(err)
		return
	}
	began := time.Now()
	res, err := d.front.Client().Do(r)
	if err != nil {
		t.Error(err)
		return
	}
	_, err = io.Copy(io.Discard, res.Body)
	took := time.Since(began)
	if err != nil || res.Body.Close() != nil {
		t.Errorf("reading the answer: %v", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.seen[version]
	c.Requests++
	switch {
	case res.StatusCode >= 500:
		c.Errors++
	case res.Header.Get("Slow") != "":
		c.Slow++
	}
	if res.Header.Get("Slow") == "" && took > slowThreshold {
		d.maybe[version]++
	}
	d.seen[version] = c
}

// giveUp sends n requests that the client gives up while the version works on them: they say nothing of the version.
func (d *data) giveUp(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		ctx, cancel := context.WithCancel(t.Context())
		version, r, err := d.request(ctx, "/hang", fmt.Sprintf("vehicle-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-d.backends[version].hung
			cancel()
		}()
		if res, err := d.front.Client().Do(r); err == nil {
			res.Body.Close()
			t.Errorf("a request that was given up was answered: %s", res.Status)
		}
	}
	process.Until(t, "the gateway to count what was given up", func(context.Context) error {
		if c := d.counted(t); c.total-c.requests["v1"]-c.requests["v2"] != float64(n) {
			return fmt.Errorf("got %v", c)
		}
		return nil
	})
}

// clients is what the clients have counted so far.
func (d *data) clients() (seen map[string]tally, maybe map[string]int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen, maybe = map[string]tally{}, map[string]int{}
	for v := range d.backends {
		seen[v], maybe[v] = d.seen[v], d.maybe[v]
	}
	return seen, maybe
}

// counted is what the gateway itself holds: requests, and those above each bound, by version. Given up ones are in total alone.
type counted struct {
	total    float64
	requests map[string]float64
	above    map[string][]float64
}

func (d *data) counted(t *testing.T) counted {
	t.Helper()
	families, err := d.registry.Load().Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := counted{requests: map[string]float64{}, above: map[string][]float64{}}
	for _, f := range families {
		if f.GetName() != "istio_request_duration_milliseconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			out.add(m)
		}
	}
	return out
}

func (c *counted) add(m *dto.Metric) {
	labels := map[string]string{}
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	h := m.GetHistogram()
	c.total += float64(h.GetSampleCount())
	if labels["response_flags"] == "DC" {
		return
	}
	version := labels["destination_version"]
	c.requests[version] += float64(h.GetSampleCount())
	if c.above[version] == nil {
		c.above[version] = make([]float64, len(h.GetBucket()))
	}
	for i, b := range h.GetBucket() {
		c.above[version][i] += float64(h.GetSampleCount() - b.GetCumulativeCount())
	}
}

package controlplane_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/gateway"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/controlplane"
)

// work is how long a backend takes for a request that asks for it.
const work = 20 * time.Millisecond

// backend runs a version: it sends a request's body back, with its version, and ends as a container does that was told to.
type backend struct {
	http.Server
	ended chan error
	place *unstructured.Unstructured // its WorkloadEntry
}

// up starts a server of the version, tells the mesh of it and lets its Deployment be available.
func (w *world) up(version string) *backend {
	w.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	b := &backend{ended: make(chan error, 1), place: controlplane.Object("networking.istio.io/v1", "WorkloadEntry", w.space, service+"-"+version, nil)}
	b.Handler = http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			http.Error(out, err.Error(), http.StatusBadRequest)
			return
		}
		if in.URL.Query().Has("work") {
			<-time.After(work)
		}
		out.Header().Set(versionHeader, version)
		_, _ = out.Write(body)
	})
	go func() { b.ended <- b.Serve(l) }()
	b.place.Object["spec"] = map[string]any{
		"address": "127.0.0.1", "ports": map[string]any{"http": int64(l.Addr().(*net.TCPAddr).Port)},
		"labels": map[string]any{"app": service, "version": version},
	}
	w.Plane.Apply(b.place)
	w.deploy(version)
	return b
}

// down takes the version away as a cluster does: its Deployment has no replicas, its endpoint goes, and the server ends at
// once but for what it is answering.
func (w *world) down(version string, b *backend) {
	w.t.Helper()
	w.scale(version, 0, 0)
	w.Plane.Delete(b.place)
	w.end(b)
}

func (w *world) end(b *backend) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 10*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		w.t.Errorf("stopping a backend: %v", err)
	}
	if err := <-b.ended; !errors.Is(err, http.ErrServerClosed) {
		w.t.Errorf("serving: %v", err)
	}
}

// workloads is the service, run by the WorkloadEntries of its namespace.
func workloads() *unstructured.Unstructured {
	o := controlplane.Object("networking.istio.io/v1", "ServiceEntry", space, service, nil)
	o.Object["spec"] = map[string]any{
		"hosts": []any{host()}, "location": "MESH_INTERNAL", "resolution": "STATIC",
		"ports":            []any{map[string]any{"number": int64(8080), "name": "http", "protocol": "HTTP"}},
		"workloadSelector": map[string]any{"labels": map[string]any{"app": service}},
	}
	return o
}

func host() string { return service + "." + space + ".svc.cluster.local" }

// front is a gateway that obeys the API server, and who calls through it.
type front struct {
	t        *testing.T
	url      string
	client   *http.Client
	loaded   atomic.Bool // from then on no request may fail
	requests [kindsOfRequest]atomic.Int64
	failed   atomic.Int64
}

// open starts the gateway until the test ends.
func open(t *testing.T, p *controlplane.Plane) *front {
	t.Helper()
	g := gateway.New(gateway.Options{})
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- gateway.Watch(ctx, p.Admin, space, g) }()
	server := httptest.NewServer(g)
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		stop()
		g.Close()
		if err := <-watched; err != nil {
			t.Errorf("watching the API: %v", err)
		}
	})
	return &front{t: t, url: server.URL, client: &http.Client{Transport: transport, Timeout: 10 * time.Second}}
}

// The kinds of requests that are sent: a small one, one with a body, one whose body is longer than the gateway keeps and
// comes in pieces, one that the backend takes its time for, and one of a browser that knows a cookie and no bucket.
const (
	reads = iota
	writes
	streams
	works
	browses
	kindsOfRequest
)

// request makes the request of that kind.
func (f *front) request(ctx context.Context, kind, bucket int) (*http.Request, string, error) {
	method, target, body := http.MethodGet, f.url+"/v2/models/coolant", ""
	switch kind {
	case writes:
		method, body = http.MethodPost, fmt.Sprintf(`{"inputs": [%d]}`, bucket)
	case streams:
		method, body = http.MethodPost, strings.Repeat("0123456789abcdef", 6<<10)
	case works:
		method, target, body = http.MethodPost, target+"?work", "slowly"
	}
	var sent io.Reader = http.NoBody
	if body != "" {
		sent = strings.NewReader(body)
	}
	if kind == streams {
		sent = struct{ io.Reader }{sent} // of a length that nobody knows
	}
	r, err := http.NewRequestWithContext(ctx, method, target, sent)
	if err != nil {
		return nil, "", err
	}
	if r.Host = host(); kind != browses {
		r.Header.Set(mesh.BucketHeader, rollout.FormatBucket(bucket))
	}
	return r, body, nil
}

// send sends one request and counts it, and returns the version that answered. Under load an error is a failure of the test,
// but for a request that the context cut off.
func (f *front) send(ctx context.Context, by *http.Client, kind, bucket int) (string, error) {
	version, err := f.exchange(ctx, by, kind, bucket)
	switch {
	case !f.loaded.Load() || ctx.Err() != nil:
	case err == nil:
		f.requests[kind].Add(1)
	case f.failed.Add(1) <= 20:
		f.t.Errorf("%s: a request of kind %d and bucket %02d failed: %v", time.Now().Format(time.RFC3339Nano), kind, bucket, err)
	}
	return version, err
}

// exchange sends one request. Anything but the right answer is an error.
func (f *front) exchange(ctx context.Context, by *http.Client, kind, bucket int) (string, error) {
	r, body, err := f.request(ctx, kind, bucket)
	if err != nil {
		return "", err
	}
	res, err := by.Do(r)
	if err != nil {
		return "", err
	}
	got, err := io.ReadAll(res.Body)
	switch err = errors.Join(err, res.Body.Close()); {
	case err != nil:
		return "", fmt.Errorf("reading the answer: %w", err)
	case res.StatusCode != http.StatusOK:
		return "", fmt.Errorf("answered %s: %s", res.Status, bytes.TrimSpace(got))
	case string(got) != body:
		return "", fmt.Errorf("sent %d bytes and got %d others back", len(body), len(got))
	}
	return res.Header.Get(versionHeader), nil
}

// call is one call of a bucket, and the version that answered.
func (f *front) call(ctx context.Context, bucket int) (string, error) {
	return f.send(ctx, f.client, reads, bucket)
}

// load sends requests of all kinds and buckets until the test ends: some hundred a second, from some browsers and from
// vehicles. Each request that fails from now on, whoever sends it, is a failure of the test.
func (f *front) load() {
	f.loaded.Store(true)
	ctx, stop := context.WithCancel(f.t.Context())
	var senders sync.WaitGroup
	f.t.Cleanup(func() { stop(); senders.Wait() })
	for sender := range 8 {
		senders.Go(func() {
			pace := time.NewTicker(8 * time.Millisecond)
			defer pace.Stop()
			browser := f.browser()
			for n := sender; ctx.Err() == nil; n += 8 {
				kind, by := n/8%kindsOfRequest, f.client
				if kind == browses {
					by = browser
				}
				if n%100 < 8 {
					browser = f.browser() // somebody new
				}
				_, _ = f.send(ctx, by, kind, n%rollout.Buckets) // it tells of an error
				<-pace.C
			}
		})
	}
}

// browser is a client with a memory of its own for cookies.
func (f *front) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		f.t.Error(err)
	}
	return &http.Client{Transport: f.client.Transport, Timeout: f.client.Timeout, Jar: jar}
}

// answered is how many requests of all kinds were answered as they should be.
func (f *front) answered() (n int64) {
	for i := range f.requests {
		n += f.requests[i].Load()
	}
	return n
}

// TestGateway lets HTTP clients call through a mesh/gateway while the controller promotes and takes back one version after
// another. Each version is started before its run; the one that has lost is stopped as soon as the rollout says Ready. No
// request fails.
func TestGateway(t *testing.T) {
	p := controlplane.Start(t)
	w := &world{Plane: p, t: t, Client: reader(t, p), space: space}
	p.StartController("controller", p.StartPrometheus("global: {scrape_interval: 1s}\n"), "--grace=5s")
	p.Apply(controlplane.NamespaceOf(space), workloads())
	history := p.Record(space)
	ro := w.rollout(5, 25, 50)
	ro.Spec.RateLimit = nil // a request over the limit is refused, and would look like one that failed
	ro.Spec.Assignment.Cookie = &v1alpha1.CookieAssignment{Name: "siskin-coolant", MaxAge: metav1.Duration{Duration: time.Hour}}
	w.make(ro)
	running := map[string]*backend{"v1": w.up("v1")}
	t.Cleanup(func() {
		for _, b := range running {
			w.end(b)
		}
	})
	w.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })

	controlplane.Until(t, "the first route", func(ctx context.Context) error { // the gateway begins with all there is
		return w.Client.Get(ctx, client.ObjectKey{Namespace: space, Name: service}, &networkingv1.VirtualService{})
	})

	f := open(t, p)
	controlplane.Until(t, "the gateway to know the service", func(ctx context.Context) error {
		_, err := f.call(ctx, 0)
		return err
	})
	f.load()
	settle(t, f, "v1", rollout.Others(nil))
	for round := range *rounds {
		stable := w.get().Status.StableVersion
		tried := other(stable)
		running[tried] = w.up(tried)
		promote := round%2 == 0
		w.round(f, promote)
		leaves := stable
		if !promote {
			leaves = tried
		}
		w.down(leaves, running[leaves])
		delete(running, leaves)
	}
	madeFirst(t, history)
	for kind := range f.requests {
		if f.requests[kind].Load() == 0 {
			t.Errorf("no request of kind %d was answered", kind)
		}
	}
	t.Logf("%d requests (%d reads, %d writes, %d streams, %d that take long, %d of browsers) were answered while %d rollouts ran; %d failed", f.answered(),
		f.requests[reads].Load(), f.requests[writes].Load(), f.requests[streams].Load(), f.requests[works].Load(), f.requests[browses].Load(),
		*rounds, f.failed.Load())
}

// other is the version that is tried against this one.
func other(version string) string { return map[string]string{"v1": "v2", "v2": "v1"}[version] }

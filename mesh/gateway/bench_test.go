package gateway

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
)

var (
	benchTable   = flag.Bool("bench-table", false, "print the gateway's throughput and latency beside a bare reverse proxy's")
	benchClients = flag.Int("bench-clients", 32, "keep-alive clients of the table")
	benchRounds  = flag.Int("bench-rounds", 4, "rounds of the table; each runs both proxies in the order ABBA")
	benchTime    = flag.Duration("bench-time", 2*time.Second, "length of one run of the table")
)

// payload is about the size of an inference request.
func payload() []byte { return bytes.Repeat([]byte(`{"a":1.5},`), 40) }

// upstream answers what a model server would, at once.
func upstream(tb testing.TB) *httptest.Server {
	tb.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(payload()[:200])
	}))
	tb.Cleanup(server.Close)
	return server
}

// bare is a reverse proxy that does nothing but forward, with the transport and the buffers of the gateway.
func bare(tb testing.TB, to string) *httptest.Server {
	tb.Helper()
	target, err := url.Parse(to)
	if err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(target)
			pr.SetXForwarded()
			pr.Out.Host = pr.In.Host
		},
		Transport:  newTransport(),
		BufferPool: &bufferPool{},
	})
	tb.Cleanup(server.Close)
	return server
}

// routed is a gateway with the routes, headers and metrics of a rollout at weight 25 by header and cookie.
func routed(tb testing.TB, to string) *httptest.Server {
	tb.Helper()
	address, err := url.Parse(to)
	if err != nil {
		tb.Fatal(err)
	}
	objects := Objects{ServiceEntries: upstreams(tb, nil).ServiceEntries}
	for _, version := range []string{"v1", "v2"} {
		objects.WorkloadEntries = append(objects.WorkloadEntries, workloadEntry(tb, version, address.Host))
	}
	traffic := split(rollout.Allocate("run-1", 25))
	traffic.Cookie = &mesh.Cookie{Name: "siskin-coolant", MaxAgeSeconds: 3600}
	g := New(Options{Metrics: NewMetrics(prometheus.NewRegistry())})
	if refusals := g.Load(rendered(tb, traffic, objects)); len(refusals) > 0 {
		tb.Fatal(refusals)
	}
	server := httptest.NewServer(g)
	tb.Cleanup(server.Close)
	return server
}

// sender posts inference requests of one vehicle on one connection.
type sender struct {
	client *http.Client
	url    string
	bucket string
}

func newSender(to string, bucket int) *sender {
	return &sender{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}, url: to, bucket: mesh.FormatBucket(bucket)}
}

func (s *sender) send(tb testing.TB) error {
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, s.url+"/v2/models/coolant/infer", bytes.NewReader(payload()))
	if err != nil {
		return err
	}
	r.Host = host
	r.Header.Set(mesh.BucketHeader, s.bucket)
	res, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

// BenchmarkGateway forwards by the rendered objects of a rollout.
func BenchmarkGateway(b *testing.B) { benchmark(b, routed(b, upstream(b).URL).URL) }

// BenchmarkBareReverseProxy is what BenchmarkGateway is held against.
func BenchmarkBareReverseProxy(b *testing.B) { benchmark(b, bare(b, upstream(b).URL).URL) }

func benchmark(b *testing.B, to string) {
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		s := newSender(to, 41)
		defer s.client.CloseIdleConnections()
		for pb.Next() {
			if err := s.send(b); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// figures are the latencies of all requests of one proxy and the time it took.
type figures struct {
	latencies []time.Duration
	took      time.Duration
	rates     []float64
}

// TestBenchTable prints requests per second and latencies of the gateway and of a bare reverse proxy in front of the same
// upstream, alternating so that both meet the same noise. It asserts no times.
func TestBenchTable(t *testing.T) {
	if !*benchTable {
		t.Skip("prints a table when asked for by -bench-table")
	}
	up := upstream(t)
	names := []string{"gateway", "bare httputil.ReverseProxy"}
	targets := []string{routed(t, up.URL).URL, bare(t, up.URL).URL}
	all := make([]figures, len(targets))
	for i, target := range targets {
		drive(t, target, *benchTime/4, &figures{}) // Warms up.
		all[i] = figures{}
	}
	for range *benchRounds {
		for _, i := range []int{0, 1, 1, 0} {
			drive(t, targets[i], *benchTime, &all[i])
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "proxy\trequests/s\tp50 ms\tp99 ms\tslowest run\tfastest run\t")
	for i, f := range all {
		slices.Sort(f.latencies)
		slices.Sort(f.rates)
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%.0f\t%.0f\t\n", names[i], f.rate(), f.quantile(0.5), f.quantile(0.99), f.rates[0], f.rates[len(f.rates)-1])
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("gateway/bare: %.1f %% of requests/s (%d clients, %d runs of %v each)\n",
		100*all[0].rate()/all[1].rate(), *benchClients, 2**benchRounds, *benchTime)
}

func (f *figures) rate() float64 { return float64(len(f.latencies)) / f.took.Seconds() }

// quantile is in milliseconds; the latencies are sorted.
func (f *figures) quantile(q float64) float64 {
	return float64(f.latencies[int(q*float64(len(f.latencies)-1))]) / float64(time.Millisecond)
}

// drive sends requests on every client for a while.
func drive(t *testing.T, target string, length time.Duration, into *figures) {
	t.Helper()
	latencies := make([][]time.Duration, *benchClients)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range latencies {
		wg.Go(func() {
			s := newSender(target, i)
			defer s.client.CloseIdleConnections()
			for time.Since(began) < length {
				sent := time.Now()
				if err := s.send(t); err != nil {
					t.Error(err)
					return
				}
				latencies[i] = append(latencies[i], time.Since(sent))
			}
		})
	}
	wg.Wait()
	took, count := time.Since(began), 0
	for _, l := range latencies {
		into.latencies = append(into.latencies, l...)
		count += len(l)
	}
	into.took += took
	into.rates = append(into.rates, float64(count)/took.Seconds())
}

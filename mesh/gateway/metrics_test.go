package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/siskin-dev/siskin/mesh"
)

// TestBucketLabel: the header comes from outside, so the label has 101 values, whatever it says.
func TestBucketLabel(t *testing.T) {
	g := startCounting(t, bothVersions(t), Options{}, MetricsOptions{BucketHeader: mesh.BucketHeader})
	tests := map[string]struct{ reason, header, want string }{
		"Bucket": {"two digits are a bucket", "07", "07"},
		"Last":   {"99 is the last", "99", "99"},
		"None":   {"no header, no bucket", "", unknown},
		"Long":   {"three digits are none", "100", unknown},
		"Short":  {"nor is one", "7", unknown},
		"Text":   {"nor is a word", "ab", unknown},
		"Digits": {"nor are digits of another script", "٧", unknown},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			before := g.count(t, "istio_requests_total", BucketLabel, tc.want)
			if tc.header == "" {
				g.get(t, "/")
			} else {
				g.get(t, "/", mesh.BucketHeader, tc.header)
			}
			if got := g.count(t, "istio_requests_total", BucketLabel, tc.want) - before; got != 1 {
				t.Errorf("%s: %q counted %v times as %q", tc.reason, tc.header, got, tc.want)
			}
		})
	}
	if got := g.count(t, "istio_request_duration_milliseconds", BucketLabel, "07"); got != 0 {
		t.Error("latencies are counted by bucket, a hundred times twenty series")
	}
	plain := start(t, bothVersions(t), Options{})
	plain.get(t, "/", mesh.BucketHeader, "07")
	if plain.count(t, "istio_requests_total") != 1 || plain.count(t, "istio_requests_total", BucketLabel, "07") != 0 {
		t.Error("requests are counted by bucket though nobody asked for it")
	}
}

// TestSentRequests: a request is sent once, whether it is answered, fails or is retried; one that a version never gets is not.
func TestSentRequests(t *testing.T) {
	const routes = `
  - match: [{uri: {prefix: /refused}}]
    directResponse: {status: 403}
  - match: [{uri: {prefix: /nobody}}]
    route: [{destination: {host: coolant, subset: v9}}]
  - route: [{destination: {host: coolant, subset: v2}}]
    retries: {attempts: 3, retryOn: 5xx, backoff: 1ms}`
	arrived := make(chan struct{}, 16)
	objects := withRoutes(t, upstreams(t, map[string]http.Handler{"v2": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		if strings.HasPrefix(r.URL.Path, "/broken") {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})}), strings.TrimPrefix(routes, "\n"))
	g := start(t, objects, Options{Draw: fixed(0)})
	sent := func() float64 {
		return g.count(t, "siskin_gateway_sent_requests_total", "destination_service_name", "coolant", "destination_service_namespace", "edge", "destination_version", "v2")
	}
	tests := []struct {
		reason, path string
		sent         float64
		tries        int
	}{
		{"what the gateway answers itself was not sent", "/refused", 0, 0},
		{"nor what has no destination", "/nobody", 0, 0},
		{"an answered one was sent", "/", 1, 1},
		{"a retried one was sent once", "/broken", 1, 4},
	}
	for _, tc := range tests {
		before := sent()
		res, err := g.server.Client().Do(g.request(t, http.MethodGet, tc.path, nil))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if got := sent() - before; got != tc.sent || len(arrived) != tc.tries {
			t.Errorf("%s: %v sent in %d tries, want %v in %d", tc.reason, got, len(arrived), tc.sent, tc.tries)
		}
		for range len(arrived) {
			<-arrived
		}
	}
}

// TestSentBeforeAnswered: a request counts as sent while its version still thinks.
func TestSentBeforeAnswered(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	g := start(t, upstreams(t, map[string]http.Handler{"v1": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	})}), Options{})
	done := make(chan error, 1)
	request := g.request(t, http.MethodGet, "/", nil)
	go func() {
		res, err := g.server.Client().Do(request)
		if err == nil {
			err = res.Body.Close()
		}
		done <- err
	}()
	<-arrived
	sent := g.count(t, "siskin_gateway_sent_requests_total", "destination_version", "v1")
	ended := g.count(t, "istio_requests_total", "destination_version", "v1")
	close(release)
	if err := <-done; err != nil || sent != 1 || ended != 0 {
		t.Errorf("while it was under way: %v sent and %v ended, want 1 and 0; %v", sent, ended, err)
	}
}

package evidence_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/siskin-dev/siskin/cmd/local/prom"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/evidence"
)

// TestScraped reads blocks over HTTP from a Prometheus that scrapes a registry while it counts. Whatever the timing, all
// blocks together hold exactly what was counted after the first scrape.
func TestScraped(t *testing.T) {
	server, err := prom.Start(t.Context(), prom.Options{Dir: t.TempDir(), Interval: 50 * time.Millisecond, Align: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "istio_requests_total", Help: "Requests."}, []string{
		"reporter", "destination_service_name", "destination_service_namespace", "destination_version", "response_code", "response_flags",
	})
	registry := prometheus.NewRegistry()
	registry.MustRegister(requests)
	series := func(version, code string) prometheus.Counter {
		return requests.WithLabelValues("source", "coolant", "edge", version, code, "-")
	}
	series("v1", "200").Add(1000) // before anybody looked
	if _, err := server.AddTarget(prom.Target{Job: "gateway", Instance: "one", Gatherer: registry}); err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(api.Config{Address: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	source, err := evidence.New(evidence.Options{API: promv1.NewAPI(client), Lookback: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	const interval = 200 * time.Millisecond
	question := rollout.Question{
		Service: rollout.Service{Namespace: "edge", Name: "coolant"}, Stable: "v1", Canary: "v2", Interval: interval,
		Gates: []rollout.Gate{{Name: "errors", Type: rollout.ErrorRate}}, From: rollout.GridFloor(time.Now(), interval),
	}
	// sum adds up what all blocks hold up to now, and says whether the target has been scraped at all.
	sum := func() (arms [4]float64, scraped bool) {
		question.To = rollout.GridFloor(time.Now(), interval)
		blocks, err := source.Blocks(t.Context(), question)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			if c, ok := b.Counts["errors"]; ok {
				scraped = true
				arms[0], arms[1] = arms[0]+c.Stable.Requests, arms[1]+c.Stable.Events[0]
				arms[2], arms[3] = arms[2]+c.Canary.Requests, arms[3]+c.Canary.Events[0]
			}
		}
		return arms, scraped
	}
	await := func(done func() bool) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		timeout := time.After(time.Minute)
		for !done() {
			select {
			case <-tick.C:
			case <-timeout:
				arms, _ := sum()
				t.Fatalf("waited for a minute; the blocks hold %v", arms)
			}
		}
	}
	await(func() bool { _, scraped := sum(); return scraped })
	series("v1", "200").Add(90)
	series("v1", "503").Add(10)
	series("v2", "200").Add(7)
	series("v2", "503").Add(3)
	want := [4]float64{100, 10, 10, 3}
	await(func() bool { arms, _ := sum(); return arms == want })
}

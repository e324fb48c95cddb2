package prom

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

func FuzzDecode(f *testing.F) {
	f.Add([]byte("# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} NaN\na_sum 1\na_count 1\n"), false)
	f.Add([]byte("a{b=\"c\"} 1 2\n"), false)
	f.Add([]byte{5, 10, 1, 'a', 24, 1}, true)
	f.Fuzz(func(t *testing.T, data []byte, protobuf bool) {
		format := expfmt.NewFormat(expfmt.TypeTextPlain)
		if protobuf {
			format = expfmt.NewFormat(expfmt.TypeProtoDelim)
		}
		families, err := decode(strings.NewReader(string(data)), format, 1<<16)
		if err != nil {
			return
		}
		lset, err := Target{Job: "fuzz", Gatherer: prometheus.NewRegistry()}.lset()
		if err != nil {
			t.Fatal(err)
		}
		c := newCache(lset)
		for _, family := range families {
			c.each(family, func(s *series, _ float64, _ int64) {
				if s.lset.Get("job") != "fuzz" {
					t.Errorf("series %s lost its target label", s.lset)
				}
			})
		}
	})
}

func FuzzParams(f *testing.F) {
	for _, s := range []string{"1700000000.123", "2026-01-02T03:04:05Z", "1m30s", "1e400", "NaN", "-0", "9223372036"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if at, err := parseTime(s); err == nil && (at.Unix() > maxUnix || at.Unix() < -maxUnix) {
			t.Errorf("parseTime(%q) = %v, out of range", s, at)
		}
		if d, err := parseDuration(s); err == nil && (d <= 0 || d > math.MaxInt64) {
			t.Errorf("parseDuration(%q) = %v, want above zero", s, d)
		}
	})
}

// BenchmarkScrape5000 is one scrape of 5,000 series with 17 labels each, as the gateway's histograms have them.
func BenchmarkScrape5000(b *testing.B) {
	registry := prometheus.NewRegistry()
	names := []string{"version"}
	for i := range 14 {
		names = append(names, fmt.Sprintf("label_%d", i))
	}
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "wait", Help: "Waits.", Buckets: prometheus.LinearBuckets(1, 1, 22)}, names)
	registry.MustRegister(v)
	for i := range 200 { // 25 series each
		values := []string{fmt.Sprint("v", i)}
		for range 14 {
			values = append(values, "some-label-value")
		}
		v.WithLabelValues(values...).Observe(3)
	}
	s := start(b, Options{})
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		families, err := registry.Gather()
		if err != nil {
			b.Error(err)
		}
		format := expfmt.Negotiate(r.Header)
		w.Header().Set("Content-Type", string(format))
		e := expfmt.NewEncoder(w, format)
		for _, f := range families {
			_ = e.Encode(f)
		}
	}))
	defer target.Close()
	for name, t := range map[string]Target{
		"Gatherer": {Job: "bench", Gatherer: registry},
		"HTTP":     {Job: "bench-http", URL: target.URL},
	} {
		b.Run(name, func(b *testing.B) {
			lset, err := t.lset()
			if err != nil {
				b.Fatal(err)
			}
			sc := newScraper(t, lset, s)
			at := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				at = at.Add(time.Second)
				sc.scrape(context.Background(), at)
			}
		})
	}
}

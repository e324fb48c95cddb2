package usage

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/siskin-dev/siskin/energy"
)

// serve registers what a model server counts, and counts some.
func serve(reg prometheus.Registerer) {
	labels := []string{"model", "version"}
	cpu := prometheus.NewCounterVec(prometheus.CounterOpts{Name: cpuMetric, Help: "CPU."}, labels)
	rows := prometheus.NewCounterVec(prometheus.CounterOpts{Name: inferencesMetric, Help: "Rows."}, labels)
	other := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "siskin_predictions_total", Help: "Other."}, append(labels, "bucket"))
	reg.MustRegister(cpu, rows, other)
	cpu.WithLabelValues("coolant", "v2").Add(0.25)
	cpu.WithLabelValues("coolant", "v1").Add(1.5)
	cpu.WithLabelValues("coolant", "v3")
	rows.WithLabelValues("coolant", "v1").Add(300)
	rows.WithLabelValues("coolant", "v2").Add(40)
	rows.WithLabelValues("no-cpu", "v1").Add(40)
	other.WithLabelValues("coolant", "v9", "07").Inc()
}

func want(instance string) []energy.Party {
	return []energy.Party{
		{ID: energy.ID{Instance: instance, Model: "coolant", Version: "v1"}, CPU: 1_500_000_000, Inferences: 300},
		{ID: energy.ID{Instance: instance, Model: "coolant", Version: "v2"}, CPU: 250_000_000, Inferences: 40},
		{ID: energy.ID{Instance: instance, Model: "coolant", Version: "v3"}},
	}
}

func TestGatherer(t *testing.T) {
	reg := prometheus.NewRegistry()
	serve(reg)
	got, err := Gatherer(reg, "here").Usage()
	if diff := cmp.Diff(want("here"), got); diff != "" || err != nil {
		t.Errorf("Usage(): %v, -want +got:\n%s", err, diff)
	}
}

func TestScraper(t *testing.T) {
	reg := prometheus.NewRegistry()
	serve(reg)
	good := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	defer good.Close()
	bad := httptest.NewServer(http.NotFoundHandler())
	defer bad.Close()

	s := NewScraper(t.Context(), []Target{{Instance: "pod-a", URL: good.URL}, {URL: bad.URL}, {URL: good.URL}})
	got, err := s.Usage()
	if err == nil || !strings.Contains(err.Error(), bad.URL) || !strings.Contains(err.Error(), "404") {
		t.Errorf("the target that fails is named: got %v", err)
	}
	all := append(want("pod-a"), want(strings.TrimPrefix(good.URL, "http://"))...)
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("the others are read: -want +got:\n%s", diff)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewScraper(ended, []Target{{URL: good.URL}}).Usage(); err == nil {
		t.Error("after the end: got no error")
	}
}

func TestParsePage(t *testing.T) {
	const head = "# TYPE siskin_serving_cpu_seconds_total counter\nsiskin_serving_cpu_seconds_total"
	cases := map[string]struct {
		reason, page string
		want         []energy.Party
		bad          string
	}{
		"Good":     {reason: "a version", page: head + `{model="m",version="v"} 2` + "\n", want: []energy.Party{{ID: energy.ID{Instance: "i", Model: "m", Version: "v"}, CPU: 2e9}}},
		"Untyped":  {reason: "without a type line", page: `siskin_serving_cpu_seconds_total{model="m",version="v"} 2` + "\n", want: []energy.Party{{ID: energy.ID{Instance: "i", Model: "m", Version: "v"}, CPU: 2e9}}},
		"Idle":     {reason: "a server without versions", page: "siskin_serving_up 1\n"},
		"Other":    {reason: "not a model server", page: "up 1\n", bad: "siskin_serving_"},
		"Empty":    {reason: "an empty page", bad: "siskin_serving_"},
		"Garbage":  {reason: "no metrics", page: "<html>", bad: "parsing metrics"},
		"NaN":      {reason: "not a number", page: head + `{model="m",version="v"} NaN` + "\n", bad: "NaN"},
		"Negative": {reason: "less than nothing", page: head + `{model="m",version="v"} -1` + "\n", bad: "-1"},
		"Infinite": {reason: "too much", page: head + `{model="m",version="v"} +Inf` + "\n", bad: "+Inf"},
		"NoModel":  {reason: "whose is it", page: head + `{version="v"} 1` + "\n", bad: "label model"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			families, err := parsePage(strings.NewReader(tc.page))
			var got []energy.Party
			if err == nil {
				got, err = parties(families, "i")
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: -want +got:\n%s", tc.reason, diff)
			}
			if (err == nil) != (tc.bad == "") || (err != nil && !strings.Contains(err.Error(), tc.bad)) {
				t.Errorf("%s: got %v, want an error that says %q", tc.reason, err, tc.bad)
			}
		})
	}
}

func TestParseTarget(t *testing.T) {
	const uid = "01234567-89ab-cdef-0123-456789abcdef"
	cases := map[string]struct {
		text string
		want Target
		bad  bool
	}{
		"Pod":      {text: uid + "=http://10.0.0.7:9090/metrics", want: Target{uid, "http://10.0.0.7:9090/metrics"}},
		"Bare":     {text: "https://model:9090/metrics", want: Target{"", "https://model:9090/metrics"}},
		"Query":    {text: "http://model/metrics?a=b", want: Target{"", "http://model/metrics?a=b"}},
		"PodQuery": {text: uid + "=http://model/metrics?a=b", want: Target{uid, "http://model/metrics?a=b"}},
		"NoScheme": {text: "model:9090/metrics", bad: true},
		"NoHost":   {text: "http:///metrics", bad: true},
		"File":     {text: "file:///etc/passwd", bad: true},
		"Empty":    {text: "", bad: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := ParseTarget(tc.text)
			if got != tc.want || (err != nil) != tc.bad {
				t.Errorf("ParseTarget(%q) = %+v, %v; want %+v, error %v", tc.text, got, err, tc.want, tc.bad)
			}
		})
	}
}

func FuzzParsePage(f *testing.F) {
	f.Add("# TYPE siskin_serving_cpu_seconds_total counter\nsiskin_serving_cpu_seconds_total{model=\"m\",version=\"v\"} 2\n")
	f.Add("siskin_inferences_total{model=\"m\"} 1e300\nsiskin_serving_x 1\n")
	f.Fuzz(func(t *testing.T, page string) {
		families, err := parsePage(strings.NewReader(page))
		if err != nil {
			return
		}
		found, err := parties(families, "i")
		if err != nil {
			return
		}
		seen := map[energy.ID]bool{}
		for _, p := range found {
			if p.Model == "" || p.Instance != "i" || seen[p.ID] {
				t.Errorf("party %+v of %q", p, page)
			}
			seen[p.ID] = true
		}
	})
}

package contract

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/alerts"
)

func emitted(t *testing.T) Metrics {
	t.Helper()
	m, err := Emitted()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func rules(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.Parse(alerts.Rules, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	all := map[string]rulefmt.Rule{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if _, twice := all[r.Alert]; twice || r.Alert == "" {
				t.Errorf("rule %q: want alerts only, each once", r.Alert+r.Record)
			}
			all[r.Alert] = r
		}
	}
	return all
}

var labelUse = regexp.MustCompile(`\$labels\.(\w+)`)

func TestAlerts(t *testing.T) {
	m := emitted(t)
	runbook, err := os.ReadFile("../../../alerts/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range rules(t) {
		t.Run(name, func(t *testing.T) {
			if err := m.CheckQuery(r.Expr); err != nil {
				t.Error(err)
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("got severity %q, want critical, warning or info", r.Labels["severity"])
			}
			for _, a := range []string{"summary", "description", "runbook_url"} {
				if r.Annotations[a] == "" {
					t.Errorf("annotation %q is missing", a)
				}
			}
			url, anchor, _ := strings.Cut(r.Annotations["runbook_url"], "#")
			if url != "https://github.com/siskin-dev/siskin/blob/main/alerts/README.md" || anchor != strings.ToLower(name) {
				t.Errorf("got runbook_url %q, want the runbook's entry of this alert", r.Annotations["runbook_url"])
			}
			if !strings.Contains(string(runbook), "\n## "+name+"\n") {
				t.Errorf("the runbook has no entry %q", name)
			}
			kept := outputLabels(t, r.Expr)
			for _, text := range r.Annotations {
				for _, use := range labelUse.FindAllStringSubmatch(text, -1) {
					if !slices.Contains(kept, use[1]) {
						t.Errorf("an annotation uses label %q, the expression keeps %q", use[1], kept)
					}
				}
			}
		})
	}
}

// outputLabels are the labels that the outermost grouping of an expression keeps.
func outputLabels(t *testing.T, query string) []string {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok && kept == nil {
			kept = a.Grouping
		}
		return nil
	})
	return kept
}

// alertCase is one of testdata/alerts.yaml: series in, firing alerts out. Series are in promtool's notation, one value
// a minute.
type alertCase struct {
	Name   string
	Series map[string]string
	// Firing maps minutes to the alerts that fire then, each as its name and labels without severity.
	Firing map[string][]string
}

func TestAlertsFire(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []alertCase
	if err := yaml.UnmarshalStrict(data, &cases); err != nil {
		t.Fatal(err)
	}
	all := rules(t)
	fired, silent := map[string]bool{}, map[string]bool{}
	for _, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			for at, want := range tc.Firing {
				until, err := time.ParseDuration(at)
				if err != nil {
					t.Fatal(err)
				}
				got := simulate(t, tc.Series, all, until)
				slices.Sort(want)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("alerts at %s differ (-want +got):\n%s", at, diff)
				}
				for name := range all {
					hit := slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, name+"{") })
					fired[name], silent[name] = fired[name] || hit, silent[name] || !hit
				}
			}
		})
	}
	for name := range all {
		if !fired[name] || !silent[name] {
			t.Errorf("alert %q: want at least one case in which it fires and one in which it does not", name)
		}
	}
}

// simulate evaluates every rule once a minute, as Prometheus would, and returns what fires at the end.
func simulate(t *testing.T, series map[string]string, all map[string]rulefmt.Rule, until time.Duration) []string {
	t.Helper()
	load := "load 1m\n"
	for _, s := range slices.Sorted(maps.Keys(series)) {
		load += "  " + s + " " + series[s] + "\n"
	}
	store := promqltest.LoadedStorage(t, load)
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000)
	firing := []string{}
	for name, rule := range all {
		since := map[string]time.Duration{}
		for at := time.Duration(0); at <= until; at += time.Minute {
			query, err := engine.NewInstantQuery(context.Background(), store, promql.NewPrometheusQueryOpts(false, 0), rule.Expr, time.Unix(0, 0).Add(at))
			if err != nil {
				t.Fatal(err)
			}
			result, err := query.Exec(context.Background()).Vector()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			active := map[string]time.Duration{}
			for _, sample := range result {
				key := name + labels.NewBuilder(sample.Metric).Del(labels.MetricName).Labels().String()
				active[key] = at
				if begin, pending := since[key]; pending {
					active[key] = begin
				}
			}
			since = active
			query.Close()
		}
		for key, begin := range since {
			if until-begin >= time.Duration(rule.For) {
				firing = append(firing, key)
			}
		}
	}
	slices.Sort(firing)
	return firing
}

package contract

import (
	"encoding/json"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"

	"github.com/siskin-dev/siskin/dashboards"
)

// grafanaBoard is the part of a board that the contract speaks of.
type grafanaBoard struct {
	UID, Title, Description string
	SchemaVersion           int
	Panels                  []struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ UID string }
		FieldConfig              struct{ Defaults struct{ Unit string } }
		Targets                  []struct {
			Expr, LegendFormat string
			Datasource         struct{ UID string }
		}
	}
	Templating struct {
		List []struct{ Name, Type, Definition, Description string }
	}
	Annotations struct {
		List []struct{ Expr string }
	}
}

func boards(t *testing.T) map[string]grafanaBoard {
	t.Helper()
	names, err := fs.Glob(dashboards.Boards, "*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("listing boards: %v, %v", names, err)
	}
	all := map[string]grafanaBoard{}
	for _, name := range names {
		data, err := dashboards.Boards.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var b grafanaBoard
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatal(err)
		}
		all[name] = b
	}
	return all
}

// filled replaces Grafana's variables by values, so that the rest is PromQL.
func filled(expr string) string {
	return strings.NewReplacer(
		"$__rate_interval", "2m", "$namespace", "edge", "$rollout", "coolant", "$service", "coolant", "$model", "coolant",
		"$gate", "errors", "$experiment", "coolant", "$variant", "green", "$reporter", "source",
	).Replace(expr)
}

var (
	legendUse   = regexp.MustCompile(`\{\{(\w+)\}\}`)
	labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
)

func TestBoards(t *testing.T) {
	m := emitted(t)
	uids := map[string]string{}
	for name, b := range boards(t) {
		t.Run(name, func(t *testing.T) {
			if other, twice := uids[b.UID]; twice || b.UID == "" {
				t.Errorf("got uid %q, want one of its own (%s)", b.UID, other)
			}
			uids[b.UID] = name
			if b.Title == "" || !strings.HasSuffix(b.Description, "?") || b.SchemaVersion != 39 {
				t.Errorf("got title %q, description %q, schema %d; want a title, a question, 39", b.Title, b.Description, b.SchemaVersion)
			}
			for _, p := range b.Panels {
				if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
					t.Errorf("panel %q: want a description, a unit and queries", p.Title)
				}
				if p.Datasource.UID != "${datasource}" {
					t.Errorf("panel %q: got data source %q, want the variable", p.Title, p.Datasource.UID)
				}
				for _, q := range p.Targets {
					if err := m.CheckQuery(filled(q.Expr)); err != nil {
						t.Errorf("panel %q: %v", p.Title, err)
					}
					if q.Datasource.UID != "${datasource}" {
						t.Errorf("panel %q: got data source %q, want the variable", p.Title, q.Datasource.UID)
					}
					kept := outputLabels(t, filled(q.Expr))
					for _, use := range legendUse.FindAllStringSubmatch(q.LegendFormat, -1) {
						if !slices.Contains(kept, use[1]) {
							t.Errorf("panel %q: the legend uses label %q, the query keeps %q", p.Title, use[1], kept)
						}
					}
				}
			}
			checkVariables(t, m, b)
		})
	}
}

func checkVariables(t *testing.T, m Metrics, b grafanaBoard) {
	t.Helper()
	if len(b.Templating.List) == 0 || b.Templating.List[0].Type != "datasource" {
		t.Error("the first variable must be the data source: the others are read from it")
	}
	for _, v := range b.Templating.List {
		if v.Description == "" {
			t.Errorf("variable %q: want a description", v.Name)
		}
		if v.Type != "query" {
			continue
		}
		parts := labelValues.FindStringSubmatch(v.Definition)
		if parts == nil {
			t.Errorf("variable %q: got %q, want label_values(selector, label)", v.Name, v.Definition)
			continue
		}
		if err := m.CheckQuery("max by (" + parts[2] + ") (" + filled(parts[1]) + ")"); err != nil {
			t.Errorf("variable %q: %v", v.Name, err)
		}
	}
	for _, a := range b.Annotations.List {
		if err := m.CheckQuery(filled(a.Expr)); err != nil {
			t.Errorf("annotation: %v", err)
		}
	}
}

// TestBoardsRun evaluates every query on a store that holds each metric once, for two versions: a query must run, and
// must find something, or its labels do not fit together.
func TestBoardsRun(t *testing.T) {
	m := emitted(t)
	values := map[string][]string{
		"namespace": {"edge"}, "rollout": {"coolant"}, "gate": {"errors"}, "verdict": {"Pass"}, "canary": {"v2"}, "stable": {"v1"},
		"reason": {"NoData"}, "decision": {"Pause"}, "model": {"coolant"}, "version": {"v1", "v2"}, "scope": {"dynamic"}, "source": {"rapl"},
		"reporter": {"source"}, "destination_version": {"v1", "v2"}, "destination_service_name": {"coolant"},
		"destination_service_namespace": {"edge"}, "response_code": {"200", "503"}, "le": {"5", "50", "+Inf"},
		"experiment": {"coolant"}, "variant": {"control", "green"},
	}
	load := "load 15s\n"
	for _, name := range m.Names() {
		for _, series := range product(m[name], values) {
			shape := "1+1x40"
			if slices.Contains([]string{"siskin_rollout_paused", "siskin_rollout_gate_verdict", "siskin_experiment_verdict"}, name) {
				shape = "1x40"
			}
			load += "  " + name + "{" + series + "} " + shape + "\n"
		}
	}
	store := promqltest.LoadedStorage(t, load)
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000)
	for name, b := range boards(t) {
		for _, p := range b.Panels {
			for _, q := range p.Targets {
				query, err := engine.NewInstantQuery(t.Context(), store, promql.NewPrometheusQueryOpts(false, 0), filled(q.Expr), time.Unix(600, 0))
				if err != nil {
					t.Fatalf("%s, panel %q: %v", name, p.Title, err)
				}
				result, err := query.Exec(t.Context()).Vector()
				if err != nil || len(result) == 0 {
					t.Errorf("%s, panel %q: got %d series, error %v, for %s", name, p.Title, len(result), err, q.Expr)
				}
				query.Close()
			}
		}
	}
}

// product lists the label sets that a metric has over the values; a label without values has one, "x".
func product(names []string, values map[string][]string) []string {
	sets := []string{""}
	for _, name := range names {
		of := values[name]
		if of == nil {
			of = []string{"x"}
		}
		var next []string
		for _, set := range sets {
			for _, v := range of {
				next = append(next, strings.TrimPrefix(set+","+name+`="`+v+`"`, ","))
			}
		}
		sets = next
	}
	return sets
}

func TestCheckQuery(t *testing.T) {
	m := Metrics{"a_total": {"version"}, "b_total": {"version", "code"}}
	cases := map[string]string{
		`sum by (version) (rate(a_total[1m]))`:                             "",
		`sum by (version) (a_total) / on (version) sum(b_total{code="5"})`: "",
		`c_total`:                           `metric "c_total": no code exports it`,
		`a_total{code="5"}`:                 `metric "a_total" has no label "code"`,
		`sum by (code) (rate(a_total[1m]))`: `metric "a_total" has no label "code"`,
		`a_total * on (code) b_total`:       `metric "a_total" has no label "code"`,
		`{version="1"}`:                     `must name its metric`,
		`sum(`:                              `parsing "sum("`,
	}
	for _, query := range slices.Sorted(maps.Keys(cases)) {
		err := m.CheckQuery(query)
		if want := cases[query]; (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", query, err, want)
		}
	}
}

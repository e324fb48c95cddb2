package contract

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/evidence"
)

// asked remembers what the source of evidence asks for.
type asked struct {
	mu      sync.Mutex
	queries []string
}

// Query implements evidence.API.
func (a *asked) Query(_ context.Context, query string, _ time.Time, _ ...promv1.Option) (model.Value, promv1.Warnings, promv1.Infos, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queries = append(a.queries, query)
	return model.Matrix{}, nil, nil, nil
}

// TestEvidence holds the counters that gates read by default to what the code exports.
func TestEvidence(t *testing.T) {
	api, m := &asked{}, emitted(t)
	source, err := evidence.New(evidence.Options{API: api})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	q := rollout.Question{
		Service: rollout.Service{Namespace: "edge", Name: "coolant"}, Stable: "v1", Canary: "v2",
		From: at, To: at.Add(time.Minute), Interval: 15 * time.Second,
	}
	types := []rollout.GateType{rollout.ErrorRate, rollout.Latency, rollout.EnergyPerRequest, rollout.SampleRatio, rollout.Data}
	for _, gate := range types {
		q.Gates = append(q.Gates, rollout.Gate{Name: string(gate), Type: gate, Threshold: time.Second})
	}
	if _, err := source.Blocks(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if len(api.queries) != 5 {
		t.Errorf("%d queries for the gates %v: %q", len(api.queries), types, api.queries)
	}
	for _, query := range api.queries {
		if err := m.checkNames(query); err != nil {
			t.Errorf("query %q: %v", query, err)
		}
	}
	if m.checkNames(`{__name__=~"siskin_units_total|nothing",pod="x"}[1m]`) == nil {
		t.Error("a label that nobody exports passed")
	}
}

// checkNames is CheckQuery for selectors that list the names of one metric's forms, of which the code exports one.
func (m Metrics) checkNames(query string) error {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return err
	}
	s := expr.(*parser.MatrixSelector).VectorSelector.(*parser.VectorSelector)
	if s.Name != "" {
		return m.CheckQuery(query)
	}
	errs := []error{errors.New("no code exports any of its names with its labels")}
	for _, matcher := range s.LabelMatchers {
		if matcher.Name != model.MetricNameLabel {
			continue
		}
		for name := range strings.SplitSeq(matcher.Value, "|") {
			rest := slices.DeleteFunc(slices.Clone(s.LabelMatchers), func(l *labels.Matcher) bool { return l == matcher })
			if err := m.selector(&parser.VectorSelector{Name: name, LabelMatchers: rest}); err != nil {
				errs = append(errs, err)
				continue
			}
			return nil
		}
	}
	return errors.Join(errs...)
}

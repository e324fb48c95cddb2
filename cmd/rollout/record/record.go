// Package record answers range queries of series selectors from recorded metrics: a Prometheus data directory, one of its
// blocks, or a file in the OpenMetrics format.
//
// It reads raw samples only, which is all that the source of evidence asks for, so it needs no query engine. Nothing that is
// recorded is changed.
package record

import (
	"context"
	"errors"
	"fmt"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Reader holds recorded metrics. It is not safe for concurrent use.
type Reader struct {
	// From and To are the instants of the first and the last sample.
	From, To time.Time

	choose selector
	close  func() error
}

// selector returns the samples in (from, to], in milliseconds, of the series that match.
type selector func(ctx context.Context, from, to int64, matchers []*labels.Matcher) (model.Matrix, error)

// Close lets go of the files.
func (r *Reader) Close() error {
	if r.close == nil {
		return nil
	}
	return r.close()
}

// Query answers a selector with a range, such as `requests_total{version="v1"}[90s]`, as Prometheus' HTTP API does: with the
// samples of the range before at, its first instant left out.
func (r *Reader) Query(ctx context.Context, query string, at time.Time, _ ...promv1.Option) (model.Value, promv1.Warnings, promv1.Infos, error) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("reading query: %w", err)
	}
	ranged, ok := expr.(*parser.MatrixSelector)
	if !ok {
		return nil, nil, nil, errors.New("reading query: it must be a series selector with a range")
	}
	vector, ok := ranged.VectorSelector.(*parser.VectorSelector)
	if !ok || vector.OriginalOffset != 0 || vector.Timestamp != nil {
		return nil, nil, nil, errors.New("reading query: it must be a series selector without offset or @")
	}
	to := at.UnixMilli()
	matrix, err := r.choose(ctx, to-ranged.Range.Milliseconds(), to, vector.LabelMatchers)
	return matrix, nil, nil, err
}

// metric is a series' labels as the HTTP API has them.
func metric(l labels.Labels) model.Metric {
	m := make(model.Metric, l.Len())
	l.Range(func(one labels.Label) { m[model.LabelName(one.Name)] = model.LabelValue(one.Value) })
	return m
}

package contract

import (
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// CheckQuery parses a PromQL expression and says what it names that no code exports: a metric, a label that it selects
// by, or a label that it groups by.
func (m Metrics) CheckQuery(query string) error {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return fmt.Errorf("parsing %q: %w", query, err)
	}
	var errs []error
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			errs = append(errs, m.selector(n))
		case *parser.AggregateExpr:
			if !n.Without {
				errs = append(errs, m.grouping(n.Expr, n.Grouping))
			}
		case *parser.BinaryExpr:
			if n.VectorMatching != nil && n.VectorMatching.On {
				errs = append(errs, m.grouping(n.LHS, n.VectorMatching.MatchingLabels), m.grouping(n.RHS, n.VectorMatching.MatchingLabels))
			}
		}
		return nil
	})
	return errors.Join(errs...)
}

func (m Metrics) selector(s *parser.VectorSelector) error {
	var names []string
	for _, matcher := range s.LabelMatchers {
		if matcher.Name != model.MetricNameLabel {
			names = append(names, matcher.Name)
		}
	}
	if s.Name == "" {
		return fmt.Errorf("selector %q: must name its metric", s)
	}
	return m.Check(s.Name, names)
}

// grouping checks that every metric below an expression has the labels: one that has not would group as "".
func (m Metrics) grouping(expr parser.Expr, names []string) error {
	var errs []error
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			errs = append(errs, m.Check(s.Name, slices.Clone(names)))
		}
		return nil
	})
	return errors.Join(errs...)
}

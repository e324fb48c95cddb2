// Package evidence reads blocks of raw counts from Prometheus.
//
// It asks for the raw samples of counters and takes their differences itself: increase() extrapolates to the ends of its
// window, so its counts are fractions and up to a factor of two wrong. Counters that fall were reset and count from
// zero; where only some counters of a process fell, it is not counted in that block. A series that appears in a process
// which was scraped before counts from zero too: that is how the first error of a version shows. A whole process that
// appears counts from its first scrape, since nobody knows when what it shows then was counted. The same samples give
// the same blocks, whoever asks and however often.
package evidence

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/siskin-dev/siskin/rollout"
)

// maxBlocks bounds one answer. What is further back is not asked for: it is long past when the loop has been away.
const maxBlocks = 500

// API is the part of the Prometheus HTTP API that is needed.
type API interface {
	Query(ctx context.Context, query string, at time.Time, opts ...promv1.Option) (model.Value, promv1.Warnings, promv1.Infos, error)
}

// Options configure a Source.
type Options struct {
	// Reporter is the value of Istio's reporter label whose counts are taken: "source" by default, because a request that
	// never arrives is an error too.
	Reporter string
	// Lookback is how far before an instant a sample may lie to stand for it; one minute by default. It must span at
	// least two scrapes.
	Lookback time.Duration

	API API
}

// Source answers the loop's questions from Prometheus.
type Source struct{ Options }

// New returns a source.
func New(o Options) (*Source, error) {
	if o.API == nil {
		return nil, fmt.Errorf("building the source of evidence: API must be set")
	}
	if o.Reporter == "" {
		o.Reporter = "source"
	}
	if o.Lookback <= 0 {
		o.Lookback = time.Minute
	}
	return &Source{Options: o}, nil
}

// Blocks returns one block for every interval of the grid between q.From and q.To. One query is made for each counter
// that the gates need, however many blocks there are.
func (s *Source) Blocks(ctx context.Context, q rollout.Question) ([]rollout.Block, error) {
	if q.Interval <= 0 {
		return nil, fmt.Errorf("reading blocks: the interval must be positive, got %s", q.Interval)
	}
	q = bounded(q)
	if !q.From.Before(q.To) {
		return nil, nil
	}
	asked := map[string]model.Matrix{}
	for _, g := range q.Gates {
		for _, selector := range s.selectors(q, g) {
			if _, ok := asked[selector]; ok {
				continue
			}
			matrix, err := s.read(ctx, q, selector)
			if err != nil {
				return nil, fmt.Errorf("reading counters of gate %q: %w", g.Name, err)
			}
			asked[selector] = matrix
		}
	}
	return s.count(q, asked), nil
}

// count turns the samples of the counters into blocks.
func (s *Source) count(q rollout.Question, asked map[string]model.Matrix) []rollout.Block {
	spans := windows(asked, q, s.Lookback)
	counters := make(map[string][]series, len(asked))
	for selector, matrix := range asked {
		counters[selector] = differences(matrix, spans)
	}
	blocks := make([]rollout.Block, len(spans))
	for i := range blocks {
		start := q.From.Add(time.Duration(i) * q.Interval)
		blocks[i] = rollout.Block{Start: start, End: start.Add(q.Interval), Counts: map[string]rollout.Counts{}}
		for _, g := range q.Gates {
			if c, ok := s.countGate(q, g, counters, i); ok {
				blocks[i].Counts[g.Name] = c
			}
		}
	}
	return blocks
}

// bounded puts the ends of a question on the grid, where they are not when the interval has changed within a run, and
// leaves the last blocks of too many.
func bounded(q rollout.Question) rollout.Question {
	if floor := rollout.GridFloor(q.From, q.Interval); floor.Before(q.From) {
		q.From = floor.Add(q.Interval)
	}
	q.To = rollout.GridFloor(q.To, q.Interval)
	if q.To.Sub(q.From) > maxBlocks*q.Interval {
		q.From = q.To.Add(-maxBlocks * q.Interval)
	}
	return q
}

// selectors returns the series selectors that a gate needs.
func (s *Source) selectors(q rollout.Question, g rollout.Gate) []string {
	switch g.Type {
	case rollout.ErrorRate:
		return []string{s.istio("istio_requests_total", q)}
	case rollout.Latency:
		return []string{s.istio("istio_request_duration_milliseconds_bucket", q)}
	case rollout.Mean:
		return []string{g.Sum, g.Count}
	case rollout.Alerts:
	}
	return nil
}

func (s *Source) istio(metric string, q rollout.Question) string {
	versions := regexp.QuoteMeta(q.Stable) + "|" + regexp.QuoteMeta(q.Canary)
	return fmt.Sprintf(`%s{reporter=%q,destination_service_name=%q,destination_service_namespace=%q,destination_version=~%q}`,
		metric, s.Reporter, q.Service.Name, q.Service.Namespace, versions)
}

// read asks for the raw samples of a selector from a lookback before q.From up to q.To. A warning says that some of them
// are missing, and half of the counts are not counts.
func (s *Source) read(ctx context.Context, q rollout.Question, selector string) (model.Matrix, error) {
	span := q.To.Sub(q.From) + s.Lookback
	query := fmt.Sprintf("%s[%dms]", strings.TrimSpace(selector), span.Milliseconds())
	value, warnings, _, err := s.API.Query(ctx, query, q.To)
	if err != nil {
		return nil, fmt.Errorf("querying %q: %w", query, err)
	}
	if len(warnings) > 0 {
		return nil, fmt.Errorf("querying %q: the answer may be partial: %s", query, strings.Join(warnings, "; "))
	}
	matrix, ok := value.(model.Matrix)
	if !ok {
		return nil, fmt.Errorf("querying %q: expected the samples of a series selector, got %T", query, value)
	}
	return matrix, nil
}

// countGate counts a gate in block i; ok is false where none of its counters had a sample.
func (s *Source) countGate(q rollout.Question, g rollout.Gate, counters map[string][]series, i int) (c rollout.Counts, ok bool) {
	selectors := s.selectors(q, g)
	if len(selectors) == 0 || !slices.ContainsFunc(counters[selectors[0]], func(c series) bool { return c.present[i] }) {
		return c, false
	}
	first := counters[selectors[0]]
	switch g.Type {
	case rollout.ErrorRate:
		return countErrors(first, q, i), true
	case rollout.Latency:
		return countSlow(first, q, i), true
	case rollout.Mean:
		return countMeans(first, counters[selectors[1]], g, q, i), true
	case rollout.Alerts:
	}
	return c, false
}

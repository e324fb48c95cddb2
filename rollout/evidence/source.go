// Package evidence reads blocks of raw counts from Prometheus.
//
// It asks for the raw samples of counters and takes their differences itself: increase() extrapolates to the ends of its
// window, so its counts are fractions and up to a factor of two wrong. Counters that fall were reset and count from
// zero. A series that appears in an instance which was scraped before counts from zero too: that is how the first error
// of a version shows. A whole instance that appears is passed over until its second block, since nobody knows when
// what it shows was counted. The same samples give the same blocks, whoever asks and however often.
package evidence

import (
	"context"
	"fmt"
	"regexp"
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

// Blocks returns one block for every interval between q.From and q.To. One query is made for each counter that the
// gates need, however many blocks there are.
func (s *Source) Blocks(ctx context.Context, q rollout.Question) ([]rollout.Block, error) {
	q = bounded(q)
	blocks := emptyBlocks(q)
	asked := map[string][]series{}
	for _, g := range q.Gates {
		for _, selector := range s.selectors(q, g) {
			if _, ok := asked[selector]; ok {
				continue
			}
			all, err := s.read(ctx, q, selector)
			if err != nil {
				return nil, fmt.Errorf("reading counters of gate %q: %w", g.Name, err)
			}
			asked[selector] = all
		}
	}
	for _, g := range q.Gates {
		fill := s.fill(q, g, asked)
		if fill == nil {
			continue
		}
		for i := range blocks {
			blocks[i].Counts[g.Name] = fill(i)
		}
	}
	return blocks, nil
}

func bounded(q rollout.Question) rollout.Question {
	if q.To.Sub(q.From) > maxBlocks*q.Interval {
		q.From = q.To.Add(-maxBlocks * q.Interval)
	}
	return q
}

func emptyBlocks(q rollout.Question) []rollout.Block {
	var blocks []rollout.Block
	for start := q.From; start.Before(q.To); start = start.Add(q.Interval) {
		blocks = append(blocks, rollout.Block{Start: start, End: start.Add(q.Interval), Counts: map[string]rollout.Counts{}})
	}
	return blocks
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

// read asks for the raw samples of a selector from a lookback before q.From up to q.To.
func (s *Source) read(ctx context.Context, q rollout.Question, selector string) ([]series, error) {
	span := q.To.Sub(q.From) + s.Lookback
	query := fmt.Sprintf("%s[%dms]", strings.TrimSpace(selector), span.Milliseconds())
	value, _, _, err := s.API.Query(ctx, query, q.To)
	if err != nil {
		return nil, fmt.Errorf("querying %q: %w", query, err)
	}
	matrix, ok := value.(model.Matrix)
	if !ok {
		return nil, fmt.Errorf("querying %q: got a %s, expected the samples of a series selector", query, value.Type())
	}
	return differences(matrix, q, s.Lookback), nil
}

// fill returns the function that counts a gate in block i, or nil where no counter of the gate has a series.
func (s *Source) fill(q rollout.Question, g rollout.Gate, asked map[string][]series) func(i int) rollout.Counts {
	selectors := s.selectors(q, g)
	if len(selectors) == 0 || len(asked[selectors[0]]) == 0 {
		return nil
	}
	first := asked[selectors[0]]
	switch g.Type {
	case rollout.ErrorRate:
		return func(i int) rollout.Counts { return countErrors(first, q, i) }
	case rollout.Latency:
		bounds := boundsOf(first)
		return func(i int) rollout.Counts { return countSlow(first, bounds, q, i) }
	case rollout.Mean:
		second := asked[selectors[1]]
		return func(i int) rollout.Counts { return countMeans(first, second, g, q, i) }
	case rollout.Alerts:
	}
	return nil
}

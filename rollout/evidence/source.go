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
	"strings"
	"sync"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/siskin-dev/siskin/rollout"
)

const (
	// maxBlocks bounds one answer. What is further back is not asked for: it is long past when the loop has been away.
	maxBlocks = 500
	// maxQueries is how many queries of one question may be under way at a time.
	maxQueries = 4
)

// API is the part of the Prometheus HTTP API that is needed. It must be safe for concurrent use.
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
// that the gates need, all of them at the same instant, however many gates and blocks there are.
func (s *Source) Blocks(ctx context.Context, q rollout.Question) ([]rollout.Block, error) {
	if q.Interval <= 0 {
		return nil, fmt.Errorf("reading blocks: the interval must be positive, got %s", q.Interval)
	}
	q = bounded(q)
	if !q.From.Before(q.To) {
		return nil, nil
	}
	asked, err := s.readAll(ctx, q)
	if err != nil {
		return nil, err
	}
	var blocks []rollout.Block
	for start := q.From; start.Before(q.To); start = start.Add(q.Interval) {
		w := windowOf(asked, start, q.Interval, s.Lookback)
		b := rollout.Block{Start: start, End: start.Add(q.Interval), Counts: map[string]rollout.Counts{}}
		s.count(q, w, asked, b.Counts)
		blocks = append(blocks, b)
	}
	return blocks, nil
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

// reading is the answer to one query.
type reading struct {
	gate, selector string
	streams        []*stream
	err            error
}

// readAll asks once for each selector that the gates need, a few at a time. The first that fails ends the others.
func (s *Source) readAll(ctx context.Context, q rollout.Question) (map[string][]*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var readings []*reading
	known := map[string]bool{}
	for _, g := range q.Gates {
		for _, selector := range s.selectors(q, g) {
			if !known[selector] {
				known[selector] = true
				readings = append(readings, &reading{gate: g.Name, selector: selector})
			}
		}
	}
	var asking sync.WaitGroup
	slots := make(chan struct{}, maxQueries)
	for _, r := range readings {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			if r.streams, r.err = s.read(ctx, q, r.selector); r.err != nil {
				cancel()
			}
		})
	}
	asking.Wait()
	return collect(readings)
}

// collect returns the streams by selector, or the error of a query that failed of itself and not because another had.
func collect(readings []*reading) (map[string][]*stream, error) {
	asked := make(map[string][]*stream, len(readings))
	var failed *reading
	for _, r := range readings {
		asked[r.selector] = r.streams
		if r.err != nil && (failed == nil || isCanceled(failed.err)) {
			failed = r
		}
	}
	if failed != nil {
		return nil, fmt.Errorf("reading counters of gate %q: %w", failed.gate, failed.err)
	}
	return asked, nil
}

// read asks for the raw samples of a selector from a lookback before q.From up to q.To. A warning says that some of them
// are missing, and half of the counts are not counts.
func (s *Source) read(ctx context.Context, q rollout.Question, selector string) ([]*stream, error) {
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
	return streamsOf(matrix), nil
}

package record

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// OpenTSDB opens a Prometheus data directory, or one block of it, for reading. The write-ahead log is read too; a directory
// that a server is writing to is read as it stands.
func OpenTSDB(dir string) (*Reader, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("opening TSDB %q: it must be a directory with Prometheus' data, or one block of it", dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "meta.json")); err == nil {
		return openBlock(dir)
	}
	return openDir(dir)
}

func openBlock(dir string) (*Reader, error) {
	block, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), dir, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("opening TSDB block %q: %w", dir, err)
	}
	querier, err := tsdb.NewBlockQuerier(block, math.MinInt64, math.MaxInt64)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening TSDB block %q: %w", dir, err), block.Close())
	}
	r := reader(querier, querier, block)
	r.From, r.To = time.UnixMilli(block.MinTime()).UTC(), time.UnixMilli(block.MaxTime()).UTC()
	return r, nil
}

// openDir reads the log beside a sandbox of hard links, which is gone when the reader is closed. It lies among the data, or
// where nothing may be written there, with the temporary files, as long as those are on the same file system.
func openDir(dir string) (*Reader, error) {
	blocks, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
	if err != nil {
		return nil, fmt.Errorf("opening TSDB %q: %w", dir, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "wal")); err != nil && len(blocks) == 0 {
		return nil, fmt.Errorf("opening TSDB %q: it has neither blocks nor a write-ahead log", dir)
	}
	db, err := tsdb.OpenDBReadOnly(dir, "", nil)
	if errors.Is(err, os.ErrPermission) {
		db, err = tsdb.OpenDBReadOnly(dir, os.TempDir(), nil)
	}
	if err != nil {
		return nil, fmt.Errorf("opening TSDB %q: %w", dir, err)
	}
	querier, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening TSDB %q: %w", dir, err), db.Close())
	}
	r := reader(querier, querier, db)
	if err := r.measure(); err != nil {
		return nil, errors.Join(fmt.Errorf("reading TSDB %q: %w", dir, err), r.Close())
	}
	return r, nil
}

// reader answers from a querier and closes what is given, in order. A querier reads for one at a time, and several gates ask
// at once.
func reader(q storage.Querier, closers ...io.Closer) *Reader {
	var mu sync.Mutex
	return &Reader{
		choose: func(ctx context.Context, from, to int64, matchers []*labels.Matcher) (model.Matrix, error) {
			mu.Lock()
			defer mu.Unlock()
			return selectFrom(ctx, q, from, to, matchers)
		},
		close: func() error {
			var errs []error
			for _, c := range closers {
				errs = append(errs, c.Close())
			}
			return errors.Join(errs...)
		},
	}
}

// measure finds the first and the last sample.
func (r *Reader) measure() error {
	all := labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".+")
	matrix, err := r.choose(context.Background(), math.MinInt64, math.MaxInt64, []*labels.Matcher{all})
	if err != nil {
		return err
	}
	r.span(matrix)
	if r.From.IsZero() {
		return errors.New("it has no samples")
	}
	return nil
}

// span sets From and To to the first and the last sample of a matrix.
func (r *Reader) span(matrix model.Matrix) {
	see := func(at model.Time) {
		if t := at.Time().UTC(); r.From.IsZero() || t.Before(r.From) {
			r.From = t
		}
		if t := at.Time().UTC(); t.After(r.To) {
			r.To = t
		}
	}
	for _, s := range matrix {
		if n := len(s.Values); n > 0 {
			see(s.Values[0].Timestamp)
			see(s.Values[n-1].Timestamp)
		}
		if n := len(s.Histograms); n > 0 {
			see(s.Histograms[0].Timestamp)
			see(s.Histograms[n-1].Timestamp)
		}
	}
}

func selectFrom(ctx context.Context, q storage.Querier, from, to int64, matchers []*labels.Matcher) (model.Matrix, error) {
	hints := &storage.SelectHints{Start: from + 1, End: to}
	set := q.Select(ctx, true, hints, matchers...)
	var matrix model.Matrix
	for set.Next() {
		s := &model.SampleStream{Metric: metric(set.At().Labels())}
		if err := readSeries(set.At().Iterator(nil), from, to, s); err != nil {
			return nil, fmt.Errorf("reading series %s: %w", s.Metric, err)
		}
		if len(s.Values)+len(s.Histograms) > 0 {
			matrix = append(matrix, s)
		}
	}
	return matrix, set.Err()
}

// readSeries reads the samples in (from, to].
func readSeries(it chunkenc.Iterator, from, to int64, s *model.SampleStream) error {
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		at := it.AtT()
		if at <= from {
			continue
		}
		if at > to {
			break
		}
		if kind == chunkenc.ValFloat {
			_, v := it.At()
			s.Values = append(s.Values, model.SamplePair{Timestamp: model.Time(at), Value: model.SampleValue(v)})
			continue
		}
		_, h := it.AtFloatHistogram(nil)
		s.Histograms = append(s.Histograms, model.SampleHistogramPair{Timestamp: model.Time(at), Histogram: sampleHistogram(h)})
	}
	return it.Err()
}

// sampleHistogram writes a native histogram as the HTTP API does: its buckets with a count, and by a number which of their
// ends belong to them.
func sampleHistogram(h *histogram.FloatHistogram) *model.SampleHistogram {
	out := &model.SampleHistogram{Count: model.FloatString(h.Count), Sum: model.FloatString(h.Sum)}
	for it := h.AllBucketIterator(); it.Next(); {
		b := it.At()
		if b.Count == 0 {
			continue
		}
		boundaries := int32(2) // neither end
		switch {
		case b.LowerInclusive && b.UpperInclusive:
			boundaries = 3
		case b.LowerInclusive:
			boundaries = 1
		case b.UpperInclusive:
			boundaries = 0
		}
		out.Buckets = append(out.Buckets, &model.HistogramBucket{
			Boundaries: boundaries, Lower: model.FloatString(b.Lower), Upper: model.FloatString(b.Upper), Count: model.FloatString(b.Count),
		})
	}
	return out
}

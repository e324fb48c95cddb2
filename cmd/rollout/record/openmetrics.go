package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// ReadOpenMetrics reads a file in the OpenMetrics format whose samples have timestamps, such as `promtool tsdb
// dump-openmetrics` writes. A sample without one is an error: it cannot be placed.
func ReadOpenMetrics(in io.Reader) (*Reader, error) {
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("reading OpenMetrics: %w", err)
	}
	f := &file{known: map[string]*record{}}
	p := textparse.NewOpenMetricsParser(data, labels.NewSymbolTable())
	for at := 0; ; {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && entry == textparse.EntrySeries {
			var l labels.Labels
			p.Labels(&l)
			series, ts, v := p.Series()
			at = min(max(at, offset(data, series)), len(data))
			err = f.add(string(series), l, ts, v)
		}
		if err != nil {
			return nil, fmt.Errorf("reading OpenMetrics after line %d: %w", 1+bytes.Count(data[:at], []byte{'\n'}), err)
		}
	}
	if len(f.all) == 0 {
		return nil, errors.New("reading OpenMetrics: it has no samples")
	}
	r := &Reader{choose: f.choose}
	for _, s := range f.all {
		slices.SortFunc(s.Values, func(a, b model.SamplePair) int { return int(a.Timestamp - b.Timestamp) })
		r.span(model.Matrix{&s.SampleStream})
	}
	return r, nil
}

// offset returns where a part of data begins in it.
func offset(data, part []byte) int { return cap(data) - cap(part) }

// file is what an OpenMetrics file holds.
type file struct {
	known map[string]*record
	all   []*record
}

// record is a series.
type record struct {
	labels labels.Labels
	model.SampleStream
}

func (f *file) add(name string, l labels.Labels, at *int64, v float64) error {
	if at == nil {
		return fmt.Errorf("sample of %s has no timestamp, and cannot be placed without", strings.TrimSpace(name))
	}
	key := l.String()
	s := f.known[key]
	if s == nil {
		s = &record{labels: l, SampleStream: model.SampleStream{Metric: metric(l)}}
		f.known[key] = s
		f.all = append(f.all, s)
	}
	s.Values = append(s.Values, model.SamplePair{Timestamp: model.Time(*at), Value: model.SampleValue(v)})
	return nil
}

// choose returns the samples in (from, to] of the series that match, in the order of the file.
func (f *file) choose(_ context.Context, from, to int64, matchers []*labels.Matcher) (model.Matrix, error) {
	var matrix model.Matrix
	for _, s := range f.all {
		if slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			continue
		}
		first, _ := slices.BinarySearchFunc(s.Values, model.Time(from+1), byTime)
		last, _ := slices.BinarySearchFunc(s.Values, model.Time(to+1), byTime)
		if first < last {
			matrix = append(matrix, &model.SampleStream{Metric: s.Metric, Values: s.Values[first:last]})
		}
	}
	return matrix, nil
}

func byTime(p model.SamplePair, at model.Time) int { return int(p.Timestamp - at) }

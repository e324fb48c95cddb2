package prom

import (
	"math"
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// series is one time series of a target.
type series struct {
	lset labels.Labels
	ref  storage.SeriesRef // 0 until the database has stored a sample
	turn uint64            // the scrape that saw it last
	// timed series bring their own timestamps. They get no staleness marker, as in Prometheus: nobody knows when they end.
	timed bool
}

// cache knows the series of a target by what the target calls them, so that an unchanged target costs one map look-up a
// sample and no label set is built twice.
type cache struct {
	target labels.Labels
	known  map[string]*series
	turn   uint64
	key    []byte // scratch
}

func newCache(target labels.Labels) *cache {
	return &cache{target: target, known: map[string]*series{}, turn: 1}
}

// sweep ends a turn: it forgets the series that the turn did not see and tells stale about them.
func (c *cache) sweep(stale func(*series)) {
	for key, s := range c.known {
		if s.turn == c.turn {
			continue
		}
		delete(c.known, key)
		if !s.timed && s.ref != 0 {
			stale(s)
		}
	}
	c.turn++
}

// each calls add with every sample of a family, as the text format would list them. Native histograms are left out.
func (c *cache) each(f *dto.MetricFamily, add func(s *series, v float64, at int64)) {
	name := f.GetName()
	for _, m := range f.GetMetric() {
		at := m.GetTimestampMs()
		one := func(suffix, label, bound string, v float64) {
			s := c.find(name, suffix, m.GetLabel(), label, bound)
			s.turn, s.timed = c.turn, at != 0
			add(s, v, at)
		}
		switch {
		case m.Counter != nil:
			one("", "", "", m.Counter.GetValue())
		case m.Gauge != nil:
			one("", "", "", m.Gauge.GetValue())
		case m.Untyped != nil:
			one("", "", "", m.Untyped.GetValue())
		case m.Summary != nil:
			eachOfSummary(m.Summary, one)
		case m.Histogram != nil:
			eachOfHistogram(m.Histogram, one)
		}
	}
}

func eachOfSummary(s *dto.Summary, one func(suffix, label, bound string, v float64)) {
	for _, q := range s.GetQuantile() {
		one("", model.QuantileLabel, formatBound(q.GetQuantile()), q.GetValue())
	}
	one("_sum", "", "", s.GetSampleSum())
	one("_count", "", "", float64(s.GetSampleCount()))
}

func eachOfHistogram(h *dto.Histogram, one func(suffix, label, bound string, v float64)) {
	count := h.GetSampleCountFloat()
	if count == 0 {
		count = float64(h.GetSampleCount())
	}
	one("_sum", "", "", h.GetSampleSum())
	one("_count", "", "", count)
	if len(h.GetBucket()) == 0 && h.Schema != nil {
		return // native only
	}
	infinite := false
	for _, b := range h.GetBucket() {
		n := b.GetCumulativeCountFloat()
		if n == 0 {
			n = float64(b.GetCumulativeCount())
		}
		infinite = infinite || math.IsInf(b.GetUpperBound(), 1)
		one("_bucket", model.BucketLabel, formatBound(b.GetUpperBound()), n)
	}
	if !infinite {
		one("_bucket", model.BucketLabel, "+Inf", count)
	}
}

// formatBound writes a bound as Prometheus stores it: 1 is 1.0, so that text and protobuf give the same series.
func formatBound(f float64) string {
	if math.IsInf(f, 1) {
		return "+Inf"
	}
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !slices.ContainsFunc([]byte(s), func(b byte) bool { return b == '.' || b == 'e' || b == 'N' || b == 'I' }) {
		s += ".0"
	}
	return s
}

// find returns the series of a name and labels, building its label set when it is new.
func (c *cache) find(name, suffix string, pairs []*dto.LabelPair, label, bound string) *series {
	const end = 0xff // never part of valid UTF-8, so that no two series share a key
	c.key = append(append(append(c.key[:0], name...), suffix...), end)
	for _, p := range pairs {
		c.key = append(append(c.key, p.GetName()...), end)
		c.key = append(append(c.key, p.GetValue()...), end)
	}
	c.key = append(append(append(c.key, label...), end), bound...)
	if s, ok := c.known[string(c.key)]; ok {
		return s
	}
	s := &series{lset: c.labels(name+suffix, pairs, label, bound)}
	c.known[string(c.key)] = s
	return s
}

// labels joins a sample's labels with the target's. A scraped label that a target label hides is kept with the prefix
// exported_, put as often as it takes to hide no other label.
func (c *cache) labels(name string, pairs []*dto.LabelPair, label, bound string) labels.Labels {
	b := labels.NewBuilder(c.target)
	for _, p := range pairs {
		if n := p.GetName(); !c.target.Has(n) {
			b.Set(n, p.GetValue())
		}
	}
	for _, p := range pairs {
		n := p.GetName()
		if !c.target.Has(n) || p.GetValue() == "" {
			continue
		}
		for b.Get(n) != "" {
			n = model.ExportedLabelPrefix + n
		}
		b.Set(n, p.GetValue())
	}
	if label != "" {
		b.Set(label, bound)
	}
	return b.Set(model.MetricNameLabel, name).Labels()
}

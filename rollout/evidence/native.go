package evidence

import (
	"math"
	"slices"
	"sort"

	"github.com/prometheus/common/model"
)

const (
	// perOctave is how many of the bounds that native histograms are merged to lie between a latency and its double:
	// Prometheus' schema 2. A fixed and coarse schema keeps the bounds the same when a process reduces its own.
	perOctave = 4
	// nativeBounds are enough for 7.5 octaves: from a fifth of the threshold to 30 times the threshold.
	nativeBounds = 30
	// matterOf is the part of the threshold at which the bounds begin: the judge looks at none below.
	matterOf = 5
	// near is how far two bounds may lie apart, as a part of them, and be the same: they are powers computed elsewhere.
	near = 1e-9
)

// fixedBounds returns the bounds that exponential histograms are merged to, in the unit of the threshold: 2^(j/4),
// which are bucket bounds of every schema from 2 up.
func fixedBounds(threshold float64) []float64 {
	if !(threshold > 0) {
		return nil
	}
	first := math.Ceil(perOctave*math.Log2(threshold/matterOf) - near)
	bounds := make([]float64, nativeBounds)
	for k := range bounds {
		bounds[k] = math.Exp2((first + float64(k)) / perOctave)
	}
	return bounds
}

// istioBounds are the bounds of Istio's classic histogram, in milliseconds. A histogram with custom buckets that was made
// of it has them, and its samples do not say so: they list the buckets alone that have counted something.
func istioBounds() []float64 {
	return []float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000}
}

// layout is what the buckets of a native histogram's sample tell of its bounds.
type layout struct {
	// zero is the upper end of the bucket around zero.
	zero float64
	// scale is the number of buckets to an octave of an exponential histogram; 0 of one that has counted nothing above
	// zero or has custom buckets.
	scale  float64
	custom bool
}

func layoutOf(h *model.SampleHistogram) layout {
	l := layout{}
	istio, all := istioBounds(), true
	for _, b := range h.Buckets {
		lower, upper := float64(b.Lower), float64(b.Upper)
		if lower <= 0 {
			l.zero = max(l.zero, upper)
			continue
		}
		all = all && slices.Contains(istio, lower) && (slices.Contains(istio, upper) || math.IsInf(upper, 1))
		exponent := -math.Log2(math.Log2(upper / lower))
		scale := math.Exp2(math.Round(exponent))
		exponential := whole(exponent) && exponent > -5 && exponent < 9 && whole(math.Log2(upper)*scale)
		l.custom = l.custom || !exponential || (l.scale != 0 && l.scale != scale)
		l.scale = scale
	}
	if l.custom = l.scale != 0 && (l.custom || all); l.custom {
		l.scale = 0
	}
	return l
}

// whole says whether a number is an integer, up to rounding.
func whole(v float64) bool { return math.Abs(v-math.Round(v)) < 1e-6 }

// knows says whether what lies above a bound can be told from a sample exactly: no bucket reaches across it, and where
// buckets grow by a factor, it is the end of one of them whether or not that has counted anything.
func (l layout) knows(bound float64, h *model.SampleHistogram) bool {
	if l.scale > 0 && !whole(math.Log2(bound)*l.scale) {
		return false
	}
	return !slices.ContainsFunc(h.Buckets, func(b *model.HistogramBucket) bool {
		return float64(b.Lower) < bound*(1-near) && float64(b.Upper) > bound*(1+near)
	})
}

// below counts what lies at or below a bound that the sample knows.
func below(h *model.SampleHistogram, bound float64) float64 {
	sum := 0.0
	for _, b := range h.Buckets {
		if float64(b.Upper) <= bound*(1+near) {
			sum += float64(b.Count)
		}
	}
	return sum
}

// histograms returns the usable samples of a native histogram in the window.
func (w *window) histograms(s *stream) []model.SampleHistogramPair {
	from := sort.Search(len(s.native), func(i int) bool { return int64(s.native[i].Timestamp) > w.back })
	to := sort.Search(len(s.native), func(i int) bool { return int64(s.native[i].Timestamp) > w.end })
	var out []model.SampleHistogramPair
	for _, p := range s.native[from:max(from, to)] {
		if p.Histogram != nil && usable(model.SampleValue(p.Histogram.Count)) {
			out = append(out, p)
		}
	}
	return out
}

// points returns the samples in the window of a counter, or how much a native histogram had counted in all.
func (w *window) points(s *stream) []model.SamplePair {
	if len(s.native) == 0 {
		return w.samples(s.values)
	}
	var out []model.SamplePair
	for _, p := range w.histograms(s) {
		out = append(out, model.SamplePair{Timestamp: p.Timestamp, Value: model.SampleValue(p.Histogram.Count)})
	}
	return out
}

// native is a native histogram in one window.
type native struct {
	*stream
	samples []model.SampleHistogramPair
	layouts []layout
}

func (w *window) native(s *stream) native {
	n := native{stream: s, samples: w.histograms(s)}
	for _, p := range n.samples {
		n.layouts = append(n.layouts, layoutOf(p.Histogram))
	}
	return n
}

// candidates returns the bounds that native histograms may have, whatever they have counted so far: those of exponential
// ones where there is any, since a single bucket may look like one of Istio's.
func candidates(all []native, threshold float64) []float64 {
	var out []float64
	for _, n := range all {
		for _, l := range n.layouts {
			if l.scale > 0 {
				return fixedBounds(threshold)
			}
			if l.custom {
				out = istioBounds()
			}
		}
	}
	return out
}

// knows says whether all samples of the window know a bound: a difference needs both ends.
func (n native) knows(bound float64) bool {
	for i, p := range n.samples {
		if !n.layouts[i].knows(bound, p.Histogram) {
			return false
		}
	}
	return true
}

// increases returns how much the histogram counted in the block in all, and at or below each bound. It was reset where
// any of these fell, and then as a whole: a sample is taken of all buckets at once.
func (n native) increases(w *window, bounds []float64) (total float64, atOrBelow []float64) {
	columns := make([][]model.SamplePair, len(bounds)+1) // the last one is the total
	base, previous := make([]float64, len(columns)), make([]float64, len(columns))
	for _, p := range n.samples {
		now := make([]float64, 0, len(columns))
		for _, b := range bounds {
			now = append(now, below(p.Histogram, b))
		}
		now = append(now, float64(p.Histogram.Count))
		fell := false
		for k := range now {
			fell = fell || now[k] < previous[k]
		}
		for k := range now {
			if fell {
				base[k] += previous[k]
			}
			columns[k] = append(columns[k], model.SamplePair{Timestamp: p.Timestamp, Value: model.SampleValue(base[k] + now[k])})
		}
		previous = now
	}
	atOrBelow = make([]float64, len(bounds))
	for k := range bounds {
		atOrBelow[k], _ = w.increase(columns[k], n.process)
	}
	total, _ = w.increase(columns[len(bounds)], n.process)
	return total, atOrBelow
}

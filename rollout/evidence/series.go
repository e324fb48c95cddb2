package evidence

import (
	"math"
	"slices"
	"sort"
	"time"

	"github.com/prometheus/common/model"
)

// stream is a counter's samples, or a native histogram's, with what its labels say read once.
type stream struct {
	labels model.Metric
	// process is the same for all streams of a process.
	process string
	values  []model.SamplePair
	native  []model.SampleHistogramPair
	// bound is the upper bound of a classic histogram's bucket; NaN for what is none.
	bound float64
	// histogram is the same for the buckets of a classic histogram and for its native form.
	histogram model.Fingerprint
}

// streamsOf reads the labels of a query's answer.
func streamsOf(matrix model.Matrix) []*stream {
	out := make([]*stream, 0, len(matrix))
	for _, s := range matrix {
		one := &stream{
			labels: s.Metric, process: processOf(s.Metric), values: s.Values, native: s.Histograms, bound: boundOf(s.Metric),
		}
		if !math.IsNaN(one.bound) || len(one.native) > 0 {
			one.histogram = histogramOf(s.Metric)
		}
		out = append(out, one)
	}
	return out
}

// processOf tells the processes apart that a series may come from.
func processOf(m model.Metric) string {
	return string(m["job"]) + "\x00" + string(m["instance"]) + "\x00" + string(m["pod"])
}

// usable says whether a value can be a counter's.
func usable(v model.SampleValue) bool { return v >= 0 && !math.IsInf(float64(v), 1) }

// series is a stream's increase in one block.
type series struct {
	*stream
	increase float64
	// present says whether there was a sample to stand for the block.
	present bool
	// torn says that it cannot be told what the process counted.
	torn bool
}

// window is one block of a question with the time before it in which a sample stands for its start, in milliseconds.
type window struct {
	back, start, end int64
	// scrapes are, for every process, the ascending instants in (back, end] at which any of its counters had a sample.
	scrapes map[string][]int64
	// torn are the processes of which some counters fell at an instant and others, above zero, did not. Whether the
	// others were reset too cannot be told, so the process is not counted in this block.
	torn map[string]bool
}

// windowOf returns the window of the block that begins at start, with what all counters together tell of the processes.
func windowOf(asked map[string][]*stream, start time.Time, interval, lookback time.Duration) *window {
	w := &window{
		back: start.Add(-lookback).UnixMilli(), start: start.UnixMilli(), end: start.Add(interval).UnixMilli(),
		scrapes: map[string][]int64{}, torn: map[string]bool{},
	}
	w.look(asked)
	return w
}

// samples returns the samples of a counter in the window.
func (w *window) samples(values []model.SamplePair) []model.SamplePair {
	from := sort.Search(len(values), func(i int) bool { return int64(values[i].Timestamp) > w.back })
	to := sort.Search(len(values), func(i int) bool { return int64(values[i].Timestamp) > w.end })
	return values[from:max(from, to)]
}

// moment is an instant of a process.
type moment struct {
	process string
	at      int64
}

func (w *window) look(asked map[string][]*stream) {
	fell, stood := map[moment]bool{}, map[moment]bool{}
	for _, streams := range asked {
		for _, s := range streams {
			previous := model.SampleValue(0)
			for _, v := range w.points(s) {
				if !usable(v.Value) {
					continue
				}
				m := moment{s.process, int64(v.Timestamp)}
				w.scrapes[s.process] = append(w.scrapes[s.process], m.at)
				switch {
				case m.at <= w.start:
				case v.Value < previous:
					fell[m] = true
				case previous > 0:
					stood[m] = true
				}
				previous = v.Value
			}
		}
	}
	for process, list := range w.scrapes {
		slices.Sort(list)
		w.scrapes[process] = slices.Compact(list)
	}
	for m := range fell {
		if stood[m] {
			w.torn[m.process] = true
		}
	}
}

// differences turns the samples of counters, and the totals of native histograms, into increases in the block.
func (w *window) differences(streams []*stream) []series {
	out := make([]series, len(streams))
	for i, s := range streams {
		out[i] = series{stream: s, torn: w.torn[s.process]}
		out[i].increase, out[i].present = w.increase(w.points(s), s.process)
	}
	return out
}

// increase returns how much a counter of a process grew within the block; present says whether it had a sample in the
// window. A counter without a sample before the block began at zero if its process had been scraped before it appeared,
// and at its first value if not: nobody knows when that was counted.
func (w *window) increase(values []model.SamplePair, process string) (sum float64, present bool) {
	previous := 0.0
	for _, s := range w.samples(values) {
		at, v := int64(s.Timestamp), float64(s.Value)
		if !usable(s.Value) {
			continue
		}
		first := !present
		present = true
		if at <= w.start || (first && w.scrapes[process][0] >= at) {
			previous = v
			continue
		}
		if v < previous {
			previous = 0 // the counter was reset
		}
		sum += v - previous
		previous = v
	}
	if w.torn[process] {
		return 0, present
	}
	return sum, present
}

package evidence

import (
	"math"
	"slices"
	"sort"
	"time"

	"github.com/prometheus/common/model"

	"github.com/siskin-dev/siskin/rollout"
)

// series is a counter's increase in every block of a question.
type series struct {
	labels model.Metric
	// increase has one number a block.
	increase []float64
	// present says for every block whether there was a sample to stand for it.
	present []bool
}

// instance tells the processes apart that a series may come from.
func instance(m model.Metric) string {
	return string(m["job"]) + "\x00" + string(m["instance"]) + "\x00" + string(m["pod"])
}

// usable says whether a value can be a counter's.
func usable(v model.SampleValue) bool { return v >= 0 && !math.IsInf(float64(v), 1) }

// window is one block of a question with the time before it in which a sample stands for its start, in milliseconds.
type window struct {
	back, start, end int64
	// scrapes are, for every process, the ascending instants in (back, end] at which any of its counters had a sample.
	scrapes map[string][]int64
	// torn are the processes of which some counters fell at an instant and others, above zero, did not. Whether the
	// others were reset too cannot be told, so the process is not counted in this block.
	torn map[string]bool
}

// samples returns the samples of a counter in the window.
func (w *window) samples(values []model.SamplePair) []model.SamplePair {
	from := sort.Search(len(values), func(i int) bool { return int64(values[i].Timestamp) > w.back })
	to := sort.Search(len(values), func(i int) bool { return int64(values[i].Timestamp) > w.end })
	return values[from:max(from, to)]
}

// windows returns the window of every block, with what all counters together tell of the processes.
func windows(asked map[string]model.Matrix, q rollout.Question, lookback time.Duration) []*window {
	var out []*window
	for start := q.From; start.Before(q.To); start = start.Add(q.Interval) {
		w := &window{
			back: start.Add(-lookback).UnixMilli(), start: start.UnixMilli(), end: start.Add(q.Interval).UnixMilli(),
			scrapes: map[string][]int64{}, torn: map[string]bool{},
		}
		w.look(asked)
		out = append(out, w)
	}
	return out
}

// moment is an instant of a process.
type moment struct {
	id string
	at int64
}

func (w *window) look(asked map[string]model.Matrix) {
	fell, stood := map[moment]bool{}, map[moment]bool{}
	for _, matrix := range asked {
		for _, stream := range matrix {
			id, previous := instance(stream.Metric), model.SampleValue(0)
			for _, v := range w.samples(stream.Values) {
				if !usable(v.Value) {
					continue
				}
				m := moment{id, int64(v.Timestamp)}
				w.scrapes[id] = append(w.scrapes[id], m.at)
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
	for id, list := range w.scrapes {
		slices.Sort(list)
		w.scrapes[id] = slices.Compact(list)
	}
	for m := range fell {
		if stood[m] {
			w.torn[m.id] = true
		}
	}
}

// differences turns raw samples into increases per block.
func differences(matrix model.Matrix, blocks []*window) []series {
	out := make([]series, 0, len(matrix))
	for _, stream := range matrix {
		s := series{labels: stream.Metric, increase: make([]float64, len(blocks)), present: make([]bool, len(blocks))}
		id := instance(stream.Metric)
		for i, w := range blocks {
			s.increase[i], s.present[i] = w.increase(stream.Values, id)
		}
		out = append(out, s)
	}
	return out
}

// increase returns how much a counter of a process grew within the block; present says whether it had a sample in the
// window. A counter without a sample before the block began at zero if its process had been scraped before it appeared,
// and at its first value if not: nobody knows when that was counted.
func (w *window) increase(values []model.SamplePair, id string) (sum float64, present bool) {
	previous := 0.0
	for _, s := range w.samples(values) {
		at, v := int64(s.Timestamp), float64(s.Value)
		if !usable(s.Value) {
			continue
		}
		first := !present
		present = true
		if at <= w.start || (first && w.scrapes[id][0] >= at) {
			previous = v
			continue
		}
		if v < previous {
			previous = 0 // the counter was reset
		}
		sum += v - previous
		previous = v
	}
	if w.torn[id] {
		return 0, present
	}
	return sum, present
}

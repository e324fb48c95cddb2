package evidence

import (
	"math"
	"time"

	"github.com/prometheus/common/model"

	"github.com/siskin-dev/siskin/rollout"
)

// series is a counter's increase in every block of a question.
type series struct {
	labels model.Metric
	// increase has one number a block.
	increase []float64
}

// differences turns raw samples into increases per block.
func differences(matrix model.Matrix, q rollout.Question, lookback time.Duration) []series {
	n := int(q.To.Sub(q.From) / q.Interval)
	before := make([]map[string]bool, n)
	for i := range before {
		before[i] = instancesAt(matrix, q.From.Add(time.Duration(i)*q.Interval), lookback)
	}
	out := make([]series, 0, len(matrix))
	for _, stream := range matrix {
		s := series{labels: stream.Metric, increase: make([]float64, n)}
		id := instance(stream.Metric)
		for i := range n {
			start := q.From.Add(time.Duration(i) * q.Interval)
			s.increase[i] = increase(stream.Values, start, start.Add(q.Interval), lookback, before[i][id])
		}
		out = append(out, s)
	}
	return out
}

// instance tells the processes apart that a series may come from.
func instance(m model.Metric) string {
	return string(m["job"]) + "\x00" + string(m["instance"]) + "\x00" + string(m["pod"])
}

// instancesAt returns the instances that had any sample within the lookback before an instant.
func instancesAt(matrix model.Matrix, at time.Time, lookback time.Duration) map[string]bool {
	seen := map[string]bool{}
	for _, stream := range matrix {
		if last(stream.Values, at, lookback) >= 0 {
			seen[instance(stream.Metric)] = true
		}
	}
	return seen
}

// last returns the index of the last sample at or before an instant and within the lookback, or -1.
func last(values []model.SamplePair, at time.Time, lookback time.Duration) int {
	end, start := at.UnixMilli(), at.Add(-lookback).UnixMilli()
	found := -1
	for i, v := range values {
		if t := int64(v.Timestamp); t > end {
			break
		} else if t > start {
			found = i
		}
	}
	return found
}

// increase returns how much a counter grew from start to end. Known says that its instance was seen before start, so
// that a series which was not there then began at zero.
func increase(values []model.SamplePair, start, end time.Time, lookback time.Duration, known bool) float64 {
	to := last(values, end, lookback+end.Sub(start))
	if to < 0 {
		return 0
	}
	from := last(values, start, lookback)
	sum, previous := 0.0, 0.0
	switch {
	case from >= 0:
		previous = float64(values[from].Value)
	case !known:
		return 0
	}
	for i := from + 1; i <= to; i++ {
		if int64(values[i].Timestamp) <= start.UnixMilli() {
			continue
		}
		v := float64(values[i].Value)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		if v < previous {
			previous = 0 // the counter was reset
		}
		sum += v - previous
		previous = v
	}
	return sum
}

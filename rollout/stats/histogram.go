package stats

import (
	"math"
	"slices"
)

// Bucket is one bucket of a classic Prometheus histogram: the count of observations at or below Bound, its label le.
type Bucket struct {
	Bound, Count float64
}

// countNoise is the relative difference between the counts of buckets that Prometheus takes for rounding.
const countNoise = 1e-12

// HistogramQuantile returns what Prometheus' histogram_quantile(q, ...) returns for a classic histogram: with rank q N it
// goes to the first bucket whose cumulative count reaches the rank, and interpolates linearly inside,
//
//	start + (bound - start) (rank - count before)/(count inside)
//
// where the first bucket starts at zero if its bound is positive, and is taken at its bound if not. A rank in the bucket
// +Inf returns the highest finite bound. It is for display: the judge never uses a quantile that was interpolated.
//
// It is -Inf for q < 0, +Inf for q > 1, and NaN for q NaN, fewer than two buckets, no bucket +Inf, no observations, or
// none in the bucket of the rank. The unit is that of the bounds.
func HistogramQuantile(q float64, buckets []Bucket) float64 {
	switch {
	case math.IsNaN(q):
		return math.NaN()
	case q < 0:
		return math.Inf(-1)
	case q > 1:
		return math.Inf(1)
	}
	list, ok := mergeBuckets(buckets)
	if !ok {
		return math.NaN()
	}
	levelCounts(list)
	last := len(list) - 1
	if last < 1 || list[last].Count == 0 {
		return math.NaN()
	}
	rank := q * list[last].Count
	i := slices.IndexFunc(list[:last], func(b Bucket) bool { return b.Count >= rank })
	switch {
	case i < 0:
		return list[last-1].Bound
	case i == 0 && list[0].Bound <= 0:
		return list[0].Bound
	case i == 0:
		return list[0].Bound * (rank / list[0].Count)
	}
	before, b := list[i-1], list[i]
	return before.Bound + (b.Bound-before.Bound)*((rank-before.Count)/(b.Count-before.Count))
}

// HistogramFraction returns what Prometheus' histogram_fraction(low, high, ...) returns for a classic histogram: the share
// of observations above low and at or below high, a number without unit, by linear interpolation inside buckets. The
// first bucket starts at zero if its bound is positive, else at minus infinity; nothing is interpolated in a bucket
// without an end, and no observation in it counts as below a finite high. It is for display.
//
// It is 0 for low >= high, and NaN for a limit NaN, no bucket +Inf or no observations.
func HistogramFraction(low, high float64, buckets []Bucket) float64 {
	list, ok := mergeBuckets(buckets)
	if !ok || math.IsNaN(low) || math.IsNaN(high) {
		return math.NaN()
	}
	total := list[len(list)-1].Count
	if total == 0 {
		return math.NaN()
	}
	if low >= high {
		return 0
	}
	return (rankBelow(high, list) - rankBelow(low, list)) / total
}

// rankBelow returns how many observations are at or below v.
func rankBelow(v float64, list []Bucket) float64 {
	total := list[len(list)-1].Count
	start, before := 0.0, 0.0
	if list[0].Bound <= 0 {
		start = math.Inf(-1)
	}
	for _, b := range list {
		if v <= start {
			return math.Min(before, total)
		}
		if v < b.Bound {
			if math.IsInf(start, -1) {
				return math.Min(b.Count, total)
			}
			return math.Min(before+(b.Count-before)*(v-start)/(b.Bound-start), total)
		}
		start, before = b.Bound, b.Count
	}
	return total
}

// mergeBuckets returns the buckets in the order of their bounds, those with one bound added up. ok is false without the
// bucket +Inf, which says how many observations there are.
func mergeBuckets(buckets []Bucket) (list []Bucket, ok bool) {
	sorted := slices.Clone(buckets)
	slices.SortStableFunc(sorted, func(a, b Bucket) int {
		switch {
		case a.Bound < b.Bound:
			return -1
		case a.Bound > b.Bound:
			return 1
		}
		return 0
	})
	for _, b := range sorted {
		if n := len(list); n > 0 && list[n-1].Bound == b.Bound {
			list[n-1].Count += b.Count
			continue
		}
		list = append(list, b)
	}
	return list, len(list) > 0 && math.IsInf(list[len(list)-1].Bound, 1)
}

// levelCounts makes cumulative counts rise only, as Prometheus does: a count that is below the one before it, or above by
// no more than rounding, is taken for the same.
func levelCounts(list []Bucket) {
	for i := 1; i < len(list); i++ {
		if list[i].Count < list[i-1].Count || nearly(list[i-1].Count, list[i].Count) {
			list[i].Count = list[i-1].Count
		}
	}
}

// nearly says whether two counts differ by rounding.
func nearly(a, b float64) bool {
	return math.Abs(a-b) <= countNoise*math.Abs(a+b)
}

package evidence

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"

	"github.com/siskin-dev/siskin/rollout"
)

const versionLabel = "destination_version"

// arm returns the arm of a version, or nil for a version that does not take part.
func arm(c *rollout.Counts, q rollout.Question, version model.LabelValue) *rollout.Arm {
	switch string(version) {
	case q.Stable:
		return &c.Stable
	case q.Canary:
		return &c.Canary
	}
	return nil
}

// countErrors counts requests and those that failed: answered 5xx, or not answered at all. A series without a response
// code is passed over, since nobody knows what it counts.
func countErrors(all []series, q rollout.Question, i int) rollout.Counts {
	c := rollout.Counts{}
	c.Stable.Events, c.Canary.Events = make([]float64, 1), make([]float64, 1)
	for _, s := range all {
		a := arm(&c, q, s.labels[versionLabel])
		if a == nil || s.labels["response_code"] == "" || !answerable(s.labels) {
			continue
		}
		a.Requests += s.increase[i]
		if failed(s.labels) {
			a.Events[0] += s.increase[i]
		}
	}
	return c
}

// answerable says whether the requests of a series say anything of the version: not those that the client gave up (DC,
// downstream close), nor those that a rate limit refused (RL).
func answerable(m model.Metric) bool {
	for flag := range strings.SplitSeq(string(m["response_flags"]), ",") {
		if flag == "DC" || flag == "RL" {
			return false
		}
	}
	return true
}

// failed says whether the requests of a series failed. gRPC errors carry response code 200 and a status of their own.
func failed(m model.Metric) bool {
	if status := m["grpc_response_status"]; status != "" {
		// Unknown, deadline exceeded, unimplemented, internal, unavailable, data loss: the server's faults.
		return slices.Contains([]string{"2", "4", "12", "13", "14", "15"}, string(status))
	}
	code := string(m["response_code"])
	return code == "0" || strings.HasPrefix(code, "5")
}

// boundOf reads the upper bound of a histogram's bucket; ok is false for what is none.
func boundOf(m model.Metric) (bound float64, ok bool) {
	b, err := strconv.ParseFloat(string(m["le"]), 64)
	return b, err == nil && !math.IsNaN(b) && !math.IsInf(b, -1)
}

// boundsOf returns the finite upper bounds, ascending, that all histograms present in a block have. Proxies of several
// configurations may report at once; what lies above a bound is known only where the bound is.
func boundsOf(all []series, q rollout.Question, i int) []float64 {
	have, histograms := map[float64]int{}, map[model.Fingerprint]bool{}
	for _, s := range all {
		bound, ok := boundOf(s.labels)
		if version := string(s.labels[versionLabel]); !ok || !s.present[i] || (version != q.Stable && version != q.Canary) {
			continue
		}
		if math.IsInf(bound, 1) {
			histogram := s.labels.Clone()
			delete(histogram, "le")
			histograms[histogram.Fingerprint()] = true
			continue
		}
		have[bound]++
	}
	var bounds []float64
	for b, n := range have {
		if n == len(histograms) {
			bounds = append(bounds, b)
		}
	}
	slices.Sort(bounds)
	return bounds
}

// countSlow counts requests and those above each bound. Istio's bounds are milliseconds.
func countSlow(all []series, q rollout.Question, i int) rollout.Counts {
	bounds := boundsOf(all, q, i)
	c := rollout.Counts{Bounds: make([]float64, len(bounds))}
	for k, b := range bounds {
		c.Bounds[k] = b / 1000
	}
	c.Stable.Events, c.Canary.Events = make([]float64, len(bounds)), make([]float64, len(bounds))
	for _, s := range all {
		a := arm(&c, q, s.labels[versionLabel])
		b, ok := boundOf(s.labels)
		if a == nil || !ok || !answerable(s.labels) {
			continue
		}
		if math.IsInf(b, 1) {
			a.Requests += s.increase[i]
		} else if k, found := slices.BinarySearch(bounds, b); found {
			a.Events[k] += s.increase[i]
		}
	}
	exceed(&c.Stable)
	exceed(&c.Canary)
	return c
}

// exceed turns counts at or below each bound into counts above it.
func exceed(a *rollout.Arm) {
	for k := range a.Events {
		a.Events[k] = math.Max(0, a.Requests-a.Events[k])
	}
}

// countMeans adds up sums and counts by version and bucket. A series without a valid
// bucket is passed over: units that cannot be told apart cannot be counted as units.
func countMeans(sums, counts []series, g rollout.Gate, q rollout.Question, i int) rollout.Counts {
	c := rollout.Counts{}
	add := func(all []series, to func(b *rollout.BucketSum, v float64)) {
		for _, s := range all {
			a := arm(&c, q, s.labels[model.LabelName(g.VersionLabel)])
			bucket, ok := bucketOf(s.labels, g.BucketLabel)
			if a == nil || !ok {
				continue
			}
			k := slices.IndexFunc(a.Buckets, func(b rollout.BucketSum) bool { return b.Bucket == bucket })
			if k < 0 {
				a.Buckets = append(a.Buckets, rollout.BucketSum{Bucket: bucket})
				k = len(a.Buckets) - 1
			}
			to(&a.Buckets[k], s.increase[i])
		}
	}
	add(counts, func(b *rollout.BucketSum, v float64) { b.Count += v })
	add(sums, func(b *rollout.BucketSum, v float64) { b.Sum += v })
	for _, a := range []*rollout.Arm{&c.Stable, &c.Canary} {
		a.Buckets = slices.DeleteFunc(a.Buckets, func(b rollout.BucketSum) bool { return b.Count <= 0 })
		slices.SortFunc(a.Buckets, func(x, y rollout.BucketSum) int { return x.Bucket - y.Bucket })
	}
	return c
}

// bucketOf reads the unit's bucket from a label; ok is false for one that is not a number from 0 to 99.
func bucketOf(m model.Metric, label string) (bucket int, ok bool) {
	b, err := strconv.Atoi(string(m[model.LabelName(label)]))
	return b, err == nil && b >= 0 && b < rollout.Buckets
}

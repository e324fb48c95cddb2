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

// countErrors counts requests and those that failed: answered 5xx, or not answered at all. A request that the client
// gave up (DC, downstream close) says nothing of the version, and one that was refused by a rate limit neither.
func countErrors(all []series, q rollout.Question, i int) rollout.Counts {
	c := rollout.Counts{}
	c.Stable.Events, c.Canary.Events = make([]float64, 1), make([]float64, 1)
	for _, s := range all {
		a := arm(&c, q, s.labels[versionLabel])
		if a == nil || s.labels["response_flags"] == "DC" {
			continue
		}
		a.Requests += s.increase[i]
		if failed(s.labels) {
			a.Events[0] += s.increase[i]
		}
	}
	return c
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

// boundsOf returns the finite upper bounds of a classic histogram in milliseconds, ascending.
func boundsOf(all []series) []float64 {
	var bounds []float64
	for _, s := range all {
		b, err := strconv.ParseFloat(string(s.labels["le"]), 64)
		if err == nil && !math.IsInf(b, 0) && !slices.Contains(bounds, b) {
			bounds = append(bounds, b)
		}
	}
	slices.Sort(bounds)
	return bounds
}

// countSlow counts requests and those above each bound.
func countSlow(all []series, bounds []float64, q rollout.Question, i int) rollout.Counts {
	c := rollout.Counts{Bounds: make([]float64, len(bounds))}
	for k, b := range bounds {
		c.Bounds[k] = b / 1000
	}
	c.Stable.Events, c.Canary.Events = make([]float64, len(bounds)), make([]float64, len(bounds))
	for _, s := range all {
		a := arm(&c, q, s.labels[versionLabel])
		if a == nil || s.labels["response_flags"] == "DC" {
			continue
		}
		b, err := strconv.ParseFloat(string(s.labels["le"]), 64)
		if err != nil {
			continue
		}
		if math.IsInf(b, 1) {
			a.Requests += s.increase[i]
			continue
		}
		a.Events[slices.Index(bounds, b)] += s.increase[i]
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

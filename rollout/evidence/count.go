package evidence

import (
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"

	"github.com/siskin-dev/siskin/rollout"
)

const versionLabel = "destination_version"

// arm returns the arm of a version, or nil for a version that does not take part.
func arm(c *rollout.Counts, q rollout.Question, version string) *rollout.Arm {
	switch version {
	case q.Stable:
		return &c.Stable
	case q.Canary:
		return &c.Canary
	}
	return nil
}

// versionOf reads the version that a series counts: from the label that the gate names ("version" by default), else from
// Istio's, else from the subset in the name of Envoy's cluster.
func versionOf(m model.Metric, label string) string {
	if label == "" {
		label = "version"
	}
	for _, name := range []string{label, versionLabel} {
		if v := m[model.LabelName(name)]; v != "" {
			return string(v)
		}
	}
	for _, name := range []model.LabelName{"envoy_cluster_name", "cluster_name"} {
		if parts := strings.Split(string(m[name]), "|"); len(parts) == 4 && parts[0] == "outbound" {
			return parts[2]
		}
	}
	return ""
}

// countErrors counts requests and those that failed: answered 5xx, or not answered at all. A series without a response
// code is passed over, since nobody knows what it counts. By buckets those series count that have one.
func countErrors(all []series, g rollout.Gate, q rollout.Question) rollout.Counts {
	c := rollout.Counts{}
	c.Stable.Events, c.Canary.Events = make([]float64, 1), make([]float64, 1)
	buckets := bucketSums{}
	for _, s := range all {
		a := arm(&c, q, string(s.labels[versionLabel]))
		if a == nil {
			continue
		}
		a.Sent += s.increase
		if s.labels["response_code"] == "" || !answerable(s.labels) {
			continue
		}
		errors := 0.0
		if failed(s.labels) {
			errors = s.increase
		}
		a.Requests += s.increase
		a.Events[0] += errors
		buckets.add(a, s, g.BucketLabel, errors, s.increase)
	}
	buckets.write(&c)
	return c
}

// answerable says whether the requests of a series say anything of the version: not those that the client gave up (DC,
// downstream close), nor those that a rate limit refused.
func answerable(m model.Metric) bool { return !flagged(m, "DC") && !limited(m) }

// limited says whether a rate limit refused the requests of a series: for their number (RL), or because the rate limit service
// did not answer (RLSE).
func limited(m model.Metric) bool { return flagged(m, "RL") || flagged(m, "RLSE") }

func flagged(m model.Metric, flag string) bool {
	for f := range strings.SplitSeq(string(m["response_flags"]), ",") {
		if f == flag {
			return true
		}
	}
	return false
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

// countMeans adds up sums and counts by version, and by the unit's bucket where the gate has a label for it. A series
// without a valid bucket is passed over then: units that cannot be told apart cannot be counted as units.
func countMeans(sums, counts []series, g rollout.Gate, q rollout.Question) rollout.Counts {
	if g.BucketLabel == "" {
		return countPairs(sums, counts, g, q)
	}
	c, buckets := rollout.Counts{}, bucketSums{}
	for _, s := range counts {
		buckets.add(arm(&c, q, string(s.labels[model.LabelName(g.VersionLabel)])), s, g.BucketLabel, 0, s.increase)
	}
	for _, s := range sums {
		buckets.add(arm(&c, q, string(s.labels[model.LabelName(g.VersionLabel)])), s, g.BucketLabel, s.increase, 0)
	}
	buckets.write(&c)
	return c
}

// countPairs adds up sums and counts by version. An arm of which only one of the two was read, or where it cannot be told
// what a process counted, is not counted: joules of half of the requests are half of the joules.
func countPairs(sums, counts []series, g rollout.Gate, q rollout.Question) rollout.Counts {
	c := rollout.Counts{}
	sum, summed := total(sums, g, q)
	count, counted := total(counts, g, q)
	for i, a := range []*rollout.Arm{&c.Stable, &c.Canary} {
		if summed[i] && counted[i] {
			a.Sum, a.Requests = sum[i], count[i]
		}
	}
	return c
}

// total adds up the increases of stable and of the canary; known is false for one that had no sample or is torn.
func total(all []series, g rollout.Gate, q rollout.Question) (sum [2]float64, known [2]bool) {
	var torn [2]bool
	for _, s := range all {
		for i, version := range []string{q.Stable, q.Canary} {
			if versionOf(s.labels, g.VersionLabel) == version && version != "" {
				sum[i] += s.increase
				known[i] = known[i] || s.present
				torn[i] = torn[i] || (s.present && s.torn)
			}
		}
	}
	for i := range known {
		known[i] = known[i] && !torn[i]
	}
	return sum, known
}

// countUnits counts units that were newly assigned. A version that none was assigned to has no series, and counts 0.
func countUnits(all []series, g rollout.Gate, q rollout.Question) rollout.Counts {
	c := rollout.Counts{}
	sum, _ := total(all, g, q)
	c.Stable.Requests, c.Canary.Requests = sum[0], sum[1]
	return c
}

// countAnswers counts requests that were sent to a version and those that were answered. Of Istio's counter, which counts
// a request when it ends, those that the client gave up were sent and not answered, and those that a rate limit refused
// were not sent.
func countAnswers(sent, answered []series, g rollout.Gate, q rollout.Question) rollout.Counts {
	met, _ := total(sent, g, q)
	sent = slices.DeleteFunc(slices.Clone(sent), func(s series) bool { return limited(s.labels) })
	c := countPairs(answered, sent, g, q)
	c.Stable.Sent, c.Canary.Sent = met[0], met[1]
	for _, s := range answered {
		if a := arm(&c, q, versionOf(s.labels, g.VersionLabel)); a != nil && a.Requests > 0 && !replied(s.labels) {
			a.Sum -= s.increase
		}
	}
	return c
}

// replied says whether the requests of a series got a reply of the version, or of the mesh in its place.
func replied(m model.Metric) bool { return m["response_code"] != "0" && answerable(m) }

// bucketSums are sums and counts by bucket.
type bucketSums map[*rollout.Arm]*[rollout.Buckets]rollout.BucketSum

// add adds to the bucket of a series, unless it has none or its version does not take part.
func (t bucketSums) add(a *rollout.Arm, s series, label string, sum, count float64) {
	bucket, ok := bucketOf(s.labels, label)
	if a == nil || label == "" || !ok {
		return
	}
	if t[a] == nil {
		t[a] = &[rollout.Buckets]rollout.BucketSum{}
	}
	b := &t[a][bucket]
	b.Bucket, b.Sum, b.Count = bucket, b.Sum+sum, b.Count+count
}

// write gives both arms their buckets that counted anything, in order.
func (t bucketSums) write(c *rollout.Counts) {
	for _, a := range []*rollout.Arm{&c.Stable, &c.Canary} {
		if t[a] == nil {
			continue
		}
		for _, b := range t[a] {
			if b.Count > 0 {
				a.Buckets = append(a.Buckets, b)
			}
		}
	}
}

// bucketOf reads the unit's bucket from a label; ok is false for one that is not a number from 0 to 99.
func bucketOf(m model.Metric, label string) (bucket int, ok bool) {
	b, err := strconv.Atoi(string(m[model.LabelName(label)]))
	return b, err == nil && b >= 0 && b < rollout.Buckets
}

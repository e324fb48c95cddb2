package rollout

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// storedTrail is a Trail as it is stored: the maps in order, so that equal evidence has equal bytes, and without the grids
// of alternatives, which follow from the nulls and would be half of the bytes. It is JSON: its numbers come back bit for
// bit, and reading it takes time and memory in proportion to its length, whoever wrote it.
type storedTrail struct {
	Trail                  Trail
	Stable, Canary, Before []BucketSum `json:",omitempty"`
}

// MarshalBinary encodes the evidence for the status. Equal evidence has equal bytes.
func (e Evidence) MarshalBinary() ([]byte, error) {
	out := make([]storedTrail, len(e.Trails))
	for i, t := range e.Trails {
		t = t.clone()
		out[i] = storedTrail{Stable: sortedBuckets(t.StableBuckets), Canary: sortedBuckets(t.CanaryBuckets), Before: sortedBuckets(t.Before)}
		t.StableBuckets, t.CanaryBuckets, t.Before = nil, nil, nil
		if t.Safety != nil {
			t.Safety.Grid = nil
		}
		if t.Below != nil {
			t.Below.Grid = nil
		}
		out[i].Trail = t
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encoding evidence: %w", err)
	}
	return b, nil
}

// UnmarshalBinary decodes what MarshalBinary wrote. Evidence of a shape that this release does not know decodes too; it
// begins anew when it next meets its gate.
func (e *Evidence) UnmarshalBinary(data []byte) error {
	var in []storedTrail
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("decoding evidence of %d bytes: %w", len(data), err)
	}
	e.Trails = make([]Trail, len(in))
	for i, s := range in {
		t := s.Trail
		t.StableBuckets, t.CanaryBuckets, t.Before = bucketMap(s.Stable), bucketMap(s.Canary), bucketMap(s.Before)
		if t.Safety != nil {
			t.Safety.Grid = stats.NewSafety(t.Safety.Null).Grid
		}
		if t.Below != nil {
			t.Below.Grid = stats.NewRateBelow(t.Below.Tolerance).Grid
		}
		e.Trails[i] = t
	}
	return nil
}

// shaped says whether a trail has the numbers that this release would keep for the gate.
func (t Trail) shaped(g Gate) bool {
	fresh := newTrail(g)
	if !alike(t.Safety, fresh.Safety) || !alikeBelow(t.Below, fresh.Below) || t.Blocks < 0 {
		return false
	}
	if (t.Pairs == nil) != (fresh.Pairs == nil) || (t.Shares == nil) != (fresh.Shares == nil) {
		return false
	}
	if !sameBet(t.BetHarm, fresh.BetHarm) || !sameBet(t.BetSafety, fresh.BetSafety) {
		return false
	}
	if (t.Answers == nil) != (fresh.Answers == nil) || (t.Answers != nil && !t.Answers.sound()) {
		return false
	}
	if t.Shares != nil && len(t.Shares.Counts) != len(t.Shares.Weights) {
		return false
	}
	return !g.byRequest() || t.shapedByRequest(g, fresh)
}

func (t Trail) shapedByRequest(g Gate, fresh Trail) bool {
	if t.Curve == nil || len(t.Curve.LogLik) != len(fresh.Curve.LogLik) {
		return false
	}
	if slices.ContainsFunc(t.Harm, func(h *stats.Harm) bool { return !h.Sound() }) {
		return false
	}
	if g.Type == ErrorRate {
		return len(t.Harm) == 1 && t.SLO == 0 && t.First == 0
	}
	if len(t.Harm) == 0 {
		return len(t.Bounds) == 0 || t.Broken != ""
	}
	if !t.Shape.Sound(len(t.Harm) + 1) {
		return false
	}
	return t.First >= 0 && t.First <= t.SLO && t.SLO < len(t.Bounds) && t.First+len(t.Harm) == len(t.Bounds)
}

func alike(p, q *stats.RateRatio) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p.Null == q.Null && len(p.LogLR) == len(q.LogLR) && len(p.Grid) == len(q.Grid)
}

func alikeBelow(p, q *stats.RateBelow) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p.Tolerance == q.Tolerance && len(p.LogLR) == len(q.LogLR)
}

func sameBet(p, q *stats.Bet) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p.Null == q.Null && p.Lowest == q.Lowest && p.Highest == q.Highest && p.Sound()
}

func sortedBuckets(m map[int]stats.Cluster) []BucketSum {
	out := make([]BucketSum, 0, len(m))
	for b, c := range m {
		out = append(out, BucketSum{Bucket: b, Sum: c.Sum, Count: c.Count})
	}
	slices.SortFunc(out, func(a, b BucketSum) int { return a.Bucket - b.Bucket })
	return out
}

func bucketMap(sums []BucketSum) map[int]stats.Cluster {
	m := make(map[int]stats.Cluster, len(sums))
	for _, s := range sums {
		if s.counted() {
			m[s.Bucket] = stats.Cluster{Sum: s.Sum, Count: s.Count}
		}
	}
	return m
}

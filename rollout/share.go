package rollout

import (
	"math"
	"slices"
	"time"
)

// Share is what telemetry says of the weight: whether the share of requests that meet the canary is the one that was
// decided. It gathers requests until they tell one weight from the other, and begins anew with each answer, so that a share
// that changes late is seen soon. The zero value has seen nothing at the first step.
type Share struct {
	// Canary of All requests met the canary since the last answer. Want is how many would have if the weight is in force,
	// Was if the former one still is.
	Canary, All, Want, Was float64
	// Seen says that there were any at this step.
	Seen bool
	// Last is the share, 0 to 1, at the last answer; From what it was when the step began, at the weight Former.
	Last, From float64
	Former     int
	// Agreed is the end of the block that showed this step's weight; zero while none has.
	Agreed time.Time
	// Apart and ApartUntil are the ends of the first and the last block that contradict the weight since one agreed.
	Apart, ApartUntil time.Time
}

const (
	// shareBlocks is the number of blocks after which a weight that nobody could tell from the former one is taken for
	// realised, and one that is contradicted all that time for not realised.
	shareBlocks = 8
	// sharePoints is what the share may differ by, beside chance, where it is known what it should be: testers' pins.
	sharePoints = 0.02
	// shareUnits and shareRates say what a share may be where units keep their variant and nobody counts their buckets: the
	// traffic may be that of so few equal units, and those that meet the canary may send so many times more or less.
	shareUnits, shareRates = 30, 2
	// shareChance is the probability that so few units fall beyond the band, on either side.
	shareChance = 0.001
	// shareZ is the width, in standard deviations, of the interval of a share that contradicts.
	shareZ = 4
)

// shareOdds is the log likelihood ratio at which the requests tell one weight from the other.
var shareOdds = math.Log(100)

// Settles is how long a weight may take to show.
func (p Plan) Settles() time.Duration { return max(shareBlocks*p.Interval, 10*time.Second) }

// realised counts a block towards the share and says whether the block is to be judged at the step's weight.
func (r *Run) realised(p Plan, b Block) bool {
	s := &r.Share
	if p.Targeted {
		return !b.Start.Before(r.Spreading)
	}
	seen, exact := s.add(p, *r, b)
	if seen {
		s.answer(r.Weight, exact, b.End)
	}
	switch {
	case b.Start.Before(r.Spreading) || !s.Apart.IsZero():
		return false
	case !seen || !s.Agreed.IsZero():
		return true
	}
	return !b.End.Before(r.StepStarted.Add(p.WarmUp + p.Settles()))
}

// add adds a block's requests: by their buckets where a gate counts them so, else as the mesh counts them. It says whether
// there are any, and whether it is known exactly what their share should be.
func (s *Share) add(p Plan, r Run, b Block) (seen, exact bool) {
	for _, g := range p.Gates {
		if c := b.Counts[g.Name]; g.Type == ErrorRate && g.bucketed() && s.addBuckets(p, r, c) {
			return true, true
		}
	}
	for _, g := range p.Gates {
		c := b.Counts[g.Name]
		n := c.Canary.Sent + c.Stable.Sent
		if !(n > 0) || math.IsInf(n, 1) || !(c.Canary.Sent >= 0) || !(c.Stable.Sent >= 0) {
			continue
		}
		want, was := float64(r.Weight)/Buckets, float64(s.Former)/Buckets
		if p.Sticky {
			// What has joined is as large as what could have joined.
			want, was = s.From+(1-s.From)*(want-was)/(1-was), s.From
		}
		s.Canary, s.All, s.Want, s.Was = s.Canary+c.Canary.Sent, s.All+n, s.Want+n*want, s.Was+n*was
		return true, !p.Sticky
	}
	return false, false
}

// addBuckets adds requests whose buckets are known, and so what becomes of them, however much one bucket sends.
func (s *Share) addBuckets(p Plan, r Run, c Counts) bool {
	order := Order(r.ID)
	now, before := order[:r.Weight], order[:s.Former]
	seen := false
	for i, sums := range [][]BucketSum{c.Canary.Buckets, c.Stable.Buckets} {
		for _, b := range sums {
			if !b.counted() {
				continue
			}
			seen = true
			s.All += b.Count
			if i == 0 {
				s.Canary += b.Count
			}
			if slices.Contains(now, b.Bucket) {
				s.Want += b.Count
			}
			if slices.Contains(before, b.Bucket) {
				s.Was += b.Count
			}
		}
	}
	return seen
}

// answer says, as soon as the requests can tell, whether the weight is in force, and begins anew.
func (s *Share) answer(weight int, exact bool, end time.Time) {
	s.Seen = true
	share, want := s.Canary/s.All, s.Want/s.All
	low, high := want-sharePoints, want+sharePoints
	if !exact {
		low, high = shareBand(weight)
	}
	least, most := wilson(s.Canary, s.All)
	outside := share < low || share > high
	odds := s.odds()
	oneSided := s.Canary == 0 || (s.Canary == s.All && weight < Buckets)
	switch {
	case oneSided && odds > -shareOdds:
		return
	case oneSided: // nothing was counted for a variant: that is no data, and the gates say so
	case least > high || most < low || (outside && odds <= -shareOdds):
		if s.Apart.IsZero() {
			s.Apart = end
		}
		s.ApartUntil = end
	case outside || math.Abs(odds) < shareOdds:
		return
	case odds >= shareOdds:
		if s.Agreed.IsZero() {
			s.Agreed = end
		}
		s.Apart, s.ApartUntil = time.Time{}, time.Time{}
	}
	s.Last = share
	s.Canary, s.All, s.Want, s.Was = 0, 0, 0, 0
}

// odds is the log likelihood ratio of the share that is wanted against the one that was.
func (s *Share) odds() float64 {
	between := func(v float64) float64 { return min(max(v/s.All, 0.001), 0.999) }
	want, was := between(s.Want), between(s.Was)
	return s.Canary*math.Log(want/was) + (s.All-s.Canary)*math.Log((1-want)/(1-was))
}

// Realised is the share, 0 to 1, of the requests that met the canary when they last told the weight at this step; ok is
// false while they have not.
func (s Share) Realised() (share float64, ok bool) {
	return s.Last, !s.Agreed.IsZero() || !s.Apart.IsZero()
}

// next returns what the next step begins with.
func (s Share) next(weight int) Share {
	from := float64(weight) / Buckets
	if !s.Agreed.IsZero() {
		from = min(s.Last, 0.999)
	}
	return Share{From: from, Last: from, Former: weight}
}

// shareBand returns the shares of requests that shareUnits units of equal traffic may have at a weight, when each unit of
// the canary sends up to shareRates times more or less than one of stable: the quantiles of a binomial distribution.
func shareBand(weight int) (low, high float64) {
	w := float64(weight) / Buckets
	low = shareQuantile(w / (w + shareRates*(1-w)))
	high = 1 - shareQuantile((1-w)/(1-w+shareRates*w))
	return low - sharePoints, high + sharePoints
}

// shareQuantile returns the share of shareUnits units that fewer than shareChance of all draws lie below.
func shareQuantile(p float64) float64 {
	below := 0.0
	for k := range shareUnits {
		a, _ := math.Lgamma(shareUnits + 1)
		b, _ := math.Lgamma(float64(k) + 1)
		c, _ := math.Lgamma(float64(shareUnits-k) + 1)
		below += math.Exp(a - b - c + times(float64(k), math.Log(p)) + times(float64(shareUnits-k), math.Log1p(-p)))
		if below > shareChance {
			return float64(k) / shareUnits
		}
	}
	return 1
}

// times is n v, and 0 for no v however infinite it is.
func times(n, v float64) float64 {
	if n == 0 {
		return 0
	}
	return n * v
}

// wilson returns the interval of a share of x in n, shareZ standard deviations wide on either side (Wilson 1927).
func wilson(x, n float64) (low, high float64) {
	const z2 = shareZ * shareZ
	p := x / n
	middle := (p + z2/(2*n)) / (1 + z2/n)
	half := shareZ / (1 + z2/n) * math.Sqrt(p*(1-p)/n+z2/(4*n*n))
	return middle - half, middle + half
}

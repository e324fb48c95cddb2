package energy

import (
	"math"
	"math/bits"
	"time"
)

// Outcome says what a Counter made of a reading. The refusals are values of the metric label "reason".
type Outcome string

// The outcomes. Only Counted and Rebased add to a total.
const (
	// First: there was nothing to compare with; counting starts here.
	First Outcome = "first"
	// Counted: the increment is good, across a wrap or not.
	Counted Outcome = "counted"
	// Rebased: the reading continues the one refused before it, so the counter did start anew; counted from there.
	Rebased Outcome = "rebased"
	// Reset: a step back that cannot be a wrap.
	Reset Outcome = "reset"
	// Jump: a step forward that nothing could have used in the time.
	Jump Outcome = "jump"
	// Sentinel: a value that stands for "no reading", or lies beyond the counter's range.
	Sentinel Outcome = "sentinel"
)

// Limits are the physical bounds of a counter.
type Limits struct {
	// Range is the value at which the counter starts again at 0; 0 if it never does.
	Range uint64
	// PerSecond is the most that it can grow in a second; 0 if no bound is known.
	PerSecond uint64
}

// guardSlack covers the time between the reading of the clock and the reading of the counter: 100 ms, ten times the
// coarsest kernel tick, and the reader's own delays on a busy node.
const guardSlack = 100 * time.Millisecond

// Counter turns readings of a cumulative counter into increments, and refuses those that cannot be true.
//
// A refused reading is not forgotten: if the next one does not go on from the last good reading but does go on from the
// refused one, the counter did start anew and counting goes on from there. A single bad value therefore costs nothing
// (the next good one catches up), and a restart costs what was used around it but is never counted twice.
// The zero value is ready. Not safe for concurrent use.
type Counter struct {
	good, refused sample
}

// sample is a reading with its time; ok tells it from the zero value.
type sample struct {
	value uint64
	at    time.Time
	ok    bool
}

// Start makes value at the given time the point to count from.
func (c *Counter) Start(at time.Time, value uint64) {
	c.good, c.refused = sample{value, at, true}, sample{}
}

// Observe takes a reading and returns the increment since the last good one; 0 unless Counted or Rebased.
func (c *Counter) Observe(at time.Time, value uint64, lim Limits) (uint64, Outcome) {
	if isSentinel(value) || (lim.Range > 0 && value > lim.Range) {
		return 0, Sentinel
	}
	if !c.good.ok {
		c.Start(at, value)
		return 0, First
	}
	delta, outcome := c.good.step(at, value, lim)
	if c.refused.ok && value >= c.refused.value && (outcome != Counted || value < c.good.value) {
		// Going on from the refused reading explains more than a jump, or a wrap right after a refusal.
		if again, resumed := c.refused.step(at, value, lim); resumed == Counted {
			delta, outcome = again, Rebased
		}
	}
	if outcome != Counted && outcome != Rebased {
		c.refused = sample{value, at, true}
		return 0, outcome
	}
	c.Start(at, value)
	return delta, outcome
}

// step judges the way from s to value.
func (s sample) step(at time.Time, value uint64, lim Limits) (uint64, Outcome) {
	delta := value - s.value
	refusal := Jump
	if value < s.value {
		if lim.Range < s.value {
			return 0, Reset
		}
		delta = lim.Range - s.value + value
		refusal = Reset
	}
	if !plausible(delta, at.Sub(s.at), lim.PerSecond) {
		return 0, refusal
	}
	return delta, Counted
}

// plausible says whether delta can have come in the time at no more than perSecond (0: no bound).
func plausible(delta uint64, elapsed time.Duration, perSecond uint64) bool {
	if perSecond == 0 {
		return true
	}
	return delta <= rateTimes(perSecond, max(elapsed, 0)+guardSlack)
}

// rateTimes is perSecond * d in whole units, saturating.
func rateTimes(perSecond uint64, d time.Duration) uint64 {
	hi, lo := bits.Mul64(perSecond, uint64(d))
	if hi >= uint64(time.Second) {
		return math.MaxUint64
	}
	q, _ := bits.Div64(hi, lo, uint64(time.Second))
	return q
}

// isSentinel knows the values that stand for "no reading": all ones in 64 and 63 bits, and 32 bits of ones in milli
// units read as micro units (seen from ACPI meters and taken for 4.3 MJ).
func isSentinel(v uint64) bool {
	return v == math.MaxUint64 || v == math.MaxInt64 || v == math.MaxUint32*1000
}

package rollout

import "time"

// Block is one evaluation interval's raw counts per variant. Blocks lie on a fixed wall-clock grid: End is a multiple
// of the interval since the Unix epoch, so whoever asks gets the same blocks.
type Block struct {
	Start, End time.Time
	// Counts holds each gate's counts by the gate's name. A gate without an entry had no data in this block.
	Counts map[string]Counts
}

// Counts are a gate's raw counts in one block.
type Counts struct {
	Stable, Canary Arm
	// Bounds are the upper bounds, in seconds and ascending, of the latency histogram whose exceedances Arm.Events
	// lists. It is empty for an error rate, whose single event is the error.
	Bounds []float64
}

// Arm is what was counted in one variant.
type Arm struct {
	// Requests is the number of requests, Events how many of them were errors (one number), or took longer than each
	// bound (one number a bound).
	Requests float64
	Events   []float64
	// Sent is the number of requests that met the variant, whatever became of them; 0 where nobody counts them. It is not
	// recorded, since a record is replayed at other weights.
	Sent float64 `json:"-"`
	// Sum is the sum over the Requests of a mean without buckets, or the joules they cost, or how many of those sent
	// were answered.
	Sum float64
	// Buckets are the sums and counts of a mean, or the errors and requests, by the unit's bucket.
	Buckets []BucketSum
}

// BucketSum is what the units of one bucket add to a mean.
type BucketSum struct {
	Bucket     int
	Sum, Count float64
}

// GridFloor returns the last instant of the grid of interval at or before t.
func GridFloor(t time.Time, interval time.Duration) time.Time {
	n := t.UnixNano()
	return time.Unix(0, n-n%int64(interval)).UTC()
}

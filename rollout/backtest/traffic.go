package backtest

import (
	"math"
	"time"
)

// Traffic describes the simulated traffic of a service with two versions. Everything is said of the stable version; the
// Fault says in what the canary differs. The zero value of a part leaves it out. Times count from the simulation's start.
type Traffic struct {
	// Requests is the mean number of requests a second of both versions together. Arrivals are Poisson.
	Requests Level
	// Idle are the periods in which no request comes.
	Idle []Period
	// Errors is the share of requests that fail.
	Errors Level
	// Latency is how long requests take.
	Latency Latency
	// Mean is what is observed once a request for gates of type Mean, Energy the joules that a request costs.
	Mean, Energy Quantity
	// NewUnits is the mean number of units a second that are assigned for the first time (SampleRatio gates).
	NewUnits Level
	// Unanswered is the share of requests that are sent and never answered (Data gates).
	Unanswered Level
	// Users make the traffic sticky. Without users every request fails on its own account.
	Users Users
	// Fault is what is wrong with the canary.
	Fault Fault
}

// Level is a number that may change over time: straight lines between points in the order of their time, and constant
// before the first and after the last. An empty level is 0.
type Level []Point

// Point is the value of a level at a time.
type Point struct {
	At    time.Duration
	Value float64
}

// Constant returns a level that does not change.
func Constant(value float64) Level { return Level{{Value: value}} }

// Line returns a level that goes from one value to another in a straight line within over, and stays there.
func Line(from, to float64, over time.Duration) Level {
	return Level{{0, from}, {over, to}}
}

// At returns the value at a time.
func (l Level) At(t time.Duration) float64 {
	for i, p := range l {
		if t >= p.At {
			continue
		}
		if i == 0 {
			return p.Value
		}
		before := l[i-1]
		part := float64(t-before.At) / float64(p.At-before.At)
		return before.Value + part*(p.Value-before.Value)
	}
	if len(l) == 0 {
		return 0
	}
	return l[len(l)-1].Value
}

// Period is a time between two instants.
type Period struct{ From, To time.Duration }

// Latency is a lognormal body with a tail: a share of requests that take a fixed, longer time.
type Latency struct {
	// Bounds are the upper bounds of the histogram in seconds, ascending.
	Bounds []float64
	// Median of the body in seconds, and the standard deviation of its logarithm.
	Median, Sigma float64
	// Tail is the share of requests that take TailAt seconds.
	Tail, TailAt float64
}

// above returns the share of requests that take longer than a bound, of a body that is slower by a factor, with a
// further share of requests in the tail.
func (l Latency) above(bound, slower, tail, tailAt float64) float64 {
	share := 0.0
	if l.Median > 0 && l.Sigma > 0 {
		share = 0.5 * math.Erfc(math.Log(bound/(l.Median*slower))/(l.Sigma*math.Sqrt2))
	}
	own := 0.0
	if l.TailAt > bound {
		own = l.Tail
	}
	added := 0.0
	if tailAt > bound {
		added = tail
	}
	return (1-tail)*((1-l.Tail)*share+own) + added
}

// Quantity is a number that is observed once a request.
type Quantity struct {
	// Mean is the mean of one observation. Observations are gamma-distributed with the coefficient of variation Spread; where
	// the gate declares a range they are one of its two ends, which varies as much as anything within it can.
	Mean   Level
	Spread float64
	// BetweenBuckets is the standard deviation of the ln of what is peculiar to a bucket for good, BetweenBlocks of what both
	// versions share within one block.
	BetweenBuckets, BetweenBlocks float64
}

// Users are sticky: each falls into one bucket for ever.
type Users struct {
	// Count is how many there are.
	Count int
	// Failing is the probability with which a user is one whose every request fails, in both versions.
	Failing float64
	// Activity is the standard deviation of the ln of a user's share of the requests; 0 gives all the same share.
	Activity float64
}

// Fault is what is wrong with the canary. Zero ratios mean 1. Where several are set, they all apply.
type Fault struct {
	// From is when it begins, MinWeight the weight from which on it shows: some faults need load.
	From      time.Duration
	MinWeight int
	// Errors, Slower, Mean and Energy multiply the share of errors, the median latency, the mean and the joules.
	Errors, Slower, Mean, Energy float64
	// Tail is a further share of requests that take TailAt seconds.
	Tail, TailAt float64
	// Unanswered is a further share of requests without an answer, Lost the share of the canary's new units that are not
	// counted as such.
	Unanswered, Lost float64
}

// at returns the fault as it shows at a time and a weight, with ratios that can be multiplied.
func (f Fault) at(t time.Duration, weight int) Fault {
	if t < f.From || weight < f.MinWeight {
		return healthy
	}
	for _, r := range []*float64{&f.Errors, &f.Slower, &f.Mean, &f.Energy} {
		if *r == 0 {
			*r = 1
		}
	}
	return f
}

// healthy is the fault of stable, and of a canary with none.
var healthy = Fault{Errors: 1, Slower: 1, Mean: 1, Energy: 1}

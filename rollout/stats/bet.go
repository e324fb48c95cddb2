package stats

import "math"

// Bet is the exact e-process for the mean of bounded observations, as the capital of a gambler who bets that the mean is above
// Null. Its null is that every observation has, given those before it, a mean of at most Null.
//
//	K = product of 1 + l_t (y_t - m),  y and m: observation and null as fractions of [Lowest, Highest]
//	l_t = (mu - m)/(s2 + (mu - m)^2), within [0, 0.9/m], with mu and s2 the mean and variance of the last y before t
//
// Guarantee: exact whatever the distribution within [Lowest, Highest], and whatever drifts, since no bet knows its own
// outcome. Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting" (the bet is their
// approximation of the one that grows fastest). The range is declared before the run; what lies beyond it counts as its end,
// so the mean is that of the clipped observation. To bet that a mean is below a null, negate everything.
//
// What it costs to be exact: a log e-value grows by less than (mean - Null)/(Null - Lowest) an observation, so a range that
// is wide for what is observed takes long.
type Bet struct {
	Null, Lowest, Highest float64
	// N is the number of observations remembered, at most 100. Sum is their sum of y - m, Squares that of squared deviations
	// of y from the mean up to it.
	N, Sum, Squares float64
	// Log is the natural logarithm of the capital.
	Log float64
}

const (
	// betCap keeps a tenth of the capital whatever happens.
	betCap = 0.9
	// Before the first observation the mean is that of betPrior observations on the null, with a sum of squares of
	// betSquares: small, since means over a block lie close together.
	betPrior, betSquares = 5, 0.01
	// betMemory is how many observations, discounted, the bet looks back on: a mean that rises late is soon bet on.
	betMemory = 100
	// betFloor is the least null, as a fraction of the range: the test of a lower one is that of this one.
	betFloor = 1e-6
)

// NewBet returns the e-process with the null that the mean of observations within [lowest, highest] is at most null. It never
// has evidence where that cannot be refuted: null at highest or above, or no range.
func NewBet(null, lowest, highest float64) *Bet {
	return &Bet{Null: null, Lowest: lowest, Highest: highest}
}

// Add counts one observation. What is not a number changes nothing.
func (p *Bet) Add(x float64) {
	y, ok1 := fraction(x, p.Lowest, p.Highest)
	m, ok2 := fraction(p.Null, p.Lowest, p.Highest)
	if !ok1 || !ok2 || m >= 1 {
		return
	}
	m = math.Max(m, betFloor)
	ahead := p.Sum / (p.N + betPrior)
	bet := ahead / ((betSquares+p.Squares)/(p.N+betPrior) + ahead*ahead)
	bet = math.Max(0, math.Min(bet, betCap/m))
	p.Log += math.Log1p(bet * (y - m))
	keep := math.Min(1, betMemory/(p.N+1))
	p.N, p.Sum = keep*p.N+1, keep*p.Sum+y-m
	rest := y - m - p.Sum/(p.N+betPrior)
	p.Squares = keep*p.Squares + rest*rest
}

// LogE returns the natural logarithm of the e-value.
func (p *Bet) LogE() float64 { return p.Log }

// Clone returns a copy that shares nothing.
func (p *Bet) Clone() *Bet {
	q := *p
	return &q
}

// Sound says whether a process that was stored holds only what can be.
func (p *Bet) Sound() bool {
	return p != nil && p.N >= 0 && p.Squares >= 0 && isFinite(p.N+p.Squares) && isFinite(p.Sum) && isFinite(p.Log)
}

// fraction returns where x lies in [lowest, highest], from 0 to 1, and false where that cannot be said.
func fraction(x, lowest, highest float64) (float64, bool) {
	if math.IsNaN(x) || !(highest > lowest) || math.IsInf(lowest, 0) || math.IsInf(highest, 0) {
		return 0, false
	}
	return math.Min(1, math.Max(0, (x-lowest)/(highest-lowest))), true
}

package stats

// Prior is that of an event rate: Beta(A, B), as if A events and B requests without one had been seen before. Where a
// parameter is not above zero, both are 0.18, which suits blocks of a design; for error rates 0.5 and 0.5/guess do better.
type Prior struct {
	A, B float64
}

// rate returns the estimate after x events in n requests.
func (p Prior) rate(x, n float64) float64 { return (p.A + x) / (p.A + p.B + n) }

func (p Prior) orDefault() Prior {
	if p.A > 0 && p.B > 0 && isFinite(p.A) && isFinite(p.B) {
		return p
	}
	return Prior{0.18, 0.18}
}

// TwoRates is the plug-in e-process that two event rates are equal, or, one-sided, that the canary's is at most stable's:
//
//	log S = x_c ln(th_c/th_0) + (n_c-x_c) ln((1-th_c)/(1-th_0)) + the same for stable
//	th_0  = (n_c th_c + n_s th_s)/(n_c+n_s)
//
// with th_c and th_s the posterior means of earlier blocks. One-sided, a block whose estimates say that the canary is the
// better one says nothing.
//
// Guarantee: exact for independent requests. With u and v the means of an arm's factors per request under the null,
// (n_c u + n_s v)/n is at most 1, so u^n_c v^n_s is too. It needs both rates to be the same within a block, not over blocks;
// its power suffers when they drift, where RateRatio's does not. Source: Turner, Ly and Grunwald 2021, "Generic E-variables
// for exact sequential k-sample tests that allow for optional stopping".
type TwoRates struct {
	// CanaryPrior and StablePrior are what the estimates begin with.
	CanaryPrior, StablePrior Prior
	// OneSided says that only a canary that fails more is evidence.
	OneSided bool
	// XC, NC, XS and NS are the events and requests of earlier blocks.
	XC, NC, XS, NS float64
	// Log is the natural logarithm of the e-value.
	Log float64
}

// NewTwoRates returns the process with these priors.
func NewTwoRates(canary, stable Prior, oneSided bool) *TwoRates {
	return &TwoRates{CanaryPrior: canary.orDefault(), StablePrior: stable.orDefault(), OneSided: oneSided}
}

// Add counts one block: xc events in nc canary requests, xs in ns stable ones. A block in which either arm had no request
// changes nothing, nor does one that cannot be.
func (p *TwoRates) Add(xc, nc, xs, ns float64) {
	if !countable(xc, nc) || !countable(xs, ns) {
		return
	}
	c, s := p.CanaryPrior.rate(p.XC, p.NC), p.StablePrior.rate(p.XS, p.NS)
	if !p.OneSided || c > s {
		both := (nc*c + ns*s) / (nc + ns)
		p.Log += weigh(xc, c/both) + weigh(nc-xc, (1-c)/(1-both)) + weigh(xs, s/both) + weigh(ns-xs, (1-s)/(1-both))
	}
	p.XC, p.NC, p.XS, p.NS = p.XC+xc, p.NC+nc, p.XS+xs, p.NS+ns
}

// LogE returns the natural logarithm of the e-value.
func (p *TwoRates) LogE() float64 { return p.Log }

// Clone returns a copy that shares nothing.
func (p *TwoRates) Clone() *TwoRates {
	q := *p
	return &q
}

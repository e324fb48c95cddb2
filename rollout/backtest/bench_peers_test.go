package backtest

import (
	"math"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// The rules by which other controllers decide, each from its documentation, on the counts that one check sees. They are
// for comparison and decide nothing of ours.

// counts are the requests and errors of one version within a window.
type counts struct{ requests, errors float64 }

func (c counts) plus(d counts) counts { return counts{c.requests + d.requests, c.errors + d.errors} }

// success is the share of requests that did not fail; NaN without requests, as Prometheus answers 0/0.
func (c counts) success() float64 { return 1 - c.errors/c.requests }

// window is what one check sees.
type window struct{ stable, canary counts }

// answer is what a rule says after a check.
type answer int

const (
	goOn answer = iota
	promote
	rollBack
)

// peer is a rule with its ramp. It is asked once a minute.
type peer interface {
	// weight is the canary's until the next check.
	weight() int
	check(w window) answer
}

// The ramp of all peers: Flagger's documented one, 2 % more at each check up to 50 %.
const (
	rampStep = 2
	rampTop  = 50
)

// leastSuccess is the threshold of Flagger's documented request-success-rate and of Argo Rollouts' documented analysis.
const leastSuccess = 0.99

// flagger is Flagger's rule (docs: "How it works", stepWeight 2, maxWeight 50, threshold 5, interval 1m, built-in metric
// request-success-rate of at least 99 %):
//
//   - a check fails when the canary's success rate over the last interval is below the threshold, or when there is none to
//     be had: no request is a failed check;
//   - failed checks add up over the whole run, and no success resets them;
//   - a failed check leaves the weight as it is;
//   - once there are threshold failed checks, the next tick rolls back;
//   - a good check at the top of the ramp promotes.
type flagger struct {
	threshold int
	failed    int
	reached   int
}

func newFlagger() *flagger { return &flagger{threshold: 5, reached: rampStep} }

func (f *flagger) weight() int { return f.reached }

func (f *flagger) check(w window) answer {
	if f.failed >= f.threshold {
		return rollBack
	}
	if !f.passes(w) {
		f.failed++
		return goOn
	}
	if f.reached >= rampTop {
		return promote
	}
	f.reached += rampStep
	return goOn
}

func (f *flagger) passes(w window) bool {
	return w.canary.requests > 0 && w.canary.success() >= leastSuccess
}

// argo is the rule of Argo Rollouts' background analysis (docs: "Analysis & Progressive Delivery": interval 1m, failureLimit 3,
// successCondition result[0] >= 0.99, no failureCondition), beside steps of 2 % and a minute each:
//
//   - a measurement fails when the condition does not hold, NaN included; the run fails at failureLimit + 1 failed
//     measurements, which add up over the whole run;
//   - an empty answer is an error (the index is out of range); more than consecutiveErrorLimit (4) in a row abort too;
//   - when the steps are over and the analysis has not failed, the canary is promoted: that is the end of the pause of the
//     top weight, whatever the last measurements were.
//
// The answer is empty until the canary has got its first request, and 0/0 in a later window without one.
type argo struct {
	failureLimit, errorLimit int
	failed, errors, checks   int
	seen                     bool
}

func newArgo() *argo { return &argo{failureLimit: 3, errorLimit: 4} }

func (a *argo) weight() int { return min(rampTop, rampStep*(a.checks+1)) }

func (a *argo) check(w window) answer {
	a.checks++
	a.seen = a.seen || w.canary.requests > 0
	if !a.seen {
		a.errors++
	} else {
		a.errors = 0
		if !(w.canary.success() >= leastSuccess) {
			a.failed++
		}
	}
	switch {
	case a.failed > a.failureLimit, a.errors > a.errorLimit:
		return rollBack
	case a.checks >= rampTop/rampStep:
		return promote
	}
	return goOn
}

// kayenta is a canary analysis by Kayenta's judge (docs: "Canary Configuration"; statistics of KayentaJudge: Mann-Whitney at
// level 0.98, tolerance 0.25 of the Hodges-Lehmann shift, direction increase, NaN removed) of one metric, the error rate of
// either version, on the ramp of the others:
//
//   - one value a minute; the analysis is run again every five minutes over all values so far (a growing lookback), as
//     Spinnaker's canary stage does; it asks for no least number of values, and warns below 50;
//   - a score below marginal (75) fails the canary at once, one of at least pass (95) at the end promotes it, one between
//     fails it at the end; with one metric the score is 100 or 0;
//   - a minute without requests has no value; without values the metric is Nodata, which, being half or more of all metrics,
//     scores 0.
type kayenta struct {
	every, checks      int
	experiment, stable []float64
}

func newKayenta() *kayenta { return &kayenta{every: 5} }

func (k *kayenta) weight() int { return min(rampTop, rampStep*(k.checks+1)) }

func (k *kayenta) check(w window) answer {
	k.checks++
	k.experiment = append(k.experiment, 1-w.canary.success())
	k.stable = append(k.stable, 1-w.stable.success())
	if k.checks%k.every != 0 {
		return goOn
	}
	const marginal, pass = 75, 95
	score := stats.KayentaJudge(stats.KayentaConfig{HighOnly: true}, k.experiment, k.stable).Score
	switch over := k.checks >= rampTop/rampStep; {
	case score < marginal, over && score < pass:
		return rollBack
	case over:
		return promote
	}
	return goOn
}

// peers returns a fresh rule of each kind.
func peers() map[string]peer {
	return map[string]peer{"Flagger": newFlagger(), "Argo Rollouts": newArgo(), "Kayenta": newKayenta()}
}

// peerNames are in the order of the tables.
var peerNames = []string{"Flagger", "Argo Rollouts", "Kayenta"}

// atLeastOf returns P(X >= k) for X binomial.
func atLeastOf(k, n int, p float64) float64 {
	sum := 0.0
	for x := k; x <= n; x++ {
		sum += math.Exp(logFactorial(float64(n)) - logFactorial(float64(x)) - logFactorial(float64(n-x)) +
			float64(x)*math.Log(p) + float64(n-x)*math.Log1p(-p))
	}
	return sum
}

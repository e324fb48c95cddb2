package stats

import "math"

// KL returns the Kullback-Leibler divergence kl(p, q) = p ln(p/q) + (1-p) ln((1-p)/(1-q)) of two Bernoulli laws, in nats.
// It is +Inf where q excludes what p allows, and not a number outside [0, 1].
func KL(p, q float64) float64 {
	if !(p >= 0 && p <= 1 && q >= 0 && q <= 1) {
		return math.NaN()
	}
	return math.Max(0, weigh(p, p/q)+weigh(1-p, (1-p)/(1-q)))
}

// Limit returns the least mean number of observations, of info nats each, after which any test with at most alpha false
// alarms at any time can stop with probability one when there is an effect: ln(1/alpha)/info. A test's efficiency is this
// limit by its own mean. It is +Inf where there is nothing to learn. Source: Wald 1945, "Sequential tests of statistical
// hypotheses"; with unknown effects nothing comes nearer than a term ln ln.
func Limit(info, alpha float64) float64 { return perInformation(math.Log(1/alpha), info) }

// LimitWithPower returns the limit for a test that finds the effect with probability 1-beta only: kl(1-beta, alpha)/info.
func LimitWithPower(info, alpha, beta float64) float64 {
	return perInformation(KL(1-beta, alpha), info)
}

func perInformation(nats, info float64) float64 {
	if !(info > 0) {
		return math.Inf(1)
	}
	return nats / info
}

// RateInformation returns the information of one request about two event rates being different, in nats, at canary share w
// of the requests:
//
//	w kl(p_c, p) + (1-w) kl(p_s, p),  p = w p_c + (1-w) p_s
//
// Assumption: requests are independent. The limit of harm is Limit(RateInformation(...), alpha) requests of both variants.
func RateInformation(canary, stable, w float64) float64 {
	p := w*canary + (1-w)*stable
	return w*KL(canary, p) + (1-w)*KL(stable, p)
}

// SafetyInformation returns the information of one request about the ratio of two event rates, canary/stable, being below
// margin, in nats: that of one event times the rate of events,
//
//	(w p_c + (1-w) p_s) kl(q(r), q(margin)),  q(r) = w r/(w r + 1-w),  r = p_c/p_s
//
// It counts what an event says by the variant that it falls on, which for rare events is nearly all there is. It is zero
// where the ratio is not below the margin, since then nothing speaks for safety.
func SafetyInformation(canary, stable, w, margin float64) float64 {
	r := canary / stable
	if !(r < margin) {
		return 0
	}
	return (w*canary + (1-w)*stable) * KL(canaryShare(r, w), canaryShare(margin, w))
}

// canaryShare is q(r), the probability that an event falls on the canary.
func canaryShare(r, w float64) float64 { return w * r / (w*r + 1 - w) }

// ShiftInformation returns the information of one observation about two means that lie shift apart, in nats, for normal
// observations of standard deviation sd, of which the share w is the canary's: w(1-w) shift^2/(2 sd^2).
func ShiftInformation(shift, sd, w float64) float64 {
	return w * (1 - w) * shift * shift / (2 * sd * sd)
}

// HistogramInformation returns the information of one request about two distributions over the same cells being different,
// in nats, at canary share w:
//
//	sum_j w c_j ln(c_j/m_j) + (1-w) s_j ln(s_j/m_j),  m = w c + (1-w) s
//
// canary and stable are probabilities that sum to one each. It is not a number where they differ in length.
func HistogramInformation(canary, stable []float64, w float64) float64 {
	if len(canary) != len(stable) {
		return math.NaN()
	}
	sum := 0.0
	for j, c := range canary {
		m := w*c + (1-w)*stable[j]
		sum += w*weigh(c, c/m) + (1-w)*weigh(stable[j], stable[j]/m)
	}
	return sum
}

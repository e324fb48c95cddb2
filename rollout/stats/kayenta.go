package stats

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// KayentaClass is what a Kayenta-compatible judge says of one metric.
type KayentaClass string

// The classes. KayentaNodata counts neither for nor against the canary, KayentaNodataFail is the class of a metric that
// must have data and counts against it.
const (
	KayentaPass       KayentaClass = "Pass"
	KayentaHigh       KayentaClass = "High"
	KayentaLow        KayentaClass = "Low"
	KayentaNodata     KayentaClass = "Nodata"
	KayentaNodataFail KayentaClass = "NodataFailMetric"
)

// KayentaConfig says how one metric is judged. The zero value is Kayenta's default: either direction, NaN removed, any
// significant change fails.
type KayentaConfig struct {
	// HighOnly and LowOnly judge one direction: "increase" and "decrease" in Kayenta.
	HighOnly, LowOnly bool
	// Level is the confidence level, 0.98 where it is 0. Tolerance times the absolute estimate of the shift is what the
	// interval must keep away from zero; 0.25 where it is 0.
	Level, Tolerance float64
	// CommonLanguage measures effects by the share of pairs in which the experiment is larger, not by the ratio of means.
	CommonLanguage bool
	// AllowedIncrease and AllowedDecrease are the effects from which on a change counts, CriticalIncrease and
	// CriticalDecrease those from which on it fails the canary where Critical is set. All are 1 where they are 0.
	AllowedIncrease, AllowedDecrease, CriticalIncrease, CriticalDecrease float64
	// Critical says that the metric alone can fail the canary, MustHaveData that it fails without data.
	Critical, MustHaveData bool
	// ZeroNaN takes what is not a number for zero, as for counts that are absent while nothing happens.
	ZeroNaN bool
	// OutlierFactor f removes values beyond max(P99, Q3 + f IQR) and min(P1, Q1 - f IQR); 3 is usual, 0 removes none.
	OutlierFactor float64
}

// KayentaVerdict is the outcome for one metric.
type KayentaVerdict struct {
	Class KayentaClass
	// Critical says that the metric fails the canary alone.
	Critical bool
	// Score is that of a canary with this metric alone, 0 to 100.
	Score float64
	// Shift is by how much the experiment lies above the control, in the metric's unit, with its interval; Effect the
	// effect size, NaN where it is not defined.
	Shift  Shift
	Effect float64
}

// KayentaMetric is a judged metric of a canary with the group that it is in.
type KayentaMetric struct {
	Group    string
	Class    KayentaClass
	Critical bool
}

// KayentaJudge judges one metric as Kayenta's judge NetflixACAJudge does, from one value a minute or so of either side: High
// where the direction allows it, the whole interval of HodgesLehmann lies above Tolerance times the absolute estimate
// and the effect is at least AllowedIncrease, or not a number; Low the same downwards; Pass otherwise.
//
// It is a comparator for the backtest and decides nothing: it takes points in time for independent, and it has no
// correction for looking more than once. It departs from Kayenta where that has known defects: a constant series is
// compared as it is and not with noise, the interval is exact and not searched to 1e-4, and a side without a single value
// is Nodata, replaced or not. Infinite values are dropped, as NaN is. Source: github.com/spinnaker/kayenta, docs.
func KayentaJudge(config KayentaConfig, experiment, control []float64) KayentaVerdict {
	c := config.withDefaults()
	v := c.classify(c.clean(experiment), c.clean(control))
	v.Score = KayentaScore([]KayentaMetric{{Class: v.Class, Critical: v.Critical}}, nil)
	return v
}

func (c KayentaConfig) withDefaults() KayentaConfig {
	c.Level, c.Tolerance = cmp.Or(c.Level, 0.98), cmp.Or(c.Tolerance, 0.25)
	c.AllowedIncrease, c.AllowedDecrease = cmp.Or(c.AllowedIncrease, 1), cmp.Or(c.AllowedDecrease, 1)
	c.CriticalIncrease, c.CriticalDecrease = cmp.Or(c.CriticalIncrease, 1), cmp.Or(c.CriticalDecrease, 1)
	return c
}

// clean returns the values that are compared.
func (c KayentaConfig) clean(values []float64) []float64 {
	var out []float64
	for _, v := range values {
		switch {
		case math.IsNaN(v) && c.ZeroNaN:
			out = append(out, 0)
		case !math.IsNaN(v) && !math.IsInf(v, 0):
			out = append(out, v)
		}
	}
	if c.OutlierFactor <= 0 || len(out) == 0 {
		return out
	}
	low, high := outlierFences(out, c.OutlierFactor)
	return slices.DeleteFunc(out, func(v float64) bool { return v < low || v > high })
}

// outlierFences returns min(P1, Q1 - factor IQR) and max(P99, Q3 + factor IQR).
func outlierFences(values []float64, factor float64) (low, high float64) {
	q1, q3 := percentile(values, 25), percentile(values, 75)
	reach := factor * (q3 - q1)
	return math.Min(percentile(values, 1), q1-reach), math.Max(percentile(values, 99), q3+reach)
}

// percentile returns the p-th percentile, 0 <= p <= 100, by linear interpolation between the order statistics around
// (n-1) p/100, counted from zero: type 7 of Hyndman and Fan 1996, R's default. It is NaN without values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 || !(p >= 0 && p <= 100) {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := float64(len(sorted)-1) * p / 100
	i := int(at)
	if i == len(sorted)-1 {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// classify compares clean values.
func (c KayentaConfig) classify(experiment, control []float64) KayentaVerdict {
	if len(experiment) == 0 || len(control) == 0 {
		v := KayentaVerdict{Class: KayentaNodata, Critical: c.Critical, Shift: HodgesLehmann(nil, nil, c.Level), Effect: math.NaN()}
		if c.MustHaveData && !c.Critical {
			v.Class = KayentaNodataFail
		}
		return v
	}
	v := KayentaVerdict{Class: KayentaPass, Shift: HodgesLehmann(experiment, control, c.Level), Effect: c.effect(experiment, control)}
	band := c.Tolerance * math.Abs(v.Shift.Estimate)
	switch {
	case v.Shift.Low > band && !c.LowOnly && atLeast(v.Effect, c.AllowedIncrease):
		v.Class, v.Critical = KayentaHigh, c.Critical && atLeast(v.Effect, c.CriticalIncrease)
	case v.Shift.High < -band && !c.HighOnly && atLeast(-v.Effect, -c.AllowedDecrease):
		v.Class, v.Critical = KayentaLow, c.Critical && atLeast(-v.Effect, -c.CriticalDecrease)
	}
	return v
}

// atLeast takes an effect that is not defined for one that exceeds every limit.
func atLeast(effect, limit float64) bool { return math.IsNaN(effect) || effect >= limit }

// effect returns the effect size: the ratio of means, NaN where a mean is zero, or the common-language effect size.
func (c KayentaConfig) effect(experiment, control []float64) float64 {
	if c.CommonLanguage {
		return CommonLanguage(experiment, control)
	}
	over, under := average(experiment), average(control)
	if over == 0 || under == 0 {
		return math.NaN()
	}
	return over / under
}

func average(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// KayentaScore returns the canary's score, 0 to 100 with two decimals: the weighted average of the groups' scores
//
//	100 Pass/(Pass + High + Low + NodataFailMetric)
//
// A group of Nodata alone has 100. Weights are percent; what is left to 100 is shared by the groups without a weight. The
// score is 0 where a critical metric did not pass, and where half of the metrics or more are Nodata.
func KayentaScore(metrics []KayentaMetric, weights map[string]float64) float64 {
	passed, judged, missing := map[string]float64{}, map[string]float64{}, 0
	for _, m := range metrics {
		if m.Critical && m.Class != KayentaPass {
			return 0
		}
		switch m.Class {
		case KayentaNodata:
			missing++
			judged[m.Group] += 0 // the group is there
			continue
		case KayentaPass:
			passed[m.Group]++
		case KayentaHigh, KayentaLow, KayentaNodataFail:
		}
		judged[m.Group]++
	}
	if 2*missing >= len(metrics) {
		return 0
	}
	left, without := 100.0, 0.0
	for _, w := range weights {
		left -= w
	}
	for group := range judged {
		if _, ok := weights[group]; !ok {
			without++
		}
	}
	sum := 0.0
	for _, group := range slices.Sorted(maps.Keys(judged)) {
		weight, ok := weights[group]
		if !ok {
			weight = left / without
		}
		score := 100.0
		if judged[group] > 0 {
			score = 100 * passed[group] / judged[group]
		}
		sum += score * weight / 100
	}
	return math.Round(sum*100) / 100
}

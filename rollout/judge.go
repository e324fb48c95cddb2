package rollout

import (
	"fmt"
	"math"
	"time"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// staleAfter is the number of intervals without a counted block after which a gate says NoData.
const staleAfter = 4

// Judge says what each gate of the plan makes of the run's evidence and of the alerts that fire. The findings are in
// the order of the plan's gates. It does not change the run.
func Judge(p Plan, r Run, alerts []Alert, now time.Time) []Finding {
	evidence := r.Evidence.fit(p)
	findings := make([]Finding, 0, len(p.Gates))
	next := 0
	for _, g := range p.Gates {
		if !g.judged() {
			findings = append(findings, judgeAlerts(g, alerts))
			continue
		}
		findings = append(findings, judgeTrail(p, r, g, &evidence.Trails[next], now))
		next++
	}
	return blameHarm(p, findings)
}

// HarmLog returns the log of the weighted average of the harm sides' e-values and the bound at which it rolls back.
// The average is an e-process however the gates depend on each other, so FalseAlarm holds over all of them together.
// A gate whose data cannot be trusted keeps its share of the weight and says nothing.
func HarmLog(p Plan, findings []Finding) (logE, bound float64) {
	var logs []float64
	for _, f := range findings {
		if f.Gate.judged() {
			logs = append(logs, f.LogHarm)
		}
	}
	bound = math.Log(1 / p.FalseAlarm)
	if len(logs) == 0 {
		return math.Inf(-1), bound
	}
	return stats.LogMean(logs...), bound
}

// blameHarm gives the verdict Harm to the gate with the most evidence when all together have reached the bound, and to
// every gate that has reached it alone.
func blameHarm(p Plan, findings []Finding) []Finding {
	logE, bound := HarmLog(p, findings)
	if math.IsNaN(logE) || logE < bound {
		return findings
	}
	most := -1
	for i, f := range findings {
		if f.Gate.judged() && f.Verdict != Invalid && (most < 0 || f.LogHarm > findings[most].LogHarm) {
			most = i
		}
	}
	for i := range findings {
		f := &findings[i]
		if i == most || (f.Gate.judged() && f.Verdict != Invalid && f.LogHarm >= f.LogHarmBound) {
			f.Verdict, f.Reason = Harm, harmReason(f.Gate.Type)
		}
	}
	return findings
}

func harmReason(t GateType) Reason {
	switch t {
	case ErrorRate:
		return ErrorsHarm
	case Latency:
		return LatencyHarm
	case Mean:
		return MeanHarm
	case Alerts:
		return AlertFiring
	}
	return MeanHarm
}

// judgeAlerts passes while no alert matches the gate.
func judgeAlerts(g Gate, alerts []Alert) Finding {
	f := Finding{Gate: g, Verdict: Pass, Reason: NoAlerts, Message: "no alert fires", Stable: math.NaN(), Canary: math.NaN()}
	for _, a := range alerts {
		if !a.matches(g.Matchers) || (a.Severity != SeverityCritical && a.Severity != SeverityWarning) {
			continue
		}
		if f.Verdict == Harm && a.Severity != SeverityCritical {
			continue
		}
		f.Verdict, f.Reason = Harm, AlertFiring
		if a.Severity == SeverityWarning {
			f.Verdict, f.Reason = Wait, PausedByAlert
		}
		f.Message = fmt.Sprintf("alert %q (%s) fires: %s", a.Name, a.Severity, a.Summary)
	}
	return f
}

func (a Alert) matches(labels map[string]string) bool {
	for name, value := range labels {
		if a.Labels[name] != value {
			return false
		}
	}
	return true
}

// judgeTrail turns one gate's evidence into a finding: first whether there is data to speak of, then whether the
// safety side has reached its bound. Harm is judged over all gates together, by blameHarm.
func judgeTrail(p Plan, r Run, g Gate, t *Trail, now time.Time) Finding {
	f := Finding{Gate: g, Stable: math.NaN(), Canary: math.NaN(), Low: 0, High: math.Inf(1)}
	f.LogHarmBound = math.Log(float64(p.judgedGates()) / p.FalseAlarm)
	f.LogSafetyBound = math.Log(1 / p.missPerStep())
	if t.Broken != "" {
		f.Verdict, f.Reason, f.LogHarm = Invalid, t.Broken, math.Inf(-1)
		f.Message = brokenMessage(g, t)
		return f
	}
	if g.Type == Mean {
		measureMean(p, g, t, &f)
	} else {
		measureCounts(p, g, t, &f)
	}
	if reason, message := t.missing(p, r, now); reason != "" {
		f.Verdict, f.Reason, f.Message = NoData, reason, message
		return f
	}
	if t.LastData.IsZero() {
		f.Verdict, f.Reason, f.Message = Wait, CollectingEvidence, "no block has been counted yet"
		return f
	}
	if f.Verdict == "" {
		f.Verdict, f.Reason = Wait, CollectingEvidence
		if f.LogSafety >= f.LogSafetyBound {
			f.Verdict, f.Reason = Pass, EvidenceSafe
		}
	}
	return f
}

func brokenMessage(g Gate, t *Trail) string {
	if t.Broken == BelowThreshold {
		return fmt.Sprintf("threshold %s lies beyond the histogram's last bound", g.Threshold)
	}
	return "the histogram's bounds changed within the run; counts above different bounds cannot be compared"
}

// missing says which data is absent or stale. Stale data is no data: it neither promotes nor rolls back.
func (t *Trail) missing(p Plan, r Run, now time.Time) (Reason, string) {
	patience := staleAfter * p.Interval
	// Nothing is due before the first judged blocks of a step could have been scraped.
	due := r.StepStarted.Add(p.WarmUp + p.Interval + patience)
	since := now.Add(-patience)
	fresh := func(last time.Time) bool { return last.After(since) }
	switch {
	case r.Step < 1 || fresh(t.LastData) || now.Before(due):
		return "", ""
	case fresh(t.StableData):
		return NoCanary, fmt.Sprintf("nothing was counted for the canary in the last %s", patience)
	case fresh(t.CanaryData):
		return NoStable, fmt.Sprintf("nothing was counted for stable in the last %s", patience)
	default:
		return NoBlocks, fmt.Sprintf("nothing was counted for either version in the last %s", patience)
	}
}

func measureCounts(p Plan, g Gate, t *Trail, f *Finding) {
	most := 0
	f.LogHarm, most = t.logHarm()
	f.LogSafety = t.logSafety()
	f.Stable, f.Canary = rate(t.Stable), rate(t.Canary)
	f.Estimate, f.Known = t.Curve.Estimate()
	f.Low, f.High = t.Curve.Interval(p.FalseAlarm)
	what := "errors"
	if g.Type == Latency && len(t.Bounds) > 0 {
		what = "slower than " + seconds(t.Bounds[t.SLO])
		if most != t.SLO && t.Harm[most-t.First].LogE() > 1 {
			what += "; most evidence above " + seconds(t.Bounds[most])
		}
	}
	f.Message = fmt.Sprintf("canary %s, stable %s %s; %.0f and %.0f requests at this step",
		percent(f.Canary), percent(f.Stable), what, t.Canary.Count, t.Stable.Count)
}

func measureMean(p Plan, g Gate, t *Trail, f *Finding) {
	canary, stable := stats.MeanOf(clusters(t.CanaryBuckets)), stats.MeanOf(clusters(t.StableBuckets))
	f.Canary, f.Stable = canary.Mean, stable.Mean
	steps := float64(len(p.Steps))
	f.LogHarm = stats.LogMean(append(append([]float64(nil), t.Ended...), t.meanLogHarm(g))...) +
		math.Log(math.Min(float64(len(t.Ended)+1), steps)/steps)
	f.Message = fmt.Sprintf("canary %s, stable %s over %d and %d buckets", figure(canary.Mean), figure(stable.Mean), canary.Clusters, stable.Clusters)
	ratio, ok := stats.CompareMeans(t.means(g))
	if !ok || !t.burntIn() {
		f.Verdict, f.Reason = Wait, TooFewBuckets
		if t.Blocks < minBlocks && canary.Clusters >= minArmBuckets && stable.Clusters >= minArmBuckets {
			f.Reason = CollectingEvidence
		}
		f.Message += fmt.Sprintf(" and %d blocks; the test of means begins with %d buckets in each variant and %d blocks (or all %d buckets)",
			t.Blocks, minArmBuckets, minBlocks, minBuckets)
		return
	}
	f.Estimate, f.Known = math.Exp(ratio.Estimate), true
	f.Low, f.High = ratio.Interval(p.FalseAlarm)
	f.LogSafety = ratio.LogEBelow(math.Log(g.Margin))
}

// figure writes a measured number to four digits, a dash for none.
func figure(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.4g", v)
}

func percent(share float64) string {
	if math.IsNaN(share) {
		return "-"
	}
	return fmt.Sprintf("%.3g%%", 100*share)
}

func seconds(s float64) string { return time.Duration(math.Round(s * 1e9)).String() }

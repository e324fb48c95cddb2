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
		if f.Gate.Harms() {
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
		if f.Gate.Harms() && f.Verdict != Invalid && (most < 0 || f.LogHarm > findings[most].LogHarm) {
			most = i
		}
	}
	for i := range findings {
		f := &findings[i]
		if i == most || (f.Gate.Harms() && f.Verdict != Invalid && f.LogHarm >= f.LogHarmBound) {
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
	case EnergyPerRequest:
		return EnergyHarm
	case Mean, Alerts, SampleRatio, Data:
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
	f.LogHarmBound = math.Log(float64(max(p.harmGates(), 1)) / p.FalseAlarm)
	f.LogSafetyBound = math.Log(1 / p.missPerStep())
	if why := p.untold(g); r.beforehand(p) && why != "" {
		f.Verdict, f.Reason = NoData, why
		f.Message = map[Reason]string{NotOfCopies: "copies of requests tell", NotOfCohort: "a cohort tells"}[why] + " nothing here; it is judged from the first step on"
		return f
	}
	if t.Broken != "" {
		f.Verdict, f.Reason, f.LogHarm = Invalid, t.Broken, math.Inf(-1)
		f.Message = brokenMessage(g, t)
		return f
	}
	switch {
	case !g.Harms():
		measureData(g, t, &f)
	case g.byRequest():
		measureEvents(p, g, t, &f)
	default:
		measureMean(p, g, t, &f)
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
	if f.Verdict == Wait {
		f.Remaining, f.RemainingKnown = t.remaining(p, g, f)
	}
	return f
}

func brokenMessage(g Gate, t *Trail) string {
	switch t.Broken { //nolint:exhaustive // the reasons for which a trail breaks, and no others
	case BelowThreshold:
		return fmt.Sprintf("threshold %s lies beyond the histogram's last bound", g.Threshold)
	case SampleRatioMismatch:
		return unitsMessage(t) + ", which is not how the weights share them out; who met which variant was not decided by the buckets alone"
	case RequestsUnanswered:
		return answersMessage(t) + "; what was not answered is missing from the other gates"
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
	case (r.Step < 1 && !r.beforehand(p)) || fresh(t.LastData) || now.Before(due):
		return "", ""
	case fresh(t.StableData):
		return NoCanary, fmt.Sprintf("nothing was counted for the canary in the last %s", patience)
	case fresh(t.CanaryData) && r.Weight == Buckets:
		return NoStable, "at weight 100 no request meets stable, so there is nothing to compare with; go by Alerts gates, or promote by request"
	case fresh(t.CanaryData):
		return NoStable, fmt.Sprintf("nothing was counted for stable in the last %s", patience)
	default:
		return NoBlocks, fmt.Sprintf("nothing was counted for either version in the last %s", patience)
	}
}

func measureEvents(p Plan, g Gate, t *Trail, f *Finding) {
	most := 0
	f.LogHarm, most = t.eventsLogHarm()
	f.LogSafety = t.eventsLogSafety()
	f.Stable, f.Canary = rate(t.Stable), rate(t.Canary)
	f.StableTotal, f.CanaryTotal = t.Stable, t.Canary
	f.Estimate, f.Known = t.Curve.Estimate()
	f.Low, f.High = t.Curve.Interval(p.FalseAlarm)
	what := "errors"
	if g.Type == Latency && len(t.Bounds) > 0 {
		what = "slower than " + seconds(t.Bounds[t.SLO])
		if most != t.SLO && t.Harm[most-t.First].LogE() > 1 {
			what += "; most evidence above " + seconds(t.Bounds[most])
		}
	}
	f.Message = fmt.Sprintf("canary %s, stable %s %s; %.0f and %.0f requests at this step%s",
		percent(f.Canary), percent(f.Stable), what, t.Canary.Count, t.Stable.Count, t.tails(g))
}

func measureMean(p Plan, g Gate, t *Trail, f *Finding) {
	f.LogHarm = t.runLogHarm(g, p.judgements(g))
	over := ""
	f.Canary, f.Stable, over = t.meansOf(g)
	f.Message = fmt.Sprintf("canary %s, stable %s %s", figure(f.Canary), figure(f.Stable), over)
	if g.Type == ErrorRate {
		f.Message = fmt.Sprintf("canary %s, stable %s errors %s", percent(f.Canary), percent(f.Stable), over)
	}
	ratio, ok := t.compare(g)
	f.LogSafety = t.meanLogSafety(g, ratio, ok)
	if !ok {
		if f.LogSafety < f.LogSafetyBound {
			f.Verdict, f.Reason = Wait, t.tooFew(g)
			f.Message += t.burnInMessage(g)
		}
		return
	}
	f.Estimate, f.Known = ratio.Estimate(), ratio.B.Mean > 0
	f.Low, f.High = ratio.Interval(p.FalseAlarm)
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

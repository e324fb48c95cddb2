package lint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// istioBounds are the upper bounds of istio_request_duration_milliseconds as Istio ships it.
func istioBounds() []time.Duration {
	ms := []float64{
		0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
	}
	bounds := make([]time.Duration, len(ms))
	for i, m := range ms {
		bounds[i] = time.Duration(m * float64(time.Millisecond))
	}
	return bounds
}

const (
	// fewBuckets is the least number of buckets of the canary that gives a mean's variance, taken between buckets, more
	// than a handful of degrees of freedom.
	fewBuckets = 5
	// largeStep is a first step that exposes half of the units before anything is known, or a last one at which half of a
	// dynamic stable version's replicas are gone.
	largeStep = 50
	// usualScrape is the scrape interval of most installations: shorter blocks are mostly empty.
	usualScrape = 15 * time.Second
)

// advisor looks at one aspect of a valid rollout.
type advisor func(*v1alpha1.Rollout) []Finding

// advise asks every advisor in turn.
func advise(ro *v1alpha1.Rollout) []Finding {
	var findings []Finding
	for _, a := range []advisor{gates, alone, cohorts, thresholds, means, firstStep, shadow, holds, clock, sticky, cookieAge, shrinking, idleLimits, status} {
		findings = append(findings, a(ro)...)
	}
	return findings
}

func advice(field, format string, args ...any) Finding {
	return Finding{Level: Advice, Field: field, Message: fmt.Sprintf(format, args...)}
}

func gates(ro *v1alpha1.Rollout) []Finding {
	judged := len(compared(ro)) > 0
	switch {
	case len(ro.Spec.Gates) > 0 && !judged && atOnce(ro):
		return []Finding{advice("spec.gates", "everybody is switched at once, so nothing is compared: alerts alone take the version back, and silence promotes")}
	case len(ro.Spec.Gates) == 0:
		return []Finding{advice("spec.gates", "there are no gates: the version is promoted after its holds, whatever happens")}
	case !judged:
		return []Finding{advice("spec.gates", "there are only alert gates: silence promotes; add an ErrorRate, Latency or Mean gate")}
	case !has(ro, v1alpha1.GateErrorRate):
		return []Finding{advice("spec.gates", "no gate of type ErrorRate: a version that answers with errors is not noticed as such")}
	}
	return nil
}

// alone are steps at which nothing is left to compare with.
func alone(ro *v1alpha1.Rollout) []Finding {
	var findings []Finding
	for i, s := range ro.Spec.Steps {
		if names := compared(ro); s.Weight == rollout.Buckets && len(names) > 0 {
			findings = append(findings, advice(fmt.Sprintf("spec.steps[%d].weight", i),
				"at 100 no unit meets the stable version: the gates %s compare with nothing and hold the step until the cap (NoStableData); end with a smaller step, after which everybody is switched, or go by Alerts gates",
				strings.Join(names, ", ")))
		}
	}
	return findings
}

// cohorts that nothing tells from other users, and who knows a host, make the gates compare different people.
func cohorts(ro *v1alpha1.Rollout) []Finding {
	s := ro.Spec.Strategy
	if s == nil || s.Preview == nil || len(compared(ro)) == 0 {
		return nil
	}
	var findings []Finding
	if c := s.Preview.Cohort; c != nil && c.Label == "" {
		findings = append(findings, advice("spec.strategy.preview.cohort",
			"the cohort counts for the new version, so the gates compare it with other users; set a label that tells its requests apart, and a control"))
	}
	if len(s.Preview.Hosts) > 0 {
		findings = append(findings, advice("spec.strategy.preview.hosts",
			"who knows these hosts counts for the new version, so the gates compare them with other users; a cohort with a label is told from others"))
	}
	return findings
}

// compared names the gates that compare the two versions.
func compared(ro *v1alpha1.Rollout) []string {
	var names []string
	for _, g := range ro.Spec.Gates {
		if g.Type != v1alpha1.GateAlerts {
			names = append(names, strconv.Quote(g.Name))
		}
	}
	return names
}

// shadow needs a gate that can judge copies of requests.
func shadow(ro *v1alpha1.Rollout) []Finding {
	s := ro.Spec.Strategy
	if s == nil || s.Shadow == nil || slices.ContainsFunc(ro.Spec.Gates, judgesCopies) {
		return nil
	}
	return []Finding{advice("spec.strategy.shadow",
		"no gate judges copies of requests: only the hold ends the shadow, and nothing but an alert rejects; add an ErrorRate gate without bucketLabel, a Latency or an EnergyPerRequest gate")}
}

func judgesCopies(g v1alpha1.GateSpec) bool {
	return (g.Type == v1alpha1.GateErrorRate && g.BucketLabel == "") || g.Type == v1alpha1.GateLatency || g.Type == v1alpha1.GateEnergyPerRequest
}

// atOnce says whether no step is smaller than everybody.
func atOnce(ro *v1alpha1.Rollout) bool {
	return !slices.ContainsFunc(ro.Spec.Steps, func(s v1alpha1.StepSpec) bool { return s.Weight < rollout.Buckets })
}

func has(ro *v1alpha1.Rollout, t v1alpha1.GateType) bool {
	return slices.ContainsFunc(ro.Spec.Gates, func(g v1alpha1.GateSpec) bool { return g.Type == t })
}

// thresholds between two bounds of the histogram are rounded up.
func thresholds(ro *v1alpha1.Rollout) []Finding {
	var findings []Finding
	for i, g := range ro.Spec.Gates {
		if g.Threshold == nil {
			continue
		}
		at, exact := slices.BinarySearch(istioBounds(), g.Threshold.Duration)
		if !exact && at < len(istioBounds()) {
			findings = append(findings, advice(fmt.Sprintf("spec.gates[%d].threshold", i),
				"%v is not a bound of Istio's latency histogram: the next one, %v, is used", g.Threshold.Duration, istioBounds()[at]))
		}
	}
	return findings
}

// means need selectors that parse, counters, and several buckets.
func means(ro *v1alpha1.Rollout) []Finding {
	var findings []Finding
	for i, g := range ro.Spec.Gates {
		if g.Query == nil {
			continue
		}
		path := fmt.Sprintf("spec.gates[%d].query", i)
		if g.Type != v1alpha1.GateSampleRatio { // which has a count only
			findings = append(findings, selector(path+".sum", g.Query.Sum)...)
		}
		findings = append(findings, selector(path+".count", g.Query.Count)...)
		if w := ro.Spec.Steps[0].Weight; w < fewBuckets && g.Type == v1alpha1.GateMean && g.Query.Compare != "Blocks" {
			findings = append(findings, advice("spec.steps[0].weight",
				"the gate %q compares buckets, and the first step has %d: begin with %d or more, or evidence comes slowly", g.Name, w, fewBuckets))
		}
	}
	return findings
}

func selector(path, text string) []Finding {
	matchers, err := parser.NewParser(parser.Options{}).ParseMetricSelector(text)
	if err != nil {
		return []Finding{{Level: Error, Field: path, Message: fmt.Sprintf("must be a PromQL series selector such as name{label=\"value\"}: %v", err)}}
	}
	for _, m := range matchers {
		if m.Name == "__name__" && !isCounter(m.Value) {
			return []Finding{advice(path, "%q does not look like a counter (_total, _sum, _count): the mean is of increases", m.Value)}
		}
	}
	return nil
}

func isCounter(name string) bool {
	return slices.ContainsFunc([]string{"_total", "_sum", "_count", "_bucket"}, func(suffix string) bool {
		return strings.HasSuffix(name, suffix)
	})
}

func firstStep(ro *v1alpha1.Rollout) []Finding {
	if w := ro.Spec.Steps[0].Weight; w >= largeStep {
		return []Finding{advice("spec.steps[0].weight", "the first step already exposes %d of 100 units: begin smaller", w)}
	}
	return nil
}

// holds must leave room for evidence below the cap.
func holds(ro *v1alpha1.Rollout) []Finding {
	var findings []Finding
	a := ro.Spec.Analysis
	for i, s := range ro.Spec.Steps {
		path := fmt.Sprintf("spec.steps[%d].hold", i)
		switch {
		case s.Hold.Duration >= a.Cap.Duration:
			findings = append(findings, advice(path, "the hold of %v is not below analysis.cap, %v: there is no time left to wait for evidence",
				s.Hold.Duration, a.Cap.Duration))
		case s.Hold.Duration < a.WarmUp.Duration+2*a.Interval.Duration && len(ro.Spec.Gates) > 0:
			findings = append(findings, advice(path, "the hold of %v is shorter than analysis.warmUp and two intervals, %v: it never decides anything",
				s.Hold.Duration, a.WarmUp.Duration+2*a.Interval.Duration))
		}
	}
	return findings
}

func clock(ro *v1alpha1.Rollout) []Finding {
	a := ro.Spec.Analysis
	var findings []Finding
	if a.Interval.Duration < usualScrape {
		findings = append(findings, advice("spec.analysis.interval",
			"blocks of %v are shorter than the usual scrape interval of %v: most would be empty", a.Interval.Duration, usualScrape))
	}
	if a.Cap.Duration < a.WarmUp.Duration+2*a.Interval.Duration {
		findings = append(findings, advice("spec.analysis.cap", "the cap of %v ends before two blocks are judged", a.Cap.Duration))
	}
	return findings
}

func sticky(ro *v1alpha1.Rollout) []Finding {
	if ro.Spec.Assignment == nil {
		return []Finding{advice("spec.assignment", "without an assignment every request is drawn anew: nothing is sticky, and users meet both versions")}
	}
	return nil
}

// cookieAge compares the cookie with the shortest run: nothing renews it, and who draws anew may land elsewhere.
func cookieAge(ro *v1alpha1.Rollout) []Finding {
	if ro.Spec.Assignment == nil || ro.Spec.Assignment.Cookie == nil {
		return nil
	}
	var run time.Duration
	for _, s := range ro.Spec.Steps {
		run += s.Hold.Duration
	}
	if age := ro.Spec.Assignment.Cookie.MaxAge.Duration; age < run {
		return []Finding{advice("spec.assignment.cookie.maxAge",
			"the cookie lives for %v and a run takes %v at least: users draw a new bucket in mid-run", age, run)}
	}
	return nil
}

// shrinking warns of steps at which so little of stable is left that a rollback overwhelms it.
func shrinking(ro *v1alpha1.Rollout) []Finding {
	s := ro.Spec.Workload.Scaling
	last := ro.Spec.Steps[len(ro.Spec.Steps)-1].Weight
	if s == nil || !s.DynamicStable || last <= largeStep {
		return nil
	}
	return []Finding{advice("spec.workload.scaling.dynamicStable",
		"at weight %d the stable version keeps %d %% of its replicas, and a rollback sends it all units at once: end at %d or less", last, 100-last, largeStep)}
}

// idleLimits bound no request, in the controller's words.
func idleLimits(ro *v1alpha1.Rollout) []Finding {
	var findings []Finding
	for _, l := range controller.IdleLimits(ro) {
		findings = append(findings, Finding{Level: Advice, Field: l.Field, Message: l.Message})
	}
	return findings
}

func status(ro *v1alpha1.Rollout) []Finding {
	if ro.Status.StableVersion != "" || ro.Status.Run != nil || len(ro.Status.Requests) > 0 {
		return []Finding{advice("status", "status is ignored on apply: leave it out")}
	}
	return nil
}

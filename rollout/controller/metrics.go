package controller

import (
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// Metrics export every decision and the numbers behind it. A nil *Metrics counts nothing.
type Metrics struct {
	weight, step, info, paused, lastBlock, stepStarted, verdict      *prometheus.GaugeVec
	estimate, low, high, limit, harm, harmBound, safety, safetyBound *prometheus.GaugeVec
	remaining, realised, mirror                                      *prometheus.GaugeVec
	decisions, runs, repairs, unreadable                             *prometheus.CounterVec
	routeDuration                                                    prometheus.Histogram
	experiments                                                      experimentMetrics

	mu    sync.Mutex
	shown map[string]labelled // by namespace/name; guarded by mu
}

// labelled are the values of a rollout's labels that change: the series that carry them have to go when they do. To look for
// those among the series of all rollouts would cost each pass more than the rest of it.
type labelled struct{ stable, canary, paused string }

var (
	rolloutLabels = []string{"namespace", "rollout"}
	gateLabels    = []string{"namespace", "rollout", "gate"}
)

// NewMetrics registers the controller's metrics. A nil registerer leaves them unregistered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string, labels []string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		register(reg, g)
		return g
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(rolloutLabels[:2:2], labels...))
		register(reg, c)
		return c
	}
	m := &Metrics{
		shown:       map[string]labelled{},
		weight:      gauge("siskin_rollout_weight", "Buckets of 100 that see the canary.", rolloutLabels),
		realised:    gauge("siskin_rollout_realised_share_ratio", "Share of requests, 0 to 1, that met the canary when telemetry last told.", rolloutLabels),
		mirror:      gauge("siskin_rollout_mirror_ratio", "Share of users' requests, 0 to 1, of which the canary gets copies.", rolloutLabels),
		step:        gauge("siskin_rollout_step", "Number of the present step; 0 when no run is going on or before the first step.", rolloutLabels),
		info:        gauge("siskin_rollout_info", "Always 1; the versions are in the labels.", []string{"namespace", "rollout", "stable", "canary"}),
		paused:      gauge("siskin_rollout_paused", "1 while the run is paused, by reason.", []string{"namespace", "rollout", "reason"}),
		lastBlock:   gauge("siskin_rollout_last_block_timestamp_seconds", "End of the last block that was counted.", rolloutLabels),
		stepStarted: gauge("siskin_rollout_step_started_timestamp_seconds", "When the present weight was decided.", rolloutLabels),
		verdict:     gauge("siskin_rollout_gate_verdict", "1 for the gate's present verdict, 0 for the others, and for all where a shadow or a cohort tells it nothing.", []string{"namespace", "rollout", "gate", "verdict"}),
		estimate:    gauge("siskin_rollout_gate_estimate_ratio", "Estimated ratio of canary to stable.", gateLabels),
		low:         gauge("siskin_rollout_gate_low_ratio", "Lower end of the confidence sequence of the ratio.", gateLabels),
		high:        gauge("siskin_rollout_gate_high_ratio", "Upper end of the confidence sequence of the ratio.", gateLabels),
		limit:       gauge("siskin_rollout_gate_limit_ratio", "Ratio that the canary must be shown to stay below.", gateLabels),
		harm:        gauge("siskin_rollout_gate_harm_log_evidence", "Natural logarithm of the e-value of the harm side.", gateLabels),
		harmBound:   gauge("siskin_rollout_gate_harm_log_bound", "Natural logarithm of the e-value at which the gate alone rolls back.", gateLabels),
		safety:      gauge("siskin_rollout_gate_safety_log_evidence", "Natural logarithm of the e-value of the safety side at this step.", gateLabels),
		safetyBound: gauge("siskin_rollout_gate_safety_log_bound", "Natural logarithm of the e-value at which the gate passes.", gateLabels),
		remaining:   gauge("siskin_rollout_gate_remaining_seconds", "How much longer the gate is likely to need at the present traffic; NaN while nobody can say.", gateLabels),
		decisions:   counter("siskin_rollout_decisions_total", "Decisions that changed something, by decision and reason.", "decision", "reason"),
		runs:        counter("siskin_rollout_runs_total", "Runs that ended, by outcome.", "outcome"),
		repairs:     counter("siskin_rollout_drift_repairs_total", "Foreign edits of the route that were put right."),
		unreadable:  counter("siskin_rollout_evidence_failures_total", "Questions that the source of evidence did not answer."),
		routeDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "siskin_rollout_decision_duration_seconds", Help: "From the start of the pass that decided on a weight, or of the one that rolled back, to the route being written.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
	register(reg, m.routeDuration)
	m.experiments = newExperimentMetrics(reg)
	return m
}

func register(reg prometheus.Registerer, c prometheus.Collector) {
	if reg != nil {
		reg.MustRegister(c)
	}
}

// observe exports the state after a pass.
func (m *Metrics) observe(p *pass) {
	if m == nil {
		return
	}
	ns, name, st := p.ro.Namespace, p.ro.Name, p.ro.Status
	m.weight.WithLabelValues(ns, name).Set(float64(st.Weight))
	m.mirror.WithLabelValues(ns, name).Set(float64(st.Mirror) / 100)
	m.step.WithLabelValues(ns, name).Set(float64(st.Step))
	m.label(ns, name, st)
	m.observeRun(ns, name, p)
	if p.outcome.Reason == reasonRunStarted {
		m.forgetGates(prometheus.Labels{"namespace": ns, "rollout": name})
	}
	if p.outcome.Decision != rollout.Hold {
		m.decisions.WithLabelValues(ns, name, string(p.outcome.Decision), string(p.outcome.Reason)).Inc()
	}
	if st.Run == nil && p.was.Status.Run != nil && st.LastRun != nil {
		m.runs.WithLabelValues(ns, name, st.LastRun.Outcome).Inc()
	}
	m.found(p)
}

// found exports what the gates say, also in a pass that can do nothing about it.
func (m *Metrics) found(p *pass) {
	if m == nil {
		return
	}
	for _, f := range p.findings {
		m.finding(p.ro.Namespace, p.ro.Name, f)
	}
}

// label exports what is told by labels, and removes what they told before.
func (m *Metrics) label(ns, name string, st v1alpha1.RolloutStatus) {
	now := labelled{stable: st.StableVersion, canary: st.CanaryVersion}
	if st.Run != nil {
		now.paused = st.Run.Paused
	}
	m.mu.Lock()
	was := m.shown[ns+"/"+name]
	m.shown[ns+"/"+name] = now
	m.mu.Unlock()
	if was != now {
		m.info.DeleteLabelValues(ns, name, was.stable, was.canary)
		m.paused.DeleteLabelValues(ns, name, was.paused)
	}
	m.info.WithLabelValues(ns, name, now.stable, now.canary).Set(1)
	if now.paused != "" {
		m.paused.WithLabelValues(ns, name, now.paused).Set(1)
	}
}

// observeRun exports how far a run has come. An alert on a step that takes too long must not fire for one that is over.
func (m *Metrics) observeRun(ns, name string, p *pass) {
	run := p.ro.Status.Run
	if run == nil {
		m.stepStarted.DeleteLabelValues(ns, name)
		m.lastBlock.DeleteLabelValues(ns, name)
	} else {
		m.stepStarted.WithLabelValues(ns, name).Set(unixSeconds(timeOf(run.StepStartedAt)))
		m.lastBlock.WithLabelValues(ns, name).Set(unixSeconds(timeOf(run.LastBlock)))
	}
	if p.run != nil {
		if share, ok := p.run.Share.Realised(); ok {
			m.realised.WithLabelValues(ns, name).Set(share)
			return
		}
	}
	m.realised.DeleteLabelValues(ns, name)
}

// forgetGates removes what the gates of an earlier run said; until then their last words stay to be seen.
func (m *Metrics) forgetGates(of prometheus.Labels) {
	for _, v := range []*prometheus.GaugeVec{m.verdict, m.estimate, m.low, m.high, m.limit, m.harm, m.harmBound, m.safety, m.safetyBound, m.remaining} {
		v.DeletePartialMatch(of)
	}
}

// finding exports what a gate says. One that a shadow or a cohort tells nothing has no verdict: its data is not missing.
func (m *Metrics) finding(ns, name string, f rollout.Finding) {
	for _, v := range []rollout.Verdict{rollout.Pass, rollout.Harm, rollout.Wait, rollout.NoData, rollout.Invalid} {
		is := 0.0
		if v == f.Verdict && !f.Untold() {
			is = 1
		}
		m.verdict.WithLabelValues(ns, name, f.Gate.Name, string(v)).Set(is)
	}
	if !f.Gate.Harms() {
		return
	}
	set := func(g *prometheus.GaugeVec, v float64) { g.WithLabelValues(ns, name, f.Gate.Name).Set(v) }
	estimate, remaining := math.NaN(), math.NaN()
	if f.Known {
		estimate = f.Estimate
	}
	if f.RemainingKnown {
		remaining = f.Remaining.Seconds()
	}
	set(m.remaining, remaining)
	set(m.estimate, estimate)
	set(m.low, f.Low)
	set(m.high, f.High)
	set(m.limit, f.Gate.Margin)
	set(m.harm, f.LogHarm)
	set(m.harmBound, f.LogHarmBound)
	set(m.safety, f.LogSafety)
	set(m.safetyBound, f.LogSafetyBound)
}

func (m *Metrics) routed(took time.Duration) {
	if m != nil {
		m.routeDuration.Observe(took.Seconds())
	}
}

func (m *Metrics) repaired(ro *v1alpha1.Rollout) {
	if m != nil {
		m.repairs.WithLabelValues(ro.Namespace, ro.Name).Inc()
	}
}

func (m *Metrics) unanswered(ro *v1alpha1.Rollout) {
	if m != nil {
		m.unreadable.WithLabelValues(ro.Namespace, ro.Name).Inc()
	}
}

// forget removes the series of a rollout that is gone.
func (m *Metrics) forget(ns, name string, err error) {
	if m == nil || !apierrors.IsNotFound(err) {
		return
	}
	m.mu.Lock()
	delete(m.shown, ns+"/"+name)
	m.mu.Unlock()
	mine := prometheus.Labels{"namespace": ns, "rollout": name}
	for _, v := range []*prometheus.GaugeVec{
		m.weight, m.realised, m.mirror, m.step, m.info, m.paused, m.lastBlock, m.stepStarted, m.verdict,
		m.estimate, m.low, m.high, m.limit, m.harm, m.harmBound, m.safety, m.safetyBound, m.remaining,
	} {
		v.DeletePartialMatch(mine)
	}
	for _, v := range []*prometheus.CounterVec{m.decisions, m.runs, m.repairs, m.unreadable} {
		v.DeletePartialMatch(mine)
	}
}

func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMicro()) / 1e6 // exact, where nanoseconds are beyond the digits of a float
}

package controller

import (
	"math"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/siskin-dev/siskin/rollout/experiment"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// experimentMetrics export what experiments have found and the numbers behind it.
type experimentMetrics struct {
	info, verdict, started, lastBlock, sampleRatio *prometheus.GaugeVec
	buckets, units, mean, estimate, low, high      *prometheus.GaugeVec
	verdicts, unreadable                           *prometheus.CounterVec
}

var (
	experimentLabels = []string{"namespace", "experiment"}
	armLabels        = []string{"namespace", "experiment", "variant"}
)

func newExperimentMetrics(reg prometheus.Registerer) experimentMetrics {
	gauge := func(name, help string, labels []string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		register(reg, g)
		return g
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(experimentLabels[:2:2], labels...))
		register(reg, c)
		return c
	}
	return experimentMetrics{
		info: gauge("siskin_experiment_info", "Always 1; the rollout, the layer, the control and the state are in the labels.",
			[]string{"namespace", "experiment", "rollout", "layer", "control", "state"}),
		verdict:     gauge("siskin_experiment_verdict", "1 for the present verdict, 0 for the others. Running is none yet.", []string{"namespace", "experiment", "verdict"}),
		started:     gauge("siskin_experiment_started_timestamp_seconds", "When the routes first showed the variants.", experimentLabels),
		lastBlock:   gauge("siskin_experiment_last_block_timestamp_seconds", "End of the last block that was counted.", experimentLabels),
		sampleRatio: gauge("siskin_experiment_sample_ratio_pvalue", "Anytime-valid p-value of the units' shares; below 0.001 the assignment is broken.", experimentLabels),
		buckets:     gauge("siskin_experiment_arm_buckets", "Buckets of 100 that see the variant.", armLabels),
		units:       gauge("siskin_experiment_arm_units", "Units that were newly assigned to the variant.", armLabels),
		mean:        gauge("siskin_experiment_arm_mean", "Mean of the objective in the variant, in the objective's unit.", armLabels),
		estimate:    gauge("siskin_experiment_arm_estimate_ratio", "Estimated ratio of the variant's mean to the control's.", armLabels),
		low:         gauge("siskin_experiment_arm_low_ratio", "Lower end of the confidence sequence of the ratio.", armLabels),
		high:        gauge("siskin_experiment_arm_high_ratio", "Upper end of the confidence sequence of the ratio.", armLabels),
		verdicts:    counter("siskin_experiment_verdicts_total", "Experiments that ended, by verdict.", "verdict"),
		unreadable:  counter("siskin_experiment_evidence_failures_total", "Questions that the source of evidence did not answer."),
	}
}

// observeExperiment exports the state after a turn.
func (m *Metrics) observeExperiment(t *trial) {
	if m == nil {
		return
	}
	x, st := m.experiments, t.exp.Status
	ns, name := t.exp.Namespace, t.exp.Name
	x.info.DeletePartialMatch(prometheus.Labels{"namespace": ns, "experiment": name})
	x.info.WithLabelValues(ns, name, t.exp.Spec.Rollout, layerOf(t.exp), controlOf(t.exp).Name, st.State).Set(1)
	x.observeVerdict(t)
	if st.StartedAt != nil {
		x.started.WithLabelValues(ns, name).Set(unixSeconds(timeOf(st.StartedAt)))
	}
	if st.LastBlock != nil {
		x.lastBlock.WithLabelValues(ns, name).Set(unixSeconds(timeOf(st.LastBlock)))
	}
	for _, a := range st.Allocation {
		set, _ := bucketsOf(a.Buckets) // what cannot be read is refused elsewhere
		x.buckets.WithLabelValues(ns, name, a.Name).Set(float64(len(set)))
	}
	set(x.sampleRatio.With, prometheus.Labels{"namespace": ns, "experiment": name}, st.SampleRatio)
	control := controlOf(t.exp).Name
	for _, v := range st.Variants {
		arm := prometheus.Labels{"namespace": ns, "experiment": name, "variant": v.Name}
		set(x.units.With, arm, v.Units)
		set(x.mean.With, arm, v.Mean)
		if v.Name != control {
			set(x.estimate.With, arm, v.Estimate)
			set(x.low.With, arm, v.Low)
			set(x.high.With, arm, v.High)
		}
	}
}

// set exports a number as the status has it; NaN for one that there is not.
func set(series func(prometheus.Labels) prometheus.Gauge, labels prometheus.Labels, text string) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		v = math.NaN()
	}
	series(labels).Set(v)
}

func (x experimentMetrics) observeVerdict(t *trial) {
	ns, name, now := t.exp.Namespace, t.exp.Name, orElse(t.exp.Status.Verdict, string(experiment.Running))
	for _, v := range []experiment.Verdict{
		experiment.Running, experiment.Winner, experiment.NoDifference, experiment.Inconclusive, experiment.Harm, experiment.Invalid,
	} {
		is := 0.0
		if string(v) == now {
			is = 1
		}
		x.verdict.WithLabelValues(ns, name, string(v)).Set(is)
	}
	if t.exp.Status.Verdict != t.was.Status.Verdict {
		x.verdicts.WithLabelValues(ns, name, t.exp.Status.Verdict).Inc()
	}
}

func (m *Metrics) unansweredExperiment(e *v1alpha1.Experiment) {
	if m != nil {
		m.experiments.unreadable.WithLabelValues(e.Namespace, e.Name).Inc()
	}
}

// forgetExperiment removes the series of an experiment that is gone.
func (m *Metrics) forgetExperiment(ns, name string, err error) {
	if m == nil || !apierrors.IsNotFound(err) {
		return
	}
	x, mine := m.experiments, prometheus.Labels{"namespace": ns, "experiment": name}
	for _, v := range []*prometheus.GaugeVec{
		x.info, x.verdict, x.started, x.lastBlock, x.sampleRatio, x.buckets, x.units, x.mean, x.estimate, x.low, x.high,
	} {
		v.DeletePartialMatch(mine)
	}
	for _, v := range []*prometheus.CounterVec{x.verdicts, x.unreadable} {
		v.DeletePartialMatch(mine)
	}
}

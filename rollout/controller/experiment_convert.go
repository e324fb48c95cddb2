package controller

import (
	"fmt"
	"math"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/experiment"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// Names of the gates that an experiment has beside its guardrails.
const (
	objectiveGate = "objective"
	unitsGate     = "units"
)

// Defaults of an experiment, as in its definition.
const (
	defaultSmallestEffect  = 0.05
	defaultFalseAlarm      = 0.05
	defaultMinimumDuration = time.Hour
	defaultMaximumDuration = 14 * 24 * time.Hour
)

// trialPlanOf reads the spec of an experiment in the terms of package experiment.
func trialPlanOf(e *v1alpha1.Experiment) (experiment.Plan, error) {
	s := e.Spec
	o := s.Objective
	version := orElse(o.Query.VersionLabel, "version")
	p := experiment.Plan{
		Control: controlOf(e).Name,
		Objective: rollout.Gate{
			Name: objectiveGate, Type: rollout.Mean, HigherIsBetter: o.Direction == "Higher",
			Sum: o.Query.Sum, Count: o.Query.Count, VersionLabel: version, BucketLabel: orElse(o.Query.BucketLabel, "bucket"),
		},
		Interval: orDefault(s.Analysis.Interval.Duration, 15*time.Second), WarmUp: s.Analysis.WarmUp.Duration,
		MinDuration: durationOf(s.Duration.Minimum, defaultMinimumDuration), MaxDuration: durationOf(s.Duration.Maximum, defaultMaximumDuration),
	}
	for _, v := range s.Variants {
		p.Variants = append(p.Variants, experiment.Variant{Name: v.Name, Version: v.Version, Share: int(v.Share)})
	}
	var err error
	if p.SmallestEffect, err = decimal("objective.smallestEffect", o.SmallestEffect, defaultSmallestEffect); err != nil {
		return p, err
	}
	if p.FalseAlarm, err = decimal("analysis.falseAlarm", s.Analysis.FalseAlarm, defaultFalseAlarm); err != nil {
		return p, err
	}
	for _, g := range s.Guardrails {
		gate, err := gateOf(&v1alpha1.Rollout{}, g)
		if err != nil {
			return p, err
		}
		p.Guardrails = append(p.Guardrails, gate)
	}
	if s.Units != "" {
		p.Assigned = rollout.Gate{Name: unitsGate, Type: rollout.SampleRatio, Count: s.Units, VersionLabel: version}
	}
	return p, p.Validate()
}

func durationOf(d *metav1.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.Duration
}

// trialRunOf reads the run of an experiment from its status; nil before its variants were in force for the first time.
// Evidence that cannot be read, as another release may have written it, is an error beside a run that gathers its evidence
// anew: the blocks that were counted stay behind it.
func trialRunOf(e *v1alpha1.Experiment, p experiment.Plan) (*experiment.Run, error) {
	st := e.Status
	if st.StartedAt == nil {
		return nil, nil //nolint:nilnil // no run is an answer, not an error
	}
	sets, err := allotted(e)
	if err != nil {
		return nil, err
	}
	r := experiment.Start(trialID(e), p, sets, timeOf(st.StartedAt))
	if st.LastBlock != nil {
		r.LastBlock = timeOf(st.LastBlock)
	}
	if st.InForceSince != nil {
		r.InForceSince = timeOf(st.InForceSince)
	}
	if len(st.Evidence) == 0 {
		return &r, nil
	}
	if err := r.Evidence.UnmarshalBinary(st.Evidence); err != nil {
		r.Evidence = experiment.Evidence{}
		return &r, fmt.Errorf("reading status.evidence: %w", err)
	}
	return &r, nil
}

// allotted returns the buckets of each variant, in the order of the spec.
func allotted(e *v1alpha1.Experiment) ([][]int, error) {
	out := make([][]int, len(e.Spec.Variants))
	for i, v := range e.Spec.Variants {
		found := false
		for _, a := range e.Status.Allocation {
			if a.Name != v.Name {
				continue
			}
			found = true
			var err error
			if out[i], err = bucketsOf(a.Buckets); err != nil {
				return nil, fmt.Errorf("reading status.allocation[%s]: %w", a.Name, err)
			}
		}
		if !found {
			return nil, fmt.Errorf("reading status.allocation: variant %q is missing", v.Name)
		}
	}
	return out, nil
}

// keepTrial writes a run into the status. Evidence is plain numbers, which always encode.
func keepTrial(st *v1alpha1.ExperimentStatus, r experiment.Run) {
	evidence, err := r.Evidence.MarshalBinary()
	if err != nil {
		evidence = nil
	}
	st.StartedAt, st.InForceSince, st.LastBlock = microTime(r.Started), microTime(r.InForceSince), microTime(r.LastBlock)
	st.Evidence = evidence
}

// whole writes a count; nothing for one that does not exist.
func whole(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// trialID seeds the choice of the buckets. It is the same for every process, and another one for an experiment that is
// created again.
func trialID(e *v1alpha1.Experiment) string { return e.Name + "/" + string(e.UID) }

// variantStatuses writes the results of the variants for the status.
func variantStatuses(arms []experiment.ArmResult) []v1alpha1.VariantStatus {
	out := make([]v1alpha1.VariantStatus, 0, len(arms))
	for _, a := range arms {
		s := v1alpha1.VariantStatus{
			Name: a.Name, Version: a.Version, Observations: whole(a.Count), Mean: number(a.Mean), Guardrails: gateStatuses(a.Guardrails),
		}
		if a.Units > 0 {
			s.Units = whole(a.Units)
		}
		if a.Known {
			s.Estimate, s.Low, s.High = number(a.Ratio), number(a.Low), number(a.High)
		}
		if !a.Control && !math.IsNaN(a.ChanceToBeat) {
			s.ChanceToBeat = number(a.ChanceToBeat)
		}
		if len(s.Guardrails) == 0 {
			s.Guardrails = nil
		}
		out = append(out, s)
	}
	return out
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/cmd/rollout/lint"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/backtest"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// planFlags say which plan is meant: that of a manifest, or one with a single gate on errors.
type planFlags struct {
	*app
	file      string
	weights   []int
	hold, cap time.Duration
}

func (f *planFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.file, "filename", "f", "", "the Rollout whose steps, gates and analysis are meant; - is the standard input")
	cmd.Flags().IntSliceVar(&f.weights, "weight", nil, "weights of the steps of a plan with one gate on errors, instead of a file")
	cmd.Flags().DurationVar(&f.hold, "hold", 0, "how long each step of --weight is held at least")
	cmd.Flags().DurationVar(&f.cap, "cap", 2*time.Hour, "how long each step of --weight may wait for evidence")
	cmd.MarkFlagsMutuallyExclusive("filename", "weight")
	cmd.MarkFlagsOneRequired("filename", "weight")
}

// planned is a plan of steps, the rollout that it was read from, and what is said of that which comes before the steps.
type planned struct {
	*v1alpha1.Rollout
	plan   rollout.Plan
	before []string
}

// meant returns the plan that is meant.
func (f *planFlags) meant(ctx context.Context) (planned, error) {
	ro := f.short()
	if f.file != "" {
		data, err := f.read(f.file)
		if err != nil {
			return planned{}, err
		}
		if ro, err = onlyRollout(ctx, f.file, data); err != nil {
			return planned{}, err
		}
	}
	if err := f.check(ro); err != nil {
		return planned{}, err
	}
	plan, err := controller.PlanOf(ro)
	if err != nil {
		return planned{}, err
	}
	before := beforehand(plan)
	plan.Preview, plan.Shadow = rollout.Preview{}, rollout.Shadow{} // no record and no simulation is of testers and copies
	return planned{ro, plan, before}, nil
}

// beforehand says that what comes before the first step is left out; nothing when nothing does.
func beforehand(p rollout.Plan) []string {
	var parts []string
	if p.Preview != (rollout.Preview{}) {
		parts = append(parts, "a preview ("+backtest.Clock(p.Preview.Hold))
		if p.Preview.Ask {
			parts[0] += ", then a promotion by request"
		}
		parts[0] += ")"
	}
	if p.Shadow != (rollout.Shadow{}) {
		parts = append(parts, "a shadow ("+backtest.Clock(p.Shadow.Hold)+")")
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return []string{"before the first step comes " + parts[0] + ": it is not simulated, and the times begin after it"}
	}
	return []string{"before the first step come " + strings.Join(parts, " and ") + ", together: they are not simulated, and the times begin after them"}
}

// short is the rollout of --weight, --hold and --cap.
func (f *planFlags) short() *v1alpha1.Rollout {
	ro := &v1alpha1.Rollout{}
	ro.Spec.Analysis.Cap.Duration = f.cap
	ro.Spec.Gates = []v1alpha1.GateSpec{{Name: "errors", Type: v1alpha1.GateErrorRate}}
	for _, w := range f.weights {
		s := v1alpha1.StepSpec{Weight: int32(min(max(w, 0), 101))}
		s.Hold.Duration = f.hold
		ro.Spec.Steps = append(ro.Spec.Steps, s)
	}
	return ro
}

// check refuses what the flags say wrong; a file has been linted.
func (f *planFlags) check(ro *v1alpha1.Rollout) error {
	if f.file != "" {
		return nil
	}
	last := int32(0)
	for i, s := range ro.Spec.Steps {
		if s.Weight <= last || s.Weight > 100 {
			return fmt.Errorf("reading --weight: %d must be above %d and at most 100: weights grow from step to step", f.weights[i], last)
		}
		last = s.Weight
	}
	switch {
	case f.hold < 0:
		return fmt.Errorf("reading --hold: %s must not be negative", f.hold)
	case f.cap < time.Second:
		return fmt.Errorf("reading --cap: %s must be at least 1s", f.cap)
	}
	return nil
}

// onlyRollout reads the one Rollout of a YAML stream, after the linter has found no error in it.
func onlyRollout(ctx context.Context, name string, data []byte) (*v1alpha1.Rollout, error) {
	linter, err := lint.New(charts.RolloutCRD)
	if err != nil {
		return nil, err
	}
	report := linter.Lint(ctx, data)
	for _, f := range report.Findings {
		if f.Level == lint.Error {
			return nil, errors.New(format(name, f))
		}
	}
	if report.Rollouts != 1 {
		return nil, fmt.Errorf("reading %q: it must hold one Rollout, not %d", name, report.Rollouts)
	}
	for doc := range strings.SplitSeq("\n"+string(data), "\n---") {
		ro := &v1alpha1.Rollout{}
		if yaml.Unmarshal([]byte(doc), ro) == nil && ro.Kind == "Rollout" {
			return ro, nil
		}
	}
	return nil, fmt.Errorf("reading %q: no document is a Rollout", name)
}

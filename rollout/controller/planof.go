package controller

import (
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// PlanOf returns the plan that the controller follows for a rollout, with its defaults. An error names the field.
func PlanOf(ro *v1alpha1.Rollout) (rollout.Plan, error) { return planOf(ro) }

package experiment

import "github.com/siskin-dev/siskin/rollout"

// Evidence is what an experiment has learned so far. Its size is bounded: it depends on the number of gates, buckets and variants,
// not on the length of the experiment.
type Evidence struct {
	// Arms are in the order of the plan's variants without the control.
	Arms []ArmEvidence
}

// ArmEvidence is the evidence of one arm against the control.
type ArmEvidence struct {
	Variant  string
	Evidence rollout.Evidence
	// Right and Wrong are how many observations the buckets of the arm and of the control had under the version of their owner
	// and under that of the other.
	Right, Wrong float64
}

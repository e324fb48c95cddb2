package experiment

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/stats"
)

// Evidence is what an experiment has learned so far. Its size is bounded: it depends on the number of gates, buckets and variants,
// not on the length of the experiment.
type Evidence struct {
	// Arms are in the order of the plan's variants without the control.
	Arms []ArmEvidence
	// Shares is the test that units are shared out as the shares say, Units how many each variant got, in the plan's order.
	Shares stats.Shares
	Units  []float64
}

// ArmEvidence is the evidence of one arm against the control.
type ArmEvidence struct {
	Variant  string
	Evidence rollout.Evidence
	// Right and Wrong are how many observations of the objective the buckets of the arm and of the control had under the
	// version of their owner, and under the other's.
	Right, Wrong float64
	// Dirty is how many more blocks had more of the latter than is tolerated than had not, counted from the last time that it
	// was zero.
	Dirty int
}

// fit returns the evidence with one entry for each arm of the plan, sharing no memory that Count changes.
func (e Evidence) fit(p Plan) Evidence {
	arms := make([]ArmEvidence, 0, len(p.Variants))
	for _, i := range p.arms() {
		name := p.Variants[i].Name
		k := slices.IndexFunc(e.Arms, func(a ArmEvidence) bool { return a.Variant == name })
		if k >= 0 {
			arms = append(arms, e.Arms[k])
			continue
		}
		arms = append(arms, ArmEvidence{Variant: name})
	}
	e.Arms = arms
	if len(e.Units) != len(p.Variants) {
		e.Units, e.Shares = make([]float64, len(p.Variants)), stats.Shares{}
	}
	e.Units = slices.Clone(e.Units)
	e.Shares.Weights, e.Shares.Counts = slices.Clone(e.Shares.Weights), slices.Clone(e.Shares.Counts)
	return e
}

// stored is Evidence as it is stored: JSON, whose numbers come back bit for bit.
type stored struct {
	Arms   []storedArm
	Shares stats.Shares
	Units  []float64 `json:",omitempty"`
}

type storedArm struct {
	Variant      string
	Evidence     json.RawMessage
	Right, Wrong float64
	Dirty        int `json:",omitempty"`
}

// MarshalBinary encodes the evidence for the status. Equal evidence has equal bytes.
func (e Evidence) MarshalBinary() ([]byte, error) {
	out := stored{Arms: make([]storedArm, len(e.Arms)), Shares: e.Shares, Units: e.Units}
	for i, a := range e.Arms {
		b, err := a.Evidence.MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("encoding variant %q: %w", a.Variant, err)
		}
		out.Arms[i] = storedArm{a.Variant, b, a.Right, a.Wrong, a.Dirty}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encoding the evidence of an experiment: %w", err)
	}
	return b, nil
}

// UnmarshalBinary decodes what MarshalBinary wrote. What is no evidence that this release could have written begins anew.
func (e *Evidence) UnmarshalBinary(data []byte) error {
	var in stored
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("decoding the evidence of an experiment from %d bytes: %w", len(data), err)
	}
	out := Evidence{Arms: make([]ArmEvidence, len(in.Arms)), Shares: in.Shares, Units: in.Units}
	for i, a := range in.Arms {
		out.Arms[i] = ArmEvidence{Variant: a.Variant, Right: count(a.Right), Wrong: count(a.Wrong), Dirty: max(0, a.Dirty)}
		if err := out.Arms[i].Evidence.UnmarshalBinary(a.Evidence); err != nil {
			return fmt.Errorf("decoding variant %q: %w", a.Variant, err)
		}
	}
	if !sound(out.Shares, len(out.Units)) {
		out.Shares, out.Units = stats.Shares{}, nil
	}
	*e = out
	return nil
}

// count returns what can be a number of observations.
func count(v float64) float64 { return math.Max(0, v) }

// sound says whether a test of n shares has the shape of this release's.
func sound(s stats.Shares, n int) bool {
	if len(s.Weights) != len(s.Counts) || (len(s.Weights) != 0 && len(s.Weights) != n) {
		return false
	}
	wrong := func(v float64) bool { return !(v >= 0) }
	return !slices.ContainsFunc(s.Weights, wrong) && !slices.ContainsFunc(s.Counts, wrong) && s.Highest >= 0
}

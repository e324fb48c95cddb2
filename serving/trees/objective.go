package trees

import (
	"fmt"
	"math"
	"slices"
)

// objective links the model's base score to the margin that the trees add to, and the margin to the prediction.
type objective struct {
	name      string
	margin    func(baseScore float32) float32
	transform func(margin float32) float32
}

// objectives lists what is known to be right for a model of one output. The base score is in the prediction's unit; the
// margin is the inverse of the link, which XGBoost applies for the raw logistic score too.
func objectives() []objective {
	return []objective{
		{"reg:squarederror", identity, identity},
		{"reg:linear", identity, identity}, // the old name of reg:squarederror
		{"reg:squaredlogerror", identity, identity},
		{"reg:absoluteerror", identity, identity},
		{"reg:pseudohubererror", identity, identity},
		{"reg:logistic", logit, sigmoid},
		{"binary:logistic", logit, sigmoid},
		{"binary:logitraw", logit, identity},
		{"count:poisson", log, exp},
		{"reg:gamma", log, exp},
		{"reg:tweedie", log, exp},
	}
}

func findObjective(name string) (objective, error) {
	all := objectives()
	i := slices.IndexFunc(all, func(o objective) bool { return o.name == name })
	if i < 0 {
		return objective{}, fmt.Errorf("%w: objective %q", ErrUnsupported, name)
	}
	return all[i], nil
}

func identity(x float32) float32 { return x }

func log(x float32) float32 { return float32(math.Log(float64(x))) }

func exp(x float32) float32 { return float32(math.Exp(float64(x))) }

// logit follows XGBoost's float32 steps.
func logit(p float32) float32 { return -log(1/p - 1) }

// sigmoid follows XGBoost's float32 steps, with its clamp of -x at 88.7, beyond which exp overflows.
func sigmoid(x float32) float32 { return 1 / (exp(min(-x, 88.7)) + 1) }

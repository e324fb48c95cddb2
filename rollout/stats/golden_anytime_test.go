package stats

import (
	"encoding/json"
	"math"
	"testing"
)

// meanSolvers computes the areas anytime, fixed, variance, limit and quantile.
func meanSolvers() map[string]solver {
	return map[string]solver{
		"normal mixture log-supermartingale, one-sided": solveMixture,
		"normal mixture bound, one-sided":               solveBound,
	}
}

type mixtureInput struct {
	S        float64 `json:"s"`
	V        float64 `json:"v"`
	VOpt     float64 `json:"v_opt"`
	Alpha    float64 `json:"alpha"`
	AlphaOpt float64 `json:"alpha_opt"`
}

func (in mixtureInput) rho() float64 {
	l := math.Log(1 / (2 * in.AlphaOpt))
	return in.VOpt / (2*l + math.Log1p(2*l))
}

func solveMixture(t *testing.T, input json.RawMessage) any {
	in := decode[mixtureInput](t, input)
	return normalMixture(in.S/math.Sqrt(in.V), in.V, in.rho())
}

func solveBound(t *testing.T, input json.RawMessage) any {
	in := decode[mixtureInput](t, input)
	return bisect(func(s float64) bool {
		return normalMixture(s/math.Sqrt(in.V), in.V, in.rho()) >= math.Log(1/in.Alpha)
	})
}

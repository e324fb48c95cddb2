package stats

import (
	"encoding/json"
	"testing"
)

// ratioSolvers computes the conditional rate ratio.
func ratioSolvers() map[string]solver {
	return map[string]solver{
		"conditional-binomial rate-ratio mixture log E (grid log-uniform 1.05..20, K=60, midpoints)": solveHarm,
		"E_safe: null r>=1.5, grid r0*(0.3..0.97)":                                                   solveSafe,
	}
}

type ratioInput struct {
	Named  [][4]float64 `json:"blocks_xc_nc_xs_ns"`
	Blocks [][4]float64 `json:"blocks"`
	R0     float64      `json:"r0"`
	Lo     float64      `json:"lo"`
	Hi     float64      `json:"hi"`
	K      int          `json:"K"`
}

// solveHarm returns the log e-value after each block.
func solveHarm(t *testing.T, input json.RawMessage) any {
	in := decode[ratioInput](t, input)
	p := NewRateRatio(in.R0, in.Lo, in.Hi, in.K)
	out := []float64{}
	for _, b := range append(in.Named, in.Blocks...) {
		p.Add(b[0], b[1], b[2], b[3])
		out = append(out, p.LogE())
	}
	return out
}

// solveSafe returns the log e-value after the last block.
func solveSafe(t *testing.T, input json.RawMessage) any {
	all := solveHarm(t, input).([]float64)
	return all[len(all)-1]
}

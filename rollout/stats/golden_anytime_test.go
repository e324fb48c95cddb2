package stats

import (
	"encoding/json"
	"math"
	"regexp"
	"testing"
)

// anytimeSolvers computes the area anytime, but for the conditional rate ratio, and the test of the area quantile.
func anytimeSolvers() map[string]solver {
	return map[string]solver{
		"two-sided normal mixture best_rho(v_opt,alpha)":                      solveBestRho,
		"normal mixture log-supermartingale, two-sided":                       solveNormal(false),
		"normal mixture log-supermartingale, one-sided":                       solveNormal(true),
		"normal mixture bound, two-sided":                                     solveNormalBound(false),
		"normal mixture bound, one-sided":                                     solveNormalBound(true),
		"beta-binomial log mixture, two-sided":                                solveBetaBinomial(false),
		"beta-binomial log mixture, one-sided":                                solveBetaBinomial(true),
		"beta-binomial bound, two-sided":                                      solveBetaBinomialBound(false),
		"beta-binomial bound, one-sided":                                      solveBetaBinomialBound(true),
		"Bernoulli confidence sequence (sub-Bernoulli beta-binomial mixture)": solveRateInterval,
		"asymptotic CS (Waudby-Smith) two-sided, relative lift":               solveSequence(Lift),
		"asymptotic CS two-sided, proportions, relative lift":                 solveSequence(Lift),
		"asymptotic CS one-sided, relative lift":                              solveOneSided(Lift),
		"asymptotic CS one-sided, absolute difference":                        solveOneSided(Difference),
		"rho^2 via Lambert W_{-1}":                                            solveRhoSquared,
		"unit-variance conjugate-mixture margin at t=100":                     solveMargin,
		"Turner-Ly-Grunwald plug-in 2x2 e-value, prior .18":                   solvePlugIn,
		"one-sided TLG plug-in log E (control first), prior (.5,25) both":     solvePlugInOneSided,
		"two-sample histogram (multinomial) TLG log E, prior .5":              solveHistogram,
	}
}

type mixtureInput struct {
	S        number `json:"s"`
	V        number `json:"v"`
	VOpt     number `json:"v_opt"`
	Alpha    number `json:"alpha"`
	AlphaOpt number `json:"alpha_opt"`
	G        number `json:"g"`
	H        number `json:"h"`
}

// level is the one to tune for: the file leaves it out where it is the usual one.
func (in mixtureInput) level() float64 {
	if in.AlphaOpt == 0 {
		return 0.05
	}
	return float64(in.AlphaOpt)
}

func (in mixtureInput) normal(oneSided bool) NormalMixture {
	if oneSided {
		return NormalMixture{Rho: BestRho(float64(in.VOpt), 2*in.level()), OneSided: true}
	}
	return NormalMixture{Rho: BestRho(float64(in.VOpt), in.level())}
}

func (in mixtureInput) betaBinomial(oneSided bool) BetaBinomial {
	return NewBetaBinomial(float64(in.VOpt), in.level(), float64(in.G), float64(in.H), oneSided)
}

func solveBestRho(t *testing.T, input json.RawMessage) any {
	in := decode[mixtureInput](t, input)
	return BestRho(float64(in.VOpt), in.level())
}

func solveNormal(oneSided bool) solver {
	return func(t *testing.T, input json.RawMessage) any {
		in := decode[mixtureInput](t, input)
		return in.normal(oneSided).LogE(float64(in.S), float64(in.V))
	}
}

func solveNormalBound(oneSided bool) solver {
	return func(t *testing.T, input json.RawMessage) any {
		in := decode[mixtureInput](t, input)
		return in.normal(oneSided).Bound(float64(in.V), float64(in.Alpha))
	}
}

func solveBetaBinomial(oneSided bool) solver {
	return func(t *testing.T, input json.RawMessage) any {
		in := decode[mixtureInput](t, input)
		return in.betaBinomial(oneSided).LogE(float64(in.S), float64(in.V))
	}
}

func solveBetaBinomialBound(oneSided bool) solver {
	return func(t *testing.T, input json.RawMessage) any {
		in := decode[mixtureInput](t, input)
		return in.betaBinomial(oneSided).Bound(float64(in.V), float64(in.Alpha))
	}
}

func solveRateInterval(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		Successes number `json:"successes"`
		Trials    number `json:"trials"`
		Alpha     number `json:"alpha"`
		TOpt      number `json:"t_opt"`
	}](t, input)
	low, high := RateInterval(float64(in.Successes), float64(in.Trials), float64(in.Alpha), float64(in.TOpt))
	return []float64{low, high}
}

// armInput is the moments of an arm, or its successes and trials.
type armInput struct{ Moments }

func (a *armInput) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		var counts [2]number
		err := json.Unmarshal(data, &counts)
		a.Moments = ProportionOf(float64(counts[0]), float64(counts[1]))
		return err
	}
	var sums struct {
		N     number `json:"n"`
		Sum   number `json:"sum"`
		Sumsq number `json:"sumsq"`
	}
	err := json.Unmarshal(data, &sums)
	a.Moments = MomentsOf(float64(sums.N), float64(sums.Sum), float64(sums.Sumsq))
	return err
}

type armsInput struct {
	A     armInput `json:"a"`
	B     armInput `json:"b"`
	Alpha number   `json:"alpha"`
	NStar number   `json:"N_star"`
}

// level is 0.05 where the file leaves it out.
func (in armsInput) level() float64 {
	if in.Alpha == 0 {
		return 0.05
	}
	return float64(in.Alpha)
}

// nStar is GrowthBook's default where the file leaves it out.
func (in armsInput) nStar() float64 {
	if in.NStar == 0 {
		return 5000
	}
	return float64(in.NStar)
}

// compare is Lift or Difference.
type compare func(control, treatment Moments) (Effect, bool)

func (in armsInput) effect(t *testing.T, by compare) Effect {
	t.Helper()
	e, ok := by(in.A.Moments, in.B.Moments)
	if !ok {
		t.Fatalf("no effect between %+v and %+v", in.A, in.B)
	}
	return e
}

func effectAnswer(e Effect, low, high, p float64) any {
	return map[string]any{"est": e.Estimate, "se": e.SE, "lo": low, "hi": high, "p": p}
}

func solveSequence(by compare) solver {
	return func(t *testing.T, input json.RawMessage) any {
		in := decode[armsInput](t, input)
		e, rho2 := in.effect(t, by), RhoSquaredNearly(in.nStar(), in.level())
		low, high := e.Sequence(in.level(), rho2)
		return effectAnswer(e, low, high, math.Min(1, math.Exp(-e.LogE(rho2))))
	}
}

func solveOneSided(by compare) solver {
	return func(t *testing.T, input json.RawMessage) any {
		in := decode[armsInput](t, input)
		low, high := in.effect(t, by).SequenceOneSided(in.level(), RhoSquaredNearly(in.nStar(), 2*in.level()))
		return map[string]any{"greater_lo": low, "lesser_hi": high}
	}
}

func solveRhoSquared(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		TOpt  number `json:"t_opt"`
		Alpha number `json:"alpha"`
	}](t, input)
	return RhoSquared(float64(in.TOpt), float64(in.Alpha))
}

var rhoText = regexp.MustCompile(`^\s*"?\s*(exact|approx)\w*\s*\(\s*([^)]*?)\s*\)\s*"?\s*$`)

func solveMargin(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		T     number          `json:"t"`
		Rho2  json.RawMessage `json:"rho2"`
		Alpha number          `json:"alpha"`
	}](t, input)
	alpha := float64(in.Alpha)
	var rho2 number
	if m := rhoText.FindSubmatch(in.Rho2); m != nil {
		tOpt, err := parseNumber(string(m[2]))
		if err != nil {
			t.Fatalf("reading rho2 %s: %v", in.Rho2, err)
		}
		rho2 = number(RhoSquaredNearly(tOpt, alpha))
		if string(m[1]) == "exact" {
			rho2 = number(RhoSquared(tOpt, alpha))
		}
	} else if err := json.Unmarshal(in.Rho2, &rho2); err != nil {
		t.Fatalf("reading rho2 %s: %v", in.Rho2, err)
	}
	return Margin(float64(in.T), float64(rho2), alpha)
}

// priors reads one number for all, a pair (a, b) for both arms, or two pairs.
func priors(t *testing.T, list series, otherwise float64) (a, b Prior) {
	t.Helper()
	switch len(list) {
	case 0:
		return Prior{otherwise, otherwise}, Prior{otherwise, otherwise}
	case 1:
		return Prior{list[0], list[0]}, Prior{list[0], list[0]}
	case 2:
		return Prior{list[0], list[1]}, Prior{list[0], list[1]}
	case 4:
		return Prior{list[0], list[1]}, Prior{list[2], list[3]}
	}
	t.Fatalf("a prior of %d numbers", len(list))
	return Prior{}, Prior{}
}

func solvePlugIn(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		YA    series `json:"ya"`
		YB    series `json:"yb"`
		NA    series `json:"na"`
		NB    series `json:"nb"`
		Prior series `json:"prior"`
	}](t, input)
	a, b := priors(t, in.Prior, 0.18)
	p := NewTwoRates(b, a, false)
	if len(in.YA) != len(in.YB) {
		t.Fatalf("%d blocks of one arm and %d of the other", len(in.YA), len(in.YB))
	}
	for i := range in.YA {
		p.Add(in.YB[i], in.NB.at(i), in.YA[i], in.NA.at(i))
	}
	return math.Exp(p.LogE())
}

// at returns the number with index i of a list, or the only one.
func (s series) at(i int) float64 {
	if len(s) == 1 {
		return s[0]
	}
	return s[i]
}

// solvePlugInOneSided returns the log e-value after each block.
func solvePlugInOneSided(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		Blocks [][4]number `json:"blocks_xs_ns_xc_nc"`
		Prior  series      `json:"prior"`
	}](t, input)
	if in.Prior == nil {
		in.Prior = series{0.5, 25}
	}
	a, b := priors(t, in.Prior, 0.5)
	p := NewTwoRates(b, a, true)
	out := []float64{}
	for _, v := range in.Blocks {
		p.Add(float64(v[2]), float64(v[3]), float64(v[0]), float64(v[1]))
		out = append(out, p.LogE())
	}
	return out
}

// solveHistogram returns the log e-value after the last block.
func solveHistogram(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		Blocks [][2]series `json:"blocks"`
	}](t, input)
	if len(in.Blocks) == 0 {
		return 0.0
	}
	p := NewHistogram(len(in.Blocks[0][0]))
	for _, b := range in.Blocks {
		p.Add(b[0], b[1])
	}
	return p.LogE()
}

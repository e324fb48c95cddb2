package stats

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
)

// rankSolvers computes the areas srm, mwu, kayenta, bayes and prometheus.
func rankSolvers() map[string]solver {
	return map[string]solver{
		"chi-square goodness of fit, 50/50": solveChiSquare,
		"chi-square SRM":                    solveChiSquare,
		"chi-square SRM, canary 10%":        solveChiSquare,
		"Dirichlet-multinomial sequential SRM, cumulative log marginal likelihoods (M1,M0)": solveMarginals,
		"same, unit-level rows":                                                      solveMarginals,
		"Dirichlet prior concentration 10000 at p0":                                  solveShares,
		"Mann-Whitney U":                                                             solveMannWhitney,
		"Wilcoxon rank-sum, alternative=greater, exact":                              solveRankSum,
		"exact permutation MWU with ties (less, two-sided=2*min, greater)":           solveExactRanks,
		"exact permutation MWU with heavy ties":                                      solveExactRanks,
		"normal approximation with continuity correction (matches R)":                solveApproximateRanks,
		"Hodges-Lehmann interval by inverting tie-corrected MWU with Brent tol 1e-4": solveShift,
		"High/critical classification":                                               solveKayentaClass,
		"common-language effect size = U/(nm)":                                       solveCommonLanguage,
		"percentile R-7":                                                             solvePercentile,
		"weighted group score":                                                       solveKayentaScore,
		"P(p_test>p_control), Jeffreys prior":                                        solveChanceAbove,
		"P(B>A) Beta(1,1) closed form":                                               solveChanceAbove,
		"classic histogram_quantile (linear interpolation)":                          solveHistogramQuantile,
		"classic histogram_quantile":                                                 solveHistogramQuantile,
		"histogram_fraction(0,3.5)":                                                  solveHistogramFraction,
		"histogram_quantile(0.5) after summing rates over instances":                 solveHistogramQuantile,
		"increase() v anchored on integer counter, scrape 15s, window 1m":            solveIncrease,
	}
}

type sharesInput struct {
	Observed      series   `json:"obs"`
	Weights       series   `json:"w"`
	Rows          []series `json:"rows"`
	Total         series   `json:"total_counts"`
	P0            series   `json:"p0"`
	Alpha0        series   `json:"alpha0"`
	Concentration number   `json:"concentration"`
}

func solveChiSquare(t *testing.T, input json.RawMessage) any {
	in := decode[sharesInput](t, input)
	return ChiSquareP(in.Observed, in.Weights)
}

// solveMarginals adds up the rows' log likelihoods under the null, multinomial coefficients included; the model's are
// above them by the log Bayes factor of all rows together.
func solveMarginals(t *testing.T, input json.RawMessage) any {
	in := decode[sharesInput](t, input)
	counts, null := make([]float64, len(in.P0)), 0.0
	for _, row := range in.Rows {
		total := 0.0
		for j, n := range row {
			g, _ := math.Lgamma(n + 1)
			null += weigh(n, in.P0[j]) - g
			counts[j] += n
			total += n
		}
		g, _ := math.Lgamma(total + 1)
		null += g
	}
	return []float64{null + logMarginalRatio(counts, in.P0, in.Alpha0), null}
}

func solveShares(t *testing.T, input json.RawMessage) any {
	in := decode[sharesInput](t, input)
	bf := math.Exp(logDirichletBF(in.Total, in.P0, float64(in.Concentration)))
	return map[string]any{"bf": bf, "post": bf / (1 + bf)}
}

type samplesInput struct {
	X               series `json:"x"`
	Y               series `json:"y"`
	Experiment      series `json:"experiment"`
	Control         series `json:"control"`
	Data            series `json:"data"`
	P               number `json:"p"`
	Level           number `json:"conf"`
	Tolerance       number `json:"tolerance"`
	AllowedIncrease number `json:"allowedIncrease"`
	AllowedDecrease number `json:"allowedDecrease"`
	CriticalUp      number `json:"criticalIncrease"`
	CriticalDown    number `json:"criticalDecrease"`
}

func solveMannWhitney(t *testing.T, input json.RawMessage) any {
	in := decode[samplesInput](t, input)
	p := pooled(t, in.X, in.Y)
	return map[string]any{"U": p.u(), "p_exact": exactRanks(p).Two, "p_asym_cc": p.approximate().Two}
}

func solveRankSum(t *testing.T, input json.RawMessage) any {
	in := decode[samplesInput](t, input)
	test := exactRanks(pooled(t, in.X, in.Y))
	return map[string]any{"W": test.U, "p": test.Greater}
}

func solveExactRanks(t *testing.T, input json.RawMessage) any {
	in := decode[samplesInput](t, input)
	return rankAnswer(exactRanks(pooled(t, in.X, in.Y)))
}

func solveApproximateRanks(t *testing.T, input json.RawMessage) any {
	in := decode[samplesInput](t, input)
	return rankAnswer(pooled(t, in.X, in.Y).approximate())
}

// exactRanks is exact as long as the number of splits is a float, longer than MannWhitney is.
func exactRanks(p ranks) RankTest {
	if p.n+p.m > 1000 {
		return p.approximate()
	}
	return p.exact()
}

func rankAnswer(r RankTest) any {
	return map[string]any{"U": r.U, "less": r.Less, "two": r.Two, "greater": r.Greater}
}

func pooled(t *testing.T, x, y []float64) ranks {
	t.Helper()
	p, ok := poolRanks(x, y)
	if !ok {
		t.Fatal("there is nothing to rank")
	}
	return p
}

// solveShift does as the method's name says: it searches a step function for its root and stops up to 1e-4 away from it. The
// search is the test's; HodgesLehmann returns the steps themselves, and TestHodgesLehmannIsTheSearchedRoot compares them.
func solveShift(t *testing.T, input json.RawMessage) any {
	in := decode[samplesInput](t, input)
	s := searchShift(t, in.Experiment, in.Control, float64(in.Level))
	return map[string]any{"lo": s.Low, "hi": s.High, "est": s.Estimate}
}

func searchShift(t *testing.T, x, y []float64, level float64) Shift {
	low, high := slices.Min(x)-slices.Max(y), slices.Max(x)-slices.Min(y)
	root := func(quantile float64) float64 {
		z := func(d float64) float64 { return shiftScore(t, x, y, d) - quantile }
		switch {
		case z(low) <= 0:
			return low
		case z(high) >= 0:
			return high
		}
		return brent(z, low, high, 1e-4)
	}
	z := upperNormal((1 - level) / 2)
	return Shift{Estimate: root(0), Low: root(z), High: root(-z)}
}

// shiftScore is the standardised U of x-d against y, with both corrections.
func shiftScore(t *testing.T, x, y []float64, d float64) float64 {
	moved := make([]float64, len(x))
	for i, v := range x {
		moved[i] = v - d
	}
	p := pooled(t, moved, y)
	dz := p.u() - p.n*p.m/2
	if dz != 0 {
		dz -= math.Copysign(0.5, dz)
	}
	return dz / rankSigma(p.n, p.m, p.tied())
}

// brent finds a root of f between a and b, where it has two signs (Brent 1973, "Algorithms for Minimization without
// Derivatives", chapter 4).
func brent(f func(float64) float64, a, b, tol float64) float64 {
	fa, fb := f(a), f(b)
	c, fc := a, fa
	for range 1000 {
		before := b - a
		if math.Abs(fc) < math.Abs(fb) {
			a, b, c = b, c, b
			fa, fb, fc = fb, fc, fb
		}
		least := 2*0x1p-52*math.Abs(b) + tol/2
		step := (c - b) / 2
		if math.Abs(step) <= least || fb == 0 {
			return b
		}
		if math.Abs(before) >= least && math.Abs(fa) > math.Abs(fb) {
			step = interpolate(a, b, c, fa, fb, fc, before, least)
		}
		if math.Abs(step) < least {
			step = math.Copysign(least, step)
		}
		a, fa = b, fb
		b += step
		fb = f(b)
		if fb*fc > 0 {
			c, fc = a, fa
		}
	}
	return b
}

// interpolate is brent's step by the secant or by inverse quadratic interpolation, where it stays well inside, else half.
func interpolate(a, b, c, fa, fb, fc, before, least float64) float64 {
	width := c - b
	var p, q float64
	if a == c {
		s := fb / fa
		p, q = width*s, 1-s
	} else {
		r, s, u := fa/fc, fb/fc, fb/fa
		p = u * (width*r*(r-s) - (b-a)*(s-1))
		q = (r - 1) * (s - 1) * (u - 1)
	}
	if p > 0 {
		q = -q
	} else {
		p = -p
	}
	if p < 0.75*width*q-math.Abs(least*q)/2 && p < math.Abs(before*q/2) {
		return p / q
	}
	return width / 2
}

func solveKayentaClass(t *testing.T, input json.RawMessage) any {
	in := decode[samplesInput](t, input)
	config := KayentaConfig{
		Critical: true, Level: float64(in.Level),
		AllowedIncrease: float64(in.AllowedIncrease), AllowedDecrease: float64(in.AllowedDecrease),
		CriticalIncrease: float64(in.CriticalUp), CriticalDecrease: float64(in.CriticalDown),
	}.withDefaults()
	config.Tolerance = float64(in.Tolerance)
	v := config.classify(in.Experiment, in.Control)
	return map[string]any{
		"lo": v.Shift.Low, "hi": v.Shift.High, "est": v.Shift.Estimate, "mean_ratio": v.Effect,
		"cls": string(v.Class), "critical": v.Critical,
	}
}

func solveCommonLanguage(t *testing.T, input json.RawMessage) any {
	in := decode[samplesInput](t, input)
	return CommonLanguage(in.Experiment, in.Control)
}

func solvePercentile(t *testing.T, input json.RawMessage) any {
	in := decode[samplesInput](t, input)
	return percentile(in.Data, float64(in.P))
}

// solveKayentaScore reads metrics as [group, class] with words such as "critical" behind them.
func solveKayentaScore(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		Metrics      [][]string        `json:"metrics"`
		GroupWeights map[string]number `json:"groupWeights"`
	}](t, input)
	var metrics []KayentaMetric
	for _, m := range in.Metrics {
		metrics = append(metrics, KayentaMetric{
			Group: m[0], Class: KayentaClass(m[1]), Critical: slices.Contains(m[2:], "critical"),
		})
	}
	weights := map[string]float64{}
	for group, w := range in.GroupWeights {
		weights[group] = float64(w)
	}
	return KayentaScore(metrics, weights)
}

// solveChanceAbove reads [events, requests] of both sides; control and A are the sides that are to be beaten. A prior is
// [a, b] for both or [a, b, a, b] for control and test.
func solveChanceAbove(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		A       series `json:"A"`
		B       series `json:"B"`
		Control series `json:"control"`
		Test    series `json:"test"`
		Prior   series `json:"prior"`
	}](t, input)
	low, high := append(in.A, in.Control...), append(in.B, in.Test...)
	first, second := Beta{1, 1}, Beta{1, 1}
	if len(in.Control) > 0 {
		first, second = Beta{0.5, 0.5}, Beta{0.5, 0.5}
	}
	if n := len(in.Prior); n > 0 {
		first, second = Beta{in.Prior[0], in.Prior[1]}, Beta{in.Prior[n-2], in.Prior[n-1]}
	}
	return second.After(high[0], high[1]).ChanceAbove(first.After(low[0], low[1]))
}

type histogramInput struct {
	Bounds     []number `json:"le"`
	Cumulative []number `json:"cum"`
	Q          number   `json:"q"`
	Low        number   `json:"lo"`
	High       number   `json:"hi"`
}

func (in histogramInput) buckets() []Bucket {
	var out []Bucket
	for i, b := range in.Bounds {
		out = append(out, Bucket{float64(b), float64(in.Cumulative[i])})
	}
	return out
}

func solveHistogramQuantile(t *testing.T, input json.RawMessage) any {
	in := decode[histogramInput](t, input)
	return HistogramQuantile(float64(in.Q), in.buckets())
}

func solveHistogramFraction(t *testing.T, input json.RawMessage) any {
	in := decode[histogramInput](t, input)
	return HistogramFraction(float64(in.Low), float64(in.High), in.buckets())
}

// solveIncrease leaves the one method about samples in Prometheus to the package that reads them.
func solveIncrease(t *testing.T, _ json.RawMessage) any {
	t.Skip("computed by TestGoldenIncrease of rollout/evidence, with Prometheus' engine and the package's own differences")
	return nil
}

package stats

import (
	"math"
	"testing"
)

// The wanted values of this file were computed with 40 digits.

func near(t *testing.T, what string, got, want, relative float64) {
	t.Helper()
	if !(math.Abs(got-want) <= relative*math.Max(math.Abs(want), 1e-300)) {
		t.Errorf("%s: got %.17g, want %.17g within %g relative", what, got, want, relative)
	}
}

func TestLogPhi(t *testing.T) {
	for _, c := range []struct{ x, want float64 }{
		{0, -0.69314718055994531},
		{1, -0.17275377902344989},
		{-1, -1.8410216450092635},
		{-5, -15.064998393988726},
		{-10, -53.231285150512471},
		{-29.9, -451.32291245852863},
		{-30.1, -457.32956441638226},
		{-35, -616.97510126192251},
		{-100, -5005.5242086942051},
		{-1000, -500007.82669481218},
	} {
		near(t, "logPhi", logPhi(c.x), c.want, 1e-9)
		if c.x < 0 {
			near(t, "logMills", logMills(c.x), c.want+c.x*c.x/2, 1e-7)
		}
	}
	if got := logPhi(8); got > 0 || got < -1e-15 {
		t.Errorf("logPhi(8) = %g, want just below 0", got)
	}
	if got := logMills(math.Inf(-1)); !math.IsInf(got, -1) {
		t.Errorf("logMills(-Inf) = %g, want -Inf", got)
	}
}

func TestBetaInc(t *testing.T) {
	for _, c := range []struct{ a, b, x, want float64 }{
		{0.5, 0.5, 0.25, 1. / 3},
		{2, 3, 0.4, 0.5248},
		{2.5, 0.5, 0.1, 0.001114437541507422},
		{2.5, 0.5, 0.9, 0.48958974456442755},
		{50, 0.5, 0.98, 0.15624350786681793},
		{500, 0.5, 0.999, 0.31731044730971715},
		{1, 1, 0.3, 0.3},
		{10, 2, 0.5, 0.005859375},
		{50000, 0.5, 0.9999, 0.0015650197621734949},
		{3, 4, 0, 0},
		{3, 4, 1, 1},
	} {
		near(t, "betaInc", betaInc(c.a, c.b, c.x), c.want, 1e-9)
	}
}

func TestNormalScore(t *testing.T) {
	for _, c := range []struct{ t, df, want float64 }{
		{0.5, 4, 0.46304799791297102},
		{2, 4, 1.5712847428687641},
		{12.706204736432095, 1, 1.9599639845486837},
		{10, 4, 3.4493183910289314},
		{3, 30, 2.7827540972109265},
		{5, 98, 4.7070252384749703},
		{9, 1000, 8.8231433104889827},
		{20, 98, 12.594004172223544},
		{12, 100000, 11.995653380762783},
		{40, 98, 16.685773076751835},
		{7, 1e9, 7},
	} {
		near(t, "normalScore", normalScore(c.t, c.df), c.want, 1e-8)
		near(t, "normalScore of the other tail", normalScore(-c.t, c.df), -c.want, 1e-8)
	}
	for _, x := range []float64{0, math.NaN()} {
		if got := normalScore(x, 5); got != 0 {
			t.Errorf("normalScore(%g) = %g, want 0", x, got)
		}
	}
}

// TestNormalScoreGrows: a greater statistic is never less evidence, out to where tails underflow.
func TestNormalScoreGrows(t *testing.T) {
	for _, df := range []float64{1, 3, 4.2, 30, 98, 1e4} {
		last := 0.0
		for x := 0.01; x < 1e6; x *= 1.3 {
			z := normalScore(x, df)
			if !(z >= last) || math.IsInf(z, 0) {
				t.Fatalf("normalScore(%g, %g) = %g after %g", x, df, z, last)
			}
			last = z
		}
	}
}

// TestMixtureIsNumber: the evidence stays a number however far the estimate lies from the null, on either side. It once
// became NaN for a canary that was much better, which compared as harm.
func TestMixtureIsNumber(t *testing.T) {
	for _, df := range []float64{4, 50, 2e6} {
		for _, estimate := range []float64{-5, -0.5, -1e-9, 0, 1e-9, 0.5, 5} {
			for _, v := range []float64{1e-12, 1e-6, 1e-3, 1, 1e6} {
				r := Ratio{A: RatioMean{Mean: math.Exp(estimate), Var: v}, B: RatioMean{Mean: 1}, DF: df}
				above, below := r.LogEAbove(1), r.LogEBelow(1)
				if math.IsNaN(above) || math.IsNaN(below) {
					t.Errorf("estimate %g, variance %g, df %g: log e %g above, %g below", estimate, v, df, above, below)
				}
				further := r
				further.A.Mean *= 1.1
				if further.LogEAbove(1) < above || further.LogEBelow(1) > below {
					t.Errorf("estimate %g, variance %g, df %g: a greater ratio is less evidence above, or more below", estimate, v, df)
				}
			}
		}
	}
}

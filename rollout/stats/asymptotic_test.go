package stats

import (
	"math"
	"testing"
)

// Published values of GrowthBook's unit tests of frequentist methods, to five digits where no more are given.
func TestEffectsPublished(t *testing.T) {
	a, b := MomentsOf(3407, 1396.87, 52377.9767), MomentsOf(3461, 2422.7, 134698.29)
	welch, ok := Difference(a, b)
	if !ok {
		t.Fatal("no difference")
	}
	low, high := welch.Interval(0.05)
	small := MomentsOf(3000, 1396.87, 52377.9767)
	oneSided, _ := Difference(small, b)
	rho := RhoSquaredNearly(5000, 0.10)
	below, above := oneSided.SequenceOneSided(0.05, rho)
	lift, _ := Lift(ProportionOf(1396, 3000), ProportionOf(2422, 3461))
	left, right := lift.Sequence(0.05, RhoSquaredNearly(5000, 0.05))
	for name, tc := range map[string]struct{ got, want, tol float64 }{
		"difference":            {welch.Estimate, 0.29, 1e-5},
		"its standard error":    {welch.SE, 0.12478, 1e-5},
		"its lower end":         {low, 0.04538, 1e-5},
		"its upper end":         {high, 0.53462, 1e-5},
		"its p-value":           {welch.P(), 0.02016, 1e-5},
		"one-sided lower end":   {below, -0.12656844172804982, 1e-12},
		"one-sided upper end":   {above, 0.5953217750613832, 1e-12},
		"lift of a proportion":  {lift.Estimate, 0.50386, 1e-5},
		"its sequence's lower":  {left, 0.40098, 1e-5},
		"its sequence's upper":  {right, 0.60675, 1e-5},
		"its standard error, p": {lift.SE, 0.03386, 1e-5},
	} {
		if !(math.Abs(tc.got-tc.want) <= tc.tol) {
			t.Errorf("%s: %.12g, want %.12g", name, tc.got, tc.want)
		}
	}
}

func TestRhoSquared(t *testing.T) {
	for _, alpha := range []float64{0.5, 0.1, 0.05, 1e-3, 1e-12} {
		// w e^w = -alpha^2/e on the branch below -1; rho^2 t_opt = -w - 1.
		w := -RhoSquared(1, alpha) - 1
		if got := math.Log(-w) + w; !closeTo(got, 2*math.Log(alpha)-1, 1e-13) || w >= -1 {
			t.Errorf("alpha %g: ln(-w) + w = %.15g, want %.15g", alpha, got, 2*math.Log(alpha)-1)
		}
		if got := RhoSquared(7, alpha) * 7; !closeTo(got, RhoSquared(1, alpha), 1e-14) {
			t.Errorf("alpha %g: tuned to 7 observations it is %g, want a seventh", alpha, got)
		}
	}
	if got := RhoSquaredNearly(100, 0.05); math.Abs(got-0.0793615460) > 1e-10 {
		t.Errorf("the approximation at 100 and 0.05 is %.12g, want 0.0793615460", got)
	}
}

// TestMarginIsTightestWhereTuned: no other tuning does better at the time that it is for.
func TestMarginIsTightestWhereTuned(t *testing.T) {
	for _, alpha := range []float64{0.1, 0.01} {
		best := Margin(500, RhoSquared(500, alpha), alpha)
		for _, tOpt := range []float64{5, 50, 480, 520, 5000} {
			if other := Margin(500, RhoSquared(tOpt, alpha), alpha); other <= best {
				t.Errorf("alpha %g: tuned to %g the margin at 500 is %g, tuned to 500 it is %g", alpha, tOpt, other, best)
			}
		}
	}
}

// TestSequenceAgreesWithLogE: the sequence excludes no effect exactly where the e-value reaches 1/alpha.
func TestSequenceAgreesWithLogE(t *testing.T) {
	const alpha, rho2 = 0.05, 0.001
	for z := 0.0; z < 8; z += 0.01 {
		e := Effect{Estimate: z * 0.3, SE: 0.3, N: 2000, DF: 1000}
		low, _ := e.Sequence(alpha, rho2)
		if excluded := low > 0; excluded != (e.LogE(rho2) >= math.Log(1/alpha)) {
			t.Fatalf("z %g: lower end %g, yet log e %g", z, low, e.LogE(rho2))
		}
	}
}

func TestEffectsThatAreNone(t *testing.T) {
	good := Moments{N: 10, Mean: 2, Var: 1}
	tests := map[string]struct {
		reason      string
		a, b        Moments
		diff, ratio bool
	}{
		"Good":     {"two arms with a variance compare", good, good, true, true},
		"Zero":     {"nothing is relative to zero", Moments{N: 10, Mean: 0, Var: 1}, good, true, false},
		"NoMotion": {"without a variance there is no scale", Moments{N: 10, Mean: 2}, Moments{N: 10, Mean: 3}, false, false},
		"One":      {"one observation has no variance", MomentsOf(1, 2, 4), good, false, false},
		"None":     {"no observations have no mean", MomentsOf(0, 0, 0), good, false, false},
		"NaN":      {"not a number is no effect", good, Moments{N: 10, Mean: math.NaN(), Var: 1}, false, false},
		"Negative": {"a negative variance cannot be", good, Moments{N: 10, Mean: 1, Var: -9}, false, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if e, ok := Difference(tc.a, tc.b); ok != tc.diff {
				t.Errorf("%s: difference %+v, %t", tc.reason, e, ok)
			}
			if e, ok := Lift(tc.a, tc.b); ok != tc.ratio {
				t.Errorf("%s: lift %+v, %t", tc.reason, e, ok)
			}
		})
	}
}

// TestLiftOfNegativeControl: the lift is relative to the size of control's mean, so more is more.
func TestLiftOfNegativeControl(t *testing.T) {
	e, ok := Lift(Moments{N: 10, Mean: -2, Var: 1}, Moments{N: 10, Mean: -1, Var: 1})
	if !ok || e.Estimate != 0.5 || !closeTo(e.SE*e.SE, (0.1+0.1/4)/4, 1e-12) {
		t.Errorf("from -2 to -1: %+v, %t, want 0.5 with variance 0.03125", e, ok)
	}
}

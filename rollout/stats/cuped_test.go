package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestTheta(t *testing.T) {
	tests := map[string]struct {
		reason string
		arms   []Paired
		want   float64
	}{
		"None":   {"no arms have no past", nil, 0},
		"Line":   {"the slope of a line is found", []Paired{{[]float64{1, 2, 3}, []float64{5, 7, 9}}}, 2},
		"Effect": {"what a treatment adds does not enter", []Paired{{[]float64{1, 2, 3}, []float64{5, 7, 9}}, {[]float64{4, 5}, []float64{111, 113}}}, 2},
		"Still":  {"a past that does not vary says nothing", []Paired{{[]float64{4, 4}, []float64{1, 2}}}, 0},
		"Short":  {"observations without a past do not count", []Paired{{[]float64{1, 2, 3}, []float64{5, 7, 9, 1000}}}, 2},
		"NaN":    {"not a number is no past", []Paired{{[]float64{math.NaN(), 2}, []float64{1, 2}}}, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Theta(tc.arms...); math.Abs(got-tc.want) > 1e-12 {
				t.Errorf("%s: got %g, want %g", tc.reason, got, tc.want)
			}
		})
	}
}

// ratioArm draws units of a size that lasts, with a ratio that lasts in part.
func ratioArm(r *rand.Rand, n int, lift float64) RatioArm {
	var rows [][4]float64
	for range n {
		size, level := 5+5*r.Float64(), 1+0.3*r.NormFloat64()
		d, d0 := size+r.Float64(), size+r.Float64()
		rows = append(rows, [4]float64{
			d * (1 + lift) * (level + 0.1*r.NormFloat64()), d, d0 * (level + 0.1*r.NormFloat64()), d0,
		})
	}
	a := RatioArm{N: float64(n)}
	for _, row := range rows {
		for i, x := range row {
			a.Mean[i] += x / a.N
		}
	}
	for _, row := range rows {
		for i := range row {
			for j := range row {
				a.Cov[i][j] += (row[i] - a.Mean[i]) * (row[j] - a.Mean[j]) / (a.N - 1)
			}
		}
	}
	return a
}

// TestRatioLift: the adjusted lift is as far from the truth as its standard error says, and nearer than without the past.
func TestRatioLift(t *testing.T) {
	const runs, lift = 400, 0.1
	r := rand.New(rand.NewPCG(1, 41))
	sum, squares, errors, plainErrors := 0.0, 0.0, 0.0, 0.0
	for range runs {
		c, b := ratioArm(r, 300, 0), ratioArm(r, 200, lift)
		e, ok := RatioLift(c, b)
		plain, okPlain := RatioLift(withoutPast(c), withoutPast(b))
		if !ok || !okPlain {
			t.Fatal("no lift")
		}
		z := (e.Estimate - lift) / e.SE
		sum, squares = sum+z, squares+z*z
		errors, plainErrors = errors+e.SE, plainErrors+plain.SE
	}
	mean, sd := sum/runs, math.Sqrt(squares/runs)
	t.Logf("standardised errors: mean %.3f, standard deviation %.3f; standard error %.4f with the past, %.4f without",
		mean, sd, errors/runs, plainErrors/runs)
	if math.Abs(mean) > 0.15 || math.Abs(sd-1) > 0.1 {
		t.Errorf("standardised errors have mean %.3f and standard deviation %.3f, want 0 and 1", mean, sd)
	}
	if errors > 0.7*plainErrors {
		t.Errorf("standard error %.4f with the past, %.4f without", errors/runs, plainErrors/runs)
	}
}

func withoutPast(a RatioArm) RatioArm {
	a.Mean[2], a.Mean[3] = 0, 0
	return a
}

// TestRatioLiftWithoutPast is the lift of two ratios by the delta method.
func TestRatioLiftWithoutPast(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 42))
	c, b := withoutPast(ratioArm(r, 50, 0)), withoutPast(ratioArm(r, 60, 0.2))
	got, ok := RatioLift(c, b)
	moments := func(a RatioArm) Moments {
		m, d := a.Mean[0], a.Mean[1]
		v := (a.Cov[0][0] - 2*m/d*a.Cov[0][1] + m*m/(d*d)*a.Cov[1][1]) / (d * d)
		return Moments{N: a.N, Mean: m / d, Var: v}
	}
	want, _ := Lift(moments(c), moments(b))
	if !ok || !closeTo(got.Estimate, want.Estimate, 1e-12) || !closeTo(got.SE, want.SE, 1e-12) || !closeTo(got.DF, want.DF, 1e-12) {
		t.Errorf("got %+v, %t, want %+v", got, ok, want)
	}
	if _, ok := RatioLift(RatioArm{}, b); ok {
		t.Error("an empty arm has a lift")
	}
}

// TestRatioArmOf: clusters are the units; one without a past takes the whole past away, one without a count is none.
func TestRatioArmOf(t *testing.T) {
	s := Sample{
		Now:    []Cluster{{Sum: 2, Count: 1}, {Sum: 6, Count: 2}, {}, {Sum: 1, Count: 3}},
		Before: []Cluster{{Sum: 1, Count: 1}, {Sum: 3, Count: 2}, {}, {Sum: 2, Count: 3}},
	}
	a := RatioArmOf(s)
	if a.N != 3 || a.Mean != [4]float64{3, 2, 2, 2} || !closeTo(a.Cov[0][0], 7, 1e-12) || !closeTo(a.Cov[0][2], 2, 1e-12) || !closeTo(a.Cov[3][3], 1, 1e-12) {
		t.Errorf("got %+v", a)
	}
	s.Before[3] = Cluster{}
	if b := RatioArmOf(s); b.Mean != [4]float64{3, 2} || b.Cov[2] != [4]float64{} || b.Cov[0][0] != a.Cov[0][0] {
		t.Errorf("without a past: got %+v", b)
	}
}

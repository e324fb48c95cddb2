package stats

import (
	"math"
	"testing"
)

func closeTo(got, want, relative float64) bool {
	return got == want || math.Abs(got-want) <= relative*math.Max(math.Abs(want), 1e-300)
}

// The values are computed with forty digits.
func TestLnBeta(t *testing.T) {
	for _, tc := range []struct{ a, b, want float64 }{
		{0.5, 0.5, 1.14472988584940017},
		{3, 1e9, -61.4766503332792882},
		{1e6, 2e6, -1909548.29096853296},
		{19.9, 20.1, -27.9514791757703103},
		{25, 1e12, -635.990798500401386},
		{0.001, 0.001, 7.60090081700834738},
		{0.3, 7, 0.527156683805927544},
	} {
		if got := lnBeta(tc.a, tc.b); !closeTo(got, tc.want, 2e-14) || lnBeta(tc.b, tc.a) != got {
			t.Errorf("ln B(%g, %g) = %.18g, want %.18g", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestLnBetaUpTo(t *testing.T) {
	for _, tc := range []struct{ a, b, x, want float64 }{
		{2, 3, 0.4, -3.129644691140258},
		{500, 2000, 0.05, -1606.38049223997984},
		{12.5, 0.5, 0.999, -0.813375814439996821},
		{40, 3, 0.8, -15.6398196715793449},
		{1000, 1, 0.5, -700.054935838927446},
		{2000, 500, 0.9, -1253.08267758584141},
		{2, 3, 1, -2.484906649788000},
	} {
		if got := lnBetaUpTo(tc.a, tc.b, tc.x); !closeTo(got, tc.want, 1e-13) {
			t.Errorf("ln B_%g(%g, %g) = %.16g, want %.16g", tc.x, tc.a, tc.b, got, tc.want)
		}
	}
	if got := lnBetaUpTo(8887.4, 8887.3999, 0.5000000000000036); !closeTo(got-lnBeta(8887.4, 8887.3999), -math.Ln2, 1e-4) {
		t.Errorf("half of a beta function: ln %g of it", got-lnBeta(8887.4, 8887.3999))
	}
	if got := lnBetaUpTo(2, 3, 0); !math.IsInf(got, -1) {
		t.Errorf("ln B_0(2, 3) = %g, want -Inf", got)
	}
}

func TestStudentTail(t *testing.T) {
	for _, tc := range []struct{ t, df, want float64 }{
		{0, 5, 0.5},
		{1, 1, 0.25},
		{2.5, 3, 0.0438533235040328},
		{4, 1000, 3.40049596043908e-5},
		{1.96, 1e6, 0.0249980337925817},
		{9, 30, 2.50741595807394e-10},
		{2, 1e8, 0.0227501332979534},
		{2, 1e11, 0.0227501319481792},
	} {
		if got := studentTail(tc.t, tc.df); !closeTo(got, tc.want, 3e-8/math.Max(1, 1e6/tc.df)) {
			t.Errorf("P(t > %g) with %g degrees: %.15g, want %.15g", tc.t, tc.df, got, tc.want)
		}
		if got := studentTail(-tc.t, tc.df) + studentTail(tc.t, tc.df); !closeTo(got, 1, 1e-15) {
			t.Errorf("both sides of %g with %g degrees sum to %.17g", tc.t, tc.df, got)
		}
	}
}

func TestStudentQuantile(t *testing.T) {
	for _, tc := range []struct{ tail, df, want float64 }{
		{0.025, 10, 2.22813885198627},
		{0.025, 1, 12.7062047361747},
		{0.005, 3.7, 4.86925225322783},
		{1e-6, 50, 5.37667340174048},
	} {
		if got := studentQuantile(tc.tail, tc.df); !closeTo(got, tc.want, 1e-12) {
			t.Errorf("upper %g quantile with %g degrees: %.15g, want %.15g", tc.tail, tc.df, got, tc.want)
		}
	}
	if got := studentQuantile(0.5, 4); got > 1e-12 {
		t.Errorf("median: %g, want 0", got)
	}
}

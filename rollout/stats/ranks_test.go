package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMannWhitney(t *testing.T) {
	tests := map[string]struct {
		reason             string
		x, y               []float64
		u                  float64
		less, greater, two float64
	}{
		"RExample": {
			"the example of R's wilcox.test",
			[]float64{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46},
			[]float64{1.15, 0.88, 0.90, 0.74, 1.21},
			35, 2693.0 / 3003, 382.0 / 3003, 2 * 382.0 / 3003,
		},
		"HeavyTies": {"five equal values of nine", []float64{2, 1, 3, 5}, []float64{1, 1, 1, 1, 1}, 17.5, 1, 1.0 / 21, 2.0 / 21},
		"AllTied":   {"equal values tell nothing", []float64{3, 3}, []float64{3, 3, 3}, 3, 1, 1, 1},
		"OnePair":   {"one pair can be either way", []float64{1}, []float64{2}, 0, 0.5, 1, 1},
		"Apart":     {"of 20 splits one is as low", []float64{1, 2, 3}, []float64{4, 5, 6}, 0, 0.05, 1, 0.1},
		"Infinite":  {"infinity ranks last", []float64{math.Inf(1)}, []float64{1, 2, 3}, 3, 1, 0.25, 0.5},
		"Empty":     {"no sample has no ranks", nil, []float64{1}, math.NaN(), math.NaN(), math.NaN(), math.NaN()},
		"NaN":       {"NaN has no rank", []float64{math.NaN()}, []float64{1}, math.NaN(), math.NaN(), math.NaN(), math.NaN()},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := MannWhitney(tc.x, tc.y)
			want := RankTest{U: tc.u, Less: tc.less, Greater: tc.greater, Two: tc.two}
			for what, pair := range map[string][2]float64{
				"U": {got.U, want.U}, "less": {got.Less, want.Less}, "greater": {got.Greater, want.Greater}, "two": {got.Two, want.Two},
			} {
				if math.IsNaN(pair[0]) != math.IsNaN(pair[1]) || math.Abs(pair[0]-pair[1]) > 1e-13 {
					t.Errorf("%s: %s is %.15g, want %.15g", tc.reason, what, pair[0], pair[1])
				}
			}
		})
	}
}

// TestExactRanksIsEnumeration goes through all splits of small samples, ties included.
func TestExactRanksIsEnumeration(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 150 {
		n, m, kinds := 1+r.IntN(6), 1+r.IntN(6), 1+r.IntN(12)
		all := make([]float64, n+m)
		for i := range all {
			all[i] = float64(r.IntN(kinds))
		}
		less, greater, splits := 0.0, 0.0, 0.0
		u := pairsAbove(all[:n], all[n:])
		for mask := range 1 << (n + m) {
			var x, y []float64
			for i, v := range all {
				if mask>>i&1 == 1 {
					x = append(x, v)
				} else {
					y = append(y, v)
				}
			}
			if len(x) != n {
				continue
			}
			splits++
			if pairsAbove(x, y) <= u {
				less++
			}
			if pairsAbove(x, y) >= u {
				greater++
			}
		}
		got := MannWhitney(all[:n], all[n:])
		if !got.Exact || got.U != u || math.Abs(got.Less-less/splits) > 1e-13 || math.Abs(got.Greater-greater/splits) > 1e-13 {
			t.Fatalf("%v and %v: got %+v, want U %g, %g, %g", all[:n], all[n:], got, u, less/splits, greater/splits)
		}
	}
}

func pairsAbove(x, y []float64) (u float64) {
	for _, a := range x {
		for _, b := range y {
			switch {
			case a > b:
				u++
			case a == b:
				u += 0.5
			}
		}
	}
	return u
}

// TestRanksOfLargeSamples: the two ways to compute p agree where both are good, and which one is taken is bounded.
func TestRanksOfLargeSamples(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, grain := range []float64{1e9, 40} { // without ties and with many
		x, y := normals(r, 70, 0.1, grain), normals(r, 90, 0, grain)
		p := pooled(t, x, y)
		exact, near := p.exact(), p.approximate()
		if math.Abs(exact.Two-near.Two) > 0.003 || math.Abs(exact.Less-near.Less) > 0.003 {
			t.Errorf("exactly %+v, approximately %+v", exact, near)
		}
	}
	if big := MannWhitney(normals(r, 600, 0, 1e9), normals(r, 600, 0, 1e9)); big.Exact || !(big.Two > 0 && big.Two <= 1) {
		t.Errorf("1200 values gave %+v, want an approximation", big)
	}
}

// normals returns n normal values about a mean, rounded to a grain.
func normals(r *rand.Rand, n int, mean, grain float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = math.Round((mean+r.NormFloat64())*grain) / grain
	}
	return out
}

// TestRanksMirror: exchanging samples exchanges the alternatives.
func TestRanksMirror(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 50 {
		x, y := normals(r, 1+r.IntN(15), 0, 3), normals(r, 1+r.IntN(15), 0.3, 3)
		a, b := MannWhitney(x, y), MannWhitney(y, x)
		if math.Abs(a.Less-b.Greater) > 1e-13 || math.Abs(a.Two-b.Two) > 1e-13 || a.U+b.U != float64(len(x)*len(y)) {
			t.Fatalf("%+v and mirrored %+v", a, b)
		}
		if c := CommonLanguage(x, y) + CommonLanguage(y, x); math.Abs(c-1) > 1e-13 {
			t.Fatalf("the effect sizes sum to %g", c)
		}
		s, m := HodgesLehmann(x, y, 0.9), HodgesLehmann(y, x, 0.9)
		if s.Low != -m.High || s.High != -m.Low || s.Estimate != -m.Estimate {
			t.Fatalf("%+v and mirrored %+v", s, m)
		}
	}
}

// TestHodgesLehmannIsTheSearchedRoot compares with a search for the root of z, which stops within 1e-4 of it.
func TestHodgesLehmannIsTheSearchedRoot(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for range 60 {
		x, y := normals(r, 4+r.IntN(30), 1, 1e9), normals(r, 4+r.IntN(30), 0, 1e9)
		exact, searched := HodgesLehmann(x, y, 0.95), searchShift(t, x, y, 0.95)
		if math.Abs(exact.Low-searched.Low) > 1e-4 || math.Abs(exact.High-searched.High) > 1e-4 {
			t.Fatalf("exactly %+v, searched %+v", exact, searched)
		}
	}
}

func TestHodgesLehmann(t *testing.T) {
	tests := map[string]struct {
		reason string
		x, y   []float64
		level  float64
		want   Shift
	}{
		"Four":      {"four and four are too few for 0.95: the range of differences", []float64{10, 20, 30, 40}, []float64{1, 2, 3, 4}, 0.95, Shift{22.5, 6, 39}},
		"Five":      {"an end is a difference", []float64{20, 22, 21, 25, 30}, []float64{1, 2.2, 1.1, 2.5, 3}, 0.95, Shift{20, 20 - 2.2, 30 - 2.2}},
		"Small":     {"no end is lost to a tolerance", []float64{2e-5, 2.2e-5, 2.1e-5, 2.5e-5, 3e-5}, []float64{1e-6, 2.2e-6, 1.1e-6, 2.5e-6, 3e-6}, 0.95, Shift{2e-5, 2e-5 - 2.2e-6, 3e-5 - 2.2e-6}},
		"Constants": {"constants differ by their difference", []float64{7, 7, 7}, []float64{2, 2}, 0.98, Shift{5, 5, 5}},
		"Pair":      {"a pair has one difference", []float64{3}, []float64{1}, 0.98, Shift{2, 2, 2}},
		"Empty":     {"nothing has no shift", nil, []float64{1}, 0.98, Shift{math.NaN(), math.NaN(), math.NaN()}},
		"Level":     {"a level is between 0 and 1", []float64{1}, []float64{1}, 1, Shift{math.NaN(), math.NaN(), math.NaN()}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := HodgesLehmann(tc.x, tc.y, tc.level); fmt.Sprintf("%.12g", got) != fmt.Sprintf("%.12g", tc.want) {
				t.Errorf("%s: got %+v, want %+v", tc.reason, got, tc.want)
			}
		})
	}
}

// TestHodgesLehmannCovers: the interval holds the true shift as often as its level says.
func TestHodgesLehmannCovers(t *testing.T) {
	const runs, level = 1000, 0.9
	r := rand.New(rand.NewPCG(15, 16))
	missed := 0
	for range runs {
		s := HodgesLehmann(normals(r, 25, 2, 1e9), normals(r, 20, 0, 1e9), level)
		if s.Low > 2 || s.High < 2 {
			missed++
		}
	}
	if most := runs*(1-level) + 3*math.Sqrt(runs*level*(1-level)); float64(missed) > most {
		t.Errorf("missed the shift %d times in %d, want at most %g", missed, runs, most)
	}
}

func FuzzRanks(f *testing.F) {
	f.Add(1.0, 2.0, 3.0, 4.0, 5.0)
	f.Add(0.0, 0.0, 0.0, 0.0, 0.0)
	f.Add(math.Inf(1), math.Inf(-1), 1e308, -1e308, 0.0)
	f.Add(math.NaN(), 1.0, 1.0, 1.0, 1.0)
	f.Fuzz(func(t *testing.T, a, b, c, d, e float64) {
		x, y := []float64{a, b}, []float64{c, d, e}
		test := MannWhitney(x, y)
		if odd := slices.ContainsFunc(append(x, y...), math.IsNaN); odd != math.IsNaN(test.Two) {
			t.Errorf("got %+v", test)
		}
		if test.Two < 0 || test.Two > 1 || test.Less < 0 || test.Less > 1 || test.Greater < 0 || test.Greater > 1 {
			t.Errorf("got %+v", test)
		}
		if s := HodgesLehmann(x, y, 0.98); s.Low > s.High {
			t.Errorf("the interval is %+v", s)
		}
		v := KayentaJudge(KayentaConfig{OutlierFactor: 3}, x, y)
		if w := KayentaJudge(KayentaConfig{OutlierFactor: 3}, x, y); v.Class != w.Class || v.Class == "" || v.Score < 0 || v.Score > 100 {
			t.Errorf("judged %+v, then %+v", v, w)
		}
	})
}

func BenchmarkExactRanks(b *testing.B) {
	r := rand.New(rand.NewPCG(17, 18))
	for name, grain := range map[string]float64{"NoTies": 1e9, "Ties": 10} {
		x, y := normals(r, 60, 0, grain), normals(r, 60, 0, grain)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				MannWhitney(x, y)
			}
		})
	}
}

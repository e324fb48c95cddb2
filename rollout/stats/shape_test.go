package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// draw spreads n requests over cells with the given shares.
func draw(r *rand.Rand, cells []float64, n int) []float64 {
	out, left := make([]float64, len(cells)), 1.0
	for j, p := range cells {
		x := 0.0
		if left > 1e-12 && n > 0 {
			x = bigBinomial(r, n, math.Min(1, p/left))
		}
		out[j] = x
		n, left = n-int(x), left-p
	}
	out[len(cells)-1] += float64(n)
	return out
}

// bigBinomial draws from a binomial law whose mean may be great.
func bigBinomial(r *rand.Rand, n int, p float64) float64 {
	if p >= 1 {
		return float64(n)
	}
	if p > 0.5 {
		return float64(n) - bigBinomial(r, n, 1-p)
	}
	x := 0.0
	for n > 0 {
		// Parts small enough for the draw by inversion.
		part := min(n, 400)
		x += binomial(r, part, p)
		n -= part
	}
	return x
}

// shapeRun returns after how many blocks of 15 s at 100 requests a second the process reached 1/alpha, and most+1 if never.
func shapeRun(r *rand.Rand, canary, stable []float64, most int, alpha float64) int {
	p := NewShape(len(canary))
	for i := range most {
		p.Add(draw(r, canary, 150), draw(r, stable, 1350))
		if p.LogE() >= math.Log(1/alpha) {
			return i + 1
		}
	}
	return most + 1
}

// TestShapeSimulated peeks after every block. A canary that is as fast as stable or faster, on the whole or in part, may
// not be found slower more often than alpha; one that is slower must be.
func TestShapeSimulated(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of runs on one goroutine")
	}
	const alpha = 0.05
	stable := lognormalCells(0.08, 0.7, 0)
	tests := map[string]struct {
		canary, stable   []float64
		runs, most       int
		minRate, maxRate float64
		maxSeconds       float64
	}{
		"equal":               {stable, stable, 300, 400, 0, alpha, 0},
		"faster":              {lognormalCells(0.06, 0.7, 0), stable, 200, 400, 0, 0, 0},
		"a little faster":     {lognormalCells(0.078, 0.7, 0), stable, 200, 400, 0, alpha, 0},
		"without stable tail": {stable, lognormalCells(0.08, 0.7, 0.01), 200, 400, 0, alpha, 0},
		"1 % at 2 s":          {lognormalCells(0.08, 0.7, 0.01), stable, 200, 400, 1, 1, 65},
		"3 % at 2 s":          {lognormalCells(0.08, 0.7, 0.03), stable, 200, 400, 1, 1, 40},
		"median +10 %":        {lognormalCells(0.088, 0.7, 0), stable, 100, 400, 1, 1, 130},
		"median +25 %":        {lognormalCells(0.1, 0.7, 0), stable, 100, 400, 1, 1, 45},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 61))
			found, total := 0, 0
			for range tc.runs {
				at := shapeRun(r, tc.canary, tc.stable, tc.most, alpha)
				found += count(at <= tc.most)
				total += at
			}
			rate, seconds := share(found, tc.runs), 15*float64(total)/float64(tc.runs)
			t.Logf("found in %.3f of runs, after %.0f s on average", rate, seconds)
			if rate < tc.minRate || rate > tc.maxRate {
				t.Errorf("found in %.3f of runs, want %g to %g", rate, tc.minRate, tc.maxRate)
			}
			if tc.maxSeconds > 0 && seconds > tc.maxSeconds {
				t.Errorf("found after %.0f s on average, want at most %g", seconds, tc.maxSeconds)
			}
		})
	}
}

// TestShapeMean computes the mean of a block's factor exactly, over all outcomes of a few requests, for random pasts and
// canaries that are not slower: it is never above one.
func TestShapeMean(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 62))
	for range 300 {
		past := NewShape(3)
		past.Canary, past.Stable = randomCells(r, 3, r.IntN(40)), randomCells(r, 3, r.IntN(40))
		stable := randomLaw(r, 3)
		canary := faster(r, stable)
		if got := meanFactor(past, canary, stable); got > 1+1e-12 {
			t.Fatalf("past %v and %v, canary %v, stable %v: the mean factor is %.15g", past.Canary, past.Stable, canary, stable, got)
		}
	}
}

func randomLaw(r *rand.Rand, cells int) []float64 {
	law, sum := make([]float64, cells), 0.0
	for j := range law {
		law[j] = r.ExpFloat64()
		sum += law[j]
	}
	for j := range law {
		law[j] /= sum
	}
	return law
}

// faster moves some of each cell's probability to the cell before.
func faster(r *rand.Rand, law []float64) []float64 {
	out := slices.Clone(law)
	for j := 1; j < len(out); j++ {
		move := out[j] * float64(r.IntN(3)) / 2 * r.Float64()
		out[j-1], out[j] = out[j-1]+move, out[j]-move
	}
	return out
}

// meanFactor is the mean of one block's factor with two canary requests and three stable ones.
func meanFactor(past *Shape, canary, stable []float64) float64 {
	sum := 0.0
	var visit func(i int, c, s []float64, p float64)
	visit = func(i int, c, s []float64, p float64) {
		if i == 5 {
			q := past.Clone()
			q.Add(c, s)
			// What is yet to start stands still; the rest has the factor's mean.
			sum += p * math.Exp(q.Log-past.Log)
			return
		}
		law, h := canary, c
		if i >= 2 {
			law, h = stable, s
		}
		for j, pj := range law {
			h[j]++
			visit(i+1, c, s, p*pj)
			h[j]--
		}
	}
	visit(0, make([]float64, 3), make([]float64, 3), 1)
	return sum
}

// TestShapeFindsLateFaults: two hours of health must neither raise an alarm nor hide what comes after them.
func TestShapeFindsLateFaults(t *testing.T) {
	const runs, healthy, most, alpha = 150, 480, 200, 0.05
	stable := lognormalCells(0.08, 0.7, 0)
	for name, tc := range map[string]struct {
		canary  []float64
		seconds float64
	}{
		"median +25 %": {lognormalCells(0.1, 0.7, 0), 130},
		"1 % at 2 s":   {lognormalCells(0.08, 0.7, 0.01), 110},
	} {
		r := rand.New(rand.NewPCG(1, 64))
		early, sum := 0, 0
		for range runs {
			p, law := NewShape(len(stable)), stable
			for i := range healthy + most {
				if i == healthy {
					law = tc.canary
				}
				p.Add(draw(r, law, 150), draw(r, stable, 1350))
				if p.LogE() >= math.Log(1/alpha) {
					early += count(i < healthy)
					sum += max(0, i+1-healthy)
					break
				}
				sum += most * count(i == healthy+most-1)
			}
		}
		seconds := 15 * float64(sum) / float64(runs-early)
		t.Logf("%s after two hours: %.0f s on average, %.3f too early", name, seconds, share(early, runs))
		if share(early, runs) > alpha || seconds > tc.seconds {
			t.Errorf("%s after two hours: %.0f s on average, want at most %g; %.3f of runs too early, want at most %g",
				name, seconds, tc.seconds, share(early, runs), alpha)
		}
	}
}

// TestShapeForgets: 20 blocks of much traffic are remembered, and 3000 canary requests of little.
func TestShapeForgets(t *testing.T) {
	for _, tc := range []struct{ each, want float64 }{{5, 2000}, {15, 3015}, {150, 3150}, {1000, 20000}} {
		p := NewShape(2)
		for range 400 {
			p.Add([]float64{tc.each, 0}, []float64{tc.each * 9, 0})
		}
		if got := total(p.Canary); math.Abs(got-tc.want) > 1 || !closeTo(total(p.Stable), 9*got, 1e-9) {
			t.Errorf("%g requests a block: %g and %g remembered after 400, want %g", tc.each, got, total(p.Stable), tc.want)
		}
	}
}

func TestShapeSound(t *testing.T) {
	tests := map[string]struct {
		reason string
		change func(p *Shape)
		want   bool
	}{
		"Good":     {"a process that counted blocks is sound", func(*Shape) {}, true},
		"Cells":    {"other cells are another gate's", func(p *Shape) { p.Canary = p.Canary[1:] }, false},
		"NaN":      {"not a number would stay for ever", func(p *Shape) { p.Stable[0] = math.NaN() }, false},
		"Negative": {"a negative count cannot be", func(p *Shape) { p.Canary[0] = -1 }, false},
		"Infinite": {"infinite evidence would stay for ever", func(p *Shape) { p.Log = math.Inf(1) }, false},
		"NoStart":  {"a process has a start", func(p *Shape) { p.Starts = 0 }, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := NewShape(3)
			p.Add([]float64{8, 5, 4}, []float64{95, 40, 2})
			tc.change(p)
			if got := p.Sound(3); got != tc.want {
				t.Errorf("%s: sound %t", tc.reason, got)
			}
		})
	}
	if (*Shape)(nil).Sound(3) {
		t.Error("nothing is sound")
	}
}

func TestPool(t *testing.T) {
	tests := map[string]struct {
		reason string
		a, b   []float64
		wantA  []float64
	}{
		"Rising":  {"what rises stays", []float64{0.2, 0.3, 0.5}, []float64{0.5, 0.3, 0.2}, []float64{0.2, 0.3, 0.5}},
		"Falling": {"what falls is one group, with the ratio of the whole", []float64{0.5, 0.3, 0.2}, []float64{0.2, 0.3, 0.5}, []float64{0.35, 0.3, 0.35}},
		"Dip":     {"only the cells that fall are pooled", []float64{0.1, 0.3, 0.2, 0.4}, []float64{0.4, 0.2, 0.3, 0.1}, []float64{0.1, 0.25, 0.25, 0.4}},
		"One":     {"a single cell is itself", []float64{1}, []float64{1}, []float64{1}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a, b := slices.Clone(tc.a), slices.Clone(tc.b)
			pool(a, b, nil)
			for j := range a {
				if math.Abs(a[j]-tc.wantA[j]) > 1e-12 || math.Abs(a[j]+b[j]-tc.a[j]-tc.b[j]) > 1e-12 {
					t.Errorf("%s: a %v and b %v, want a %v and the same sums", tc.reason, a, b, tc.wantA)
				}
			}
		})
	}
}

func FuzzPool(f *testing.F) {
	f.Add(uint64(1), 5)
	f.Fuzz(func(t *testing.T, seed uint64, cells int) {
		if cells < 1 || cells > 200 {
			t.Skip("not a histogram")
		}
		r := rand.New(rand.NewPCG(seed, 1))
		a, b := randomLaw(r, cells), randomLaw(r, cells)
		pool(a, b, nil)
		for j := 1; j < cells; j++ {
			if a[j]*b[j-1] < a[j-1]*b[j]*(1-1e-9) {
				t.Fatalf("the ratio falls from %g to %g at cell %d", a[j-1]/b[j-1], a[j]/b[j], j)
			}
		}
		if !closeTo(total(a), 1, 1e-9) || !closeTo(total(b), 1, 1e-9) {
			t.Fatalf("pooled distributions sum to %g and %g", total(a), total(b))
		}
	})
}

func TestShapeOfWhatCannotBe(t *testing.T) {
	good := []float64{10, 5, 1}
	tests := map[string]struct {
		reason         string
		canary, stable []float64
	}{
		"NoCanary": {"an arm without requests is no comparison", []float64{0, 0, 0}, good},
		"NoStable": {"an arm without requests is no comparison", good, []float64{0, 0, 0}},
		"Cells":    {"other cells do not compare", []float64{1, 2}, good},
		"More":     {"other cells do not compare", good, []float64{1, 2, 3, 4}},
		"Nil":      {"nothing is no histogram", nil, nil},
		"NaN":      {"not a number is no count", []float64{1, math.NaN(), 1}, good},
		"Negative": {"a negative count cannot be", good, []float64{5, -1, 1}},
		"Infinite": {"infinity is no count", []float64{1, math.Inf(1), 1}, good},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := NewShape(3)
			p.Add(good, []float64{90, 40, 2})
			p.Add([]float64{8, 5, 4}, []float64{95, 40, 2})
			before := p.Clone()
			p.Add(tc.canary, tc.stable)
			if p.Log != before.Log || !slices.Equal(p.Canary, before.Canary) || !slices.Equal(p.Stable, before.Stable) {
				t.Errorf("%s, yet it changed the evidence", tc.reason)
			}
		})
	}
}

// TestShapeWithoutPast: the first block teaches, and says nothing.
func TestShapeWithoutPast(t *testing.T) {
	p := NewShape(3)
	p.Add([]float64{0, 0, 100}, []float64{900, 0, 0})
	if math.Abs(p.LogE()) > 1e-12 {
		t.Errorf("the first block: log e %g, want 0", p.LogE())
	}
	p.Add([]float64{0, 0, 100}, []float64{900, 0, 0})
	if p.LogE() < 100 {
		t.Errorf("two blocks with nothing in common: log e %g", p.LogE())
	}
}

func BenchmarkShapeAdd(b *testing.B) {
	p := NewShape(12)
	r := rand.New(rand.NewPCG(1, 63))
	c, s := draw(r, lognormalCells(0.08, 0.7, 0.01), 150), draw(r, lognormalCells(0.08, 0.7, 0), 1350)
	b.ReportAllocs()
	for b.Loop() {
		p.Add(c, s)
	}
}

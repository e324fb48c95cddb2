package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

type block struct{ xc, nc, xs, ns float64 }

// random returns blocks with the given canary share.
func randomBlocks(r *rand.Rand, count int) []block {
	out := make([]block, count)
	for i := range out {
		nc, ns := float64(1+r.IntN(400)), float64(1+r.IntN(4000))
		out[i] = block{math.Floor(r.Float64() * nc * 0.1), nc, math.Floor(r.Float64() * ns * 0.1), ns}
	}
	return out
}

func (b block) swapped() block { return block{b.xs, b.ns, b.xc, b.nc} }

func TestMergingEqualSplitsChangesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		one, merged := NewHarm(), NewHarm()
		oneCurve, mergedCurve := NewCurve(), NewCurve()
		nc, ns := float64(10+r.IntN(200)), float64(10+r.IntN(2000))
		var sum block
		for range 5 {
			b := block{float64(r.IntN(10)), nc, float64(r.IntN(10)), ns}
			one.Add(b.xc, b.nc, b.xs, b.ns)
			oneCurve.Add(b.xc, b.nc, b.xs, b.ns)
			sum = block{sum.xc + b.xc, sum.nc + b.nc, sum.xs + b.xs, sum.ns + b.ns}
		}
		merged.Add(sum.xc, sum.nc, sum.xs, sum.ns)
		mergedCurve.Add(sum.xc, sum.nc, sum.xs, sum.ns)
		if math.Abs(one.LogE()-merged.LogE()) > 1e-9 {
			t.Fatalf("five blocks: %g, merged: %g", one.LogE(), merged.LogE())
		}
		for j := range curveSize {
			if math.Abs(oneCurve.LogLik[j]-mergedCurve.LogLik[j]) > 1e-9 {
				t.Fatalf("curve at %d: five blocks %g, merged %g", j, oneCurve.LogLik[j], mergedCurve.LogLik[j])
			}
		}
	}
}

func TestSwappingArmsInvertsRatio(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	for range 50 {
		forth, back := NewCurve(), NewCurve()
		for _, b := range randomBlocks(r, 20) {
			s := b.swapped()
			forth.Add(b.xc, b.nc, b.xs, b.ns)
			back.Add(s.xc, s.nc, s.xs, s.ns)
		}
		a, ok1 := forth.Estimate()
		b, ok2 := back.Estimate()
		if !ok1 || !ok2 || math.Abs(math.Log(a*b)) > 1e-6 {
			t.Fatalf("estimates %g (%t) and %g (%t), want inverse", a, ok1, b, ok2)
		}
		lowA, highA := forth.Interval(0.05)
		lowB, highB := back.Interval(0.05)
		if math.Abs(math.Log(lowA*highB)) > 1e-6 || math.Abs(math.Log(highA*lowB)) > 1e-6 {
			t.Fatalf("intervals [%g, %g] and [%g, %g], want inverse", lowA, highA, lowB, highB)
		}
	}
}

func TestNeutralBlocks(t *testing.T) {
	tests := map[string]struct {
		reason string
		b      block
	}{
		"NoEvents":     {"no events say nothing of the ratio", block{0, 100, 0, 900}},
		"NoCanary":     {"an arm without requests is no comparison", block{0, 0, 3, 900}},
		"NoStable":     {"an arm without requests is no comparison", block{3, 100, 0, 0}},
		"MoreEvents":   {"more events than requests cannot be", block{101, 100, 3, 900}},
		"NaN":          {"not a number is no evidence", block{math.NaN(), 100, 3, 900}},
		"NaNRequests":  {"not a number is no evidence", block{1, math.NaN(), 3, 900}},
		"Infinite":     {"infinity is no count", block{1, math.Inf(1), 3, 900}},
		"Negative":     {"a negative count cannot be", block{-1, 100, 3, 900}},
		"NegativeMany": {"a negative count cannot be", block{1, 100, 3, -900}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p, c := NewHarm(), NewCurve()
			p.Add(3, 100, 9, 900)
			c.Add(3, 100, 9, 900)
			before, curve := slices.Clone(p.Log), slices.Clone(c.LogLik)
			p.Add(tc.b.xc, tc.b.nc, tc.b.xs, tc.b.ns)
			c.Add(tc.b.xc, tc.b.nc, tc.b.xs, tc.b.ns)
			if !slices.Equal(before, p.Log) || !slices.Equal(curve, c.LogLik) {
				t.Errorf("%s, yet %+v changed the evidence", tc.reason, tc.b)
			}
		})
	}
	q := NewRateBelow(0.01)
	for _, x := range [][2]float64{{2, 1}, {0, 0}, {math.NaN(), 5}, {1, math.NaN()}, {-1, 5}, {1, math.Inf(1)}} {
		q.Add(x[0], x[1])
	}
	if got := q.LogE(); math.Abs(got) > 1e-12 {
		t.Errorf("RateBelow after impossible counts: log e %g, want 0", got)
	}
}

func TestReplayIsDeterministic(t *testing.T) {
	run := func() []float64 {
		r := rand.New(rand.NewPCG(3, 1))
		harm, safe, below, curve := NewHarm(), NewSafety(1.5), NewRateBelow(0.01), NewCurve()
		for _, b := range randomBlocks(r, 200) {
			harm.Add(b.xc, b.nc, b.xs, b.ns)
			safe.Add(b.xc, b.nc, b.xs, b.ns)
			curve.Add(b.xc, b.nc, b.xs, b.ns)
			below.Add(b.xc, b.nc)
		}
		return slices.Concat(harm.Log, safe.LogLR, below.LogLR, curve.LogLik)
	}
	if !slices.Equal(run(), run()) {
		t.Error("the same blocks gave other numbers")
	}
}

// TestEvidenceFollowsCounts: one more error of the canary never lessens harm nor adds to safety.
func TestEvidenceFollowsCounts(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	for _, b := range randomBlocks(r, 500) {
		b.xc = math.Min(b.xc, b.nc-1)
		logs := func(xc float64) (harm, safe, below float64) {
			h, s, q := NewHarm(), NewSafety(1.5), NewRateBelow(0.02)
			h.Add(xc, b.nc, b.xs, b.ns)
			s.Add(xc, b.nc, b.xs, b.ns)
			q.Add(xc, b.nc)
			return h.LogE(), s.LogE(), q.LogE()
		}
		h0, s0, q0 := logs(b.xc)
		h1, s1, q1 := logs(b.xc + 1)
		const slack = 1e-9
		if h1 < h0-slack || s1 > s0+slack || q1 > q0+slack {
			t.Fatalf("%+v: one more error moved harm %g to %g, safety %g to %g, below %g to %g", b, h0, h1, s0, s1, q0, q1)
		}
	}
}

func TestCurveWithoutEstimate(t *testing.T) {
	tests := map[string]struct {
		reason string
		blocks []block
	}{
		"Empty":      {"no block", nil},
		"OnlyCanary": {"events in one arm only have no greatest likelihood", []block{{5, 100, 0, 100}}},
		"OnlyStable": {"events in one arm only have no greatest likelihood", []block{{0, 100, 5, 100}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := NewCurve()
			for _, b := range tc.blocks {
				c.Add(b.xc, b.nc, b.xs, b.ns)
			}
			if r, ok := c.Estimate(); ok {
				t.Errorf("%s, yet the estimate is %g", tc.reason, r)
			}
			if low, high := c.Interval(0.05); low > high {
				t.Errorf("interval [%g, %g]", low, high)
			}
		})
	}
}

func TestCurveEstimate(t *testing.T) {
	c := NewCurve()
	c.Add(40, 1000, 180, 9000) // rates 4 % and 2 %
	if r, ok := c.Estimate(); !ok || math.Abs(r-2) > 0.01 {
		t.Errorf("estimate %g, %t, want 2", r, ok)
	}
	low, high := c.Interval(0.05)
	if !(low > 1 && low < 2 && high > 2 && high < 4) {
		t.Errorf("interval [%g, %g], want it about 2", low, high)
	}
}

func TestLogMean(t *testing.T) {
	if got := LogMean(math.Log(3), math.Log(1), math.Inf(-1), math.Log(4)); math.Abs(got-math.Log(2)) > 1e-12 {
		t.Errorf("mean of 3, 1, 0 and 4: e^%g, want 2", got)
	}
	if got := LogMean(2000, math.Inf(-1)); math.Abs(got-(2000-math.Ln2)) > 1e-9 {
		t.Errorf("mean of e^2000 and 0: e^%g, want e^(2000 - ln 2)", got)
	}
	if got := LogMean(math.Inf(-1), math.Inf(-1)); !math.IsInf(got, -1) {
		t.Errorf("mean of zeros: e^%g, want 0", got)
	}
}

func BenchmarkRateRatioAdd(b *testing.B) {
	p := NewHarm()
	for b.Loop() {
		p.Add(3, 150, 13, 1350)
	}
}

func BenchmarkCurveInterval(b *testing.B) {
	c := NewCurve()
	c.Add(40, 1000, 180, 9000)
	for b.Loop() {
		c.Interval(0.01)
	}
}

package stats

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTwoRatesByHand follows pairs of one request each. The first pair teaches: th_c = 1.18/1.36, th_s = 0.18/1.36, th_0 = 1/2.
func TestTwoRatesByHand(t *testing.T) {
	two, worse, better := NewTwoRates(Prior{}, Prior{}, false), NewTwoRates(Prior{}, Prior{}, true), NewTwoRates(Prior{}, Prior{}, true)
	for range 2 {
		two.Add(1, 1, 0, 1)
		worse.Add(1, 1, 0, 1)
		better.Add(0, 1, 1, 1)
	}
	want := 2 * math.Log(1.18/1.36/0.5)
	if math.Abs(two.LogE()-want) > 1e-12 || math.Abs(worse.LogE()-want) > 1e-12 || better.LogE() != 0 {
		t.Errorf("log e two-sided %g, one-sided %g, the other way round %g, want %g twice and 0", two.LogE(), worse.LogE(), better.LogE(), want)
	}
}

// TestTwoRatesSimulated peeks after every block: of equal rates, of a canary that is better, and of one that is worse.
func TestTwoRatesSimulated(t *testing.T) {
	const runs, blocks, alpha = 400, 300, 0.05
	for _, tc := range []struct {
		name     string
		pc, ps   float64
		oneSided bool
		min, max float64
	}{
		{"equal, two-sided", 0.01, 0.01, false, 0, alpha},
		{"equal, one-sided", 0.01, 0.01, true, 0, alpha},
		{"better, one-sided", 0.005, 0.01, true, 0, alpha},
		{"better, two-sided", 0.005, 0.01, false, 0.8, 1},
		{"worse, one-sided", 0.02, 0.01, true, 0.9, 1},
	} {
		r := rand.New(rand.NewPCG(1, 51))
		alarms := 0
		for range runs {
			p, alarm := NewTwoRates(Prior{0.5, 25}, Prior{0.5, 25}, tc.oneSided), false
			for i := 0; i < blocks && !alarm; i++ {
				p.Add(binomial(r, 150, tc.pc), 150, binomial(r, 1350, tc.ps), 1350)
				alarm = p.LogE() >= math.Log(1/alpha)
			}
			alarms += count(alarm)
		}
		t.Logf("%s: rejected in %.3f of runs", tc.name, share(alarms, runs))
		if got := share(alarms, runs); got < tc.min || got > tc.max {
			t.Errorf("%s: rejected in %.3f of runs, want %g to %g", tc.name, got, tc.min, tc.max)
		}
	}
}

// impossible are the counts of a block that cannot be, or that compare nothing.
var impossible = []block{
	{0, 0, 3, 900},
	{3, 100, 0, 0},
	{101, 100, 3, 900},
	{math.NaN(), 100, 3, 900},
	{1, math.NaN(), 3, 900},
	{1, math.Inf(1), 3, 900},
	{-1, 100, 3, 900},
	{1, 100, 3, -900},
}

func TestTwoRatesOfWhatCannotBe(t *testing.T) {
	p := NewTwoRates(Prior{math.NaN(), 1}, Prior{0, -1}, true)
	p.Add(3, 100, 9, 900)
	before := *p
	for _, b := range impossible {
		p.Add(b.xc, b.nc, b.xs, b.ns)
	}
	if *p != before || math.IsNaN(p.LogE()) {
		t.Errorf("impossible blocks turned %+v into %+v", before, *p)
	}
}

// TestResume: a process that is written, read and cloned goes on bit by bit as if nothing had been.
func TestResume(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 52))
	rates, shape, bet := NewTwoRates(Prior{}, Prior{}, true), NewShape(5), NewBet(0.2, -1, 1)
	through := func(in, out any) {
		data, err := json.Marshal(in)
		if err == nil {
			err = json.Unmarshal(data, out)
		}
		if err != nil {
			t.Fatalf("writing and reading %+v: %v", in, err)
		}
	}
	rates2, shape2, bet2 := rates.Clone(), shape.Clone(), bet.Clone()
	for range 50 {
		b, x := randomBlocks(r, 1)[0], r.NormFloat64()
		c, s := randomCells(r, 5, 100), randomCells(r, 5, 900)
		rates.Add(b.xc, b.nc, b.xs, b.ns)
		shape.Add(c, s)
		bet.Add(x)
		var a TwoRates
		var h Shape
		var g Bet
		through(rates2, &a)
		through(shape2, &h)
		through(bet2, &g)
		rates2, shape2, bet2 = a.Clone(), h.Clone(), g.Clone()
		rates2.Add(b.xc, b.nc, b.xs, b.ns)
		shape2.Add(c, s)
		bet2.Add(x)
	}
	if *rates != *rates2 || *bet != *bet2 || shape.Log != shape2.Log || !slices.Equal(shape.Canary, shape2.Canary) {
		t.Error("a process that was written and read went another way")
	}
	before := rates2.Log
	rates2.Clone().Add(50, 100, 0, 900)
	if rates2.Log != before {
		t.Error("a clone changed what it was made of")
	}
}

// randomCells spreads a number of requests over cells.
func randomCells(r *rand.Rand, cells, n int) []float64 {
	out := make([]float64, cells)
	for range n {
		out[r.IntN(cells)]++
	}
	return out
}

func BenchmarkTwoRatesAdd(b *testing.B) {
	p := NewTwoRates(Prior{}, Prior{}, true)
	b.ReportAllocs()
	for b.Loop() {
		p.Add(3, 150, 13, 1350)
	}
}

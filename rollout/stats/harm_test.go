package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestRestartsAreAMixture: the sums kept are those of every start and ratio told apart.
func TestRestartsAreAMixture(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 1))
	h := NewHarm()
	grid := make([]*RateRatio, len(harmGrid)) // one alternative each, over the blocks since the first start
	for k, ratio := range harmGrid {
		grid[k] = &RateRatio{Null: 1, Grid: []float64{ratio}, LogLR: []float64{0}}
	}
	starts := [][]float64{make([]float64, len(grid))}
	for i, b := range randomBlocks(r, 130) {
		if i > 0 && i%restartEvery == 0 {
			now := make([]float64, len(grid))
			for k, p := range grid {
				now[k] = p.LogE()
			}
			starts = append(starts, now)
		}
		h.Add(b.xc, b.nc, b.xs, b.ns)
		want := math.Log(leftAfter(len(starts)))
		for k, p := range grid {
			p.Add(b.xc, b.nc, b.xs, b.ns)
			for j, at := range starts {
				want = logAdd(want, p.LogE()-at[k]+harmLogPrior[k]+math.Log(leftAfter(j)-leftAfter(j+1)))
			}
		}
		if got := h.LogE(); math.Abs(got-want) > 1e-9*math.Max(1, math.Abs(want)) {
			t.Fatalf("block %d: log e %.12g, want %.12g of %d starts", i, got, want, len(starts))
		}
	}
	if got := NewHarm().LogE(); math.Abs(got) > 1e-12 {
		t.Errorf("the weights sum to e^%g, want 1", got)
	}
}

// TestLateFault: two hours of health do not hide a fault for long. Without restarts it takes more than twice as long.
func TestLateFault(t *testing.T) {
	const runs, healthy, most, alpha = 100, 480, 400, 0.05
	r := rand.New(rand.NewPCG(1, 18))
	var restarted, plain float64
	for range runs {
		h, p := NewHarm(), NewRateRatio(1, 1.2, 5, len(harmGrid))
		foundH, foundP := 0, 0
		for i := range healthy + most {
			pc := 0.01
			if i >= healthy {
				pc = 0.02
			}
			xc, xs := binomial(r, 150, pc), binomial(r, 1350, 0.01)
			h.Add(xc, 150, xs, 1350)
			p.Add(xc, 150, xs, 1350)
			if i >= healthy && foundH == 0 && h.LogE() >= math.Log(1/alpha) {
				foundH = i + 1 - healthy
			}
			if i >= healthy && foundP == 0 && p.LogE() >= math.Log(1/alpha) {
				foundP = i + 1 - healthy
			}
		}
		if foundH == 0 {
			foundH = most
		}
		if foundP == 0 {
			foundP = most
		}
		restarted, plain = restarted+float64(foundH)*15/runs, plain+float64(foundP)*15/runs
	}
	t.Logf("1 %% to 2 %% at a weight of 10 %% after two hours: found after %.0f s, without restarts after %.0f s", restarted, plain)
	if restarted > 400 || plain < 2*restarted {
		t.Errorf("found after %.0f s (without restarts %.0f s), want at most 400 s and half of the other", restarted, plain)
	}
}

func BenchmarkHarmAdd(b *testing.B) {
	h := NewHarm()
	for b.Loop() {
		h.Add(3, 150, 13, 1350)
	}
}

package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The simulations have fixed seeds, so they pass or fail for good. Each bar is the promise itself, without a tolerance:
// the processes are conservative enough for it.

// binomial draws by inversion; the mean is small here.
func binomial(r *rand.Rand, n int, p float64) float64 {
	if p <= 0 || n == 0 {
		return 0
	}
	odds, u := p/(1-p), r.Float64()
	f := math.Pow(1-p, float64(n))
	for x := 0; ; x++ {
		if u < f || x == n {
			return float64(x)
		}
		u -= f
		f *= odds * float64(n-x) / float64(x+1)
	}
}

// regime is the traffic of one block: 100 requests a second for 15 s at weights 1, 5, 25 and 50 %, an hour each, while
// the base rate drifts from 0.4 to 1.6 %.
const (
	simBlocks   = 960 // four hours
	simRequests = 1500
)

func regime(i int, ratio float64) (nc, ns int, pc, ps float64) {
	w := [...]float64{0.01, 0.05, 0.25, 0.50}[i*4/simBlocks]
	ps = 0.004 + 0.012*float64(i)/simBlocks
	nc = int(w * simRequests)
	return nc, simRequests - nc, ratio * ps, ps
}

// TestNoFalseAlarms peeks after every block of healthy runs, through a ramp and a drifting base rate. A process on pooled
// totals, which looks much the same, must fail: it takes the drift for a difference (Simpson's paradox).
func TestNoFalseAlarms(t *testing.T) {
	const runs, alpha = 600, 0.05
	bound := math.Log(1 / alpha)
	alarms, pooledAlarms := 0, 0
	r := rand.New(rand.NewPCG(1, 11))
	for range runs {
		p, alarm, pooledAlarm := NewHarm(), false, false
		var sum block
		for i := range simBlocks {
			nc, ns, pc, ps := regime(i, 1)
			b := block{binomial(r, nc, pc), float64(nc), binomial(r, ns, ps), float64(ns)}
			p.Add(b.xc, b.nc, b.xs, b.ns)
			alarm = alarm || p.LogE() >= bound
			sum = block{sum.xc + b.xc, sum.nc + b.nc, sum.xs + b.xs, sum.ns + b.ns}
			if i%20 == 19 && !pooledAlarm {
				pooled := NewHarm()
				pooled.Add(sum.xc, sum.nc, sum.xs, sum.ns)
				pooledAlarm = pooled.LogE() >= bound
			}
		}
		alarms += count(alarm)
		pooledAlarms += count(pooledAlarm)
	}
	t.Logf("false alarms in %d runs: %d (%.3f); pooled: %d (%.3f)", runs, alarms, share(alarms, runs), pooledAlarms, share(pooledAlarms, runs))
	if share(alarms, runs) > alpha {
		t.Errorf("false alarms: %.3f of runs, want at most %g", share(alarms, runs), alpha)
	}
	if share(pooledAlarms, runs) < 0.5 {
		t.Errorf("pooled counts gave %.3f false alarms: this test could not tell", share(pooledAlarms, runs))
	}
}

// TestNoFalseSafety peeks after every block of runs whose canary is exactly as bad as the margin; rates up to 2.4 %, and,
// for latency, up to 60 %.
func TestNoFalseSafety(t *testing.T) {
	const runs, beta, margin = 300, 0.05, 1.5
	bound := math.Log(1 / beta)
	rare, common, below := 0, 0, 0
	r := rand.New(rand.NewPCG(1, 12))
	for range runs {
		p, q, tolerance := NewSafety(margin), NewSafety(margin), NewRateBelow(0.01)
		var safe, safeCommon, safeBelow bool
		for i := range 240 {
			nc, ns, pc, ps := regime(i*4, margin)
			p.Add(binomial(r, nc, pc), float64(nc), binomial(r, ns, ps), float64(ns))
			q.Add(binomial(r, 40, 0.6), 40, binomial(r, 60, 0.4), 60)
			// The canary's own rate drifts, and is never below the tolerance.
			tolerance.Add(binomial(r, nc, math.Max(ps, 0.01)), float64(nc))
			safe = safe || p.LogE() >= bound
			safeCommon = safeCommon || q.LogE() >= bound
			safeBelow = safeBelow || tolerance.LogE() >= bound
		}
		rare, common, below = rare+count(safe), common+count(safeCommon), below+count(safeBelow)
	}
	t.Logf("false safety in %d runs at the margin: %.3f at rare events, %.3f at common ones; below the tolerance: %.3f",
		runs, share(rare, runs), share(common, runs), share(below, runs))
	for what, n := range map[string]int{"rare events": rare, "common events": common, "tolerance": below} {
		if share(n, runs) > beta {
			t.Errorf("%s: safe in %.3f of runs that are not, want at most %g", what, share(n, runs), beta)
		}
	}
}

// TestDetects keeps the bars above honest: what never speaks has no false alarms either. The limit is ln(1/alpha)/I.
func TestDetects(t *testing.T) {
	const runs, alpha, ps, pc, w, most = 200, 0.05, 0.01, 0.02, 0.1, 400
	total := 0.0
	r := rand.New(rand.NewPCG(1, 13))
	for range runs {
		p, at := NewHarm(), most
		for i := range most {
			p.Add(binomial(r, 150, pc), 150, binomial(r, 1350, ps), 1350)
			if p.LogE() >= math.Log(1/alpha) {
				at = i + 1
				break
			}
		}
		total += float64(at) * 1500
	}
	kl := func(a, b float64) float64 { return a*math.Log(a/b) + (1-a)*math.Log((1-a)/(1-b)) }
	mean := w*pc + (1-w)*ps
	limit := math.Log(1/alpha) / (w*kl(pc, mean) + (1-w)*kl(ps, mean))
	t.Logf("1 %% to 2 %% at 10 %%: %.0f requests on average, limit %.0f, efficiency %.2f", total/runs, limit, limit*runs/total)
	if limit*runs/total < 0.5 {
		t.Errorf("efficiency %.2f of the information limit, want at least 0.5", limit*runs/total)
	}
}

// world is a hundred buckets of sticky units, each with an effect of its own that never changes.
type world struct {
	effects [100]float64
	canary  int // buckets of the canary; they come first, the effects being in random order
	ratio   float64
	noise   float64 // relative, of one bucket in one block
	sums    [2][100]Cluster
}

// skewed draws effects of mean 1 and the given relative standard deviation from a lognormal distribution.
func skewed(r *rand.Rand, canary int, sd, ratio, noise float64) *world {
	w := &world{canary: canary, ratio: ratio, noise: noise}
	s := math.Sqrt(math.Log1p(sd * sd))
	for b := range w.effects {
		w.effects[b] = math.Exp(s*r.NormFloat64() - s*s/2)
	}
	return w
}

// step lets every bucket observe for one block. The level drifts by a third, for both arms alike.
func (w *world) step(r *rand.Rand, i int) {
	level := 1 + math.Sin(float64(i)/40)/3
	for b := range w.effects {
		n := float64(10 + r.IntN(30))
		mean, arm := level*w.effects[b], 1
		if b < w.canary {
			mean, arm = mean*w.ratio, 0
		}
		c := &w.sums[arm][b]
		c.Count += n
		c.Sum += n * math.Max(0, mean*(1+w.noise*r.NormFloat64()))
	}
}

func (w *world) compare() (Ratio, bool) {
	return CompareMeans(MeanOf(w.sums[0][:]), MeanOf(w.sums[1][:]))
}

// TestMeansOfStickyUnits peeks after every block from the twentieth on, with effects that never average out: the number
// of buckets, not that of observations, is the sample.
func TestMeansOfStickyUnits(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of runs on one goroutine")
	}
	const runs, blocks, alpha, beta, margin = 400, 120, 0.05, 0.05, 1.10
	for _, canary := range []int{5, 25, 50} {
		for _, sd := range []float64{0, 0.4} {
			alarms, safe, safeWhenEqual := 0, 0, 0
			for run := range runs {
				equal := skewed(rand.New(rand.NewPCG(uint64(run), 14)), canary, sd, 1, 0.3)
				worse := skewed(rand.New(rand.NewPCG(uint64(run), 15)), canary, sd, margin, 0.3)
				r := rand.New(rand.NewPCG(uint64(run), 16))
				var alarm, wrong, right bool
				for i := range blocks {
					equal.step(r, i)
					worse.step(r, i)
					if i < 20 {
						continue
					}
					a, ok1 := equal.compare()
					b, ok2 := worse.compare()
					if !ok1 || !ok2 {
						t.Fatal("no comparison")
					}
					alarm = alarm || a.LogEAbove(1) >= math.Log(1/alpha)
					right = right || a.LogEBelow(margin) >= math.Log(1/beta)
					wrong = wrong || b.LogEBelow(margin) >= math.Log(1/beta)
				}
				alarms, safe, safeWhenEqual = alarms+count(alarm), safe+count(wrong), safeWhenEqual+count(right)
			}
			t.Logf("%2d buckets, sd %.1f: false alarm %.4f, false safety %.4f, safe when equal %.3f",
				canary, sd, share(alarms, runs), share(safe, runs), share(safeWhenEqual, runs))
			if share(alarms, runs) > alpha || share(safe, runs) > beta {
				t.Errorf("%d buckets, sd %g: false alarm %.3f, false safety %.3f, want at most %g and %g",
					canary, sd, share(alarms, runs), share(safe, runs), alpha, beta)
			}
			if sd == 0 && share(safeWhenEqual, runs) < 0.85 {
				t.Errorf("%d equal buckets: safe in %.3f of runs, want at least 0.85", canary, share(safeWhenEqual, runs))
			}
		}
	}
}

// TestMeansOfFewBuckets looks on for long with five canary buckets that do not differ, so that information grows with
// every block and the five come to lie close together now and then.
func TestMeansOfFewBuckets(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of runs on one goroutine")
	}
	const runs, blocks, level, margin = 500, 300, 0.01, 1.05
	alarms, safe := 0, 0
	r := rand.New(rand.NewPCG(1, 17))
	for range runs {
		equal, worse := skewed(r, 5, 0, 1, 0.3), skewed(r, 5, 0, margin, 0.3)
		var alarm, wrong bool
		for i := range blocks {
			equal.step(r, i)
			worse.step(r, i)
			if i < 20 || i%3 != 0 {
				continue
			}
			a, _ := equal.compare()
			b, _ := worse.compare()
			alarm = alarm || a.LogEAbove(1) >= math.Log(1/level)
			wrong = wrong || b.LogEBelow(margin) >= math.Log(1/level)
		}
		alarms, safe = alarms+count(alarm), safe+count(wrong)
	}
	t.Logf("false alarm %.4f, false safety %.4f", share(alarms, runs), share(safe, runs))
	if share(alarms, runs) > level || share(safe, runs) > level {
		t.Errorf("false alarm %.3f, false safety %.3f, want at most %g", share(alarms, runs), share(safe, runs), level)
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func share(n, of int) float64 { return float64(n) / float64(of) }

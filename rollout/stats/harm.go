package stats

import "math"

// Harm is the e-process for "the canary's event rate is above stable's", with restarts, so that a fault that comes after
// hours of health is found soon. Its null is ratio <= 1.
//
//	E_t = sum_j g_j E_t^(j),   E_t^(j) = product over the blocks since start j of the mixture's likelihood ratio, 1 before
//
// A fault that begins at any time is as new to the start before it, and costs ln(1/g_j) more than one that was there from the
// beginning. The weights g_j sum to 1 whatever comes, so E_t is an e-process of the same null as RateRatio's (statistics of
// late faults: Shin, Ramdas and Rinaldo 2022, "E-detectors"). The mixture is over 24 ratios: 92 %
// of its weight lies on 16 from 1.25 to 5, where faults are that are to be found soon; thin tails of 4 each below, down to
// 1.02, and above, up to 20, cost a twelfth of a nat and find what is small in much traffic, and what is great. Guarantee and assumptions are those
// of RateRatio. State: the grid's 24 sums over all starts, however many there are, because
//
//	sum_j g_j exp(L_k(t) - L_k(t_j))  grows by the factor of a block, and by g_j at a start.
type Harm struct {
	// Log holds, for each ratio of the grid, ln of its weight times the sum over starts of g_j times the product of factors since.
	Log []float64
	// Starts is how many there were, Age how many blocks were counted since the last.
	Starts, Age int
}

// restartEvery is the number of blocks from one start to the next: 5 minutes of blocks of 15 s.
const restartEvery = 20

// harmGrid are the ratios of the mixture, harmLogGrid their logarithms, harmLogPrior the logarithms of their weights.
var harmGrid, harmLogGrid, harmLogPrior = func() (grid, logs, prior []float64) {
	for _, part := range []struct {
		lo, hi, weight float64
		points         int
	}{{1.02, 1.25, 0.04, 4}, {1.25, 5, 0.92, 16}, {5, 20, 0.04, 4}} {
		for _, r := range logGrid(part.lo, part.hi, part.points) {
			grid, logs = append(grid, r), append(logs, math.Log(r))
			prior = append(prior, math.Log(part.weight/float64(part.points)))
		}
	}
	return grid, logs, prior
}()

// NewHarm returns the process with its first start.
func NewHarm() *Harm {
	h := &Harm{Log: make([]float64, len(harmGrid))}
	for k := range h.Log {
		h.Log[k] = math.Inf(-1)
	}
	h.Restart()
	return h
}

// Restart begins a further start, as NewHarm and every 20th block do. It must not depend on the data.
func (h *Harm) Restart() {
	h.Starts++
	h.Age = 0
	g := math.Log(leftAfter(h.Starts-1) - leftAfter(h.Starts))
	for k := range h.Log {
		h.Log[k] = logAdd(h.Log[k], g+harmLogPrior[k])
	}
}

// leftAfter returns the weight of the starts that come after the j-th: 1, then 0.15 j^(-1/4). The first start has 0.85,
// because most faults are there from the beginning.
func leftAfter(j int) float64 {
	if j == 0 {
		return 1
	}
	return 0.15 / math.Sqrt(math.Sqrt(float64(j)))
}

// Add counts one block, as RateRatio.Add does.
func (h *Harm) Add(xc, nc, xs, ns float64) {
	if !countable(xc, nc) || !countable(xs, ns) {
		return
	}
	if h.Age >= restartEvery {
		h.Restart()
	}
	h.Age++
	if xc+xs <= 0 {
		return
	}
	total := nc + ns
	for k, r := range harmGrid {
		// q(r)/q(1) = r total/(nc r + ns), and the same without r for stable.
		h.Log[k] += xc*harmLogGrid[k] + (xc+xs)*math.Log(total/(nc*r+ns))
	}
}

// LogE returns the natural logarithm of the e-value. Starts that are still to come stand at 1.
func (h *Harm) LogE() float64 {
	return logAdd(logSumExp(h.Log), math.Log(leftAfter(h.Starts)))
}

// Clone returns a copy that shares no memory.
func (h *Harm) Clone() *Harm {
	c := *h
	c.Log = append([]float64(nil), h.Log...)
	return &c
}

// Sound says whether a process that was stored has the shape of this release's, and only numbers.
func (h *Harm) Sound() bool {
	if h == nil || len(h.Log) != len(harmGrid) || h.Starts < 1 || h.Age < 0 {
		return false
	}
	for _, l := range h.Log {
		if math.IsNaN(l) || math.IsInf(l, 0) {
			return false
		}
	}
	return true
}

// logAdd returns ln(exp(a) + exp(b)).
func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(a, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

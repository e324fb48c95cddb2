package stats

import "slices"

// shapePrior is the weight of each cell before anything was seen (Jeffreys' prior of a multinomial).
const shapePrior = 0.5

// Shape is the plug-in e-process that the canary is not slower than stable, from histograms of latency with the same cells
// in ascending order. It weighs the whole shape of the two distributions, where RateRatio on one bound weighs one cut.
//
//	log S = sum_j h_cj ln(a_j/m_j) + h_sj ln(b_j/m_j),  m = (n_c a + n_s b)/(n_c+n_s)
//
// h are a block's counts, n their sums, and a and b the distributions of canary and stable as earlier blocks show them, with
// a prior Dirichlet(1/2), made monotone: neighbouring cells are pooled until a_j/b_j does not fall with j. A pooled group
// keeps its a+b in each cell, and divides it in the group's own ratio.
//
// Null: the canary is stochastically not slower, that is, above every bound it has at most stable's share of requests.
// Guarantee: exact for independent requests of one distribution per arm and block, whatever it does between blocks. a/m does
// not fall with j, so its mean under the canary is at most u, its mean under stable; with v the mean of b/m under stable,
// (n_c u + n_s v)/(n_c+n_s) = 1, so u^n_c v^n_s <= 1. For requests of the same arm that differ in distribution it is enough
// that the averages over a block obey the null. TwoSided leaves the distributions as they are: the null is then that they
// are equal, as in Turner, Ly and Grunwald 2021, "Generic E-variables for exact sequential k-sample tests".
//
// Its state is two numbers per cell. It pays about (cells/2) ln(requests) nats for learning the two shapes, so few cells are
// better than many.
type Shape struct {
	// Canary and Stable are the counts of earlier blocks by cell.
	Canary, Stable []float64
	// Log is the natural logarithm of the e-value.
	Log float64
	// TwoSided tests that the distributions are equal.
	TwoSided bool

	// Scratch of Add: the plug-in distributions and their pooled groups.
	a, b   []float64
	groups []group
}

// NewShape returns the one-sided process for histograms of the given number of cells.
func NewShape(cells int) *Shape {
	return &Shape{Canary: make([]float64, cells), Stable: make([]float64, cells)}
}

// Add counts one block: the requests of each variant by cell, in ascending order of latency. A block in which either variant
// had no request changes nothing, nor does one that cannot be: other cells, or counts below zero or without bound.
func (p *Shape) Add(canary, stable []float64) {
	if len(canary) != len(p.Canary) || len(stable) != len(p.Stable) {
		return
	}
	nc, ns := total(canary), total(stable)
	if !(nc > 0) || !(ns > 0) {
		return
	}
	p.plugIn()
	for j := range canary {
		m := (nc*p.a[j] + ns*p.b[j]) / (nc + ns)
		p.Log += weigh(canary[j], p.a[j]/m) + weigh(stable[j], p.b[j]/m)
	}
	for j := range canary {
		p.Canary[j] += canary[j]
		p.Stable[j] += stable[j]
	}
}

// LogE returns the natural logarithm of the e-value.
func (p *Shape) LogE() float64 { return p.Log }

// Clone returns a copy that shares nothing.
func (p *Shape) Clone() *Shape {
	return &Shape{Canary: slices.Clone(p.Canary), Stable: slices.Clone(p.Stable), Log: p.Log, TwoSided: p.TwoSided}
}

// total returns the sum of counts, and zero where one of them cannot be.
func total(counts []float64) float64 {
	sum := 0.0
	for _, c := range counts {
		if !(c >= 0) {
			return 0
		}
		sum += c
	}
	if !isFinite(sum) {
		return 0
	}
	return sum
}

// plugIn sets a and b to the distributions that the past shows.
func (p *Shape) plugIn() {
	if len(p.a) != len(p.Canary) {
		p.a, p.b = make([]float64, len(p.Canary)), make([]float64, len(p.Canary))
		p.groups = make([]group, 0, len(p.Canary))
	}
	smooth(p.a, p.Canary)
	smooth(p.b, p.Stable)
	if !p.TwoSided {
		p.groups = pool(p.a, p.b, p.groups[:0])
	}
}

// smooth sets out to the posterior mean of the distribution behind counts.
func smooth(out, counts []float64) {
	sum := shapePrior * float64(len(counts))
	for _, c := range counts {
		sum += c
	}
	for j, c := range counts {
		out[j] = (shapePrior + c) / sum
	}
}

// group is a run of neighbouring cells from start on, with the sums of both distributions over them.
type group struct {
	start int
	a, b  float64
}

// pool makes a/b nondecreasing by pooling adjacent violators: the isotonic regression of a/(a+b), weighted by a+b. It
// appends the groups to stack, which gives it room.
func pool(a, b []float64, stack []group) []group {
	for j := range a {
		g := group{j, a[j], b[j]}
		for n := len(stack); n > 0 && stack[n-1].a*g.b > g.a*stack[n-1].b; n-- {
			before := stack[n-1]
			g = group{before.start, before.a + g.a, before.b + g.b}
			stack = stack[:n-1]
		}
		stack = append(stack, g)
	}
	end := len(a)
	for _, g := range slices.Backward(stack) {
		share := g.a / (g.a + g.b)
		for j := g.start; j < end; j++ {
			both := a[j] + b[j]
			a[j], b[j] = share*both, (1-share)*both
		}
		end = g.start
	}
	return stack
}

package stats

import (
	"math"
	"slices"
)

const (
	// shapePrior is the weight of each cell before anything was seen (Jeffreys' prior of a multinomial).
	shapePrior = 0.5
	// shapeBlocks and shapeRequests are what Shape remembers at least: so many blocks, and so many canary requests.
	shapeBlocks, shapeRequests = 20, 3000
)

// Shape is the plug-in e-process that the canary is not slower than stable, from histograms of latency with the same cells
// in ascending order. It weighs the whole shape of the two distributions, where Harm on one bound weighs one cut.
//
//	log S = sum_j h_cj ln(a_j/m_j) + h_sj ln(b_j/m_j),  m = (n_c a + n_s b)/(n_c+n_s)
//
// h are a block's counts, n their sums, and a and b the distributions of canary and stable as earlier blocks show them, with
// a prior Dirichlet(1/2), made monotone: neighbouring cells are pooled until a_j/b_j does not fall with j. A pooled group
// keeps its a+b in each cell, and divides it in the group's own ratio. Blocks multiply, with restarts as in Harm: E is the
// sum over starts of g_j times the product of S since. Old blocks are forgotten, beyond the last 20 and the last 3000 canary
// requests or so, since a fault that comes late must not be hidden by hours of health.
//
// Null: the canary is stochastically not slower, that is, above every bound it has at most stable's share of requests.
// Guarantee: exact for independent requests of one distribution per arm and block, whatever it does between blocks. a/m does
// not fall with j, so its mean under the canary is at most u, its mean under stable; with v the mean of b/m under stable,
// (n_c u + n_s v)/(n_c+n_s) = 1, so u^n_c v^n_s <= 1, whatever a and b were learned from. For requests of the same arm that
// differ in distribution it is enough that the averages over a block obey the null.
//
// Its state is two numbers per cell. It pays about (cells/2) ln(requests) nats for learning the two shapes, so few cells are
// better than many.
type Shape struct {
	// Canary and Stable are the remembered counts of earlier blocks by cell.
	Canary, Stable []float64
	// Log is ln of the sum over starts of g_j times the product of factors since.
	Log float64
	// Starts is how many there were, Age how many blocks were counted since the last.
	Starts, Age int

	guess shapes
}

// NewShape returns the process for histograms of the given number of cells.
func NewShape(cells int) *Shape {
	p := &Shape{Canary: make([]float64, cells), Stable: make([]float64, cells), Log: math.Inf(-1)}
	p.Restart()
	return p
}

// Restart begins a further start, as NewShape and every 20th block do. It must not depend on the data.
func (p *Shape) Restart() {
	p.Starts++
	p.Age = 0
	p.Log = logAdd(p.Log, math.Log(leftAfter(p.Starts-1)-leftAfter(p.Starts)))
}

// Add counts one block: the requests of each variant by cell, in ascending order of latency. A block in which either variant
// had no request changes nothing, nor does one that cannot be: other cells, or counts below zero or without bound.
func (p *Shape) Add(canary, stable []float64) {
	nc, ns := total(canary), total(stable)
	if len(canary) != len(p.Canary) || len(stable) != len(p.Stable) || !(nc > 0) || !(ns > 0) {
		return
	}
	if p.Age >= restartEvery {
		p.Restart()
	}
	p.Age++
	p.guess.learn(p.Canary, p.Stable)
	p.guess.pool()
	p.Log += p.guess.logFactor(canary, stable, nc, ns)
	keep := math.Min(1, math.Max(1-1.0/shapeBlocks, shapeRequests/total(p.Canary)))
	for j := range canary {
		p.Canary[j] = keep*p.Canary[j] + canary[j]
		p.Stable[j] = keep*p.Stable[j] + stable[j]
	}
}

// LogE returns the natural logarithm of the e-value. Starts that are still to come stand at 1.
func (p *Shape) LogE() float64 { return logAdd(p.Log, math.Log(leftAfter(p.Starts))) }

// Clone returns a copy that shares nothing.
func (p *Shape) Clone() *Shape {
	return &Shape{
		Canary: slices.Clone(p.Canary), Stable: slices.Clone(p.Stable), Log: p.Log, Starts: p.Starts, Age: p.Age,
	}
}

// Sound says whether a process that was stored is one of this number of cells, and holds only what can be.
func (p *Shape) Sound(cells int) bool {
	return p != nil && len(p.Canary) == cells && len(p.Stable) == cells && p.Starts >= 1 && p.Age >= 0 &&
		countsOf(p.Canary) && countsOf(p.Stable) && isFinite(p.Log)
}

// Histogram is the plug-in e-process that two distributions over the same cells are equal: Shape's without an order of the
// cells, starts and forgetting.
//
//	log S = sum_j h_cj ln(a_j/m_j) + h_sj ln(b_j/m_j),  m = (n_c a + n_s b)/(n_c+n_s)
//
// with a and b the means after earlier blocks under a prior Dirichlet(1/2). Guarantee: exact for independent requests of one
// distribution per block. Source: Turner, Ly and Grunwald 2021, "Generic E-variables for exact sequential k-sample tests that
// allow for optional stopping".
type Histogram struct {
	// Canary and Stable are the counts of earlier blocks by cell.
	Canary, Stable []float64
	// Log is the natural logarithm of the e-value.
	Log float64

	guess shapes
}

// NewHistogram returns the process for histograms of the given number of cells.
func NewHistogram(cells int) *Histogram {
	return &Histogram{Canary: make([]float64, cells), Stable: make([]float64, cells)}
}

// Add counts one block, as Shape.Add does.
func (p *Histogram) Add(canary, stable []float64) {
	nc, ns := total(canary), total(stable)
	if len(canary) != len(p.Canary) || len(stable) != len(p.Stable) || !(nc > 0) || !(ns > 0) {
		return
	}
	p.guess.learn(p.Canary, p.Stable)
	p.Log += p.guess.logFactor(canary, stable, nc, ns)
	for j := range canary {
		p.Canary[j] += canary[j]
		p.Stable[j] += stable[j]
	}
}

// LogE returns the natural logarithm of the e-value.
func (p *Histogram) LogE() float64 { return p.Log }

// shapes is what two distributions are taken for, with the room to find out.
type shapes struct {
	a, b   []float64
	groups []group
}

// learn sets both to what past counts show.
func (s *shapes) learn(canary, stable []float64) {
	if len(s.a) != len(canary) {
		s.a, s.b = make([]float64, len(canary)), make([]float64, len(canary))
		s.groups = make([]group, 0, len(canary))
	}
	smooth(s.a, canary)
	smooth(s.b, stable)
}

// pool makes the canary's the slower one, or an equal one, at every bound.
func (s *shapes) pool() { s.groups = pool(s.a, s.b, s.groups[:0]) }

// logFactor returns the log of a block's factor.
func (s *shapes) logFactor(canary, stable []float64, nc, ns float64) float64 {
	sum := 0.0
	for j := range canary {
		m := (nc*s.a[j] + ns*s.b[j]) / (nc + ns)
		sum += weigh(canary[j], s.a[j]/m) + weigh(stable[j], s.b[j]/m)
	}
	return sum
}

// countsOf says whether all counts can be.
func countsOf(counts []float64) bool {
	for _, c := range counts {
		if !(c >= 0) || math.IsInf(c, 1) {
			return false
		}
	}
	return true
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
	if math.IsInf(sum, 1) {
		return 0
	}
	return sum
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

package backtest

import (
	"math"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/stats"
)

// Information returns how much a simulated block tells of the difference between the versions, in nats, over all gates that
// can roll back. Lasting differences between users and between buckets are left out: with them no judge is as quick.
func (s *Simulator) Information(b rollout.Block, weight int) float64 {
	at := b.Start.Sub(s.start)
	f := s.traffic.Fault.at(at, weight)
	if f == healthy {
		return 0
	}
	sum := 0.0
	for _, g := range s.gates {
		c := b.Counts[g.Name]
		nc, ns := size(c.Canary), size(c.Stable)
		if nc <= 0 || ns <= 0 {
			continue
		}
		switch g.Type {
		case rollout.ErrorRate:
			p := s.traffic.Errors.At(at)
			sum += rateInformation(nc, min(1, p*f.Errors), ns, min(1, p))
		case rollout.Latency:
			l := s.traffic.Latency
			sum += shapeInformation(nc, l.cells(f), ns, l.cells(healthy))
		case rollout.Mean:
			sum += meanInformation(g, nc, ns, s.traffic.Mean.Mean.At(at), f.Mean, s.traffic.Mean.Spread)
		case rollout.EnergyPerRequest:
			sum += meanInformation(g, nc, ns, s.traffic.Energy.Mean.At(at), f.Energy, s.traffic.Energy.Spread)
		case rollout.SampleRatio, rollout.Data, rollout.Alerts:
		}
	}
	return sum
}

// cells returns the probabilities of the histogram's cells under a fault, the one above the last bound included.
func (l Latency) cells(f Fault) []float64 {
	out := make([]float64, 0, len(l.Bounds)+1)
	above := 1.0
	for _, b := range l.Bounds {
		next := l.above(b, f.Slower, f.Tail, f.TailAt)
		out = append(out, above-next)
		above = next
	}
	return append(out, above)
}

// rateInformation is what nc and ns requests with error rates pc and ps tell of being different.
func rateInformation(nc, pc, ns, ps float64) float64 {
	return (nc + ns) * stats.RateInformation(pc, ps, nc/(nc+ns))
}

// shapeInformation is the same for the cells of a histogram.
func shapeInformation(nc float64, canary []float64, ns float64, stable []float64) float64 {
	return (nc + ns) * stats.HistogramInformation(canary, stable, nc/(nc+ns))
}

// meanInformation is the same for means: of the two ends of a declared range, or, by the central limit theorem, of normal
// means whose ln differs.
func meanInformation(g rollout.Gate, nc, ns, mean, ratio, cv float64) float64 {
	if g.Highest > g.Lowest {
		width := g.Highest - g.Lowest
		share := func(m float64) float64 { return min(1, max(0, (m-g.Lowest)/width)) }
		return rateInformation(nc, share(mean*ratio), ns, share(mean))
	}
	if ratio == 1 {
		return 0
	}
	return (nc + ns) * stats.ShiftInformation(math.Log(ratio), cv, nc/(nc+ns))
}

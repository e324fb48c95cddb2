package evidence

import (
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/common/model"

	"github.com/siskin-dev/siskin/rollout"
)

// perSecond is how many of the units of Istio's bounds make a second.
const perSecond = 1000

// boundOf reads the upper bound of a classic histogram's bucket; NaN for what is none.
func boundOf(m model.Metric) float64 {
	b, err := strconv.ParseFloat(string(m["le"]), 64)
	if err != nil || math.IsInf(b, -1) {
		return math.NaN()
	}
	return b
}

// histogramOf tells the histograms apart, whether classic or native.
func histogramOf(m model.Metric) model.Fingerprint {
	h := m.Clone()
	delete(h, "le")
	delete(h, model.MetricNameLabel)
	return h.Fingerprint()
}

// spectrum is the histograms of a block: classic ones as series, one for each bound, and native ones. A histogram that is
// there in both forms is taken as classic.
type spectrum struct {
	classic []series
	native  []native
	// classics are the histograms that have classic buckets.
	classics map[model.Fingerprint]bool
}

func spectrumOf(all []series, w *window, q rollout.Question) spectrum {
	h := spectrum{classics: map[model.Fingerprint]bool{}}
	for _, s := range all {
		version := string(s.labels[versionLabel])
		if !math.IsNaN(s.bound) && s.present && (version == q.Stable || version == q.Canary) {
			h.classic = append(h.classic, s)
			if math.IsInf(s.bound, 1) {
				h.classics[s.histogram] = true
			}
		}
	}
	for _, s := range all {
		version := string(s.labels[versionLabel])
		if len(s.native) > 0 && s.present && !h.classics[s.histogram] && (version == q.Stable || version == q.Canary) {
			h.native = append(h.native, w.native(s.stream))
		}
	}
	return h
}

// bounds returns the finite bounds, ascending, that all histograms have. Proxies of several configurations may report at
// once; what lies above a bound is known only where the bound is.
func (h spectrum) bounds(threshold float64) []float64 {
	have := map[float64]int{}
	for _, s := range h.classic {
		if !math.IsInf(s.bound, 1) {
			have[s.bound]++
		}
	}
	if len(h.classics) == 0 {
		for _, b := range candidates(h.native, threshold) {
			have[b] = 0
		}
	}
	var bounds []float64
	for b, n := range have {
		if n == len(h.classics) && !slices.ContainsFunc(h.native, func(n native) bool { return !n.knows(b) }) {
			bounds = append(bounds, b)
		}
	}
	slices.Sort(bounds)
	return bounds
}

// countSlow counts requests and those above each bound.
func countSlow(all []series, w *window, g rollout.Gate, q rollout.Question) rollout.Counts {
	h := spectrumOf(all, w, q)
	bounds := h.bounds(g.Threshold.Seconds() * perSecond)
	c := rollout.Counts{Bounds: make([]float64, len(bounds))}
	for k, b := range bounds {
		c.Bounds[k] = b / perSecond
	}
	c.Stable.Events, c.Canary.Events = make([]float64, len(bounds)), make([]float64, len(bounds))
	for _, s := range h.classic {
		a := arm(&c, q, string(s.labels[versionLabel]))
		if math.IsInf(s.bound, 1) {
			a.Sent += s.increase
		}
		if !answerable(s.labels) {
			continue
		}
		if math.IsInf(s.bound, 1) {
			a.Requests += s.increase
		} else if k, found := slices.BinarySearch(bounds, s.bound); found {
			a.Events[k] += s.increase
		}
	}
	for _, n := range h.native {
		a := arm(&c, q, string(n.labels[versionLabel]))
		total, atOrBelow := n.increases(w, bounds)
		a.Sent += total
		if answerable(n.labels) {
			add(a, total, atOrBelow)
		}
	}
	exceed(&c.Stable)
	exceed(&c.Canary)
	return c
}

// add adds a native histogram's requests, and those at or below each bound.
func add(a *rollout.Arm, total float64, atOrBelow []float64) {
	a.Requests += total
	for k, v := range atOrBelow {
		a.Events[k] += v
	}
}

// exceed turns counts at or below each bound into counts above it.
func exceed(a *rollout.Arm) {
	for k := range a.Events {
		a.Events[k] = math.Max(0, a.Requests-a.Events[k])
	}
}

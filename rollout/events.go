package rollout

import (
	"math"
	"slices"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// Errors and slow requests: events among requests that are independent of each other.

// sound says whether an arm's events can be: one number for each of n bounds, none above the requests.
func (a Arm) sound(n int) bool {
	return len(a.Events) == n && a.Requests >= 0 && !math.IsInf(a.Requests, 1) &&
		!slices.ContainsFunc(a.Events, func(x float64) bool { return !(x >= 0 && x <= a.Requests) })
}

// setBounds takes a latency histogram's bounds from the first block; they may not change within a run, since counts above
// different bounds cannot be multiplied.
func (t *Trail) setBounds(g Gate, bounds []float64) {
	if g.Type != Latency || len(bounds) == 0 || t.Broken != "" {
		return
	}
	if len(t.Bounds) > 0 {
		if !slices.Equal(t.Bounds, bounds) {
			t.Broken = BoundsChanged
		}
		return
	}
	t.Bounds = slices.Clone(bounds)
	t.SLO = slices.IndexFunc(bounds, func(b float64) bool { return b >= g.Threshold.Seconds()*(1-1e-9) })
	if t.SLO < 0 {
		t.Broken = BelowThreshold
		return
	}
	t.First = slices.IndexFunc(bounds, func(b float64) bool { return b >= g.Threshold.Seconds()/matterOf })
	for range bounds[t.First:] {
		t.Harm = append(t.Harm, stats.NewHarm())
	}
	t.Shape = stats.NewShape(len(t.Harm) + 1)
}

// matterOf says which latencies matter beside the threshold: those of at least this part of it. A model that answers in
// 0.3 ms instead of 0.2 ms is slower beyond doubt, and nobody who asked for 250 ms minds.
const matterOf = 5

// countEvents adds a block's events to the side of harm and, where the weight is realised, to what the step is judged by.
func (t *Trail) countEvents(c Counts, realised bool) {
	want := t.First + len(t.Harm)
	if t.Broken != "" || len(t.Harm) == 0 || !c.Stable.sound(want) || !c.Canary.sound(want) {
		return
	}
	for i, h := range t.Harm {
		k := t.First + i
		h.Add(c.Canary.Events[k], c.Canary.Requests, c.Stable.Events[k], c.Stable.Requests)
	}
	if t.Shape != nil {
		t.Shape.Add(t.cells(c.Canary), t.cells(c.Stable))
	}
	xc, xs := c.Canary.Events[t.SLO], c.Stable.Events[t.SLO]
	t.Curve.Add(xc, c.Canary.Requests, xs, c.Stable.Requests)
	if !realised {
		return
	}
	t.Safety.Add(xc, c.Canary.Requests, xs, c.Stable.Requests)
	t.Below.Add(xc, c.Canary.Requests)
	t.Canary = stats.Cluster{Sum: t.Canary.Sum + xc, Count: t.Canary.Count + c.Canary.Requests}
	t.Stable = stats.Cluster{Sum: t.Stable.Sum + xs, Count: t.Stable.Count + c.Stable.Requests}
}

// cells returns the requests of an arm between the bounds from First on: those below the first, between each two, and above
// the last.
func (t *Trail) cells(a Arm) []float64 {
	cells := make([]float64, len(t.Harm)+1)
	above := a.Requests
	for i := range t.Harm {
		cells[i] = math.Max(0, above-a.Events[t.First+i])
		above = a.Events[t.First+i]
	}
	cells[len(t.Harm)] = above
	return cells
}

// eventsLogHarm returns the log e-value of the harm side over the whole run, and the index of the bound that says most.
// For latency it is the average of the exceedances' and of the whole shape's. Half of the exceedances' weight lies on the
// threshold's bound, the rest evenly on the others.
func (t *Trail) eventsLogHarm() (logE float64, most int) {
	if len(t.Harm) == 0 {
		return 0, 0
	}
	slo := t.Harm[t.SLO-t.First].LogE()
	most, top := t.SLO, slo
	rest := make([]float64, 0, len(t.Harm))
	for i, h := range t.Harm {
		if t.First+i == t.SLO {
			continue
		}
		logE := h.LogE()
		rest = append(rest, logE)
		if logE > top {
			most, top = t.First+i, logE
		}
	}
	logE = slo
	if len(rest) > 0 {
		logE = stats.LogMean(slo, stats.LogMean(rest...))
	}
	if t.Shape != nil {
		logE = stats.LogMean(logE, t.Shape.LogE())
	}
	return logE, most
}

// eventsLogSafety returns the log e-value of the safety side at this step: the average of the ratio's (below the margin) and
// of the canary's own rate (below the tolerance). Its null is that both are reached.
func (t *Trail) eventsLogSafety() float64 { return stats.LogMean(t.Safety.LogE(), t.Below.LogE()) }

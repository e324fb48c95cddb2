package rollout

import "time"

// Scaling says how the replicas of a service's versions follow its runs.
type Scaling struct {
	// Replicas are those of a new version before anybody meets it; 0 means as many as the stable one has.
	Replicas int
	// Delay is how long a version keeps its replicas after the last route to it has gone.
	Delay time.Duration
	// Dynamic takes replicas from the stable version as units leave it.
	Dynamic bool
}

// Part is what a version has to do with its rollout at a moment.
type Part string

// The parts.
const (
	PartStable Part = "Stable"
	PartCanary Part = "Canary"
	// PartKept is a version that an experiment shows, or that is tried next.
	PartKept Part = "Kept"
	// PartLeft is a version that no route leads to any more.
	PartLeft Part = "Left"
)

// Workload is what runs one version of one service. Wanted, Full and Since are those of the plan before, and zero when there
// was none.
type Workload struct {
	Part Part
	// Replicas are those that it is told to have, Available those that can answer.
	Replicas, Available int
	// Wanted are those that it is to have now.
	Wanted int
	// Full are those with which it carries all of the traffic, where the plan has to bring it there; else 0.
	Full int
	// Since is when the last route to it went, a minute ahead at most until the routes are settled; zero while there is one.
	Since time.Time
}

// Needs returns how many replicas must be available before the version gets a weight, 0 to 100: as large a share of those
// that it is to have, and one at least.
func (w Workload) Needs(weight int) int { return max(1, ceilPercent(w.Wanted, weight)) }

// Stand is where the traffic of a service is.
type Stand struct {
	// Running says that a run is going on, and Weight how many units of 100 are on the canary.
	Running bool
	Weight  int
	// Settled says that the routes are as they should be; of a run also that every proxy has had time to learn of it.
	Settled bool
	Now     time.Time
}

// Plan returns the workloads of one service, in the same order, with how many replicas each is to have:
//
//   - the canary has all of its replicas before the first unit meets it, and none is taken from it;
//   - the stable version is left alone. A dynamic one keeps as large a share of its replicas as it has of the units, and one at
//     least, once the routes are settled and the canary can answer for its own share. What was taken comes back as soon as the
//     weight falls or the run ends, and nothing waits for it;
//   - a version that no route leads to has none after the delay, which begins when the routes are as they should be.
func (s Scaling) Plan(at Stand, all []Workload) []Workload {
	carries, enough := 0, at.Weight == 0
	for _, w := range all {
		if w.Part == PartStable {
			carries = max(w.Full, w.Replicas)
		}
	}
	out := make([]Workload, len(all))
	for i, w := range all {
		if w.Part == PartCanary {
			out[i] = s.canary(w, carries)
			enough = w.Available >= ceilPercent(out[i].Full, at.Weight)
		}
	}
	for i, w := range all {
		switch w.Part {
		case PartCanary:
		case PartStable:
			out[i] = s.stable(w, at, enough)
		case PartKept:
			out[i] = Workload{Part: w.Part, Replicas: w.Replicas, Available: w.Available, Wanted: w.Replicas}
		case PartLeft:
			out[i] = s.left(w, at)
		}
	}
	return out
}

// canary has its own number, or that with which the stable version carries the traffic.
func (s Scaling) canary(w Workload, stable int) Workload {
	w.Full, w.Since = s.Replicas, time.Time{}
	if w.Full == 0 {
		w.Full = max(stable, 1)
	}
	w.Wanted = max(w.Full, w.Replicas)
	return w
}

func (s Scaling) stable(w Workload, at Stand, enough bool) Workload {
	w.Since = time.Time{}
	before := w.Wanted
	if before == 0 {
		before = w.Replicas
	}
	switch dynamic := s.Dynamic && at.Running; {
	case !dynamic && w.Full <= w.Replicas: // nothing was taken, or all of it is back
		w.Full, w.Wanted = 0, w.Replicas
	case !dynamic:
		w.Wanted = w.Full
	default:
		w.Full = max(w.Full, w.Replicas)
		w.Wanted = min(w.Full, max(1, ceilPercent(w.Full, 100-at.Weight)))
		if !at.Settled || !enough {
			w.Wanted = max(w.Wanted, before, w.Replicas)
		}
	}
	return w
}

func (s Scaling) left(w Workload, at Stand) Workload {
	switch {
	case w.Since.IsZero():
		w.Since = at.Now
	case !at.Running && !at.Settled: // the route that leads elsewhere is not written yet
		w.Since = Awaited(w.Since, time.Time{}, at.Now)
	default:
		w.Since = Arrived(w.Since, at.Now)
	}
	w.Full, w.Wanted = 0, w.Replicas
	if at.Settled && !at.Now.Before(w.Since.Add(s.Delay)) {
		w.Wanted = 0
	}
	return w
}

// ceilPercent returns so many percent of n, rounded up.
func ceilPercent(n, percent int) int { return (n*percent + 99) / 100 }

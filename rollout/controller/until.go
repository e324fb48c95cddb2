package controller

import (
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// atRest is how often a rollout without a run is looked at.
const atRest = 30 * time.Second

// graceLeft is how much longer proxies may send units to the version that a run has left: they learn of the route's change
// later than the API server. It begins anew while a promotion's route is not written (see noteLate).
func (p *pass) graceLeft() time.Duration {
	last := p.ro.Status.LastRun
	if last == nil {
		return 0
	}
	return max(last.EndedAt.Add(p.grace).Sub(p.now), 0)
}

// until is the time to the next pass: when there is more evidence, or when replicas want it.
func (p *pass) until(lag time.Duration) time.Duration {
	if p.scaling != nil && p.scaling.again > 0 {
		return min(p.untilBlock(lag), p.scaling.again)
	}
	return p.untilBlock(lag)
}

// untilBlock is the time to when the next block is complete, or to the end of a wait that is nearer.
func (p *pass) untilBlock(lag time.Duration) time.Duration {
	if p.pending() || p.caughtUp() {
		return time.Millisecond
	}
	if p.busy {
		return askAgain
	}
	if d := p.untilExperiments(); d > 0 {
		return d
	}
	if p.run == nil && p.ro.Spec.Version == p.ro.Status.StableVersion {
		return p.untilGone(atRest)
	}
	if p.spreading != "" && p.run != nil && p.run.Step == 0 && len(p.altered) == 0 {
		return time.Second
	}
	next := rollout.GridFloor(p.now.Add(-lag), p.plan.Interval).Add(p.plan.Interval + lag)
	return p.untilGone(max(next.Sub(p.now), time.Millisecond))
}

// untilGone is the time to when the grace ends, if that is nearer than the rest.
func (p *pass) untilGone(otherwise time.Duration) time.Duration {
	if left := p.graceLeft(); left > 0 {
		return min(left, otherwise)
	}
	return otherwise
}

// pending says whether more is to be done at once: another request waits, a run has just begun, a new rollout's
// route is to be seen, or a new version is wanted after a run was superseded.
func (p *pass) pending() bool {
	for _, q := range p.ro.Status.Requests {
		if q.HandledAt == nil {
			return true
		}
	}
	return p.outcome.Reason == reasonRunStarted || p.outcome.Reason == reasonAdopted || p.outcome.Reason == rollout.Superseded
}

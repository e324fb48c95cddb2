package controller

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/rollout"
)

// noteLate moves the end of a run that was promoted ahead of the clock for as long as the routes have not shown it: until then units
// meet the version before, and no grace for those who learn of it late has begun.
func (p *pass) noteLate(wanted Objects) {
	last := p.ro.Status.LastRun
	if p.was.Status.Run != nil || p.run != nil || last == nil {
		return
	}
	at := last.EndedAt.UTC()
	if p.late(wanted) {
		at = rollout.Awaited(at, time.Time{}, p.now)
	} else {
		at = rollout.Arrived(at, p.now)
	}
	last.EndedAt = metav1.NewMicroTime(at)
}

// late says that the routes have not shown the promotion yet: as they are wanted now, or as they were within the grace.
func (p *pass) late(wanted Objects) bool {
	if !p.sameRoutes() || p.shownBefore() || p.inPlace(wanted) {
		return false
	}
	last := p.ro.Status.LastRun
	within, err := p.draw(p.traffic(), append([]string{last.Version, last.Previous}, p.left()...))
	return err != nil || !p.inPlace(within)
}

// caughtUp says that the routes show now what they were late with. The next pass notes since when.
func (p *pass) caughtUp() bool {
	last := p.ro.Status.LastRun
	late := p.run == nil && last != nil && last.EndedAt.After(p.now) || p.run != nil && p.run.Spreading.After(p.now)
	return late && p.missing() == ""
}

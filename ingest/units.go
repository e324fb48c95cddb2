package ingest

import (
	"context"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Units remembers which units were counted, so that neither a restart nor another replica counts them again.
type Units interface {
	// First says whether the unit has not been named in this epoch before, and remembers that it has now.
	First(ctx context.Context, epoch, unit string) (bool, error)
}

const (
	// forgetVersion is how long a version may be silent and still take part.
	forgetVersion = 10 * time.Minute
	// maxUnits bounds each of the two generations of units that are remembered here: 3 MB.
	maxUnits = 1 << 17
	// maxAsking is how many units may be asked about at a time: what is written to the log comes first.
	maxAsking = 2
)

// assignments counts, by version, units that were newly assigned: each unit once in an epoch, with the version that
// answers it when its turn comes. An epoch begins when a version appears beside others; while only one answers, nothing
// is assigned. A unit whose requests all fail is not counted, since nobody says which version failed.
//
// Turns are drawn by the unit's hash and spread over a while after the epoch's beginning. The units of a fleet all call
// within seconds, so that otherwise they would all be counted in the moment in which the weight changes, which is judged
// least of all. Turns and variants are drawn independently, so that each count is as good as any other.
type assignments struct {
	model   string
	spread  time.Duration
	now     func() time.Time
	metrics *Metrics
	units   Units         // nil: nobody remembers
	asking  chan struct{} // one per unit asked about

	mu       sync.Mutex // guards what follows
	versions map[string]time.Time
	epoch    string
	began    time.Time
	// counted and before are the hashes of units that need not be asked about.
	counted, before map[uint64]struct{}
}

func newAssignments(o Options) *assignments {
	return &assignments{
		model: o.Model, spread: o.UnitSpread, now: o.Now, metrics: o.Metrics, units: o.Units,
		asking: make(chan struct{}, maxAsking), versions: map[string]time.Time{},
	}
}

// met notes that a version answered a unit.
func (a *assignments) met(ctx context.Context, unit, version string) {
	epoch, hash, due := a.take(unit, version)
	if !due {
		return
	}
	first, known := a.first(ctx, epoch, unit)
	if !known {
		a.mu.Lock()
		delete(a.counted, hash) // at its next answer
		a.mu.Unlock()
	}
	if first {
		a.metrics.assigned(a.model, version)
	}
}

// take says whether the unit is to be counted now, and sees to it that nobody else counts it.
func (a *assignments) take(unit, version string) (epoch string, hash uint64, due bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	a.see(version, now)
	if a.epoch == "" {
		return "", 0, false
	}
	hash = hashOf(a.epoch, unit)
	_, counted := a.counted[hash]
	_, before := a.before[hash]
	turn := time.Duration(float64(a.spread) * float64(hash>>11) / (1 << 53))
	if counted || before || now.Before(a.began.Add(turn)) {
		return "", 0, false
	}
	if len(a.counted) >= maxUnits {
		a.counted, a.before = map[uint64]struct{}{}, a.counted
	}
	a.counted[hash] = struct{}{}
	return a.epoch, hash, true
}

// see begins an epoch when a version appears beside others, and ends it when only one is left. The epoch is named after
// its versions: replicas, and the next process, give it the same name.
func (a *assignments) see(version string, now time.Time) {
	_, known := a.versions[version]
	a.versions[version] = now
	if len(a.versions) > maxVersions {
		maps.DeleteFunc(a.versions, func(v string, _ time.Time) bool { return v != version })
	}
	maps.DeleteFunc(a.versions, func(_ string, at time.Time) bool { return now.Sub(at) > forgetVersion })
	switch {
	case len(a.versions) < 2:
		a.epoch = ""
	case !known || a.epoch == "":
		a.epoch = strings.Join(append([]string{a.model}, slices.Sorted(maps.Keys(a.versions))...), "\x00")
		a.began = now
		a.counted, a.before = map[uint64]struct{}{}, nil
	}
}

// first asks whether the unit is counted for the first time; known is false when nobody can tell now.
func (a *assignments) first(ctx context.Context, epoch, unit string) (first, known bool) {
	if a.units == nil {
		return true, true
	}
	select {
	case a.asking <- struct{}{}:
	default:
		return false, false
	}
	defer func() { <-a.asking }()
	first, err := a.units.First(ctx, epoch, unit)
	return first && err == nil, err == nil
}

func hashOf(epoch, unit string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(unit))  // a hash takes everything
	_, _ = h.Write([]byte(epoch)) // last, so that the unit reaches the high bits
	return h.Sum64()
}

package energy

import "time"

// account is the book of one party.
type account struct {
	total PartyTotal
	cpu   Counter
	// inferences at the last good and the last refused reading of cpu: the two counters go together.
	goodInferences, refusedInferences uint64
	pendingCPU, pendingInferences     uint64
	requests                          uint64
	seen                              time.Time
	spare                             spare
}

// whole parties are instances (pods), which may have versions inside.
func (a *account) whole() bool { return a.total.Model == "" }

// observe books a reading as pending.
func (a *account) observe(at time.Time, p Party, lim Limits) Outcome {
	delta, outcome := a.cpu.Observe(at, p.CPU, lim)
	a.seen, a.requests = at, p.Requests
	switch outcome {
	case Counted:
		a.pendingInferences += increase(a.goodInferences, p.Inferences)
	case Rebased:
		a.pendingInferences += increase(a.refusedInferences, p.Inferences)
	case First:
	default:
		a.refusedInferences = p.Inferences
		return outcome
	}
	a.pendingCPU += delta
	a.goodInferences = p.Inferences
	return outcome
}

func increase(from, to uint64) uint64 { return to - min(from, to) }

// share is what the party brings to the interval. Requests count while the party is there.
func (a *account) share(now time.Time) Share {
	s := Share{CPU: a.pendingCPU}
	if a.seen.Equal(now) {
		s.Requests = a.requests
	}
	return s
}

// divide leaves a pod the CPU time that the versions inside it (indices of shares) did not take, and hands its requests
// to all of them in proportion to CPU time: a pod reserves for what it serves.
func (a *account) divide(shares []Share, pod int, versions []int) {
	var inside uint64
	for _, v := range versions {
		inside = addSaturating(inside, shares[v].CPU)
	}
	shares[pod].CPU = a.spare.of(shares[pod].CPU, inside)
	weights := []uint64{shares[pod].CPU}
	for _, v := range versions {
		weights = append(weights, shares[v].CPU)
	}
	if inside == 0 {
		return
	}
	requests := Split(shares[pod].Requests, weights)
	shares[pod].Requests = requests[0]
	for i, v := range versions {
		shares[v].Requests += requests[i+1]
	}
}

// close books what the interval gave.
func (a *account) close(dynamic, idle uint64) {
	a.total.Dynamic += dynamic
	a.total.Idle += idle
	a.total.CPU += a.pendingCPU
	a.total.Inferences += a.pendingInferences
	a.pendingCPU, a.pendingInferences = 0, 0
}

// spare computes what parts leave of a whole. The two are read at slightly different times and in different grains
// (the node's busy time comes in ticks of 10 ms), so parts may exceed the whole for an interval; the excess is
// taken back from the next ones.
type spare struct {
	owed uint64
}

// maxOwed bounds the excess that is carried, in nanoseconds: beyond 1 s it is a wrong clock and no skew, and forgiven.
const maxOwed = uint64(time.Second)

func (s *spare) of(whole, parts uint64) uint64 {
	taken := addSaturating(parts, s.owed)
	if taken > whole {
		s.owed = min(taken-whole, maxOwed)
		return 0
	}
	s.owed = 0
	return whole - taken
}

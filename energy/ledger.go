package energy

import (
	"slices"
	"time"
)

// Totals are the books since the start: microjoules, and counts. None of them ever falls.
type Totals struct {
	// Measured is the energy of the counted zones. It equals System + Unallocated + Ended + the parties' Dynamic and
	// Idle, exactly; Residual is the difference, computed from these very fields.
	Measured    uint64
	System      uint64
	Unallocated uint64
	// EndedDynamic and EndedIdle are what parties used whose own books have been closed.
	EndedDynamic uint64
	EndedIdle    uint64
	Zones        []ZoneTotal
	Parties      []PartyTotal
	// Failures counts failed reads by reader, Refusals refused readings by reader and outcome.
	Failures map[Reader]uint64
	Refusals map[Refusal]uint64
}

// ZoneTotal is what one zone has measured.
type ZoneTotal struct {
	Name        string
	Microjoules uint64
}

// PartyTotal is what one party has used. Inferences are those answered in the intervals that Dynamic and Idle cover.
type PartyTotal struct {
	ID
	Dynamic    uint64
	Idle       uint64
	CPU        uint64
	Inferences uint64
}

// Reader names one of the three sources: a value of the metric label "reader".
type Reader string

// The readers.
const (
	ReaderMeter Reader = "meter"
	ReaderUsage Reader = "usage"
	ReaderBusy  Reader = "busy"
)

// Refusal is a reader and why a reading of it was refused.
type Refusal struct {
	Reader  Reader
	Outcome Outcome
}

// Idle is the static energy given to parties by their requests.
func (t Totals) Idle() uint64 {
	sum := t.EndedIdle
	for _, p := range t.Parties {
		sum += p.Idle
	}
	return sum
}

// Attributed is the dynamic energy of all parties, the system included.
func (t Totals) Attributed() uint64 {
	sum := t.System + t.EndedDynamic
	for _, p := range t.Parties {
		sum += p.Dynamic
	}
	return sum
}

// Residual is measured - (attributed + idle + unallocated). It is 0, always.
func (t Totals) Residual() int64 {
	return int64(t.Measured - t.Attributed() - t.Idle() - t.Unallocated)
}

// reading is what the three readers said at one time.
type reading struct {
	at      time.Time
	zones   []Zone
	parties []Party
	busy    BusyTime
	// partial readings miss some parties.
	partial bool
}

// patience is how long an interval stays open for parties that cannot be read: closed without them, their energy would
// go to the others. Beyond it the others' joules are worth more than the missing ones'.
const patience = 30 * time.Second

// ledger keeps the books. What a party uses and what is measured stay pending until both are known, so that a meter that
// failed or stood still for a while pays everybody later, by what they used meanwhile, and so does a party that did.
type ledger struct {
	static, maxMicrowatts, allocatable uint64
	keepEnded                          time.Duration

	totals Totals
	zones  map[string]*zoneAccount
	// accounts are in the order of first sight, which decides ties of the last microjoule.
	accounts []*account
	byID     map[ID]*account
	busy     Counter
	// pendingBusy is the node's CPU time since the last close, pendingEnergy its energy; spares are carried over.
	pendingBusy, pendingEnergy uint64
	spare                      spare
	// last is the reading before; closed the last one that closed an interval.
	last, closed time.Time
}

type zoneAccount struct {
	counter Counter
	index   int
}

func newLedger(o Options) *ledger {
	return &ledger{
		static: o.StaticMicrowatts, maxMicrowatts: o.MaxMicrowatts, allocatable: o.AllocatableMillicores,
		keepEnded: o.KeepEnded,
		totals:    Totals{Failures: map[Reader]uint64{}, Refusals: map[Refusal]uint64{}},
		zones:     map[string]*zoneAccount{}, byID: map[ID]*account{},
	}
}

// enter books a reading, and closes the interval if energy was measured and nobody is missing.
func (l *ledger) enter(r reading) {
	lim := cpuLimits(r.busy.CPUs)
	for _, p := range r.parties {
		l.enterParty(r.at, p, lim)
	}
	delta, outcome := l.busy.Observe(r.at, r.busy.Nanoseconds, lim)
	l.refuse(ReaderBusy, outcome)
	l.pendingBusy += delta

	l.pendingEnergy += l.enterZones(r)
	if l.closed.IsZero() {
		l.closed = r.at
	}
	if l.pendingEnergy > 0 && (!r.partial || r.at.Sub(l.closed) >= patience) {
		l.close(r)
	}
	l.last = r.at
	l.closeEnded(r.at)
}

// enterParty books a party's CPU time as pending. One that was not there before counts from 0 at the last reading; the
// guard refuses that if it has too long a past.
func (l *ledger) enterParty(at time.Time, p Party, lim Limits) {
	a := l.byID[p.ID]
	if a == nil {
		a = &account{total: PartyTotal{ID: p.ID}}
		if !l.last.IsZero() {
			a.cpu.Start(l.last, 0)
		}
		l.byID[p.ID] = a
		l.accounts = append(l.accounts, a)
	}
	l.refuse(ReaderUsage, a.observe(at, p, lim))
}

// enterZones books the zones and returns the energy of the counted ones.
func (l *ledger) enterZones(r reading) uint64 {
	var measured uint64
	for _, z := range r.zones {
		zone := l.zones[z.Name]
		if zone == nil {
			zone = &zoneAccount{index: len(l.totals.Zones)}
			l.zones[z.Name] = zone
			l.totals.Zones = append(l.totals.Zones, ZoneTotal{Name: z.Name})
		}
		lim := Limits{Range: z.Range, PerSecond: z.MaxMicrowatts}
		if lim.PerSecond == 0 {
			lim.PerSecond = l.maxMicrowatts
		}
		delta, outcome := zone.counter.Observe(r.at, z.Microjoules, lim)
		l.refuse(ReaderMeter, outcome)
		l.totals.Zones[zone.index].Microjoules += delta
		if z.Counted {
			measured += delta
		}
	}
	return measured
}

// close attributes the pending energy to what is pending.
func (l *ledger) close(r reading) {
	out := Attribute(l.interval(r))
	l.totals.Measured += l.pendingEnergy
	l.totals.System += out.System
	l.totals.Unallocated += out.Unallocated
	for i, a := range l.accounts {
		a.close(out.Dynamic[i], out.Idle[i])
	}
	l.pendingBusy, l.pendingEnergy = 0, 0
	l.closed = r.at
}

// interval gathers what is pending. A pod's own share is what its versions leave of it, and the system's share is what
// the outermost parties leave of the node's busy time.
func (l *ledger) interval(r reading) Interval {
	in := Interval{
		Measured: l.pendingEnergy, Static: rateTimes(l.static, max(r.at.Sub(l.closed), 0)),
		Allocatable: l.allocatable, Parties: make([]Share, len(l.accounts)),
	}
	if in.Allocatable == 0 {
		in.Allocatable = r.busy.CPUs * millicoresPerCPU
	}
	inside := map[string][]int{}
	var outermost uint64
	for i, a := range l.accounts {
		in.Parties[i] = a.share(r.at)
		if !a.whole() && l.byID[ID{Instance: a.total.Instance}] != nil {
			inside[a.total.Instance] = append(inside[a.total.Instance], i)
			continue
		}
		outermost += a.pendingCPU
	}
	for i, a := range l.accounts {
		if versions := inside[a.total.Instance]; a.whole() && len(versions) > 0 {
			a.divide(in.Parties, i, versions)
		}
	}
	in.System = l.spare.of(l.pendingBusy, outermost)
	return in
}

const millicoresPerCPU = 1000

// closeEnded closes the books of pods that have been gone for keepEnded: their series would pile up otherwise. Versions
// of models are few and keep theirs.
func (l *ledger) closeEnded(now time.Time) {
	l.accounts = slices.DeleteFunc(l.accounts, func(a *account) bool {
		if !a.whole() || a.pendingCPU > 0 || now.Sub(a.seen) <= l.keepEnded {
			return false
		}
		l.totals.EndedDynamic += a.total.Dynamic
		l.totals.EndedIdle += a.total.Idle
		delete(l.byID, a.total.ID)
		return true
	})
}

func (l *ledger) refuse(r Reader, o Outcome) {
	if o == Reset || o == Jump || o == Sentinel {
		l.totals.Refusals[Refusal{r, o}]++
	}
}

package energy

import "fmt"

// Sources of energy readings: values of the metric label "source".
const (
	SourceRAPL    = "rapl"
	SourceModel   = "model"
	SourceFixture = "fixture"
)

// Qualities of energy readings: values of the metric label "quality".
const (
	QualityMeasured = "measured"
	QualityModelled = "modelled"
)

// Info says where a meter's numbers come from, so that a gate can refuse what was not measured.
type Info struct {
	Source  string
	Quality string
}

// Zone is a reading of one energy counter.
type Zone struct {
	// Name is the zone with its socket, such as "package-0" or "dram-1"; unique within a meter.
	Name string
	// Microjoules is the counter's value; only differences mean anything.
	Microjoules uint64
	// Range is the value in microjoules at which the counter starts again at 0; 0 if it never does.
	Range uint64
	// MaxMicrowatts is the most that the zone can draw; 0 takes Options.MaxMicrowatts.
	MaxMicrowatts uint64
	// Counted zones do not overlap, and together are the node's energy. The others are shown but never summed.
	Counted bool
}

// Meter reads the node's energy counters.
type Meter interface {
	// Energy reads all zones. With an error, the zones returned are good and the others could not be read.
	Energy() ([]Zone, error)
	// Info says where the numbers come from; it never changes.
	Info() Info
}

// ID names a party. A party with no Model is a whole instance (a pod), inclusive of the versions served in it.
type ID struct {
	// Instance is what the kernel runs: a pod's uid, the address of a process outside pods, or empty in one process.
	Instance string
	Model    string
	Version  string
}

// Party is one consumer of CPU time. All but Requests are cumulative.
type Party struct {
	ID
	// CPU time in nanoseconds since the party began. A pod's includes that of the versions in it.
	CPU uint64
	// Inferences answered since the party began; 0 for a party that answers none.
	Inferences uint64
	// Requests are CPU requests in millicores; 0 takes no part in the static pool.
	Requests uint64
}

// Usage tells the CPU time of every party.
type Usage interface {
	// Usage reads all parties, each ID once. With an error, the parties returned are good and others may be missing.
	Usage() ([]Party, error)
}

// UsageFunc adapts a function to Usage.
type UsageFunc func() ([]Party, error)

// Usage calls f.
func (f UsageFunc) Usage() ([]Party, error) { return f() }

// BusyTime is the CPU time that a node has spent on anything.
type BusyTime struct {
	// Nanoseconds busy since boot, summed over the CPUs.
	Nanoseconds uint64
	// CPUs is how many there are; at least 1.
	CPUs uint64
}

// Busy tells the busy time of the node.
type Busy interface {
	Busy() (BusyTime, error)
}

// BusyFunc adapts a function to Busy.
type BusyFunc func() (BusyTime, error)

// Busy calls f.
func (f BusyFunc) Busy() (BusyTime, error) { return f() }

// UsageBusy takes the sum of a process's parties for the node's busy time, where the kernel offers no better: nothing is
// left for the system then. It suits parties that do not contain each other.
func UsageBusy(usage Usage, cpus int) Busy {
	return BusyFunc(func() (BusyTime, error) {
		parties, err := usage.Usage()
		if err != nil {
			return BusyTime{}, fmt.Errorf("reading parties for busy time: %w", err)
		}
		busy := BusyTime{CPUs: uint64(max(cpus, 1))}
		for _, p := range parties {
			busy.Nanoseconds = addSaturating(busy.Nanoseconds, p.CPU)
		}
		return busy, nil
	})
}

// checkUnique refuses a reading that names a party twice: its two counters would be taken for one that jumps.
func checkUnique(parties []Party) error {
	seen := make(map[ID]bool, len(parties))
	for _, p := range parties {
		if seen[p.ID] {
			return fmt.Errorf("checking party %+v: must appear once", p.ID)
		}
		seen[p.ID] = true
	}
	return nil
}

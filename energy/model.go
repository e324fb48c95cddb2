package energy

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// The default power of one CPU, in microwatts, for machines that cannot be measured: the averages per vCPU that the Cloud
// Carbon Footprint methodology states for AWS (0.74 W idle, 3.5 W fully used; its GCP and Azure averages are 0.71 to 4.26 W and
// 0.78 to 3.76 W). They are an assumption about a fleet, not a statement about this machine.
const (
	// DefaultStaticPerCPU is drawn by a CPU that does nothing.
	DefaultStaticPerCPU = 740_000
	// DefaultDynamicPerCPU is drawn beyond that by a CPU that is busy: 3.5 W - 0.74 W.
	DefaultDynamicPerCPU = 3_500_000 - DefaultStaticPerCPU
)

// maxWatts bounds what is taken for a machine's power: 1 MW is a data hall.
const maxWatts = 1e6

// Microwatts turns watts as people write them into the unit of this package. They must be 0 to 1e6.
func Microwatts(watts float64) (uint64, error) {
	if math.IsNaN(watts) || watts < 0 || watts > maxWatts {
		return 0, fmt.Errorf("reading power %v W: must be 0 to %g", watts, maxWatts)
	}
	return uint64(math.Round(watts * 1e6)), nil
}

// ModelOptions configure a Model. Powers are in microwatts.
type ModelOptions struct {
	// Static is the power of the idle node.
	Static uint64
	// PerCPU is the further power of one busy CPU.
	PerCPU uint64
	// Busy and Now are required.
	Busy Busy
	Now  func() time.Time
}

// Model is the meter of a machine without one: static power over time plus power per busy CPU second. It knows nothing of
// frequency, instructions or memory, so its numbers rank CPU time and no more; they are labelled as modelled.
// Not safe for concurrent use.
type Model struct {
	opts  ModelOptions
	start time.Time
	busy  Counter
	// busyNanoseconds since start.
	busyNanoseconds uint64
}

// NewModel checks the options.
func NewModel(opts ModelOptions) (*Model, error) {
	if opts.Busy == nil || opts.Now == nil {
		return nil, errors.New("creating power model: Busy and Now are required")
	}
	return &Model{opts: opts}, nil
}

// Info says that the numbers are modelled.
func (*Model) Info() Info { return Info{Source: SourceModel, Quality: QualityModelled} }

// Energy computes the energy since the first call, which is 0.
func (m *Model) Energy() ([]Zone, error) {
	busy, err := m.opts.Busy.Busy()
	if err != nil {
		return nil, fmt.Errorf("reading busy time for power model: %w", err)
	}
	now := m.opts.Now()
	if m.start.IsZero() {
		m.start = now
	}
	delta, _ := m.busy.Observe(now, busy.Nanoseconds, cpuLimits(busy.CPUs))
	m.busyNanoseconds += delta
	total, err := m.microjoules(now.Sub(m.start))
	if err != nil {
		return nil, err
	}
	// The model's own arithmetic needs no guard against impossible power: its inputs were guarded.
	return []Zone{{Name: "cpu", Microjoules: total, MaxMicrowatts: math.MaxUint64, Counted: true}}, nil
}

// microjoules is static*elapsed + perCPU*busy from the start on, so that rounding never adds up.
func (m *Model) microjoules(elapsed time.Duration) (uint64, error) {
	staticHi, staticLo := bits.Mul64(m.opts.Static, uint64(max(elapsed, 0)))
	busyHi, busyLo := bits.Mul64(m.opts.PerCPU, m.busyNanoseconds)
	lo, carry := bits.Add64(staticLo, busyLo, 0)
	hi, over := bits.Add64(staticHi, busyHi, carry)
	if over != 0 || hi >= uint64(time.Second) {
		return 0, errors.New("computing modelled energy: must be less than 2^64 microjoules")
	}
	total, _ := bits.Div64(hi, lo, uint64(time.Second))
	return total, nil
}

// cpuLimits bound a counter of CPU nanoseconds.
func cpuLimits(cpus uint64) Limits {
	return Limits{PerSecond: cpus * uint64(time.Second)}
}

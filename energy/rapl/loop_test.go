package rapl

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/energy"
)

// tick is how often the simulated hardware adds to its counter.
const tick = 10 * time.Millisecond

// load is one version under steady traffic on the simulated node.
type load struct {
	version string
	// rate is requests per second; each takes cpu on the processor, which draws watts while it runs.
	rate  int
	cpu   time.Duration
	watts uint64
}

// machine is a node of 4 CPUs in simulated time: its counter is a file that a real Meter reads, and its clocks are what
// the kernel would say. It keeps its own books of what every version truly used.
type machine struct {
	t     *testing.T
	path  string
	max   uint64
	loads []load
	// other is the CPU time per tick of everything else, at otherWatts.
	other      time.Duration
	otherWatts uint64
	idleWatts  uint64

	now     time.Time
	counter uint64
	total   uint64
	spent   map[string]uint64
	served  map[string]uint64
	cpu     map[string]time.Duration
	busy    time.Duration
}

func newMachine(t *testing.T, loads ...load) (*machine, string) {
	sysfs := t.TempDir()
	writeZoneFile(t, sysfs, "intel-rapl:0/name", "package-0\n")
	m := &machine{
		t: t, path: filepath.Join(sysfs, "class", "powercap", "intel-rapl:0", energyFile), max: 65532610987, loads: loads,
		other: tick / 4, otherWatts: 5, idleWatts: 20, now: time.Unix(1_700_000_000, 0), counter: 65_400_000_000,
		spent: map[string]uint64{}, served: map[string]uint64{}, cpu: map[string]time.Duration{},
	}
	m.write()
	writeZoneFile(t, sysfs, "intel-rapl:0/max_energy_range_uj", strconv.FormatUint(m.max, 10)+"\n")
	return m, sysfs
}

// write replaces the file by a rename, so that a read is never torn.
func (m *machine) write() {
	m.t.Helper()
	next := m.path + ".next"
	if err := os.WriteFile(next, []byte(strconv.FormatUint(m.counter, 10)+"\n"), 0o644); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(next, m.path); err != nil {
		m.t.Fatal(err)
	}
}

// run lets the machine work for d. W * us = uJ.
func (m *machine) run(d time.Duration) {
	m.t.Helper()
	for range d / tick {
		used := m.idleWatts*uint64(tick.Microseconds()) + m.otherWatts*uint64(m.other.Microseconds())
		m.busy += m.other
		for _, l := range m.loads {
			requests := l.rate * int(tick) / int(time.Second)
			cpu := time.Duration(requests) * l.cpu
			joules := l.watts * uint64(cpu.Microseconds())
			m.cpu[l.version] += cpu
			m.busy += cpu
			m.served[l.version] += uint64(requests)
			m.spent[l.version] += joules
			used += joules
		}
		m.now = m.now.Add(tick)
		m.total += used
		m.counter = (m.counter + used) % m.max
		m.write()
	}
}

func (m *machine) Usage() ([]energy.Party, error) {
	var parties []energy.Party
	for _, l := range m.loads {
		parties = append(parties, energy.Party{
			ID: energy.ID{Model: "coolant", Version: l.version}, CPU: uint64(m.cpu[l.version]), Inferences: m.served[l.version],
		})
	}
	return parties, nil
}

func (m *machine) Busy() (energy.BusyTime, error) {
	// The kernel counts in ticks of 10 ms.
	return energy.BusyTime{Nanoseconds: uint64(m.busy / tick * tick), CPUs: 4}, nil //nolint:durationcheck // rounds down to a tick
}

func (m *machine) collector(sysfs string) *energy.Collector {
	m.t.Helper()
	meter, err := New(Options{Sysfs: sysfs, Source: energy.SourceFixture})
	if err != nil {
		m.t.Fatal(err)
	}
	c, err := energy.NewCollector(energy.Options{
		StaticMicrowatts: m.idleWatts * 1e6, MaxMicrowatts: 200e6,
		Meter: meter, Usage: m, Busy: m, Now: func() time.Time { return m.now }, Ticks: make(chan time.Time),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.collect(c)
	return c
}

func (m *machine) collect(c *energy.Collector) {
	m.t.Helper()
	if err := c.Collect(); err != nil {
		m.t.Fatal(err)
	}
	if r := c.Totals().Residual(); r != 0 {
		m.t.Fatalf("residual %d uJ", r)
	}
}

// perInference is the dynamic energy of each version's inference in joules.
func perInference(c *energy.Collector) map[string]float64 {
	got := map[string]float64{}
	for _, p := range c.Totals().Parties {
		got[p.Version] = float64(p.Dynamic) / 1e6 / float64(p.Inferences)
	}
	return got
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tolerance*want {
		t.Errorf("%s: got %.5g, want %.5g within %g %%", what, got, want, 100*tolerance)
	}
}

func TestClosedLoop(t *testing.T) {
	cases := map[string]struct {
		reason string
		loads  []load
		want   map[string]float64 // joules per inference
	}{
		"AA": {
			"identical versions cost the same at 19 times the traffic: idle power is not spread over requests",
			[]load{{"v1", 1900, 500 * time.Microsecond, 5}, {"v2", 100, 500 * time.Microsecond, 5}},
			map[string]float64{"v1": 0.0025, "v2": 0.0025},
		},
		"TwiceTheCPU": {
			"a version with twice the CPU time per request costs twice the energy",
			[]load{{"v1", 900, 500 * time.Microsecond, 5}, {"v2", 100, time.Millisecond, 5}},
			map[string]float64{"v1": 0.0025, "v2": 0.005},
		},
		"UnequalPower": {
			"the honest limit: at equal CPU time, 5 W and 10 W per CPU are both seen as (2.5 + 5 + 1.25) W / 1.25 CPUs = 7 W",
			[]load{{"v1", 1000, 500 * time.Microsecond, 5}, {"v2", 1000, 500 * time.Microsecond, 10}},
			map[string]float64{"v1": 0.0035, "v2": 0.0035},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			m, sysfs := newMachine(t, tc.loads...)
			m.run(time.Second)
			before := m.total
			c := m.collector(sysfs)
			for range 12 {
				m.run(time.Second)
				m.collect(c)
			}
			if got := c.Totals().Measured; got != m.total-before {
				t.Errorf("measured %d uJ across a wrap, the machine used %d", got, m.total-before)
			}
			got := perInference(c)
			for v, want := range tc.want {
				near(t, tc.reason+": "+v, got[v], want, 0.02)
			}
		})
	}
}

// TestClosedLoopChaos: what goes wrong with a counter never shifts energy between versions, and never makes any.
func TestClosedLoopChaos(t *testing.T) {
	m, sysfs := newMachine(t, load{"v1", 900, 500 * time.Microsecond, 5}, load{"v2", 100, time.Millisecond, 5})
	c := m.collector(sysfs)
	start := m.total
	step := func(reason string, d time.Duration, lost uint64) {
		t.Helper()
		m.run(d)
		m.collect(c)
		if got := c.Totals().Measured; got != m.total-start-lost {
			t.Errorf("%s: measured %d uJ, want %d less %d lost", reason, got, m.total-start, lost)
		}
	}
	step("good", time.Second, 0)
	step("the reader is 30 s late, across a wrap", 30*time.Second, 0)

	stuck := m.counter
	m.run(time.Second)
	honest := m.counter
	m.counter = stuck
	m.write()
	m.collect(c)
	m.counter = honest
	step("a stuck counter is caught up", time.Second, 0)

	honest = m.counter
	for _, bad := range []uint64{4294967295000, m.max + 1, (honest + 20e9) % m.max} {
		m.counter = bad
		m.write()
		good := c.Totals().Measured
		m.collect(c)
		if got := c.Totals().Measured; got != good {
			t.Errorf("%d after %d: adds %d, want 0", bad, honest, got-good)
		}
	}
	m.counter = honest
	step("bad values are caught up", time.Second, 0)

	before := m.total
	m.counter = 100 // the counter is reset: a step back by 50 J, far from its end
	m.write()
	m.collect(c)
	m.run(time.Second)
	m.collect(c)
	lost := m.total - start - c.Totals().Measured
	if used := m.total - before; lost > used+1000 {
		t.Errorf("a reset loses what was used around it, %d uJ at most: lost %d", used, lost)
	}
	step("after the reset", 5*time.Second, lost)

	got := perInference(c)
	near(t, "v1 in spite of all", got["v1"], 0.0025, 0.02)
	near(t, "v2 in spite of all", got["v2"], 0.005, 0.02)

	again := m.collector(sysfs)
	if got := again.Totals().Measured; got != 0 {
		t.Errorf("a restart counts nothing twice: got %d uJ at once", got)
	}
}

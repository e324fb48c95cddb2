package energy

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func version(v string) ID { return ID{Model: "coolant", Version: v} }

// newTestCollector collects from the node by hand.
func newTestCollector(t *testing.T, node *fakeNode, opts Options) *Collector {
	t.Helper()
	opts.Meter, opts.Usage, opts.Busy = node, node, node
	opts.Now, opts.Ticks = node.Now, make(chan time.Time)
	c, err := NewCollector(opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (n *fakeNode) setZone(microjoules uint64) {
	n.zones = []Zone{{Name: "package-0", Microjoules: microjoules, Range: 1e12, Counted: true}}
}

func collect(t *testing.T, c *Collector) Totals {
	t.Helper()
	if err := c.Collect(); err != nil {
		t.Fatal(err)
	}
	return checkBooks(t, c)
}

// checkBooks is invariant 10, from the exported books alone.
func checkBooks(t *testing.T, c *Collector) Totals {
	t.Helper()
	books := c.Totals()
	if books.Residual() != 0 || books.Attributed()+books.Idle()+books.Unallocated != books.Measured {
		t.Fatalf("residual %d: measured %d, attributed %d, idle %d, unallocated %d", books.Residual(),
			books.Measured, books.Attributed(), books.Idle(), books.Unallocated)
	}
	return books
}

func TestCollectorSharesByCPUTime(t *testing.T) {
	node := newFakeNode()
	node.setZone(777e6)
	node.spend(time.Hour)
	node.parties = []Party{
		{ID: version("v1"), CPU: uint64(time.Hour), Inferences: 1000, Requests: 1000},
		{ID: version("v2"), CPU: 0},
	}
	c := newTestCollector(t, node, Options{StaticMicrowatts: 10e6})
	if books := collect(t, c); books.Measured != 0 {
		t.Errorf("the first reading measures nothing: got %d", books.Measured)
	}

	// In 2 s: 60 J, of which 20 J static. 1 s for v1, 0.5 s for v2, 2 s busy: the system has 0.5 s.
	node.advance(2 * time.Second)
	node.spend(2 * time.Second)
	node.setZone(777e6 + 60e6)
	node.parties[0].CPU += uint64(time.Second)
	node.parties[0].Inferences += 40
	node.parties[1].CPU += uint64(time.Second / 2)
	node.parties[1].Inferences += 10

	want := Totals{
		Measured: 60e6, System: 10e6, Unallocated: 15e6, Zones: []ZoneTotal{{"package-0", 60e6}},
		Parties: []PartyTotal{
			{ID: version("v1"), Dynamic: 20e6, Idle: 5e6, CPU: uint64(time.Second), Inferences: 40},
			{ID: version("v2"), Dynamic: 10e6, CPU: uint64(time.Second / 2), Inferences: 10},
		},
		Failures: map[Reader]uint64{}, Refusals: map[Refusal]uint64{},
	}
	if diff := cmp.Diff(want, collect(t, c)); diff != "" {
		t.Errorf("books: -want +got:\n%s", diff)
	}
}

func TestCollectorOverlappingZones(t *testing.T) {
	node := newFakeNode()
	set := func(p0, p1, core uint64) {
		node.zones = []Zone{
			{Name: "package-0", Microjoules: p0 * 1e6, Range: 1000e6, Counted: true},
			{Name: "package-1", Microjoules: p1 * 1e6, Range: 1000e6, Counted: true},
			{Name: "core-0", Microjoules: core * 1e6, Range: 1000e6},
		}
	}
	c := newTestCollector(t, node, Options{})
	for _, s := range []struct{ p0, p1, core, want uint64 }{
		{100, 200, 50, 0}, {900, 800, 60, 1400}, {100, 850, 70, 1400 + 200 + 50},
	} {
		set(s.p0, s.p1, s.core)
		if got := collect(t, c).Measured; got != s.want*1e6 {
			t.Errorf("sockets at %d and %d J: measured %d uJ, want %d J", s.p0, s.p1, got, s.want)
		}
		node.advance(10 * time.Second)
	}
	if got := c.Totals().Zones[2]; got != (ZoneTotal{"core-0", 20e6}) {
		t.Errorf("an overlapping zone is shown: got %+v", got)
	}
	node.zones, node.meterErr = node.zones[:1], errUnplugged
	node.zones[0].Microjoules += 10e6
	if err := c.Collect(); !errors.Is(err, errUnplugged) {
		t.Errorf("a zone that fails is reported: got %v", err)
	}
	if got := checkBooks(t, c); got.Measured != 1660e6 || got.Failures[ReaderMeter] != 1 {
		t.Errorf("the other zones count on: got %d, failures %v", got.Measured, got.Failures)
	}
}

// While a party cannot be read, nobody else gets its energy; after 30 s the others get theirs.
func TestCollectorWaitsForMissingParties(t *testing.T) {
	node := newFakeNode()
	v1, v2 := Party{ID: version("v1")}, Party{ID: version("v2")}
	c := newTestCollector(t, node, Options{})
	step := func(joules uint64, missing bool) Totals {
		node.advance(10 * time.Second)
		node.spend(2 * time.Second)
		v1.CPU += uint64(time.Second)
		v2.CPU += uint64(time.Second)
		node.setZone(joules * 1e6)
		node.parties, node.usageErr = []Party{v1, v2}, nil
		if missing {
			node.parties, node.usageErr = node.parties[:1], errUnplugged
		}
		if err := c.Collect(); errors.Is(err, errUnplugged) != missing {
			t.Errorf("Collect() = %v", err)
		}
		return checkBooks(t, c)
	}
	step(0, false)
	for _, s := range []struct {
		reason  string
		joules  uint64
		missing bool
		v1, v2  uint64
	}{
		{"all there", 10, false, 5, 5},
		{"v2 missing", 20, true, 5, 5},
		{"v2 missing again", 30, true, 5, 5},
		{"v2 back: nothing shifted", 40, false, 20, 20},
		{"missing", 50, true, 20, 20},
		{"missing", 60, true, 20, 20},
		{"missing for too long: v1 gets its own 15 J, the rest is nobody's yet", 70, true, 35, 20},
	} {
		books := step(s.joules, s.missing)
		if got := [2]uint64{books.Parties[0].Dynamic, books.Parties[1].Dynamic}; got != [2]uint64{s.v1 * 1e6, s.v2 * 1e6} {
			t.Errorf("%s: got %v, want %d and %d J", s.reason, got, s.v1, s.v2)
		}
	}
	if got := c.Totals().System; got != 15e6 {
		t.Errorf("what the missing party used is the system's: got %d", got)
	}
}

func TestCollectorCatchesUp(t *testing.T) {
	cases := map[string]struct {
		reason       string
		break_, mend func(*fakeNode)
	}{
		"Meter":   {"no zone can be read", func(n *fakeNode) { n.zones, n.meterErr = nil, errUnplugged }, func(n *fakeNode) { n.meterErr = nil }},
		"Usage":   {"no party can be read", func(n *fakeNode) { n.parties, n.usageErr = nil, errUnplugged }, func(n *fakeNode) { n.usageErr = nil }},
		"Busy":    {"no busy time", func(n *fakeNode) { n.busyErr = errUnplugged }, func(n *fakeNode) { n.busyErr = nil }},
		"NoZones": {"a meter that says nothing", func(n *fakeNode) { n.zones = nil }, func(*fakeNode) {}},
		"Twice":   {"a party named twice", func(n *fakeNode) { n.parties = append(n.parties, n.parties[0]) }, func(*fakeNode) {}},
		"Sentinel": {
			"the meter's value means nothing: what parties used waits for the energy it cost",
			func(n *fakeNode) { n.setZone(4294967295000) }, func(*fakeNode) {},
		},
		"Stuck": {"the meter stands still for an interval", func(n *fakeNode) { n.setZone(5e6) }, func(*fakeNode) {}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			node := newFakeNode()
			v1 := Party{ID: version("v1")}
			step := func(microjoules uint64, cpu time.Duration) {
				node.advance(time.Second)
				node.spend(cpu)
				v1.CPU += uint64(cpu)
				v1.Inferences++
				node.parties = []Party{v1}
				node.setZone(microjoules)
			}
			c := newTestCollector(t, node, Options{StaticMicrowatts: 1e6})
			step(5e6, 0)
			collect(t, c)

			step(8e6, time.Second)
			tc.break_(node)
			err := c.Collect()
			if silent := name == "Sentinel" || name == "Stuck"; (err == nil) != silent {
				t.Errorf("%s: Collect() = %v", tc.reason, err)
			}
			if books := checkBooks(t, c); books.Measured != 0 {
				t.Errorf("%s: a failed read adds 0, got %d", tc.reason, books.Measured)
			}

			tc.mend(node)
			step(12e6, time.Second/2)
			books := collect(t, c)
			// 7 J since the last good read, of which 2 s at 1 W are static, all the rest is v1's.
			if books.Measured != 7e6 || books.Unallocated != 2e6 || books.System != 0 {
				t.Errorf("%s: it catches up: got %+v", tc.reason, books)
			}
			want := PartyTotal{ID: version("v1"), Dynamic: 5e6, CPU: uint64(3 * time.Second / 2), Inferences: 2}
			if diff := cmp.Diff([]PartyTotal{want}, books.Parties); diff != "" {
				t.Errorf("%s: -want +got:\n%s", tc.reason, diff)
			}
		})
	}
}

// A party's restart, and a party with a long past that was not seen before, never count what was counted or never was.
func TestCollectorNewAndRestartedParties(t *testing.T) {
	node := newFakeNode()
	cpu := func(seconds float64) uint64 { return uint64(seconds * float64(time.Second)) }
	steps := []struct {
		reason  string
		parties []Party
		want    map[string][2]uint64 // CPU ns and inferences by version
	}{
		{
			"what was there before the start is past",
			[]Party{{ID: version("v1"), CPU: cpu(9), Inferences: 90}},
			map[string][2]uint64{"v1": {0, 0}},
		},
		{
			"a new party counts from 0",
			[]Party{{ID: version("v1"), CPU: cpu(9.5), Inferences: 95}, {ID: version("v2"), CPU: cpu(0.2), Inferences: 2}},
			map[string][2]uint64{"v1": {cpu(0.5), 5}, "v2": {cpu(0.2), 2}},
		},
		{
			"v1 restarted, v3 has a past of an hour",
			[]Party{{ID: version("v1"), CPU: cpu(0.1), Inferences: 1}, {ID: version("v3"), CPU: cpu(3600), Inferences: 1e6}},
			map[string][2]uint64{"v1": {cpu(0.5), 5}, "v2": {cpu(0.2), 2}, "v3": {0, 0}},
		},
		{
			"both go on from what was refused",
			[]Party{{ID: version("v1"), CPU: cpu(0.3), Inferences: 3}, {ID: version("v3"), CPU: cpu(3600.5), Inferences: 1e6 + 4}},
			map[string][2]uint64{"v1": {cpu(0.7), 7}, "v2": {cpu(0.2), 2}, "v3": {cpu(0.5), 4}},
		},
	}
	c := newTestCollector(t, node, Options{})
	for i, s := range steps {
		node.advance(time.Second)
		node.spend(2 * time.Second)
		node.setZone(uint64(i) * 10e6)
		node.parties = s.parties
		got := map[string][2]uint64{}
		for _, p := range collect(t, c).Parties {
			got[p.Version] = [2]uint64{p.CPU, p.Inferences}
		}
		if diff := cmp.Diff(s.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", s.reason, diff)
		}
	}
	refused := c.Totals().Refusals
	if refused[Refusal{ReaderUsage, Reset}] != 1 || refused[Refusal{ReaderUsage, Jump}] != 1 {
		t.Errorf("refusals are counted: got %v", refused)
	}
}

// A pod contains its versions: its own share is the rest, and its requests go with the CPU time.
func TestCollectorVersionsInPods(t *testing.T) {
	node := newFakeNode()
	pod := func(uid string, cpu time.Duration, requests uint64) Party {
		return Party{ID: ID{Instance: uid}, CPU: uint64(cpu), Requests: requests}
	}
	served := func(uid, v string, cpu time.Duration) Party {
		return Party{ID: ID{uid, "coolant", v}, CPU: uint64(cpu)}
	}
	node.setZone(0)
	node.parties = []Party{pod("a", 0, 2000), pod("b", 0, 1000), served("a", "v1", 0), served("a", "v2", 0)}
	c := newTestCollector(t, node, Options{StaticMicrowatts: 4e6})
	collect(t, c)

	// 14 J in 1 s: 4 J static of 4 CPUs; 10 J dynamic over 1 s busy.
	node.advance(time.Second)
	node.spend(time.Second)
	node.setZone(14e6)
	node.parties = []Party{
		pod("a", 800*time.Millisecond, 2000), pod("b", 100*time.Millisecond, 1000),
		served("a", "v1", 400*time.Millisecond), served("a", "v2", 200*time.Millisecond),
	}
	books := collect(t, c)
	got := map[ID][2]uint64{}
	for _, p := range books.Parties {
		got[p.ID] = [2]uint64{p.Dynamic, p.Idle}
	}
	want := map[ID][2]uint64{
		{Instance: "a"}:        {2e6, 0.5e6},
		{Instance: "b"}:        {1e6, 1e6},
		{"a", "coolant", "v1"}: {4e6, 1e6},
		{"a", "coolant", "v2"}: {2e6, 0.5e6},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if books.System != 1e6 || books.Unallocated != 1e6 {
		t.Errorf("system and unallocated: got %d and %d, want 1 J each", books.System, books.Unallocated)
	}
}

// When parts are read a little later than the whole, the excess is taken back and not given twice.
func TestSpareCarriesSkew(t *testing.T) {
	var s spare
	for _, step := range []struct{ whole, parts, want uint64 }{
		{100, 60, 40},
		{100, 130, 0},
		{100, 60, 10},
		{100, 60, 40},
		{0, uint64(time.Hour), 0},
		{uint64(time.Second), 0, 0},
		{7, 0, 7},
	} {
		if got := s.of(step.whole, step.parts); got != step.want {
			t.Errorf("of(%d, %d) = %d, want %d", step.whole, step.parts, got, step.want)
		}
	}
}

func TestCollectorClosesEndedPods(t *testing.T) {
	node := newFakeNode()
	c := newTestCollector(t, node, Options{KeepEnded: time.Minute})
	var joules uint64
	step := func(d time.Duration, parties ...Party) Totals {
		node.advance(d)
		node.spend(time.Second)
		joules += 5e6
		node.setZone(joules)
		node.parties = parties
		return collect(t, c)
	}
	gone, kept := Party{ID: ID{Instance: "gone"}}, Party{ID: version("v1")}
	step(0, gone, kept)
	gone.CPU, kept.CPU = 4e8, 4e8
	step(time.Second, gone, kept)
	if books := step(time.Minute); len(books.Parties) != 2 || books.EndedDynamic != 0 {
		t.Errorf("a minute later the pod is still shown: got %+v", books)
	}
	books := step(time.Second)
	if len(books.Parties) != 1 || books.Parties[0].Version != "v1" || books.EndedDynamic != 2e6 {
		t.Errorf("then its books are closed, a version's are not: got %+v", books)
	}
	if books := step(time.Second, gone); len(books.Parties) != 2 || books.Parties[1].CPU != gone.CPU {
		t.Errorf("a uid that comes back is a new pod: got %+v", books)
	}
}

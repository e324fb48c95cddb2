package energy

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeNode is a node whose clock, CPUs and counters a test moves.
type fakeNode struct {
	now      time.Time
	busy     BusyTime
	busyErr  error
	parties  []Party
	usageErr error
	zones    []Zone
	meterErr error
	info     Info
}

func newFakeNode() *fakeNode {
	return &fakeNode{now: epoch, busy: BusyTime{CPUs: 4}, info: Info{SourceFixture, QualityMeasured}}
}

func (n *fakeNode) Now() time.Time           { return n.now }
func (n *fakeNode) Busy() (BusyTime, error)  { return n.busy, n.busyErr }
func (n *fakeNode) Usage() ([]Party, error)  { return n.parties, n.usageErr }
func (n *fakeNode) Energy() ([]Zone, error)  { return n.zones, n.meterErr }
func (n *fakeNode) Info() Info               { return n.info }
func (n *fakeNode) advance(d time.Duration)  { n.now = n.now.Add(d) }
func (n *fakeNode) spend(busy time.Duration) { n.busy.Nanoseconds += uint64(busy) }

var errUnplugged = errors.New("unplugged")

func TestModel(t *testing.T) {
	node := newFakeNode()
	node.spend(time.Hour)
	m, err := NewModel(ModelOptions{Static: 10e6, PerCPU: 5e6, Busy: node, Now: node.Now})
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		reason        string
		elapsed, busy time.Duration
		want          uint64
	}{
		{"the first call is the start, whatever the node did before", 0, 0, 0},
		{"10 W for 2 s and 5 W for 3 CPU seconds", 2 * time.Second, 3 * time.Second, 35e6},
		{"an idle second", time.Second, 0, 45e6},
		{"a nanosecond rounds down, and is not lost", time.Nanosecond, 0, 45e6},
		{"the rest of a microjoule", 99 * time.Nanosecond, 0, 45e6 + 1},
		{"100 CPU seconds in one second on 4 CPUs are refused", time.Second - 100, 100 * time.Second, 55e6},
	}
	for _, s := range steps {
		node.advance(s.elapsed)
		node.spend(s.busy)
		zones, err := m.Energy()
		if err != nil {
			t.Fatal(err)
		}
		want := []Zone{{Name: "cpu", Microjoules: s.want, MaxMicrowatts: math.MaxUint64, Counted: true}}
		if diff := cmp.Diff(want, zones); diff != "" {
			t.Errorf("%s: -want +got:\n%s", s.reason, diff)
		}
	}
	if got := m.Info(); got != (Info{SourceModel, QualityModelled}) {
		t.Errorf("a model must say that it is one: got %+v", got)
	}
}

func TestModelErrors(t *testing.T) {
	if _, err := NewModel(ModelOptions{}); err == nil {
		t.Error("NewModel without Busy and Now: got no error")
	}
	node := newFakeNode()
	node.busyErr = errUnplugged
	m, err := NewModel(ModelOptions{Busy: node, Now: node.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Energy(); !errors.Is(err, errUnplugged) {
		t.Errorf("Energy without busy time: got %v", err)
	}
	huge, err := NewModel(ModelOptions{Static: math.MaxUint64, Busy: newFakeNode(), Now: node.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := huge.Energy(); err != nil {
		t.Fatal(err)
	}
	node.advance(time.Hour)
	if zones, err := huge.Energy(); err == nil {
		t.Errorf("more than 2^64 microjoules: got %v", zones)
	}
}

func TestMicrowatts(t *testing.T) {
	cases := map[string]struct {
		watts float64
		want  uint64
		bad   bool
	}{
		"Zero": {watts: 0}, "Fraction": {watts: 0.74, want: DefaultStaticPerCPU},
		"Negative": {watts: -1, bad: true}, "NaN": {watts: math.NaN(), bad: true},
		"Infinite": {watts: math.Inf(1), bad: true}, "DataHall": {watts: 1e6, want: 1e12}, "Beyond": {watts: 1.1e6, bad: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Microwatts(tc.watts)
			if got != tc.want || (err != nil) != tc.bad {
				t.Errorf("Microwatts(%v) = %d, %v; want %d, error %v", tc.watts, got, err, tc.want, tc.bad)
			}
		})
	}
}

func TestUsageBusy(t *testing.T) {
	node := newFakeNode()
	node.parties = []Party{{CPU: 5}, {ID: ID{Model: "m"}, CPU: 7}}
	got, err := UsageBusy(node, 0).Busy()
	if want := (BusyTime{Nanoseconds: 12, CPUs: 1}); got != want || err != nil {
		t.Errorf("Busy() = %+v, %v; want %+v", got, err, want)
	}
	node.usageErr = errUnplugged
	if _, err := UsageBusy(node, 2).Busy(); !errors.Is(err, errUnplugged) {
		t.Errorf("Busy() with a failing usage: got %v", err)
	}
}

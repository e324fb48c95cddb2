package energy

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Conservation and monotone counters under random loads, failures, wraps, resets, and pods that come and go.
func TestCollectorConservation(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 7))
		node := newFakeNode()
		world := map[ID]*Party{}
		zones := make([]Zone, 3)
		for i := range zones {
			zones[i] = Zone{Name: fmt.Sprint("package-", i), Range: 200e6, Counted: i < 2, Microjoules: rng.Uint64N(200e6)}
		}
		c := newTestCollector(t, node, Options{StaticMicrowatts: rng.Uint64N(30e6), KeepEnded: 20 * time.Second})
		last := map[ID]PartyTotal{}
		var before Totals
		for range 300 {
			shake(rng, node, world, zones)
			_ = c.Collect() // failures are part of the test
			now := checkBooks(t, c)
			checkNeverFalls(t, before, now, last)
			before = now
		}
		if before.Measured == 0 || len(before.Refusals) == 0 || len(before.Failures) != 3 || before.EndedDynamic == 0 {
			t.Errorf("seed %d did not shake enough: %+v", seed, before)
		}
	}
}

// shake moves the node on by a random step.
func shake(rng *rand.Rand, node *fakeNode, world map[ID]*Party, zones []Zone) {
	elapsed := time.Duration(rng.Int64N(int64(3 * time.Second)))
	node.advance(elapsed)
	for i := range zones {
		zones[i].Microjoules = (zones[i].Microjoules + rng.Uint64N(uint64(elapsed)/20+1)) % (zones[i].Range + 1)
		if rng.IntN(50) == 0 {
			zones[i].Microjoules = rng.Uint64N(zones[i].Range * 2)
		}
	}
	ids := []ID{version("v1"), version("v2"), {"p1", "coolant", "v1"}, {Instance: "p1"}, {Instance: fmt.Sprint("p", rng.IntN(12))}}
	for _, id := range ids {
		if world[id] == nil {
			world[id] = &Party{ID: id, Requests: rng.Uint64N(900)}
		}
	}
	node.parties = nil
	for id, p := range world {
		cpu := rng.Uint64N(uint64(elapsed)/4 + 1)
		p.CPU += cpu
		p.Inferences += rng.Uint64N(50)
		node.busy.Nanoseconds += cpu + rng.Uint64N(uint64(elapsed)/8+1)
		switch rng.IntN(60) {
		case 0:
			p.CPU, p.Inferences = 0, 0
		case 1:
			delete(world, id)
			continue
		case 2:
			continue
		}
		node.parties = append(node.parties, *p)
	}
	node.zones = append([]Zone(nil), zones...)
	node.meterErr, node.usageErr, node.busyErr = nil, nil, nil
	switch rng.IntN(20) {
	case 0:
		node.zones, node.meterErr = node.zones[:rng.IntN(3)], errUnplugged
	case 1:
		node.parties, node.usageErr = node.parties[:rng.IntN(len(node.parties)+1)], errUnplugged
	case 2:
		node.busyErr = errUnplugged
	}
}

func checkNeverFalls(t *testing.T, before, now Totals, last map[ID]PartyTotal) {
	t.Helper()
	if now.Measured < before.Measured || now.System < before.System || now.Unallocated < before.Unallocated ||
		now.Attributed() < before.Attributed() || now.Idle() < before.Idle() {
		t.Fatalf("a total fell: %+v, then %+v", before, now)
	}
	for i, z := range before.Zones {
		if now.Zones[i].Microjoules < z.Microjoules {
			t.Fatalf("zone %s fell", z.Name)
		}
	}
	seen := map[ID]bool{}
	for _, p := range now.Parties {
		seen[p.ID] = true
		if l := last[p.ID]; p.Dynamic < l.Dynamic || p.Idle < l.Idle || p.CPU < l.CPU || p.Inferences < l.Inferences {
			t.Fatalf("a party fell: %+v, then %+v", l, p)
		}
		last[p.ID] = p
	}
	for id := range last {
		if !seen[id] {
			delete(last, id)
		}
	}
}

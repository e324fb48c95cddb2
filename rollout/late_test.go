package rollout

import (
	"testing"
	"time"
)

// TestAwaited looks every second for something that comes after five minutes: what is noted is never too early, changes once a
// minute, and is right once it has come.
func TestAwaited(t *testing.T) {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	comes := began.Add(5 * time.Minute)
	noted, changes := began.Add(-time.Hour), 0
	now := began.Add(time.Second)
	if first := Awaited(noted, began, now); !first.Equal(now) {
		t.Errorf("at the first look it is noted for %s, want %s", first.Format(time.TimeOnly), now.Format(time.TimeOnly))
	}
	for ; now.Before(comes); now = now.Add(time.Second) {
		next := Awaited(noted, began, now)
		if next.Before(now) {
			t.Fatalf("at %s it is noted for %s", now.Format(time.TimeOnly), next.Format(time.TimeOnly))
		}
		if !next.Equal(noted) {
			changes++
		}
		noted = next
	}
	if changes != 6 {
		t.Errorf("what is noted changed %d times in five minutes, want 6", changes)
	}
	if got := Arrived(noted, now); !got.Equal(comes) {
		t.Errorf("once it has come it is noted for %s, want %s", got.Format(time.TimeOnly), comes.Format(time.TimeOnly))
	}
	if got := Arrived(comes, now.Add(time.Hour)); !got.Equal(comes) {
		t.Errorf("an hour later it is noted for %s, want %s", got.Format(time.TimeOnly), comes.Format(time.TimeOnly))
	}
}

// TestLeftUnsettled: the delay of a version that was left does not begin before the routes are settled, and what is stored of it
// does not change with every look until then.
func TestLeftUnsettled(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s, w, changes := Scaling{Delay: time.Minute}, Workload{Part: PartLeft, Replicas: 3}, 0
	plan := func(settled bool) {
		next := s.Plan(Stand{Settled: settled, Now: now}, []Workload{w})[0]
		if !next.Since.Equal(w.Since) {
			changes++
		}
		if w = next; w.Wanted != 3 {
			t.Fatalf("at %s it is to have %d replicas, want 3", now.Format(time.TimeOnly), w.Wanted)
		}
	}
	for range 120 {
		plan(false)
		now = now.Add(time.Second)
	}
	if changes > 4 {
		t.Errorf("what is stored changed %d times in 120 looks, want at most 4", changes)
	}
	settled := now
	for ; now.Before(settled.Add(s.Delay)); now = now.Add(time.Second) {
		plan(true)
	}
	if got := s.Plan(Stand{Settled: true, Now: now}, []Workload{w})[0].Wanted; got != 0 {
		t.Errorf("when the delay is over it is to have %d replicas, want none", got)
	}
}

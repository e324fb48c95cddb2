package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/siskin-dev/siskin/rollout"
)

// memoryUnits is a Units in memory that can be told to fail.
type memoryUnits struct {
	mu   sync.Mutex
	fail error
	seen map[string]bool
	asks int
}

func (u *memoryUnits) First(_ context.Context, epoch, unit string) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asks++
	if u.fail != nil {
		return false, u.fail
	}
	if u.seen == nil {
		u.seen = map[string]bool{}
	}
	first := !u.seen[epoch+unit]
	u.seen[epoch+unit] = true
	return first, nil
}

// fleet is units that meet versions by their bucket, and a clock.
type fleet struct {
	*assignments
	registry *prometheus.Registry
	clock    time.Time
}

func newFleet(units Units, spread time.Duration) *fleet {
	f := &fleet{registry: prometheus.NewRegistry(), clock: time.Unix(1_700_000_000, 0)}
	f.assignments = f.process(units, spread)
	return f
}

// process is what a restart, or another replica, brings.
func (f *fleet) process(units Units, spread time.Duration) *assignments {
	metrics := NewMetrics(nil)
	if f.metricsOf() == nil {
		metrics = NewMetrics(f.registry)
	} else {
		metrics.units = f.metricsOf().units
	}
	return newAssignments(Options{
		Model: "coolant", UnitSpread: spread, Units: units, Metrics: metrics, Now: func() time.Time { return f.clock },
	})
}

func (f *fleet) metricsOf() *Metrics {
	if f.assignments == nil {
		return nil
	}
	return f.metrics
}

// drive lets n units be answered once; those of the first weight buckets by the canary.
func (f *fleet) drive(t testing.TB, n, weight int) {
	t.Helper()
	for i := range n {
		unit, version := fmt.Sprintf("unit-%d", i), "v1"
		if rollout.BucketOf("coolant", unit) < weight {
			version = "v2"
		}
		f.met(t.Context(), unit, version)
	}
}

func (f *fleet) counts(t testing.TB) (stable, canary float64) {
	t.Helper()
	return value(t, f.registry, "siskin_units_total", "v1"), value(t, f.registry, "siskin_units_total", "v2")
}

func (f *fleet) want(t testing.TB, reason string, stable, canary float64) {
	t.Helper()
	if s, c := f.counts(t); s != stable || c != canary {
		t.Errorf("%s: counted %g and %g units, want %g and %g", reason, s, c, stable, canary)
	}
}

// TestUnitsAreCountedOnce follows a fleet of 1000 through a run.
func TestUnitsAreCountedOnce(t *testing.T) {
	const n = 1000
	for _, units := range []Units{nil, &memoryUnits{}} {
		f := newFleet(units, 0)
		f.drive(t, n, 0)
		f.want(t, "one version assigns nothing", 0, 0)
		f.met(t.Context(), "unit-0", "v2") // somebody is the first
		before, _ := f.counts(t)
		f.drive(t, n, 20)
		f.drive(t, n, 20)
		s, c := f.counts(t)
		if s+c != n || before != 0 {
			t.Fatalf("counted %g and %g units, want %d in all", s, c, n)
		}
		f.drive(t, n, 50)
		f.want(t, "a unit that moves is not assigned anew", s, c)
		f.drive(t, n+100, 50)
		if s2, c2 := f.counts(t); s2+c2 != n+100 {
			t.Errorf("counted %g and %g units, want %d in all: newcomers are assigned", s2, c2, n+100)
		}
	}
}

// TestUnitsSurviveRestarts: another process, and another replica, count nobody again.
func TestUnitsSurviveRestarts(t *testing.T) {
	const n = 500
	memory := &memoryUnits{}
	f := newFleet(memory, 0)
	f.drive(t, n, 20)
	f.drive(t, n, 20)
	s, c := f.counts(t)
	f.assignments = f.process(memory, 0)
	f.drive(t, n, 50)
	f.drive(t, n, 50)
	f.want(t, "restarted", s, c)
	f.clock = f.clock.Add(2 * forgetVersion)
	f.drive(t, n, 0)
	f.drive(t, n, 50)
	f.drive(t, n, 50)
	f.want(t, "the canary was silent for a while and came back", s, c)
	if s+c != n {
		t.Errorf("counted %g and %g units, want %d in all", s, c, n)
	}
}

// TestUnitsOfANewRun: a version that was not there before begins anew.
func TestUnitsOfANewRun(t *testing.T) {
	const n = 300
	f := newFleet(&memoryUnits{}, 0)
	f.drive(t, n, 20)
	f.drive(t, n, 20)
	for range 2 {
		for i := range n {
			f.met(t.Context(), fmt.Sprintf("unit-%d", i), "v3")
		}
	}
	if got := value(t, f.registry, "siskin_units_total", "v3"); got != n {
		t.Errorf("v3 was assigned %g units, want %d", got, n)
	}
}

// TestUnitsTakeTurns: counts are spread evenly, and each part of them shares the units out as the weight says.
func TestUnitsTakeTurns(t *testing.T) {
	const n, weight, parts = 20_000, 20, 10
	f := newFleet(nil, 5*time.Minute)
	f.drive(t, 1, 0)
	f.met(t.Context(), "first", "v2") // the clock of turns begins
	total := 0.0
	for part := range parts {
		f.clock = f.clock.Add(5 * time.Minute / parts)
		s0, c0 := f.counts(t)
		f.drive(t, n, weight)
		s1, c1 := f.counts(t)
		counted, canary := s1+c1-s0-c0, c1-c0
		if sd := math.Sqrt(n * 0.1 * 0.9); math.Abs(counted-n/parts) > 5*sd {
			t.Errorf("part %d: counted %g units, want about %d", part, counted, n/parts)
		}
		if sd := math.Sqrt(counted * 0.2 * 0.8); math.Abs(canary-counted*weight/100) > 5*sd {
			t.Errorf("part %d: %g of %g units are the canary's, want %d %%", part, canary, counted, weight)
		}
		total += counted
	}
	if total < n || total > n+1 {
		t.Errorf("counted %g units in all, want %d", total, n)
	}
}

// TestUnitsWithoutMemory: while nobody can say whether a unit was counted it is not, and it is asked about again.
func TestUnitsWithoutMemory(t *testing.T) {
	memory := &memoryUnits{fail: errors.New("connection refused")}
	f := newFleet(memory, 0)
	f.drive(t, 100, 20)
	f.want(t, "nobody can tell", 0, 0)
	memory.fail = nil
	f.drive(t, 100, 20)
	if s, c := f.counts(t); s+c != 100 {
		t.Errorf("counted %g and %g units, want 100", s, c)
	}
	asked := memory.asks
	f.drive(t, 100, 20)
	if memory.asks != asked {
		t.Errorf("asked %d times about units that were counted", memory.asks-asked)
	}
}

// TestUnitsAreBounded: however many units there are, two generations are remembered.
func TestUnitsAreBounded(t *testing.T) {
	f := newFleet(nil, 0)
	f.met(t.Context(), "a", "v1")
	for i := range 3 * maxUnits {
		f.met(t.Context(), fmt.Sprint(i), "v2")
	}
	if n := len(f.counted) + len(f.assignments.before); n > 2*maxUnits {
		t.Errorf("%d units are remembered, want at most %d", n, 2*maxUnits)
	}
	for i := range 10 * maxVersions {
		f.met(t.Context(), "a", fmt.Sprint("v", i))
	}
	if n := len(f.versions); n > maxVersions {
		t.Errorf("%d versions are remembered, want at most %d", n, maxVersions)
	}
}

// TestConcurrentUnits: many workers at once count each unit at most once.
func TestConcurrentUnits(t *testing.T) {
	const n = 200
	f := newFleet(&memoryUnits{}, 0)
	f.drive(t, n, 20) // both versions are known now
	s0, c0 := f.counts(t)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() { f.drive(t, n, 20) })
	}
	workers.Wait()
	f.drive(t, n, 20)
	if s, c := f.counts(t); s+c != n || s < s0 || c < c0 {
		t.Errorf("counted %g and %g units, want %d in all", s, c, n)
	}
}

// TestServerCountsUnits: each vehicle counts once, however much it sends, and one whose predictions fail does not.
func TestServerCountsUnits(t *testing.T) {
	const vehicles = 60
	byBucket := predictorFunc(func(_ context.Context, bucket int, _ []float64) (Prediction, error) {
		switch {
		case bucket < 10:
			return Prediction{}, errors.New("connection refused")
		case bucket < 40:
			return Prediction{90, "v2"}, nil
		}
		return Prediction{90, "v1"}, nil
	})
	s, reg := newServer(t, &memoryLog{}, byBucket, func(o *Options) { o.UnitSpread, o.Workers = 1, 1 })
	want := map[string]float64{}
	for round := range 3 {
		for i := range vehicles {
			vin := fmt.Sprintf("SSKNFLEET%08d", i)
			body := fmt.Sprintf(`{"seq":%d,"Vehicle.OBD.EngineSpeed":900,"Vehicle.OBD.RunTime":9,"Vehicle.OBD.CoolantTemperature":90}`, round)
			if w := post(s, vin, body); w.Code != 202 {
				t.Fatalf("POST = %d: %s", w.Code, w.Body)
			}
			if round == 0 {
				switch b := rollout.BucketOf("coolant", s.options.Pseudonyms.Pseudonym(vin)); {
				case b >= 40:
					want["v1"]++
				case b >= 10:
					want["v2"]++
				}
			}
		}
	}
	// The clock of the test stands still, and the spread is a nanosecond: a vehicle's turn is now.
	drained(t, s)
	for version, n := range want {
		if got := value(t, reg, "siskin_units_total", "coolant", version); got != n || n == 0 {
			t.Errorf("%s was assigned %g vehicles, want %g", version, got, n)
		}
	}
}

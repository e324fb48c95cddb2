package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLanesKeepOrder(t *testing.T) {
	type item struct{ key, n int }
	const keys, items, workers = 20, 50, 8
	l := newLanes[item](items, keys*items)
	var mu sync.Mutex
	got := map[int][]int{}
	var running [keys]atomic.Bool
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			l.work(func(it item) {
				if !running[it.key].CompareAndSwap(false, true) {
					t.Errorf("two items of key %d at one time", it.key)
				}
				mu.Lock()
				got[it.key] = append(got[it.key], it.n)
				mu.Unlock()
				running[it.key].Store(false)
			})
		})
	}
	for n := range items {
		for k := range keys {
			if err := l.push(fmt.Sprint(k), item{k, n}); err != nil {
				t.Fatal(err)
			}
		}
	}
	<-l.close()
	all.Wait()
	for k := range keys {
		for n := range items {
			if got[k][n] != n {
				t.Fatalf("key %d: item %d came as number %d", k, got[k][n], n)
			}
		}
	}
	if len(l.byKey) != 0 || l.depth() != 0 {
		t.Errorf("%d keys and %d items are left", len(l.byKey), l.depth())
	}
}

// TestLanesAreBounded also finds that a full lane does not close the others.
func TestLanesAreBounded(t *testing.T) {
	l := newLanes[int](2, 3)
	var got []error
	for _, key := range []string{"a", "a", "a", "b", "c"} {
		got = append(got, l.push(key, 1))
	}
	if diff := cmp.Diff([]error{nil, nil, errBusy, nil, errFull}, got, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); diff != "" {
		t.Error(diff)
	}
	idle := l.close()
	if err := l.push("d", 1); !errors.Is(err, errClosed) {
		t.Errorf("got %v, want errClosed", err)
	}
	if n := l.dropAll(); n != 3 {
		t.Errorf("dropped %d, want 3", n)
	}
	<-idle
}

// TestSlowVehicleHoldsUpNobody has one vehicle's prediction hang; the others' go on with the second worker.
func TestSlowVehicleHoldsUpNobody(t *testing.T) {
	l := newLanes[string](4, 16)
	hang, done := make(chan struct{}), make(chan string, 16)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			l.work(func(s string) {
				if s == "slow" {
					<-hang
				}
				done <- s
			})
		})
	}
	for _, s := range []string{"slow", "slow", "a", "b", "a"} {
		if err := l.push(s, s); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if s := <-done; s == "slow" {
			t.Error("the slow one was first")
		}
	}
	close(hang)
	<-l.close()
	workers.Wait()
}

// TestGate lets waiters in one by one in their order, and forgets one that gave up.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4)
		if err := g.enter(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		var order []int
		for i := range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				err := g.enter(ctx, "a")
				if gaveUp := i == 1; gaveUp != (err != nil) {
					t.Errorf("waiter %d: %v", i, err)
				}
				if err == nil {
					order = append(order, i)
					g.leave("a")
				}
			}()
			synctest.Wait()
			if i == 1 {
				defer cancel()
				cancel()
				synctest.Wait()
			} else {
				t.Cleanup(cancel)
			}
		}
		if err := g.enter(t.Context(), "b"); err != nil {
			t.Errorf("another vehicle: %v", err)
		}
		g.leave("b")
		g.leave("a")
		synctest.Wait()
		if diff := cmp.Diff([]int{0, 2}, order); diff != "" || len(g.queue) != 0 {
			t.Errorf("order %v, %d vehicles left", order, len(g.queue))
		}
	})
}

// TestOrderPerVehicle posts for many vehicles at once and finds each one's records in order in the log and at the model.
func TestOrderPerVehicle(t *testing.T) {
	log := &memoryLog{}
	var mu sync.Mutex
	asked := map[float64][]float64{}
	p := predictorFunc(func(_ context.Context, _ int, in []float64) (Prediction, error) {
		mu.Lock()
		defer mu.Unlock()
		asked[in[1]] = append(asked[in[1]], in[0]) // by speed, which tells the vehicle: run times, which tell the record
		return Prediction{90, "v1"}, nil
	})
	s, _ := newServer(t, log, p, func(o *Options) { o.Workers = 8 })
	ctx, cancel := context.WithCancel(t.Context())
	var run, posts sync.WaitGroup
	run.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	const vehicles, rows = 16, 30
	for v := range vehicles {
		posts.Go(func() {
			for r := range rows {
				body := fmt.Sprintf(`{"seq":%d,"Vehicle.OBD.RunTime":%d,"Vehicle.Speed":%d,"Vehicle.OBD.EngineSpeed":900,"Vehicle.OBD.CoolantTemperature":90}`, r, r+3, v)
				if w := post(s, fmt.Sprintf("SSKNFLEET%08d", v), body); w.Code != 202 {
					t.Errorf("got %d %s", w.Code, w.Body)
				}
			}
		})
	}
	posts.Wait()
	cancel()
	run.Wait()
	logged := map[string]uint64{}
	for _, e := range log.stream {
		if e.rec.Seq != logged[e.vehicle] {
			t.Errorf("record %d of %s came as number %d", e.rec.Seq, e.vehicle, logged[e.vehicle])
		}
		logged[e.vehicle]++
	}
	for v := range vehicles {
		for r := range rows {
			if got := asked[float64(v)]; len(got) != rows || got[r] != float64(r+3) {
				t.Fatalf("vehicle %d was asked about in the order %v", v, got)
			}
		}
	}
}

// TestStopDropsAndCounts ends a server whose model hangs.
func TestStopDropsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := predictorFunc(func(ctx context.Context, _ int, _ []float64) (Prediction, error) {
			<-ctx.Done()
			return Prediction{}, ctx.Err()
		})
		s, reg := newServer(t, &memoryLog{}, p, func(o *Options) { o.Workers, o.DrainTimeout = 1, 2*time.Second })
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		body := `{"Vehicle.OBD.RunTime":9,"Vehicle.OBD.EngineSpeed":900,"Vehicle.OBD.CoolantTemperature":90}`
		for range 3 {
			post(s, testVIN, body)
		}
		synctest.Wait()
		start := time.Now()
		cancel()
		run.Wait()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("stopped after %v, want 2s", took)
		}
		post(s, testVIN, body) // late: in the log, never asked about
		if d, f := value(t, reg, "siskin_ingest_dropped_total", dropShutdown), value(t, reg, "siskin_ingest_prediction_failures_total"); d != 3 || f != 1 {
			t.Errorf("%v dropped and %v failed, want 3 and 1", d, f)
		}
	})
}

// TestQueueIsBounded keeps posting while the model hangs: memory is what the bounds say, the log goes on.
func TestQueueIsBounded(t *testing.T) {
	log := &memoryLog{}
	s, reg := newServer(t, log, constant(90), func(o *Options) { o.Queue, o.QueuePerVehicle = 10, 4 }) // Run does not run
	for i := range 100 {
		vin := fmt.Sprintf("SSKNFLEET%08d", i%5)
		post(s, vin, `{"Vehicle.OBD.RunTime":9,"Vehicle.OBD.EngineSpeed":900,"Vehicle.OBD.CoolantTemperature":90}`)
	}
	if s.lanes.depth() != 10 || len(log.stream) != 100 {
		t.Errorf("%d queued and %d in the log, want 10 and 100", s.lanes.depth(), len(log.stream))
	}
	if got := value(t, reg, "siskin_ingest_dropped_total"); got != 90 {
		t.Errorf("%v dropped, want 90", got)
	}
	if got := value(t, reg, "siskin_ingest_queue_items"); got != 10 {
		t.Errorf("the gauge says %v, want 10", got)
	}
}

// TestVersionsAreBounded has a model server invent a version each time.
func TestVersionsAreBounded(t *testing.T) {
	s, reg := newServer(t, &memoryLog{}, constant(1), nil)
	for i := range 3 * maxVersions {
		s.options.Metrics.scored("coolant", 7, Prediction{90, fmt.Sprintf("v%d", i)}, 91)
		s.options.Metrics.scored("coolant", 8, Prediction{90, "stable"}, 91)
	}
	if got := value(t, reg, "siskin_predictions_total", "stable"); got != 3*maxVersions {
		t.Errorf("a version in use lost its count: %v", got)
	}
	if got, want := value(t, reg, "siskin_predictions_total", "07"), float64(maxVersions-1); got != want {
		t.Errorf("%v series of one bucket, want %v", got, want)
	}
}

package chaos_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/cmd/internal/wire"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

const (
	many   = 1000 // rollouts at once
	sample = 200  // of which are aborted, one by one
)

// TestAbortAmongMany measures the time from an abort request to the write of the VirtualService while a thousand rollouts
// are in their first step, with a Prometheus that answers and with one that hangs.
func TestAbortAmongMany(t *testing.T) {
	if !*chaos {
		t.Skip("a thousand rollouts run with -args -chaos only")
	}
	for _, name := range []string{"Answering", "Hanging"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			o := wire.Options{Rules: true}
			if name == "Hanging" {
				o.PrometheusURL, _ = hanging(t)
			}
			routes := w.followRoutes(t)
			w.createMany(t)
			began := time.Now()
			w.manage(o)
			routes.await(t, many, func(r route) bool { return r.canary == 5 })
			t.Logf("%d rollouts expressed in %v", many, time.Since(began).Round(time.Millisecond))
			report(t, w.abortSome(t, routes))
		})
	}
}

// report prints the quantiles and holds the last of a hundred to a second.
func report(t *testing.T, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	t.Logf("from the abort request to the route, %d of %d rollouts: p50 %v, p99 %v, most %v", len(took), many,
		p50.Round(time.Millisecond), p99.Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	if p99 > time.Second {
		t.Errorf("p99 %v, want at most 1s", p99)
	}
}

func nth(i int) service { return service{"many", fmt.Sprintf("s%d", i)} }

// createMany makes the rollouts as a controller that has just died would leave them: at step 1, without objects.
func (w *world) createMany(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < many; i += 8 {
				if err := w.createAtStep1(t.Context(), i); err != nil {
					t.Errorf("creating rollout %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func (w *world) createAtStep1(ctx context.Context, i int) error {
	ro := newRollout(nth(i), time.Hour)
	ro.Spec.Version = "v2"
	ro.Spec.Analysis.Interval.Duration = 15 * time.Second
	if err := w.client.Create(ctx, ro); err != nil {
		return err
	}
	now := metav1.NowMicro()
	ro.Status = v1alpha1.RolloutStatus{
		ObservedGeneration: 1, StableVersion: "v1", CanaryVersion: "v2", Step: 1, Weight: 5,
		Run: &v1alpha1.RunStatus{ID: fmt.Sprintf("v2-%d", i), StartedAt: now, StepStartedAt: &now, WaitingSince: &now, LastBlock: &now},
	}
	return w.client.Status().Update(ctx, ro)
}

// abortSome aborts rollouts spread over all of them, twenty a second, and returns how long each route took.
func (w *world) abortSome(t *testing.T, routes *routes) []time.Duration {
	t.Helper()
	asked := make([]time.Time, sample)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for i := range sample {
		<-ticker.C
		asked[i] = time.Now()
		w.abort(nth(i * (many / sample)))
	}
	routes.await(t, sample, func(r route) bool { return r.canary == 0 })
	took := make([]time.Duration, sample)
	for i := range sample {
		took[i] = routes.get(nth(i * (many / sample))).at.Sub(asked[i])
	}
	return took
}

// routes is the present state of every route, as a watch tells.
type routes struct {
	mu  sync.Mutex
	all map[string]route
	tip chan struct{} // holds one element after a change
}

// route is how many buckets see the canary, and since when.
type route struct {
	canary int
	at     time.Time
}

func (w *world) followRoutes(t *testing.T) *routes {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("networking.istio.io/v1")
	list.SetKind("VirtualServiceList")
	ctx, cancel := context.WithCancel(t.Context())
	events, err := w.client.Watch(ctx, list, client.InNamespace("many"))
	if err != nil {
		t.Fatal(err)
	}
	r := &routes{all: map[string]route{}, tip: make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range events.ResultChan() {
			r.note(e)
		}
	}()
	t.Cleanup(func() { cancel(); events.Stop(); <-done })
	return r
}

func (r *routes) note(e watch.Event) {
	o, ok := e.Object.(*unstructured.Unstructured)
	if !ok {
		return
	}
	at := time.Now()
	n := len(canaryOf(o))
	r.mu.Lock()
	if before, known := r.all[o.GetName()]; !known || before.canary != n {
		r.all[o.GetName()] = route{canary: n, at: at}
	}
	r.mu.Unlock()
	select {
	case r.tip <- struct{}{}:
	default: // the last change has not been looked at yet
	}
}

func (r *routes) get(s service) route {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[s.name]
}

// await returns when so many routes are as wanted.
func (r *routes) await(t *testing.T, n int, is func(route) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		have := 0
		r.mu.Lock()
		for _, each := range r.all {
			if is(each) {
				have++
			}
		}
		r.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-r.tip:
		case <-deadline:
			t.Fatalf("%d routes are as wanted, want %d", have, n)
		}
	}
}

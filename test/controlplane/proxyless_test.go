package controlplane_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/controlplane"
)

// user calls the service, as a unit of the bucket, and says which version answered.
type user interface {
	call(ctx context.Context, bucket int) (version string, err error)
}

// settle waits until exactly these buckets meet the version. Another version is waited for; a call that fails is a failure.
func settle(t *testing.T, c user, version string, want []int) {
	t.Helper()
	controlplane.Until(t, fmt.Sprintf("%d buckets on %s", len(want), version), func(context.Context) error {
		var got []int
		for b := range rollout.Buckets {
			met, err := c.call(t.Context(), b) // which has a deadline of its own
			if err != nil {
				t.Fatalf("a call of bucket %02d failed: %v", b, err)
			}
			if met == version {
				got = append(got, b)
			}
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("on %s are %v, want %v", version, got, want)
		}
		return nil
	})
}

// drawn compares the share of calls without a bucket that met v2 with the weight.
func (a *application) drawn(weight int) {
	a.t.Helper()
	const n = 4000
	met := 0
	for range n {
		version, err := a.call(a.t.Context(), -1)
		if err != nil {
			a.t.Fatalf("a call without a bucket failed: %v", err)
		}
		if version == "v2" {
			met++
		}
	}
	p := float64(weight) / 100
	// Six standard deviations: less than once in a hundred million runs by chance.
	if want, width := n*p, 6*math.Sqrt(n*p*(1-p)); math.Abs(float64(met)-want) > width {
		a.t.Errorf("of %d calls without a bucket %d met v2, want %.0f ± %.0f", n, met, want, width)
	}
	a.t.Logf("weight %d: %d of %d calls without a bucket met v2", weight, met, n)
}

// fleet is how many units call, and exposure the version that each of them meets.
const fleet = 10_000

type exposure [fleet]string

// exposure lets every unit call once, with the bucket that it computes from its name.
func (a *application) exposure() *exposure {
	a.t.Helper()
	var met exposure
	var callers sync.WaitGroup
	for caller := range 8 {
		callers.Go(func() {
			for unit := caller; unit < fleet; unit += 8 {
				version, err := a.call(a.t.Context(), rollout.BucketOf(service, fmt.Sprintf("vehicle-%04d", unit)))
				if err != nil {
					a.t.Errorf("a call of unit %d failed: %v", unit, err)
					return
				}
				met[unit] = version
			}
		})
	}
	callers.Wait()
	return &met
}

// fits tests by chi-square that as many units met v2 as the weight says. The units are the same in every run and lie in
// their buckets more evenly than chance does, so that fewer than one run in a thousand fails without cause.
func (e *exposure) fits(t *testing.T, weight int) {
	t.Helper()
	canary := 0
	for _, version := range e {
		if version == "v2" {
			canary++
		}
	}
	want := fleet * float64(weight) / 100
	x := (float64(canary) - want) * (float64(canary) - want) * (1/want + 1/(fleet-want))
	p := math.Erfc(math.Sqrt(x / 2)) // one degree of freedom
	if p <= 0.001 {
		t.Errorf("weight %d: %d of %d units met v2, p = %.2g", weight, canary, fleet, p)
	}
	t.Logf("weight %d: %d of %d units met v2, p = %.2f", weight, canary, fleet, p)
}

// back counts the units that met v2 before and meet another version now.
func (e *exposure) back(before *exposure) (moved int) {
	for unit, version := range before {
		if version == "v2" && e[unit] != "v2" {
			moved++
		}
	}
	return moved
}

// traffic is what vehicles, one for each bucket, meet while the test does other things.
type traffic struct {
	calls atomic.Int64
	mu    sync.Mutex // guards met
	met   [rollout.Buckets][]string
}

// send sends calls of all buckets, again and again, until the test ends: some thousand a second.
func (r *traffic) send(a *application) {
	ctx, stop := context.WithCancel(a.t.Context())
	var senders sync.WaitGroup
	a.t.Cleanup(func() { stop(); senders.Wait() })
	for sender := range 4 {
		senders.Go(func() {
			pace := time.NewTicker(4 * time.Millisecond)
			defer pace.Stop()
			for bucket := sender; ctx.Err() == nil; bucket = (bucket + 4) % rollout.Buckets {
				version, err := a.call(ctx, bucket)
				switch {
				case ctx.Err() != nil:
					return
				case err != nil:
					a.t.Errorf("a call of bucket %02d failed: %v", bucket, err)
				default:
					r.note(bucket, version)
				}
				<-pace.C
			}
		})
	}
}

// note remembers the versions that a bucket met, one after another.
func (r *traffic) note(bucket int, version string) {
	r.calls.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if met := r.met[bucket]; len(met) == 0 || met[len(met)-1] != version {
		r.met[bucket] = append(met, version)
	}
}

// moved holds that the canary's buckets went to v2 and back, once, and no other bucket ever.
func (r *traffic) moved(t *testing.T, canary []int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for b, met := range r.met {
		want := []string{"v1"}
		if slices.Contains(canary, b) {
			want = []string{"v1", "v2", "v1"}
		}
		if !slices.Equal(met, want) {
			t.Errorf("bucket %02d met %v, want %v", b, met, want)
		}
	}
}

// rounds is how many times TestProxyless and TestGateway promote and take back, one after the other.
var rounds = flag.Int("rounds", 2, "rollouts under traffic in TestProxyless and in TestGateway")

// TestProxyless lets applications that are their own proxies (gRPC with xDS) call the service while the controller
// ramps, takes back and promotes. Units are spread as the weights say and move once, in the order of the run; neither
// another controller nor another istiod nor another proxy moves anybody; no call fails.
func TestProxyless(t *testing.T) {
	p := controlplane.Start(t)
	w := &world{Plane: p, t: t, Client: reader(t, p), space: space}
	prometheus := p.StartPrometheus("global: {scrape_interval: 1s}\n")
	first := p.StartController("first", prometheus, "--grace=5s")
	p.Apply(controlplane.NamespaceOf(space), backends(t, "v1", "v2"))
	history := p.Record(space)
	w.create(5, 25, 50)
	w.deploy("v1")
	w.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })
	w.subsets("v1")
	w.routes("pin-stable", "stable-buckets", "weighted")

	a := dial(t, p.ADS)
	settle(t, a, "v2", nil)
	var all traffic
	all.send(a)
	w.deploy("v2")
	w.want("v2")
	w.ramp(a, func() *application {
		if err := first.Stop(); err != nil {
			t.Error(err)
		}
		p.RestartIstiod()
		p.StartController("second", prometheus, "--grace=5s")
		return dial(t, p.ADS)
	})
	run := w.get().Status.Run.ID
	w.ask(v1alpha1.ActionAbort)
	w.until("the rollback", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run == nil })
	settle(t, a, "v2", nil)
	w.subsets("v1")
	a.drawn(0)
	all.moved(t, rollout.Allocate(run, 50))
	w.want("v1")
	w.until("v2 to be forgotten", func(ro *v1alpha1.Rollout) bool { return ro.Status.RejectedVersion == "" })
	for round := range *rounds {
		w.round(a, round%2 == 0)
		settle(t, a, w.get().Status.StableVersion, rollout.Others(nil))
	}
	madeFirst(t, history)
	if n := a.raced.Load(); n > max(50, all.calls.Load()/1000) {
		t.Errorf("%d calls raced with the client's own update, which are more than 50 and one in a thousand: a route was there before its cluster", n)
	}
	t.Logf("%d calls while %d rollouts ran; %d of them raced with the client's own update", all.calls.Load(), *rounds+1, a.raced.Load())
}

// ramp goes through all steps, and compares at each of them what units meet. At the second one everything is restarted;
// what calls afterwards is another application.
func (w *world) ramp(a *application, restart func() *application) {
	w.t.Helper()
	before := &exposure{}
	for step, weight := range []int{5, 25, 50} {
		w.until(fmt.Sprintf("weight %d", weight), func(ro *v1alpha1.Rollout) bool { return int(ro.Status.Weight) == weight })
		settle(w.t, a, "v2", rollout.Allocate(w.get().Status.Run.ID, weight))
		a.drawn(weight)
		now := a.exposure()
		now.fits(w.t, weight)
		if moved := now.back(before); moved > 0 {
			w.t.Errorf("weight %d: %d units moved back to v1", weight, moved)
		}
		if step == 1 {
			again := restart()
			settle(w.t, again, "v2", rollout.Allocate(w.get().Status.Run.ID, weight))
			if *again.exposure() != *now || *a.exposure() != *now {
				w.t.Errorf("weight %d: units meet other versions after the restart of the controller, istiod and the proxy", weight)
			}
		}
		if before = now; weight < 50 {
			w.ask(v1alpha1.ActionPromote)
		}
	}
}

// round tries the version that is not stable, goes to its last step, and promotes it or takes it back.
func (w *world) round(c user, promote bool) {
	w.t.Helper()
	stable := w.get().Status.StableVersion
	wanted := other(stable)
	w.want(wanted)
	for _, weight := range []int{5, 25, 50} {
		w.until(fmt.Sprintf("weight %d", weight), func(ro *v1alpha1.Rollout) bool { return int(ro.Status.Weight) == weight })
		settle(w.t, c, wanted, rollout.Allocate(w.get().Status.Run.ID, weight))
		if weight < 50 || promote {
			w.ask(v1alpha1.ActionPromote)
		}
	}
	if !promote {
		w.want(stable)
		wanted = stable
	}
	w.until(wanted+" to have all traffic", func(ro *v1alpha1.Rollout) bool {
		return ro.Status.StableVersion == wanted && meta.IsStatusConditionTrue(ro.Status.Conditions, v1alpha1.ConditionReady)
	})
}

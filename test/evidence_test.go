package test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/evidence"
	"github.com/siskin-dev/siskin/test/process"
)

// interval is the length of a block: four scrapes.
const interval = 2 * time.Second

// plan judges errors and latencies.
func plan() rollout.Plan {
	return rollout.Plan{
		Steps: []rollout.Step{{Weight: 40}},
		Gates: []rollout.Gate{
			{Name: "errors", Type: rollout.ErrorRate, Margin: 1.5, Tolerance: 0.01},
			{Name: "latency", Type: rollout.Latency, Margin: 1.5, Tolerance: 0.01, Threshold: slowThreshold},
		},
		Interval: interval, Cap: time.Hour, FalseAlarm: 0.01, Miss: 0.05,
	}
}

// scene is a gateway whose metrics a real Prometheus scrapes and the source of evidence reads.
type scene struct {
	*data
	prometheus *prometheus
	source     *evidence.Source
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{data: newData(t, rollout.Allocate("run", 40), faults{failEvery: 5, abortEvery: 13, slowEvery: 7})}
	s.load(t)
	s.prometheus = startPrometheus(t, scrapes(s.metrics, ""))
	var err error
	if s.source, err = evidence.New(evidence.Options{API: s.prometheus.api}); err != nil {
		t.Fatal(err)
	}
	return s
}

// boundary waits until Prometheus has everything that the gateway has counted, and returns an instant of the grid after
// that. What is sent from then on counts after it: a scrape that began later has ended.
func (s *scene) boundary(t *testing.T) time.Time {
	t.Helper()
	want := s.counted(t).total
	process.Until(t, "the last scrape", func(ctx context.Context) error {
		for _, metric := range []string{"istio_requests_total", "istio_request_duration_milliseconds_count"} {
			if got, err := s.prometheus.number(ctx, "sum("+metric+")"); err != nil || got != want {
				return fmt.Errorf("%s: got %v, want %v (%w)", metric, got, want, err)
			}
		}
		return nil
	})
	at := rollout.GridFloor(time.Now(), interval).Add(interval)
	process.Until(t, "the next block", func(ctx context.Context) error {
		last, err := s.prometheus.number(ctx, "timestamp(up)")
		if err == nil && last <= float64(at.UnixMilli())/1000 {
			err = fmt.Errorf("the last scrape was at %v, before %v", last, at)
		}
		return err
	})
	return at
}

func (s *scene) blocks(t *testing.T, from, to time.Time) []rollout.Block {
	t.Helper()
	blocks, err := s.source.Blocks(t.Context(), rollout.Question{
		Service: rollout.Service{Namespace: space, Name: service}, Gates: plan().Gates,
		Stable: "v1", Canary: "v2", From: from, To: to, Interval: interval,
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := int(to.Sub(from) / interval); len(blocks) != want {
		t.Fatalf("got %d blocks, want %d", len(blocks), want)
	}
	return blocks
}

// phase is traffic between two instants of the grid.
type phase struct {
	name string
	do   func()
	// fresh says that the gateway begins anew, and its own counters with it.
	fresh bool
}

// TestEvidence holds the blocks that are read from a real Prometheus to what the clients, the backends and the gateway
// counted, exactly, while Prometheus is killed and the gateway begins anew in between.
func TestEvidence(t *testing.T) {
	s := newScene(t)
	s.send(t, 60) // an instance counts from its second block on, so there is one before
	start := s.boundary(t)
	before, _ := s.clients()
	var steady []rollout.Block
	at := start
	for _, p := range []phase{
		{name: "Steady", do: func() { s.send(t, 600) }},
		{name: "Silent", do: func() {}},
		{name: "GivenUp", do: func() { s.giveUp(t, 10); s.send(t, 50) }},
		{name: "PrometheusKilled", do: func() { s.whileKilled(t) }},
		{name: "GatewayRestarted", do: func() { s.restart(); s.load(t); s.send(t, 40) }, fresh: true}, // fewer than before: a fall shows the reset
		{name: "After", do: func() { s.send(t, 200) }},
	} {
		from := at
		at = s.run(t, from, p)
		if p.name == "Steady" {
			steady = s.blocks(t, from, at)
		}
	}
	if diff := cmp.Diff(steady, s.blocks(t, start, start.Add(time.Duration(len(steady))*interval))); diff != "" {
		t.Errorf("the first blocks before (-) and after (+) Prometheus was killed:\n%s", diff)
	}
	after, _ := s.clients()
	backends := map[string]tally{"v1": s.backends["v1"].tally(), "v2": s.backends["v2"].tally()}
	if diff := cmp.Diff(backends, after); diff != "" {
		t.Errorf("counted by the backends (-) and by the clients (+):\n%s", diff)
	}
	if got := errorsOf(s.blocks(t, start, at)); cmp.Diff(requests(before, after), got) != "" {
		t.Errorf("whole period: counted by the clients (-) and read from Prometheus (+):\n%s", cmp.Diff(requests(before, after), got))
	}
	s.checkOneByOne(t, start, at)
}

// whileKilled sends before Prometheus is killed, while it is away, and while it comes back.
func (s *scene) whileKilled(t *testing.T) {
	t.Helper()
	s.send(t, 100)
	s.prometheus.Kill()
	s.send(t, 100)
	s.prometheus.Start(t)
	s.send(t, 100)
	process.Until(t, "Prometheus", process.Answers(s.prometheus.url+"/-/ready"))
}

// run sends the traffic of a phase, checks the blocks since from and returns where they end.
func (s *scene) run(t *testing.T, from time.Time, p phase) time.Time {
	t.Helper()
	seen, maybe := s.clients()
	held := s.counted(t)
	if p.fresh {
		held = counted{}
	}
	p.do()
	to := s.boundary(t)
	after, maybeAfter := s.clients()
	blocks := s.blocks(t, from, to)
	if diff := cmp.Diff(requests(seen, after), errorsOf(blocks)); diff != "" {
		t.Errorf("%s: requests and errors counted by the clients (-) and read from Prometheus (+):\n%s", p.name, diff)
	}
	above := aboveOf(blocks)
	if diff := cmp.Diff(held.until(s.counted(t)), above); diff != "" {
		t.Errorf("%s: latencies above the bounds in the gateway (-) and read from Prometheus (+):\n%s", p.name, diff)
	}
	for version, now := range after {
		slow := now.Slow - seen[version].Slow
		most := slow + maybeAfter[version] - maybe[version]
		if got := aboveThreshold(blocks, version); int(got) < slow || int(got) > most {
			t.Errorf("%s: %v requests of %s above %v, want %d to %d", p.name, got, version, slowThreshold, slow, most)
		}
	}
	checkSane(t, p.name, blocks)
	t.Logf("%-16s %d blocks, %v", p.name, len(blocks), errorsOf(blocks))
	return to
}

// checkSane holds every count to what counts are: whole, not negative, no more events than requests.
func checkSane(t *testing.T, name string, blocks []rollout.Block) {
	t.Helper()
	for _, b := range blocks {
		for gate, c := range b.Counts {
			for _, a := range []rollout.Arm{c.Stable, c.Canary} {
				for _, n := range append(slices.Clone(a.Events), a.Requests) {
					if n < 0 || n > a.Requests || n != math.Trunc(n) {
						t.Errorf("%s: gate %s counts %v of %v requests in the block at %v", name, gate, n, a.Requests, b.Start)
					}
				}
			}
		}
	}
}

// checkOneByOne holds one question about many blocks to many questions about one: the same blocks, the same evidence, the
// same verdicts.
func (s *scene) checkOneByOne(t *testing.T, from, to time.Time) {
	t.Helper()
	all := s.blocks(t, from, to)
	begun := rollout.Begin("run", plan(), from.Add(-time.Second))
	begun.Step, begun.Weight, begun.LastBlock = 1, plan().Steps[0].Weight, from
	at, once := begun, begun.Count(plan(), all)
	var each []rollout.Block
	for start := from; start.Before(to); start = start.Add(interval) {
		one := s.blocks(t, start, start.Add(interval))
		each = append(each, one...)
		at = at.Count(plan(), one)
	}
	if diff := cmp.Diff(all, each); diff != "" {
		t.Errorf("blocks of one question (-) and of a question each (+):\n%s", diff)
	}
	findings := rollout.Judge(plan(), once, nil, to)
	if diff := cmp.Diff(findings, rollout.Judge(plan(), at, nil, to)); diff != "" {
		t.Errorf("findings of one question (-) and of a question each (+):\n%s", diff)
	}
	for _, f := range findings {
		if f.Verdict != rollout.Harm {
			t.Errorf("gate %s: got %s (%s), want Harm: the canary fails a quarter of its requests", f.Gate.Name, f.Verdict, f.Message)
		}
	}
}

// requests is what was counted between two readings, without what is slow.
func requests(before, after map[string]tally) map[string]tally {
	out := map[string]tally{}
	for v, a := range after {
		out[v] = tally{Requests: a.Requests - before[v].Requests, Errors: a.Errors - before[v].Errors}
	}
	return out
}

// errorsOf adds up the requests and errors of blocks.
func errorsOf(blocks []rollout.Block) map[string]tally {
	out := map[string]tally{"v1": {}, "v2": {}}
	for _, b := range blocks {
		c, ok := b.Counts["errors"]
		if !ok {
			continue
		}
		for v, a := range map[string]rollout.Arm{"v1": c.Stable, "v2": c.Canary} {
			t := out[v]
			out[v] = tally{Requests: t.Requests + int(a.Requests), Errors: t.Errors + int(a.Events[0])}
		}
	}
	return out
}

// aboveOf adds up the requests above each bound.
func aboveOf(blocks []rollout.Block) map[string][]float64 {
	out := map[string][]float64{}
	for _, b := range blocks {
		c := b.Counts["latency"]
		for v, a := range map[string]rollout.Arm{"v1": c.Stable, "v2": c.Canary} {
			out[v] = added(out[v], a.Events, 1)
		}
	}
	return out
}

func aboveThreshold(blocks []rollout.Block, version string) float64 {
	n := 0.0
	for _, b := range blocks {
		c := b.Counts["latency"]
		if i := slices.Index(c.Bounds, slowThreshold.Seconds()); i >= 0 {
			n += map[string]rollout.Arm{"v1": c.Stable, "v2": c.Canary}[version].Events[i]
		}
	}
	return n
}

// until is what the gateway counted above each bound from c to later.
func (c counted) until(later counted) map[string][]float64 {
	out := map[string][]float64{}
	for v, now := range later.above {
		out[v] = added(now, c.above[v], -1)
	}
	return out
}

// added adds b times a factor to a; either may be empty.
func added(a, b []float64, factor float64) []float64 {
	out := make([]float64, max(len(a), len(b)))
	copy(out, a)
	for i, v := range b {
		out[i] += factor * v
	}
	return out
}

package experiment

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const interval = time.Minute

// examplePlan compares three variants, of 30 buckets each, by a mean of which less is better.
func examplePlan() Plan {
	return Plan{
		Variants: []Variant{{"control", "v1", 30}, {"green", "v2", 30}, {"blue", "v3", 30}}, Control: "control",
		Objective:      rollout.Gate{Name: "quality", Type: rollout.Mean, Sum: "s", Count: "c", VersionLabel: "version", BucketLabel: "bucket"},
		SmallestEffect: 0.05,
		Assigned:       rollout.Gate{Name: "units", Type: rollout.SampleRatio, Count: "u", VersionLabel: "version"},
		Interval:       interval, MinDuration: 30 * time.Minute, MaxDuration: 10 * time.Hour, FalseAlarm: 0.05, Miss: 0.05,
	}
}

// world is a service whose hundred buckets differ for good. Each bucket meets the version of the variant that owns it, and the
// control's where none does.
type world struct {
	plan    Plan
	run     Run
	effects [rollout.Buckets]float64
	// ratio multiplies the objective under a variant, slow and fail a latency's and an error's rate, lost is the share of a
	// variant's new units that nobody counts, stray that of its observations which the control's version makes. By name.
	ratio, slow, fail, lost, stray map[string]float64
	// noise is the relative standard deviation of one bucket's mean in one block.
	noise  float64
	bounds []float64
	r      *rand.Rand
}

// begin starts an experiment at t0 in a world whose buckets' lasting effects have the given relative standard deviation.
func begin(t testing.TB, p Plan, seed uint64, sd float64) *world {
	t.Helper()
	held := rollout.Buckets
	for _, v := range p.Variants {
		held -= v.Share
	}
	run, err := Begin(fmt.Sprint("experiment-", seed), p, Layer{HoldOut: HoldOut("layer", min(held, 5))}, t0)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{plan: p, run: run, noise: 0.05, bounds: []float64{0.1, 0.25, 0.5}, r: rand.New(rand.NewPCG(seed, 7))}
	s := math.Sqrt(math.Log1p(sd * sd))
	for b := range w.effects {
		w.effects[b] = math.Exp(s*w.r.NormFloat64() - s*s/2)
	}
	return w
}

// owner returns the variant that owns a bucket, or -1.
func (w *world) owner(bucket int) int {
	return slices.IndexFunc(w.run.Buckets, func(own []int) bool { return slices.Contains(own, bucket) })
}

// next counts the next n blocks, as one answer, and returns the run.
func (w *world) next(n int) {
	w.run = w.run.Count(w.plan, w.blocks(n))
}

// blocks answers the run's questions about the next n blocks.
func (w *world) blocks(n int) [][]rollout.Block {
	answers := make([][]rollout.Block, len(w.plan.arms()))
	for k := range n {
		start := w.run.LastBlock.Add(time.Duration(k) * interval)
		for i, b := range w.block(start) {
			answers[i] = append(answers[i], b)
		}
	}
	return answers
}

// block returns one block as the answer to each question.
func (w *world) block(start time.Time) []rollout.Block {
	running := !start.Before(w.run.Started)
	byVersion := map[string]rollout.Arm{}
	units, slow, fail, joules := map[string]float64{}, map[string]rollout.Arm{}, map[string]rollout.Arm{}, map[string]rollout.Arm{}
	level := 3 * (1 + math.Sin(float64(start.Unix())/4000)/3)
	for b := range rollout.Buckets {
		v := Variant{Version: w.plan.Variants[w.plan.control()].Version}
		if i := w.owner(b); i >= 0 && running {
			v = w.plan.Variants[i]
		}
		n := float64(20 + w.r.IntN(20))
		sum := n * math.Max(0, level*w.effects[b]*times(w.ratio, v.Name)*(1+w.noise*w.r.NormFloat64()))
		stray := math.Round(n * w.stray[v.Name])
		add(byVersion, v.Version, rollout.BucketSum{Bucket: b, Sum: sum * (n - stray) / n, Count: n - stray})
		if stray > 0 {
			add(byVersion, w.plan.Variants[w.plan.control()].Version, rollout.BucketSum{Bucket: b, Sum: sum * stray / n, Count: stray})
		}
		units[v.Version] += draw(w.r, 8, 0.5*(1-w.lost[v.Name]))
		e := joules[v.Version]
		e.Requests, e.Sum = e.Requests+n, e.Sum+sum
		joules[v.Version] = e
		w.requests(slow, v.Version, b, n, 0.02*times(w.slow, v.Name), len(w.bounds))
		w.requests(fail, v.Version, b, n, 0.01*times(w.fail, v.Name), 1)
	}
	var out []rollout.Block
	for _, q := range w.run.Questions(w.plan, rollout.Service{}, start.Add(interval)) {
		two := func(arm func(version string) rollout.Arm) (c rollout.Counts) {
			c.Stable = arm(q.Stable)
			if q.Canary != q.Stable {
				c.Canary = arm(q.Canary)
			}
			return c
		}
		late := two(func(v string) rollout.Arm { return slow[v] })
		late.Bounds = w.bounds
		out = append(out, rollout.Block{Start: start, End: start.Add(interval), Counts: map[string]rollout.Counts{
			"quality": two(func(v string) rollout.Arm { return byVersion[v] }),
			"units":   two(func(v string) rollout.Arm { return rollout.Arm{Requests: units[v]} }),
			"energy":  two(func(v string) rollout.Arm { return joules[v] }),
			"latency": late,
			"errors":  two(func(v string) rollout.Arm { return fail[v] }),
		}})
	}
	return out
}

func add(m map[string]rollout.Arm, version string, s rollout.BucketSum) {
	a := m[version]
	a.Buckets = append(a.Buckets, s)
	m[version] = a
}

// requests adds a bucket's n requests, of which a share p had the event; of several events each has half of the one before.
func (w *world) requests(m map[string]rollout.Arm, version string, bucket int, n, p float64, events int) {
	a := m[version]
	if a.Events == nil {
		a.Events = make([]float64, events)
	}
	a.Requests, a.Sent = a.Requests+n, a.Sent+n
	left := n
	for k := range events {
		left = draw(w.r, left, p)
		a.Events[k] += left
		p = 0.5
	}
	a.Buckets = append(a.Buckets, rollout.BucketSum{Bucket: bucket, Sum: left, Count: n})
	m[version] = a
}

func times(m map[string]float64, name string) float64 {
	if f, ok := m[name]; ok {
		return f
	}
	return 1
}

// draw counts n independent events of probability p.
func draw(r *rand.Rand, n, p float64) float64 {
	x := 0.0
	for range int(n) {
		if r.Float64() < p {
			x++
		}
	}
	return x
}

// until judges after every block until there is a verdict, for at most n blocks.
func (w *world) until(n int) Result {
	var res Result
	for range n {
		w.next(1)
		res = w.judge()
		if res.Verdict != Running {
			break
		}
	}
	return res
}

func (w *world) judge() Result { return Judge(w.plan, w.run, w.run.LastBlock) }

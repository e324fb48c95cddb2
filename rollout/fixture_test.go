package rollout

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const interval = 15 * time.Second

// examplePlan has a gate of every type.
func examplePlan() Plan {
	return Plan{
		Steps: []Step{{5, 2 * time.Minute}, {25, 5 * time.Minute}, {50, 5 * time.Minute}},
		Gates: []Gate{
			{Name: "errors", Type: ErrorRate, Margin: 1.5, Tolerance: 0.01},
			{Name: "latency", Type: Latency, Margin: 1.5, Tolerance: 0.01, Threshold: 250 * time.Millisecond},
			{Name: "quality", Type: Mean, Margin: 1.1, Sum: "s", Count: "c", VersionLabel: "version", BucketLabel: "bucket"},
			{Name: "alerts", Type: Alerts, Matchers: map[string]string{"rollout": "coolant"}},
		},
		Interval: interval, WarmUp: 0, Cap: 2 * time.Hour, FalseAlarm: 0.01, Miss: 0.05,
	}
}

// running returns a run at its first step, which began at t0.
func running(p Plan) Run {
	r := Begin("run-1", p, t0)
	return r.After(p, Outcome{Decision: Advance}, t0)
}

// service is a simulated service with two versions. Rates are those of stable; worse multiplies them for the canary.
type service struct {
	rate, slow, mean, worse float64
	requests                float64
	bounds                  []float64
}

func healthy() service {
	return service{rate: 0.01, slow: 0.02, mean: 2, worse: 1, requests: 1500, bounds: []float64{0.1, 0.25, 0.5, 1}}
}

// block returns the i-th block after t0 at a weight.
func (s service) block(r *rand.Rand, i, weight int) Block {
	start := t0.Add(time.Duration(i) * interval)
	n := math.Round(s.requests * float64(weight) / 100)
	canary, stable := s.arm(r, n, s.worse), s.arm(r, s.requests-n, 1)
	c, q := s.slowArm(r, n, s.worse), s.slowArm(r, s.requests-n, 1)
	b := Block{Start: start, End: start.Add(interval), Counts: map[string]Counts{
		"errors":  {Stable: stable, Canary: canary},
		"latency": {Stable: q, Canary: c, Bounds: s.bounds},
		"quality": {Stable: s.means(r, weight, Buckets, 1), Canary: s.means(r, 0, weight, s.worse)},
	}}
	b.Counts["slow"] = b.Counts["latency"]
	s.more(rand.New(rand.NewPCG(uint64(i), uint64(weight))), b.Counts, weight)
	return b
}

// more adds the counts of the gates that fullPlan has beside examplePlan's.
func (s service) more(r *rand.Rand, counts map[string]Counts, weight int) {
	canary, stable := counts["errors"].Canary.Requests, counts["errors"].Stable.Requests
	level := 1 + 0.1*r.NormFloat64()
	sums := func(n, ratio float64) Arm {
		return Arm{Requests: n, Sum: n * level * ratio * (1 + 0.02*r.NormFloat64())}
	}
	counts["energy"] = Counts{Canary: sums(canary, s.worse), Stable: sums(stable, 1)}
	counts["score"] = Counts{Canary: Arm{Requests: canary, Sum: canary * math.Min(1, 0.3*s.worse)}, Stable: Arm{Requests: stable, Sum: stable * 0.3}}
	counts["answers"] = Counts{Canary: Arm{Requests: canary, Sum: canary - float64(r.IntN(3))}, Stable: Arm{Requests: stable, Sum: stable - float64(r.IntN(3))}}
	units := draw(r, 200, float64(weight)/100)
	counts["units"] = Counts{Canary: Arm{Requests: units}, Stable: Arm{Requests: 200 - units}}
	var sticky Counts
	canaries := Allocate("run-1", weight)
	for b := range Buckets {
		to, ratio := &sticky.Stable, 1.0
		if slices.Contains(canaries, b) {
			to, ratio = &sticky.Canary, s.worse
		}
		n := math.Round(s.requests / Buckets)
		to.Buckets = append(to.Buckets, BucketSum{Bucket: b, Sum: draw(r, n, s.rate*ratio), Count: n})
	}
	counts["sticky"] = sticky
}

// fullPlan has ten gates, with every way of judging among them.
func fullPlan() Plan {
	p := examplePlan()
	p.Gates = append(p.Gates[:3],
		Gate{Name: "energy", Type: EnergyPerRequest, Margin: 1.1, VersionLabel: "version"},
		Gate{Name: "score", Type: Mean, Margin: 1.5, Sum: "s", Count: "c", VersionLabel: "version", Highest: 1},
		Gate{Name: "sticky", Type: ErrorRate, Margin: 1.5, Tolerance: 0.01, BucketLabel: "bucket"},
		Gate{Name: "units", Type: SampleRatio, Count: "u", VersionLabel: "version"},
		Gate{Name: "answers", Type: Data, Sum: "a", Count: "b", VersionLabel: "version"},
		Gate{Name: "slow", Type: Latency, Margin: 1.5, Tolerance: 0.01, Threshold: 500 * time.Millisecond},
		Gate{Name: "alerts", Type: Alerts},
	)
	return p
}

func (s service) arm(r *rand.Rand, n, worse float64) Arm {
	return Arm{Requests: n, Events: []float64{draw(r, n, s.rate*worse)}}
}

func (s service) slowArm(r *rand.Rand, n, worse float64) Arm {
	a := Arm{Requests: n}
	left := n
	for i := range s.bounds {
		left = draw(r, left, s.slow*worse*math.Pow(0.5, float64(i)-1))
		a.Events = append(a.Events, left)
	}
	return a
}

func (s service) means(r *rand.Rand, from, to int, worse float64) Arm {
	a := Arm{}
	for b := from; b < to; b++ {
		n := float64(5 + r.IntN(10))
		a.Buckets = append(a.Buckets, BucketSum{Bucket: b, Sum: n * s.mean * worse * (1 + 0.05*r.NormFloat64()), Count: n})
	}
	return a
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

// bytesOf encodes evidence, to compare it bit for bit.
func bytesOf(t testing.TB, e Evidence) string {
	t.Helper()
	b, err := e.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// resumed returns the run as the next process finds it.
func resumed(t testing.TB, r Run) Run {
	t.Helper()
	var e Evidence
	if err := e.UnmarshalBinary([]byte(bytesOf(t, r.Evidence))); err != nil {
		t.Fatal(err)
	}
	r.Evidence = e
	return r
}

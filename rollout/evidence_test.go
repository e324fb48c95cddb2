package rollout

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// stream draws blocks of any kind, with gaps, empty arms and data that cannot be.
func stream(r *rand.Rand, count int) []Block {
	s := healthy()
	s.requests = 60
	s.worse = pick(r, 0.5, 1, 3)
	without := pick(r, "sticky", "") // whose buckets mostly contradict the weight
	blocks := make([]Block, 0, count)
	for i := range count {
		b := s.block(r, i, pick(r, 5, 25, 50))
		delete(b.Counts, without)
		switch r.IntN(10) {
		case 0:
			delete(b.Counts, pick(r, "errors", "latency", "quality"))
		case 1:
			b.Counts["errors"] = Counts{Stable: Arm{Requests: 9, Events: []float64{1}}}
		case 2:
			b.Counts["errors"] = Counts{Stable: Arm{Requests: math.NaN(), Events: []float64{1}}, Canary: Arm{Requests: 1, Events: []float64{2}}}
		case 3:
			b.Counts["quality"] = Counts{Canary: Arm{Buckets: []BucketSum{{Bucket: 7, Sum: math.Inf(1), Count: 1}, {Bucket: 400, Sum: 1, Count: 1}}}}
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// TestEvidenceSurvivesRestarts: however a stream is cut, replayed and carried over from process to process, the evidence
// is the same, bit for bit.
func TestEvidenceSurvivesRestarts(t *testing.T) {
	p := fullPlan()
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 21))
		blocks := stream(r, 40)
		advance := r.IntN(len(blocks))
		whole, cut := running(p), running(p)
		for i := range blocks {
			whole = whole.Count(p, blocks[i:i+1])
			if i == advance {
				whole = whole.After(p, Outcome{Decision: Advance}, blocks[i].End)
			}
		}
		for from := 0; from < len(blocks); {
			to := min(from+1+r.IntN(9), len(blocks))
			if from <= advance && advance < to {
				to = advance + 1
			}
			// Some blocks were counted before: a process that died after counting asks for them again.
			cut = resumed(t, cut.Count(p, blocks[max(0, from-r.IntN(4)):to]))
			if to == advance+1 {
				cut = cut.After(p, Outcome{Decision: Advance}, blocks[advance].End)
			}
			from = to
		}
		if bytesOf(t, whole.Evidence) != bytesOf(t, cut.Evidence) {
			t.Fatalf("seed %d: interrupted evidence differs:\n%s", seed, cmp.Diff(whole.Evidence, cut.Evidence, noScratch))
		}
		now := blocks[len(blocks)-1].End
		if d := cmp.Diff(Judge(p, whole, nil, now), Judge(p, cut, nil, now), cmp.Comparer(sameNumber)); d != "" {
			t.Fatalf("seed %d: other findings: %s", seed, d)
		}
	}
}

// noScratch leaves out what an evidence may compute again.
var noScratch = cmpopts.IgnoreUnexported(stats.Shape{})

func sameNumber(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }

func TestEvidenceRoundTrip(t *testing.T) {
	p := fullPlan()
	r := rand.New(rand.NewPCG(1, 22))
	run := running(p).Count(p, stream(r, 60))
	run = run.After(p, Outcome{Decision: Advance}, t0.Add(time.Hour))
	back := resumed(t, run)
	if d := cmp.Diff(run.Evidence, back.Evidence, cmp.Comparer(sameNumber), cmpopts.EquateEmpty(), noScratch); d != "" {
		t.Errorf("after encoding and decoding: %s", d)
	}
	if bytesOf(t, run.Evidence) != bytesOf(t, back.Evidence) {
		t.Error("equal evidence has other bytes")
	}
}

// TestCountsOnce: a replayed block is passed over, in part or as a whole.
func TestCountsOnce(t *testing.T) {
	p := examplePlan()
	r := rand.New(rand.NewPCG(1, 23))
	blocks := stream(r, 30)
	run := running(p).Count(p, blocks)
	before := bytesOf(t, run.Evidence)
	for range 20 {
		again := run.Count(p, blocks[r.IntN(len(blocks)):])
		if bytesOf(t, again.Evidence) != before || !again.LastBlock.Equal(run.LastBlock) {
			t.Fatal("a replay changed the evidence")
		}
	}
}

// TestCountSharesNothing: counting makes another run, and leaves the one before as it was.
func TestCountSharesNothing(t *testing.T) {
	p := examplePlan()
	r := rand.New(rand.NewPCG(1, 24))
	blocks := stream(r, 30)
	run := running(p).Count(p, blocks[:10])
	before := bytesOf(t, run.Evidence)
	run.Count(p, blocks[10:])
	run.After(p, Outcome{Decision: Advance}, t0.Add(time.Hour))
	Judge(p, run, nil, t0.Add(time.Hour))
	if bytesOf(t, run.Evidence) != before {
		t.Error("counting on changed the run before")
	}
}

// TestWhichBlocksCount: none before the first weight, none that began before the weight had been in force for the
// warm-up.
func TestWhichBlocksCount(t *testing.T) {
	p := examplePlan()
	p.WarmUp = 30 * time.Second
	s := healthy()
	one := func(i int) []Block { return []Block{s.block(rand.New(rand.NewPCG(1, 1)), i, 5)} }
	tests := map[string]struct {
		reason string
		run    Run
		block  int
		want   bool
	}{
		"BeforeFirstStep": {"no unit saw the canary", Begin("r", p, t0), 4, false},
		"OfTheChange":     {"the block in which the weight changed mixes two weights", running(p), 0, false},
		"WarmingUp":       {"what starts up is not judged", running(p), 1, false},
		"Warm":            {"the first whole block after the warm-up counts", running(p), 2, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := tc.run.Count(p, one(tc.block))
			if counted := !got.Evidence.Trails[0].LastData.IsZero(); counted != tc.want {
				t.Errorf("%s, yet counted = %t", tc.reason, counted)
			}
			if want := t0.Add(time.Duration(tc.block+1) * interval); !got.LastBlock.Equal(want) {
				t.Errorf("last block %s, want %s, whether it counted or not", got.LastBlock, want)
			}
		})
	}
}

// TestStepsAreNotPooled: a ramp through a rising base rate is no harm, though the pooled totals look like it, and each
// step's safety starts anew.
func TestStepsAreNotPooled(t *testing.T) {
	p := examplePlan()
	p.Gates = p.Gates[:1]
	run, end := running(p), t0
	var canary, stable [2]float64
	for step, weight := range []float64{5, 25, 50} {
		rate := []float64{0.001, 0.01, 0.03}[step]
		for range 20 {
			nc, ns := 10_000*weight/100, 10_000*(1-weight/100)
			b := Block{Start: end, End: end.Add(interval), Counts: map[string]Counts{"errors": {
				Stable: Arm{Requests: ns, Events: []float64{ns * rate}},
				Canary: Arm{Requests: nc, Events: []float64{nc * rate}},
			}}}
			canary[0], canary[1] = canary[0]+nc*rate, canary[1]+nc
			stable[0], stable[1] = stable[0]+ns*rate, stable[1]+ns
			end = b.End
			run = run.Count(p, []Block{b})
		}
		f := Judge(p, run, nil, end)[0]
		if f.Verdict != Pass || f.LogHarm > 0 || math.Abs(f.Estimate-1) > 0.1 {
			t.Errorf("step %d: %s, harm e^%.1f, estimate %.2f, want Pass, none and 1", step+1, f.Verdict, f.LogHarm, f.Estimate)
		}
		run = run.After(p, Outcome{Decision: Advance}, end)
		if f := Judge(p, run, nil, end)[0]; f.Verdict != Wait || f.LogSafety > 1e-9 {
			t.Errorf("after step %d: %s with safety e^%.1f, want it to start anew", step+1, f.Verdict, f.LogSafety)
		}
	}
	if pooled := canary[0] / canary[1] / (stable[0] / stable[1]); pooled < 2 {
		t.Errorf("the pooled ratio is %.2f: this test could not tell", pooled)
	}
}

// TestEvidenceIsBounded: a month of blocks takes no more room than an hour, with ten gates and thirty latency bounds.
func TestEvidenceIsBounded(t *testing.T) {
	p := fullPlan()
	s := healthy()
	s.requests, s.bounds = 100, thirtyBounds()
	r := rand.New(rand.NewPCG(1, 25))
	run := running(p)
	var hour, month int
	const blocks = 30 * 24 * 60 / 5 // a block every five minutes
	for i := range blocks {
		b := s.block(r, i, 50)
		b.Start, b.End = t0.Add(time.Duration(i)*5*time.Minute), t0.Add(time.Duration(i+1)*5*time.Minute)
		run = run.Count(p, []Block{b})
		if i == 12 {
			hour = len(bytesOf(t, run.Evidence))
		}
	}
	month = len(bytesOf(t, run.Evidence))
	t.Logf("evidence after an hour: %d bytes, after a month: %d", hour, month)
	if month > hour*3/2 || month > 96<<10 {
		t.Errorf("evidence grew from %d bytes in an hour to %d in a month", hour, month)
	}
}

// thirtyBounds are those of a latency histogram from 10 ms up.
func thirtyBounds() []float64 {
	bounds := make([]float64, 30)
	for i := range bounds {
		bounds[i] = 0.01 * math.Pow(1.3, float64(i))
	}
	return bounds
}

// TestChangedTermsBeginAnew: evidence against another margin answers another question.
func TestChangedTermsBeginAnew(t *testing.T) {
	p := examplePlan()
	run := running(p).Count(p, stream(rand.New(rand.NewPCG(1, 26)), 30))
	tests := map[string]struct {
		reason string
		change func(g []Gate) []Gate
		fresh  []bool
	}{
		"Same":      {"nothing changed", func(g []Gate) []Gate { return g }, []bool{false, false, false}},
		"Margin":    {"another margin is another null", func(g []Gate) []Gate { g[0].Margin = 2; return g }, []bool{true, false, false}},
		"Threshold": {"another threshold counts other requests", func(g []Gate) []Gate { g[1].Threshold *= 2; return g }, []bool{false, true, false}},
		"Bucket":    {"another label makes other units", func(g []Gate) []Gate { g[2].BucketLabel = "shard"; return g }, []bool{false, false, true}},
		"Version":   {"another label makes other variants", func(g []Gate) []Gate { g[2].VersionLabel = "v"; return g }, []bool{false, false, true}},
		"Order":     {"evidence follows the gate's name", func(g []Gate) []Gate { g[0], g[2] = g[2], g[0]; return g }, []bool{false, false, false}},
		"Renamed":   {"a new gate has no evidence", func(g []Gate) []Gate { g[0].Name = "failures"; return g }, []bool{true, false, false}},
		"Retyped":   {"a gate of another type is another gate", func(g []Gate) []Gate { g[0].Type = Mean; return g }, []bool{true, false, false}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			changed := examplePlan()
			changed.Gates = tc.change(changed.Gates)
			for i, trail := range run.Count(changed, nil).Evidence.Trails {
				if fresh := trail.LastData.IsZero(); fresh != tc.fresh[i] {
					t.Errorf("%s, yet trail %d (%s): fresh = %t", tc.reason, i, trail.Gate, fresh)
				}
			}
		})
	}
}

// TestStrangeEvidenceBeginsAnew: evidence that another release wrote, or somebody edited, is never followed off its end.
func TestStrangeEvidenceBeginsAnew(t *testing.T) {
	p := examplePlan()
	blocks := stream(rand.New(rand.NewPCG(1, 27)), 30)
	tests := map[string]func(e *Evidence){
		"ShorterCurve":  func(e *Evidence) { e.Trails[0].Curve.LogLik = e.Trails[0].Curve.LogLik[:5] },
		"NoCurve":       func(e *Evidence) { e.Trails[0].Curve = nil },
		"NoSafety":      func(e *Evidence) { e.Trails[0].Safety = nil },
		"OtherNull":     func(e *Evidence) { e.Trails[0].Safety.Null = 0 },
		"NoBelow":       func(e *Evidence) { e.Trails[0].Below = nil },
		"OtherBelow":    func(e *Evidence) { e.Trails[0].Below.Tolerance = 2 },
		"NoHarm":        func(e *Evidence) { e.Trails[0].Harm = nil },
		"ShorterHarm":   func(e *Evidence) { e.Trails[0].Harm[0].Log = nil },
		"FewerBounds":   func(e *Evidence) { e.Trails[1].Bounds = e.Trails[1].Bounds[:1] },
		"HarmGone":      func(e *Evidence) { e.Trails[1].Harm = nil },
		"ThresholdGone": func(e *Evidence) { e.Trails[1].SLO = 99 },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			run := running(p).Count(p, blocks)
			change(&run.Evidence)
			run = resumed(t, run)
			run.LastBlock = t0
			run = run.Count(p, blocks).After(p, Outcome{Decision: Advance}, t0)
			if got := len(Judge(p, run, nil, t0.Add(time.Hour))); got != len(p.Gates) {
				t.Errorf("%d findings, want %d", got, len(p.Gates))
			}
		})
	}
}

func TestGridFloor(t *testing.T) {
	for _, c := range []struct {
		at   time.Duration
		want time.Duration
	}{{0, 0}, {time.Nanosecond, 0}, {interval - 1, 0}, {interval, interval}, {100 * time.Second, 90 * time.Second}} {
		if got := GridFloor(t0.Add(c.at), interval); !got.Equal(t0.Add(c.want)) {
			t.Errorf("GridFloor(t0+%s) = %s, want t0+%s", c.at, got, c.want)
		}
	}
}

// FuzzUnmarshalEvidence: evidence comes back from the API server, where anybody with access to the status may have edited it.
func FuzzUnmarshalEvidence(f *testing.F) {
	p := examplePlan()
	run := running(p).Count(p, stream(rand.New(rand.NewPCG(1, 28)), 5))
	whole := []byte(bytesOf(f, run.Evidence))
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte{})
	f.Add([]byte(`[{"Trail":{"Gate":"errors","Harm":[null],"SLO":9}},{}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e Evidence
		if err := e.UnmarshalBinary(data); err != nil {
			return
		}
		size := 0
		for _, trail := range e.Trails {
			size += len(trail.Harm) + len(trail.Bounds) + len(trail.Ended) + len(trail.CanaryBuckets) + len(trail.StableBuckets)
		}
		if size > len(data)+1000 {
			t.Fatalf("%d bytes became %d values", len(data), size)
		}
		r := running(p)
		r.Evidence = e
		r = r.Count(p, stream(rand.New(rand.NewPCG(1, 29)), 2)).After(p, Outcome{Decision: Advance}, t0)
		Decide(Situation{Plan: p, Run: r, Findings: Judge(p, r, nil, t0), CanaryReady: true, Now: t0})
	})
}

// BenchmarkInterval is what an interval costs: counting a block, judging and deciding, with ten gates and thirty bounds.
func BenchmarkInterval(b *testing.B) {
	p := fullPlan()
	s := healthy()
	s.requests, s.bounds = 300, thirtyBounds()
	r := rand.New(rand.NewPCG(1, 30))
	run, i := running(p), 0
	blocks := make([]Block, 64)
	for k := range blocks {
		blocks[k] = s.block(r, k, 50)
	}
	for b.Loop() {
		next := blocks[i%len(blocks)]
		next.Start, next.End = t0.Add(time.Duration(i)*interval), t0.Add(time.Duration(i+1)*interval)
		run = run.Count(p, []Block{next})
		Decide(Situation{Plan: p, Run: run, Findings: Judge(p, run, nil, next.End), CanaryReady: true, Now: next.End})
		i++
	}
}

func BenchmarkMarshal(b *testing.B) {
	p := fullPlan()
	run := running(p).Count(p, stream(rand.New(rand.NewPCG(1, 32)), 50))
	for b.Loop() {
		if _, err := run.Evidence.MarshalBinary(); err != nil {
			b.Fatal(err)
		}
	}
}

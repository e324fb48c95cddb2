package backtest

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/stats"
)

var (
	benchJudge    = flag.Bool("bench-judge", false, "simulate with all runs, and print the judge's table; else with few")
	benchMarkdown = flag.String("bench-markdown", "", "a file to write the judge's table to, as Markdown")
)

// many is the number of runs of a simulation: all when the table is asked for, else few.
func many(all, few int) int {
	if *benchJudge {
		return all
	}
	return few
}

// TestBenchJudge measures the judge on simulated traffic, side by side with the rules of other controllers, and holds it to
// its promises. With -bench-judge it makes all runs and prints the tables.
func TestBenchJudge(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of runs on one goroutine")
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# The judge, measured\n\nSimulated with seed %d: Poisson arrivals, blocks of 15 s, a look after every block. "+
		"Brackets and ± are intervals at 95 %%. The rules of other controllers are restated from their documentation in `bench_peers_test.go`. Printed by `make bench-judge`; but for the CPU time it is the same at every run.\n", benchSeed)
	for _, part := range []struct {
		name string
		run  func(*testing.T) *section
	}{
		{"FalseAlarms", benchFalseAlarms},
		{"SeveralGates", benchSeveralGates},
		{"Efficiency", benchEfficiency},
		{"LateFaults", benchLateFaults},
		{"DualGate", benchDualGate},
		{"StickyUsers", benchStickyUsers},
		{"StickyPower", benchStickyPower},
		{"Latency", benchLatency},
		{"HealthySideBySide", benchHealthySideBySide},
		{"BadSideBySide", benchBadSideBySide},
		{"Cost", benchCost},
	} {
		t.Run(part.name, func(t *testing.T) {
			from := time.Now()
			s := part.run(t)
			var b bytes.Buffer
			s.print(&b)
			out.Write(b.Bytes())
			if *benchJudge {
				fmt.Fprintf(os.Stdout, "%s\n(%s)\n", b.String(), time.Since(from).Round(time.Second))
				return
			}
			t.Logf("%s, few runs\n%s", time.Since(from).Round(time.Millisecond), b.String())
		})
	}
	if *benchMarkdown != "" {
		if err := os.WriteFile(*benchMarkdown, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// rampPlan goes through the weights 1, 5, 25 and 50 %, an hour each.
func rampPlan() rollout.Plan {
	p := errorsPlan(1)
	p.Steps = nil
	for _, w := range []int{1, 5, 25, 50} {
		p.Steps = append(p.Steps, rollout.Step{Weight: w, Hold: time.Hour})
	}
	return p
}

// benchFalseAlarms watches healthy runs for four hours through a ramp. A statistic on pooled counts, which looks much the
// same, must fail where the base rate drifts: it takes the drift for a difference (Simpson's paradox).
func benchFalseAlarms(t *testing.T) *section {
	const alpha, hours = 0.05, 4 * time.Hour
	s := &section{
		title: "False alarms",
		text: "Healthy canaries at 1, 5, 25 and 50 %, an hour each, 100 requests a second, a look every 15 s (the peers: every minute). Share of runs " +
			"that were rolled back at any of the 960 looks; bound 0.05. \"Pooled\" is the judge's statistic on counts summed up over all weights.",
		head: []string{"base rate", "judge", "runs", "false alarms"},
	}
	for i, c := range []struct {
		name   string
		errors Level
		runs   int
	}{
		{"0.4 to 1.6 %, drifting", Line(0.004, 0.016, hours), many(1000, 20)},
		{"0.5 %, constant", Constant(0.005), many(300, 8)},
	} {
		ours := map[float64]*tally{0.05: {}, 0.01: {}, 0.001: {}}
		others := map[string]*tally{"pooled": {}, "Flagger": {}, "Argo Rollouts": {}, "Kayenta": {}}
		for n := range c.runs {
			plan := rampPlan()
			id, sim := trial(Traffic{Requests: Constant(100), Errors: c.errors}, plan, 10_000*i+n)
			r := &aaRun{plan: plan, alarms: map[string]bool{}}
			if n < many(100, 3) {
				r.peers = peers()
			}
			watch(id, sim, func(at time.Duration, b rollout.Block, f [][]rollout.Finding) bool {
				r.see(b, f[0])
				return at < hours
			}, plan)
			for a := range ours {
				ours[a].add(r.top >= math.Log(1/a))
			}
			others["pooled"].add(r.alarms["pooled"])
			for name := range r.peers {
				others[name].add(r.alarms[name])
			}
		}
		for _, a := range []float64{0.05, 0.01, 0.001} {
			s.row(c.name, fmt.Sprintf("Siskin, falseAlarm %g", a), fmt.Sprint(ours[a].of), ours[a].String())
			if ours[a].above(a) || (*benchJudge && a == alpha && ours[a].share().Share > a) {
				t.Errorf("%s: false alarms %s, want at most %g", c.name, ours[a], a)
			}
		}
		for _, name := range append([]string{"pooled"}, peerNames...) {
			s.row(c.name, name, fmt.Sprint(others[name].of), others[name].String())
		}
		if i == 0 && others["pooled"].share().Low <= alpha {
			t.Errorf("pooled counts gave %s false alarms: this simulation could not tell", others["pooled"])
		}
	}
	return s
}

// benchSeveralGates watches healthy runs with three gates, whose evidence is averaged: the bound is for all together.
func benchSeveralGates(t *testing.T) *section {
	const alpha, hours = 0.05, 4 * time.Hour
	s := &section{
		title: "False alarms of several gates",
		text: "The same ramp and drift with gates on errors, latency and a quality by bucket (10 % lasting differences between buckets): share of runs rolled back " +
			"at any look by any of them; bound 0.05.",
		head: []string{"gates", "runs", "false alarms"},
	}
	plan := rampPlan()
	plan.Gates = append(plan.Gates,
		rollout.Gate{Name: "latency", Type: rollout.Latency, Margin: 1.5, Tolerance: 0.01, Threshold: 250 * time.Millisecond},
		rollout.Gate{Name: "quality", Type: rollout.Mean, Margin: 1.1, BucketLabel: "bucket"})
	var alarms tally
	for n := range many(200, 3) {
		id, sim := trial(Traffic{
			Requests: Constant(100), Errors: Line(0.004, 0.016, hours), Latency: body(),
			Mean: Quantity{Mean: Line(2, 3, hours), Spread: 0.5, BetweenBuckets: 0.1, BetweenBlocks: 0.1},
		}, plan, 50_000+n)
		alarm := false
		watch(id, sim, func(at time.Duration, _ rollout.Block, f [][]rollout.Finding) bool {
			alarm = alarm || alarmed(plan, f[0], alpha)
			return at < hours && !alarm
		}, plan)
		alarms.add(alarm)
	}
	s.row("errors, latency, quality", fmt.Sprint(alarms.of), alarms.String())
	if alarms.above(alpha) || (*benchJudge && alarms.share().Share > alpha) {
		t.Errorf("false alarms %s, want at most %g", alarms, alpha)
	}
	return s
}

// aaRun is one healthy run that all judges watch.
type aaRun struct {
	plan   rollout.Plan
	top    float64 // the greatest log of the e-value
	pooled window
	blocks int
	minute minutes
	peers  map[string]peer
	alarms map[string]bool
}

func (r *aaRun) see(b rollout.Block, findings []rollout.Finding) {
	logE, _ := rollout.HarmLog(r.plan, findings)
	r.top = math.Max(r.top, logE)
	c := b.Counts["errors"]
	r.pooled.canary, r.pooled.stable = r.pooled.canary.plus(countsOf(c.Canary)), r.pooled.stable.plus(countsOf(c.Stable))
	if r.blocks++; r.blocks%4 == 0 && !r.alarms["pooled"] {
		h := stats.NewHarm()
		h.Add(r.pooled.canary.errors, r.pooled.canary.requests, r.pooled.stable.errors, r.pooled.stable.requests)
		r.alarms["pooled"] = h.LogE() >= math.Log(1/r.plan.FalseAlarm)
	}
	if w, ok := r.minute.add(b); ok {
		for name, p := range r.peers {
			r.alarms[name] = r.alarms[name] || p.check(w) == rollBack
		}
	}
}

// benchEfficiency measures the time to find a fault that was there from the beginning, over the limit that no test with so
// few false alarms beats in the mean.
func benchEfficiency(t *testing.T) *section {
	s := &section{
		title: "Efficiency",
		text: "Time to find errors of p_s in stable and p_c in the canary at weight w, 100 requests a second, and the information limit ln(1/alpha)/I over it. " +
			"Bars: 0.50 at alpha 0.05 and 0.70 at alpha 0.001, where the limit is at least two blocks (30 s). \"Grid\", \"tight\" and \"oracle\" are the reference's " +
			"mean times of a wide grid of ratios, of a narrow one, and of a test that knows the fault's size; none of them restarts. \"Plug-in\" is the 2x2 e-value of " +
			"Turner, Ly and Grunwald on the same traffic, which estimates both rates instead of their ratio.",
		head: []string{"p_s", "p_c", "w", "alpha", "limit", "time", "efficiency", "bar", "plug-in", "grid", "tight", "oracle"},
	}
	type reference [3]string
	for i, c := range []struct {
		ps, pc float64
		w      int
		at05   reference
		at001  reference
	}{
		{0.01, 0.015, 10, reference{"503-523", "442", "347"}, reference{"941", "873", "754"}},
		{0.01, 0.02, 10, reference{"154-159", "136", "120"}, reference{"264", "241", "219"}},
		{0.01, 0.03, 10, reference{"48-50", "45", "42"}, reference{"85", "80", "75"}},
		{0.01, 0.05, 10, reference{"23"}, reference{}},
		{0.001, 0.002, 10, reference{"1224-1350", "1148", "1022"}, reference{"2519", "2324", "2162"}},
		{0.001, 0.005, 10, reference{"134"}, reference{}},
		{0.01, 0.02, 50, reference{"64"}, reference{}},
		{0.01, 0.02, 1, reference{"1151"}, reference{}},
	} {
		runs := many(400, 30)
		times, plugIn := map[float64]*sample{0.05: {}, 0.001: {}}, map[float64]*sample{0.05: {}, 0.001: {}}
		plan := errorsPlan(c.w)
		traffic := Traffic{Requests: Constant(100), Errors: Constant(c.ps), Fault: Fault{Errors: c.pc / c.ps}}
		for n := range runs {
			id, sim := trial(traffic, plan, 100_000+10_000*i+n)
			two := stats.NewTwoRates(stats.Prior{A: 0.5, B: 25}, stats.Prior{A: 0.5, B: 25}, true)
			watch(id, sim, func(at time.Duration, b rollout.Block, f [][]rollout.Finding) bool {
				c := countsOf(b.Counts["errors"].Canary)
				s := countsOf(b.Counts["errors"].Stable)
				two.Add(c.errors, c.requests, s.errors, s.requests)
				for a, x := range plugIn {
					if len(*x) == n && two.LogE() >= math.Log(1/a) {
						x.add(at)
					}
				}
				if len(*times[0.05]) == n && alarmed(plan, f[0], 0.05) {
					times[0.05].add(at)
				}
				if len(*times[0.001]) == n && alarmed(plan, f[0], 0.001) {
					times[0.001].add(at)
				}
				return (len(*times[0.001]) == n || len(*plugIn[0.001]) == n) && at < 48*time.Hour
			}, plan)
		}
		for _, a := range []float64{0.05, 0.001} {
			limit := stats.Limit(stats.RateInformation(c.pc, c.ps, float64(c.w)/100), a) / 100
			bar, ref, x := map[float64]float64{0.05: 0.50, 0.001: 0.70}[a], c.at05, *times[a]
			if a == 0.001 {
				ref = c.at001
			}
			efficiency, low, high := limit/mean(x), limit/(mean(x)+x.reach()), limit/(mean(x)-x.reach())
			shown := fmt.Sprintf("%.2f", bar)
			if limit < 30 {
				shown = "-"
			} else if high < bar || (*benchJudge && efficiency < bar) {
				t.Errorf("%g to %g at %d %%, alpha %g: efficiency %.3f (%.3f to %.3f), want at least %.2f", c.ps, c.pc, c.w, a, efficiency, low, high, bar)
			}
			if len(x) != runs {
				t.Errorf("%g to %g at %d %%: found in %d of %d runs", c.ps, c.pc, c.w, len(x), runs)
			}
			s.row(percentOf(c.ps), percentOf(c.pc), fmt.Sprintf("%d %%", c.w), fmt.Sprint(a), fmt.Sprintf("%.0f s", limit), x.String(),
				fmt.Sprintf("%.2f (%.2f to %.2f)", efficiency, low, high), shown, plugIn[a].String(), ref[0], ref[1], ref[2])
		}
	}
	return s
}

func percentOf(share float64) string { return fmt.Sprintf("%g %%", math.Round(share*1e6)/1e4) }

// benchLateFaults measures how soon a fault is found that comes after hours of health. A process without restarts, which is
// soonest when the fault is there from the beginning, must be too late after two hours.
func benchLateFaults(t *testing.T) *section {
	const alpha, most = 0.05, 400
	s := &section{
		title: "Late faults",
		text: "Errors go from 1 to 2 % at a weight of 10 % and 100 requests a second after a time of health (limit 87 s, alpha 0.05): time from the fault to the alarm. " +
			"Bar: 400 s after two hours. \"Plain\" is the same process without restarts. The reference has 141, 649, 1100 and 2237 s plain, 158, 288, 336 and 447 s with restarts.",
		head: []string{"health before", "runs", "false alarms before", "Siskin", "95 % within", "plain"},
	}
	for i, c := range []struct {
		healthy time.Duration
		runs    int
	}{
		{0, many(400, 40)},
		{30 * time.Minute, many(400, 0)},
		{120 * time.Minute, many(400, 30)},
		{480 * time.Minute, many(150, 0)},
	} {
		if c.runs == 0 {
			continue
		}
		plan := errorsPlan(10)
		traffic := Traffic{Requests: Constant(100), Errors: Constant(0.01), Fault: Fault{Errors: 2, From: c.healthy}}
		var early tally
		var ours, plain sample
		for n := range c.runs {
			id, sim := trial(traffic, plan, 200_000+10_000*i+n)
			still, done, plainDone := stats.NewRateRatio(1, 1.05, 20, stats.GridSize), false, false
			watch(id, sim, func(at time.Duration, b rollout.Block, f [][]rollout.Finding) bool {
				counts := b.Counts["errors"]
				still.Add(counts.Canary.Events[0], counts.Canary.Requests, counts.Stable.Events[0], counts.Stable.Requests)
				if !done && alarmed(plan, f[0], alpha) {
					done = true
					early.add(at <= c.healthy)
					if at > c.healthy {
						ours.add(at - c.healthy)
					}
				}
				if !plainDone && still.LogE() >= math.Log(1/alpha) {
					plainDone = true
					if at > c.healthy {
						plain.add(at - c.healthy)
					}
				}
				return !done || !plainDone
			}, plan)
		}
		s.row(fmt.Sprintf("%.0f min", c.healthy.Minutes()), fmt.Sprint(c.runs), early.String(), ours.String(), ours.p95(), plain.String())
		if c.healthy != 120*time.Minute {
			continue
		}
		if mean(ours) > most {
			t.Errorf("a fault after two hours was found after %s, want within %d s", ours, most)
		}
		if mean(plain)-plain.reach() < most {
			t.Errorf("without restarts it was found after %s: this simulation could not tell", plain)
		}
	}
	return s
}

package backtest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// byBucket is the plan with errors counted by the unit's bucket.
func byBucket(p rollout.Plan) rollout.Plan {
	g := p.Gates[0]
	g.BucketLabel = "bucket"
	p.Gates = []rollout.Gate{g}
	return p
}

// stickyTraffic is that of 5000 users who keep their variant, of whom some always fail.
func stickyTraffic(failing, ratio float64) Traffic {
	return Traffic{Requests: Constant(100), Errors: Constant(0.01), Users: Users{Count: 5000, Failing: failing}, Fault: Fault{Errors: ratio}}
}

// benchStickyUsers watches healthy runs whose requests are not independent. The judge by requests, which takes them for
// independent, must fail where some users always do.
func benchStickyUsers(t *testing.T) *section {
	const alpha, hours = 0.05, 2 * time.Hour
	s := &section{
		title: "Sticky users",
		text: "Healthy canaries at 10 % for two hours, 100 requests a second from 5000 users who keep their variant, some of whom always fail: share of runs with a false " +
			"alarm; bound 0.05. Reference: 0.028, 0.172 and 0.278 by request; 0.018, 0.003 and 0.000 by bucket.",
		head: []string{"failing users", "runs", "errors by request", "errors by bucket"},
	}
	for i, failing := range []float64{0, 0.002, 0.01} {
		plan := errorsPlan(10)
		buckets := byBucket(plan)
		var byRequests, byBuckets tally
		for n := range many(400, 10) {
			id, sim := trial(stickyTraffic(failing, 1), buckets, 400_000+10_000*i+n)
			top := [2]float64{}
			watch(id, sim, func(at time.Duration, _ rollout.Block, f [][]rollout.Finding) bool {
				for k := range top {
					logE, _ := rollout.HarmLog(plan, f[k])
					top[k] = math.Max(top[k], logE)
				}
				return at < hours
			}, plan, buckets)
			byRequests.add(top[0] >= math.Log(1/alpha))
			byBuckets.add(top[1] >= math.Log(1/alpha))
		}
		s.row(percentOf(failing), fmt.Sprint(byBuckets.of), byRequests.String(), byBuckets.String())
		if byBuckets.above(alpha) || (*benchJudge && byBuckets.share().Share > alpha) {
			t.Errorf("%g always fail: false alarms by bucket %s, want at most %g", failing, byBuckets, alpha)
		}
		if x := byRequests.share(); failing == 0.01 && x.Share <= alpha {
			t.Errorf("%g always fail: false alarms by request %s: this simulation could not tell", failing, byRequests)
		}
	}
	return s
}

// benchStickyPower keeps the bars above honest: a judge by buckets that never speaks has no false alarms either.
func benchStickyPower(t *testing.T) *section {
	s := &section{
		title: "Sticky users, bad canary",
		text:  "The same traffic with a canary whose other users fail more often: share of runs found within two hours by buckets, and after how long.",
		head:  []string{"failing users", "canary's errors", "runs", "found", "time", "95 % within"},
	}
	i := 0
	for _, failing := range []float64{0, 0.002, 0.01} {
		for _, ratio := range []float64{2, 4} {
			i++
			plan := byBucket(errorsPlan(10))
			var found tally
			var times sample
			for n := range many(60, 4) {
				id, sim := trial(stickyTraffic(failing, ratio), plan, 500_000+10_000*i+n)
				done := false
				watch(id, sim, func(at time.Duration, _ rollout.Block, f [][]rollout.Finding) bool {
					if done = alarmed(plan, f[0], 0.05); done {
						times.add(at)
					}
					return !done && at < 2*time.Hour
				}, plan)
				found.add(done)
			}
			s.row(percentOf(failing), fmt.Sprintf("x %g", ratio), fmt.Sprint(found.of), found.String(), times.String(), times.p95())
			if failing <= 0.002 && found.n < found.of {
				t.Errorf("%g always fail, errors x %g: found in %s, want all", failing, ratio, found)
			}
		}
	}
	return s
}

// body has the latencies of the reference's table, whose limits say that its standard deviation is 0.7.
func body() Latency {
	return Latency{Bounds: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}, Median: 0.08, Sigma: 0.7}
}

// benchLatency measures how soon slower canaries are found, by exceedance of the histogram's bounds and by its shape.
func benchLatency(t *testing.T) *section {
	const hours = 6000 * time.Second
	s := &section{
		title: "Latency",
		text: "Lognormal latencies of median 80 ms (standard deviation of the ln 0.7) in Prometheus' default buckets, threshold 250 ms, at 10 %, 100 requests a second, alpha 0.05: " +
			"time to find a canary that is slower. Limits are of the histogram. The reference's exceedance, shape and band are mean times of other tests on the same changes.",
		head: []string{"change", "runs", "alarms in 6000 s", "time", "95 % within", "limit", "reference: limit", "exceedance", "shape", "band"},
	}
	plan := errorsPlan(10)
	plan.Gates = []rollout.Gate{{Name: "latency", Type: rollout.Latency, Margin: 1.5, Tolerance: 0.0001, Threshold: 250 * time.Millisecond}}
	for i, c := range []struct {
		name      string
		fault     Fault
		reference []string
	}{
		{"none", Fault{}, []string{"-", "0.00 to 0.01", "0.00 to 0.01", "0.00 to 0.01"}},
		{"median -20 %", Fault{Slower: 0.8}, []string{"-", "-", "-", "-"}},
		{"median +10 %", Fault{Slower: 1.1}, []string{"40 s", "248 s", "175 s", "469 s"}},
		{"median +25 %", Fault{Slower: 1.25}, []string{"7 s", "50 s", "40 s", "89 s"}},
		{"1 % at 2 s", Fault{Tail: 0.01, TailAt: 2}, []string{"17 s", "55 s", "81 s", "none in 6000 s"}},
		{"3 % at 2 s", Fault{Tail: 0.03, TailAt: 2}, []string{"5 s", "21 s", "36 s", "1511 s"}},
	} {
		runs := many(200, 10)
		harmless := c.fault.Tail == 0 && c.fault.Slower <= 1
		if harmless {
			runs = many(200, 6)
		}
		var found tally
		var times sample
		limit := "-"
		if told := shapeInformation(150, body().cells(c.fault.at(0, 10)), 1350, body().cells(healthy)); !harmless {
			limit = fmt.Sprintf("%.0f s", math.Log(20)/told*interval.Seconds())
		}
		for n := range runs {
			id, sim := trial(Traffic{Requests: Constant(100), Latency: body(), Fault: c.fault}, plan, 600_000+10_000*i+n)
			done := false
			watch(id, sim, func(at time.Duration, _ rollout.Block, f [][]rollout.Finding) bool {
				if done = alarmed(plan, f[0], 0.05); done {
					times.add(at)
				}
				return !done && at < hours
			}, plan)
			found.add(done)
		}
		if harmless {
			times = nil // of false alarms
		}
		s.row(append([]string{c.name, fmt.Sprint(runs), found.String(), times.String(), times.p95(), limit}, c.reference...)...)
		if harmless && found.above(0.05) {
			t.Errorf("%s: false alarms %s, want at most 0.05", c.name, found)
		}
		if !harmless && found.n < found.of {
			t.Errorf("%s: found in %s, want all", c.name, found)
		}
	}
	return s
}

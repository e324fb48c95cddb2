package evidence

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/siskin-dev/siskin/rollout"
)

// world is a service whose proxies a Prometheus scrapes while a run goes on: the whole chain from samples to decisions.
type world struct {
	*store
	plan rollout.Plan
	run  rollout.Run

	// errors is the share of requests that fail, by version.
	errors map[string]float64
	// traffic is the number of requests a second at a time since the start.
	traffic func(at time.Duration) float64
	// process says which proxy counts a version's requests.
	process func(version string) string
	// label is the version label's value; "" for none.
	label func(version string) string
	// grow says how much series grow by n requests of a version; they take the place of errors and latencies.
	grow func(version string, n float64) map[string]float64
	// scraped changes a sample on its way into Prometheus; keep is false for one that never arrives.
	scraped func(at time.Duration, version string, v float64) (value float64, keep bool)
	// restarts says whether a version's counters begin anew at a time.
	restarts func(at time.Duration, version string) bool
	// silent says whether Prometheus is down.
	silent func(at time.Duration) bool

	sent map[string]float64            // requests so far by version
	base map[string]map[string]float64 // what a version's series had counted when it was restarted
	more map[string]map[string]float64 // what grow has added up by version
	said []step
}

// step is what was decided and why.
type step struct {
	decision rollout.Decision
	reason   rollout.Reason
}

func newWorld(t *testing.T) *world {
	w := &world{
		store: newStore(t),
		plan: rollout.Plan{
			Steps: []rollout.Step{{Weight: 20, Hold: time.Minute}, {Weight: 50, Hold: time.Minute}},
			Gates: []rollout.Gate{
				{Name: "errors", Type: rollout.ErrorRate, Margin: 1.5, Tolerance: 0.05},
				{Name: "latency", Type: rollout.Latency, Margin: 1.5, Tolerance: 0.05, Threshold: latencyThreshold},
			},
			Interval: interval, WarmUp: interval, Cap: 40 * time.Minute, FalseAlarm: 0.01, Miss: 0.05,
		},
		errors:   map[string]float64{"v1": 0.01, "v2": 0.01},
		traffic:  func(time.Duration) float64 { return 200 },
		process:  func(string) string { return on(1) },
		label:    func(version string) string { return version },
		scraped:  func(_ time.Duration, _ string, v float64) (float64, bool) { return v, true },
		restarts: func(time.Duration, string) bool { return false },
		silent:   func(time.Duration) bool { return false },
		sent:     map[string]float64{"v1": 1000},
		base:     map[string]map[string]float64{"v1": {}, "v2": {}},
		more:     map[string]map[string]float64{"v1": {}, "v2": {}},
	}
	w.run = rollout.Begin("run-1", w.plan, t0)
	return w
}

// play lets time go by until the run ends, an hour at most, and returns how it stands then.
func (w *world) play() (last rollout.Outcome, findings []rollout.Finding) {
	w.t.Helper()
	source := w.source()
	for at := time.Duration(0); at <= time.Hour; at += scrape {
		w.count(at)
		w.scrape(at)
		if at%interval != 0 {
			continue
		}
		now := t0.Add(at)
		w.fail = nil
		if w.silent(at) {
			w.fail = errors.New("connection refused")
		}
		blocks, err := source.Blocks(w.t.Context(), rollout.Question{
			Service: rollout.Service{Namespace: "edge", Name: "coolant"}, Gates: w.plan.Gates, Stable: "v1", Canary: "v2",
			From: rollout.GridFloor(w.run.LastBlock, interval), To: now, Interval: interval,
		})
		if (err != nil) != w.silent(at) {
			w.t.Fatalf("after %s: reading blocks: %v", at, err)
		}
		w.run = w.run.Count(w.plan, blocks)
		findings = rollout.Judge(w.plan, w.run, nil, now)
		last = rollout.Decide(rollout.Situation{Plan: w.plan, Run: w.run, Findings: findings, CanaryReady: true, Now: now})
		w.run = w.run.After(w.plan, last, now)
		if s := (step{last.Decision, last.Reason}); len(w.said) == 0 || w.said[len(w.said)-1] != s {
			w.said = append(w.said, s)
		}
		if last.Decision == rollout.Promote || last.Decision == rollout.Rollback {
			break
		}
	}
	return last, findings
}

// count adds what the service did since the last scrape.
func (w *world) count(at time.Duration) {
	weight := float64(w.run.Weight) / 100
	n := w.traffic(at) * scrape.Seconds()
	for _, version := range []string{"v1", "v2"} { // in this order: what grows is drawn from one source
		share := weight
		if version == "v1" {
			share = 1 - weight
		}
		w.sent[version] += n * share
		if w.grow == nil || share == 0 {
			continue
		}
		for name, v := range w.grow(version, n*share) {
			w.more[version][name] += v
		}
	}
}

// counted are a version's series and what they have counted.
func (w *world) counted(version string) map[string]float64 {
	if w.grow != nil {
		return w.more[version]
	}
	out := map[string]float64{}
	for name, share := range w.shares(version) {
		out[name] = math.Floor(w.sent[version] * share)
	}
	return out
}

// shares are a version's series and the share of its requests that each counts.
func (w *world) shares(version string) map[string]float64 {
	label, process := w.label(version), w.process(version)
	return map[string]float64{
		requests(label, "200", process): 1 - w.errors[version], requests(label, "503", process): w.errors[version],
		slow(label, "100", process): 0.9, slow(label, "250", process): 0.99, slow(label, "500", process): 0.999, slow(label, "+Inf", process): 1,
	}
}

func (w *world) scrape(at time.Duration) {
	w.t.Helper()
	app := w.db.Appender(w.t.Context())
	for version, sent := range w.sent {
		restart := w.restarts(at, version)
		for name, total := range w.counted(version) {
			if restart {
				w.base[version][name] = total
			}
			v, keep := w.scraped(at, version, total-w.base[version][name])
			if !keep || sent == 0 || w.silent(at) {
				continue
			}
			if _, err := app.Append(0, w.labels(name), t0.Add(at).UnixMilli(), v); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if err := app.Commit(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) labels(name string) labels.Labels {
	w.t.Helper()
	l, err := parser.NewParser(parser.Options{}).ParseMetric(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// later is a time after the first step has begun.
const later = 90 * time.Second

func proxies(version string) string {
	if version == "v1" {
		return on(1)
	}
	return on(2)
}

func every(d time.Duration) func(time.Duration, string) bool {
	return func(at time.Duration, _ string) bool { return at > 0 && at%d == 0 }
}

// TestChain holds samples, blocks, verdicts and decisions together to the promise that no data is neither good nor bad.
func TestChain(t *testing.T) {
	broken := func(w *world) { w.errors["v2"] = 0.04 }
	tests := map[string]struct {
		reason  string
		change  func(w *world)
		verdict rollout.Verdict // of the gate "errors" at the end
		end     step
		passed  []step // what must have been decided on the way
		never   []rollout.Decision
	}{
		"Healthy": {
			"as many errors as stable: promoted", func(*world) {},
			rollout.Pass,
			step{rollout.Promote, rollout.AllPassed},
			nil,
			[]rollout.Decision{rollout.Pause},
		},
		"Harmful": {
			"four times the errors: rolled back", broken,
			rollout.Harm,
			step{rollout.Rollback, rollout.ErrorsHarm},
			nil, nil,
		},
		"Idle": {
			"a service without requests is held and pauses at the cap, and nothing is decided for it",
			func(w *world) { w.traffic = func(time.Duration) float64 { return 0 } },
			rollout.NoData,
			step{rollout.Hold, rollout.NoBlocks},
			[]step{{rollout.Hold, rollout.NoBlocks}, {rollout.Pause, rollout.NoBlocks}},
			nil,
		},
		"BecomesIdle": {
			"so is one that loses its requests on the way",
			func(w *world) {
				w.traffic = func(at time.Duration) float64 {
					if at > later {
						return 0
					}
					return 2
				}
			},
			rollout.NoData,
			step{rollout.Hold, rollout.NoBlocks},
			[]step{{rollout.Hold, rollout.NoBlocks}},
			nil,
		},
		"NaN": {
			"a canary of which all samples are NaN has no data",
			func(w *world) {
				w.scraped = func(_ time.Duration, version string, v float64) (float64, bool) {
					if version == "v2" {
						v = math.NaN()
					}
					return v, true
				}
			},
			rollout.NoData,
			step{rollout.Hold, rollout.NoCanary},
			[]step{{rollout.Hold, rollout.NoCanary}},
			nil,
		},
		"NoCanary": {
			"a canary that nobody scrapes has none either, whatever it does",
			func(w *world) {
				broken(w)
				w.scraped = func(_ time.Duration, version string, v float64) (float64, bool) { return v, version == "v1" }
			},
			rollout.NoData,
			step{rollout.Hold, rollout.NoCanary},
			[]step{{rollout.Hold, rollout.NoCanary}},
			nil,
		},
		"NoStable": {
			"without stable there is nothing to compare with",
			func(w *world) {
				broken(w)
				w.scraped = func(_ time.Duration, version string, v float64) (float64, bool) { return v, version == "v2" }
			},
			rollout.NoData,
			step{rollout.Hold, rollout.NoStable},
			[]step{{rollout.Hold, rollout.NoStable}},
			nil,
		},
		"NoVersionLabel": {
			"telemetry without the version label says nothing of a version",
			func(w *world) { broken(w); w.label = func(string) string { return "" } },
			rollout.NoData,
			step{rollout.Hold, rollout.NoBlocks},
			[]step{{rollout.Hold, rollout.NoBlocks}},
			nil,
		},
		"ResetBoth": {
			"a proxy that restarts every minute counts from zero: no errors are made up",
			func(w *world) { w.restarts = every(time.Minute) },
			rollout.Pass,
			step{rollout.Promote, rollout.AllPassed},
			nil,
			[]rollout.Decision{rollout.Pause},
		},
		"ResetOne": {
			"nor when only the canary's proxy does",
			func(w *world) {
				w.process = proxies
				w.restarts = func(at time.Duration, version string) bool { return version == "v2" && every(time.Minute)(at, version) }
			},
			rollout.Pass,
			step{rollout.Promote, rollout.AllPassed},
			nil,
			[]rollout.Decision{rollout.Pause},
		},
		"ResetTorn": {
			"of a process in which only the canary's series fell nothing is counted in that block",
			func(w *world) {
				w.restarts = func(at time.Duration, version string) bool { return version == "v2" && every(time.Minute)(at, version) }
			},
			rollout.Pass,
			step{rollout.Promote, rollout.AllPassed},
			nil,
			[]rollout.Decision{rollout.Pause},
		},
		"ResetHarmful": {
			"restarts do not hide harm",
			func(w *world) { broken(w); w.restarts = every(30 * time.Second) },
			rollout.Harm,
			step{rollout.Rollback, rollout.ErrorsHarm},
			nil, nil,
		},
		"Restart": {
			"while Prometheus is down nothing is decided; afterwards the run goes on",
			func(w *world) {
				w.silent = func(at time.Duration) bool { return at > interval && at <= 5*time.Minute }
			},
			rollout.Pass,
			step{rollout.Promote, rollout.AllPassed},
			[]step{{rollout.Hold, rollout.NoBlocks}},
			[]rollout.Decision{rollout.Pause},
		},
		"RestartHarmful": {
			"and finds what is harmful",
			func(w *world) {
				broken(w)
				w.silent = func(at time.Duration) bool { return at > interval && at <= 5*time.Minute }
			},
			rollout.Harm,
			step{rollout.Rollback, rollout.ErrorsHarm},
			[]step{{rollout.Hold, rollout.NoBlocks}},
			nil,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.change(w)
			last, findings := w.play()
			if got := (step{last.Decision, last.Reason}); got != tc.end || findings[0].Verdict != tc.verdict {
				t.Errorf("%s: ended with %v and %q, want %v and %q: %s; on the way %v", tc.reason, got, findings[0].Verdict, tc.end, tc.verdict, last.Message, w.said)
			}
			for _, s := range tc.passed {
				if !slices.Contains(w.said, s) {
					t.Errorf("%s: never decided %v, but %v", tc.reason, s, w.said)
				}
			}
			never := tc.never
			if tc.verdict == rollout.NoData {
				never = append(never, rollout.Promote, rollout.Rollback)
			}
			for _, s := range w.said {
				if slices.Contains(never, s.decision) {
					t.Errorf("%s: decided %v", tc.reason, s)
				}
			}
			if tc.verdict == rollout.NoData && w.run.Step != 1 {
				t.Errorf("%s: at step %d, want the first", tc.reason, w.run.Step)
			}
		})
	}
}

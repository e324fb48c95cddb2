package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/backtest"
)

// TestBadFlags: an error names the flag, the value and what was expected.
func TestBadFlags(t *testing.T) {
	file, _ := written(t, coolant)
	plan := []string{"plan", "--weight", "5,25"}
	simulate := []string{"backtest", "--weight", "5,25", "--simulate"}
	recorded := []string{"backtest", "-f", file, "--stable", "v1"}
	for _, c := range []struct {
		args []string
		more string
		want string
	}{
		{[]string{"plan"}, "", "at least one of the flags in the group [filename weight] is required"},
		{[]string{"backtest"}, "--weight 5", "at least one of the flags in the group [simulate prometheus tsdb openmetrics] is required"},
		{simulate, "--tsdb x", "none of the others can be"},
		{plan, "--rps 0", "reading --rps: 0 must be above 0 and at most 1000000"},
		{plan, "--error-rate 2", "reading --error-rate: 2 must be a share between 0 and 1"},
		{plan, "--users -1", "reading --users: -1 must be between 0 and 1000000"},
		{plan, "--failing-users 0.1", "reading --failing-users: 0.1 needs --users"},
		{plan, "--spread 0", "reading --spread: 0 must be above 0 and at most 100"},
		{plan, "--latency -1s", "reading --latency: -1s must not be negative"},
		{plan, "--runs 0", "reading --runs: 0 must be at least 1"},
		{plan, "--hold -1m", "reading --hold: -1m0s must not be negative"},
		{plan, "--cap 0s", "reading --cap: 0s must be at least 1s"},
		{plan, "--output yaml", `reading --output: "yaml" must be table or json`},
		{plan, "--harm lots", `reading --harm: "lots" must be a ratio such as 2`},
		{plan, "--harm cost=2", `reading --harm: "cost=2" must be a ratio such as 2`},
		{plan, "--harm latency=2", "reading --harm: no gate of the plan measures latency x2"},
		{[]string{"plan", "--weight", "5,5"}, "", "reading --weight: 5 must be above 5 and at most 100"},
		{[]string{"plan", "--weight", "101"}, "", "reading --weight: 101 must be above 0 and at most 100"},
		{[]string{"plan", "-f", "missing.yaml"}, "", "open missing.yaml: no such file or directory"},
		{simulate, "--harm-after -1s", "reading --harm-after: -1s must not be negative"},
		{simulate, "--harm-weight 101", "reading --harm-weight: 101 must be between 0 and 100"},
		{recorded, "--tsdb missing", `opening TSDB "missing": it must be a directory`},
		{recorded, "--openmetrics missing.txt", "open missing.txt: no such file or directory"},
		{recorded, "--prometheus localhost:9090", `reading --prometheus: "localhost:9090" must be a URL such as http://localhost:9090`},
		{recorded, "--prometheus http://localhost:9090", "--prometheus needs --from TIME, such as 2026-03-01T12:00:00Z"},
		{recorded, "--prometheus http://localhost:9090 --from noon", `reading --from: "noon" must be a time such as 2026-03-01T12:00:00Z`},
		{recorded, "--prometheus http://localhost:9090 --from 2026-03-01T12:00:00Z --to 2026-03-01T12:00:10Z", "there is no block of 15s"},
		{recorded, "--tsdb x --rps 10", "reading --rps: it describes simulated traffic; use it with --simulate"},
		{recorded, "--tsdb x --canary v1", `reading --canary: "v1" is the stable version`},
		{[]string{"backtest", "-f", file}, "--tsdb x", "recorded metrics need --stable VERSION"},
		{[]string{"backtest", "--weight", "5"}, "--tsdb x", "recorded metrics need -f FILE"},
	} {
		args := append(slices.Clone(c.args), strings.Fields(c.more)...)
		if _, err := call(t, args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want it to say %q", strings.Join(args, " "), err, c.want)
		}
	}
}

// TestBadManifests: a file is held to what the API server would say, with its line.
func TestBadManifests(t *testing.T) {
	for text, want := range map[string]string{
		"kind: ConfigMap\napiVersion: v1\n":                               "it must hold one Rollout, not 0",
		coolant + "---\n" + coolant:                                       "it must hold one Rollout, not 2",
		strings.Replace(coolant, "weight: 50", "weight: 5", 1):            "steps must have growing weights",
		strings.Replace(coolant, "type: ErrorRate", "type: Errors", 1):    "Errors",
		strings.Replace(coolant, "margin: \"1.5\"", "margin: \"0.5\"", 1): "margin must be a decimal above 1",
	} {
		if _, err := onlyRollout(t.Context(), "coolant.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
}

func TestParseHarm(t *testing.T) {
	for text, want := range map[string]backtest.Named{
		"2":                       {Name: "errors x2", Fault: backtest.Fault{Errors: 2}},
		"errors=1.5":              {Name: "errors x1.5", Fault: backtest.Fault{Errors: 1.5}},
		"latency=1.2, energy=1.3": {Name: "latency x1.2, energy x1.3", Fault: backtest.Fault{Slower: 1.2, Energy: 1.3}},
		"mean=0.5":                {Name: "mean x0.5", Fault: backtest.Fault{Mean: 0.5}},
	} {
		got, err := parseHarm(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// requirement is one that half of the runs need half, and nearly all need most.
func requirement(what string, half, most time.Duration) backtest.Requirement {
	limit, many, p50, p95 := half.Seconds()/2, half.Seconds()*50, half.Seconds(), most.Seconds()
	r := backtest.Requirement{
		What: what, LimitSeconds: &limit, LimitRequests: &many, HorizonSeconds: 2400, MeanSeconds: p50,
		Done: backtest.Share{Count: 20, Of: 20}, P50Seconds: &p50, P95Seconds: &p95,
	}
	if p95 > 2400 {
		r.P95Seconds, r.Done.Count, r.AtLeast = nil, 15, true
	}
	return r
}

func needs() []backtest.Need {
	return []backtest.Need{
		{
			Step: 1, Weight: 5, HoldSeconds: 120, CapSeconds: 1200, Pass: requirement("pass when healthy", 10*time.Minute, 15*time.Minute),
			See: []backtest.Requirement{
				requirement("see errors x1.5", 25*time.Minute, time.Hour), requirement("see errors x2", 12*time.Minute, 26*time.Minute),
			},
		},
		{Step: 2, Weight: 50, HoldSeconds: 300, CapSeconds: 1200, Pass: requirement("pass when healthy", time.Minute, 2*time.Minute)},
		{Step: 3, Weight: 100, CapSeconds: 1200, Pass: backtest.Requirement{What: "pass when healthy", HorizonSeconds: 2400, MeanSeconds: 2400, AtLeast: true, Done: backtest.Share{Of: 20}}},
	}
}

func TestAdvise(t *testing.T) {
	plan := rollout.Plan{Gates: []rollout.Gate{{Name: "errors", Type: rollout.ErrorRate}}}
	want := []string{
		"step 1 at 5 % needs more than 40m to see errors x1.5; its cap is 20m: it will end Inconclusive",
		"step 1 at 5 % needs 26m to see errors x2; its cap is 20m: it may end Inconclusive",
		"step 1 at 5 % is held for 2m, but its gates need 10m in the mean: it will take longer than its hold",
		"step 3 at 100 % leaves no stable traffic to compare with: its gates have no data, and it pauses at its cap",
	}
	if diff := cmp.Diff(want, advise(plan, needs())); diff != "" {
		t.Errorf("advice (-want +got):\n%s", diff)
	}
	if got := advise(rollout.Plan{}, nil); len(got) != 1 || !strings.Contains(got[0], "no gates") {
		t.Errorf("a plan without gates is told %q", got)
	}
}

// TestBeforehand: what comes before the first step is said to be left out, by plan and by backtest.
func TestBeforehand(t *testing.T) {
	const preview, shadow = "preview: {hold: 5m, approval: Manual}", "shadow: {percent: 10, hold: 10m}"
	for strategy, want := range map[string]string{
		"{" + preview + "}":                     "before the first step comes a preview (5m, then a promotion by request): it is not simulated, and the times begin after it\n",
		"{" + shadow + "}":                      "before the first step comes a shadow (10m): it is not simulated, and the times begin after it\n",
		"{preview: {hold: 5m}, " + shadow + "}": "before the first step come a preview (5m) and a shadow (10m), together: they are not simulated, and the times begin after them\n",
		"{}":                                    "",
	} {
		file, _ := written(t, strings.Replace(coolant, "  steps:", "  strategy: "+strategy+"\n  steps:", 1))
		for _, args := range [][]string{{"plan"}, {"backtest", "--simulate"}} {
			got, err := call(t, append(args, "-f", file, "--runs", "1", "--rps", "500")...)
			if err != nil {
				t.Fatalf("%v: %v", args, err)
			}
			if !strings.Contains(got, want) || want == "" && strings.Contains(got, "before the first step") {
				t.Errorf("%v with strategy %s: got\n%s\nwant it to say %q", args, strategy, got, want)
			}
		}
	}
}

func TestPlanTable(t *testing.T) {
	a := planAnswer{
		Plan: planSummary{FalseAlarm: 0.01, Miss: 0.05}, RequestsPerSecond: 100, ErrorRate: 0.002, Steps: needs(),
		Whole:  backtest.Report{Promoted: backtest.Share{Share: 0.95}, Passage: &backtest.Spread{Mean: 900, P95: 1800}},
		Advice: []string{"advice"},
	}
	want := `100 requests/s, 0.2 % errors; false alarm 1 %, miss 5 % over 3 steps

STEP   WEIGHT   TO                  LIMIT    REQUESTS   MEAN       95 % WITHIN
1      5 %      pass when healthy   5m       30000      10m        15m
                see errors x1.5     12m30s   75000      over 25m   over 40m
                see errors x2       6m       36000      12m        26m
2      50 %     pass when healthy   30s      3000       1m         2m
3      100 %    pass when healthy   -        -          over 40m   over 40m

A healthy version is promoted in 95 % of the runs, after 15m in the mean; 95 % of those within 30m.
advice
`
	var got strings.Builder
	if err := a.write(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestReplayTable(t *testing.T) {
	ratio, low := 5.1, 3.2
	a := backtestAnswer{
		Source: "recorded: dump.txt", Notes: []string{`gate "ratio" is left out`},
		Replay: &replaySummary{
			Ending: backtest.RolledBack, Reason: rollout.ErrorsHarm, Message: "canary 5%, stable 1% errors",
			Start: recordedAt, End: recordedAt.Add(4*time.Minute + 5*time.Second), Requests: 49000, Exposed: 4900,
			Weights: []weightSummary{{recordedAt, 1, 10}},
			Gates: []gateFinding{
				{Name: "errors", Verdict: rollout.Harm, Reason: rollout.ErrorsHarm, Estimate: &ratio, Low: &low},
				{Name: "latency", Verdict: rollout.Wait, Reason: rollout.CollectingEvidence},
			},
		},
	}
	want := `recorded: dump.txt
gate "ratio" is left out

12:00:00  step 1: 10 %
12:04:05  RolledBack (ErrorsHarm): canary 5%, stable 1% errors

GATE      VERDICT   RATIO   INTERVAL     REASON
errors    Harm      5.1     3.2 to any   ErrorsHarm
latency   Wait      -       -            CollectingEvidence

4900 of 49000 requests had met the canary, 4m05s after the start.
`
	var got strings.Builder
	if err := a.write(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// paths lists the paths of all fields of a JSON value; those of a list are the ones of any element.
func paths(v any, path string, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if strings.HasSuffix(path, "reasons") {
				k = "*"
			}
			paths(x, strings.TrimPrefix(path+"."+k, "."), into)
		}
	case []any:
		for _, x := range v {
			paths(x, path+"[]", into)
		}
		if len(v) == 0 {
			into[path+"[]"] = true
		}
	default:
		into[path] = true
	}
}

// TestJSONIsStable: tools read these fields. A line may be added here, never changed or taken away.
func TestJSONIsStable(t *testing.T) {
	file, plan := written(t, coolant)
	dir := database(t, known(plan))
	share := func(path string) []string {
		return []string{path + ".count", path + ".high", path + ".low", path + ".of", path + ".share"}
	}
	spread := func(path string) []string {
		return []string{path + ".meanSeconds", path + ".p50Seconds", path + ".p95Seconds"}
	}
	report := func(path string, harmful bool) []string {
		out := slices.Concat([]string{
			path + ".name", path + ".runs", path + ".reasons.*", path + ".falseAlarmBound", path + ".missBound", path + ".exposed.mean", path + ".exposed.p95",
		}, share(path+".promoted"), share(path+".rolledBack"), share(path+".paused"), share(path+".unfinished"), share(path+".falseAlarms"), spread(path+".passage"))
		if harmful {
			out = slices.Concat(out, share(path+".detected"), share(path+".missed"), spread(path+".delay"), []string{path + ".limitSeconds", path + ".efficiency"})
		}
		return out
	}
	summary := []string{
		"plan.capSeconds", "plan.falseAlarm", "plan.intervalSeconds", "plan.miss", "plan.steps[].weight", "plan.steps[].holdSeconds",
		"plan.gates[].name", "plan.gates[].type", "plan.gates[].margin",
	}
	need := func(path string) []string {
		return append(share(path+".done"), path+".horizonSeconds", path+".limitRequests", path+".limitSeconds", path+".meanSeconds", path+".meanIsAtLeast",
			path+".p50Seconds", path+".p95Seconds", path+".what")
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"plan": {
			[]string{"plan", "--weight", "20,50", "--rps", "1000", "--runs", "3", "--harm", "5"},
			slices.Concat(summary, []string{"advice[]", "errorRate", "requestsPerSecond", "seed"}, report("whole", false),
				[]string{"steps[].step", "steps[].weight", "steps[].holdSeconds", "steps[].capSeconds"}, need("steps[].pass"), need("steps[].see[]")),
		},
		"simulated": {
			[]string{"backtest", "--weight", "20,50", "--rps", "1000", "--runs", "3", "--harm", "5", "--simulate"},
			slices.Concat(summary, []string{"seed", "source"}, report("reports[]", true)),
		},
		"recorded": {
			[]string{"backtest", "-f", file, "--stable", "v1", "--tsdb", dir},
			slices.Concat(summary, []string{"source"}, []string{
				"replay.ending", "replay.reason", "replay.message", "replay.start", "replay.end", "replay.requests", "replay.exposed",
				"replay.weights[].at", "replay.weights[].step", "replay.weights[].weight",
				"replay.gates[].name", "replay.gates[].verdict", "replay.gates[].reason", "replay.gates[].message",
				"replay.gates[].estimate", "replay.gates[].low", "replay.gates[].high",
			}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := call(t, append(c.args, "-o", "json")...)
			if err != nil {
				t.Fatal(err)
			}
			var v any
			if err := json.Unmarshal([]byte(out), &v); err != nil {
				t.Fatal(err)
			}
			got := map[string]bool{}
			paths(v, "", got)
			want := slices.Sorted(slices.Values(c.want))
			if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
				t.Errorf("fields (-want +got):\n%s\n%s", diff, out)
			}
		})
	}
}

// TestPlanTellsTheCap: a step that is too short at the traffic is named, and one that is not is not.
func TestPlanTellsTheCap(t *testing.T) {
	advice := func(rps int) string {
		out, err := call(t, "plan", "--weight", "5,25", "--cap", "20m", "--runs", "10", "--harm", "2", "--rps", fmt.Sprint(rps))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := advice(10); !strings.Contains(got, "step 1 at 5 % needs more than 40m to see errors x2; its cap is 20m: it will end Inconclusive") {
		t.Errorf("at 10 requests a second a step of 5 %% cannot see errors double within 20m, and plan says\n%s", got)
	}
	if got := advice(5000); strings.Contains(got, "Inconclusive") {
		t.Errorf("at 5000 requests a second it can, and plan says\n%s", got)
	}
}

// TestSeeds: the same seed gives the same answer, byte by byte, and another one another.
func TestSeeds(t *testing.T) {
	answer := func(seed string) string {
		out, err := call(t, "backtest", "--simulate", "--weight", "10", "--runs", "8", "--rps", "100", "--seed", seed)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if diff := cmp.Diff(answer("1"), answer("1")); diff != "" {
		t.Errorf("two answers of one seed:\n%s", diff)
	}
	if answer("1") == answer("2") {
		t.Error("two seeds give one answer")
	}
}

// TestREADME: the command that README.md shows answers as README.md says, save for the simulated times and what follows from
// them, which change with the judge.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, found := strings.Cut(string(text), "$ rollout plan ")
	shown, _, closed := strings.Cut(shown, "```")
	if !found || !closed {
		t.Fatal("README.md shows no answer of rollout plan")
	}
	command, shown, _ := strings.Cut(shown, "\n")
	got, err := call(t, append([]string{"plan"}, strings.Fields(command)...)...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lasting(shown), lasting(got)); diff != "" {
		t.Errorf("rollout plan %s (-README +got):\n%s", command, diff)
	}
}

// lasting are the lines of plan's table without the two columns of simulated times.
func lasting(text string) []string {
	var out []string
	columns := regexp.MustCompile(`^(.*\S)\s{3,}(over )?\S+\s{3,}(over )?\S+$`)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			if len(out) > 1 {
				break // the table ends
			}
			continue
		}
		if m := columns.FindStringSubmatch(line); m != nil && !strings.HasPrefix(line, "STEP") {
			line = m[1]
		}
		out = append(out, strings.Join(strings.Fields(line), " "))
	}
	return out
}

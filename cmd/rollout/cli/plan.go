package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/backtest"
)

// clockStart is when simulated clocks begin: any instant on every grid will do.
var clockStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// planCall is one call of plan.
type planCall struct {
	planFlags
	trafficFlags
	harms  []string
	output string
}

func (a *app) plan() *cobra.Command {
	c := &planCall{planFlags: planFlags{app: a}}
	cmd := &cobra.Command{
		Use:   "plan (-f FILE | --weight 5,25,50)",
		Short: "Say how long each step of a rollout needs at your traffic",
		Long: `Say, before the start, how long each step of a rollout needs to see a harm of a given size, and to pass when there is none,
at a given traffic and error rate. The limit is what no judge beats in the mean; the other times are simulated with the judge
that the controller uses, each step by itself. A step whose cap is shorter than what it needs is named: it would wait in vain.`,
		Example: a.examples(
			"plan -f coolant.yaml --rps 200 --error-rate 0.002",
			"plan --weight 5,25,50 --rps 20 --harm 2 --harm 5",
			"plan -f coolant.yaml --rps 200 --harm latency=1.5 --output json"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	c.planFlags.add(cmd)
	c.trafficFlags.add(cmd, 60, "how many runs are simulated for each answer")
	cmd.Flags().StringArrayVar(&c.harms, "harm", []string{"1.5", "2", "5"},
		"a harm to see, as ratios to stable: 2, errors=2, latency=1.5, mean=1.2, energy=1.3, or several with commas; may be repeated")
	addOutput(cmd, &c.output)
	return cmd
}

// addOutput adds the flag that chooses between a table and JSON.
func addOutput(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVarP(to, "output", "o", "table", "table or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

func checkOutput(output string) error {
	if output != "table" && output != "json" {
		return fmt.Errorf("reading --output: %q must be table or json", output)
	}
	return nil
}

// planAnswer is what plan says, as JSON.
type planAnswer struct {
	Plan              planSummary     `json:"plan"`
	RequestsPerSecond float64         `json:"requestsPerSecond"`
	ErrorRate         float64         `json:"errorRate"`
	Seed              uint64          `json:"seed"`
	Steps             []backtest.Need `json:"steps"`
	// Whole is the report of healthy runs through all steps.
	Whole  backtest.Report `json:"whole"`
	Advice []string        `json:"advice"`
}

// planSummary is a plan as JSON.
type planSummary struct {
	Steps           []stepSummary `json:"steps"`
	Gates           []gateSummary `json:"gates"`
	IntervalSeconds float64       `json:"intervalSeconds"`
	CapSeconds      float64       `json:"capSeconds"`
	FalseAlarm      float64       `json:"falseAlarm"`
	Miss            float64       `json:"miss"`
}

type stepSummary struct {
	Weight      int     `json:"weight"`
	HoldSeconds float64 `json:"holdSeconds"`
}

type gateSummary struct {
	Name   string           `json:"name"`
	Type   rollout.GateType `json:"type"`
	Margin float64          `json:"margin,omitempty"`
}

func summarise(p rollout.Plan) planSummary {
	s := planSummary{IntervalSeconds: p.Interval.Seconds(), CapSeconds: p.Cap.Seconds(), FalseAlarm: p.FalseAlarm, Miss: p.Miss}
	for _, x := range p.Steps {
		s.Steps = append(s.Steps, stepSummary{x.Weight, x.Hold.Seconds()})
	}
	for _, g := range p.Gates {
		s.Gates = append(s.Gates, gateSummary{g.Name, g.Type, g.Margin})
	}
	return s
}

func (c *planCall) run(ctx context.Context) error {
	if err := c.check(); err != nil {
		return err
	}
	p, err := c.meant(ctx)
	if err != nil {
		return err
	}
	faults, err := parseHarms(p.plan, c.harms)
	if err != nil {
		return err
	}
	q := backtest.Question{Plan: p.plan, Traffic: c.traffic(p.plan), Faults: faults, Runs: c.runs, Seed: c.seed, Start: clockStart}
	needs, err := backtest.Needs(ctx, q)
	if err != nil {
		return fmt.Errorf("simulating: %w", err)
	}
	o := backtest.Options{Plan: p.plan, Start: clockStart}
	whole, err := backtest.Many(ctx, c.runs, func(i int) backtest.Record { return backtest.Simulated(o, q.Traffic, c.seed, i) })
	if err != nil {
		return fmt.Errorf("simulating: %w", err)
	}
	answer := planAnswer{
		Plan: summarise(p.plan), RequestsPerSecond: c.rps, ErrorRate: c.errorRate, Seed: c.seed, Steps: needs,
		Whole: backtest.Summarise("healthy", p.plan, whole), Advice: append(advise(p.plan, needs), p.before...),
	}
	if c.output == "json" {
		return writeJSON(c.io.Out, answer)
	}
	return answer.write(c.io.Out)
}

func (c *planCall) check() error {
	if err := c.trafficFlags.check(); err != nil {
		return err
	}
	if c.runs < 1 {
		return fmt.Errorf("reading --runs: %d must be at least 1", c.runs)
	}
	return checkOutput(c.output)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// write writes the answer as a table, with the advice below.
func (a planAnswer) write(out io.Writer) error {
	fmt.Fprintf(out, "%g requests/s, %g %% errors; false alarm %g %%, miss %g %% over %s\n\n",
		a.RequestsPerSecond, 100*a.ErrorRate, 100*a.Plan.FalseAlarm, 100*a.Plan.Miss, count(len(a.Steps), "step"))
	tw := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "STEP\tWEIGHT\tTO\tLIMIT\tREQUESTS\tMEAN\t95 % WITHIN")
	for _, n := range a.Steps {
		step, weight := fmt.Sprint(n.Step), fmt.Sprintf("%d %%", n.Weight)
		for _, r := range append([]backtest.Requirement{n.Pass}, n.See...) {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", step, weight, r.What, limit(r), requests(r), meanTime(r), within(r))
			step, weight = "", ""
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if p := a.Whole.Passage; p != nil {
		fmt.Fprintf(out, "A healthy version is promoted in %s of the runs, after %s in the mean; 95 %% of those within %s.\n",
			percentage(a.Whole.Promoted.Share), clock(p.Mean), clock(p.P95))
	} else {
		fmt.Fprintln(out, "A healthy version is promoted in none of the runs.")
	}
	for _, line := range a.Advice {
		fmt.Fprintln(out, line)
	}
	return nil
}

func limit(r backtest.Requirement) string {
	if r.LimitSeconds == nil {
		return "-"
	}
	return clock(*r.LimitSeconds)
}

func requests(r backtest.Requirement) string {
	if r.LimitRequests == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", *r.LimitRequests)
}

func meanTime(r backtest.Requirement) string {
	if r.AtLeast {
		return "over " + clock(r.MeanSeconds)
	}
	return clock(r.MeanSeconds)
}

func within(r backtest.Requirement) string {
	if r.P95Seconds == nil {
		return "over " + clock(r.HorizonSeconds)
	}
	return clock(*r.P95Seconds)
}

func clock(seconds float64) string {
	return backtest.Clock(time.Duration(seconds * float64(time.Second)))
}

func percentage(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }

// advise names the steps that cannot end as they should.
func advise(plan rollout.Plan, needs []backtest.Need) []string {
	lines := []string{}
	for _, n := range needs {
		at := fmt.Sprintf("step %d at %d %%", n.Step, n.Weight)
		if n.Weight == 100 {
			lines = append(lines, at+" leaves no stable traffic to compare with: its gates have no data, and it pauses at its cap")
			continue
		}
		for _, r := range append([]backtest.Requirement{n.Pass}, n.See...) {
			if late(r.P95Seconds, n.CapSeconds) {
				lines = append(lines, fmt.Sprintf("%s needs %s to %s; its cap is %s: %s", at, needed(r), r.What, clock(n.CapSeconds), outcome(r, n.CapSeconds)))
			}
		}
		if hold := n.HoldSeconds; n.Pass.MeanSeconds > hold && hold > 0 && !late(n.Pass.P95Seconds, n.CapSeconds) {
			lines = append(lines, fmt.Sprintf("%s is held for %s, but its gates need %s in the mean: it will take longer than its hold", at, clock(hold), clock(n.Pass.MeanSeconds)))
		}
	}
	if len(plan.Gates) == 0 {
		lines = append(lines, "the plan has no gates: every step passes after its hold")
	}
	return lines
}

// outcome says how a step ends whose cap is too short.
func outcome(r backtest.Requirement, limit float64) string {
	if late(r.P50Seconds, limit) {
		return fmt.Sprintf("it will end %s", rollout.Inconclusive)
	}
	return fmt.Sprintf("it may end %s", rollout.Inconclusive)
}

// late says whether a time is longer than the cap, or was not reached at all.
func late(seconds *float64, limit float64) bool { return seconds == nil || *seconds > limit }

// needed is the time that 95 % of the runs need.
func needed(r backtest.Requirement) string {
	if r.P95Seconds == nil {
		return "more than " + clock(r.HorizonSeconds)
	}
	return clock(*r.P95Seconds)
}

package cli

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/backtest"
)

// backtestCall is one call of backtest.
type backtestCall struct {
	planFlags
	trafficFlags
	recordFlags
	simulate bool
	harm     string
	after    time.Duration
	load     int
	output   string
}

func (a *app) backtest() *cobra.Command {
	c := &backtestCall{planFlags: planFlags{app: a}}
	cmd := &cobra.Command{
		Use:   "backtest (-f FILE | --weight 5,25,50) (--simulate | --prometheus URL | --tsdb DIR | --openmetrics FILE)",
		Short: "Replay recorded or simulated traffic through the judge",
		Long: `Replay recorded or simulated traffic through the judge that the controller uses.

With --simulate, healthy runs give the rate of false alarms, and runs with a harm the probability of finding it, the delay, and
the efficiency: how the delay compares with what no judge beats in the mean. With recorded metrics the run of --stable against
--canary is judged again as it was counted; with --runs the stable version's traffic is split anew that many times by the weights
of the plan, once as it is and once with --harm added to its errors, which says what the plan would make of your own traffic.`,
		Example: a.examples(
			"backtest --simulate --weight 5,25,50 --hold 5m --rps 200 --harm 2",
			"backtest -f coolant.yaml --simulate --rps 200 --users 5000 --failing-users 0.002",
			"backtest -f coolant.yaml --prometheus http://localhost:9090 --stable v1 --canary v2 --from 2026-03-01T12:00:00Z --to 2026-03-01T14:00:00Z",
			"backtest -f coolant.yaml --tsdb /prometheus --stable v1 --runs 200 --harm 2",
			"backtest -f coolant.yaml --openmetrics dump.txt --stable v1 --canary v2 --output json"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context(), cmd) },
	}
	c.planFlags.add(cmd)
	c.trafficFlags.add(cmd, 200, "how many runs are simulated, or drawn from the record; by default none are drawn")
	c.recordFlags.add(cmd)
	cmd.Flags().BoolVar(&c.simulate, "simulate", false, "simulate the traffic that --rps, --error-rate and others describe")
	cmd.Flags().StringVar(&c.harm, "harm", "2", "what is wrong in the harmful runs, as ratios to stable: 2, errors=2, latency=1.5, mean=1.2, energy=1.3, or several with commas")
	cmd.Flags().DurationVar(&c.after, "harm-after", 0, "when the harm begins, from the start of the run")
	cmd.Flags().IntVar(&c.load, "harm-weight", 0, "the weight from which on the harm shows")
	addOutput(cmd, &c.output)
	cmd.MarkFlagsMutuallyExclusive("simulate", "prometheus", "tsdb", "openmetrics")
	cmd.MarkFlagsOneRequired("simulate", "prometheus", "tsdb", "openmetrics")
	return cmd
}

// backtestAnswer is what backtest says, as JSON.
type backtestAnswer struct {
	Plan   planSummary `json:"plan"`
	Source string      `json:"source"`
	// Seed and Reports are of runs that were drawn; Replay is of one that was recorded.
	Seed    *uint64           `json:"seed,omitempty"`
	Reports []backtest.Report `json:"reports,omitempty"`
	Replay  *replaySummary    `json:"replay,omitempty"`
	Notes   []string          `json:"notes,omitempty"`
}

func (c *backtestCall) run(ctx context.Context, cmd *cobra.Command) error {
	if err := c.check(); err != nil {
		return err
	}
	p, err := c.meant(ctx)
	if err != nil {
		return err
	}
	harm, err := parseHarms(p.plan, []string{c.harm})
	if err != nil && (c.simulate || cmd.Flags().Changed("harm")) { // the default need not suit a record
		return err
	}
	answer := &backtestAnswer{Notes: p.before}
	if c.simulate {
		err = c.simulated(ctx, p, harm[0], answer)
	} else {
		err = c.recorded(ctx, cmd, p, answer)
	}
	if err != nil {
		return err
	}
	if c.output == "json" {
		return writeJSON(c.io.Out, answer)
	}
	return answer.write(c.io.Out)
}

func (c *backtestCall) check() error {
	if err := c.trafficFlags.check(); err != nil {
		return err
	}
	switch {
	case c.after < 0:
		return fmt.Errorf("reading --harm-after: %s must not be negative", c.after)
	case c.load < 0 || c.load > 100:
		return fmt.Errorf("reading --harm-weight: %d must be between 0 and 100", c.load)
	case c.simulate && c.runs < 1:
		return fmt.Errorf("reading --runs: %d must be at least 1", c.runs)
	}
	return checkOutput(c.output)
}

// timed is the fault of --harm with the time and the weight at which it begins.
func (c *backtestCall) timed(n backtest.Named) backtest.Named {
	n.Fault.From, n.Fault.MinWeight = c.after, c.load
	if c.after > 0 {
		n.Name += fmt.Sprintf(" after %s", backtest.Clock(c.after))
	}
	if c.load > 0 {
		n.Name += fmt.Sprintf(" from %d %%", c.load)
	}
	return n
}

// simulated replays healthy and harmful runs of simulated traffic.
func (c *backtestCall) simulated(ctx context.Context, p planned, harm backtest.Named, a *backtestAnswer) error {
	harm = c.timed(harm)
	a.Plan, a.Seed = summarise(p.plan), &c.seed
	a.Source = fmt.Sprintf("simulated: %g requests/s, %g %% errors", c.rps, 100*c.errorRate)
	if c.users > 0 {
		a.Source += fmt.Sprintf(", %d sticky users of whom %g %% always fail", c.users, 100*c.failing)
	}
	healthy, o := c.traffic(p.plan), backtest.Options{Plan: p.plan, Start: clockStart}
	for _, kind := range []backtest.Named{{Name: "healthy"}, harm} {
		t := healthy
		t.Fault = kind.Fault
		records, err := backtest.Many(ctx, c.runs, func(i int) backtest.Record { return backtest.Simulated(o, t, c.seed, i) })
		if err != nil {
			return fmt.Errorf("simulating: %w", err)
		}
		a.Reports = append(a.Reports, backtest.Summarise(kind.Name, p.plan, records))
	}
	return nil
}

// recorded replays what was recorded: once as it was, or many times with stable's traffic split anew.
func (c *backtestCall) recorded(ctx context.Context, cmd *cobra.Command, p planned, a *backtestAnswer) error {
	runs := 0
	if cmd.Flags().Changed("runs") {
		runs = c.runs
	}
	for _, name := range []string{"rps", "error-rate", "users", "failing-users", "latency", "spread"} {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("reading --%s: it describes simulated traffic; use it with --simulate", name)
		}
	}
	plan := p.plan
	plan.Gates = slices.DeleteFunc(slices.Clone(plan.Gates), func(g rollout.Gate) bool {
		if g.Type == rollout.SampleRatio || runs > 0 && !backtest.Resamples(g) {
			a.Notes = append(a.Notes, left(g))
			return true
		}
		return false
	})
	tape, start, err := c.tape(ctx, planned{Rollout: p.Rollout, plan: plan}, runs == 0, a)
	if err != nil {
		return err
	}
	a.Plan = summarise(plan)
	if runs == 0 {
		a.Replay = replay(plan, tape, start)
		return nil
	}
	return c.resample(ctx, backtest.Options{Plan: plan, Start: start}, tape, runs, a)
}

// left says why a gate takes no part.
func left(g rollout.Gate) string {
	if g.Type == rollout.SampleRatio {
		return fmt.Sprintf("gate %q is left out: the record was made at other weights than the replay's", g.Name)
	}
	return fmt.Sprintf("gate %q is left out: its sums cannot be split between units", g.Name)
}

// resample splits the stable traffic of a record anew, run by run, without a fault and with one.
func (c *backtestCall) resample(ctx context.Context, o backtest.Options, tape backtest.Tape, runs int, a *backtestAnswer) error {
	a.Seed = &c.seed
	kinds := []backtest.Named{{Name: "healthy"}}
	n, err := parseHarm(c.harm)
	switch {
	case err != nil:
		return err
	case n.Fault != backtest.Fault{Errors: n.Fault.Errors} || n.Fault.Errors <= 1:
		return fmt.Errorf("reading --harm: %q must be errors above 1: to a record only errors can be added", c.harm)
	case shows(o.Plan, n.Fault):
		kinds = append(kinds, c.timed(n))
	default:
		a.Notes = append(a.Notes, "no gate of the plan measures errors: there are no harmful runs")
	}
	for _, kind := range kinds {
		records, err := backtest.Many(ctx, runs, func(i int) backtest.Record {
			o := o
			o.RunID = fmt.Sprintf("run-%d-%d", c.seed, i)
			r := rand.New(rand.NewPCG(c.seed, uint64(i)))
			return backtest.Replay(o, tape.Resample(o.Plan.Gates, kind.Fault, o.RunID, o.Start, r))
		})
		if err != nil {
			return fmt.Errorf("replaying: %w", err)
		}
		a.Reports = append(a.Reports, backtest.Summarise(kind.Name, o.Plan, records))
	}
	return nil
}

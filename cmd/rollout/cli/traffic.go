package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/backtest"
)

// trafficFlags describe simulated traffic.
type trafficFlags struct {
	rps, errorRate float64
	users          int
	failing        float64
	median         time.Duration
	spread         float64
	runs           int
	seed           uint64
}

func (f *trafficFlags) add(cmd *cobra.Command, runs int, whatRuns string) {
	cmd.Flags().Float64Var(&f.rps, "rps", 100, "simulated requests a second, of both versions together")
	cmd.Flags().Float64Var(&f.errorRate, "error-rate", 0.01, "share of stable's simulated requests that fail")
	cmd.Flags().IntVar(&f.users, "users", 0, "how many sticky users send the simulated requests; 0 for requests that are independent")
	cmd.Flags().Float64Var(&f.failing, "failing-users", 0, "share of --users whose requests always fail, in both versions")
	cmd.Flags().DurationVar(&f.median, "latency", 0, "median of the simulated latency; a third of the gate's threshold by default")
	cmd.Flags().Float64Var(&f.spread, "spread", 1, "standard deviation of one simulated observation of a mean or of joules, as a multiple of the mean")
	cmd.Flags().IntVar(&f.runs, "runs", runs, whatRuns)
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "what the random numbers follow from: the same seed gives the same answer")
}

func (f *trafficFlags) check() error {
	switch {
	case !(f.rps > 0 && f.rps <= 1e6):
		return fmt.Errorf("reading --rps: %g must be above 0 and at most 1000000", f.rps)
	case !(f.errorRate >= 0 && f.errorRate <= 1):
		return fmt.Errorf("reading --error-rate: %g must be a share between 0 and 1", f.errorRate)
	case f.users < 0 || f.users > 1e6:
		return fmt.Errorf("reading --users: %d must be between 0 and 1000000", f.users)
	case !(f.failing >= 0 && f.failing <= 1):
		return fmt.Errorf("reading --failing-users: %g must be a share between 0 and 1", f.failing)
	case f.failing > 0 && f.users == 0:
		return fmt.Errorf("reading --failing-users: %g needs --users", f.failing)
	case f.median < 0:
		return fmt.Errorf("reading --latency: %s must not be negative", f.median)
	case !(f.spread > 0 && f.spread <= 100):
		return fmt.Errorf("reading --spread: %g must be above 0 and at most 100", f.spread)
	case f.runs < 0 || f.runs > 1e6:
		return fmt.Errorf("reading --runs: %d must be between 0 and 1000000", f.runs)
	}
	return nil
}

// istioBounds are the bounds, in seconds, of Istio's histogram of request durations.
var istioBounds = []float64{
	0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600,
}

// traffic returns what the flags describe, for the gates of a plan. What they do not say is ordinary: the latencies are
// lognormal with a standard deviation of 0.5 in their logarithm, means are 1 or the middle of the declared range, and
// nothing is lost.
func (f *trafficFlags) traffic(plan rollout.Plan) backtest.Traffic {
	t := backtest.Traffic{
		Requests: backtest.Constant(f.rps), Errors: backtest.Constant(f.errorRate),
		Latency:  backtest.Latency{Bounds: istioBounds, Median: f.median.Seconds(), Sigma: 0.5},
		Mean:     backtest.Quantity{Mean: backtest.Constant(1), Spread: f.spread},
		Energy:   backtest.Quantity{Mean: backtest.Constant(1), Spread: f.spread},
		NewUnits: backtest.Constant(f.rps / 10),
		Users:    backtest.Users{Count: f.users, Failing: f.failing},
	}
	for _, g := range plan.Gates {
		if g.Type == rollout.Latency && t.Latency.Median == 0 {
			t.Latency.Median = g.Threshold.Seconds() / 3
		}
		if g.Type == rollout.Mean && g.Highest > g.Lowest {
			t.Mean.Mean = backtest.Constant((g.Lowest + g.Highest) / 2)
		}
	}
	return t
}

// kinds are what a fault can be in.
var kinds = []string{"errors", "latency", "mean", "energy"}

// parseHarm reads a fault: "2" (twice the errors), or "latency=1.5,energy=1.2".
func parseHarm(text string) (backtest.Named, error) {
	var n backtest.Named
	for part := range strings.SplitSeq(text, ",") {
		kind, ratio, named := strings.Cut(strings.TrimSpace(part), "=")
		if !named {
			kind, ratio = "errors", kind
		}
		v, err := strconv.ParseFloat(ratio, 64)
		if err != nil || !(v > 0 && v <= 1000) || !slices.Contains(kinds, kind) {
			return n, fmt.Errorf("reading --harm: %q must be a ratio such as 2, or some of errors=2, latency=1.5, mean=1.2 and energy=1.3", text)
		}
		n.Name += fmt.Sprintf(", %s x%g", kind, v)
		switch kind {
		case "errors":
			n.Fault.Errors = v
		case "latency":
			n.Fault.Slower = v
		case "mean":
			n.Fault.Mean = v
		case "energy":
			n.Fault.Energy = v
		}
	}
	n.Name = strings.TrimPrefix(n.Name, ", ")
	return n, nil
}

// shows says whether any gate of a plan could see a fault.
func shows(plan rollout.Plan, f backtest.Fault) bool {
	return slices.ContainsFunc(plan.Gates, func(g rollout.Gate) bool {
		switch g.Type {
		case rollout.ErrorRate:
			return f.Errors > 0
		case rollout.Latency:
			return f.Slower > 0
		case rollout.Mean:
			return f.Mean > 0
		case rollout.EnergyPerRequest:
			return f.Energy > 0
		case rollout.SampleRatio, rollout.Data, rollout.Alerts:
		}
		return false
	})
}

// parseHarms reads the faults that a plan is asked about.
func parseHarms(plan rollout.Plan, texts []string) ([]backtest.Named, error) {
	out := make([]backtest.Named, 0, len(texts))
	for _, text := range texts {
		n, err := parseHarm(text)
		if err != nil {
			return nil, err
		}
		if !shows(plan, n.Fault) {
			return nil, fmt.Errorf("reading --harm: no gate of the plan measures %s", n.Name)
		}
		out = append(out, n)
	}
	return out, nil
}

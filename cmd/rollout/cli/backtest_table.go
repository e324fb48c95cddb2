package cli

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/backtest"
)

// replaySummary is one recorded run, judged again.
type replaySummary struct {
	Ending  backtest.Ending `json:"ending"`
	Reason  rollout.Reason  `json:"reason"`
	Message string          `json:"message"`
	Start   time.Time       `json:"start"`
	End     time.Time       `json:"end"`
	Weights []weightSummary `json:"weights"`
	Gates   []gateFinding   `json:"gates"`
	// Requests were counted from start to end; exposed are those of them that met the canary, as it was recorded.
	Requests float64 `json:"requests"`
	Exposed  float64 `json:"exposed"`
}

// weightSummary is a weight that the judge would have gone to.
type weightSummary struct {
	At     time.Time `json:"at"`
	Step   int       `json:"step"`
	Weight int       `json:"weight"`
}

// gateFinding is what a gate said at the end; numbers that do not exist are left out.
type gateFinding struct {
	Name     string          `json:"name"`
	Verdict  rollout.Verdict `json:"verdict"`
	Reason   rollout.Reason  `json:"reason"`
	Message  string          `json:"message"`
	Estimate *float64        `json:"estimate,omitempty"`
	Low      *float64        `json:"low,omitempty"`
	High     *float64        `json:"high,omitempty"`
}

// replay judges a record as it was counted.
func replay(plan rollout.Plan, tape backtest.Tape, start time.Time) *replaySummary {
	r := backtest.Replay(backtest.Options{Plan: plan, RunID: "recorded", Start: start}, tape)
	s := &replaySummary{
		Ending: r.Ending, Reason: r.Reason, Message: r.Message, Start: r.Start, End: r.End,
		Weights: []weightSummary{}, Gates: []gateFinding{}, Requests: r.Requests, Exposed: r.Exposed,
	}
	for _, c := range r.Changes {
		s.Weights = append(s.Weights, weightSummary{c.At, c.Step, c.Weight})
	}
	for _, f := range r.Findings {
		g := gateFinding{Name: f.Gate.Name, Verdict: f.Verdict, Reason: f.Reason, Message: f.Message}
		if f.Known {
			g.Estimate, g.Low, g.High = finite(f.Estimate), finite(f.Low), finite(f.High)
		}
		s.Gates = append(s.Gates, g)
	}
	return s
}

func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// write writes the answer as tables.
func (a backtestAnswer) write(out io.Writer) error {
	fmt.Fprintln(out, a.Source)
	for _, n := range a.Notes {
		fmt.Fprintln(out, n)
	}
	fmt.Fprintln(out)
	if a.Replay != nil {
		return a.Replay.write(out)
	}
	return backtest.WriteTable(out, a.Reports...)
}

func (s replaySummary) write(out io.Writer) error {
	for _, w := range s.Weights {
		fmt.Fprintf(out, "%s  step %d: %d %%\n", w.At.Format(time.TimeOnly), w.Step, w.Weight)
	}
	fmt.Fprintf(out, "%s  %s%s\n\n", s.End.Format(time.TimeOnly), s.Ending, because(string(s.Reason), s.Message))
	tw := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "GATE\tVERDICT\tRATIO\tINTERVAL\tREASON")
	for _, g := range s.Gates {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", g.Name, g.Verdict, number(g.Estimate), interval(g), g.Reason)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%.0f of %.0f requests had met the canary, %s after the start.\n", s.Exposed, s.Requests, backtest.Clock(s.End.Sub(s.Start)))
	return err
}

func number(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.3g", *v)
}

func interval(g gateFinding) string {
	if g.Estimate == nil {
		return "-"
	}
	low, high := "0", "any"
	if g.Low != nil {
		low = number(g.Low)
	}
	if g.High != nil {
		high = number(g.High)
	}
	return low + " to " + high
}

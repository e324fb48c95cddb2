package backtest

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteTable writes reports side by side, one column each.
func WriteTable(w io.Writer, reports ...Report) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	line := func(name string, cell func(Report) string) {
		cells := make([]string, len(reports))
		if !slices.ContainsFunc(reports, func(r Report) bool { return cell(r) != "" }) {
			return
		}
		for i, r := range reports {
			if cells[i] = cell(r); cells[i] == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(tw, name+"\t"+strings.Join(cells, "\t"))
	}
	line("", func(r Report) string { return strings.ToUpper(r.Name) })
	line("runs", func(r Report) string { return fmt.Sprint(r.Runs) })
	line("promoted", func(r Report) string { return r.Promoted.String() })
	line("rolled back", func(r Report) string { return r.RolledBack.String() })
	line("paused", func(r Report) string { return some(r.Paused) })
	line("unfinished", func(r Report) string { return some(r.Unfinished) })
	line("false alarms", func(r Report) string { return alarms(r) })
	line("detected", func(r Report) string { return optional(r.Detected, Share.String) })
	line("missed", func(r Report) string { return optional(r.Missed, Share.String) })
	line("delay", func(r Report) string { return optional(r.Delay, Spread.String) })
	line("limit", func(r Report) string {
		return optional(r.LimitSeconds, func(s float64) string { return Clock(seconds(s)) })
	})
	line("efficiency", func(r Report) string {
		return optional(r.Efficiency, func(e float64) string { return fmt.Sprintf("%.2f", e) })
	})
	line("time to promotion", func(r Report) string { return optional(r.Passage, Spread.String) })
	line("requests exposed", func(r Report) string {
		return fmt.Sprintf("mean %.0f, 95 %% below %.0f", r.Exposed.Mean, r.Exposed.P95)
	})
	return tw.Flush()
}

// alarms shows the false alarms of runs that were healthy for a while at least.
func alarms(r Report) string {
	if r.Detected != nil && r.FalseAlarms.Count == 0 {
		return ""
	}
	return fmt.Sprintf("%s, at most %s allowed", r.FalseAlarms, percent(r.FalseAlarmBound))
}

func some(s Share) string {
	if s.Count == 0 {
		return ""
	}
	return s.String()
}

func optional[T any](v *T, text func(T) string) string {
	if v == nil {
		return ""
	}
	return text(*v)
}

// String writes a share with its interval.
func (s Share) String() string {
	return fmt.Sprintf("%s (%s to %s)", percent(s.Share), percent(s.Low), percent(s.High))
}

// String writes the mean, the median and the 95th percentile.
func (s Spread) String() string {
	return fmt.Sprintf("mean %s, half below %s, 95 %% below %s", Clock(seconds(s.Mean)), Clock(seconds(s.P50)), Clock(seconds(s.P95)))
}

func percent(share float64) string {
	text := fmt.Sprintf("%.1f", 100*share)
	return strings.TrimSuffix(text, ".0") + " %"
}

// Clock writes a time to the second, to the minute from an hour on, and to the hour from two days on.
func Clock(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0fh", d.Hours())
	case d >= time.Hour:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	d = d.Round(time.Second)
	if d < time.Minute {
		return fmt.Sprintf("%ds", int(d.Seconds()))
	}
	if d%time.Minute == 0 {
		return fmt.Sprintf("%dm", int(d.Minutes()))
	}
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}

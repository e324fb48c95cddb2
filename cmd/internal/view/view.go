// Package view draws a Rollout or an Experiment as a few lines of text, for a terminal or a log.
//
// It is pure: the same status, options and clock give the same lines. Nothing is left out that a decision rests on:
// weight and what requests show of it, step, every gate's verdict with its estimate, interval and evidence, what is not in force
// as it is written, who else holds buckets, the last requests, what happens next.
package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// Options say how to draw.
type Options struct {
	// Color marks verdicts with ANSI colours.
	Color bool
	// Width is the longest line in columns; longer ones are wrapped. 0 means 100; less than 40 counts as 40.
	Width int
	// Now is the time that ages and remaining holds are counted to. The zero time leaves them out.
	Now time.Time
}

// Lines draws the rollout. The first line names it; the rest follows in the order in which an operator asks.
func Lines(ro *v1alpha1.Rollout, o Options) []string {
	c := canvas{width: o.width(), color: o.Color}
	c.add(title(ro))
	c.field("Versions", versions(ro))
	c.field("Weight", weight(ro))
	c.field("Step", step(ro, o.Now))
	c.field("Decision", decision(ro))
	c.field("Next", next(ro, o.Now))
	c.field("Last run", lastRun(ro, o.Now))
	c.restricted(ro)
	c.experiments(ro.Status.Experiments)
	c.replicas(ro, o.Now)
	c.gates(ro.Status.Gates)
	c.alerts(ro.Status.Alerts)
	c.requests(ro.Status.Requests, o.Now)
	return c.lines
}

func (o Options) width() int {
	if o.Width == 0 {
		return 100
	}
	return max(o.Width, 40)
}

func title(ro *v1alpha1.Rollout) string {
	if ro.Namespace == "" {
		return "Rollout " + ro.Name
	}
	return "Rollout " + ro.Namespace + "/" + ro.Name
}

func versions(ro *v1alpha1.Rollout) string {
	s := ro.Status
	switch {
	case s.StableVersion == "":
		return fmt.Sprintf("%s wanted, none observed yet", ro.Spec.Version)
	case s.CanaryVersion != "":
		return fmt.Sprintf("%s stable, %s canary", s.StableVersion, s.CanaryVersion)
	case s.RejectedVersion != "" && s.RejectedVersion == ro.Spec.Version:
		return fmt.Sprintf("%s stable, %s rejected", s.StableVersion, s.RejectedVersion)
	case s.StableVersion != ro.Spec.Version:
		return fmt.Sprintf("%s stable, %s wanted", s.StableVersion, ro.Spec.Version)
	}
	return s.StableVersion + " stable"
}

// barCells is the length of the bar: two buckets a cell.
const barCells = 50

func weight(ro *v1alpha1.Rollout) string {
	if ro.Status.CanaryVersion == "" {
		return ""
	}
	w := min(max(int(ro.Status.Weight), 0), 100)
	filled := (w*barCells + 50) / 100
	bar := paint(cyan, strings.Repeat("█", filled)) + strings.Repeat("░", barCells-filled)
	text := fmt.Sprintf("%s %3d of 100 buckets see %s", bar, w, ro.Status.CanaryVersion)
	if r := ro.Status.Realised; r != "" {
		text += fmt.Sprintf(", met by %s %% of the requests", r)
	}
	if m := ro.Status.Mirror; m > 0 {
		text += fmt.Sprintf(", which gets copies of %d %% of the requests", m)
	}
	return text
}

func step(ro *v1alpha1.Rollout, now time.Time) string {
	s := ro.Status
	if s.Run == nil {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d", s.Step, len(ro.Spec.Steps))
	weights := make([]string, len(ro.Spec.Steps))
	for i, st := range ro.Spec.Steps {
		weights[i] = fmt.Sprint(st.Weight)
		if i+1 == int(s.Step) {
			weights[i] = "[" + weights[i] + "]"
		}
	}
	fmt.Fprintf(&b, " (%s)", strings.Join(weights, " "))
	if s.Run.StepStartedAt != nil && !now.IsZero() {
		fmt.Fprintf(&b, ", for %s", age(now, s.Run.StepStartedAt.Time))
	}
	if s.Run.LastBlock != nil && !now.IsZero() {
		fmt.Fprintf(&b, ", last block %s ago", age(now, s.Run.LastBlock.Time))
	}
	return b.String()
}

func decision(ro *v1alpha1.Rollout) string {
	s := ro.Status
	if s.Decision == "" {
		return "none yet"
	}
	text := paint(decisionColor(s.Decision), s.Decision)
	if s.Reason != "" {
		text += " (" + s.Reason + ")"
	}
	if s.Message != "" {
		text += ": " + s.Message
	}
	return text
}

func lastRun(ro *v1alpha1.Rollout, now time.Time) string {
	l := ro.Status.LastRun
	if l == nil {
		return ""
	}
	text := fmt.Sprintf("%s of %s (%s)", paint(outcomeColor(l.Outcome), l.Outcome), l.Version, l.Reason)
	if !now.IsZero() {
		text += fmt.Sprintf(", %s ago", age(now, l.EndedAt.Time))
	}
	if l.Message != "" {
		text += ": " + l.Message
	}
	return text
}

// age is the time between two instants in whole seconds, as kubectl writes it: 5s, 3m10s, 2h5m, 3d4h.
func age(now, then time.Time) string { return span(now.Sub(then)) }

func span(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	days, hours := d/(24*time.Hour), d%(24*time.Hour)/time.Hour
	minutes, seconds := d%time.Hour/time.Minute, d%time.Minute/time.Second
	for _, part := range []struct {
		big, small time.Duration
		units      string
	}{{days, hours, "dh"}, {hours, minutes, "hm"}, {minutes, seconds, "ms"}} {
		if part.big == 0 {
			continue
		}
		text := fmt.Sprintf("%d%c", part.big, part.units[0])
		if part.small > 0 {
			text += fmt.Sprintf("%d%c", part.small, part.units[1])
		}
		return text
	}
	return fmt.Sprintf("%ds", seconds)
}

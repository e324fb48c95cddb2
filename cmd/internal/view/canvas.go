package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// labelWidth is the column in which values begin.
const labelWidth = 10

// shownRequests is how many of the last requests are drawn.
const shownRequests = 3

// canvas collects lines no wider than width.
type canvas struct {
	lines []string
	width int
	color bool
}

func (c *canvas) add(line string) { c.lines = append(c.lines, finish(line, c.color)) }

// field draws a label and its value, wrapped under the value's column. An empty value draws nothing.
func (c *canvas) field(label, value string) {
	if value == "" {
		return
	}
	c.wrapped(fmt.Sprintf("  %-*s", labelWidth, label), value)
}

// wrapped draws text after a prefix, breaking it at spaces; the lines that follow are indented as far as the prefix.
func (c *canvas) wrapped(prefix, text string) {
	indent := strings.Repeat(" ", columns(prefix))
	line := prefix
	empty := true
	for word := range strings.FieldsSeq(text) {
		if !empty && columns(line)+1+columns(word) > c.width {
			c.add(line)
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	c.add(line)
}

func (c *canvas) alerts(alerts []v1alpha1.AlertStatus) {
	if len(alerts) == 0 {
		return
	}
	c.add("  Alerts")
	for _, a := range alerts {
		c.wrapped("    ", paint(red, a.Name)+" ("+a.Severity+") "+a.Summary)
	}
}

func (c *canvas) requests(requests []v1alpha1.Request, now time.Time) {
	if len(requests) == 0 {
		return
	}
	c.add("  Requests")
	for _, r := range requests[max(len(requests)-shownRequests, 0):] {
		c.wrapped("    ", request(r, now))
	}
}

func request(r v1alpha1.Request, now time.Time) string {
	text := string(r.Action)
	if r.By != "" {
		text += " by " + r.By
	}
	if !now.IsZero() {
		text += ", " + age(now, r.RequestedAt.Time) + " ago"
	}
	if r.HandledAt == nil {
		return text + ": waiting for the controller"
	}
	return text + ": " + r.Outcome
}

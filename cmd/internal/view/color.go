package view

import (
	"fmt"
	"strings"
)

// color is an ANSI foreground colour.
type color int

const (
	red    color = 31
	green  color = 32
	yellow color = 33
	cyan   color = 36
)

// Colours are carried inside strings as runes of Unicode's private use area until a line is finished, so that wrapping
// can skip them, and so that an escape sequence in an object's text is never mistaken for one of ours.
const (
	markStart rune = 0xE000
	markEnd   rune = 0xE0FF
)

// paint marks a text with a colour.
func paint(c color, text string) string {
	return string(markStart+rune(c)) + text + string(markEnd)
}

func isMark(r rune) bool { return r >= markStart && r <= markEnd }

// finish replaces the marks by ANSI codes, or by nothing, and control characters by spaces.
func finish(line string, colored bool) string {
	var b strings.Builder
	for _, r := range line {
		switch {
		case isMark(r) && !colored:
		case r == markEnd:
			b.WriteString("\x1b[0m")
		case isMark(r):
			fmt.Fprintf(&b, "\x1b[%dm", r-markStart)
		case r < ' ' || r >= 0x7f && r < 0xa0:
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// columns counts the columns of a string, without its marks.
func columns(s string) int {
	n := 0
	for _, r := range s {
		if !isMark(r) {
			n++
		}
	}
	return n
}

// pad fills a text up to a number of columns.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(width-columns(s), 0))
}

func verdictColor(verdict string) color {
	switch verdict {
	case "Pass":
		return green
	case "Harm", "Invalid":
		return red
	case "NoData":
		return yellow
	}
	return cyan
}

func decisionColor(decision string) color {
	switch decision {
	case "Promote", "Advance":
		return green
	case "Rollback":
		return red
	case "Pause":
		return yellow
	}
	return cyan
}

func outcomeColor(outcome string) color {
	switch outcome {
	case "Promoted":
		return green
	case "RolledBack":
		return red
	}
	return yellow
}

package cli

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen draws over what it drew before.
type screen struct {
	out   io.Writer
	width int // columns of the terminal, 0 when unknown
	drawn int // rows that stand on the terminal
}

// terminal returns the width of the output in columns, and false where it is not a terminal.
func terminal(out io.Writer) (width int, ok bool) {
	f, isFile := out.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		return 0, true
	}
	return width, true
}

// draw replaces the rows that stand on the terminal.
func (s *screen) draw(lines []string) error {
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", s.drawn)
	}
	s.drawn = 0
	for _, line := range lines {
		b.WriteString(line + "\n")
		s.drawn += rows(line, s.width)
	}
	_, err := io.WriteString(s.out, b.String())
	return err
}

var colorCodes = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// rows is how many rows a line takes on a terminal: one too wide is wrapped.
func rows(line string, width int) int {
	columns := utf8.RuneCountInString(colorCodes.ReplaceAllString(line, ""))
	if width <= 0 || columns == 0 {
		return 1
	}
	return (columns + width - 1) / width
}

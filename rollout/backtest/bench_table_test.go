package backtest

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// tally is how often something happened in a number of runs.
type tally struct{ n, of int }

func (t *tally) add(happened bool) { t.n, t.of = t.n+count(happened), t.of+1 }

// above says whether so many would be seen with less than 1 % probability if the bound held.
func (t tally) above(bound float64) bool { return t.n > 0 && atLeastOf(t.n, t.of, bound) < 0.01 }

func (t tally) share() Share { return shareOf(t.n, t.of) }

// String gives the share and its interval at 95 %.
func (t tally) String() string {
	if t.of == 0 {
		return "-"
	}
	s := t.share()
	return fmt.Sprintf("%.3f (%.3f to %.3f)", s.Share, s.Low, s.High)
}

// sample is a number of measured times, in seconds.
type sample []float64

func (s *sample) add(d time.Duration) { *s = append(*s, d.Seconds()) }

// reach is 1.96 times the standard error of the mean.
func (s sample) reach() float64 {
	middle, squares := mean(s), 0.0
	for _, x := range s {
		squares += (x - middle) * (x - middle)
	}
	n := float64(len(s))
	return 1.96 * math.Sqrt(squares/max(1, n-1)/n)
}

// String gives the mean and its interval at 95 %.
func (s sample) String() string {
	if len(s) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f ±%.0f s", mean(s), s.reach())
}

// p95 gives the 95 % quantile.
func (s sample) p95() string {
	if len(s) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f s", quantile(s, 0.95))
}

// section is one table of the benchmark.
type section struct {
	title, text string
	head        []string
	rows        [][]string
}

func (s *section) row(cells ...string) { s.rows = append(s.rows, cells) }

// print writes a section as Markdown, its columns aligned for those who read it as it is.
func (s *section) print(w io.Writer) {
	width := make([]int, len(s.head))
	for _, r := range append([][]string{s.head}, s.rows...) {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	line := func(cells []string) {
		for i, c := range cells {
			fmt.Fprintf(w, "| %s%s ", c, strings.Repeat(" ", width[i]-len([]rune(c))))
		}
		fmt.Fprintln(w, "|")
	}
	fmt.Fprintf(w, "\n## %s\n\n%s\n\n", s.title, s.text)
	line(s.head)
	for _, n := range width {
		fmt.Fprintf(w, "|%s", strings.Repeat("-", n+2))
	}
	fmt.Fprintln(w, "|")
	for _, r := range s.rows {
		line(r)
	}
}

package view

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// ExperimentLines draws the experiment: what it concludes, and every variant's ratio to the control with its interval, all
// on one scale.
func ExperimentLines(e *v1alpha1.Experiment, o Options) []string {
	c := canvas{width: o.width(), color: o.Color}
	c.add(strings.TrimSuffix("Experiment "+e.Namespace+"/"+e.Name, "/"))
	c.field("Rollout", e.Spec.Rollout)
	c.field("Objective", objective(e.Spec.Objective))
	c.field("Verdict", conclusion(e.Status))
	c.field("Running", running(e.Status, o))
	c.field("Units", sampleRatio(e.Status))
	c.variants(e)
	return c.lines
}

func objective(s v1alpha1.ObjectiveSpec) string {
	metric := s.Query.Sum
	if s.Query.Count != "" {
		metric += " / " + s.Query.Count
	}
	return fmt.Sprintf("%s is better: %s, by at least %s of the control's", s.Direction, metric, percent(s.SmallestEffect))
}

// percent writes a share as its hundredfold; what is no number stays as it is.
func percent(share string) string {
	v, err := strconv.ParseFloat(share, 64)
	if err != nil {
		return share
	}
	return strconv.FormatFloat(math.Round(v*1e6)/1e4, 'f', -1, 64) + " %"
}

func conclusion(s v1alpha1.ExperimentStatus) string {
	head := cmp.Or(s.Verdict, s.State, "none yet")
	text := paint(experimentColor(s.Verdict), head)
	if who := cmp.Or(s.Winner, s.Harmful); who != "" {
		text += " " + who
	}
	if s.Reason != "" {
		text += " (" + s.Reason + ")"
	}
	if s.Message != "" {
		text += ": " + s.Message
	}
	if s.Promotion != "" {
		text += "; promotion: " + s.Promotion
	}
	return text
}

func experimentColor(verdict string) color {
	switch verdict {
	case "Winner":
		return green
	case "Harm", "Invalid":
		return red
	case "Inconclusive":
		return yellow
	}
	return cyan
}

func running(s v1alpha1.ExperimentStatus, o Options) string {
	var parts []string
	if s.StartedAt != nil && !o.Now.IsZero() {
		end := o.Now
		if s.EndedAt != nil {
			end = s.EndedAt.Time
		}
		parts = append(parts, "for "+age(end, s.StartedAt.Time))
	}
	if s.Remaining != "" && s.EndedAt == nil {
		parts = append(parts, "likely "+s.Remaining+" more")
	}
	return strings.Join(parts, ", ")
}

func sampleRatio(s v1alpha1.ExperimentStatus) string {
	if s.SampleRatio == "" {
		return ""
	}
	return "p = " + s.SampleRatio + " if they are shared out as the shares say"
}

// scaleCells is the length of the scale that the intervals are drawn on.
const scaleCells = 41

// variants draws the variants one below the other: first as numbers, then the interval of each one's ratio to the control
// on a scale of equal ratios, with a rule where the ratio is one and dots at the smallest effect that matters.
func (c *canvas) variants(e *v1alpha1.Experiment) {
	if len(e.Status.Variants) == 0 {
		return
	}
	numbers := [][]string{{"VARIANT", "VERSION", "UNITS", "OBSERVATIONS", "MEAN", "CHANCE TO BEAT"}}
	for _, v := range e.Status.Variants {
		numbers = append(numbers, []string{v.Name, v.Version, dash(v.Units), dash(v.Observations), dash(v.Mean), dash(v.ChanceToBeat)})
	}
	c.table(numbers)
	reach, drawn := reachOf(e.Status.Variants)
	if !drawn {
		return
	}
	bars := [][]string{{"RATIO", axis(reach), "[LOW, HIGH]"}}
	for _, v := range e.Status.Variants {
		if v.Estimate != "" {
			bars = append(bars, []string{v.Name, intervalBar(v, reach, effects(e.Spec.Objective)), ratio(v)})
		}
	}
	c.table(bars)
}

// table draws rows whose columns are as wide as their widest cell.
func (c *canvas) table(rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString("  " + pad(cell, widths[i]))
		}
		c.add(line.String())
	}
}

func dash(s string) string { return cmp.Or(s, "-") }

func ratio(v v1alpha1.VariantStatus) string {
	return fmt.Sprintf("%s [%s, %s]", v.Estimate, orUnknown(v.Low), orUnknown(v.High))
}

// Ends of the scale as the ln of a ratio: never shorter than 10 % each way, never longer than tenfold.
const leastReach, mostReach = 0.1, 2.302585

// reachOf returns how far the scale goes to each side of one, as the ln of a ratio. There is none while no variant has an
// interval.
func reachOf(variants []v1alpha1.VariantStatus) (float64, bool) {
	reach, any := leastReach, false
	for _, v := range variants {
		for _, end := range []string{v.Low, v.High} {
			if x, ok := lnOf(end); ok {
				reach, any = max(reach, math.Abs(x)), true
			}
		}
	}
	return min(reach, mostReach), any
}

// lnOf reads the ln of a ratio, which is infinite at 0 and +Inf.
func lnOf(ratio string) (float64, bool) {
	x, err := strconv.ParseFloat(ratio, 64)
	if err != nil || !(x >= 0) {
		return 0, false
	}
	return math.Log(x), true
}

// cellOf returns the cell of the ln of a ratio, and false where it lies beyond the scale.
func cellOf(x, reach float64) (int, bool) {
	at := min(max(x/reach, -1), 1)
	return int(math.Round((at + 1) / 2 * (scaleCells - 1))), math.Abs(x) <= reach*(1+1e-9)
}

// axis writes the ends of the scale and one in its middle.
func axis(reach float64) string {
	low, high := strconv.FormatFloat(math.Exp(-reach), 'g', 2, 64), strconv.FormatFloat(math.Exp(reach), 'g', 3, 64)
	side := (scaleCells - 1) / 2
	return pad(low, side) + "1" + strings.Repeat(" ", max(side-columns(high), 1)) + high
}

// effects are the ln of the ratios that are the smallest effect away from one.
func effects(s v1alpha1.ObjectiveSpec) []float64 {
	effect, err := strconv.ParseFloat(s.SmallestEffect, 64)
	if err != nil || effect <= 0 || effect >= 1 {
		return nil
	}
	return []float64{math.Log1p(-effect), math.Log1p(effect)}
}

// intervalBar draws the interval as a line and the estimate as a point on it. An end beyond the scale is an arrow.
func intervalBar(v v1alpha1.VariantStatus, reach float64, dots []float64) string {
	cells := slices.Repeat([]rune{' '}, scaleCells)
	for _, x := range dots {
		if at, ok := cellOf(x, reach); ok {
			cells[at] = '┊'
		}
	}
	cells[(scaleCells-1)/2] = '│'
	low, okLow := lnOf(v.Low)
	high, okHigh := lnOf(v.High)
	if !okLow || !okHigh {
		return string(cells)
	}
	from, fromIn := cellOf(low, reach)
	to, toIn := cellOf(high, reach)
	for i := from; i <= to; i++ {
		cells[i] = '─'
	}
	if !fromIn {
		cells[from] = '◄'
	}
	if !toIn {
		cells[to] = '►'
	}
	if x, ok := lnOf(v.Estimate); ok {
		at, _ := cellOf(x, reach)
		cells[at] = '●'
	}
	return string(cells)
}

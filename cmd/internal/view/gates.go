package view

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// meterCells is the length of an evidence meter.
const meterCells = 10

func (c *canvas) gates(gates []v1alpha1.GateStatus) {
	if len(gates) == 0 {
		return
	}
	name, verdict := 0, 0
	for _, g := range gates {
		name, verdict = max(name, columns(g.Name)), max(verdict, columns(g.Verdict))
	}
	c.add("  Gates")
	for _, g := range gates {
		prefix := "    " + pad(g.Name, name) + "  "
		indent := strings.Repeat(" ", columns(prefix)+verdict+2)
		head := prefix + pad(paint(verdictColor(g.Verdict), g.Verdict), verdict) + "  "
		for _, text := range []string{estimate(g), evidence(g), why(g)} {
			if text != "" {
				c.wrapped(head, text)
				head = indent
			}
		}
		if head != indent {
			c.add(head)
		}
	}
}

// estimate is the ratio of canary to stable with its interval and limit.
func estimate(g v1alpha1.GateStatus) string {
	var parts []string
	if g.Estimate != "" {
		parts = append(parts, "ratio "+g.Estimate)
	}
	if g.Low != "" || g.High != "" {
		parts = append(parts, fmt.Sprintf("[%s, %s]", orUnknown(g.Low), orUnknown(g.High)))
	}
	if g.Limit != "" {
		parts = append(parts, "limit "+g.Limit)
	}
	if g.Stable != "" || g.Canary != "" {
		parts = append(parts, fmt.Sprintf("(stable %s, canary %s)", orUnknown(g.Stable), orUnknown(g.Canary)))
	}
	if g.ChanceWorse != "" {
		parts = append(parts, "chance of being worse "+g.ChanceWorse)
	}
	return strings.Join(parts, " ")
}

func orUnknown(number string) string {
	if number == "" {
		return "?"
	}
	return number
}

// evidence draws how far each side's evidence has come to its bound.
func evidence(g v1alpha1.GateStatus) string {
	var parts []string
	if m, ok := meter(g.Harm, g.HarmBound); ok {
		parts = append(parts, "harm "+m)
	}
	if m, ok := meter(g.Safety, g.SafetyBound); ok {
		parts = append(parts, "safety "+m)
	}
	if len(parts) == 0 {
		return ""
	}
	text := strings.Join(parts, " ") + " of bound"
	if g.Remaining != "" {
		text += ", likely " + g.Remaining + " more"
	}
	return text
}

// meter draws log(e) over log(bound): evidence multiplies from block to block, so its logarithm is what grows evenly.
// It says false when there is no e-value or no bound above 1.
func meter(e, bound string) (string, bool) {
	share, ok := fraction(e, bound)
	if !ok {
		return "", false
	}
	filled := int(share * meterCells)
	return fmt.Sprintf("%s%s %3d %%", strings.Repeat("▮", filled), strings.Repeat("▯", meterCells-filled), int(share*100)), true
}

func fraction(e, bound string) (float64, bool) {
	value, err := strconv.ParseFloat(e, 64)
	if err != nil && !math.IsInf(value, 0) { // an e-value beyond the range of float64 is a full meter
		return 0, false
	}
	limit, err := strconv.ParseFloat(bound, 64)
	if err != nil || math.IsNaN(value) || value < 0 || !(limit > 1) {
		return 0, false
	}
	if math.IsInf(limit, 0) {
		return 0, false
	}
	return min(max(math.Log(value)/math.Log(limit), 0), 1), true
}

func why(g v1alpha1.GateStatus) string {
	switch {
	case g.Message != "" && g.Reason != "" && g.Reason != g.Verdict:
		return g.Reason + ": " + g.Message
	case g.Message != "":
		return g.Message
	}
	if g.Reason == g.Verdict {
		return ""
	}
	return g.Reason
}

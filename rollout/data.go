package rollout

import (
	"fmt"
	"math"

	"github.com/siskin-dev/siskin/rollout/stats"
)

// The gates that watch the data itself. They say Pass or Invalid, never Harm: what cannot be trusted is no evidence.

// distrust is the false-alarm probability of each of these gates.
const distrust = 0.001

// countUnits counts the units that were newly assigned and compares their shares with the weight.
func (t *Trail) countUnits(c Counts, weight int) {
	t.Canary.Count += c.Canary.Requests
	t.Stable.Count += c.Stable.Requests
	t.Shares.Add([]float64{c.Canary.Requests, c.Stable.Requests}, []float64{float64(weight), float64(Buckets - weight)})
	if t.Broken == "" && t.Shares.P() <= distrust {
		t.Broken = SampleRatioMismatch
	}
}

// countAnswers compares how many of the requests sent were answered in each variant. A canary that hangs answers fewer, and
// its errors are missing with its answers.
func (t *Trail) countAnswers(g Gate, c Counts) {
	t.countPair(c)
	t.Canary = stats.Cluster{Sum: t.Canary.Sum + c.Canary.Sum, Count: t.Canary.Count + c.Canary.Requests}
	t.Stable = stats.Cluster{Sum: t.Stable.Sum + c.Stable.Sum, Count: t.Stable.Count + c.Stable.Requests}
	r, ok := t.compare(g)
	if t.Broken == "" && ok && stats.LogMean(r.LogEAbove(1), r.LogEBelow(1)) >= math.Log(1/distrust) {
		t.Broken = RequestsUnanswered
	}
}

// measureData fills in the finding of a gate that watches the data.
func measureData(g Gate, t *Trail, f *Finding) {
	f.Verdict, f.Reason = Pass, DataComplete
	f.Message = unitsMessage(t)
	if g.Type == Data {
		f.Canary, f.Stable = rate(t.Canary), rate(t.Stable)
		f.Message = answersMessage(t)
	}
}

func unitsMessage(t *Trail) string {
	return fmt.Sprintf("%.0f units met the canary and %.0f stable at this step", t.Canary.Count, t.Stable.Count)
}

func answersMessage(t *Trail) string {
	return fmt.Sprintf("%s of the canary's requests were answered, %s of stable's", percent(rate(t.Canary)), percent(rate(t.Stable)))
}

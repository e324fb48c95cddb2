package rollout

import (
	"fmt"
	"math"
	"slices"

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

// Answers are what a Data gate keeps: how many requests of each variant are lost for certain, and the tests of whether one
// loses more than the other.
type Answers struct {
	Canary, Stable Owed
	// MoreInCanary and MoreInStable gather evidence that one variant's share of lost requests is above the other's.
	MoreInCanary, MoreInStable *stats.Harm
}

// Owed tells requests that were lost from those that are still under way.
type Owed struct {
	// Pending are the requests sent and not answered so far, after each of the last blocks, the latest last; Lost is how
	// many of all that were Sent have been taken for lost.
	Pending    []float64
	Sent, Lost float64
}

// answerWithin is the number of blocks after which what has not been answered all that time is lost. Answers come later than
// what they answer, and the two counters may be scraped at different instants.
const answerWithin = 4

func newAnswers() *Answers {
	return &Answers{MoreInCanary: stats.NewHarm(), MoreInStable: stats.NewHarm()}
}

func (a *Answers) clone() *Answers {
	c := *a
	c.Canary.Pending, c.Stable.Pending = slices.Clone(a.Canary.Pending), slices.Clone(a.Stable.Pending)
	c.MoreInCanary, c.MoreInStable = a.MoreInCanary.Clone(), a.MoreInStable.Clone()
	return &c
}

func (a *Answers) sound() bool {
	return a.MoreInCanary.Sound() && a.MoreInStable.Sound() && len(a.Canary.Pending) <= answerWithin && len(a.Stable.Pending) <= answerWithin
}

// settle counts a block and returns how many requests are lost by now that were not before, at most as many as were sent in it.
func (o *Owed) settle(sent, answered float64) float64 {
	last := 0.0
	if n := len(o.Pending); n > 0 {
		last = o.Pending[n-1]
	}
	o.Sent += sent
	o.Pending = append(o.Pending, last+sent-answered)
	if len(o.Pending) < answerWithin {
		return 0
	}
	o.Pending = o.Pending[len(o.Pending)-answerWithin:]
	lost := math.Min(sent, math.Max(0, slices.Min(o.Pending)-o.Lost))
	o.Lost += lost
	return lost
}

// logE returns the log e-value against the null that both variants lose the same share.
func (a *Answers) logE() float64 { return stats.LogMean(a.MoreInCanary.LogE(), a.MoreInStable.LogE()) }

// missingMatters is the difference between the variants' shares of lost requests from which on it is worth a word: the other
// gates can be wrong by no more.
const missingMatters = 0.005

// apart says whether the two variants lose shares of requests that differ, beyond doubt and by enough to matter.
func (a *Answers) apart() bool {
	difference := a.Canary.Lost/a.Canary.Sent - a.Stable.Lost/a.Stable.Sent
	return math.Abs(difference) >= missingMatters && a.logE() >= math.Log(1/distrust)
}

// countAnswers compares how many of the requests sent were answered in each variant. A canary that hangs answers fewer, and
// its errors are missing with its answers.
func (t *Trail) countAnswers(c Counts) {
	if !(c.Canary.Requests > 0) || !(c.Stable.Requests > 0) || !(c.Canary.Sum >= 0) || !(c.Stable.Sum >= 0) {
		return
	}
	t.Canary = stats.Cluster{Sum: t.Canary.Sum + c.Canary.Sum, Count: t.Canary.Count + c.Canary.Requests}
	t.Stable = stats.Cluster{Sum: t.Stable.Sum + c.Stable.Sum, Count: t.Stable.Count + c.Stable.Requests}
	canary, stable := t.Answers.Canary.settle(c.Canary.Requests, c.Canary.Sum), t.Answers.Stable.settle(c.Stable.Requests, c.Stable.Sum)
	t.Answers.MoreInCanary.Add(canary, c.Canary.Requests, stable, c.Stable.Requests)
	t.Answers.MoreInStable.Add(stable, c.Stable.Requests, canary, c.Canary.Requests)
	if t.Broken == "" && t.Answers.apart() {
		t.Broken = RequestsUnanswered
	}
}

// measureData fills in the finding of a gate that watches the data.
func measureData(g Gate, t *Trail, f *Finding) {
	f.Verdict, f.Reason = Pass, DataComplete
	if g.Type == SampleRatio {
		f.Message = unitsMessage(t)
		return
	}
	f.Canary, f.Stable = rate(t.Canary), rate(t.Stable)
	f.Message = answersMessage(t)
	if t.Blocks < answerWithin {
		f.Verdict, f.Reason = Wait, CollectingEvidence
		f.Message += fmt.Sprintf("; an answer may take %d blocks", answerWithin)
	}
}

// unitsMessage shows the test with one look beside the units of this step; the verdict is that of the sequential one.
func unitsMessage(t *Trail) string {
	text := fmt.Sprintf("%.0f units met the canary and %.0f stable at this step", t.Canary.Count, t.Stable.Count)
	if len(t.Shares.Weights) == 2 {
		text += fmt.Sprintf(", where the weight is %.3g%% (p of all looks %.2g, of one chi-square %.2g)",
			100*t.Shares.Weights[0], t.Shares.P(), stats.ChiSquareP(t.Shares.Counts, t.Shares.Weights))
	}
	return text
}

func answersMessage(t *Trail) string {
	return fmt.Sprintf("%s of the canary's requests were answered, %s of stable's", percent(rate(t.Canary)), percent(rate(t.Stable)))
}

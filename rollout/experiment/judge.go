package experiment

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// look is everything that a verdict depends on.
type look struct {
	plan Plan
	run  Run
	arms []ArmResult
	now  time.Time
}

// rule looks at the arms and gives a verdict, or leaves it to the next rule.
type rule func(look) (Result, bool)

// rules are asked from top to bottom; the first that speaks gives the verdict. What cannot be trusted comes first, since it
// proves nothing; then what hurts, which waits for no minimum.
var rules = [...]rule{
	whenContaminated,
	whenShared,
	whenInvalid,
	whenHarmful,
	whenEarly,
	whenBetter,
	whenAlike,
	whenOutOfTime,
}

// Judge says what the run's evidence has shown. It does not change the run. A verdict other than Running ends the experiment;
// the caller keeps it, and judges no further.
func Judge(p Plan, r Run, now time.Time) Result {
	l := look{plan: p, run: r, arms: measure(p, r, now), now: now}
	res := l.verdict()
	res.Arms, res.SampleRatio = l.arms, r.Evidence.Shares.P()
	if res.Verdict == Running {
		res.Remaining, res.RemainingKnown = l.remaining()
	}
	return res
}

func (l look) verdict() Result {
	for _, r := range rules {
		if res, ok := r(l); ok {
			return res
		}
	}
	return l.running()
}

const (
	// mismatch is the chance of taking sound shares for broken ones, over all looks.
	mismatch = 0.001
	// contaminated is the number of blocks from which on observations under the wrong version are no passing matter. What was
	// observed late, of what an earlier version had answered, is one.
	contaminated = 20
)

func whenContaminated(l look) (Result, bool) {
	for n, i := range l.plan.arms() {
		a := l.arms[i]
		if l.run.dirty(n) >= contaminated {
			return Result{Verdict: Invalid, Reason: Contaminated, Message: fmt.Sprintf(
				"buckets of %q or of the control meet another version than their own, block after block: %.2g%% of their observations",
				a.Name, 100*a.Contaminated)}, true
		}
	}
	return Result{}, false
}

func whenShared(l look) (Result, bool) {
	p := l.run.Evidence.Shares.P()
	if p >= mismatch {
		return Result{}, false
	}
	return Result{Verdict: Invalid, Reason: rollout.SampleRatioMismatch, Message: fmt.Sprintf(
		"units are not shared out as the shares say (p = %.2g): %s", p, l.units())}, true
}

// units writes how many units each variant got.
func (l look) units() string {
	out := make([]string, len(l.arms))
	for i, a := range l.arms {
		out[i] = fmt.Sprintf("%s %.0f", a.Name, a.Units)
	}
	return strings.Join(out, ", ")
}

func whenInvalid(l look) (Result, bool) {
	for _, i := range l.plan.arms() {
		for _, f := range l.arms[i].findings() {
			if f.Verdict == rollout.Invalid {
				return Result{Verdict: Invalid, Reason: f.Reason, Message: l.arms[i].says(f)}, true
			}
		}
	}
	return Result{}, false
}

// whenHarmful ends the experiment for a guardrail that an arm makes worse, and for the objective where it is worse by an
// estimate that matters: what differs by less is no harm, however sure it is.
func whenHarmful(l look) (Result, bool) {
	for _, i := range l.plan.arms() {
		a := l.arms[i]
		for k, f := range a.findings() {
			if f.Verdict != rollout.Harm || (k == 0 && f.Known && f.Estimate < 1+l.plan.SmallestEffect) {
				continue
			}
			return Result{Verdict: Harm, Reason: f.Reason, Message: a.says(f), Harmful: a.Name}, true
		}
	}
	return Result{}, false
}

// whenEarly waits for the minimum duration. What is missing is said first.
func whenEarly(l look) (Result, bool) {
	if !l.now.Before(l.run.Started.Add(l.plan.MinDuration)) {
		return Result{}, false
	}
	if res, ok := l.missing(); ok {
		return res, true
	}
	return Result{Verdict: Running, Reason: MinimumDuration, Message: fmt.Sprintf("the experiment runs for at least %s", l.plan.MinDuration)}, true
}

// whenBetter names the arm with the best estimate among those that beat the control. Until the maximum duration it waits for
// that arm to be told apart from the others that beat the control, unless they differ by less than matters.
func whenBetter(l look) (Result, bool) {
	best := -1
	for _, i := range l.plan.arms() {
		if l.beats(i) && (best < 0 || l.arms[i].Objective.Estimate < l.arms[best].Objective.Estimate) {
			best = i
		}
	}
	if best < 0 {
		return Result{}, false
	}
	res := Result{Verdict: Winner, Reason: BetterThanControl, Winner: l.arms[best].Name, Message: l.arms[best].against()}
	for _, i := range l.plan.arms() {
		if i == best {
			continue
		}
		low, high := l.pair(best, i)
		if high < 1 {
			continue
		}
		res.Tied = append(res.Tied, l.arms[i].Name)
		if l.beats(i) && !l.small(low, high) && !l.late() {
			return Result{Verdict: Running, Reason: SeparatingArms, Message: fmt.Sprintf("%q and %q beat the control and cannot be told apart yet",
				res.Winner, l.arms[i].Name)}, true
		}
	}
	if len(res.Tied) > 0 {
		res.Reason = BetterNotToldApart
		res.Message += fmt.Sprintf("; not told apart from %q", res.Tied)
	}
	return res, true
}

// beats says whether an arm is better than the control beyond its confidence sequence, by an estimate that matters, and
// everything that was to be watched in it was seen.
func (l look) beats(i int) bool {
	a := l.arms[i]
	for _, f := range a.findings() {
		if f.Verdict == rollout.NoData || f.Verdict == rollout.Invalid || f.Verdict == rollout.Harm {
			return false
		}
	}
	f := a.Objective
	return f.Known && f.High < 1 && f.Estimate <= 1/(1+l.plan.SmallestEffect)
}

// small says whether all ratios between low and high are too near to 1 to matter.
func (l look) small(low, high float64) bool {
	return low > 1/(1+l.plan.SmallestEffect) && high < 1+l.plan.SmallestEffect
}

func whenAlike(l look) (Result, bool) {
	for _, i := range l.plan.arms() {
		f := l.arms[i].Objective
		if !f.Known || f.Verdict == rollout.NoData || !l.small(f.Low, f.High) {
			return Result{}, false
		}
	}
	return Result{Verdict: NoDifference, Reason: WithinSmallestEffect, Message: fmt.Sprintf(
		"every variant differs from the control by less than %.3g%%", 100*l.plan.SmallestEffect)}, true
}

// late says whether the experiment has run as long as it may.
func (l look) late() bool { return !l.now.Before(l.run.Started.Add(l.plan.MaxDuration)) }

func whenOutOfTime(l look) (Result, bool) {
	if !l.late() {
		return Result{}, false
	}
	if res, ok := l.missing(); ok {
		return Result{Verdict: Inconclusive, Reason: res.Reason, Message: fmt.Sprintf("no verdict after %s: %s", l.plan.MaxDuration, res.Message)}, true
	}
	return Result{Verdict: Inconclusive, Reason: MaximumDuration, Message: fmt.Sprintf(
		"neither a winner nor equivalence within %.3g%% after %s", 100*l.plan.SmallestEffect, l.plan.MaxDuration)}, true
}

// missing names the first gate without data.
func (l look) missing() (Result, bool) {
	for _, i := range l.plan.arms() {
		for _, f := range l.arms[i].findings() {
			if f.Verdict == rollout.NoData {
				return Result{Verdict: Running, Reason: f.Reason, Message: l.arms[i].says(f)}, true
			}
		}
	}
	return Result{}, false
}

// running says what the experiment waits for.
func (l look) running() Result {
	if res, ok := l.missing(); ok {
		return res
	}
	for _, i := range l.plan.arms() {
		if f := l.arms[i].Objective; !f.Known {
			reason := rollout.CollectingEvidence
			if f.Reason == rollout.TooFewBuckets {
				reason = f.Reason
			}
			return Result{Verdict: Running, Reason: reason, Message: l.arms[i].says(f)}
		}
	}
	return Result{Verdict: Running, Reason: rollout.CollectingEvidence, Message: fmt.Sprintf(
		"no arm beats the control by %.3g%%, and not all are shown to differ by less", 100*l.plan.SmallestEffect)}
}

// remaining estimates how much longer the evidence is likely to need: until the first arm that looks like a winner has proved it,
// or, with none, until the last one is shown not to differ.
func (l look) remaining() (time.Duration, bool) {
	left := l.run.Started.Add(l.plan.MaxDuration).Sub(l.now)
	winner, all, known := left, time.Duration(0), true
	promising := false
	for _, i := range l.plan.arms() {
		a := l.arms[i]
		known = known && a.RemainingKnown
		if a.RemainingKnown && a.Objective.Estimate <= 1/(1+l.plan.SmallestEffect) {
			promising, winner = true, min(winner, a.Remaining)
		}
		all = max(all, a.Remaining)
	}
	need := all
	if promising {
		need, known = winner, true
	}
	least := l.run.Started.Add(l.plan.MinDuration).Sub(l.now)
	return max(0, min(left, max(need, least))), known
}

// arm's outlook: how much longer until its sequence is as narrow as it must be, if its width shrinks with the square root of the
// time. Buckets that differ for good do not average out, so by bucket this is the least that it can take.
func (p Plan) outlook(r Run, f rollout.Finding, now time.Time) (time.Duration, bool) {
	ran := now.Sub(r.InForceSince.Add(p.WarmUp))
	if !f.Known || ran <= 0 || !(f.Low > 0) || math.IsInf(f.High, 1) {
		return 0, false
	}
	half := (math.Log(f.High) - math.Log(f.Low)) / 2
	effect, least := math.Abs(math.Log(f.Estimate)), math.Log1p(p.SmallestEffect)
	need := math.Max(effect, 0)
	if effect < least {
		need = least - effect
	}
	factor := half / need * half / need
	if !(factor < 1e6) {
		return 0, false
	}
	return time.Duration(math.Max(0, factor-1) * float64(ran)).Round(time.Second), true
}

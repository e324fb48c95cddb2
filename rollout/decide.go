package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Action is what an operator may ask for.
type Action string

// The actions.
const (
	AskPromote     Action = "Promote"
	AskPromoteFull Action = "PromoteFull"
	AskAbort       Action = "Abort"
	AskPause       Action = "Pause"
	AskResume      Action = "Resume"
	AskRetry       Action = "Retry"
)

// Situation is everything that a decision depends on.
type Situation struct {
	Plan     Plan
	Run      Run
	Findings []Finding
	// Asked is the operator's request that waits, if any.
	Asked Action
	// CanaryReady says that the canary can answer whom it has been given: it has an endpoint that is ready, or, where replicas
	// are counted, as many as its weight needs.
	CanaryReady bool
	// Lacking says what keeps the canary from being ready for more; empty when nothing does, or nobody looked more closely.
	Lacking string
	// Spreading says what the mesh has not yet told all its proxies; empty when it has, or does not say.
	Spreading string
	Now       time.Time
}

// Outcome is a decision with its reason, in a word and in a sentence.
type Outcome struct {
	Decision Decision
	Reason   Reason
	Message  string
}

// rule looks at a situation and decides, or leaves it to the next rule.
type rule func(Situation) (Outcome, bool)

// rules are asked from top to bottom; the first that speaks decides. What rolls back comes first and needs nothing to
// be ready, no data and no clock.
var rules = [...]rule{
	whenAborted,
	whenPromotedByHand,
	whenHarmful,
	whenAskedToWait,
	whenLowered,
	whenPaused,
	whenWarned,
	whenNotReady,
	whenRaised,
	whenNotBegun,
	whenSkipped,
	whenConverging,
	whenHolding,
	whenSafe,
	whenOutOfTime,
}

// Decide says what the rollout does next. A gate that cannot judge a shadow or a cohort does not hold it.
func Decide(s Situation) Outcome {
	s.Findings = slices.DeleteFunc(slices.Clone(s.Findings), Finding.Untold)
	for _, r := range rules {
		if o, ok := r(s); ok {
			return s.withCanary(o)
		}
	}
	return waiting(s)
}

func whenAborted(s Situation) (Outcome, bool) {
	return Outcome{Rollback, Aborted, "aborted by request"}, s.Asked == AskAbort
}

// whenPromotedByHand asks no gate, but it does not send everybody to a version that cannot answer.
func whenPromotedByHand(s Situation) (Outcome, bool) {
	return Outcome{Promote, PromotedFull, "promoted by request, whatever the gates say"}, s.Asked == AskPromoteFull && s.CanaryReady
}

// whenHarmful rolls back on the first gate that says Harm.
func whenHarmful(s Situation) (Outcome, bool) {
	for _, f := range s.Findings {
		if f.Verdict == Harm {
			return Outcome{Rollback, f.Reason, fmt.Sprintf("gate %q: %s", f.Gate.Name, f.Message)}, true
		}
	}
	return Outcome{}, false
}

func whenAskedToWait(s Situation) (Outcome, bool) {
	switch {
	case s.Asked == AskPause:
		return Outcome{Pause, PausedByRequest, "paused by request; resume or promote to go on"}, true
	case s.Asked == AskResume && s.Run.Paused != "":
		return Outcome{Hold, Resumed, "resumed by request"}, true
	}
	return Outcome{}, false
}

// whenLowered follows a plan that was changed to a lower weight for the present step, whatever the step waits for.
func whenLowered(s Situation) (Outcome, bool) {
	return s.changed(), s.Run.Planned(s.Plan) < s.Run.Weight && len(s.Plan.Steps) > 0 && s.Asked != AskPromote
}

// whenRaised follows one that was changed to a greater weight: under the conditions of a further step, without the evidence.
func whenRaised(s Situation) (Outcome, bool) {
	return s.changed(), s.Run.Planned(s.Plan) > s.Run.Weight && s.Asked != AskPromote
}

// changed begins the step anew at the plan's weight.
func (s Situation) changed() Outcome {
	return Outcome{Hold, StepChanged, fmt.Sprintf("the weight of the step was changed from %d to %d; it begins anew", s.Run.Weight, s.Run.Planned(s.Plan))}
}

// whenPaused keeps the weight until somebody resumes, promotes or aborts. Harm, which comes before, still rolls back.
func whenPaused(s Situation) (Outcome, bool) {
	if s.Run.Paused == "" || s.Asked == AskPromote {
		return Outcome{}, false
	}
	return Outcome{Hold, s.Run.Paused, "paused; resume or promote to go on, abort to roll back"}, true
}

func whenWarned(s Situation) (Outcome, bool) {
	for _, f := range s.Findings {
		if f.Reason == PausedByAlert {
			return Outcome{Pause, PausedByAlert, fmt.Sprintf("gate %q: %s", f.Gate.Name, f.Message)}, true
		}
	}
	return Outcome{}, false
}

// whenNotReady waits before the first step and before each further one: no weight grows towards a version that has no
// ready endpoint. Before the first one each time without it begins the hold anew; that too has an end.
func whenNotReady(s Situation) (Outcome, bool) {
	most := max(s.Plan.Preview.Hold, s.Plan.Shadow.Hold) + s.Plan.Cap
	if !s.CanaryReady && s.Run.Step == 0 && !s.Now.Before(s.Run.Waiting.Add(most)) {
		return Outcome{Pause, CanaryNotReady, fmt.Sprintf("not ready, or not for long enough, within %s: %s", most, s.lacking())}, true
	}
	return s.notReady(CanaryNotReady), !s.CanaryReady
}

// withCanary lets nothing go on for which the canary is not ready, although it is for what it has.
func (s Situation) withCanary(o Outcome) Outcome {
	raises := o.Reason == StepChanged && s.Run.Planned(s.Plan) > s.Run.Weight
	if s.Lacking != "" && (o.Decision == Advance || o.Decision == Promote || raises) {
		return s.notReady(AwaitingCanary)
	}
	return o
}

// notReady waits for the canary. When it has waited for that alone as long as the cap, it asks for somebody: what a step was
// held for before does not count.
func (s Situation) notReady(why Reason) Outcome {
	lacking, since := s.lacking(), s.Run.NotReadySince
	if !since.IsZero() && !s.Now.Before(since.Add(s.Plan.Cap)) {
		return Outcome{Pause, why, fmt.Sprintf("not ready after %s: %s", s.Plan.Cap, lacking)}
	}
	return Outcome{Hold, why, lacking}
}

func (s Situation) lacking() string { return cmp.Or(s.Lacking, "the canary has no ready endpoint") }

// overdue says whether the step has waited as long as it may. A shadow waits from when the canary was ready.
func (s Situation) overdue() bool {
	since := s.Run.Waiting
	if s.Run.StepStarted.After(since) {
		since = s.Run.StepStarted
	}
	return !s.Now.Before(since.Add(s.Plan.Cap))
}

func whenNotBegun(s Situation) (Outcome, bool) {
	if len(s.Plan.Steps) == 0 {
		return Outcome{Hold, Inconclusive, "the plan has no steps"}, true
	}
	if s.Run.Step > 0 {
		return Outcome{}, false
	}
	if s.Spreading != "" {
		return whenConverging(s)
	}
	if o, previewing := preview(s); previewing {
		return o, true
	}
	if s.Run.beforehand(s.Plan) {
		return Outcome{}, false // the gates have a word in it, as at a step
	}
	return Outcome{Advance, CanaryReady, fmt.Sprintf("the canary is ready; first step: %d %%", s.Plan.Steps[0].Weight)}, true
}

// preview keeps every unit on stable while testers look at the canary, or while it gets copies of requests, until its time is
// over or somebody promotes.
func preview(s Situation) (Outcome, bool) {
	p, shadow := s.Plan.Preview, s.Plan.Shadow
	switch {
	case s.Asked == AskPromote && (p != Preview{} || shadow != Shadow{}):
		return Outcome{Advance, StepSkipped, fmt.Sprintf("preview ended by request; first step: %d %%", s.Plan.Steps[0].Weight)}, true
	case s.Now.Before(s.Run.Since().Add(shadow.Hold)):
		return Outcome{Hold, Shadowing, fmt.Sprintf("the canary gets copies of %d %% of the requests for at least %s", shadow.Percent, shadow.Hold)}, true
	case s.Now.Before(s.Run.Since().Add(p.Hold)):
		return Outcome{Hold, Previewing, fmt.Sprintf("testers see the canary for at least %s", p.Hold)}, true
	}
	return Outcome{Hold, AwaitingPromotion, "testers see the canary; promote to go on, abort to roll back"}, p.Ask
}

func whenSkipped(s Situation) (Outcome, bool) {
	if s.Asked != AskPromote {
		return Outcome{}, false
	}
	return onward(s, StepSkipped, "step skipped by request"), true
}

// whenConverging waits until the mesh shows the weight: until its proxies have it, where the mesh tells, and until the requests
// say so, where there are any. What is contradicted for long needs somebody.
func whenConverging(s Situation) (Outcome, bool) {
	share, bound := s.Run.Share, s.Plan.Settles()
	late := !s.Now.Before(s.Run.StepStarted.Add(s.Plan.WarmUp + bound))
	apart, spreading := !share.Apart.IsZero(), s.Spreading != ""
	untold := share.Agreed.IsZero() && share.Seen && !late
	switch {
	case (apart || spreading) && s.overdue():
		return Outcome{Pause, WeightNotRealised, s.unrealised()}, true
	case apart && share.ApartUntil.Sub(share.Apart) >= bound, spreading && late:
		return Outcome{Hold, WeightNotRealised, s.unrealised()}, true
	}
	return Outcome{Hold, Converging, s.unrealised()}, spreading || apart || untold
}

// unrealised says in what the mesh does not show the weight.
func (s Situation) unrealised() string {
	if s.Spreading != "" {
		return s.Spreading
	}
	share := s.Run.Share
	at := share.Last
	if share.All > 0 && share.Apart.IsZero() {
		at = share.Canary / share.All
	}
	return fmt.Sprintf("%s of the requests meet the canary, where the weight is %d", percent(at), s.Run.Weight)
}

func whenHolding(s Situation) (Outcome, bool) {
	if s.Run.Step < 1 {
		return Outcome{}, false // a shadow has had its time
	}
	hold := s.Plan.step(s.Run.Step).Hold
	left := s.Run.Since().Add(hold).Sub(s.Now)
	if left <= 0 {
		return Outcome{}, false
	}
	return Outcome{Hold, HoldingStep, fmt.Sprintf("the step is held for at least %s", hold)}, true
}

// whenSafe goes on when every gate passes.
func whenSafe(s Situation) (Outcome, bool) {
	for _, f := range s.Findings {
		if f.Verdict != Pass {
			return Outcome{}, false
		}
	}
	if s.Run.Step < 1 {
		return onward(s, StepPassed, "every gate that has something to judge passes"), true
	}
	return onward(s, StepPassed, "every gate passes"), true
}

// whenOutOfTime ends the waiting at the cap: never by promoting.
func whenOutOfTime(s Situation) (Outcome, bool) {
	if !s.overdue() {
		return Outcome{}, false
	}
	for _, f := range s.Findings {
		if f.Verdict == NoData || f.Verdict == Invalid {
			return Outcome{Pause, f.Reason, fmt.Sprintf("no verdict after %s: gate %q: %s", s.Plan.Cap, f.Gate.Name, f.Message)}, true
		}
	}
	decision := Pause
	if s.Plan.RollbackAtCap {
		decision = Rollback
	}
	f := slowest(s.Findings)
	return Outcome{decision, Inconclusive, fmt.Sprintf("neither harm nor safety after %s: gate %q: %s", s.Plan.Cap, f.Gate.Name, f.Message)}, true
}

// waiting names the first gate that does not pass, data first.
func waiting(s Situation) Outcome {
	for _, f := range s.Findings {
		if f.Verdict == NoData || f.Verdict == Invalid {
			return Outcome{Hold, f.Reason, fmt.Sprintf("gate %q: %s", f.Gate.Name, f.Message)}
		}
	}
	f := slowest(s.Findings)
	return Outcome{Hold, f.Reason, fmt.Sprintf("gate %q: %s", f.Gate.Name, f.Message)}
}

// slowest returns the finding that is furthest from passing.
func slowest(findings []Finding) Finding {
	var worst Finding
	for _, f := range findings {
		if f.Verdict == Pass {
			continue
		}
		if worst.Gate.Name == "" || f.LogSafety-f.LogSafetyBound < worst.LogSafety-worst.LogSafetyBound {
			worst = f
		}
	}
	return worst
}

// onward advances to the next step, or promotes after the last.
func onward(s Situation, why Reason, message string) Outcome {
	if s.Run.Step >= len(s.Plan.Steps) {
		if why == StepPassed {
			why = AllPassed
		}
		return Outcome{Promote, why, message + "; that was the last step"}
	}
	next := s.Plan.Steps[s.Run.Step]
	return Outcome{Advance, why, fmt.Sprintf("%s; next step: %d %%", message, next.Weight)}
}

// step returns step n of the plan, from 1, the last one for what lies beyond, and none of a plan without steps.
func (p Plan) step(n int) Step {
	if len(p.Steps) == 0 {
		return Step{}
	}
	return p.Steps[min(max(n, 1), len(p.Steps))-1]
}

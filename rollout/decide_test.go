package rollout

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// found returns findings of the gates g0, g1 and so on with the given verdicts.
func found(verdicts ...Verdict) []Finding {
	reasons := map[Verdict]Reason{Pass: EvidenceSafe, Harm: ErrorsHarm, Wait: CollectingEvidence, NoData: NoBlocks, Invalid: BoundsChanged, "?": "Unheard"}
	out := make([]Finding, len(verdicts))
	for i, v := range verdicts {
		out[i] = Finding{Gate: Gate{Name: "g" + string(rune('0'+i)), Type: ErrorRate}, Verdict: v, Reason: reasons[v], LogSafetyBound: 4}
	}
	return out
}

func warned(f []Finding) []Finding {
	return append(f, Finding{Gate: Gate{Name: "alerts", Type: Alerts}, Verdict: Wait, Reason: PausedByAlert})
}

// ripe is a situation at step 1 of 3 with nothing in the way of going on.
func ripe() Situation {
	p := examplePlan()
	return Situation{Plan: p, Run: running(p), Findings: found(Pass, Pass), CanaryReady: true, Now: t0.Add(10 * time.Minute)}
}

func with(change func(s *Situation)) Situation {
	s := ripe()
	change(&s)
	s.Run.Weight = s.Run.Planned(s.Plan)
	return s
}

// replanned is a situation in which the present step, of weight 25, has another one in the plan now, and every gate passes.
func replanned(weight int, change func(s *Situation)) Situation {
	s := with(change)
	s.Run.Weight, s.Plan.Steps = 25, []Step{{Weight: weight, Hold: time.Minute}}
	return s
}

// shadowing is a situation before the first step, at the end of a shadow's hold.
func shadowing(change func(s *Situation)) Situation {
	return with(func(s *Situation) {
		s.Run.Step, s.Plan.Shadow, s.Now = 0, Shadow{Percent: 10, Hold: time.Minute}, t0.Add(time.Minute)
		change(s)
	})
}

type want struct {
	Decision
	Reason
}

func TestDecide(t *testing.T) {
	atCap := t0.Add(2 * time.Hour)
	tests := map[string]struct {
		reason string
		args   Situation
		want   want
	}{
		"Abort": {
			"an operator's word needs no data, no clock and nothing ready",
			with(func(s *Situation) {
				s.Asked, s.CanaryReady, s.Findings, s.Run.Paused = AskAbort, false, found(NoData), Paused
			}),
			want{Rollback, Aborted},
		},
		"PromoteFull": {
			"an operator may overrule every gate",
			with(func(s *Situation) { s.Asked, s.Findings = AskPromoteFull, found(Harm) }),
			want{Promote, PromotedFull},
		},
		"ShownLate": {
			"a step is held from when the mesh shows it, however long ago it was decided",
			with(func(s *Situation) { s.Run.Shown = s.Now.Add(-time.Second) }),
			want{Hold, HoldingStep},
		},
		"Raised": {
			"a greater weight in the plan begins the step anew, and no gate has passed it",
			replanned(90, func(*Situation) {}),
			want{Hold, StepChanged},
		},
		"RaisedPaused": {
			"a paused run goes nowhere",
			replanned(90, func(s *Situation) { s.Run.Paused = PausedByRequest }),
			want{Hold, PausedByRequest},
		},
		"RaisedTooFew": {
			"nor beyond what the canary is ready for",
			replanned(90, func(s *Situation) { s.Lacking = "half of it" }),
			want{Hold, AwaitingCanary},
		},
		"LoweredTooFew": {
			"a lower weight needs nothing",
			replanned(5, func(s *Situation) { s.Lacking = "half of it" }),
			want{Hold, StepChanged},
		},
		"RaisedNotReady": {
			"no weight grows towards a version without an endpoint",
			replanned(90, func(s *Situation) { s.CanaryReady = false }),
			want{Hold, CanaryNotReady},
		},
		"Lowered": {
			"a lower weight waits for nothing",
			replanned(5, func(s *Situation) { s.Run.Paused, s.CanaryReady = PausedByRequest, false }),
			want{Hold, StepChanged},
		},
		"LoweredHarm": {
			"harm comes first",
			replanned(5, func(s *Situation) { s.Findings = found(Harm) }),
			want{Rollback, ErrorsHarm},
		},
		"Harm": {
			"one harmful gate is enough",
			with(func(s *Situation) { s.Findings = found(Pass, Harm, NoData) }),
			want{Rollback, ErrorsHarm},
		},
		"HarmBeforePause": {
			"harm is not waited out by asking for a pause",
			with(func(s *Situation) { s.Asked, s.Findings = AskPause, found(Harm) }),
			want{Rollback, ErrorsHarm},
		},
		"HarmBeforePromote": {
			"skipping a step does not skip harm",
			with(func(s *Situation) { s.Asked, s.Findings = AskPromote, found(Harm) }),
			want{Rollback, ErrorsHarm},
		},
		"HarmWhilePaused": {
			"a paused run still rolls back",
			with(func(s *Situation) { s.Run.Paused, s.Findings = PausedByRequest, found(Harm) }),
			want{Rollback, ErrorsHarm},
		},
		"HarmNotReady": {
			"rolling back needs no ready canary",
			with(func(s *Situation) { s.CanaryReady, s.Findings = false, found(Harm) }),
			want{Rollback, ErrorsHarm},
		},
		"AskPause": {
			"a pause is granted",
			with(func(s *Situation) { s.Asked = AskPause }),
			want{Pause, PausedByRequest},
		},
		"AskResume": {
			"a paused run goes on from where it was",
			with(func(s *Situation) { s.Asked, s.Run.Paused = AskResume, PausedByRequest }),
			want{Hold, Resumed},
		},
		"AskResumeOfRunning": {
			"there is nothing to resume, so the gates decide",
			with(func(s *Situation) { s.Asked = AskResume }),
			want{Advance, StepPassed},
		},
		"Paused": {
			"a paused run waits although every gate passes",
			with(func(s *Situation) { s.Run.Paused = Inconclusive }),
			want{Hold, Inconclusive},
		},
		"PausedBeyondCap": {
			"the cap does not end a pause",
			with(func(s *Situation) { s.Run.Paused, s.Now, s.Plan.RollbackAtCap = PausedByAlert, atCap, true }),
			want{Hold, PausedByAlert},
		},
		"PromotePaused": {
			"promoting ends a pause",
			with(func(s *Situation) { s.Asked, s.Run.Paused = AskPromote, Inconclusive }),
			want{Advance, StepSkipped},
		},
		"Warning": {
			"a warning pauses a run that would go on",
			with(func(s *Situation) { s.Findings = warned(found(Pass)) }),
			want{Pause, PausedByAlert},
		},
		"WarningBeforePromote": {
			"a step is not skipped into a firing alert",
			with(func(s *Situation) { s.Asked, s.Findings = AskPromote, warned(found(Pass)) }),
			want{Pause, PausedByAlert},
		},
		"NotReady": {
			"no weight grows towards a version that cannot answer",
			with(func(s *Situation) { s.CanaryReady = false }),
			want{Hold, CanaryNotReady},
		},
		"NotReadyPromote": {
			"not even by request",
			with(func(s *Situation) { s.CanaryReady, s.Asked = false, AskPromote }),
			want{Hold, CanaryNotReady},
		},
		"NotReadyAtCap": {
			"somebody has to look",
			with(func(s *Situation) { s.CanaryReady, s.Now, s.Run.NotReadySince = false, atCap, t0 }),
			want{Pause, CanaryNotReady},
		},
		"NotReadyForAMoment": {
			"a step that was held for longer than the cap is not paused for a moment's sake",
			with(func(s *Situation) { s.CanaryReady, s.Now, s.Run.NotReadySince = false, atCap, atCap.Add(-time.Second) }),
			want{Hold, CanaryNotReady},
		},
		"NotReadyForMore": {
			"no weight grows beyond what the canary is ready for",
			with(func(s *Situation) { s.Lacking = "half of it" }),
			want{Hold, AwaitingCanary},
		},
		"NotReadyForMoreByRequest": {
			"not even by request",
			with(func(s *Situation) { s.Lacking, s.Asked = "half of it", AskPromote }),
			want{Hold, AwaitingCanary},
		},
		"NotReadyForMoreAtCap": {
			"somebody has to look",
			with(func(s *Situation) { s.Lacking, s.Now, s.Run.NotReadySince = "half of it", atCap, t0 }),
			want{Pause, AwaitingCanary},
		},
		"NotReadyForAll": {
			"nobody can say whether the version can answer",
			with(func(s *Situation) { s.Lacking, s.Asked = "nobody can say", AskPromoteFull }),
			want{Hold, AwaitingCanary},
		},
		"ReadyForNow": {
			"what the canary has it keeps, for as long as the step lasts",
			with(func(s *Situation) { s.Lacking, s.Now = "half of it", t0.Add(time.Second) }),
			want{Hold, HoldingStep},
		},
		"NotReadyAtCapRollback": {
			"an absent canary is missing data, not harm",
			with(func(s *Situation) {
				s.CanaryReady, s.Now, s.Plan.RollbackAtCap, s.Run.NotReadySince = false, atCap, true, t0
			}),
			want{Pause, CanaryNotReady},
		},
		"FirstStep": {
			"a ready canary gets its first weight, since no data can be there before",
			with(func(s *Situation) { s.Run.Step, s.Findings = 0, found(Wait) }),
			want{Advance, CanaryReady},
		},
		"FirstStepNotReady": {
			"the first weight waits for an endpoint",
			with(func(s *Situation) { s.Run.Step, s.CanaryReady = 0, false }),
			want{Hold, CanaryNotReady},
		},
		"Preview": {
			"testers look first",
			with(func(s *Situation) {
				s.Run.Step, s.Plan.Preview, s.Now = 0, Preview{Hold: time.Minute}, t0.Add(time.Minute-1)
			}),
			want{Hold, Previewing},
		},
		"PreviewEnds": {
			"at its end the first step begins",
			with(func(s *Situation) {
				s.Run.Step, s.Plan.Preview, s.Now = 0, Preview{Hold: time.Minute}, t0.Add(time.Minute)
			}),
			want{Advance, CanaryReady},
		},
		"PreviewAsks": {
			"somebody is to say that it ends, however long it takes",
			with(func(s *Situation) {
				s.Run.Step, s.Plan.Preview, s.Now = 0, Preview{Hold: time.Minute, Ask: true}, atCap
			}),
			want{Hold, AwaitingPromotion},
		},
		"PreviewPromoted": {
			"somebody says so, before the hold is over",
			with(func(s *Situation) {
				s.Run.Step, s.Plan.Preview, s.Asked, s.Now = 0, Preview{Hold: time.Minute, Ask: true}, AskPromote, t0
			}),
			want{Advance, StepSkipped},
		},
		"PreviewHarm": {
			"an alert ends the preview, too",
			with(func(s *Situation) {
				s.Run.Step, s.Plan.Preview, s.Findings = 0, Preview{Ask: true}, found(Harm)
			}),
			want{Rollback, ErrorsHarm},
		},
		"Shadow": {
			"copies are made for a time, whatever the gates say already",
			shadowing(func(s *Situation) { s.Now = t0.Add(time.Minute - 1) }),
			want{Hold, Shadowing},
		},
		"ShadowJudged": {
			"then the gates have a word in it",
			shadowing(func(s *Situation) { s.Findings = found(Pass, Wait) }),
			want{Hold, CollectingEvidence},
		},
		"ShadowPasses": {
			"units see the canary when they pass",
			shadowing(func(*Situation) {}),
			want{Advance, StepPassed},
		},
		"ShadowNotJudged": {
			"a gate that nothing of a copy reaches does not hold it",
			shadowing(func(s *Situation) { s.Findings[1].Verdict, s.Findings[1].Reason = NoData, NotOfCopies }),
			want{Advance, StepPassed},
		},
		"ShadowWithoutData": {
			"one that has no data though it could holds it",
			shadowing(func(s *Situation) { s.Findings = found(Pass, NoData) }),
			want{Hold, NoBlocks},
		},
		"ShadowAtCap": {
			"until the cap",
			shadowing(func(s *Situation) { s.Findings, s.Now = found(Pass, NoData), atCap }),
			want{Pause, NoBlocks},
		},
		"ShadowOfALateCanary": {
			"the time that the canary took to come up is none of the shadow's",
			shadowing(func(s *Situation) {
				s.Findings, s.Now, s.Run.StepStarted = found(Pass, Wait), atCap, atCap.Add(-time.Minute)
			}),
			want{Hold, CollectingEvidence},
		},
		"ShadowSpreads": {
			"no gate passes before the proxies know of the mirror",
			shadowing(func(s *Situation) { s.Spreading = "1 of 3 proxies" }),
			want{Hold, Converging},
		},
		"ShadowHarm": {
			"copies that fail reject a version that nobody has met",
			shadowing(func(s *Situation) { s.Findings, s.Now = found(Harm), t0 }),
			want{Rollback, ErrorsHarm},
		},
		"ShadowPromoted": {
			"somebody may end it",
			shadowing(func(s *Situation) { s.Asked, s.Findings, s.Now = AskPromote, found(NoData), t0 }),
			want{Advance, StepSkipped},
		},
		"ShadowAndPreview": {
			"testers look as long as theirs lasts",
			shadowing(func(s *Situation) { s.Plan.Preview = Preview{Ask: true} }),
			want{Hold, AwaitingPromotion},
		},
		"NoSteps": {
			"a plan without steps leads nowhere",
			with(func(s *Situation) { s.Plan.Steps, s.Run.Step = nil, 0 }),
			want{Hold, Inconclusive},
		},
		"Skip": {
			"an operator may skip the rest of a step",
			with(func(s *Situation) { s.Asked, s.Findings, s.Now = AskPromote, found(Wait), t0 }),
			want{Advance, StepSkipped},
		},
		"SkipLast": {
			"skipping the last step promotes",
			with(func(s *Situation) { s.Asked, s.Findings, s.Run.Step = AskPromote, found(Wait), 3 }),
			want{Promote, StepSkipped},
		},
		"Spreading": {
			"a step is not over before every proxy has its routes",
			with(func(s *Situation) { s.Spreading, s.Now = "1 of 3 proxies", t0.Add(time.Minute) }),
			want{Hold, Converging},
		},
		"SpreadingBeforeTheFirstStep": {
			"no unit is sent to a subset that a proxy may not know",
			with(func(s *Situation) { s.Run.Step, s.Spreading, s.Now = 0, "1 of 3 proxies", t0.Add(time.Second) }),
			want{Hold, Converging},
		},
		"SpreadingTooLong": {
			"a proxy that takes minutes will not have them by waiting",
			with(func(s *Situation) { s.Spreading = "1 of 3 proxies" }),
			want{Hold, WeightNotRealised},
		},
		"SpreadingAtCap": {
			"then somebody has to look, whatever the plan says of the cap",
			with(func(s *Situation) { s.Spreading, s.Now, s.Plan.RollbackAtCap = "1 of 3 proxies", atCap, true }),
			want{Pause, WeightNotRealised},
		},
		"SpreadingAndHarm": {
			"a weight that is not realised keeps nothing from being rolled back",
			with(func(s *Situation) { s.Spreading, s.Findings = "1 of 3 proxies", found(Harm) }),
			want{Rollback, ErrorsHarm},
		},
		"SpreadingAndAbort": {
			"nor an operator from aborting",
			with(func(s *Situation) { s.Spreading, s.Asked = "1 of 3 proxies", AskAbort }),
			want{Rollback, Aborted},
		},
		"Untold": {
			"requests have come, and too few to tell the weight",
			with(func(s *Situation) { s.Run.Share.Seen, s.Now = true, t0.Add(time.Minute) }),
			want{Hold, Converging},
		},
		"UntoldForLong": {
			"what cannot be told is not waited for",
			with(func(s *Situation) { s.Run.Share.Seen = true }),
			want{Advance, StepPassed},
		},
		"Apart": {
			"requests contradict the weight, as they do for a moment when a route changes",
			with(func(s *Situation) { s.Run.Share.Apart, s.Run.Share.ApartUntil = t0, t0 }),
			want{Hold, Converging},
		},
		"ApartForLong": {
			"requests have contradicted the weight for minutes",
			with(func(s *Situation) {
				s.Run.Share.Apart, s.Run.Share.ApartUntil = t0, t0.Add(2*time.Minute)
			}),
			want{Hold, WeightNotRealised},
		},
		"ApartAtCap": {
			"somebody has to look",
			with(func(s *Situation) { s.Run.Share.Apart, s.Run.Share.ApartUntil, s.Now = t0, t0, atCap }),
			want{Pause, WeightNotRealised},
		},
		"ApartAndSkip": {
			"an operator may go on all the same",
			with(func(s *Situation) { s.Run.Share.Apart, s.Asked = t0, AskPromote }),
			want{Advance, StepSkipped},
		},
		"Holding": {
			"a step lasts its time though every gate passes",
			with(func(s *Situation) { s.Now = t0.Add(2*time.Minute - 1) }),
			want{Hold, HoldingStep},
		},
		"HoldEnds": {
			"at its end the step goes on",
			with(func(s *Situation) { s.Now = t0.Add(2 * time.Minute) }),
			want{Advance, StepPassed},
		},
		"Last": {
			"after the last step the version is promoted",
			with(func(s *Situation) { s.Run.Step = 3 }),
			want{Promote, AllPassed},
		},
		"BeyondLast": {
			"a plan may have got shorter meanwhile",
			with(func(s *Situation) { s.Run.Step = 7 }),
			want{Promote, AllPassed},
		},
		"Waiting": {
			"one gate that does not pass is enough to wait",
			with(func(s *Situation) { s.Findings = found(Pass, Wait) }),
			want{Hold, CollectingEvidence},
		},
		"NoDataFirst": {
			"what is missing is named before what is slow",
			with(func(s *Situation) { s.Findings = found(Wait, NoData) }),
			want{Hold, NoBlocks},
		},
		"Invalid": {
			"data that cannot be trusted holds",
			with(func(s *Situation) { s.Findings = found(Pass, Invalid) }),
			want{Hold, BoundsChanged},
		},
		"Inconclusive": {
			"the cap ends the waiting, not by promoting",
			with(func(s *Situation) { s.Findings, s.Now = found(Pass, Wait), atCap }),
			want{Pause, Inconclusive},
		},
		"BeforeCap": {
			"until then it waits",
			with(func(s *Situation) { s.Findings, s.Now = found(Pass, Wait), atCap.Add(-1) }),
			want{Hold, CollectingEvidence},
		},
		"InconclusiveRollback": {
			"who wants it may go back at the cap",
			with(func(s *Situation) {
				s.Findings, s.Now, s.Plan.RollbackAtCap = found(Pass, Wait), atCap, true
			}),
			want{Rollback, Inconclusive},
		},
		"NoDataAtCap": {
			"missing data pauses at the cap, and says so",
			with(func(s *Situation) {
				s.Findings, s.Now, s.Plan.RollbackAtCap = found(Wait, NoData), atCap, true
			}),
			want{Pause, NoBlocks},
		},
		"InvalidAtCap": {
			"bad data pauses at the cap, and says so",
			with(func(s *Situation) {
				s.Findings, s.Now, s.Plan.RollbackAtCap = found(Wait, Invalid), atCap, true
			}),
			want{Pause, BoundsChanged},
		},
		"PassAtCap": {
			"evidence that comes late is evidence",
			with(func(s *Situation) { s.Now = atCap }),
			want{Advance, StepPassed},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := Decide(tc.args)
			if got.Decision != tc.want.Decision || got.Reason != tc.want.Reason {
				t.Errorf("%s: got %s %s (%s), want %s %s", tc.reason, got.Decision, got.Reason, got.Message, tc.want.Decision, tc.want.Reason)
			}
			if got.Message == "" {
				t.Error("the decision does not explain itself")
			}
		})
	}
}

// TestSlowestIsNamed: of the gates that wait, the one furthest from its bound is the reason.
func TestSlowestIsNamed(t *testing.T) {
	f := found(Wait, Wait, Pass)
	f[0].LogSafety, f[1].LogSafety = 3, 1
	f[1].Reason = TooFewBuckets
	if got := Decide(with(func(s *Situation) { s.Findings = f })); got.Reason != TooFewBuckets {
		t.Errorf("got %s (%s), want the gate with less evidence", got.Reason, got.Message)
	}
}

// anySituation draws a situation of any kind, likely or not.
func anySituation(r *rand.Rand) Situation {
	p := examplePlan()
	p.Steps = p.Steps[:r.IntN(4)]
	p.RollbackAtCap = r.IntN(2) == 0
	p.Preview = pick(r, Preview{}, Preview{Hold: time.Minute}, Preview{Ask: true})
	p.Shadow = pick(r, Shadow{}, Shadow{Percent: 10}, Shadow{Percent: 100, Hold: time.Minute})
	p.Cap = time.Duration(r.IntN(200)) * time.Minute
	s := Situation{
		Plan: p, CanaryReady: r.IntN(4) > 0,
		Asked: pick(r, "", "", "", AskPromote, AskPromoteFull, AskAbort, AskPause, AskResume, AskRetry, Action("x")),
		Now:   t0.Add(time.Duration(r.IntN(300)-20) * time.Minute),
	}
	s.Run = Run{ID: "r", Step: r.IntN(6) - 1, Paused: pick(r, "", "", "", PausedByAlert, PausedByRequest, Inconclusive)}
	if r.IntN(5) > 0 {
		s.Run.StepStarted, s.Run.Waiting = t0, t0
	}
	s.Run.Weight = pick(r, s.Run.Planned(p), s.Run.Planned(p), r.IntN(101))
	s.Spreading = pick(r, "", "", "1 of 3 proxies")
	s.Run.Share = pick(r, Share{}, Share{Seen: true}, Share{Agreed: t0}, Share{Apart: t0, ApartUntil: t0.Add(time.Duration(r.IntN(300)) * time.Second)})
	for range r.IntN(5) {
		s.Findings = append(s.Findings, found(pick(r, Pass, Pass, Pass, Harm, Wait, NoData, Invalid, Verdict("?")))...)
	}
	if r.IntN(5) == 0 {
		s.Findings = warned(s.Findings)
	}
	if r.IntN(5) == 0 {
		s.Findings = append(s.Findings, Finding{Gate: Gate{Name: "quality", Type: Mean}, Verdict: NoData, Reason: NotOfCopies})
	}
	return s
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// permits ranks decisions by how much traffic the canary may see next.
func permits(d Decision) int {
	return slices.Index([]Decision{Rollback, Pause, Hold, Advance, Promote}, d)
}

// TestDecideIsTotal: any situation has an explained decision of the five, the same each time.
func TestDecideIsTotal(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		s := anySituation(r)
		o := Decide(s)
		if permits(o.Decision) < 0 || o.Reason == "" || o.Message == "" {
			t.Fatalf("%+v\ngot %+v", s, o)
		}
		if again := Decide(s); again != o {
			t.Fatalf("got %+v, then %+v", o, again)
		}
		if w := s.Run.After(s.Plan, o, s.Now).Weight; w < 0 || w > 100 {
			t.Fatalf("weight %d after %+v", w, o)
		}
	}
}

// TestBreachIsNeverMorePermissive turns one finding into harm.
func TestBreachIsNeverMorePermissive(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 100_000 {
		s := anySituation(r)
		before := Decide(s)
		f := found(Harm)[0]
		s.Findings = append(slices.Clone(s.Findings), f)
		if n := len(s.Findings); r.IntN(2) == 0 && n > 1 {
			s.Findings[r.IntN(n-1)] = f
			s.Findings = s.Findings[:n-1]
		}
		after := Decide(s)
		if permits(after.Decision) > permits(before.Decision) {
			t.Fatalf("%+v\n%+v became %+v", s, before, after)
		}
		if s.Asked != AskPromoteFull && after.Decision != Rollback {
			t.Fatalf("%+v\nharm gave %+v", s, after)
		}
	}
}

// TestWarningNeverGoesOn: while an alert warns, no weight grows unless the gates are overruled.
func TestWarningNeverGoesOn(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 2))
	for range 50_000 {
		s := anySituation(r)
		s.Findings = warned(slices.Clone(s.Findings))
		if o := Decide(s); permits(o.Decision) > permits(Hold) && s.Asked != AskPromoteFull {
			t.Fatalf("%+v\ngot %+v", s, o)
		}
	}
}

// TestMissingDataHolds is the invariant that no data is neither bad nor good: of itself it never promotes, advances or
// rolls back, and it pauses at the cap at most.
func TestMissingDataHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))
	for range 100_000 {
		s := anySituation(r)
		s.Asked, s.Run.Step = pick(r, "", AskResume, AskPause), 1+r.IntN(4)
		s.Findings = slices.DeleteFunc(s.Findings, func(f Finding) bool { return f.Verdict == Harm })
		s.Findings = append(s.Findings, found(pick(r, NoData, Invalid))...)
		o := Decide(s)
		if o.Decision != Hold && o.Decision != Pause {
			t.Fatalf("%+v\ngot %+v", s, o)
		}
		if o.Decision == Pause && s.Now.Before(s.Run.Waiting.Add(s.Plan.Cap)) && o.Reason != PausedByAlert && o.Reason != PausedByRequest {
			t.Fatalf("%+v\npaused before the cap: %+v", s, o)
		}
	}
}

// FuzzDecide lets the fuzzer choose the situation.
func FuzzDecide(f *testing.F) {
	f.Add(uint64(1), int8(1), int64(600), false)
	f.Add(uint64(99), int8(-128), int64(-1<<62), true)
	f.Fuzz(func(t *testing.T, seed uint64, step int8, seconds int64, cap bool) {
		s := anySituation(rand.New(rand.NewPCG(seed, 5)))
		s.Run.Step, s.Now, s.Plan.RollbackAtCap = int(step), time.Unix(seconds, 0), cap
		if o := Decide(s); permits(o.Decision) < 0 || o.Reason == "" {
			t.Errorf("got %+v", o)
		}
	})
}

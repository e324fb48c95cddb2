package controller

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// pass is one turn of the loop for one rollout: what was read, and what is to be written.
type pass struct {
	was, ro *v1alpha1.Rollout // as read, and with the status to write
	plan    rollout.Plan
	now     time.Time
	grace   time.Duration // Options.Grace

	run      *rollout.Run // the run that is going on, if any
	findings []rollout.Finding
	asked    *v1alpha1.Request
	outcome  rollout.Outcome

	stableReady, canaryReady bool
	// lacking says what the workloads lack of the canary, or of the version that a new rollout takes for stable; empty when nobody
	// looked more closely.
	lacking string
	// scaling is what is known of the Deployments, once somebody has looked; nil when nothing is to be scaled.
	scaling *scaling
	// spreading says what the mesh has not yet told all its proxies; empty when it has, or does not say.
	spreading string
	// router speaks to the provider that the spec names.
	router Router
	// drawn are the objects that were rendered in this pass, by what they were rendered from.
	drawn map[string]Objects
	// live is what stands in the mesh, by keyOf; route is the key of the route. Looked says that all of it was read, and not the
	// route alone. When subsets could not be read, blind says why.
	live   map[string]*unstructured.Unstructured
	route  string
	looked bool
	blind  error
	// limits are the rate limit's objects as they were read, by keyOf; notLimited says which are somebody else's. Unsure says that
	// one could not be read.
	limits     map[string]*unstructured.Unstructured
	notLimited []string
	unsure     bool
	// theirs are the fields of the service's policy that the user's own rules set, with the rule's name.
	theirs map[string]string
	// mixed is the name of a rule of the user's that hashes the service's requests too.
	mixed string
	// altered says, by keyOf, which of our objects somebody changes as they are written.
	altered map[string]string
	// foreign is set when something that makes versions reachable belongs to somebody else: only a rollback goes on then.
	foreign error
	// unrendered is why the spec could not be rendered, in a pass that goes by an earlier one.
	unrendered error
	// gone is set when the mesh says that the run has ended, although the status does not know yet.
	gone *v1alpha1.LastRunStatus
	// busy says that the source of evidence is to be asked again soon: too many questions were under way, or something
	// more urgent came up.
	busy bool
	// shown are the experiments of the rollout, as the routes are to show them.
	shown []v1alpha1.RolloutExperiment
	// urgent says that the mesh is written before the status, because traffic leaves the canary.
	urgent bool
}

// begin reads the spec and the status into the terms of the rollout package.
func (r *Reconciler) begin(ro *v1alpha1.Rollout) (*pass, error) {
	plan, err := planOf(ro)
	if err != nil {
		return nil, err
	}
	router, err := r.routerFor(ro)
	if err != nil {
		return nil, err
	}
	run, lost := runOf(ro)
	if lost != nil {
		r.Log.Warn("Began the evidence anew", "namespace", ro.Namespace, "rollout", ro.Name, "error", lost)
		r.Record(ro, true, string(reasonEvidenceLost), lost.Error())
	}
	p := &pass{was: ro, ro: ro.DeepCopy(), plan: plan, router: router, drawn: map[string]Objects{}, run: run, now: r.Now().UTC(), grace: r.Grace}
	p.altered = r.calm.told(ro, string(reasonRestricted))
	p.asked = nextRequest(p.ro.Status.Requests)
	return p, nil
}

// nextRequest is the request to take up: an abort, which waits for no other one, or else the oldest; nil when none waits.
func nextRequest(all []v1alpha1.Request) *v1alpha1.Request {
	var next *v1alpha1.Request
	for i := range all {
		switch {
		case all[i].HandledAt != nil:
		case all[i].Action == v1alpha1.ActionAbort:
			return &all[i]
		case next == nil:
			next = &all[i]
		}
	}
	return next
}

// judging says whether evidence matters in this pass. It does not when the run ends by the spec or by request: then
// nothing, not even the source of evidence, may stand in the way.
func (p *pass) judging() bool {
	return p.run != nil && p.gone == nil && p.ro.Spec.Version == p.ro.Status.CanaryVersion && p.action() != rollout.AskAbort
}

func (p *pass) action() rollout.Action {
	if p.asked == nil {
		return ""
	}
	return rollout.Action(p.asked.Action)
}

func (p *pass) judge() {
	p.findings = rollout.Judge(p.plan, *p.run, alertsOf(p.ro), p.now)
	p.ro.Status.Gates = gateStatuses(p.findings)
}

// harmful says whether what is known already rolls the run back.
func (p *pass) harmful() bool {
	return slices.ContainsFunc(p.findings, func(f rollout.Finding) bool { return f.Verdict == rollout.Harm })
}

// hasty says whether the run ends by what is known from the rollout and its route: then these are all that is read before the
// route is written.
func (p *pass) hasty() bool {
	return p.run != nil && (!p.judging() || (p.harmful() && p.action() != rollout.AskPromoteFull))
}

// decide chooses what to do and writes it into the status that act will store.
func (p *pass) decide() {
	st := &p.ro.Status
	switch {
	case st.StableVersion == "":
		p.adopt()
	case p.run == nil && p.unrendered != nil:
		p.outcome = p.refuse(rollout.Outcome{})
	case p.run == nil:
		p.rest()
	case p.gone != nil:
		p.outcome = rollout.Outcome{Decision: rollout.Rollback, Reason: rollout.Reason(p.gone.Reason), Message: p.gone.Message}
		p.end(p.gone.Outcome)
		st.LastRun.EndedAt = p.gone.EndedAt
	case p.ro.Spec.Version == st.StableVersion:
		p.outcome = rollout.Outcome{Decision: rollout.Rollback, Reason: rollout.VersionSetBack, Message: fmt.Sprintf("spec.version was set back to %q", st.StableVersion)}
		p.end(v1alpha1.OutcomeRolledBack)
	case p.ro.Spec.Version != st.CanaryVersion:
		p.outcome = rollout.Outcome{Decision: rollout.Rollback, Reason: rollout.Superseded, Message: fmt.Sprintf("spec.version was changed to %q while %q was on trial", p.ro.Spec.Version, st.CanaryVersion)}
		p.end(v1alpha1.OutcomeSuperseded)
	default:
		p.step()
	}
	p.answer()
	p.describe()
}

// adopt takes the wanted version for stable when the rollout is new, once it can answer.
func (p *pass) adopt() {
	p.outcome = rollout.Outcome{Decision: rollout.Hold, Reason: reasonStableNotReady, Message: fmt.Sprintf("version %q has no ready endpoint yet", p.ro.Spec.Version)}
	if p.lacking != "" {
		p.outcome.Message = fmt.Sprintf("version %q is not ready yet: %s", p.ro.Spec.Version, p.lacking)
	}
	if p.stableReady {
		p.ro.Status.StableVersion = p.ro.Spec.Version
		p.outcome = rollout.Outcome{Decision: rollout.Hold, Reason: reasonAdopted, Message: fmt.Sprintf("version %q is stable", p.ro.Spec.Version)}
	}
}

// rest keeps all traffic on the stable version, and starts a run when another version is wanted.
func (p *pass) rest() {
	st := &p.ro.Status
	wanted := p.ro.Spec.Version
	retry := p.action() == rollout.AskRetry
	switch {
	case wanted == st.StableVersion:
		st.RejectedVersion = ""
		p.outcome = rollout.Outcome{Decision: rollout.Hold, Reason: reasonStable, Message: fmt.Sprintf("all units see %q", wanted)}
	case wanted == st.RejectedVersion && !retry:
		p.outcome = rollout.Outcome{Decision: rollout.Hold, Reason: reasonRejected, Message: fmt.Sprintf("%q was rolled back; change spec.version or retry", wanted)}
	case p.experimenting() != "":
		p.outcome = rollout.Outcome{Decision: rollout.Hold, Reason: rollout.ExperimentRunning, Message: fmt.Sprintf("%q waits until experiment %q has ended", wanted, p.experimenting())}
	case !p.settled():
		p.outcome = rollout.Outcome{Decision: rollout.Hold, Reason: reasonSettling, Message: fmt.Sprintf("%q waits until the data plane has taken %q for the version to go back to", wanted, st.StableVersion)}
	default:
		run := rollout.Begin(runID(p.ro, p.now), p.plan, p.now)
		p.run = &run
		st.RejectedVersion, st.CanaryVersion, st.Gates = "", wanted, nil
		p.outcome = rollout.Outcome{Decision: rollout.Hold, Reason: reasonRunStarted, Message: fmt.Sprintf("trying %q against %q", wanted, st.StableVersion)}
		p.keepRun()
	}
}

// step lets the rules decide about the run that is going on.
func (p *pass) step() {
	p.outcome = p.refuse(rollout.Decide(rollout.Situation{
		Plan: p.plan, Run: *p.run, Findings: p.findings, Asked: p.action(), CanaryReady: p.canaryReady, Now: p.now,
		Spreading: p.spreading, Lacking: p.lacking,
	}))
	switch p.outcome.Decision {
	case rollout.Promote:
		p.end(v1alpha1.OutcomePromoted)
	case rollout.Rollback:
		p.end(v1alpha1.OutcomeRolledBack)
	case rollout.Hold, rollout.Advance, rollout.Pause:
		next := p.run.After(p.plan, p.outcome, p.now)
		p.run = &next
		p.keepRun()
	}
}

// keepRun writes the run into the status.
func (p *pass) keepRun() {
	st := &p.ro.Status
	st.Realised = ""
	if share, ok := p.run.Share.Realised(); ok {
		st.Realised = number(100 * share)
	}
	st.Step, st.Weight = int32(p.run.Step), int32(p.run.Weight) //nolint:gosec // at most 20 steps, weights up to 100
	st.Allocation = rollout.FormatBuckets(rollout.Allocate(p.run.ID, p.run.Weight))
	st.Run = runStatus(*p.run)
	st.Run.Admitted = p.run.Step > 0 || p.meets(admitted(p.was.Status))
	st.Mirror = p.mirror()
	if !p.sameRoutes() {
		p.run.Shown, st.Run.ShownAt = time.Time{}, nil
	}
}

// meets says whether requests may be led to the canary before the first step: from when it is ready and the mesh has its subset,
// and, once that has begun, for as long as it is ready.
func (p *pass) meets(begun bool) bool { return p.canaryReady && (p.spreading == "" || begun) }

// admitted says whether the cohort and the preview hosts meet the canary.
func admitted(st v1alpha1.RolloutStatus) bool { return st.Run != nil && st.Run.Admitted }

// mirror is the percentage of requests that are copied: none until the canary is ready and the mesh has its subset, and none
// after the shadow.
func (p *pass) mirror() int32 {
	if !p.run.Shadowed(p.plan) || !p.meets(p.was.Status.Mirror > 0) {
		return 0
	}
	return int32(p.plan.Shadow.Percent) //nolint:gosec // at most 100
}

// end closes the run: after Promoted the canary is stable, after anything else the stable version has all the traffic.
func (p *pass) end(outcome string) {
	st := &p.ro.Status
	st.LastRun = &v1alpha1.LastRunStatus{
		ID: p.run.ID, Version: st.CanaryVersion, Previous: st.StableVersion, Outcome: outcome,
		Reason: string(p.outcome.Reason), Message: p.outcome.Message, EndedAt: metav1.NewMicroTime(p.now),
	}
	if outcome == v1alpha1.OutcomePromoted {
		st.StableVersion = st.CanaryVersion
	} else {
		p.urgent = true
	}
	if outcome == v1alpha1.OutcomeRolledBack && p.outcome.Reason != rollout.VersionSetBack {
		st.RejectedVersion = st.CanaryVersion
	}
	st.CanaryVersion, st.Run, st.Weight, st.Mirror, st.Step, st.Allocation, st.Realised = "", nil, 0, 0, 0, "", ""
	p.run = nil
}

// answer marks the request that this pass took up as handled, with what came of it; before an abort also those that it overtook.
func (p *pass) answer() {
	if p.asked == nil {
		return
	}
	at := metav1.NewMicroTime(p.now)
	p.asked.HandledAt = &at
	p.asked.Outcome = "Done"
	done := []rollout.Reason{
		rollout.Aborted, rollout.PromotedFull, rollout.PausedByRequest, rollout.Resumed, rollout.StepSkipped,
	}
	if p.asked.Action == v1alpha1.ActionRetry {
		done = []rollout.Reason{reasonRunStarted}
	}
	if !slices.Contains(done, p.outcome.Reason) {
		p.asked.Outcome = "Nothing done: " + p.outcome.Message
	}
	if p.asked.Action == v1alpha1.ActionAbort {
		for i := range p.ro.Status.Requests {
			q := &p.ro.Status.Requests[i]
			if q == p.asked {
				break
			}
			if q.HandledAt == nil {
				q.HandledAt, q.Outcome = &at, "Nothing done: an abort came after it"
			}
		}
	}
	p.ro.Status.Requests = lastRequests(p.ro.Status.Requests)
}

// lastRequests drops the oldest handled requests beyond ten.
func lastRequests(all []v1alpha1.Request) []v1alpha1.Request {
	const keep = 10
	handled := 0
	for _, q := range all {
		if q.HandledAt != nil {
			handled++
		}
	}
	return slices.DeleteFunc(all, func(q v1alpha1.Request) bool {
		if q.HandledAt == nil || handled <= keep {
			return false
		}
		handled--
		return true
	})
}

// traffic is what the mesh must show for the status to write.
func (p *pass) traffic() mesh.Traffic {
	st := p.ro.Status
	stable := st.StableVersion
	var canary []int
	if st.Run != nil {
		canary = rollout.Allocate(st.Run.ID, int(st.Weight))
	}
	arms := p.arms()
	others := slices.Clone(canary)
	for _, s := range arms {
		others = append(others, s.Buckets...)
	}
	t := trafficOf(p.ro)
	if st.Run != nil && !st.Run.Admitted { // the hosts are like any other until then
		t.Cohort, t.Service.Hosts, t.PreviewHosts = nil, slices.Concat(t.Service.Hosts, t.PreviewHosts), nil
	}
	t.Policy = policyOf(p.ro, p.theirs)
	t.Shares = []mesh.Share{{Variant: mesh.Stable, Version: stable, Buckets: rollout.Others(others)}}
	if st.CanaryVersion != "" {
		t.Shares = append(t.Shares, mesh.Share{Variant: mesh.Canary, Version: st.CanaryVersion, Buckets: canary})
	}
	t.Shares = append(t.Shares, arms...)
	t.Mirror = int(st.Mirror)
	return t
}

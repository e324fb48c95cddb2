package controller

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// What follows is the rollout's side of experiments: its loop is the only writer of the routes, so it decides which
// experiments they show, and says so in status.experiments. An experiment's clock begins when it stands there as in force.

// Reasons why the routes do not show an experiment.
const (
	reasonRolloutRunning   rollout.Reason = "RolloutRunning"
	reasonVariantNotReady  rollout.Reason = "VariantNotReady"
	reasonControlNotStable rollout.Reason = "ControlNotStable"
	reasonLayerMismatch    rollout.Reason = "LayerMismatch"
	reasonVariantNameTaken rollout.Reason = "VariantNameTaken"
	reasonBucketsTaken     rollout.Reason = "BucketsTaken"
	reasonExperimentOver   rollout.Reason = "ExperimentOver"
)

// maxShown is the bound of status.experiments.
const maxShown = 50

// lookAtExperiments decides which experiments the routes show from this pass on. When they cannot be listed, the routes stay
// as they are. While a run is going on none is shown, and nothing is read that the run might have to wait for.
func (r *Reconciler) lookAtExperiments(ctx context.Context, p *pass) {
	if p.ro.Status.StableVersion == "" || (p.run != nil && len(p.ro.Status.Experiments) == 0) {
		return
	}
	all, err := r.experimentsOf(ctx, p.ro)
	if err != nil {
		r.Log.Warn("Could not list experiments", "namespace", p.ro.Namespace, "rollout", p.ro.Name, "error", err)
		return
	}
	p.shown = nil
	for _, e := range all {
		p.show(e, r.obstacle(ctx, p, e))
	}
	p.leave(r.Grace)
	p.ro.Status.Experiments = p.shown
}

// experimentsOf lists the experiments of a rollout that hold buckets, the oldest allocation first. One that was not known
// before is read again live, since what it held may be a moment old and have gone to another by now.
func (r *Reconciler) experimentsOf(ctx context.Context, ro *v1alpha1.Rollout) ([]v1alpha1.Experiment, error) {
	var list v1alpha1.ExperimentList
	if err := r.Client.List(ctx, &list, client.InNamespace(ro.Namespace)); err != nil {
		return nil, err
	}
	var out []v1alpha1.Experiment
	for _, e := range list.Items {
		if e.Spec.Rollout != ro.Name || !running(&e) {
			continue
		}
		if shownAs(ro, &e) == nil {
			err := r.Live.Get(ctx, client.ObjectKeyFromObject(&e), &e)
			if client.IgnoreNotFound(err) != nil {
				return nil, err
			}
			if err != nil || !running(&e) {
				continue
			}
		}
		out = append(out, e)
	}
	slices.SortFunc(out, older)
	return out[:min(len(out), maxShown)], nil
}

// running says whether an experiment holds its buckets for good, until it ends.
func running(e *v1alpha1.Experiment) bool {
	return e.Status.State == v1alpha1.ExperimentRunning && e.DeletionTimestamp.IsZero()
}

// older orders experiments by their creation, those of one second by their names.
func older(a, b v1alpha1.Experiment) int {
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// shownAs returns the rollout's entry of an experiment while the routes show it, or are about to; nil when they do not.
func shownAs(ro *v1alpha1.Rollout, e *v1alpha1.Experiment) *v1alpha1.RolloutExperiment {
	s := entryOf(ro.Status.Experiments, v1alpha1.RolloutExperiment{Name: e.Name, UID: e.UID})
	if s == nil || !shows(*s) {
		return nil
	}
	return s
}

// shows says whether an entry stands for variants with buckets.
func shows(s v1alpha1.RolloutExperiment) bool { return s.Reason == "" && s.LeftAt == nil }

// obstacle says why the routes cannot show an experiment; its reason is empty when they can.
func (r *Reconciler) obstacle(ctx context.Context, p *pass, e v1alpha1.Experiment) rollout.Outcome {
	no := func(why rollout.Reason, format string, args ...any) rollout.Outcome {
		return rollout.Outcome{Reason: why, Message: fmt.Sprintf(format, args...)}
	}
	if p.run != nil {
		return no(reasonRolloutRunning, "rollout %q is trying version %q", p.ro.Name, p.ro.Status.CanaryVersion)
	}
	if v := controlOf(&e); v.Version != p.ro.Status.StableVersion {
		return no(reasonControlNotStable, "the control %q serves version %q, and the stable version is %q", v.Name, v.Version, p.ro.Status.StableVersion)
	}
	if o := p.conflict(e); o.Reason != "" {
		return o
	}
	if err := p.carries(e); err != nil {
		return no(reasonUnsupported, "%v", err)
	}
	for _, v := range e.Status.Allocation {
		if v.Version == p.ro.Status.StableVersion {
			continue
		}
		ready, err := r.answers(ctx, p.ro, v.Version)
		if err != nil && shownAs(p.was, &e) != nil {
			continue // no unit is moved because the API did not answer
		}
		if !ready {
			return no(reasonVariantNotReady, "version %q of variant %q has no ready endpoint", v.Version, v.Name)
		}
	}
	return rollout.Outcome{}
}

// conflict says what keeps an experiment from being shown beside those that are. Their own loop sees to it that there is
// nothing; this is the last look before units are moved.
func (p *pass) conflict(e v1alpha1.Experiment) rollout.Outcome {
	for _, s := range p.shown {
		if !shows(s) {
			continue
		}
		if s.Layer != layerOf(&e) {
			return rollout.Outcome{Reason: reasonLayerMismatch, Message: mismatch(s.Name, s.Layer, layerOf(&e))}
		}
		for _, v := range s.Variants {
			if slices.ContainsFunc(e.Status.Allocation, func(a v1alpha1.VariantAllocation) bool { return a.Name == v.Name }) {
				return rollout.Outcome{Reason: reasonVariantNameTaken, Message: fmt.Sprintf("experiment %q has a variant named %q, too", s.Name, v.Name)}
			}
		}
	}
	return p.sharedBuckets(e)
}

// sharedBuckets says which bucket of an experiment is shown by another one already, or cannot be read.
func (p *pass) sharedBuckets(e v1alpha1.Experiment) rollout.Outcome {
	taken := map[int]bool{}
	for _, s := range p.shown {
		for _, v := range s.Variants {
			set, _ := bucketsOf(v.Buckets) // was read before it was shown
			for _, b := range set {
				taken[b] = taken[b] || shows(s)
			}
		}
	}
	for _, a := range e.Status.Allocation {
		set, err := bucketsOf(a.Buckets)
		if err != nil {
			return rollout.Outcome{Reason: reasonBucketsTaken, Message: fmt.Sprintf("reading status.allocation[%s]: %v", a.Name, err)}
		}
		for _, b := range set {
			if taken[b] {
				return rollout.Outcome{Reason: reasonBucketsTaken, Message: fmt.Sprintf("bucket %s of variant %q has another owner", rollout.FormatBucket(b), a.Name)}
			}
			taken[b] = true
		}
	}
	return rollout.Outcome{}
}

func mismatch(other, its, own string) string {
	return fmt.Sprintf("experiment %q of the same rollout is in layer %q, this one in %q: experiments of a rollout must be in one layer", other, its, own)
}

// show enters an experiment among those of the rollout: with its buckets, or with why it has none.
func (p *pass) show(e v1alpha1.Experiment, why rollout.Outcome) {
	s := v1alpha1.RolloutExperiment{Name: e.Name, UID: e.UID, Layer: layerOf(&e)}
	if why.Reason != "" {
		s.Reason, s.Message = string(why.Reason), why.Message
		if was := entryOf(p.was.Status.Experiments, s); was != nil {
			s.Variants, s.LeftAt = was.Variants, was.LeftAt
			if shows(*was) {
				s.Variants, s.LeftAt = without(was.Variants), microTime(p.now)
			}
		}
	} else {
		s.Variants = e.Status.Allocation
		if was := shownAs(p.was, &e); was != nil && equality.Semantic.DeepEqual(was.Variants, s.Variants) {
			s.InForceSince = was.InForceSince
		}
	}
	p.shown = append(p.shown, s)
}

// entryOf returns the entry of the same experiment.
func entryOf(all []v1alpha1.RolloutExperiment, like v1alpha1.RolloutExperiment) *v1alpha1.RolloutExperiment {
	for i, s := range all {
		if s.Name == like.Name && s.UID == like.UID {
			return &all[i]
		}
	}
	return nil
}

// without returns variants without their buckets: what is left of them once the routes do not show them.
func without(all []v1alpha1.VariantAllocation) []v1alpha1.VariantAllocation {
	out := slices.Clone(all)
	for i := range out {
		out[i].Buckets = ""
	}
	return out
}

// leave keeps the entries of experiments that are over for as long as their versions are to stay reachable: proxies learn
// of the routes' change later than the API server.
func (p *pass) leave(grace time.Duration) {
	for _, s := range p.was.Status.Experiments {
		if slices.ContainsFunc(p.shown, func(o v1alpha1.RolloutExperiment) bool { return o.Name == s.Name }) {
			continue // it goes on, or another one of its name came at once
		}
		if shows(s) {
			s.LeftAt = microTime(p.now)
		}
		if s.LeftAt == nil || !p.now.Before(s.LeftAt.Add(grace)) {
			continue
		}
		s.Variants, s.InForceSince = without(s.Variants), nil
		s.Reason, s.Message = string(reasonExperimentOver), "its buckets see the stable version"
		p.shown = append(p.shown, s)
	}
	p.shown = p.shown[:min(len(p.shown), maxShown)]
}

// arms are the shares of the experiments that the routes are to show.
func (p *pass) arms() []mesh.Share {
	var out []mesh.Share
	for _, s := range p.ro.Status.Experiments {
		if !shows(s) || p.ro.Status.Run != nil {
			continue
		}
		for _, v := range s.Variants {
			set, _ := bucketsOf(v.Buckets) // was read before it was shown
			out = append(out, mesh.Share{Variant: mesh.Variant(v.Name), Version: v.Version, Buckets: set})
		}
	}
	return out
}

// left lists the versions of experiments that are over and that proxies may still lead to.
func (p *pass) left() []string {
	var out []string
	for _, s := range p.ro.Status.Experiments {
		if s.LeftAt != nil {
			for _, v := range s.Variants {
				out = append(out, v.Version)
			}
		}
	}
	return out
}

// experimenting names an experiment that a new run must wait for: one that units see, or have begun to see.
func (p *pass) experimenting() string {
	for _, s := range p.ro.Status.Experiments {
		if shows(s) || (s.LeftAt != nil && s.Reason != string(reasonExperimentOver)) {
			return s.Name
		}
	}
	return ""
}

// leaves says whether buckets go back to the stable version in this pass: then the routes are written before the status,
// because the status sets the buckets free.
func (p *pass) leaves() bool {
	for _, s := range p.was.Status.Experiments {
		if !shows(s) {
			continue
		}
		now := entryOf(p.ro.Status.Experiments, s)
		if now == nil || !shows(*now) || !equality.Semantic.DeepEqual(now.Variants, s.Variants) {
			return true
		}
	}
	return false
}

// sameArms says whether the routes have shown these very experiments before the pass.
func (p *pass) sameArms() bool {
	shown := func(ro *v1alpha1.Rollout) []v1alpha1.RolloutExperiment {
		return slices.DeleteFunc(slices.Clone(ro.Status.Experiments), func(s v1alpha1.RolloutExperiment) bool { return !shows(s) })
	}
	before, now := shown(p.was), shown(p.ro)
	return equality.Semantic.DeepEqual(before, now) &&
		!slices.ContainsFunc(now, func(s v1alpha1.RolloutExperiment) bool { return s.InForceSince == nil })
}

// noteInForce writes down since when the routes show the experiments, once they were found to do so.
func (p *pass) noteInForce(wanted Objects) {
	route := p.live[keyOf(wanted.Route)]
	if route == nil || !sameSpec(route, wanted.Route) {
		return
	}
	for i := range p.ro.Status.Experiments {
		if s := &p.ro.Status.Experiments[i]; shows(*s) && s.InForceSince == nil {
			s.InForceSince = microTime(p.now)
		}
	}
}

// untilExperiments is the time to the next pass that the experiments ask for; 0 when there is none.
func (p *pass) untilExperiments() time.Duration {
	if p.run != nil || len(p.ro.Status.Experiments) == 0 {
		return 0
	}
	for _, s := range p.ro.Status.Experiments {
		if shows(s) && s.InForceSince == nil {
			return time.Millisecond // the routes were just written: see that they stand
		}
	}
	return p.plan.Interval
}

// layerOf is the layer that an experiment's buckets belong to.
func layerOf(e *v1alpha1.Experiment) string { return orElse(e.Spec.Layer, e.Spec.Rollout) }

// controlOf is the variant that the others are compared with.
func controlOf(e *v1alpha1.Experiment) v1alpha1.VariantSpec {
	for _, v := range e.Spec.Variants {
		if v.Name == e.Spec.Control {
			return v
		}
	}
	if len(e.Spec.Variants) == 0 {
		return v1alpha1.VariantSpec{}
	}
	return e.Spec.Variants[0]
}

// bucketsOf reads what rollout.FormatBuckets wrote: distinct buckets in ascending order.
func bucketsOf(text string) ([]int, error) {
	var set []int
	for word := range strings.SplitSeq(text, ",") {
		if word == "" {
			continue
		}
		b, err := strconv.Atoi(word)
		if err != nil || b < 0 || b >= rollout.Buckets || rollout.FormatBucket(b) != word {
			return nil, fmt.Errorf("bucket %q: must be two digits", word)
		}
		if n := len(set); n > 0 && set[n-1] >= b {
			return nil, fmt.Errorf("bucket %q: must be given once, in ascending order", word)
		}
		set = append(set, b)
	}
	return set, nil
}

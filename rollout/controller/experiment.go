package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/experiment"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// experimentWorkers is how many experiments are looked at at once: one that waits for a slow Prometheus does not hold up the
// others.
const experimentWorkers = 4

// lookAgain is when an experiment that waits for something looks again, where nothing wakes it sooner.
const lookAgain = 5 * time.Second

// ExperimentReconciler runs the loop for every Experiment. It writes no route: see Reconciler.
type ExperimentReconciler struct {
	*Reconciler
	allotting sync.Mutex // one claim at a time, so that claims within this process do not give way to each other
}

// Experiments returns the loop of experiments with the same means.
func (r *Reconciler) Experiments() *ExperimentReconciler { return &ExperimentReconciler{Reconciler: r} }

// Reconcile takes one turn. A turn that the process's end cuts short is no error: the next process goes on from the status.
func (e *ExperimentReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	result, err := e.turn(ctx, req)
	if ctx.Err() != nil {
		return ctrl.Result{}, nil //nolint:nilerr // see above
	}
	return result, err
}

// turn is the loop: observe, judge, decide, act.
func (e *ExperimentReconciler) turn(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var exp v1alpha1.Experiment
	if err := e.Live.Get(ctx, req.NamespacedName, &exp); err != nil {
		e.Metrics.forgetExperiment(req.Namespace, req.Name, err)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !exp.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	t, err := e.open(&exp)
	if err != nil {
		return quiet(e.refuse(ctx, t, err))
	}
	if err := e.lookAtRollout(ctx, t); err != nil {
		return quiet(err)
	}
	if exp.Status.State == v1alpha1.ExperimentEnded {
		return quiet(e.close(ctx, t))
	}
	if err := e.allot(ctx, t); err != nil {
		return quiet(err)
	}
	e.observe(ctx, t)
	t.judge()
	t.decide()
	if err := e.write(ctx, t); err != nil {
		return quiet(err)
	}
	return ctrl.Result{RequeueAfter: t.until(e.Lag), Priority: new(handler.LowPriority)}, nil
}

// trial is one turn of the loop for one experiment: what was read, and what is to be written.
type trial struct {
	was, exp *v1alpha1.Experiment // as read, and with the status to write
	plan     experiment.Plan
	now      time.Time

	// ro is the rollout that the experiment belongs to, nil when there is none; shown what its routes show of it.
	ro    *v1alpha1.Rollout
	shown *v1alpha1.RolloutExperiment
	// run is the run that is going on; nil until the routes have shown the variants.
	run    *experiment.Run
	result experiment.Result
	// why is what the experiment waits for; stuck says that it waits for somebody.
	why   rollout.Outcome
	stuck bool
}

// open reads the spec and the status into the terms of package experiment. With an error the trial can only be refused.
func (e *ExperimentReconciler) open(exp *v1alpha1.Experiment) (*trial, error) {
	t := &trial{was: exp, exp: exp.DeepCopy(), now: e.Now().UTC()}
	var err error
	if t.plan, err = trialPlanOf(exp); err != nil {
		return t, err
	}
	if t.run, err = trialRunOf(exp, t.plan); err == nil {
		return t, nil
	}
	if t.run == nil {
		return t, err
	}
	e.Log.Warn("Began the evidence anew", "namespace", exp.Namespace, "experiment", exp.Name, "error", err)
	e.Record(exp, true, string(reasonEvidenceLost), err.Error())
	return t, nil
}

func (t *trial) wait(why rollout.Reason, message string) {
	t.why = rollout.Outcome{Decision: rollout.Hold, Reason: why, Message: message}
}

// stall waits for somebody.
func (t *trial) stall(why rollout.Reason, message string) {
	t.wait(why, message)
	t.stuck = true
}

func (t *trial) waits() bool { return t.why.Reason != "" }

// lookAtRollout reads the rollout and what its routes show, and notes what stands in the way.
func (e *ExperimentReconciler) lookAtRollout(ctx context.Context, t *trial) error {
	ro := &v1alpha1.Rollout{}
	err := e.Live.Get(ctx, client.ObjectKey{Namespace: t.exp.Namespace, Name: t.exp.Spec.Rollout}, ro)
	if apierrors.IsNotFound(err) {
		t.stall(reasonRolloutNotFound, fmt.Sprintf("there is no rollout %q in this namespace", t.exp.Spec.Rollout))
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading rollout %q: %w", t.exp.Spec.Rollout, err)
	}
	t.ro = ro
	t.shown = entryOf(ro.Status.Experiments, v1alpha1.RolloutExperiment{Name: t.exp.Name, UID: t.exp.UID})
	control, stable := controlOf(t.exp), ro.Status.StableVersion
	switch {
	case !ro.DeletionTimestamp.IsZero():
		t.stall(reasonRolloutDeleted, fmt.Sprintf("rollout %q is being deleted", ro.Name))
	case t.inForce():
		t.enter()
	case stable == "":
		t.wait(reasonStableNotReady, fmt.Sprintf("rollout %q has no stable version yet", ro.Name))
	case ro.Status.Run != nil:
		t.wait(reasonRolloutRunning, fmt.Sprintf("rollout %q is trying version %q", ro.Name, ro.Status.CanaryVersion))
	case control.Version != stable:
		t.stall(reasonControlNotStable, fmt.Sprintf("the control %q serves version %q, and the stable version is %q", control.Name, control.Version, stable))
	case t.exp.Status.State != v1alpha1.ExperimentRunning:
		e.lookAtVariants(ctx, t)
	}
	return nil
}

// lookAtVariants holds an experiment back that could not begin: it takes no buckets from others.
func (e *ExperimentReconciler) lookAtVariants(ctx context.Context, t *trial) {
	for _, v := range t.exp.Spec.Variants {
		if v.Version != t.ro.Status.StableVersion && !e.ready(ctx, t.ro, v.Version) {
			t.wait(reasonVariantNotReady, fmt.Sprintf("version %q of variant %q has no ready endpoint", v.Version, v.Name))
			return
		}
	}
}

// inForce says whether the routes show exactly the variants that the status says.
func (t *trial) inForce() bool {
	return t.shown != nil && shows(*t.shown) && t.shown.InForceSince != nil &&
		equality.Semantic.DeepEqual(t.shown.Variants, t.exp.Status.Allocation)
}

// enter begins the run when the routes show the variants for the first time, and notes it when they show them again after
// an interruption: no block from between them counts.
func (t *trial) enter() {
	since := timeOf(t.shown.InForceSince)
	if t.run != nil {
		t.run.InForceSince = since
		return
	}
	sets, err := allotted(t.exp)
	if err != nil {
		t.stall(reasonInvalidSpec, err.Error())
		return
	}
	run := experiment.Start(trialID(t.exp), t.plan, sets, since)
	t.run = &run
}

// observe counts the blocks that have become complete since the last turn. When the source of evidence cannot tell all of
// them, nothing is counted.
func (e *ExperimentReconciler) observe(ctx context.Context, t *trial) {
	if t.run == nil || !t.inForce() || t.why.Reason == reasonRolloutDeleted || e.Now().UnixNano() < e.silentUntil.Load() {
		return
	}
	run := t.run.In(t.plan, t.beside())
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	service := rollout.Service{Namespace: t.exp.Namespace, Name: t.ro.Spec.Service.Name}
	var answers [][]rollout.Block
	for _, q := range run.Questions(t.plan, service, t.now.Add(-e.Lag)) {
		if !q.To.After(q.From) {
			return
		}
		blocks, err := e.Evidence.Blocks(ctx, q)
		e.heard(err)
		if err != nil {
			e.Log.Warn("Could not read evidence", "namespace", t.exp.Namespace, "experiment", t.exp.Name, "error", err)
			e.Metrics.unansweredExperiment(t.exp)
			return
		}
		answers = append(answers, blocks)
	}
	run = run.Count(t.plan, answers)
	t.run = &run
}

// beside is what the other experiments of the rollout show: their units meet other versions than the stable one, too.
func (t *trial) beside() experiment.Layer {
	var l experiment.Layer
	for _, s := range t.ro.Status.Experiments {
		if shows(s) && s.UID != t.exp.UID {
			l.Owned = append(l.Owned, ownedBy(s.Variants)...)
		}
	}
	return l
}

func (t *trial) judge() {
	if t.run == nil {
		return
	}
	t.result = experiment.Judge(t.plan, *t.run, t.now)
}

// write stores the status if it changed, and tells what changed. It fails on a conflict.
func (e *ExperimentReconciler) write(ctx context.Context, t *trial) error {
	if !equality.Semantic.DeepEqual(t.was.Status, t.exp.Status) {
		if err := e.Client.Status().Update(ctx, t.exp); err != nil {
			return fmt.Errorf("writing the status of experiment %q: %w", t.exp.Name, err)
		}
		e.tellExperiment(t)
	}
	e.Metrics.observeExperiment(t)
	t.was, t.exp = t.exp, t.exp.DeepCopy()
	return nil
}

// refuse says in the status that the experiment cannot be read. Its buckets stay as they are.
func (e *ExperimentReconciler) refuse(ctx context.Context, t *trial, cause error) error {
	t.stall(reasonInvalidSpec, cause.Error())
	t.describe()
	return e.write(ctx, t)
}

// close does what is left to do once there is a verdict.
func (e *ExperimentReconciler) close(ctx context.Context, t *trial) error {
	st := &t.exp.Status
	if st.Verdict == string(experiment.Winner) && t.exp.Spec.PromoteWinner && st.Promotion == "" {
		if err := e.promote(ctx, t); err != nil {
			return err
		}
	}
	t.why, t.stuck = rollout.Outcome{}, false
	t.describe()
	return e.write(ctx, t)
}

// promote makes the winner's version the wanted one. Somebody who wants another version meanwhile is not overruled.
func (e *ExperimentReconciler) promote(ctx context.Context, t *trial) error {
	st := &t.exp.Status
	version := versionOf(t.exp, st.Winner)
	switch {
	case t.ro == nil:
		st.Promotion = "Nothing done: the rollout is gone"
	case t.ro.Spec.Version == version:
		st.Promotion = promotionDone
	case t.ro.Spec.Version != controlOf(t.exp).Version:
		st.Promotion = fmt.Sprintf("Nothing done: spec.version of the rollout was changed to %q meanwhile", t.ro.Spec.Version)
	default:
		before := t.ro.DeepCopy()
		t.ro.Spec.Version = version
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if err := e.Client.Patch(ctx, t.ro, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
			return fmt.Errorf("setting spec.version of rollout %q to %q: %w", t.ro.Name, version, err)
		}
		st.Promotion = promotionDone
	}
	return nil
}

const promotionDone = "Done"

func versionOf(e *v1alpha1.Experiment, variant string) string {
	for _, v := range e.Spec.Variants {
		if v.Name == variant {
			return v.Version
		}
	}
	return ""
}

// SetupWithManager registers the reconciler for experiments and wakes it when their rollouts show them.
func (e *ExperimentReconciler) SetupWithManager(mgr ctrl.Manager) error {
	b := ctrl.NewControllerManagedBy(mgr).Named("experiment").For(&v1alpha1.Experiment{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: experimentWorkers, RateLimiter: backoff()}).
		Watches(&v1alpha1.Rollout{}, handler.EnqueueRequestsFromMapFunc(e.experimentsToWake), onUpdate(rolloutMatters))
	if err := b.Complete(e); err != nil {
		return fmt.Errorf("setting up the experiment controller: %w", err)
	}
	return nil
}

// experimentsToWake lists the experiments of a rollout that have not ended.
func (e *ExperimentReconciler) experimentsToWake(ctx context.Context, ro client.Object) []ctrl.Request {
	var all v1alpha1.ExperimentList
	if err := e.Client.List(ctx, &all, client.InNamespace(ro.GetNamespace())); err != nil {
		return nil // they look again by themselves
	}
	var out []ctrl.Request
	for i := range all.Items {
		if x := &all.Items[i]; x.Spec.Rollout == ro.GetName() && x.Status.State != v1alpha1.ExperimentEnded {
			out = append(out, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(x)})
		}
	}
	return out
}

// rolloutOf names the rollout of an experiment.
func rolloutOf(_ context.Context, o client.Object) []ctrl.Request {
	x, ok := o.(*v1alpha1.Experiment)
	if !ok {
		return nil
	}
	return []ctrl.Request{{NamespacedName: client.ObjectKey{Namespace: x.Namespace, Name: x.Spec.Rollout}}}
}

// rolloutMatters says whether a rollout changed in what its experiments look at.
func rolloutMatters(was, now client.Object) bool {
	a, ok := was.(*v1alpha1.Rollout)
	b, too := now.(*v1alpha1.Rollout)
	return !ok || !too || a.DeletionTimestamp.IsZero() != b.DeletionTimestamp.IsZero() || a.Status.StableVersion != b.Status.StableVersion || (a.Status.Run == nil) != (b.Status.Run == nil) ||
		!equality.Semantic.DeepEqual(a.Status.Experiments, b.Status.Experiments)
}

// experimentMatters says whether an experiment changed in what the routes show.
func experimentMatters(was, now client.Object) bool {
	a, ok := was.(*v1alpha1.Experiment)
	b, too := now.(*v1alpha1.Experiment)
	return !ok || !too || a.Status.State != b.Status.State || !b.DeletionTimestamp.Equal(a.DeletionTimestamp)
}

// onUpdate lets an update through when the function says that it matters.
func onUpdate(matters func(was, now client.Object) bool) builder.Predicates {
	return builder.WithPredicates(predicate.Funcs{UpdateFunc: func(u event.UpdateEvent) bool { return matters(u.ObjectOld, u.ObjectNew) }})
}

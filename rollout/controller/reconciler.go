package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// Evidence answers a question with the blocks between two instants. An error means that it cannot be told; the weight
// is then held.
type Evidence interface {
	Blocks(ctx context.Context, q rollout.Question) ([]rollout.Block, error)
}

// Router renders traffic into the objects of a mesh.
type Router interface {
	// Render returns the objects that express t. Leaving names versions that must still be reachable although t no
	// longer knows them. What the mesh cannot do is a mesh.UnsupportedError.
	Render(t mesh.Traffic, leaving []string) (Objects, error)
	// Versions lists the versions that one of the Subsets, as it stands in the cluster, makes reachable.
	Versions(subsets *unstructured.Unstructured, versionLabel string) []string
	// Kinds are the kinds of the objects that Render returns, without the rate limit: a foreign edit wakes the loop.
	Kinds() []schema.GroupVersionKind
}

// Objects express one Traffic value in a mesh.
type Objects struct {
	// Subsets make versions reachable and must stand before Route leads to them; Route decides who meets which.
	Subsets []*unstructured.Unstructured
	Route   *unstructured.Unstructured
	// Behind are the routes of the services behind, which follow the variant. They stand after Subsets and before Route.
	Behind []*unstructured.Unstructured
	// Prune says that Subsets has objects by version: others of their kinds, which belong to this rollout, have to go.
	Prune bool
	// Limits bound the requests; LimitKeys name all that there could be, so that an earlier one can be removed. A mesh that has
	// no limits has no LimitKeys.
	Limits    []*unstructured.Unstructured
	LimitKeys []*unstructured.Unstructured
}

// Recorder tells people what happened to a rollout or an experiment.
type Recorder func(about client.Object, warning bool, reason, message string)

// Options configure a Reconciler. The zero value of each optional field is valid.
type Options struct {
	// Now is the clock; time.Now by default.
	Now func() time.Time
	// Lag is how long after its end a block is complete in the source of evidence; 5 s by default.
	Lag time.Duration
	// Timeout bounds each question to the source of evidence; 5 s by default.
	Timeout time.Duration
	// Grace is how long a version stays reachable after the last route to it was removed; 30 s by default.
	Grace time.Duration
	// Settle is how long the subsets of a new version stand before units are sent to them; 1 s by default.
	Settle time.Duration
	// Questions is how many questions may be put to the source of evidence at once; 4 by default. The other workers stay
	// free for what needs no evidence when the source is slow.
	Questions int
	// Rules makes the controller write a PrometheusRule for each rollout, with RuleLabels beside its own.
	Rules      bool
	RuleLabels map[string]string
	// NoScaling refuses rollouts that want Deployments to be scaled, for which the controller has no right then.
	NoScaling bool
	// Record tells people; nobody by default.
	Record Recorder
	// Metrics, none by default.
	Metrics *Metrics
	// Log, nowhere by default.
	Log *slog.Logger

	// Client reads what may be a moment old and writes; Live reads what is.
	Client   client.Client
	Live     client.Reader
	Evidence Evidence
	// Routers speak to the providers that rollouts may name. At least one.
	Routers map[v1alpha1.Provider]Router
}

// Reconciler runs the loop for every Rollout.
type Reconciler struct {
	Options
	asking chan struct{} // holds one element for each question under way
	// overdue counts the questions in a row that ran into their deadline; silentUntil is until when none is asked, in
	// nanoseconds since the epoch.
	overdue, silentUntil atomic.Int64
	calm                 calm
}

// New returns a reconciler, or an error that names the dependency that is missing.
func New(o Options) (*Reconciler, error) {
	for _, need := range []struct {
		name    string
		missing bool
	}{
		{"Client", o.Client == nil}, {"Live", o.Live == nil}, {"Evidence", o.Evidence == nil}, {"Routers", len(o.Routers) == 0},
	} {
		if need.missing {
			return nil, fmt.Errorf("building the reconciler: %s must be set", need.name)
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Lag = orDefault(o.Lag, 5*time.Second)
	o.Timeout = orDefault(o.Timeout, 5*time.Second)
	o.Grace = orDefault(o.Grace, 30*time.Second)
	o.Settle = orDefault(o.Settle, time.Second)
	if o.Questions <= 0 {
		o.Questions = 4
	}
	if o.Record == nil {
		o.Record = func(client.Object, bool, string, string) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Reconciler{Options: o, asking: make(chan struct{}, o.Questions)}, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// longest is how long a turn may take. What does not answer holds neither its rollout nor a worker for longer.
const longest = 30 * time.Second

// Reconcile takes one turn. A turn that the process's end cuts short is no error: the next process goes on from the status.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	bounded, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	result, err := r.turn(bounded, req)
	if ctx.Err() != nil {
		return ctrl.Result{}, nil
	}
	return result, err
}

// turn is the loop: observe, judge, decide, act.
func (r *Reconciler) turn(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var ro v1alpha1.Rollout
	if err := r.Live.Get(ctx, req.NamespacedName, &ro); err != nil {
		r.Metrics.forget(req.Namespace, req.Name, err)
		r.calm.forget(req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !ro.DeletionTimestamp.IsZero() {
		return r.leave(ctx, &ro)
	}
	pass, err := r.open(ctx, &ro)
	if err != nil {
		return r.finish(ctx, pass, err)
	}
	if !pass.hasty() { // what is known may end the run already; then nothing is looked at or asked
		r.lookAtWorkloads(ctx, pass)
	}
	r.lookAtExperiments(ctx, pass)
	if pass.judging() && !pass.hasty() {
		r.lookAtRoutes(ctx, pass)
		r.lookAtSpread(pass)
		r.observe(ctx, pass)
		pass.judge()
	}
	pass.decide()
	if pass.foreign != nil && !pass.urgent {
		return r.finish(ctx, pass, pass.foreign)
	}
	return r.finish(ctx, pass, r.act(ctx, pass))
}

// finish turns the end of a pass into the time of the next one.
func (r *Reconciler) finish(ctx context.Context, p *pass, err error) (ctrl.Result, error) {
	var foreign *foreignError
	var spec *specError
	switch {
	case errors.As(err, &foreign):
		return r.stalled(ctx, p, reasonNotOwned, err, p.plan.Interval)
	case errors.As(err, &spec):
		return r.stalled(ctx, p, reasonOf(err), err, 0)
	case err != nil:
		return quiet(err)
	}
	// What the clock asks for comes after what somebody did: an abort does not queue behind a thousand looks.
	return ctrl.Result{RequeueAfter: p.until(r.Lag), Priority: new(handler.LowPriority)}, nil
}

// stalled ends a pass that can do nothing but give back what an earlier run took from stable.
func (r *Reconciler) stalled(ctx context.Context, p *pass, why rollout.Reason, cause error, otherwise time.Duration) (ctrl.Result, error) {
	var again time.Duration
	if p.was.Status.Run == nil {
		again = r.repay(ctx, p.was)
	}
	result, err := quiet(r.stall(ctx, p.was, why, cause))
	return later(result, cmp.Or(again, otherwise)), err
}

// quiet turns a conflict into a second look at once: somebody wrote the rollout meanwhile.
func quiet(err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: time.Millisecond}, nil
	}
	return ctrl.Result{}, err
}

func later(result ctrl.Result, otherwise time.Duration) ctrl.Result {
	if result.RequeueAfter == 0 {
		result.RequeueAfter = otherwise
	}
	return result
}

// maxBackoff is the longest time to the next try after errors.
const maxBackoff = time.Second

// SetupWithManager registers the reconciler for rollouts and for the routes that it writes: a foreign edit wakes it.
// Workers is how many rollouts are reconciled at once.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, workers int) error {
	owned := handler.EnqueueRequestForOwner(mgr.GetScheme(), mgr.GetRESTMapper(), &v1alpha1.Rollout{}, handler.OnlyControllerOwner())
	b := ctrl.NewControllerManagedBy(mgr).Named("rollout").For(&v1alpha1.Rollout{}, onUpdate(concernsLoop)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             backoff(),
		}).
		Watches(&v1alpha1.Experiment{}, handler.EnqueueRequestsFromMapFunc(rolloutOf), onUpdate(experimentMatters))
	for _, router := range r.Routers {
		for _, kind := range router.Kinds() {
			b = b.WatchesMetadata(ofKind(kind), owned)
			if kind == ruleKind {
				b = b.WatchesMetadata(ofKind(kind), handler.EnqueueRequestsFromMapFunc(r.besideRule), onUpdate(respecified))
			}
		}
	}
	if err := b.Complete(r); err != nil {
		return fmt.Errorf("setting up the rollout controller: %w", err)
	}
	return r.Experiments().SetupWithManager(mgr)
}

// backoff is short: after an outage of the API a rollback must not wait for one that has grown to minutes.
func backoff() workqueue.TypedRateLimiter[ctrl.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](5*time.Millisecond, maxBackoff)
}

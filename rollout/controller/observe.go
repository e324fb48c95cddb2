package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// askAgain is when to look again after no question could be put because too many were under way.
const askAgain = 200 * time.Millisecond

// observe counts the blocks that have become complete since the last pass. When the source of evidence cannot tell,
// nothing is counted: the evidence stays what it was, and the gates say NoData once it is stale.
func (r *Reconciler) observe(ctx context.Context, p *pass) {
	from := rollout.GridFloor(p.run.LastBlock, p.plan.Interval)
	if from.Before(p.run.LastBlock) {
		from = from.Add(p.plan.Interval) // the interval was changed; the block that LastBlock falls in is passed over
	}
	to := rollout.GridFloor(p.now.Add(-r.Lag), p.plan.Interval)
	if !to.After(from) || !r.enter(ctx, p) {
		return
	}
	defer func() { <-r.asking }()
	blocks, err := r.ask(ctx, p, rollout.Question{
		Service: rollout.Service{Namespace: p.ro.Namespace, Name: p.ro.Spec.Service.Name},
		Gates:   p.plan.Gates,
		Stable:  p.ro.Status.StableVersion, Canary: p.ro.Status.CanaryVersion,
		From: from, To: to, Interval: p.plan.Interval, Copies: p.run.Shadowed(p.plan),
		Cohort: cohortLabel(p.ro), Within: p.run.Step == 0 && p.plan.Preview.Control > 0,
	})
	if err != nil && p.busy {
		return // given up for something more urgent
	}
	if err != nil {
		r.Log.Warn("Could not read evidence", "namespace", p.ro.Namespace, "rollout", p.ro.Name, "error", err)
		r.Metrics.unanswered(p.ro)
		return
	}
	run := p.run.Count(p.plan, blocks)
	p.run = &run
}

// enter waits a moment for its turn to ask. It is refused when too many questions are under way, and for a while after
// the last ones have all run into their deadlines: a source that hangs must not hold the workers one after another.
func (r *Reconciler) enter(ctx context.Context, p *pass) bool {
	if r.Now().UnixNano() < r.silentUntil.Load() {
		r.Metrics.unanswered(p.ro)
		return false
	}
	timer := time.NewTimer(interruptEvery)
	defer timer.Stop()
	select {
	case r.asking <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	p.busy = true
	return false
}

// heard notes how a question ended, and stops asking for two deadlines when as many as may be asked at once have run out
// in a row.
func (r *Reconciler) heard(err error) {
	if !errors.Is(err, context.DeadlineExceeded) {
		r.overdue.Store(0)
		return
	}
	if int(r.overdue.Add(1)) >= r.Questions {
		r.silentUntil.Store(r.Now().Add(2 * r.Timeout).UnixNano())
	}
}

// interruptEvery is how often a question that takes its time looks whether something else has become more urgent.
const interruptEvery = 250 * time.Millisecond

// ask puts a question to the source of evidence. It gives up when somebody changes the rollout or its route meanwhile: an
// abort does not wait for a Prometheus that hangs.
func (r *Reconciler) ask(ctx context.Context, p *pass, q rollout.Question) ([]rollout.Block, error) {
	ctx, stop := r.interruptible(ctx, p)
	defer stop()
	blocks, err := r.Evidence.Blocks(ctx, q)
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		r.heard(err)
	}
	return blocks, err
}

// interruptible returns a context that ends after the timeout, or when somebody changes the rollout or its route meanwhile. The
// pass is busy then. Whoever asks must stop it.
func (r *Reconciler) interruptible(ctx context.Context, p *pass) (_ context.Context, stop func()) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(interruptEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if r.changed(ctx, p) {
				p.busy = true
				cancel()
			}
		}
	})
	return ctx, func() {
		cancel()
		watching.Wait()
	}
}

// changed says whether the rollout or the route is another than the pass has read.
func (r *Reconciler) changed(ctx context.Context, p *pass) bool {
	var now v1alpha1.Rollout
	if r.Live.Get(ctx, client.ObjectKeyFromObject(p.was), &now) == nil && now.ResourceVersion != p.was.ResourceVersion {
		return true
	}
	route := p.live[p.route]
	if route == nil {
		return false
	}
	live, err := r.read(ctx, route)
	return apierrors.IsNotFound(err) || (err == nil && live.GetResourceVersion() != route.GetResourceVersion())
}

// lookAtWorkloads finds out whether the versions that the pass may send traffic to can answer.
func (r *Reconciler) lookAtWorkloads(ctx context.Context, p *pass) {
	if runs, ok := p.router.(Runner); ok {
		route := p.live[p.route]
		p.stableReady = true // it begins to run by being written
		p.canaryReady = route != nil && runs.Ready(route, p.ro.Status.CanaryVersion)
		return
	}
	switch {
	case p.ro.Status.StableVersion == "":
		p.lacking = r.rouse(ctx, p)
		p.stableReady = p.lacking == "" && r.ready(ctx, p.ro, p.ro.Spec.Version)
	case p.judging():
		r.lookAtCanary(ctx, p)
	}
}

// lookAtCanary finds out what the canary is ready for. What the API does not say is as it was, and nothing goes on meanwhile.
func (r *Reconciler) lookAtCanary(ctx context.Context, p *pass) {
	var unknown error
	if r.lookAtScaling(ctx, p); p.scaling != nil && p.ro.Spec.Workload.Scaling != nil {
		if unknown = p.uncounted(); unknown == nil {
			p.canaryReady, p.lacking = p.lacks(p.weightNow()) == "", p.lacks(p.weightAhead())
		}
	} else {
		p.canaryReady, unknown = r.answers(ctx, p.ro, p.ro.Status.CanaryVersion)
	}
	if unknown != nil {
		was := rollout.Reason(p.was.Status.Reason)
		p.canaryReady, p.lacking = was != rollout.CanaryNotReady && was != reasonRunStarted, unknown.Error()
	}
}

// ready says whether a version has an endpoint that is ready, by the objects that run it.
func (r *Reconciler) ready(ctx context.Context, ro *v1alpha1.Rollout, version string) bool {
	ready, err := r.answers(ctx, ro, version)
	return err == nil && ready
}

// answers is ready where it matters whether the API did not say so or could not say anything.
func (r *Reconciler) answers(ctx context.Context, ro *v1alpha1.Rollout, version string) (bool, error) {
	kind, ok := workloadKinds[ro.Spec.Workload.Kind]
	if !ok {
		kind = workloadKinds["Deployment"]
	}
	for _, app := range appsOf(ro) {
		var list unstructured.UnstructuredList
		list.SetGroupVersionKind(kind.gvk)
		err := r.Live.List(ctx, &list, client.InNamespace(ro.Namespace), client.MatchingLabels{"app": app, versionLabel(ro): version})
		if err != nil {
			r.Log.Warn("Could not list workloads", "kind", kind.gvk.Kind, "namespace", ro.Namespace, "error", err)
			return false, fmt.Errorf("listing every %s of service %q: %w", strings.TrimSuffix(kind.gvk.Kind, "List"), app, err)
		}
		if !slices.ContainsFunc(list.Items, func(o unstructured.Unstructured) bool { return kind.ready(o.Object) }) {
			return false, nil
		}
	}
	return true, nil
}

// appsOf are the services that must run a version before it is met: the rollout's and its tiers.
func appsOf(ro *v1alpha1.Rollout) []string {
	all := []string{ro.Spec.Service.Name}
	for _, t := range ro.Spec.Tiers {
		all = append(all, t.Name)
	}
	return all
}

var workloadKinds = map[string]struct {
	gvk   schema.GroupVersionKind
	ready func(object map[string]any) bool
}{
	"Deployment": {
		schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DeploymentList"},
		func(o map[string]any) bool {
			n, _, _ := unstructured.NestedInt64(o, "status", "availableReplicas")
			return n > 0
		},
	},
	"InferenceService": {schema.GroupVersionKind{Group: "serving.kserve.io", Version: "v1beta1", Kind: "InferenceServiceList"}, saysReady},
	"Model":            {schema.GroupVersionKind{Group: "mlops.seldon.io", Version: "v1alpha1", Kind: "ModelList"}, saysReady},
}

// saysReady says whether an object has the condition Ready.
func saysReady(o map[string]any) bool {
	all, _, _ := unstructured.NestedSlice(o, "status", "conditions")
	for _, c := range all {
		if m, ok := c.(map[string]any); ok && m["type"] == "Ready" {
			return fmt.Sprint(m["status"]) == "True"
		}
	}
	return false
}

func versionLabel(ro *v1alpha1.Rollout) string {
	if ro.Spec.Workload.VersionLabel == "" {
		return "version"
	}
	return ro.Spec.Workload.VersionLabel
}

// alertsOf returns the alerts in the status in the terms of the rollout package.
func alertsOf(ro *v1alpha1.Rollout) []rollout.Alert {
	alerts := make([]rollout.Alert, 0, len(ro.Status.Alerts))
	for _, a := range ro.Status.Alerts {
		alerts = append(alerts, rollout.Alert{Name: a.Name, Severity: a.Severity, Summary: a.Summary, Labels: a.Labels})
	}
	return alerts
}

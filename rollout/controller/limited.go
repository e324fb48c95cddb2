package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// lookAtLimits reads the rate limit's objects, which the pass would have to read before it writes them. Those that are somebody
// else's are told by the status.
func (r *Reconciler) lookAtLimits(ctx context.Context, p *pass, limits []*unstructured.Unstructured) {
	p.limits = map[string]*unstructured.Unstructured{}
	for _, want := range limits {
		live, err := r.read(ctx, want)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			p.unsure = true
		default:
			p.limits[keyOf(want)] = live
		}
		if err == nil && !ours(p.ro, live) {
			p.notLimited = append(p.notLimited, notLimited(&foreignError{want.GetKind(), want.GetName()}).Error())
		}
	}
}

// IdleLimit is a part of the spec that bounds no request, by its field, and why.
type IdleLimit struct{ Field, Message string }

// IdleLimits lists them.
func IdleLimits(ro *v1alpha1.Rollout) []IdleLimit {
	t := trafficOf(ro)
	idle := t.IdlePorts()
	if len(idle) == 0 {
		return nil
	}
	var all []IdleLimit
	for i, p := range ro.Spec.RateLimit.Ports {
		if slices.Contains(idle, int(p.Number)) {
			all = append(all, IdleLimit{fmt.Sprintf("spec.rateLimit.ports[%d]", i), fmt.Sprintf(
				"the rate of port %d in rateLimit.ports never counts: from a gateway Siskin's routes lead to service.port, %d, alone, unless a route of yours delegates to them (traffic.entry: Delegate)",
				p.Number, t.Service.Port)})
		}
	}
	return all
}

func notLimited(why error) error { return fmt.Errorf("the rate limit is not in force: %w", why) }

// limit writes the limits that there are and removes the others. One whose place somebody else's object has is told of.
func (r *Reconciler) limit(ctx context.Context, p *pass, o Objects) error {
	var errs []error
	for _, want := range o.Limits {
		r.calm.note(p, want) // once it is wanted no more it is looked at
		_, err := r.put(ctx, p, want)
		if _, foreign := errors.AsType[*foreignError](err); foreign {
			r.warn(p, string(reasonNotLimited), keyOf(want), notLimited(err))
			continue
		}
		errs = append(errs, err)
	}
	for _, key := range o.LimitKeys {
		wanted := slices.ContainsFunc(o.Limits, func(l *unstructured.Unstructured) bool { return keyOf(l) == keyOf(key) })
		if wanted || r.calm.since(p, key) {
			continue
		}
		err := r.remove(ctx, p, key)
		if err == nil {
			r.calm.note(p, key)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

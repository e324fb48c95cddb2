package cli

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// relistAfter is the pause before a watch that the server ended is begun again.
const relistAfter = time.Second

// seen is a rollout as it is now, or as it was when it was deleted.
type seen struct {
	rollout *v1alpha1.Rollout
	deleted bool
}

// follow lists rollouts and then watches them, calling see for each state, until see says that it is done, it returns
// an error, or the context ends. name "" means every rollout. What the caller has met before is not shown again, and is
// missed when it is gone.
func (c *cluster) follow(ctx context.Context, namespace, name string, see func(seen) (done bool, err error), met ...*v1alpha1.Rollout) error {
	options := []client.ListOption{client.InNamespace(namespace)}
	if name != "" {
		options = append(options, client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", name)})
	}
	known := map[client.ObjectKey]*v1alpha1.Rollout{}
	for _, ro := range met {
		remember(known, seen{rollout: ro})
	}
	for {
		done, err := c.followOnce(ctx, known, options, see)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(relistAfter):
		}
	}
}

func (c *cluster) followOnce(ctx context.Context, known map[client.ObjectKey]*v1alpha1.Rollout, options []client.ListOption,
	see func(seen) (bool, error),
) (done bool, err error) {
	var listed v1alpha1.RolloutList
	if err := c.List(ctx, &listed, options...); err != nil {
		return false, err
	}
	for _, s := range changes(known, listed.Items) {
		if done, err := see(s); done || err != nil {
			return done, err
		}
	}
	resume := &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: listed.ResourceVersion}}
	w, err := c.Watch(ctx, &v1alpha1.RolloutList{}, append(options, resume)...)
	if err != nil {
		return false, err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case event, open := <-w.ResultChan():
			ro, ok := event.Object.(*v1alpha1.Rollout)
			if !open || !ok {
				return false, nil // ended, or too old: list again
			}
			s := seen{rollout: ro, deleted: event.Type == watch.Deleted}
			remember(known, s)
			if done, err := see(s); done || err != nil {
				return done, err
			}
		}
	}
}

// changes brings known up to a list and returns what is new: the rollouts listed, and those that are gone.
func changes(known map[client.ObjectKey]*v1alpha1.Rollout, listed []v1alpha1.Rollout) []seen {
	var all []seen
	present := map[client.ObjectKey]bool{}
	for i := range listed {
		key := client.ObjectKeyFromObject(&listed[i])
		present[key] = true
		if old := known[key]; old == nil || old.ResourceVersion != listed[i].ResourceVersion {
			all = append(all, seen{rollout: &listed[i]})
		}
	}
	for key, ro := range known {
		if !present[key] {
			all = append(all, seen{rollout: ro, deleted: true})
		}
	}
	for _, s := range all {
		remember(known, s)
	}
	return all
}

func remember(known map[client.ObjectKey]*v1alpha1.Rollout, s seen) {
	key := client.ObjectKeyFromObject(s.rollout)
	if s.deleted {
		delete(known, key)
		return
	}
	known[key] = s.rollout
}

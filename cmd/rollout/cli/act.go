package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// handledWithin is how long a command waits for the controller to take its request up.
const handledWithin = 10 * time.Second

// done is the outcome that the controller writes when it did what was asked.
const done = "Done"

// verb is a command that leaves a request for the controller.
type verb struct {
	name        string
	action      v1alpha1.RequestAction
	short, long string
	examples    []string
	// past says in one clause what the controller did.
	past string
}

func verbs() []verb {
	return []verb{
		{
			name: "promote", action: v1alpha1.ActionPromote, past: "goes on to the next step",
			short:    "Go on to the next step, or with --full to the end",
			long:     "Skip the rest of the present step, also of a paused run. The gates of the next step judge as usual.\n\nWith --full the new version gets all the traffic at once, whatever the gates say.",
			examples: []string{"promote coolant", "promote coolant --full"},
		},
		{
			name: "abort", action: v1alpha1.ActionAbort, past: "was rolled back to the stable version",
			short:    "Roll back at once",
			long:     "Send all the traffic back to the stable version at once. The version is then rejected: it is not tried again until\nspec.version changes or somebody asks for a retry.",
			examples: []string{"abort coolant"},
		},
		{
			name: "pause", action: v1alpha1.ActionPause, past: "is paused",
			short:    "Hold the weight",
			long:     "Hold the present weight until somebody resumes, promotes or aborts. Harm still rolls back while a run is paused.",
			examples: []string{"pause coolant"},
		},
		{
			name: "resume", action: v1alpha1.ActionResume, past: "goes on",
			short:    "End a pause",
			long:     "End a pause, whether an operator or the controller began it.",
			examples: []string{"resume coolant"},
		},
		{
			name: "retry", action: v1alpha1.ActionRetry, past: "starts a new run",
			short:    "Try a rejected version again",
			long:     "Start a new run of the version that was rolled back. It begins anew, with the preview or shadow where there is one, with no\nevidence and other buckets first.",
			examples: []string{"retry coolant", "retry coolant && rollout status coolant # and watch it"},
		},
	}
}

// actor is one call of a verb.
type actor struct {
	*app
	verb   verb
	full   bool
	noWait bool
}

func (a *app) actions() []*cobra.Command {
	var cmds []*cobra.Command
	for _, v := range verbs() {
		cmds = append(cmds, a.act(v))
	}
	return cmds
}

func (a *app) act(v verb) *cobra.Command {
	act := &actor{app: a, verb: v}
	cmd := &cobra.Command{
		Use:               v.name + " NAME",
		Short:             v.short,
		Long:              v.long,
		Example:           a.examples(slices.Clone(v.examples)...),
		Args:              oneName,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return act.run(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVar(&act.noWait, "no-wait", false, "do not wait for the controller to take the request up")
	if v.action == v1alpha1.ActionPromote {
		cmd.Flags().BoolVar(&act.full, "full", false, "skip all steps and gates: all the traffic at once")
	}
	return cmd
}

func (a *actor) run(ctx context.Context, name string) error {
	if a.full {
		a.verb.action, a.verb.past = v1alpha1.ActionPromoteFull, "was promoted"
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	request := v1alpha1.Request{
		ID:          rand.Text(),
		Action:      a.verb.action,
		By:          c.user(ctx),
		RequestedAt: metav1.NewMicroTime(a.now()),
	}
	if err := c.ask(ctx, name, request); err != nil {
		return err
	}
	if a.noWait {
		_, err := fmt.Fprintf(a.io.Out, "%s: %s was requested\n", name, a.verb.name)
		return err
	}
	outcome, err := c.outcome(ctx, name, request.ID)
	if err != nil {
		return err
	}
	if outcome != done {
		return fmt.Errorf("%s did not %s: %s", name, a.verb.name, outcome)
	}
	_, err = fmt.Fprintf(a.io.Out, "%s %s\n", name, a.verb.past)
	return err
}

// ask appends a request to the rollout's status. The list is replaced as a whole, so the write holds only if nobody
// else wrote since it was read.
func (c *cluster) ask(ctx context.Context, name string, request v1alpha1.Request) error {
	err := retry.RetryOnConflict(onConflict(), func() error {
		ro := &v1alpha1.Rollout{}
		if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, ro); err != nil {
			return err
		}
		before := client.MergeFromWithOptions(ro.DeepCopy(), client.MergeFromWithOptimisticLock{})
		ro.Status.Requests = append(ro.Status.Requests, request)
		return c.Status().Patch(ctx, ro, before, fieldOwner)
	})
	return c.explain(ctx, err, name)
}

// onConflict tries for about two seconds: the controller writes the same status while a run goes on.
func onConflict() wait.Backoff {
	return wait.Backoff{Steps: 12, Duration: 10 * time.Millisecond, Factor: 1.5, Jitter: 0.5}
}

var errUnhandled = errors.New("unhandled")

// outcome waits until the controller has marked the request as handled, and returns what it made of it.
func (c *cluster) outcome(ctx context.Context, name, id string) (string, error) {
	limited, cancel := context.WithTimeoutCause(ctx, handledWithin, errUnhandled)
	defer cancel()
	outcome := ""
	err := c.follow(limited, c.namespace, name, func(s seen) (bool, error) {
		if s.deleted {
			return true, fmt.Errorf("%s was deleted before the request was handled", name)
		}
		for _, r := range s.rollout.Status.Requests {
			if r.ID == id && r.HandledAt != nil {
				outcome = r.Outcome
				return true, nil
			}
		}
		return false, nil
	})
	switch {
	case err == nil:
		return outcome, nil
	case errors.Is(context.Cause(limited), errUnhandled):
		return "", fmt.Errorf("no controller took the request up within %v: is it running? The request %s stays in the status of %s",
			handledWithin, id, name)
	}
	return "", c.explain(ctx, err, name)
}

// undo builds the one action that changes the spec, as a GitOps tool would.
func (a *app) undo() *cobra.Command {
	return &cobra.Command{
		Use:   "undo NAME",
		Short: "Set spec.version back to the stable version",
		Long: `Set spec.version back to the stable version, which rolls a run back at once. Unlike abort it leaves no rejected version
behind, and it needs the right to change the rollout. Where a GitOps tool owns spec.version, change it there: the tool
would set it forth again.`,
		Example:           a.examples("undo coolant"),
		Args:              oneName,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			from, to, err := c.undo(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.io.Out, "%s: spec.version is %s again, not %s\n", args[0], to, from)
			return err
		},
	}
}

func (c *cluster) undo(ctx context.Context, name string) (from, to string, err error) {
	err = retry.RetryOnConflict(onConflict(), func() error {
		ro := &v1alpha1.Rollout{}
		if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, ro); err != nil {
			return err
		}
		from, to = ro.Spec.Version, ro.Status.StableVersion
		if to == "" {
			return fmt.Errorf("%s has no stable version yet: there is nothing to go back to", name)
		}
		if from == to {
			return fmt.Errorf("%s has nothing to undo: spec.version is the stable version, %s", name, to)
		}
		before := client.MergeFromWithOptions(ro.DeepCopy(), client.MergeFromWithOptimisticLock{})
		ro.Spec.Version = to
		return c.Patch(ctx, ro, before, fieldOwner)
	})
	return from, to, c.explain(ctx, err, name)
}

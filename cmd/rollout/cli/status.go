package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/siskin-dev/siskin/cmd/internal/view"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// redrawEvery keeps ages and remaining holds current on a terminal.
const redrawEvery = time.Second

// statusCall is one call of status.
type statusCall struct {
	*app
	watch   bool
	timeout time.Duration
	wanted  string // spec.version when the call began
	latest  *v1alpha1.Rollout
	screen  *screen // nil where the output is not a terminal
	printed string  // the last line that was appended
}

func (a *app) status() *cobra.Command {
	s := &statusCall{app: a}
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Watch a rollout until it is done",
		Long: `Watch a rollout until spec.version is stable, and tell how it went.

A paused run is waited for: somebody may resume it. The exit code is 0 when spec.version is stable and ready, 2 when it
was rolled back, superseded, deleted or cannot go on, 3 when --timeout passed first, and 1 for any other error.`,
		Example: a.examples(
			"status coolant",
			"status coolant --timeout 30m # for a pipeline: fail when it takes longer",
			"status coolant --watch=false # print once"),
		Args:              oneName,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.run(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVarP(&s.watch, "watch", "w", true, "wait until the rollout is done")
	cmd.Flags().DurationVar(&s.timeout, "timeout", 0, "the longest time to wait; 0 is for ever")
	return cmd
}

func (s *statusCall) run(ctx context.Context, name string) error {
	if s.timeout < 0 {
		return fmt.Errorf("--timeout %v: must not be negative", s.timeout)
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	ro, err := c.rollout(ctx, name)
	if err != nil {
		return err
	}
	s.latest, s.wanted = ro, ro.Spec.Version
	if width, ok := terminal(s.io.Out); ok && s.watch {
		s.screen = &screen{out: s.io.Out, width: width}
	}
	if err := s.drawAll(); err != nil {
		return err
	}
	e := ending(ro, s.wanted)
	if s.watch && !e.done {
		if e, err = s.wait(ctx, c, name); err != nil {
			return err
		}
	}
	return s.end(e)
}

func (s *statusCall) end(e end) error {
	if e.err != nil {
		return codedError{e.err, exitFailed}
	}
	if e.done {
		_, err := fmt.Fprintln(s.io.Out, e.text)
		return err
	}
	return nil
}

// wait follows the rollout until it has ended. One goroutine reads the API; the drawing stays here.
func (s *statusCall) wait(ctx context.Context, c *cluster, name string) (end, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.timeout > 0 {
		timer := time.AfterFunc(s.timeout, func() { cancel(errTimeout) })
		defer timer.Stop()
	}
	states, failed := make(chan seen), make(chan error, 1)
	met := s.latest
	go func() {
		failed <- c.follow(ctx, c.namespace, name, func(next seen) (bool, error) {
			select {
			case states <- next:
				return false, nil
			case <-ctx.Done():
				return true, ctx.Err()
			}
		}, met)
	}()
	redraw := time.NewTicker(redrawEvery)
	defer redraw.Stop()
	for {
		select {
		case next := <-states:
			if e, err := s.see(next); e.done || err != nil {
				return e, err
			}
		case <-redraw.C:
			if err := s.redraw(); err != nil {
				return end{}, err
			}
		case err := <-failed:
			return end{}, s.stopped(ctx, c, err)
		}
	}
}

var errTimeout = errors.New("timeout")

// stopped says why the following ended before the rollout did.
func (s *statusCall) stopped(ctx context.Context, c *cluster, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errTimeout):
		text := fmt.Errorf("%s is not done after %v: %s", s.latest.Name, s.timeout, summary(s.latest))
		return codedError{text, exitTimeout}
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: %s goes on without a watcher", s.latest.Name)
	}
	return c.explain(ctx, err, s.latest.Name)
}

func (s *statusCall) see(next seen) (end, error) {
	s.latest = next.rollout
	if next.deleted {
		return failed("%s was deleted", s.latest.Name), nil
	}
	if s.screen != nil {
		return ending(s.latest, s.wanted), s.drawAll()
	}
	if line := summary(s.latest); line != s.printed {
		s.printed = line
		if _, err := fmt.Fprintln(s.io.Out, line); err != nil {
			return end{}, err
		}
	}
	return ending(s.latest, s.wanted), nil
}

func (s *statusCall) redraw() error {
	if s.screen == nil {
		return nil
	}
	return s.drawAll()
}

// drawAll draws the whole status, over the last one on a terminal.
func (s *statusCall) drawAll() error {
	s.printed = summary(s.latest)
	width, isTerminal := terminal(s.io.Out)
	lines := view.Lines(s.latest, view.Options{Color: s.color && isTerminal, Width: width, Now: s.now()})
	if s.screen != nil {
		s.screen.width = width
		return s.screen.draw(lines)
	}
	_, err := fmt.Fprintln(s.io.Out, strings.Join(lines, "\n"))
	return err
}

// end is how a rollout ended: not yet, well (text says how), or badly (err says why).
type end struct {
	done bool
	text string
	err  error
}

func failed(format string, args ...any) end {
	return end{done: true, err: fmt.Errorf(format, args...)}
}

// ending says whether the rollout to the wanted version has ended.
func ending(ro *v1alpha1.Rollout, wanted string) end {
	s := ro.Status
	switch {
	case ro.Spec.Version != wanted:
		return failed("%s to %s was superseded: spec.version is now %s", ro.Name, wanted, ro.Spec.Version)
	case s.ObservedGeneration < ro.Generation || retrying(ro):
		return end{}
	case s.Run == nil && s.StableVersion == wanted && meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady):
		return end{done: true, text: fmt.Sprintf("%s: %s is stable and ready", ro.Name, wanted)}
	case s.Run == nil && s.RejectedVersion == wanted:
		return failed("%s was rolled back from %s to %s%s", ro.Name, wanted, s.StableVersion, rolledBack(s))
	case (s.Run == nil || s.Run.Paused == "") && meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionStalled):
		c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionStalled)
		return failed("%s cannot go on (%s): %s", ro.Name, c.Reason, oneLine(c.Message))
	}
	return end{}
}

// retrying says whether a retry waits for the controller: the rejection that the status shows is then not the end.
func retrying(ro *v1alpha1.Rollout) bool {
	return slices.ContainsFunc(ro.Status.Requests, func(r v1alpha1.Request) bool {
		return r.Action == v1alpha1.ActionRetry && r.HandledAt == nil
	})
}

// rolledBack is the last run's reason and message, which outlive what the status says of the present.
func rolledBack(s v1alpha1.RolloutStatus) string {
	if s.LastRun != nil && s.LastRun.Version == s.RejectedVersion {
		return because(s.LastRun.Reason, s.LastRun.Message)
	}
	return because(s.Reason, s.Message)
}

func because(reason, message string) string {
	text := ""
	if reason != "" {
		text = " (" + reason + ")"
	}
	if message != "" {
		text += ": " + oneLine(message)
	}
	return text
}

// summary is the rollout in one line.
func summary(ro *v1alpha1.Rollout) string {
	s := ro.Status
	if s.Run == nil {
		text := orNone(s.StableVersion) + " stable"
		if s.StableVersion != ro.Spec.Version {
			text += ", " + ro.Spec.Version + " wanted"
		}
		return text + because(s.Reason, s.Message)
	}
	text := fmt.Sprintf("%s weight %d, step %d/%d, %s%s", s.CanaryVersion, s.Weight, s.Step, len(ro.Spec.Steps),
		orNone(s.Decision), because(s.Reason, s.Message))
	if s.Run.Paused != "" {
		text += ", paused"
	}
	if gates := verdicts(s.Gates); gates != "" {
		text += " [" + gates + "]"
	}
	return text
}

// oneLine folds white space, so that a message stays on its line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

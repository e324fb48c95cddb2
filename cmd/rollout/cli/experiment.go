package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/cmd/internal/view"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

func (a *app) experiment() *cobra.Command {
	return &cobra.Command{
		Use:     "experiment [NAME]",
		Aliases: []string{"experiments"},
		Short:   "List experiments, or draw one with every variant's interval",
		Example: a.examples(
			"experiment # the experiments of the namespace",
			"experiment models # how its variants compare with the control"),
		Args:              atMostOneName,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return a.listExperiments(cmd.Context(), c)
			}
			return a.drawExperiment(cmd.Context(), c, args[0])
		},
	}
}

func (a *app) drawExperiment(ctx context.Context, c *cluster, name string) error {
	e := &v1alpha1.Experiment{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, e); err != nil {
		if apierrors.IsNotFound(err) && !unknownKind(err) {
			return fmt.Errorf("no experiment %q in namespace %q", name, c.namespace)
		}
		return c.explain(ctx, err, "")
	}
	width, color := terminal(a.io.Out)
	lines := view.ExperimentLines(e, view.Options{Color: color, Width: width, Now: a.now()})
	_, err := fmt.Fprintln(a.io.Out, strings.Join(lines, "\n"))
	return err
}

func (a *app) listExperiments(ctx context.Context, c *cluster) error {
	var all v1alpha1.ExperimentList
	if err := c.List(ctx, &all, client.InNamespace(c.namespace)); err != nil {
		return c.explain(ctx, err, "")
	}
	if len(all.Items) == 0 {
		_, err := fmt.Fprintf(a.io.ErrOut, "no experiments in namespace %s\n", c.namespace)
		return err
	}
	rows := [][]string{{"NAME", "ROLLOUT", "VARIANTS", "STATE", "VERDICT", "WINNER", "REASON", "AGE"}}
	now := metav1.NewTime(a.now())
	for _, e := range all.Items {
		s := e.Status
		rows = append(rows, []string{
			e.Name, e.Spec.Rollout, fmt.Sprint(len(e.Spec.Variants)), orNone(s.State), orNone(s.Verdict), orNone(s.Winner), orNone(s.Reason),
			duration.HumanDuration(now.Sub(e.CreationTimestamp.Time)),
		})
	}
	t := &table{widths: make([]int, len(rows[0]))}
	return t.write(a.io.Out, rows)
}

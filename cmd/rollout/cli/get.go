package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// getter is one call of get.
type getter struct {
	*app
	print         *genericclioptions.PrintFlags
	watch         bool
	allNamespaces bool
}

func (a *app) get() *cobra.Command {
	g := &getter{app: a, print: genericclioptions.NewPrintFlags("")}
	cmd := &cobra.Command{
		Use:     "get [NAME]",
		Aliases: []string{"list"},
		Short:   "List rollouts, or show one",
		Example: a.examples(
			"get # the rollouts of the namespace",
			"get -A -o wide # every rollout, with readiness and gates",
			"get coolant -w # one row for each change",
			"get coolant -o json # the whole object, as the API serves it"),
		Args:              atMostOneName,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.run(cmd.Context(), strings.Join(args, ""))
		},
	}
	g.print.AddFlags(cmd)
	if output := cmd.Flags().Lookup("output"); output != nil {
		output.Usage = "json, yaml, name, wide, jsonpath=..., or go-template=..."
	}
	cmd.Flags().BoolVarP(&g.watch, "watch", "w", false, "go on after the list: one row for each change")
	cmd.Flags().BoolVarP(&g.allNamespaces, "all-namespaces", "A", false, "the rollouts of every namespace")
	return cmd
}

func (g *getter) run(ctx context.Context, name string) error {
	if name != "" && g.allNamespaces {
		return errors.New("a NAME may not be given with --all-namespaces")
	}
	c, err := g.connect()
	if err != nil {
		return err
	}
	out, err := g.printer(c)
	if err != nil {
		return err
	}
	if g.watch {
		return g.follow(ctx, c, name, out)
	}
	if name != "" {
		ro, err := c.rollout(ctx, name)
		if err != nil {
			return err
		}
		return out.PrintObj(typed(ro), g.io.Out)
	}
	var all v1alpha1.RolloutList
	if err := c.List(ctx, &all, client.InNamespace(g.namespace(c))); err != nil {
		return c.explain(ctx, err, "")
	}
	for i := range all.Items {
		typed(&all.Items[i])
	}
	if *g.print.OutputFormat == "name" {
		return g.names(all.Items, out) // the library's printer takes no lists
	}
	all.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("RolloutList"))
	return out.PrintObj(&all, g.io.Out)
}

func (g *getter) names(items []v1alpha1.Rollout, out printers.ResourcePrinter) error {
	for i := range items {
		if err := out.PrintObj(&items[i], g.io.Out); err != nil {
			return err
		}
	}
	return nil
}

func (g *getter) follow(ctx context.Context, c *cluster, name string, out printers.ResourcePrinter) error {
	if name != "" {
		if _, err := c.rollout(ctx, name); err != nil {
			return err
		}
	}
	err := c.follow(ctx, g.namespace(c), name, func(s seen) (bool, error) {
		return false, out.PrintObj(typed(s.rollout), g.io.Out)
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the user ended it
	}
	return c.explain(ctx, err, name)
}

func (g *getter) namespace(c *cluster) string {
	if g.allNamespaces {
		return ""
	}
	return c.namespace
}

func (g *getter) printer(c *cluster) (printers.ResourcePrinter, error) {
	output := *g.print.OutputFormat
	if output == "" || output == "wide" {
		t := &table{wide: output == "wide", namespaces: g.allNamespaces, now: metav1.NewTime(g.now()), err: g.io.ErrOut}
		t.where = "namespace " + c.namespace
		if g.allNamespaces {
			t.where = "any namespace"
		}
		return t, nil
	}
	return g.print.ToPrinter()
}

// typed sets the kind, which the client library drops from typed objects and every output format needs.
func typed(ro *v1alpha1.Rollout) *v1alpha1.Rollout {
	ro.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Rollout"))
	return ro
}

// table prints rollouts as rows, the header once.
type table struct {
	wide, namespaces bool
	now              metav1.Time
	where            string
	err              io.Writer
	widths           []int // of the columns so far; nil before the header is printed
}

// PrintObj implements printers.ResourcePrinter.
func (t *table) PrintObj(obj runtime.Object, out io.Writer) error {
	var items []v1alpha1.Rollout
	switch o := obj.(type) {
	case *v1alpha1.RolloutList:
		items = o.Items
	case *v1alpha1.Rollout:
		items = []v1alpha1.Rollout{*o}
	}
	if len(items) == 0 {
		_, err := fmt.Fprintf(t.err, "no rollouts in %s\n", t.where)
		return err
	}
	var rows [][]string
	if t.widths == nil {
		rows = append(rows, t.header())
		t.widths = make([]int, len(rows[0]))
	}
	for i := range items {
		rows = append(rows, t.row(&items[i]))
	}
	return t.write(out, rows)
}

// write pads the columns, each as wide as its widest value so far: the rows of a watch come one by one.
func (t *table) write(out io.Writer, rows [][]string) error {
	for _, r := range rows {
		for i, cell := range r {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		last := len(r) - 1
		for i, cell := range r[:last] {
			fmt.Fprintf(&b, "%-*s   ", t.widths[i], cell)
		}
		b.WriteString(r[last] + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (t *table) header() []string {
	h := []string{"NAME", "STABLE", "CANARY", "WEIGHT", "STEP", "DECISION", "REASON", "AGE"}
	if t.namespaces {
		h = append([]string{"NAMESPACE"}, h...)
	}
	if t.wide {
		h = append(h, "WANTED", "READY", "GATES", "MESSAGE")
	}
	return h
}

func (t *table) row(ro *v1alpha1.Rollout) []string {
	s := ro.Status
	age := duration.HumanDuration(t.now.Sub(ro.CreationTimestamp.Time))
	r := []string{
		ro.Name, orNone(s.StableVersion), orNone(s.CanaryVersion), fmt.Sprint(s.Weight),
		fmt.Sprintf("%d/%d", s.Step, len(ro.Spec.Steps)), orNone(s.Decision), orNone(s.Reason), age,
	}
	if t.namespaces {
		r = append([]string{ro.Namespace}, r...)
	}
	if t.wide {
		ready := "Unknown"
		if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady); c != nil {
			ready = string(c.Status)
		}
		r = append(r, ro.Spec.Version, ready, orNone(verdicts(s.Gates)), orNone(strings.Join(strings.Fields(s.Message), " ")))
	}
	return r
}

func verdicts(gates []v1alpha1.GateStatus) string {
	words := make([]string, len(gates))
	for i, g := range gates {
		words[i] = g.Name + "=" + g.Verdict
	}
	return strings.Join(words, ",")
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/cmd/rollout/lint"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

func (a *app) lint() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "lint -f FILE...",
		Short: "Check the YAML of rollouts and experiments without a cluster",
		Long: `Check the YAML of rollouts and experiments without a cluster: syntax, schema and rules as an API server would, and advice
about plans that are valid but unlikely to be meant. Documents of other kinds are skipped. Errors exit with 1; advice does not.`,
		Example: a.examples(
			"lint -f coolant.yaml",
			"lint -f coolant.yaml -f brakes.yaml",
			"lint -f - < rendered.yaml"),
		Args: cobra.ArbitraryArgs, // so that -f *.yaml works: a shell expands it to one flag and many arguments
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(files) == 0 {
				return errors.New("no file is named: use -f FILE, or -f - for the standard input")
			}
			return a.lintFiles(cmd.Context(), append(files, args...))
		},
	}
	cmd.Flags().StringArrayVarP(&files, "filename", "f", nil, "a file to check; - is the standard input")
	return cmd
}

func (a *app) lintFiles(ctx context.Context, files []string) error {
	linter, err := lint.New(charts.RolloutCRD, charts.ExperimentCRD)
	if err != nil {
		return err
	}
	rollouts, experiments, errs, advice := 0, 0, 0, 0
	for _, name := range files {
		data, err := a.read(name)
		if err != nil {
			return err
		}
		report := linter.Lint(ctx, data)
		rollouts, experiments = rollouts+report.Rollouts, experiments+report.Experiments
		for _, f := range report.Findings {
			if f.Level == lint.Error {
				errs++
			} else {
				advice++
			}
			if _, err := fmt.Fprintln(a.io.Out, format(name, f)); err != nil {
				return err
			}
		}
	}
	if errs > 0 {
		return fmt.Errorf("found %s in %s", count(errs, "error"), checked(rollouts, experiments))
	}
	if rollouts+experiments == 0 {
		return fmt.Errorf("found no Rollout and no Experiment of %s in %s", v1alpha1.GroupVersion, list(files))
	}
	_, err = fmt.Fprintf(a.io.Out, "%s: no errors, %s\n", checked(rollouts, experiments), count(advice, "piece")+" of advice")
	return err
}

func (a *app) read(name string) ([]byte, error) {
	if name == "-" {
		data, err := io.ReadAll(a.io.In)
		if err != nil {
			return nil, fmt.Errorf("reading standard input: %w", err)
		}
		return data, nil
	}
	return os.ReadFile(name) // its errors name the operation and the file
}

// format is a finding as compilers write it, which editors understand.
func format(name string, f lint.Finding) string {
	at := name
	if f.Line > 0 {
		at = fmt.Sprintf("%s:%d", name, f.Line)
	}
	if f.Field == "" {
		return fmt.Sprintf("%s: %s: %s", at, f.Level, f.Message)
	}
	return fmt.Sprintf("%s: %s: %s: %s", at, f.Level, f.Field, f.Message)
}

// checked counts what was looked at.
func checked(rollouts, experiments int) string {
	switch {
	case experiments == 0:
		return count(rollouts, "rollout")
	case rollouts == 0:
		return count(experiments, "experiment")
	}
	return count(rollouts, "rollout") + " and " + count(experiments, "experiment")
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

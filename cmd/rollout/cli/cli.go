// Package cli is the command line of the rollout command: it shows rollouts, watches them, and asks the controller to
// act on them.
//
// Actions are requests in the status of a rollout, so the right to operate rollouts can be granted without the right to
// change them. Reading and acting need a cluster; lint, plan and backtest do not.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// Options are what the command takes from its process.
type Options struct {
	// Name is how the user called the command: "rollout", which is the default, or "kubectl siskin".
	Name string
	// In is read by "lint -f -". Out gets what was asked for, Err everything else.
	In       io.Reader
	Out, Err io.Writer
	// NoColor turns colours off even on a terminal.
	NoColor bool
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
}

// Command is the command line.
type Command struct {
	app  *app
	root *cobra.Command
}

// Exit codes. Everything else that goes wrong exits with 1.
const (
	exitError   = 1
	exitFailed  = 2
	exitTimeout = 3
)

// codedError carries the exit code of a watch that ended badly.
type codedError struct {
	error
	code int
}

// Unwrap returns the error without its code.
func (e codedError) Unwrap() error { return e.error }

// ExitCode is the code that the process should exit with: 0 for nil, 2 when the rollout failed, 3 when a timeout was
// reached first, 1 otherwise.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if coded, ok := errors.AsType[codedError](err); ok {
		return coded.code
	}
	return exitError
}

// app is what the commands share.
type app struct {
	name  string
	io    genericiooptions.IOStreams
	color bool
	now   func() time.Time
	flags *genericclioptions.ConfigFlags
}

// New builds the command line.
func New(o Options) *Command {
	if o.Name == "" {
		o.Name = "rollout"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &app{
		name:  o.Name,
		io:    genericiooptions.IOStreams{In: o.In, Out: o.Out, ErrOut: o.Err},
		color: !o.NoColor,
		now:   o.Now,
		flags: genericclioptions.NewConfigFlags(true),
	}
	return &Command{app: a, root: a.root()}
}

// Run runs one command line, without the program's name.
func (c *Command) Run(ctx context.Context, args []string) error {
	c.root.SetArgs(args)
	return c.root.ExecuteContext(ctx)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "rollout",
		Short: "Show and operate Siskin's rollouts and experiments",
		Long: `Show and operate Siskin's rollouts: how far a new version has come, what the evidence says, and what happens next.

A run starts when spec.version of a Rollout is changed, by kubectl, by a GitOps tool, or by hand. The commands here watch
it and step in.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: a.name},
	}
	root.SetIn(a.io.In)
	root.SetOut(a.io.Out)
	root.SetErr(a.io.ErrOut)
	a.flags.AddFlags(root.PersistentFlags())
	root.AddCommand(a.get(), a.status(), a.experiment())
	root.AddCommand(a.actions()...)
	root.AddCommand(a.undo(), a.lint(), a.plan(), a.backtest(), a.version())
	a.addCompletion(root)
	return root
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Print the version of this command",
		Example:           a.examples("version"),
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.io.Out, "%s %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// buildVersion is the module's version, which the Go toolchain stamps from the tag or the commit.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// examples writes each line as a call of the command by the name that the user gave it. A line may end in " # comment".
func (a *app) examples(lines ...string) string {
	for i, line := range lines {
		call, comment, _ := strings.Cut(line, " # ")
		lines[i] = "  " + a.name + " " + call
		if comment != "" {
			lines[i] = "  # " + comment + "\n" + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}

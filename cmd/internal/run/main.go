package run

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// EnvPrefix begins the environment variable of every flag: --redis-address is SISKIN_REDIS_ADDRESS.
const EnvPrefix = "SISKIN_"

// Body is what a process does. Its context ends with the first SIGINT or SIGTERM, or when a part fails.
type Body func(ctx context.Context, p *Process) error

// Main runs a process to its end and returns the exit code: 0 when the body returned nil, 2 for a wrong flag, else 1, or
// what the error's ExitCode method says. A second signal ends the process at once.
//
// bind declares the process's own flags and returns the body; it is called before the flags are parsed. A flag that the
// command line does not set is taken from its environment variable.
func Main(o Options, bind func(*flag.FlagSet) Body) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return mainWith(ctx, o, bind, os.Args[1:], os.LookupEnv, os.Stderr)
}

func mainWith(ctx context.Context, o Options, bind func(*flag.FlagSet) Body, args []string,
	lookup func(string) (string, bool), stderr io.Writer,
) int {
	fs := flag.NewFlagSet(o.Name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	logs := LogOptions{Format: cmp.Or(o.Logs.Format, "json"), Level: cmp.Or(o.Logs.Level, "info")}
	logs.Bind(fs)
	fs.StringVar(&o.Admin, "admin", o.Admin, "address of /healthz, /readyz and /metrics; empty for none")
	body := bind(fs)
	if err := parse(fs, args, lookup); err != nil {
		return usageCode(err)
	}
	logger, err := NewLogger(stderr, logs)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return usageCode(err)
	}
	o.Log = logger
	if err := Run(ctx, o, body); err != nil {
		logger.Error("Process ended with an error", "process", o.Name, "error", err)
		return exitCode(err)
	}
	return 0
}

// parse reads the command line, then the environment for the flags that it left out. It reports errors as the flag
// package does: once, on the flag set's output.
func parse(fs *flag.FlagSet, args []string, lookup func(string) (string, bool)) error {
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		err := fmt.Errorf("parsing arguments: unexpected %q, want flags only", fs.Arg(0))
		fmt.Fprintln(fs.Output(), err)
		return err
	}
	set := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
	var errs []error
	fs.VisitAll(func(f *flag.Flag) {
		name := EnvPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		if !ok || set[f.Name] {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("parsing environment variable %s=%q: %w", name, value, err))
		}
	})
	err := errors.Join(errs...)
	if err != nil {
		fmt.Fprintln(fs.Output(), err)
	}
	return err
}

func usageCode(err error) int {
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	return 2
}

func exitCode(err error) int {
	var coder interface{ ExitCode() int }
	if errors.As(err, &coder) {
		return coder.ExitCode()
	}
	return 1
}

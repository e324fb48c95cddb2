// Command rollout shows and operates rollouts. It also works as the kubectl plugin "kubectl siskin": link the binary as
// kubectl-siskin, and as kubectl_complete-siskin for completion.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/siskin-dev/siskin/cmd/rollout/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The client library complains on stderr when nobody sets a logger; what matters reaches the user as an error.
	log.SetLogger(logr.Discard())

	name, args := invoked(os.Args)
	err := cli.New(cli.Options{
		Name:    name,
		In:      os.Stdin,
		Out:     os.Stdout,
		Err:     os.Stderr,
		NoColor: os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb",
	}).Run(ctx, args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(cli.ExitCode(err))
	}
}

// invoked tells from the name of the binary how the command was called: kubectl finds plugins, and their completion, by
// file name.
func invoked(argv []string) (name string, args []string) {
	args = argv[1:]
	switch strings.TrimSuffix(filepath.Base(argv[0]), ".exe") {
	case "kubectl-siskin":
		return "kubectl siskin", args
	case "kubectl_complete-siskin":
		return "kubectl siskin", append([]string{"__complete"}, args...)
	}
	return "rollout", args
}

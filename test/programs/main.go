// Command programs builds what the tests run, the programs of the control plane and our own, before the tests' own time counts.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/siskin-dev/siskin/test/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	_, err := controlplane.Build(ctx, func(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) })
	for _, name := range []string{"rollout-controller", "rollout"} {
		if err == nil {
			_, err = controlplane.BuildOurs(ctx, name)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

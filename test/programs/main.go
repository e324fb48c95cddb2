// Command programs builds the programs of the control plane and the controller that the tests run, before the tests' own time counts.
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
	if err == nil {
		_, err = controlplane.BuildController(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

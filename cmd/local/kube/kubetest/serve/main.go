// Command serve runs the API of package kube/server for package kubetest: it writes a kubeconfig into the directory
// given, says "ready", and ends with its standard input, so that it never outlives the test.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/siskin-dev/siskin/cmd/local/kube/server"
)

func main() {
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(dir string) error {
	server.RouteLogs(slog.DiscardHandler)
	s, err := server.Start(context.Background(), server.Options{Dir: dir})
	if err != nil {
		return err
	}
	if err = s.Kubeconfig(filepath.Join(dir, "kubeconfig"), "default"); err == nil {
		fmt.Println("ready")
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	return errors.Join(err, s.Stop())
}

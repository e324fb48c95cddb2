// Package kubetest starts a Kubernetes API for tests, in a process of its own: a test that uses it does not link etcd and
// the API server, and the race detector neither slows them nor reports what it finds in them.
package kubetest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/siskin-dev/siskin/cmd/local/kube"
)

// Start runs an API with the embedded CRDs and those given, and stops it when the test ends. The start takes a second or
// two; share one API among the subtests of a package and give each its own namespace.
func Start(tb testing.TB, crds ...[]byte) *kube.API {
	tb.Helper()
	api, stop, err := Run(tb.Context(), tb.TempDir(), crds...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := stop(); err != nil {
			tb.Error(err)
		}
	})
	return api
}

// Run is Start for a package whose tests share one API: its TestMain owns the directory and must call stop.
func Run(ctx context.Context, dir string, crds ...[]byte) (api *kube.API, stop func() error, err error) {
	program, err := build(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop, err = start(program, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("starting the API: %w", err)
	}
	api, err = kube.Load(filepath.Join(dir, "kubeconfig"))
	if err == nil {
		err = Install(ctx, api, crds...)
	}
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return api, stop, nil
}

// Install installs the embedded CRDs and those given.
func Install(ctx context.Context, api *kube.API, crds ...[]byte) error {
	embedded, err := kube.CRDs()
	if err != nil {
		return err
	}
	return api.InstallCRDs(ctx, append(embedded, crds...)...)
}

// start runs the program until stop closes its standard input, or this process ends.
func start(program, dir string) (stop func() error, err error) {
	var said bytes.Buffer
	cmd := exec.Command(program, dir) //nolint:noctx // it ends with its standard input
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() error {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("running the API: %w: %s", err, &said)
		}
		return nil
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		return nil, errors.Join(fmt.Errorf("want it to say that it is ready, got %q", line), stop())
	}
	return stop, nil
}

// build returns the program, built anew when its source has changed. The processes of several packages may call it at
// once: the first one builds.
func build(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/siskin-dev/siskin").Output()
	if err != nil {
		return "", fmt.Errorf("finding the folder of Siskin's module with go list: %w", err)
	}
	dir := strings.TrimSpace(string(root))
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		return "", fmt.Errorf("making the folder of the API's program: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "bin", ".kubetest.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("locking the folder of the API's program: %w", err)
	}
	defer lock.Close() // unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	program := filepath.Join(dir, "bin", "kubetest")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/local/kube/kubetest/serve")
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the API: %w: %s", err, said)
	}
	return program, nil
}

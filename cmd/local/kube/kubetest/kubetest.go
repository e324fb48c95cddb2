// Package kubetest starts the in-process Kubernetes API for tests of other packages.
package kubetest

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/siskin-dev/siskin/cmd/local/kube"
)

// quiet keeps the API server library's log out of the test output. It routes once: the library's logger belongs to the
// process and may not be replaced while a server runs.
var quiet = sync.OnceFunc(func() { kube.RouteLogs(slog.DiscardHandler) })

// Start runs an API with the embedded CRDs and those given, and stops it when the test ends. The start takes well under
// a second on an idle machine; share one API among the subtests of a package and give each its own namespace.
func Start(tb testing.TB, crds ...[]byte) *kube.Server {
	tb.Helper()
	quiet()
	s, err := kube.Start(tb.Context(), kube.Options{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatalf("starting the API: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Stop(); err != nil {
			tb.Errorf("stopping the API: %v", err)
		}
	})
	Install(tb, s, crds...)
	return s
}

// Install installs the embedded CRDs and those given.
func Install(tb testing.TB, s *kube.Server, crds ...[]byte) {
	tb.Helper()
	embedded, err := kube.CRDs()
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.InstallCRDs(tb.Context(), append(embedded, crds...)...); err != nil {
		tb.Fatal(err)
	}
}

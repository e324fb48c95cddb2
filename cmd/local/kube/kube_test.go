package kube_test

import (
	"testing"
	"time"

	"github.com/siskin-dev/siskin/cmd/local/kube"
	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
)

func TestTiming(t *testing.T) {
	t0 := time.Now()
	s, err := kube.Start(t.Context(), kube.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("start", time.Since(t0))
	t0 = time.Now()
	kubetest.Install(t, s)
	t.Log("crds", time.Since(t0))
	t0 = time.Now()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Log("stop", time.Since(t0))
}

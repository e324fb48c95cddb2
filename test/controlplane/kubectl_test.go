package controlplane_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/controlplane"
)

// shell is a terminal of a user who has kubectl and rollout.
type shell struct {
	t   *testing.T
	env []string
}

// newShell has the programs in its path, rollout also as kubectl's plugin.
func newShell(t *testing.T, kubectl, kubeconfig string) shell {
	t.Helper()
	rollout, err := controlplane.BuildOurs(t.Context(), "rollout")
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir()
	for name, program := range map[string]string{"kubectl": kubectl, "rollout": rollout, "kubectl-siskin": rollout} {
		if err := os.Symlink(program, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	return shell{t, append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"), "KUBECONFIG="+kubeconfig, "HOME="+path)}
}

// types runs a line, which must succeed and print what is wanted.
func (s shell) types(line, want string) {
	s.t.Helper()
	if out, err := s.run(line); err != nil || !strings.Contains(out, want) {
		s.t.Errorf("%s: %v\n%s\nwant %q", line, err, out, want)
	}
}

func (s shell) run(line string) (out string, err error) {
	cmd := exec.CommandContext(s.t.Context(), "bash", "-c", line)
	cmd.Env = s.env
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// firstRollout are the commands with which the README makes its first rollout, one by one.
func firstRollout(t *testing.T) (apply string, then []string) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "\nkubectl apply -f - ")
	apply, rest, ended := strings.Cut(rest, "\nEOF\n")
	rest, _, closed := strings.Cut(rest, "\n```")
	if !found || !ended || !closed {
		t.Fatal("README.md has no block with kubectl apply, a manifest up to EOF, and commands")
	}
	return "kubectl apply -f - " + apply + "\nEOF\n", strings.Split(rest, "\n")
}

// TestReadme types what the README says a user types, into the real kubectl and rollout: the first version is taken for
// stable, the second one is tried, watched, helped over the holds by promote --full, and the first one deleted.
func TestReadme(t *testing.T) {
	t.Parallel() // it has a control plane of its own, and waits most of the time
	p := controlplane.Start(t)
	w := &world{Plane: p, t: t, Client: reader(t, p), space: space}
	p.StartController("controller", p.StartPrometheus("global: {scrape_interval: 1s}\n"), "--grace=1s")
	user := newShell(t, p.Kubectl, p.AdminKubeconfig())
	apply, then := firstRollout(t)
	if len(then) != 4 {
		t.Fatalf("after the manifest README.md has %d commands, want wait, patch, status, and wait and delete:\n%s", len(then), strings.Join(then, "\n"))
	}
	p.Apply(controlplane.NamespaceOf(space))
	w.deploy("v1")
	w.deploy("v2")

	user.types(apply, "rollout.siskin.dev/coolant created")
	user.types(then[0], "condition met")
	user.types("kubectl get rollouts -n edge", "v1")
	user.types("kubectl explain rollout.spec.steps.weight", "FIELD: weight <integer>")
	user.types(then[1], "patched")
	w.until("v2 to have its first step", func(ro *v1alpha1.Rollout) bool { return ro.Status.Weight == 5 })
	var watching sync.WaitGroup
	watching.Go(func() { user.types(then[2], "promoted") })
	user.types("kubectl siskin promote coolant -n edge --full", "")
	watching.Wait()
	user.types(then[3], `deployment.apps "coolant-v1" deleted`)
	if stable := w.get().Status.StableVersion; stable != "v2" {
		t.Errorf("stable is %q, want v2", stable)
	}
	err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: space, Name: "coolant-v1"}, &appsv1.Deployment{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("reading the Deployment of v1: %v, want that it is gone", err)
	}
	w.routes("pin-stable", "stable-buckets", "draw")
}

// TestKubectl speaks to the API of the demo, for which it prints a KUBECONFIG.
func TestKubectl(t *testing.T) {
	p := controlplane.Built(t)
	api := kubetest.Start(t, charts.RolloutCRD)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := api.Kubeconfig(kubeconfig, "edge"); err != nil {
		t.Fatal(err)
	}
	user := newShell(t, p.Kubectl, kubeconfig)
	apply, _ := firstRollout(t)
	user.types(apply, "rollout.siskin.dev/coolant created")
	user.types(strings.Replace(apply, "apply", "apply --server-side --force-conflicts", 1), "rollout.siskin.dev/coolant serverside-applied")
	for _, step := range []struct{ line, want string }{
		{"kubectl get rollouts -o name", "rollout.siskin.dev/coolant"},
		{"kubectl get virtualservices -A", "No resources found"},
		{"kubectl get events", "No resources found"},
		{"kubectl explain virtualservice.spec.hosts", "The destination hosts"},
		{"kubectl explain rollout.spec.steps.weight", "FIELD: weight <integer>"},
		{"kubectl version", "Server Version: v1."},
		{"kubectl siskin status coolant --watch=false", "coolant"},
		{"kubectl delete rollout coolant --wait=false", "deleted"},
	} {
		user.types(step.line, step.want)
	}
}

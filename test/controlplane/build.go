package controlplane

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Programs are the paths of the programs that make up the control plane.
type Programs struct{ Etcd, APIServer, Istiod, RateLimit, Kubectl string }

// recipe says how a program is built from its module below test/programs.
type recipe struct {
	module  string
	program string
	ldflags string
}

// kubernetesFlags stamp Kubernetes' programs: without a version they cannot parse each other's.
const kubernetesFlags = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3"

func recipes() [5]recipe {
	return [...]recipe{
		{module: "etcd", program: "etcd", ldflags: "-s -w"},
		{module: "kube", program: "kube-apiserver", ldflags: kubernetesFlags},
		{module: "istio", program: "istiod", ldflags: "-s -w"},
		{module: "ratelimit", program: "ratelimit", ldflags: "-s -w"},
		{module: "kubectl", program: "kubectl", ldflags: kubernetesFlags},
	}
}

// Build returns the programs. One that was built before from the same go.mod, go.sum, source and Go release is taken from
// test/bin; another one is built, which takes minutes the first time. Several processes may call it at once. Report is told
// how long each build took.
func Build(ctx context.Context, report func(format string, args ...any)) (Programs, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return Programs{}, err
	}
	unlock, err := lock(filepath.Join(root, "bin"))
	if err != nil {
		return Programs{}, err
	}
	defer unlock()
	var paths []string
	for _, r := range recipes() {
		path, err := r.build(ctx, root, report)
		if err != nil {
			return Programs{}, fmt.Errorf("building %s from test/programs/%s: %w", r.program, r.module, err)
		}
		paths = append(paths, path)
	}
	return Programs{Etcd: paths[0], APIServer: paths[1], Istiod: paths[2], RateLimit: paths[3], Kubectl: paths[4]}, nil
}

// moduleRoot is the folder of the test module.
func moduleRoot(ctx context.Context) (string, error) {
	file, err := output(ctx, "", "go", "env", "GOMOD")
	if err != nil {
		return "", fmt.Errorf("finding the module of the tests: %w", err)
	}
	if filepath.Base(file) != "go.mod" {
		return "", fmt.Errorf("finding the module of the tests: %q is no go.mod", file)
	}
	return filepath.Dir(file), nil
}

// lock makes the folder and holds it for this process.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of built programs: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the folder of built programs: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking the folder of built programs: %w", err), file.Close())
	}
	return func() { file.Close() }, nil // closing unlocks
}

func (r recipe) build(ctx context.Context, root string, report func(string, ...any)) (string, error) {
	source := filepath.Join(root, "programs", r.module)
	key, err := r.key(ctx, source)
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", r.program+"-"+key)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	began := time.Now()
	if _, err := output(ctx, source, "go", "build", "-o", path+".part", "-ldflags", r.ldflags, "."); err != nil {
		return "", err
	}
	if err := r.replace(path); err != nil {
		return "", err
	}
	report("built %s in %s", filepath.Base(path), time.Since(began).Round(100*time.Millisecond))
	return path, nil
}

// key changes with everything that the program is made of.
func (r recipe) key(ctx context.Context, source string) (string, error) {
	sum := sha256.New()
	toolchain, err := output(ctx, source, "go", "env", "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return "", err
	}
	fmt.Fprintln(sum, toolchain, r.ldflags)
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		sum.Write(data)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], nil
}

// replace puts what was built in the place of builds with other keys.
func (r recipe) replace(path string) error {
	old, err := filepath.Glob(filepath.Join(filepath.Dir(path), r.program+"-????????????"))
	if err != nil {
		return err
	}
	for _, o := range old {
		if err := os.Remove(o); err != nil {
			return err
		}
	}
	return os.Rename(path+".part", path)
}

// BuildOurs builds a binary of this repository as it is now, and returns its path.
func BuildOurs(ctx context.Context, name string) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(root, "bin"))
	if err != nil {
		return "", err
	}
	defer unlock()
	path := filepath.Join(root, "bin", name)
	if _, err := output(ctx, filepath.Dir(root), "go", "build", "-o", path, "./cmd/"+name); err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	return path, nil
}

// output runs a command in a folder and returns what it printed. Its complaints are part of the error.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var complaints bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &complaints
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running %s: %w\n%s", strings.Join(cmd.Args, " "), err, complaints.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

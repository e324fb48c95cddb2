package test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/siskin-dev/siskin/test/process"
)

// find returns the path of a program, or fails with the Debian package that has it.
func find(t *testing.T, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: apt-get install %s", name, debian)
	}
	return path
}

// start runs a program until the test ends.
func start(t *testing.T, path string, args ...string) *process.Process {
	t.Helper()
	return process.Run(t, t.TempDir(), filepath.Base(path), path, nil, args...)
}

// write puts a file of that name into a folder of its own and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func status(res *http.Response) error {
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", res.Status)
	}
	return nil
}

package tree

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	root   = "../../.."
	module = "github.com/siskin-dev/siskin/"
)

// row is one line of the README's table of rooms.
type row struct {
	room, sentence string
	subs           []string
}

func rooms(t *testing.T) []row {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile("(?m)^\\| `([a-z]+)` \\| ([^|]+) \\|([^|]*)\\|$")
	var out []row
	for _, m := range line.FindAllStringSubmatch(string(text), -1) {
		subs := []string{}
		for w := range strings.FieldsSeq(m[3]) {
			subs = append(subs, strings.Trim(w, "`"))
		}
		out = append(out, row{m[1], strings.TrimSpace(m[2]), subs})
	}
	if len(out) == 0 {
		t.Fatal("README.md has no table of rooms")
	}
	return out
}

func TestRoomsAreTheTree(t *testing.T) {
	var want, got []string
	for _, r := range rooms(t) {
		want = append(want, r.room)
		if diff := cmp.Diff(r.subs, folders(t, filepath.Join(root, r.room))); diff != "" {
			t.Errorf("sub-rooms of %q in README.md (-) and in the tree (+):\n%s", r.room, diff)
		}
	}
	got = folders(t, root)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rooms in README.md (-) and in the tree (+):\n%s", diff)
	}
}

// folders lists what git would: no dot folders, no build output, no test data.
func folders(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() && !strings.HasPrefix(name, ".") && !slices.Contains([]string{"bin", "testdata", "siskin"}, name) {
			out = append(out, name)
		}
	}
	return out
}

func TestRoomSentencesAreThePackageDocs(t *testing.T) {
	for _, r := range rooms(t) {
		doc := packageDoc(t, filepath.Join(root, r.room))
		if doc == "" {
			continue // cmd and test are no packages
		}
		first, _, _ := strings.Cut(strings.Join(strings.Fields(doc), " "), ". ")
		if want := "Package " + r.room + " " + r.sentence; strings.TrimSuffix(first, ".") != want {
			t.Errorf("room %q: README.md says\n  %s\nthe package says\n  %s", r.room, want, first)
		}
	}
}

func packageDoc(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Doc != nil {
			return parsed.Doc.Text()
		}
	}
	return ""
}

// pkg is what go list says of a package.
type pkg struct {
	ImportPath, Dir string
	Imports, Deps   []string
	Standard        bool
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Imports,Deps", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		all = append(all, p)
	}
	return all
}

func TestImportRules(t *testing.T) {
	all := list(t)
	for _, p := range all {
		if packageDoc(t, p.Dir) == "" {
			t.Errorf("package %s has no package comment", p.ImportPath)
		}
		for _, i := range p.Imports {
			if why := forbidden(p.ImportPath, i); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, i, why)
			}
		}
		for _, d := range p.Deps {
			if heavy(d) && !mayBeHeavy(p.ImportPath) {
				t.Errorf("%s reaches %s: only cmd/local and the CLI may", p.ImportPath, d)
			}
		}
	}
	if n := longestChain(all); n > 4 {
		t.Errorf("the longest chain of imports within the module outside cmd is %d packages, want at most 4", n)
	}
}

// forbidden says which rule of the rooms an import breaks.
func forbidden(from, to string) string {
	own, inside := strings.CutPrefix(to, module)
	std := !strings.Contains(strings.Split(to, "/")[0], ".")
	switch {
	case slices.Contains([]string{"rollout", "rollout/stats", "mesh"}, from) && !std && own != "rollout/stats":
		return "a pure root imports the standard library only"
	case from == "rollout/experiment" && !std && !slices.Contains([]string{"rollout", "rollout/stats"}, own):
		return "the core of experiments is as pure as its root, of which it is made"
	case strings.HasPrefix(from, "cmd/") || slices.Contains([]string{"charts", "dashboards", "alerts"}, from):
		return ""
	case slices.Contains([]string{"serving", "ingest", "energy"}, from) && !std && own != "rollout" && !strings.Contains(to, "prometheus/client_golang"):
		return "a root imports the standard library, the words of rollout and the metrics client only"
	case strings.HasPrefix(to, "istio.io/") && from != "mesh/istio" && from != "mesh/gateway":
		return "only mesh/istio and mesh/gateway know Istio"
	case inside && strings.Contains(own, "/") && !strings.HasPrefix(own, "rollout/stats") && !slices.Contains([]string{"rollout/v1alpha1", "rollout/experiment"}, own):
		return "a sub-room imports roots, never another sub-room"
	}
	return ""
}

// heavy are the engines: a database, a query engine, an API server, Helm.
func heavy(path string) bool {
	return slices.Contains([]string{
		"github.com/prometheus/prometheus/tsdb", "github.com/prometheus/prometheus/promql",
		"k8s.io/apiextensions-apiserver/pkg/apiserver", "go.etcd.io/etcd/server/v3/embed", "helm.sh/helm/v4/pkg/engine",
	}, path)
}

// mayBeHeavy says who may reach the engines: the local mode, which is made of them, and the CLI, whose backtest reads a
// Prometheus data directory. The controller never.
func mayBeHeavy(path string) bool {
	return path == "cmd/local" || strings.HasPrefix(path, "cmd/local/") || path == "cmd/rollout" || strings.HasPrefix(path, "cmd/rollout/")
}

// longestChain counts the packages of the longest chain of imports outside cmd.
func longestChain(all []pkg) int {
	byPath := map[string]pkg{}
	for _, p := range all {
		byPath[p.ImportPath] = p
	}
	var depth func(path string) int
	depth = func(path string) int {
		longest := 0
		for _, i := range byPath[path].Imports {
			if own, ok := strings.CutPrefix(i, module); ok {
				longest = max(longest, depth(own))
			}
		}
		return longest + 1
	}
	n := 0
	for path := range byPath {
		if !strings.HasPrefix(path, "cmd/") {
			n = max(n, depth(path))
		}
	}
	return n
}

// TestInvariantsHaveTests holds CONTRIBUTING.md to its word: every test that it names is there.
func TestInvariantsHaveTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err = filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(source, -1) {
			have[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(text), -1)
	if len(named) < 12 {
		t.Fatalf("CONTRIBUTING.md names %d tests, want one for each invariant", len(named))
	}
	for _, name := range named {
		if !have[name] {
			t.Errorf("CONTRIBUTING.md names %s, which does not exist", name)
		}
	}
}

package cli

import (
	"bytes"
	gocmp "cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/cmd/local/kube"
	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite the sessions")

// later is how long after the objects' creation the sessions take place: long enough that a second more or less does
// not show in an age.
const later = 3*time.Hour + 30*time.Minute + 30*time.Second

// TestCommands runs everything that needs Siskin's definitions against one API, each test in its own namespace.
func TestCommands(t *testing.T) {
	api := kubetest.Start(t, charts.RolloutCRD, charts.ExperimentCRD)
	for name, test := range map[string]func(*testing.T, *kube.API){
		"Sessions":         testSessions,
		"Act":              testAct,
		"ActConcurrently":  testActConcurrently,
		"GetWatches":       testGetWatches,
		"StatusFollows":    testStatusFollows,
		"StatusSuperseded": testStatusSuperseded,
	} {
		t.Run(name, func(t *testing.T) { test(t, api) })
	}
}

// testSessions types the commands of testdata/*.txtar into a real API. In an archive "objects" are the rollouts that
// exist, with their status, times written as @-90s before now; "session" is what the terminal shows: lines that begin with
// "$ " are typed, the rest is answered, stdout before stderr. Any other file can be named by the commands.
func testSessions(t *testing.T, api *kube.API) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("finding sessions: %v, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			runSession(t, api, name, archive)
			got := txtar.Format(archive)
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("session differs (-want +got):\n%s", diff)
			}
		})
	}
}

// runSession replaces the archive's session by what happened.
func runSession(t *testing.T, api *kube.API, namespace string, archive *txtar.Archive) {
	t.Helper()
	s := newSession(t, api, namespace)
	for i, f := range archive.Files {
		switch f.Name {
		case "objects":
			s.create(t, string(f.Data))
		case "session":
			archive.Files[i].Data = s.play(t, string(f.Data))
		default:
			if err := os.WriteFile(filepath.Join(s.dir, f.Name), f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// session is a user at a terminal: a directory, a kubeconfig in it, a clock, and the right to everything.
type session struct {
	dir        string
	namespace  string
	kubeconfig string
	host       string
	now        time.Time
	client     client.WithWatch
}

func newSession(t *testing.T, api *kube.API, namespace string) *session {
	t.Helper()
	dir := t.TempDir()
	s := &session{dir: dir, namespace: namespace, kubeconfig: filepath.Join(dir, "config"), host: api.Addr(), now: time.Now().Add(later)}
	if err := api.Kubeconfig(s.kubeconfig, namespace); err != nil {
		t.Fatal(err)
	}
	a := New(Options{}).app
	*a.flags.KubeConfig = s.kubeconfig
	c, err := a.connect()
	if err != nil {
		t.Fatal(err)
	}
	s.client = c.WithWatch
	return s
}

var relative = regexp.MustCompile(`@-(\w+)`)

// create creates the rollouts of a YAML stream in the session's namespace, with their status.
func (s *session) create(t *testing.T, stream string) {
	t.Helper()
	stream = relative.ReplaceAllStringFunc(stream, func(m string) string {
		d, err := time.ParseDuration(m[2:])
		if err != nil {
			t.Fatal(err)
		}
		return `"` + s.now.Add(-d).UTC().Format("2006-01-02T15:04:05.000000Z") + `"`
	})
	for doc := range strings.SplitSeq(stream, "---\n") {
		s.createOne(t, doc)
	}
}

// createOne creates the spec as YAML, as kubectl would, so that the server sets the defaults, and then the status.
func (s *session) createOne(t *testing.T, doc string) {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict([]byte(doc), &u.Object); err != nil {
		t.Fatal(err)
	}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(gocmp.Or(u.GetKind(), "Rollout")))
	if u.GetNamespace() == "" {
		u.SetNamespace(s.namespace)
	}
	status, hasStatus := u.Object["status"].(map[string]any)
	if err := s.client.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if !hasStatus {
		return
	}
	u.Object["status"] = status
	if err := s.client.Status().Update(t.Context(), u); err != nil {
		t.Fatal(err)
	}
}

// play types each command and returns what the terminal shows.
func (s *session) play(t *testing.T, script string) []byte {
	t.Helper()
	var shown bytes.Buffer
	for line := range strings.Lines(script) {
		if !strings.HasPrefix(line, "$ ") {
			continue
		}
		shown.WriteString(line)
		args := strings.Fields(strings.TrimPrefix(line, "$ "))
		stdout, stderr, code := s.run(t.Context(), args[1:]...)
		shown.WriteString(stdout + stderr)
		if !bytes.HasSuffix(shown.Bytes(), []byte("\n")) {
			shown.WriteString("\n[no newline]\n")
		}
		if code != 0 {
			fmt.Fprintf(&shown, "[exit %d]\n", code)
		}
	}
	return shown.Bytes()
}

// run runs one command as main does, and hides what differs from run to run.
func (s *session) run(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	config := []string{"--kubeconfig", s.kubeconfig}
	if slices.Contains(args, "--kubeconfig") {
		config = nil
	}
	for i, a := range args {
		if _, err := os.Stat(filepath.Join(s.dir, a)); err == nil && i > 0 && a != "" {
			args[i] = filepath.Join(s.dir, a)
		}
	}
	if len(args) > 0 && args[0] == "__complete" {
		args = append(args[:1:1], append(config, args[1:]...)...)
	} else {
		args = append(args, config...)
	}
	err := New(Options{Out: &out, Err: &errs, Now: func() time.Time { return s.now }}).Run(ctx, args)
	if err != nil {
		fmt.Fprintln(&errs, "error:", err)
	}
	clean := strings.NewReplacer(s.dir+"/", "", s.host, "CLUSTER")
	return clean.Replace(out.String()), clean.Replace(errs.String()), ExitCode(err)
}

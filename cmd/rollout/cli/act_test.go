package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/cmd/local/kube"
	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

const running = `
metadata: {name: coolant}
spec: {version: v2, service: {name: coolant, port: 8080}, steps: [{weight: 10}, {weight: 50}]}
status:
  observedGeneration: 1
  stableVersion: v1
  canaryVersion: v2
  weight: 10
  step: 1
  decision: Hold
  reason: AwaitingEvidence
  run: {id: r7, startedAt: @-3h, stepStartedAt: @-3h, waitingSince: @-3h, lastBlock: @-15s}
`

// change writes the rollout's status as a controller would.
func (s *session) change(ctx context.Context, name string, change func(*v1alpha1.Rollout)) error {
	return retry.RetryOnConflict(onConflict(), func() error {
		ro := &v1alpha1.Rollout{}
		if err := s.client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, ro); err != nil {
			return err
		}
		change(ro)
		return s.client.Status().Update(ctx, ro)
	})
}

// answer plays the controller's part: it marks every request as handled, with the outcome given, until the test ends.
func (s *session) answer(t *testing.T, outcome string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); wg.Wait() })
	wg.Go(func() {
		c := &cluster{WithWatch: s.client, namespace: s.namespace}
		_ = c.follow(ctx, s.namespace, "", func(next seen) (bool, error) {
			waiting := slices.ContainsFunc(next.rollout.Status.Requests, func(r v1alpha1.Request) bool { return r.HandledAt == nil })
			if !waiting {
				return false, nil
			}
			return false, s.change(ctx, next.rollout.Name, func(ro *v1alpha1.Rollout) {
				for i := range ro.Status.Requests {
					ro.Status.Requests[i].HandledAt = &metav1.MicroTime{Time: s.now}
					ro.Status.Requests[i].Outcome = outcome
				}
			})
		})
	})
}

// testGetWatches changes a rollout under get -w, and then deletes it.
func testGetWatches(t *testing.T, api *kube.API) {
	s := newSession(t, api, "watched")
	s.create(t, running)
	ctx, stop := context.WithCancel(t.Context())
	out := &lines{arrived: make(chan string, 64)}
	ended := make(chan error, 1)
	go func() {
		c := New(Options{Out: out, Err: out, Now: func() time.Time { return s.now }})
		ended <- c.Run(ctx, []string{"get", "-w", "--kubeconfig", s.kubeconfig})
	}()
	out.until(t, "NAME")
	out.until(t, "coolant   v1       v2       10       1/2    Hold")
	if err := s.change(t.Context(), "coolant", func(ro *v1alpha1.Rollout) { ro.Status.Weight, ro.Status.Step = 50, 2 }); err != nil {
		t.Fatal(err)
	}
	out.until(t, "coolant   v1       v2       50       2/2    Hold")
	stop()
	if err := result(t, ended); err != nil {
		t.Errorf("got %v after the user ended the watch, want no error", err)
	}
}

// testAct asks through a real API, and checks both the request that arrives and what the user is told.
func testAct(t *testing.T, api *kube.API) {
	cases := map[string]struct {
		reason  string
		args    []string
		outcome string
		action  v1alpha1.RequestAction
		want    string
		code    int
	}{
		"promote":      {reason: "the plain promotion goes one step on", args: []string{"promote", "coolant"}, outcome: "Done", action: v1alpha1.ActionPromote, want: "coolant goes on to the next step\n"},
		"promote-full": {reason: "--full is another action", args: []string{"promote", "coolant", "--full"}, outcome: "Done", action: v1alpha1.ActionPromoteFull, want: "coolant was promoted\n"},
		"abort":        {reason: "abort", args: []string{"abort", "coolant"}, outcome: "Done", action: v1alpha1.ActionAbort, want: "coolant was rolled back to the stable version\n"},
		"pause":        {reason: "pause", args: []string{"pause", "coolant"}, outcome: "Done", action: v1alpha1.ActionPause, want: "coolant is paused\n"},
		"resume":       {reason: "a refusal is told with the controller's words", args: []string{"resume", "coolant"}, outcome: "the run is not paused", action: v1alpha1.ActionResume, want: "error: coolant did not resume: the run is not paused\n", code: 1},
		"retry":        {reason: "retry", args: []string{"retry", "coolant"}, outcome: "Done", action: v1alpha1.ActionRetry, want: "coolant starts a new run\n"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newSession(t, api, name)
			s.create(t, running)
			s.answer(t, tc.outcome)
			stdout, stderr, code := s.run(t.Context(), tc.args...)
			if got := stdout + stderr; got != tc.want || code != tc.code {
				t.Errorf("%s: got %q and exit %d, want %q and exit %d", tc.reason, got, code, tc.want, tc.code)
			}
			ro := &v1alpha1.Rollout{}
			if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: name, Name: "coolant"}, ro); err != nil {
				t.Fatal(err)
			}
			if len(ro.Status.Requests) != 1 {
				t.Fatalf("%s: got %d requests, want 1", tc.reason, len(ro.Status.Requests))
			}
			r := ro.Status.Requests[0]
			if r.Action != tc.action || len(r.ID) < 16 || !r.RequestedAt.Equal(&metav1.MicroTime{Time: s.now.Truncate(time.Microsecond)}) {
				t.Errorf("%s: got %+v, want action %s, a long id, the time of the call", tc.reason, r, tc.action)
			}
			if r.By != "" {
				t.Errorf("%s: got by %q from a server that cannot tell, want none", tc.reason, r.By)
			}
			if ro.Status.Weight != 10 || ro.Status.Run == nil || ro.Spec.Version != "v2" {
				t.Errorf("%s: the request changed more than the requests: %+v", tc.reason, ro.Status)
			}
		})
	}
}

// testActConcurrently holds that no request is lost when many ask at once.
func testActConcurrently(t *testing.T, api *kube.API) {
	const askers = 5
	s := newSession(t, api, "many")
	s.create(t, running)
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			if _, stderr, code := s.run(t.Context(), "pause", "coolant", "--no-wait"); code != 0 {
				t.Errorf("got exit %d: %s", code, stderr)
			}
		})
	}
	wg.Wait()
	ro := &v1alpha1.Rollout{}
	if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: "many", Name: "coolant"}, ro); err != nil {
		t.Fatal(err)
	}
	if got := len(ro.Status.Requests); got != askers {
		t.Errorf("got %d requests, want %d", got, askers)
	}
}

func promoted(ro *v1alpha1.Rollout) {
	ro.Status.StableVersion, ro.Status.CanaryVersion, ro.Status.Run, ro.Status.Weight = "v2", "", nil, 0
	ro.Status.Decision, ro.Status.Reason = "Promote", "Promoted"
	ro.Status.ObservedGeneration = ro.Generation
	ro.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Promoted", LastTransitionTime: metav1.Now()}}
}

// testStatusFollows changes the rollout while status watches, each time when the line before it was printed.
func testStatusFollows(t *testing.T, api *kube.API) {
	cases := map[string]struct {
		reason  string
		changes []func(*v1alpha1.Rollout)
		delete  bool
		want    []string
		code    int
	}{
		"promoted": {
			reason: "each change is one line; the end is well",
			changes: []func(*v1alpha1.Rollout){
				func(ro *v1alpha1.Rollout) { ro.Status.Weight, ro.Status.Step, ro.Status.Decision = 50, 2, "Advance" },
				promoted,
			},
			want: []string{"v2 weight 50, step 2/2, Advance (AwaitingEvidence)", "v2 stable (Promoted)", "coolant: v2 is stable and ready"},
		},
		"rolled-back": {
			reason: "a rollback is told with its reason",
			changes: []func(*v1alpha1.Rollout){func(ro *v1alpha1.Rollout) {
				ro.Status.RejectedVersion, ro.Status.CanaryVersion, ro.Status.Run, ro.Status.Weight = "v2", "", nil, 0
				ro.Status.Decision, ro.Status.Reason, ro.Status.Message = "Rollback", "HarmFound", "errors are 4 times stable's"
			}},
			want: []string{
				"v1 stable, v2 wanted (HarmFound): errors are 4 times stable's",
				"error: coolant was rolled back from v2 to v1 (HarmFound): errors are 4 times stable's",
			},
			code: 2,
		},
		"deleted": {reason: "a deleted rollout never ends well", delete: true, want: []string{"error: coolant was deleted"}, code: 2},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newSession(t, api, name)
			s.create(t, running)
			out, ended := s.watch(t)
			for i, change := range tc.changes {
				if err := s.change(t.Context(), "coolant", change); err != nil {
					t.Fatal(err)
				}
				out.until(t, tc.want[i])
			}
			if tc.delete {
				ro := &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "coolant"}}
				if err := s.client.Delete(t.Context(), ro); err != nil {
					t.Fatal(err)
				}
			}
			err := result(t, ended)
			if code := ExitCode(err); code != tc.code {
				t.Errorf("%s: got exit %d (%v), want %d", tc.reason, code, err, tc.code)
			}
			last := tc.want[len(tc.want)-1]
			if text, isError := strings.CutPrefix(last, "error: "); !isError {
				out.until(t, last)
			} else if err == nil || err.Error() != text {
				t.Errorf("%s: got error %v, want %q", tc.reason, err, text)
			}
		})
	}
}

// watch runs status until the rollout is done, and returns when it has drawn the first state.
func (s *session) watch(t *testing.T) (*lines, <-chan error) {
	t.Helper()
	out := &lines{arrived: make(chan string, 64)}
	ended := make(chan error, 1)
	go func() {
		c := New(Options{Out: out, Err: out, Now: func() time.Time { return s.now }})
		ended <- c.Run(t.Context(), []string{"status", "coolant", "--kubeconfig", s.kubeconfig})
	}()
	out.until(t, "  Next")
	return out, ended
}

// testStatusSuperseded changes spec.version under a watcher's eyes: it is no longer the version that it waits for.
func testStatusSuperseded(t *testing.T, api *kube.API) {
	s := newSession(t, api, "superseded")
	s.create(t, running)
	_, ended := s.watch(t)
	if stdout, stderr, code := s.run(t.Context(), "undo", "coolant"); code != 0 {
		t.Fatalf("undo: %s%s", stdout, stderr)
	}
	const want = "coolant to v2 was superseded: spec.version is now v1"
	if err := result(t, ended); err == nil || err.Error() != want || ExitCode(err) != 2 {
		t.Errorf("got %v, exit %d, want %q, exit 2", err, ExitCode(err), want)
	}
}

// lines is an output that a test can wait on.
type lines struct {
	arrived chan string // one per line; bounded by what the tests print, so that Write never blocks
	rest    string
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest += string(p)
	for {
		line, rest, found := strings.Cut(l.rest, "\n")
		if !found {
			return len(p), nil
		}
		l.arrived <- line
		l.rest = rest
	}
}

// until reads lines up to one that begins with the prefix.
func (l *lines) until(t *testing.T, prefix string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case line := <-l.arrived:
			if strings.HasPrefix(line, prefix) {
				return
			}
		case <-deadline:
			t.Fatalf("no line began with %q within 20 s", prefix)
		}
	}
}

// result returns how the command ended. It fails the test rather than wait for ever.
func result(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the command did not end within 20 s")
		return nil
	}
}

// TestNoKind runs against a real API without Siskin's definitions.
func TestNoKind(t *testing.T) {
	api := kubetest.Start(t)
	s := newSession(t, api, "bare")
	for _, args := range [][]string{{"get"}, {"get", "coolant"}, {"status", "coolant"}, {"abort", "coolant"}, {"get", "-w"}} {
		_, stderr, code := s.run(t.Context(), args...)
		if want := "error: " + errNoKind.Error() + "\n"; stderr != want || code != 1 {
			t.Errorf("%v: got %q, exit %d, want %q, exit 1", args, stderr, code, want)
		}
	}
}

// TestRefused answers as an API server does that lets nobody in: the in-process API has no authorization.
func TestRefused(t *testing.T) {
	cases := map[string]struct {
		code int
		body string
		want string
	}{
		"Forbidden": {
			code: http.StatusForbidden,
			body: `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"rollouts.siskin.dev \"coolant\" is forbidden: User \"kim\" cannot patch resource \"rollouts/status\"","details":{"name":"coolant","group":"siskin.dev","kind":"rollouts"}}`,
			want: `error: rollouts.siskin.dev "coolant" is forbidden: User "kim" cannot patch resource "rollouts/status": ask for a role that allows it (the chart has siskin-viewer to look, siskin-operator to operate and siskin-editor to change)`,
		},
		"Unauthorized": {
			code: http.StatusUnauthorized,
			body: `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401,"message":"Unauthorized"}`,
			want: "does not accept these credentials: Unauthorized",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tc.code)
				_, _ = w.Write([]byte(tc.body)) // the client notices
			}))
			defer server.Close()
			s := &session{dir: t.TempDir(), host: "none", now: time.Now()}
			_, stderr, code := s.run(t.Context(), "abort", "coolant", "--server", server.URL, "--kubeconfig", "")
			if !strings.Contains(stderr, tc.want) || code != 1 {
				t.Errorf("got %q, exit %d, want %q in it, exit 1", stderr, code, tc.want)
			}
		})
	}
}

package controller_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/cmd/local/kube"
	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// api is the Kubernetes API that all tests of the package share, and direct a client of it; each test has its own
// namespace.
var (
	api    *kube.API
	direct client.WithWatch
)

func TestMain(m *testing.M) { os.Exit(runWithAPI(m)) }

func runWithAPI(m *testing.M) int {
	dir, err := os.MkdirTemp("", "siskin-controller-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	stop, err := startAPI(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	return m.Run()
}

func startAPI(dir string) (stop func() error, err error) {
	ctrl.SetLogger(logr.Discard())
	crds, err := withProviders([][]byte{charts.RolloutCRD, charts.ExperimentCRD})
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if api, stop, err = kubetest.Run(context.Background(), dir, crds...); err != nil {
		return nil, err
	}
	if direct, err = client.NewWithWatch(api.Config(), client.Options{Scheme: scheme}); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// long marks a test that takes seconds, and minutes under the race detector, which sees the same passes in shorter ones.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a long story, made of passes that shorter ones go through, too")
	}
}

// epoch is where the clock of every test begins: an instant on the grid of every interval used here.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// script is a source of evidence: a function of the block's start and of nothing else, so whoever asks gets the same.
type script struct {
	counts func(start time.Time) map[string]rollout.Counts
	// answer, where there is one, knows the question, too.
	answer func(q rollout.Question, start time.Time) map[string]rollout.Counts
	err    error
	asked  []rollout.Question
}

// Blocks implements controller.Evidence.
func (s *script) Blocks(_ context.Context, q rollout.Question) ([]rollout.Block, error) {
	s.asked = append(s.asked, q)
	if s.err != nil {
		return nil, s.err
	}
	var blocks []rollout.Block
	for start := q.From; start.Before(q.To); start = start.Add(q.Interval) {
		b := rollout.Block{Start: start, End: start.Add(q.Interval), Counts: map[string]rollout.Counts{}}
		switch {
		case s.answer != nil:
			b.Counts = s.answer(q, start)
		case s.counts != nil:
			b.Counts = s.counts(start)
		}
		blocks = append(blocks, b)
	}
	return blocks, nil
}

// errorsGate returns counts of the gate "errors": three thousand requests of each version, with so many errors.
func errorsGate(stable, canary float64) map[string]rollout.Counts {
	return map[string]rollout.Counts{"errors": {
		Stable: rollout.Arm{Requests: 3000, Events: []float64{stable}},
		Canary: rollout.Arm{Requests: 3000, Events: []float64{canary}},
	}}
}

func healthy(time.Time) map[string]rollout.Counts { return errorsGate(3, 3) }
func harmful(time.Time) map[string]rollout.Counts { return errorsGate(3, 300) }
func nothing(time.Time) map[string]rollout.Counts { return nil }

// harmfulFrom is healthy up to an instant.
func harmfulFrom(at time.Time) func(time.Time) map[string]rollout.Counts {
	return func(start time.Time) map[string]rollout.Counts {
		if start.Before(at) {
			return healthy(start)
		}
		return harmful(start)
	}
}

// world is one rollout in a namespace of its own, with a clock, a source of evidence and a reconciler that the test
// drives step by step.
type world struct {
	t      *testing.T
	ns     string
	client client.WithWatch // of the test: nothing stands between it and the API
	tap    *tap
	clock  time.Time
	source *script
	events []string
	r      *controller.Reconciler
	o      controller.Options
}

func newWorld(t *testing.T, edit ...func(*v1alpha1.Rollout)) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, ns: namespaceOf(t), client: direct, clock: epoch, source: &script{counts: healthy}}
	w.tap = &tap{}
	tapped := w.tap.wrap(w.client)
	w.o = controller.Options{
		Now: func() time.Time { return w.clock }, Lag: time.Second, Grace: 30 * time.Second,
		Client: tapped, Live: tapped, Evidence: w.source, Routers: routers(),
		Record: func(_ client.Object, warning bool, reason, message string) {
			w.events = append(w.events, fmt.Sprintf("%t %s %s", warning, reason, message))
		},
	}
	w.restart()
	ro := newRollout(w.ns)
	for _, e := range edit {
		e(ro)
	}
	if err := w.client.Create(t.Context(), ro); err != nil {
		t.Fatal(err)
	}
	return w
}

// restart is what a new process begins with: nothing but the API.
func (w *world) restart() {
	w.t.Helper()
	r, err := controller.New(w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.r = r
}

var notDNS = regexp.MustCompile(`[^a-z0-9]+`)

func namespaceOf(t *testing.T) string {
	return strings.Trim(notDNS.ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")
}

func newRollout(ns string) *v1alpha1.Rollout {
	d := func(s time.Duration) metav1.Duration { return metav1.Duration{Duration: s} }
	return &v1alpha1.Rollout{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "coolant"},
		Spec: v1alpha1.RolloutSpec{
			Version:    "v1",
			Service:    v1alpha1.ServiceSpec{Name: "coolant", Port: 8080},
			Workload:   v1alpha1.WorkloadSpec{Kind: "InferenceService"},
			Assignment: &v1alpha1.AssignmentSpec{Header: &v1alpha1.HeaderAssignment{Name: "x-siskin-bucket"}},
			Steps:      []v1alpha1.StepSpec{{Weight: 5, Hold: d(30 * time.Second)}, {Weight: 25, Hold: d(30 * time.Second)}, {Weight: 50}},
			Gates:      []v1alpha1.GateSpec{{Name: "errors", Type: v1alpha1.GateErrorRate}},
			Analysis:   v1alpha1.AnalysisSpec{Interval: d(10 * time.Second), Cap: d(2 * time.Minute)},
		},
	}
}

// withAlerts adds an alerts gate.
func withAlerts(ro *v1alpha1.Rollout) {
	ro.Spec.Gates = append(ro.Spec.Gates, v1alpha1.GateSpec{Name: "alerts", Type: v1alpha1.GateAlerts})
}

func (w *world) key() types.NamespacedName {
	return types.NamespacedName{Namespace: w.ns, Name: "coolant"}
}

// get reads the rollout as it stands.
func (w *world) get() *v1alpha1.Rollout {
	w.t.Helper()
	var ro v1alpha1.Rollout
	if err := w.client.Get(w.t.Context(), w.key(), &ro); err != nil {
		w.t.Fatal(err)
	}
	return &ro
}

// deploy runs a version, ready or not.
func (w *world) deploy(version string, ready bool) {
	w.t.Helper()
	o := w.object("serving.kserve.io/v1beta1", "InferenceService", "coolant-"+version)
	o.SetLabels(map[string]string{"app": "coolant", "version": version})
	o.Object["spec"] = map[string]any{"predictor": map[string]any{}}
	err := w.client.Create(w.t.Context(), o)
	if err != nil {
		err = w.client.Get(w.t.Context(), client.ObjectKeyFromObject(o), o)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	status := map[bool]string{true: "True", false: "False"}[ready]
	o.Object["status"] = map[string]any{"conditions": []any{map[string]any{
		"type": "Ready", "status": status, "lastTransitionTime": epoch.Format(time.RFC3339),
	}}}
	if err := w.client.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) undeploy(version string) {
	w.t.Helper()
	if err := w.client.Delete(w.t.Context(), w.object("serving.kserve.io/v1beta1", "InferenceService", "coolant-"+version)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) object(apiVersion, kind, name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetNamespace(w.ns)
	o.SetName(name)
	return o
}

// find reads an object; nil when there is none.
func (w *world) find(apiVersion, kind, name string) *unstructured.Unstructured {
	w.t.Helper()
	o := w.object(apiVersion, kind, name)
	err := w.client.Get(w.t.Context(), client.ObjectKeyFromObject(o), o)
	if client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return o
}

func (w *world) route() *unstructured.Unstructured {
	return w.find("networking.istio.io/v1", "VirtualService", "coolant")
}

// subsets lists the subsets that the DestinationRule makes reachable.
func (w *world) subsets() []string {
	w.t.Helper()
	o := w.find("networking.istio.io/v1", "DestinationRule", "coolant")
	if o == nil {
		return nil
	}
	return istioRouter{}.Versions(o, "version")
}

// want sets the wanted version.
func (w *world) want(version string) {
	w.t.Helper()
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Version = version })
}

func (w *world) edit(change func(*v1alpha1.Rollout)) {
	w.t.Helper()
	ro := w.get()
	change(ro)
	if err := w.client.Update(w.t.Context(), ro); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) editStatus(change func(*v1alpha1.RolloutStatus)) {
	w.t.Helper()
	ro := w.get()
	change(&ro.Status)
	if err := w.client.Status().Update(w.t.Context(), ro); err != nil {
		w.t.Fatal(err)
	}
}

// ask adds an operator's request, as the CLI does, and returns its id.
func (w *world) ask(action v1alpha1.RequestAction) string {
	w.t.Helper()
	id := fmt.Sprintf("%s-%d", strings.ToLower(string(action)), len(w.get().Status.Requests))
	w.editStatus(func(st *v1alpha1.RolloutStatus) {
		st.Requests = append(st.Requests, v1alpha1.Request{ID: id, Action: action, By: "ada", RequestedAt: metav1.NewMicroTime(w.clock)})
	})
	return id
}

// request returns a request as the status shows it.
func (w *world) request(id string) v1alpha1.Request {
	w.t.Helper()
	all := w.get().Status.Requests
	i := slices.IndexFunc(all, func(q v1alpha1.Request) bool { return q.ID == id })
	if i < 0 {
		w.t.Fatalf("request %q is not in the status", id)
	}
	return all[i]
}

// try is one turn of the loop. The clock then stands where the reconciler wants to be called again.
func (w *world) try() error {
	w.t.Helper()
	result, err := w.r.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: w.key()})
	if err == nil {
		w.clock = w.clock.Add(result.RequeueAfter)
		w.checkConditions()
	}
	return err
}

// turn is a turn that must succeed.
func (w *world) turn() *v1alpha1.Rollout {
	w.t.Helper()
	if err := w.try(); err != nil {
		w.t.Fatalf("reconciling at %s: %v", w.clock.Format(time.TimeOnly), err)
	}
	return w.get()
}

// until turns the loop until the rollout is as wanted. A hundred turns are too many.
func (w *world) until(what string, is func(*v1alpha1.Rollout) bool) *v1alpha1.Rollout {
	w.t.Helper()
	ro := w.get()
	for range 100 {
		if is(ro) {
			return ro
		}
		ro = w.turn()
	}
	st := ro.Status
	w.t.Fatalf("after 100 turns not %s: %s %s: %s (step %d, weight %d)", what, st.Decision, st.Reason, st.Message, st.Step, st.Weight)
	return nil
}

func atStep(n int32) func(*v1alpha1.Rollout) bool {
	return func(ro *v1alpha1.Rollout) bool { return ro.Status.Step == n }
}

func ended(outcome string) func(*v1alpha1.Rollout) bool {
	return func(ro *v1alpha1.Rollout) bool {
		return ro.Status.Run == nil && ro.Status.LastRun != nil && ro.Status.LastRun.Outcome == outcome
	}
}

func stableOn(version string) func(*v1alpha1.Rollout) bool {
	return func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == version && ro.Status.Run == nil }
}

// running returns a world in which v1 is stable and v2 is on trial at a step.
func running(t *testing.T, step int32, edit ...func(*v1alpha1.Rollout)) *world {
	t.Helper()
	w := newWorld(t, edit...)
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.deploy("v2", true)
	w.want("v2")
	w.until(fmt.Sprintf("at step %d", step), atStep(step))
	return w
}

// errOutage is what a client gets while the API is away.
var errOutage = errors.New("the API is away")

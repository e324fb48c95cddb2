package chaos_test

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/retry"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/cmd/internal/wire"
	"github.com/siskin-dev/siskin/cmd/local/kube"
	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/cmd/local/prom"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

var chaos = flag.Bool("chaos", false, "kill 20 times, and run a thousand rollouts")

const (
	interval = time.Second     // of the blocks
	scrape   = interval / 2    // of the counters
	lag      = 3 * time.Second // until a block is read: a busy machine may store what it scraped late
	rate     = 8000            // requests per second of each service
	patience = 3 * time.Minute // for anything to happen
)

// world is an API and a Prometheus with the counters of some services.
type world struct {
	t      *testing.T
	api    *kube.API
	prom   *prom.Server
	client client.WithWatch
	feed   *feed
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	s := kubetest.Start(t, charts.RolloutCRD, charts.ExperimentCRD)
	scheme, err := wire.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.NewWithWatch(s.Config(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	p, err := prom.Start(t.Context(), prom.Options{Dir: t.TempDir(), Interval: scrape, Align: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stopping Prometheus: %v", err)
		}
	})
	f := &feed{began: time.Now().Truncate(scrape), broken: map[string]bool{}, weights: map[string]int{}}
	f.follow(t, c)
	registry := prometheus.NewRegistry()
	registry.MustRegister(f)
	if _, err := p.AddTarget(prom.Target{Job: "gateway", Instance: "gateway", Gatherer: registry}); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, api: s, prom: p, client: c, feed: f}
}

// feed is what a mesh would count: each service answers so many requests a second, shared out as its route says, one of a
// thousand with an error, and a tenth of v2's once it is broken. The counters grow at the instants of the grid.
type feed struct {
	began time.Time

	mu       sync.Mutex
	services []*traffic
	broken   map[string]bool // whether v2 of a namespace/name is
	weights  map[string]int  // how many buckets the route of a namespace/name sends to v2
}

type service struct{ namespace, name string }

// traffic is what a service has answered until an instant.
type traffic struct {
	service
	until time.Time
	sent  map[string]float64 // by version
	fails map[string]float64
}

// answer shares out the requests since the last instant.
func (s *traffic) answer(now time.Time, weight int, broken bool) {
	all := now.Sub(s.until).Seconds() * rate
	s.until = now
	for version, share := range map[string]float64{"v1": float64(100 - weight), "v2": float64(weight)} {
		n := all * share / 100
		s.sent[version] += n
		if broken && version == "v2" {
			s.fails[version] += n / 10
		}
		s.fails[version] += n / 1000
	}
}

// follow keeps the weights as the routes have them. A route to v2 alone has all buckets.
func (f *feed) follow(t *testing.T, c client.WithWatch) {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("networking.istio.io/v1")
	list.SetKind("VirtualServiceList")
	events, err := c.Watch(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer events.Stop()
		for e := range events.ResultChan() {
			o, ok := e.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			weight := len(canaryOf(o))
			if slices.Equal(targetsOf(o), []string{"v2"}) {
				weight = rollout.Buckets
			}
			f.mu.Lock()
			f.weights[o.GetNamespace()+"/"+o.GetName()] = weight
			f.mu.Unlock()
		}
	}()
}

// Describe implements prometheus.Collector; the feed's metrics are not known beforehand.
func (f *feed) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (f *feed) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now().Truncate(scrape)
	for _, s := range f.services {
		s.answer(now, f.weights[s.namespace+"/"+s.name], f.broken[s.namespace+"/"+s.name])
		for _, version := range []string{"v1", "v2"} {
			desc := prometheus.NewDesc("istio_requests_total", "Requests.", []string{"response_code"}, prometheus.Labels{
				"reporter": "source", "destination_service_name": s.name, "destination_service_namespace": s.namespace,
				"destination_version": version, "response_flags": "-",
			})
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, s.sent[version]-s.fails[version], "200")
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, s.fails[version], "503")
		}
	}
}

func (f *feed) add(s service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.services = append(f.services, &traffic{service: s, until: f.began, sent: map[string]float64{}, fails: map[string]float64{}})
}

func (f *feed) breaks(s service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken[s.namespace+"/"+s.name] = true
}

// create makes a rollout of a service whose v1 and v2 run. It wants v1.
func (w *world) create(s service, hold time.Duration) {
	w.t.Helper()
	w.feed.add(s)
	for _, version := range []string{"v1", "v2"} {
		o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"predictor": map[string]any{}}}}
		o.SetAPIVersion("serving.kserve.io/v1beta1")
		o.SetKind("InferenceService")
		o.SetNamespace(s.namespace)
		o.SetName(s.name + "-" + version)
		o.SetLabels(map[string]string{"app": s.name, "version": version})
		if err := w.client.Create(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
		o.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}
		if err := w.client.Status().Update(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.client.Create(w.t.Context(), newRollout(s, hold)); err != nil {
		w.t.Fatal(err)
	}
}

func newRollout(s service, hold time.Duration) *v1alpha1.Rollout {
	d := func(t time.Duration) metav1.Duration { return metav1.Duration{Duration: t} }
	return &v1alpha1.Rollout{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name},
		Spec: v1alpha1.RolloutSpec{
			Version:    "v1",
			Service:    v1alpha1.ServiceSpec{Name: s.name, Port: 8080},
			Workload:   v1alpha1.WorkloadSpec{Kind: "InferenceService"},
			Assignment: &v1alpha1.AssignmentSpec{Header: &v1alpha1.HeaderAssignment{Name: "x-siskin-bucket"}},
			Steps:      []v1alpha1.StepSpec{{Weight: 5, Hold: d(hold)}, {Weight: 25, Hold: d(hold)}, {Weight: 50, Hold: d(hold)}},
			Gates:      []v1alpha1.GateSpec{{Name: "errors", Type: v1alpha1.GateErrorRate}},
			Analysis:   v1alpha1.AnalysisSpec{Interval: d(interval), Cap: d(time.Hour)},
		},
	}
}

func (w *world) get(s service) *v1alpha1.Rollout {
	w.t.Helper()
	var ro v1alpha1.Rollout
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: s.namespace, Name: s.name}, &ro); err != nil {
		w.t.Fatal(err)
	}
	return &ro
}

// want sets the wanted version.
func (w *world) want(s service, version string) {
	w.t.Helper()
	patch := client.RawPatch("application/merge-patch+json", []byte(fmt.Sprintf(`{"spec":{"version":%q}}`, version)))
	if err := w.client.Patch(w.t.Context(), w.get(s), patch); err != nil {
		w.t.Fatal(err)
	}
}

// abort asks for an abort, as the CLI does.
func (w *world) abort(s service) {
	w.t.Helper()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		ro := w.get(s)
		ro.Status.Requests = append(ro.Status.Requests, v1alpha1.Request{ID: "abort", Action: v1alpha1.ActionAbort, RequestedAt: metav1.NowMicro()})
		return w.client.Status().Update(w.t.Context(), ro)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// until watches a rollout until it is as wanted.
func (w *world) until(s service, what string, is func(*v1alpha1.Rollout) bool) *v1alpha1.Rollout {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	events, err := w.client.Watch(ctx, &v1alpha1.RolloutList{}, client.InNamespace(s.namespace))
	if err != nil {
		w.t.Fatal(err)
	}
	defer events.Stop()
	if ro := w.get(s); is(ro) {
		return ro
	}
	for e := range events.ResultChan() {
		if ro, ok := e.Object.(*v1alpha1.Rollout); ok && ro.Name == s.name && is(ro) {
			return ro
		}
	}
	st := w.get(s).Status
	w.t.Fatalf("rollout %v is not %s: %s %s: %s (step %d)", s, what, st.Decision, st.Reason, st.Message, st.Step)
	return nil
}

func stable(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion != "" && ro.Status.Run == nil }

func ended(ro *v1alpha1.Rollout) bool { return ro.Status.LastRun != nil && ro.Status.Run == nil }

func atStep(n int32) func(*v1alpha1.Rollout) bool {
	return func(ro *v1alpha1.Rollout) bool { return ro.Status.Step >= n }
}

// history is every state that a rollout and its route went through, as a watch tells.
type history struct {
	stop func()
	done chan struct{}

	statuses []v1alpha1.RolloutStatus // read after done
	canaries [][]int
	targets  [][]string
}

// follow writes down every change until stop is called.
func (w *world) follow(s service) *history {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	routes := &unstructured.UnstructuredList{}
	routes.SetAPIVersion("networking.istio.io/v1")
	routes.SetKind("VirtualServiceList")
	var all []watch.Interface
	for _, list := range []client.ObjectList{routes, &v1alpha1.RolloutList{}} {
		events, err := w.client.Watch(ctx, list, client.InNamespace(s.namespace))
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, events)
	}
	h := &history{done: make(chan struct{})}
	h.stop = func() { cancel(); <-h.done }
	go func() {
		defer close(h.done)
		var wg sync.WaitGroup
		for _, events := range all {
			wg.Go(func() {
				defer events.Stop()
				for e := range events.ResultChan() {
					h.note(s, e)
				}
			})
		}
		wg.Wait()
	}()
	return h
}

// note is called by two goroutines, each with its own kind.
func (h *history) note(s service, e watch.Event) {
	switch o := e.Object.(type) {
	case *v1alpha1.Rollout:
		if o.Name == s.name {
			h.statuses = append(h.statuses, o.Status)
		}
	case *unstructured.Unstructured:
		if o.GetName() == s.name && e.Type != watch.Deleted {
			h.canaries = append(h.canaries, canaryOf(o))
			h.targets = append(h.targets, targetsOf(o))
		}
	}
}

// canaryOf returns the buckets that a route sends to the canary by their header.
func canaryOf(route *unstructured.Unstructured) []int {
	all, _, _ := unstructured.NestedSlice(route.Object, "spec", "http")
	var set []int
	for _, h := range all {
		r, _ := h.(map[string]any)
		if r["name"] != "canary-buckets" {
			continue
		}
		matches, _, _ := unstructured.NestedSlice(r, "match")
		for _, m := range matches {
			match, _ := m.(map[string]any)
			pattern, found, _ := unstructured.NestedString(match, "headers", "x-siskin-bucket", "regex")
			if !found {
				continue
			}
			re := regexp.MustCompile(`^(?:` + pattern + `)$`)
			for b := range rollout.Buckets {
				if re.MatchString(rollout.FormatBucket(b)) {
					set = append(set, b)
				}
			}
		}
	}
	return set
}

// targetsOf lists the subsets that a route leads to, each once.
func targetsOf(route *unstructured.Unstructured) []string {
	raw, err := route.MarshalJSON()
	if err != nil {
		return nil
	}
	var all []string
	for _, m := range regexp.MustCompile(`"subset":"([^"]+)"`).FindAllStringSubmatch(string(raw), -1) {
		all = append(all, strings.Clone(m[1]))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// route lists the subsets that the route of a service leads to now.
func (w *world) route(s service) []string {
	w.t.Helper()
	o := &unstructured.Unstructured{}
	o.SetAPIVersion("networking.istio.io/v1")
	o.SetKind("VirtualService")
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: s.namespace, Name: s.name}, o); err != nil {
		w.t.Fatal(err)
	}
	return targetsOf(o)
}

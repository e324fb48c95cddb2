package chaos_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	promapi "github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/cmd/internal/wire"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// manage runs the controller in this process until the test ends.
func (w *world) manage(o wire.Options) *controller.Reconciler {
	w.t.Helper()
	o.Registry = prometheus.NewRegistry()
	o.Lag, o.Lookback, o.Grace = lag, lookback, 2*time.Second
	if o.PrometheusURL == "" {
		o.PrometheusURL = w.prom.URL()
	}
	mgr, r, err := wire.Controller(w.api.Config(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("stopping the controller: %v", err)
		}
	})
	return r
}

// A foreign edit of the route may last for repair, and a canary for abort. These are held where nothing else runs, with
// -chaos; a busy test machine may take somewhat longer, but not as long as a question to a Prometheus that hangs.
const (
	repair = 2 * time.Second
	abort  = time.Second
	hung   = 5 * time.Second
)

// within complains about what took too long.
func within(t *testing.T, what string, took, limit time.Duration) {
	t.Helper()
	t.Logf("%s after %v", what, took)
	if !*chaos {
		limit = hung
	}
	if took > limit {
		t.Errorf("%s after %v, want at most %v", what, took, limit)
	}
}

// TestDrift edits the route in mid-step and measures how long the edit lasts. The step's evidence goes on.
func TestDrift(t *testing.T) {
	w := newWorld(t)
	w.manage(wire.Options{Rules: true})
	s := service{"drift", "coolant"}
	w.create(s, time.Hour)
	w.until(s, "stable", stable)
	w.want(s, "v2")
	w.checkRules(t, s)
	w.until(s, "counting", func(ro *v1alpha1.Rollout) bool { return ro.Status.Step == 1 && requests(t, ro) > 0 })
	for name, edit := range map[string]func(o *unstructured.Unstructured){
		"AllToStable": func(o *unstructured.Unstructured) {
			all, _, _ := unstructured.NestedSlice(o.Object, "spec", "http")
			_ = unstructured.SetNestedSlice(o.Object, all[len(all)-1:], "spec", "http")
		},
		"ExtraField": func(o *unstructured.Unstructured) {
			_ = unstructured.SetNestedStringSlice(o.Object, []string{"."}, "spec", "exportTo")
		},
		"Deleted": nil,
	} {
		t.Run(name, func(t *testing.T) {
			before := w.get(s)
			within(t, "repaired", w.meddle(t, s, edit), repair)
			after := w.until(s, "counting on", func(ro *v1alpha1.Rollout) bool {
				return ro.Status.Run != nil && ro.Status.Run.LastBlock.After(before.Status.Run.LastBlock.Time)
			})
			if after.Status.Step != 1 || !after.Status.Run.StepStartedAt.Equal(before.Status.Run.StepStartedAt) {
				t.Errorf("step %d since %v, want the step as it was", after.Status.Step, after.Status.Run.StepStartedAt)
			}
			if n, was := requests(t, after), requests(t, before); n <= was {
				t.Errorf("evidence of %.0f requests after %.0f: it does not go on", n, was)
			}
			checkCounts(t, w, s, after.Status)
		})
	}
}

// TestUserRule: what a rule of the user says of the host is taken over at once, although the next block is far away.
func TestUserRule(t *testing.T) {
	w := newWorld(t)
	w.manage(wire.Options{})
	ro := newRollout(service{"ruled", "coolant"}, time.Hour)
	ro.Spec.Analysis.Interval.Duration = time.Hour
	ro.Spec.Traffic = &v1alpha1.TrafficSpec{Policy: &v1alpha1.TrafficPolicy{TLS: &v1alpha1.ClientTLS{Mode: "ISTIO_MUTUAL"}}}
	if err := w.client.Create(t.Context(), ro); err != nil {
		t.Fatal(err)
	}
	ro.Status.StableVersion, ro.Status.ObservedGeneration = "v1", 1
	if err := w.client.Status().Update(t.Context(), ro); err != nil {
		t.Fatal(err)
	}
	s := service{"ruled", "coolant"}
	w.until(s, "expressed", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "Stable" })
	rule := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"host": "coolant", "trafficPolicy": map[string]any{"tls": map[string]any{"mode": "DISABLE"}},
	}}}
	rule.SetAPIVersion("networking.istio.io/v1")
	rule.SetKind("DestinationRule")
	rule.SetNamespace("ruled")
	rule.SetName("mine")
	restricted := func(ro *v1alpha1.Rollout) bool {
		return meta.IsStatusConditionTrue(ro.Status.Conditions, v1alpha1.ConditionRestricted)
	}
	began := time.Now()
	if err := w.client.Create(t.Context(), rule); err != nil {
		t.Fatal(err)
	}
	w.until(s, "restricted", restricted)
	if err := w.client.Delete(t.Context(), rule); err != nil {
		t.Fatal(err)
	}
	w.until(s, "free", func(ro *v1alpha1.Rollout) bool { return !restricted(ro) })
	if took := time.Since(began); took > 15*time.Second { // a rollout at rest looks again after 30 s
		t.Errorf("two changes of the user's rule took %v to be seen", took)
	}
}

// checkRules asks Prometheus each rule that the controller wrote for the rollout.
func (w *world) checkRules(t *testing.T, s service) {
	t.Helper()
	w.until(s, "at step 1", atStep(1))
	o := &unstructured.Unstructured{}
	o.SetAPIVersion("monitoring.coreos.com/v1")
	o.SetKind("PrometheusRule")
	if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: s.name}, o); err != nil {
		t.Fatal(err)
	}
	groups, _, _ := unstructured.NestedSlice(o.Object, "spec", "groups")
	asked := 0
	for _, g := range groups {
		group, _ := g.(map[string]any)
		rules, _, _ := unstructured.NestedSlice(group, "rules")
		for _, r := range rules {
			rule, _ := r.(map[string]any)
			expr, _ := rule["expr"].(string)
			api, err := promapi.NewClient(promapi.Config{Address: w.prom.URL()})
			if err != nil {
				t.Fatal(err)
			}
			if _, _, _, err := promv1.NewAPI(api).Query(t.Context(), expr, time.Now()); err != nil {
				t.Errorf("rule %v: %v", rule["alert"], err)
			}
			asked++
		}
	}
	if asked == 0 {
		t.Error("the controller wrote no rule for the canary")
	}
}

func requests(t *testing.T, ro *v1alpha1.Rollout) float64 {
	t.Helper()
	var e rollout.Evidence
	if ro.Status.Run == nil || len(ro.Status.Run.Evidence) == 0 {
		return 0
	}
	if err := e.UnmarshalBinary(ro.Status.Run.Evidence); err != nil {
		t.Fatal(err)
	}
	return e.Trails[0].Canary.Count
}

// meddle edits the route as somebody else, or deletes it, and returns how long it was not what it had been.
func (w *world) meddle(t *testing.T, s service, edit func(o *unstructured.Unstructured)) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	o := &unstructured.Unstructured{}
	o.SetAPIVersion("networking.istio.io/v1")
	o.SetKind("VirtualService")
	if err := w.client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: s.name}, o); err != nil {
		t.Fatal(err)
	}
	want := specOf(t, o)
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("networking.istio.io/v1")
	list.SetKind("VirtualServiceList")
	events, err := w.client.Watch(ctx, list, client.InNamespace(s.namespace))
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	if edit == nil {
		err = w.client.Delete(ctx, o)
	} else {
		edit(o)
		err = w.client.Update(ctx, o, client.FieldOwner("somebody"))
	}
	if err != nil {
		t.Fatal(err)
	}
	began, version := time.Now(), revision(t, o)
	for e := range events.ResultChan() {
		got, ok := e.Object.(*unstructured.Unstructured)
		if ok && e.Type != "DELETED" && revision(t, got) > version && specOf(t, got) == want {
			return time.Since(began)
		}
	}
	t.Fatal("the route was not repaired")
	return 0
}

// revision is the number that the store gave to what was written.
func revision(t *testing.T, o *unstructured.Unstructured) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func specOf(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	raw, err := json.Marshal(o.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// hanging is a Prometheus that takes questions and never answers. Each question is told on asked.
func hanging(t *testing.T) (url string, asked <-chan struct{}) {
	t.Helper()
	release, told := make(chan struct{}), make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case told <- struct{}{}:
		default: // nobody has listened to the one before
		}
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}))
	t.Cleanup(func() { close(release); s.Close() })
	return s.URL, told
}

// TestDriftWhilePrometheusHangs: neither a repair nor an abort waits for evidence that does not come.
func TestDriftWhilePrometheusHangs(t *testing.T) {
	w := newWorld(t)
	url, asked := hanging(t)
	w.manage(wire.Options{PrometheusURL: url})
	s := service{"hanging", "coolant"}
	w.create(s, 30*time.Second)
	w.until(s, "stable", stable)
	w.want(s, "v2")
	w.until(s, "at step 1", atStep(1))
	<-asked // drained: what was asked before the step
	<-asked
	within(t, "repaired", w.meddle(t, s, nil), repair)
	if got := w.get(s).Status; got.Weight != 5 || got.Decision != "Hold" {
		t.Errorf("weight %d, %s; want Hold at 5", got.Weight, got.Decision)
	}
	<-asked
	<-asked
	began := time.Now()
	w.abort(s)
	w.until(s, "aborted", ended)
	within(t, "aborted", time.Since(began), abort)
}

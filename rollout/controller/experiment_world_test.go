package controller_test

import (
	"fmt"
	"hash/fnv"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// trials is a world with experiments in it: a rollout of which v1 is stable, v2 and v3 ready, and a fleet whose buckets
// meet what the statuses say that the routes show.
type trials struct {
	*world
	e *controller.ExperimentReconciler
	// means are the objective's mean by version.
	means map[string]float64
	// lost is the share of new units of a version that are not counted.
	lost map[string]float64
}

func newTrials(t *testing.T, edit ...func(*v1alpha1.Rollout)) *trials {
	t.Helper()
	w := newWorld(t, edit...)
	x := &trials{world: w, means: map[string]float64{"v1": 4, "v2": 3, "v3": 4.1}, lost: map[string]float64{}}
	x.source.answer = x.answer
	x.reboot()
	for _, v := range []string{"v1", "v2", "v3"} {
		w.deploy(v, true)
	}
	w.until("stable", stableOn("v1"))
	return x
}

// reboot is what a new process begins with.
func (x *trials) reboot() {
	x.restart()
	x.e = x.r.Experiments()
}

func newExperiment(ns, name string) *v1alpha1.Experiment {
	d := func(s time.Duration) *metav1.Duration { return &metav1.Duration{Duration: s} }
	return &v1alpha1.Experiment{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: v1alpha1.ExperimentSpec{
			Rollout: "coolant",
			Variants: []v1alpha1.VariantSpec{
				{Name: "control", Version: "v1", Share: 25}, {Name: "deeper", Version: "v2", Share: 25}, {Name: "other", Version: "v3", Share: 25},
			},
			Holdout: 10,
			Objective: v1alpha1.ObjectiveSpec{
				Query:          v1alpha1.ObjectiveQuery{Sum: "error_total", Count: "predictions_total"},
				SmallestEffect: "0.05",
			},
			Units:    "units_total",
			Duration: v1alpha1.ExperimentDuration{Minimum: d(time.Minute), Maximum: d(30 * time.Minute)},
			Analysis: v1alpha1.ExperimentAnalysis{Interval: metav1.Duration{Duration: 10 * time.Second}},
		},
	}
}

// begin creates an experiment.
func (x *trials) begin(name string, edit ...func(*v1alpha1.Experiment)) *v1alpha1.Experiment {
	x.t.Helper()
	e := newExperiment(x.ns, name)
	for _, f := range edit {
		f(e)
	}
	if err := x.client.Create(x.t.Context(), e); err != nil {
		x.t.Fatal(err)
	}
	return e
}

// exp reads an experiment as it stands.
func (x *trials) exp(name string) *v1alpha1.Experiment {
	x.t.Helper()
	var e v1alpha1.Experiment
	if err := x.client.Get(x.t.Context(), types.NamespacedName{Namespace: x.ns, Name: name}, &e); err != nil {
		x.t.Fatal(err)
	}
	return &e
}

// editExp changes an experiment's spec.
func (x *trials) editExp(name string, change func(*v1alpha1.Experiment)) {
	x.t.Helper()
	e := x.exp(name)
	change(e)
	if err := x.client.Update(x.t.Context(), e); err != nil {
		x.t.Fatal(err)
	}
}

// look is one turn of an experiment's loop, which must succeed. It returns when it wants to be called again.
func (x *trials) look(name string) time.Duration {
	x.t.Helper()
	result, err := x.e.Reconcile(x.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: x.ns, Name: name}})
	if err != nil {
		x.t.Fatalf("reconciling experiment %q at %s: %v", name, x.clock.Format(time.TimeOnly), err)
	}
	x.checkExperiment(name)
	return result.RequeueAfter
}

// round is one turn of every loop: of all experiments and of the rollouts. The clock then stands where the first of them
// wants to be called again.
func (x *trials) round() {
	x.t.Helper()
	wait := time.Minute
	note := func(d time.Duration) {
		if d > 0 {
			wait = min(wait, d)
		}
	}
	var all v1alpha1.ExperimentList
	if err := x.client.List(x.t.Context(), &all, client.InNamespace(x.ns)); err != nil {
		x.t.Fatal(err)
	}
	for _, e := range all.Items {
		note(x.look(e.Name))
	}
	var rollouts v1alpha1.RolloutList
	if err := x.client.List(x.t.Context(), &rollouts, client.InNamespace(x.ns)); err != nil {
		x.t.Fatal(err)
	}
	for _, ro := range rollouts.Items {
		result, err := x.r.Reconcile(x.t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&ro)})
		if err != nil {
			x.t.Fatalf("reconciling rollout %q: %v", ro.Name, err)
		}
		note(result.RequeueAfter)
	}
	x.checkConditions()
	x.clock = x.clock.Add(wait)
}

// untilExp turns all loops until an experiment is as wanted.
func (x *trials) untilExp(name, what string, is func(*v1alpha1.Experiment) bool) *v1alpha1.Experiment {
	x.t.Helper()
	for range 250 {
		if e := x.exp(name); is(e) {
			return e
		}
		x.round()
	}
	st := x.exp(name).Status
	x.t.Fatalf("experiment %q is not %s: %s %s %s: %s", name, what, st.State, st.Verdict, st.Reason, st.Message)
	return nil
}

func inForce(e *v1alpha1.Experiment) bool { return e.Status.StartedAt != nil }
func over(e *v1alpha1.Experiment) bool    { return e.Status.State == v1alpha1.ExperimentEnded }

func because(reason string) func(*v1alpha1.Experiment) bool {
	return func(e *v1alpha1.Experiment) bool { return e.Status.Reason == reason }
}

// answer is what Prometheus would count: the objective by bucket, and new units, with the version that the routes of then
// gave each bucket.
func (x *trials) answer(q rollout.Question, start time.Time) map[string]rollout.Counts {
	var ro v1alpha1.Rollout
	if err := x.client.Get(x.t.Context(), types.NamespacedName{Namespace: x.ns, Name: q.Service.Name}, &ro); err != nil {
		x.t.Error(err)
		return nil
	}
	versions := versionsOf(&ro, start)
	objective, units := rollout.Counts{}, rollout.Counts{}
	for b, v := range versions {
		arm, new := &objective.Stable, &units.Stable
		switch v {
		case q.Stable:
		case q.Canary:
			arm, new = &objective.Canary, &units.Canary
		default:
			continue
		}
		const n = 20
		arm.Buckets = append(arm.Buckets, rollout.BucketSum{Bucket: b, Count: n, Sum: n * x.means[v] * (1 + 0.1*noise(v, b, start))})
		if share := 0.5 + 0.5*noise("unit", b, start); share >= x.lost[v] {
			new.Requests++
		}
	}
	return map[string]rollout.Counts{"objective": objective, "units": units}
}

// versionsOf lists the version that each bucket met at an instant, as the status of the rollout says.
func versionsOf(ro *v1alpha1.Rollout, at time.Time) []string {
	out := slices.Repeat([]string{"v1"}, rollout.Buckets)
	for _, s := range ro.Status.Experiments {
		if s.InForceSince == nil || at.Before(s.InForceSince.Time) {
			continue
		}
		for _, v := range s.Variants {
			for _, b := range setOf(v.Buckets) {
				out[b] = v.Version
			}
		}
	}
	return out
}

// setOf reads a list of buckets.
func setOf(text string) []int {
	var set []int
	for b := range rollout.Buckets {
		for w := range len(text) / 2 {
			if at := 3 * w; at+2 <= len(text) && text[at:at+2] == rollout.FormatBucket(b) {
				set = append(set, b)
			}
		}
	}
	return set
}

// noise is a number from -1 to 1 that follows from its arguments.
func noise(what string, bucket int, start time.Time) float64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d/%d", what, bucket, start.Unix())
	return float64(h.Sum64()%2001)/1000 - 1
}

// owners reads who owns which bucket from the route in the cluster, as a proxy does: by name of the variant, with the
// stable variant for the rest.
func (x *trials) owners(name string) map[string][]int {
	x.t.Helper()
	route := x.find(istioV1, "VirtualService", name)
	if route == nil {
		return nil
	}
	all, _, _ := unstructured.NestedSlice(route.Object, "spec", "http")
	out, taken := map[string][]int{}, map[int]bool{}
	for _, h := range all {
		r, _ := h.(map[string]any)
		routeName, _ := r["name"].(string)
		variant, isSplit := cutSuffix(routeName, "-buckets")
		if !isSplit {
			continue
		}
		matches, _, _ := unstructured.NestedSlice(r, "match")
		for _, m := range matches {
			match, _ := m.(map[string]any)
			pattern, found, _ := unstructured.NestedString(match, "headers", "x-siskin-bucket", "regex")
			for _, b := range matching(pattern, found) {
				if !taken[b] {
					out[variant] = append(out[variant], b)
					taken[b] = true
				}
			}
		}
	}
	return out
}

func cutSuffix(s, suffix string) (string, bool) {
	if len(s) < len(suffix) || s[len(s)-len(suffix):] != suffix {
		return s, false
	}
	return s[:len(s)-len(suffix)], true
}

// checkExperiment holds the conditions to what kstatus expects of every object at every moment.
func (x *trials) checkExperiment(name string) {
	x.t.Helper()
	e := x.exp(name)
	st := e.Status
	is := func(kind string) bool { return meta.IsStatusConditionTrue(st.Conditions, kind) }
	ready := meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil:
		x.t.Errorf("experiment %q: Ready is missing: %+v", name, st)
		return
	case is(v1alpha1.ConditionReady) == (is(v1alpha1.ConditionStalled) || is(v1alpha1.ConditionReconciling)),
		is(v1alpha1.ConditionStalled) && is(v1alpha1.ConditionReconciling):
		x.t.Errorf("experiment %q: want exactly one of Ready, Stalled and Reconciling: %+v", name, st.Conditions)
	case is(v1alpha1.ConditionReady) != (st.State == v1alpha1.ExperimentEnded):
		x.t.Errorf("experiment %q: Ready does not say whether it has ended: %+v", name, st.Conditions)
	case st.ObservedGeneration != e.Generation || ready.ObservedGeneration != e.Generation:
		x.t.Errorf("experiment %q: observedGeneration %d, condition's %d, want %d", name, st.ObservedGeneration, ready.ObservedGeneration, e.Generation)
	case ready.Reason != st.Reason:
		x.t.Errorf("experiment %q: reason of Ready %q, of the status %q", name, ready.Reason, st.Reason)
	}
}

// gone is a turn for an experiment that there is no more.
func (x *trials) gone(name string) {
	x.t.Helper()
	if _, err := x.e.Reconcile(x.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: x.ns, Name: name}}); err != nil {
		x.t.Fatal(err)
	}
}

// survive is a round in which the process may die; a new one then takes its place.
func (x *trials) survive() {
	x.t.Helper()
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
			x.reboot()
		}
	}()
	x.round()
}

package controller_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/experiment"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// second adds another rollout, of the service "thermostat" whose stable version is v1.
func (x *trials) second() {
	x.t.Helper()
	ro := newRollout(x.ns)
	ro.Name, ro.Spec.Service.Name = "thermostat", "thermostat"
	if err := x.client.Create(x.t.Context(), ro); err != nil {
		x.t.Fatal(err)
	}
	for _, v := range []string{"v1", "v2", "v3"} {
		x.deployAs("thermostat", v)
	}
	for range 3 {
		if _, err := x.r.Reconcile(x.t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(ro)}); err != nil {
			x.t.Fatal(err)
		}
	}
}

func (x *trials) deployAs(service, version string) {
	x.t.Helper()
	o := x.object("serving.kserve.io/v1beta1", "InferenceService", service+"-"+version)
	o.SetLabels(map[string]string{"app": service, "version": version})
	o.Object["spec"] = map[string]any{"predictor": map[string]any{}}
	if err := x.client.Create(x.t.Context(), o); err != nil {
		x.t.Fatal(err)
	}
	o.Object["status"] = map[string]any{"conditions": []any{map[string]any{
		"type": "Ready", "status": "True", "lastTransitionTime": epoch.Format("2006-01-02T15:04:05Z"),
	}}}
	if err := x.client.Status().Update(x.t.Context(), o); err != nil {
		x.t.Fatal(err)
	}
}

// in puts an experiment into a layer, with so many buckets for each of its three variants, named after the experiment.
func in(layer string, share int32) func(*v1alpha1.Experiment) {
	return func(e *v1alpha1.Experiment) {
		e.Spec.Layer = layer
		for i := range e.Spec.Variants {
			e.Spec.Variants[i].Share = share
			e.Spec.Variants[i].Name = fmt.Sprintf("%s-%d", e.Name, i)
		}
	}
}

func of(name string) func(*v1alpha1.Experiment) {
	return func(e *v1alpha1.Experiment) { e.Spec.Rollout = name }
}

// checkLayers holds that no bucket has two owners in any layer, by what experiments hold and by what the routes show, and
// that the hold-out has none.
func (x *trials) checkLayers(holdout map[string][]int) {
	x.t.Helper()
	var all v1alpha1.ExperimentList
	if err := x.client.List(x.t.Context(), &all, client.InNamespace(x.ns)); err != nil {
		x.t.Fatal(err)
	}
	held := map[string]string{}
	claim := func(layer string, bucket int, owner string) {
		key := layer + "/" + rollout.FormatBucket(bucket)
		if was, taken := held[key]; taken && was != owner {
			x.t.Errorf("bucket %s belongs to %q and to %q", key, was, owner)
		}
		held[key] = owner
		if slices.Contains(holdout[layer], bucket) {
			x.t.Errorf("bucket %s of the hold-out belongs to %q", key, owner)
		}
	}
	layers := map[string]string{}
	for _, e := range all.Items {
		for _, a := range e.Status.Allocation {
			layers[a.Name] = e.Spec.Layer
			if e.Status.State != v1alpha1.ExperimentRunning {
				continue
			}
			for _, b := range setOf(a.Buckets) {
				claim(e.Spec.Layer, b, a.Name)
			}
		}
	}
	for _, ro := range []string{"coolant", "thermostat"} {
		for variant, set := range x.arms(ro) {
			for _, b := range set {
				claim(layers[variant], b, variant)
			}
		}
	}
}

// TestLayer: experiments of one layer never share a bucket, whatever their rollouts. One that finds too few waits, and
// begins when the routes have ceased to show the one before.
func TestLayer(t *testing.T) {
	long(t)
	x := newTrials(t)
	x.second()
	holdout := map[string][]int{"fleet": experiment.HoldOut("fleet", 10)}
	x.begin("a", in("fleet", 10))
	x.untilExp("a", "in force", inForce)
	x.begin("b", in("fleet", 10), of("thermostat"))
	x.begin("c", in("fleet", 10))
	x.untilExp("b", "in force", inForce)
	x.untilExp("c", "in force", inForce)
	x.checkLayers(holdout)
	x.begin("d", in("fleet", 10), of("thermostat"))
	e := x.untilExp("d", "waiting", because("NotEnoughBuckets"))
	if want := `layer "fleet"`; !strings.Contains(e.Status.Message, want) || len(e.Status.Allocation) > 0 {
		t.Errorf("message %q, allocation %+v; want %q and none", e.Status.Message, e.Status.Allocation, want)
	}
	if err := x.client.Delete(t.Context(), x.exp("a")); err != nil {
		t.Fatal(err)
	}
	x.look("d")
	if e := x.exp("d"); len(e.Status.Allocation) > 0 {
		t.Errorf("d holds %+v while the routes still show a", e.Status.Allocation)
	}
	x.untilExp("d", "in force", inForce)
	x.checkLayers(holdout)
}

// TestLayersAreApart: experiments of different layers may share buckets.
func TestLayersAreApart(t *testing.T) {
	x := newTrials(t)
	x.second()
	x.begin("a", in("one", 30))
	x.begin("b", in("two", 30), of("thermostat"))
	x.untilExp("a", "in force", inForce)
	x.untilExp("b", "in force", inForce)
	x.checkLayers(nil)
}

// TestOneLayerARollout: two experiments of a rollout in different layers are refused with a sentence.
func TestOneLayerARollout(t *testing.T) {
	x := newTrials(t)
	x.begin("a", in("one", 10))
	x.untilExp("a", "in force", inForce)
	x.begin("b", in("two", 10))
	x.look("b")
	want := `experiment "a" of the same rollout is in layer "one", this one in "two": experiments of a rollout must be in one layer`
	if c := conditionOf(x.exp("b"), v1alpha1.ConditionStalled); c == nil || c.Reason != "LayerMismatch" || c.Message != want {
		t.Errorf("stalled: %+v, want %q", c, want)
	}
	x.begin("c", in("one", 10), func(e *v1alpha1.Experiment) { e.Spec.Variants[1].Name = "a-1" })
	x.look("c")
	if st := x.exp("c").Status; st.Reason != "VariantNameTaken" || len(st.Allocation) > 0 {
		t.Errorf("two variants of one name: %s: %s", st.Reason, st.Message)
	}
}

// TestRivals: two processes that each begin an experiment never give a bucket to both, wherever the one is overtaken by the
// other between two of its calls to the API.
func TestRivals(t *testing.T) {
	long(t)
	x := newTrials(t)
	x.second()
	o := x.o
	o.Client, o.Live = x.client, x.client // nothing listens to the other process
	r, err := controller.New(o)
	if err != nil {
		t.Fatal(err)
	}
	other := r.Experiments()
	turn := func(name string) {
		t.Helper()
		if _, err := other.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: x.ns, Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		for at, last := 1, false; !last; at++ {
			a, b := x.begin("a", in("fleet", 20)), x.begin("b", in("fleet", 20), of("thermostat"))
			calls := 0
			x.tap.after = func(string) {
				if calls++; calls == at {
					turn(order[1])
				}
			}
			x.look(order[0])
			x.tap.after = nil
			last = calls < at
			for range 2 {
				x.look("a")
				x.checkLayers(nil)
				turn("b")
				x.checkLayers(nil)
			}
			running := 0
			for _, e := range []*v1alpha1.Experiment{x.exp("a"), x.exp("b")} {
				if e.Status.State == v1alpha1.ExperimentRunning {
					running++
				}
			}
			if running != 1 {
				t.Errorf("%v overtaken after call %d: %d experiments run, want one", order, at, running)
			}
			for _, e := range []*v1alpha1.Experiment{a, b} {
				if err := x.client.Delete(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestExperimentCrash kills the process before and after calls to the API, one in eight by the draw of a seed, again and
// again for the whole length of an experiment. What the next ones find out is the same, bit for bit.
func TestExperimentCrash(t *testing.T) {
	long(t)
	x := newTrials(t)
	x.begin("models")
	want := x.play(1, 0)
	if want.Verdict != "Winner" {
		t.Fatalf("the story ends with %s (%s): %s", want.Verdict, want.Reason, want.Message)
	}
	seeds := uint64(2)
	if *chaos {
		seeds = 60
	}
	for seed := range seeds {
		if diff := cmp.Diff(conclusions(want), conclusions(x.play(seed, 0.05))); diff != "" {
			t.Errorf("seed %d (-uninterrupted +interrupted):\n%s", seed, diff)
		}
	}
}

// play tells the story of the experiment "models" from its beginning, with as many deaths of the process as the draw says.
func (x *trials) play(seed uint64, deaths float64) v1alpha1.ExperimentStatus {
	x.t.Helper()
	x.forget("models")
	draw, died := rand.New(rand.NewPCG(seed, 0)), 0
	hook := func(string) error {
		if draw.Float64() < deaths {
			died++
			panic(crash{})
		}
		return nil
	}
	x.tap.fail, x.tap.after = hook, func(call string) { _ = hook(call) }
	defer func() { x.tap.fail, x.tap.after = nil, nil }()
	for range 600 {
		if e := x.exp("models"); over(e) {
			if x.t.Logf("%d deaths", died); deaths > 0 && died < 10 {
				x.t.Errorf("seed %d: the process died %d times: that proves little", seed, died)
			}
			return e.Status
		}
		x.survive()
	}
	x.t.Fatalf("the story does not end: %+v", x.exp("models").Status)
	return v1alpha1.ExperimentStatus{}
}

// forget begins anew with the same objects, so that every story has the same buckets.
func (x *trials) forget(name string) {
	x.t.Helper()
	x.clock = epoch.Add(10*time.Minute + 3*time.Second)
	e := x.exp(name)
	e.Status = v1alpha1.ExperimentStatus{}
	if err := x.client.Status().Update(x.t.Context(), e); err != nil {
		x.t.Fatal(err)
	}
	x.editStatus(func(st *v1alpha1.RolloutStatus) { st.Experiments = nil })
	x.reboot()
	x.turn()
}

// conclusions are what an experiment found out, without the instants at which it did.
func conclusions(st v1alpha1.ExperimentStatus) []string {
	out := []string{st.Verdict, st.Winner, st.Reason, st.Message, st.SampleRatio}
	for _, v := range st.Variants {
		out = append(out, fmt.Sprintf("%+v", v))
	}
	return out
}

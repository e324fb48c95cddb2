package controller_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// blueGreen is a preview that somebody ends, and one step for everybody.
func blueGreen(ro *v1alpha1.Rollout) {
	d := func(s time.Duration) metav1.Duration { return metav1.Duration{Duration: s} }
	ro.Spec.Strategy = &v1alpha1.StrategySpec{Preview: &v1alpha1.PreviewSpec{Hold: d(time.Minute), Approval: "Manual"}}
	ro.Spec.Steps = []v1alpha1.StepSpec{{Weight: 100, Hold: d(2 * time.Minute)}}
	ro.Spec.Gates = nil
	withAlerts(ro)
}

// pinned lists the subsets that testers of a variant meet.
func (w *world) pinned(variant string) []string { return w.leads("pin-" + variant) }

// leads lists the subsets that a route leads to.
func (w *world) leads(name string) []string {
	w.t.Helper()
	all, _, _ := unstructured.NestedSlice(w.route().Object, "spec", "http")
	var found []string
	for _, h := range all {
		r, _ := h.(map[string]any)
		if r["name"] != name {
			continue
		}
		to, _, _ := unstructured.NestedSlice(r, "route")
		for _, d := range to {
			one, _ := d.(map[string]any)
			subset, _, _ := unstructured.NestedString(one, "destination", "subset")
			found = append(found, subset)
		}
	}
	return found
}

// TestCohort: a cohort meets the new version from the preview to the end of the run, and nobody else by it.
func TestCohort(t *testing.T) {
	w := newWorld(t, blueGreen, func(ro *v1alpha1.Rollout) {
		ro.Spec.Strategy.Preview.Cohort = &v1alpha1.CohortSpec{Header: "x-fleet", Values: []string{"works"}}
	})
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	if w.leads("canary-cohort") != nil {
		t.Error("a cohort is sent somewhere at rest")
	}
	w.deploy("v2", true)
	w.want("v2")
	w.until("asked", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "AwaitingPromotion" })
	if got := w.leads("canary-cohort"); !slices.Equal(got, []string{"v2"}) || len(w.canary()) != 0 {
		t.Errorf("in the preview the cohort meets %v, and %d buckets the canary; want v2 and none", got, len(w.canary()))
	}
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	if got := w.leads("canary-cohort"); got != nil {
		t.Errorf("after an abort the cohort meets %v", got)
	}
}

// TestPreviewHosts: at a preview host one meets the new version while there is one, and the stable one else.
func TestPreviewHosts(t *testing.T) {
	w := newWorld(t, blueGreen, func(ro *v1alpha1.Rollout) {
		ro.Spec.Service.Hosts, ro.Spec.Service.Gateways = []string{"predict.example.com"}, []string{"edge/public"}
		ro.Spec.Strategy.Preview.Hosts = []string{"preview.example.com"}
	})
	enters := func() {
		t.Helper()
		hosts, _, _ := unstructured.NestedStringSlice(w.route().Object, "spec", "hosts")
		if !slices.Contains(hosts, "preview.example.com") {
			t.Errorf("the preview host is none of %v", hosts)
		}
	}
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	enters()
	w.deploy("v2", true)
	w.want("v2")
	w.until("asked", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "AwaitingPromotion" })
	if got := w.leads("canary-hosts"); !slices.Equal(got, []string{"v2"}) || len(w.canary()) != 0 {
		t.Errorf("in the preview the host leads to %v, and %d buckets to the canary; want v2 and none", got, len(w.canary()))
	}
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	if got := w.leads("canary-hosts"); got != nil {
		t.Errorf("after an abort the preview host leads to %v", got)
	}
	enters()
}

// TestAdmission: nobody who was not asked is led to a version that cannot answer: not before it is ready, and no longer once it is not.
func TestAdmission(t *testing.T) {
	w := newWorld(t, blueGreen, func(ro *v1alpha1.Rollout) {
		ro.Spec.Service.Hosts, ro.Spec.Service.Gateways = []string{"predict.example.com"}, []string{"edge/public"}
		ro.Spec.Strategy.Preview.Hosts = []string{"preview.example.com"}
		ro.Spec.Strategy.Preview.Cohort = &v1alpha1.CohortSpec{Header: "x-fleet", Values: []string{"works"}}
	})
	meets := func(want ...string) {
		t.Helper()
		hosts, _, _ := unstructured.NestedStringSlice(w.route().Object, "spec", "hosts")
		if got := w.leads("canary-cohort"); !slices.Equal(got, want) || !slices.Equal(w.leads("canary-hosts"), want) || !slices.Contains(hosts, "preview.example.com") {
			t.Errorf("%s: the cohort meets %v, the preview host, of %v, %v; want %v", w.get().Status.Reason, got, hosts, w.leads("canary-hosts"), want)
		}
	}
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.want("v2")
	w.turn()
	meets()
	w.until("waiting for the canary", saying("CanaryNotReady"))
	meets()
	w.deploy("v2", true)
	w.until("previewed", saying("Previewing"))
	meets("v2")
	if !slices.Equal(w.pinned("canary"), []string{"v2"}) {
		t.Errorf("testers meet %v, want v2", w.pinned("canary"))
	}
	w.deploy("v2", false)
	w.turn()
	meets()
	w.deploy("v2", true)
	w.until("asked", saying("AwaitingPromotion"))
	meets("v2")
	w.ask(v1alpha1.ActionPromote)
	w.turn()
	w.deploy("v2", false)
	w.turn()
	meets("v2") // as all units do
}

// TestBlueGreen: testers first, then everybody at once by one write, and everybody back by one.
func TestBlueGreen(t *testing.T) {
	w := newWorld(t, blueGreen)
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.want("v2")
	w.until("waiting for the canary", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "CanaryNotReady" })
	w.clock = w.clock.Add(90 * time.Second) // the version takes its time to come up, which is no preview
	w.turn()
	w.deploy("v2", true)
	began := w.clock
	w.until("previewed", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "Previewing" })
	w.until("asked", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "AwaitingPromotion" })
	if w.clock.Sub(began) < 50*time.Second {
		t.Errorf("the preview lasted %s, want a minute", w.clock.Sub(began))
	}
	if len(w.canary()) != 0 || !slices.Equal(w.pinned("canary"), []string{"v2"}) || w.get().Status.Weight != 0 {
		t.Errorf("in the preview %d buckets see the canary, and testers %v; want none and v2", len(w.canary()), w.pinned("canary"))
	}
	w.clock = w.clock.Add(24 * time.Hour)
	if ro := w.turn(); ro.Status.Reason != "AwaitingPromotion" {
		t.Errorf("%s after a day, want AwaitingPromotion", ro.Status.Reason)
	}
	w.tap.writes()
	w.ask(v1alpha1.ActionPromote)
	ro := w.turn()
	routes := slices.DeleteFunc(w.tap.writes(), func(c string) bool { return c != "apply VirtualService" })
	if len(routes) != 1 || len(w.canary()) != 100 || ro.Status.Weight != 100 {
		t.Errorf("the switch took %d writes of the route and moved %d buckets, want 1 and 100", len(routes), len(w.canary()))
	}
	w.ask(v1alpha1.ActionAbort)
	w.tap.writes()
	w.turn()
	if writes := w.tap.writes(); writes[0] != "apply VirtualService" || len(w.canary()) != 0 || len(onlyOther(w.targets(), "v1")) != 0 {
		t.Errorf("%d buckets see the canary after %v, want none after one write", len(w.canary()), writes)
	}
	w.ask(v1alpha1.ActionRetry)
	w.until("asked again", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "AwaitingPromotion" })
	w.ask(v1alpha1.ActionPromote)
	switched := w.clock
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	if kept := w.clock.Sub(switched); kept < 2*time.Minute {
		t.Errorf("the way back was kept for %s, want 2m", kept)
	}
}

// shadowed copies a tenth of the requests for a minute at least, before the first step. One gate can judge copies, one cannot.
func shadowed(ro *v1alpha1.Rollout) {
	ro.Spec.Strategy = &v1alpha1.StrategySpec{Shadow: &v1alpha1.ShadowSpec{Percent: 10, Hold: metav1.Duration{Duration: time.Minute}}}
	ro.Spec.Gates = append(ro.Spec.Gates, v1alpha1.GateSpec{Name: "quality", Type: v1alpha1.GateMean, Query: &v1alpha1.MeanQuery{Sum: "a", Count: "b"}})
}

// copied is a source of evidence that has seen copies only where it was asked for them.
func copied(counts func(time.Time) map[string]rollout.Counts) func(rollout.Question, time.Time) map[string]rollout.Counts {
	return func(q rollout.Question, start time.Time) map[string]rollout.Counts {
		if !q.Copies {
			return nil
		}
		return counts(start)
	}
}

// mirrored lists the routes that are mirrored, with whom to and how much.
func (w *world) mirrored() map[string]string {
	w.t.Helper()
	found := map[string]string{}
	all, _, _ := unstructured.NestedSlice(w.route().Object, "spec", "http")
	for _, h := range all {
		r, _ := h.(map[string]any)
		if subset, ok, _ := unstructured.NestedString(r, "mirror", "subset"); ok {
			percent, _, _ := unstructured.NestedFieldNoCopy(r, "mirrorPercentage", "value")
			found[fmt.Sprint(r["name"])] = fmt.Sprintf("%s %v%%", subset, percent)
		}
	}
	return found
}

func saying(reason string) func(*v1alpha1.Rollout) bool {
	return func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == reason }
}

// inShadow returns a world in which v1 is stable and v2 gets copies.
func inShadow(t *testing.T, counts func(time.Time) map[string]rollout.Counts, edit ...func(*v1alpha1.Rollout)) *world {
	t.Helper()
	w := newWorld(t, append([]func(*v1alpha1.Rollout){shadowed}, edit...)...)
	w.source.answer = copied(counts)
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.want("v2")
	w.until("waiting for the canary", saying("CanaryNotReady"))
	if got := w.mirrored(); len(got) != 0 {
		t.Errorf("%v are mirrored to a version that does not run", got)
	}
	w.deploy("v2", true)
	ro := w.until("shadowed", saying("Shadowing"))
	want := map[string]string{"stable-buckets": "v2 10%", "weighted": "v2 10%"}
	if diff := cmp.Diff(want, w.mirrored()); diff != "" || len(w.canary()) != 0 || ro.Status.Mirror != 10 || ro.Status.Weight != 0 {
		t.Errorf("in the shadow %d buckets see the canary, the status says %d %%, and mirrored are: -want, +got:\n%s", len(w.canary()), ro.Status.Mirror, diff)
	}
	return w
}

// TestShadow: copies from when the canary is ready, for the hold and until the gates that can judge them pass; then the first
// step, without copies. What was seen of copies is no evidence of the step.
func TestShadow(t *testing.T) {
	w := inShadow(t, healthy)
	began := w.clock
	ro := w.until("at the first step", atStep(1))
	if w.clock.Sub(began) < 50*time.Second || ro.Status.Mirror != 0 || len(w.mirrored()) != 0 || len(w.canary()) != 5 {
		t.Errorf("after %s: %d buckets, status %d %%, mirrored %v; want 5 buckets after a minute, and no mirror",
			w.clock.Sub(began), len(w.canary()), ro.Status.Mirror, w.mirrored())
	}
	if asked := w.source.asked; !asked[len(asked)-1].Copies {
		t.Error("the last question before the first step was not of copies")
	}
	ro = w.until("without data", saying("NoData"))
	if asked := w.source.asked; ro.Status.Step != 1 || asked[len(asked)-1].Copies {
		t.Errorf("at step %d asked of copies: %t", ro.Status.Step, asked[len(asked)-1].Copies)
	}
	if repaired := slices.ContainsFunc(w.events, func(e string) bool { return strings.Contains(e, "DriftRepaired") }); repaired {
		t.Errorf("its own mirror was taken for somebody's edit: %q", w.events)
	}
}

// TestShadowIsShown: how much is copied is a metric, as the weight is.
func TestShadowIsShown(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := inShadow(t, healthy)
	w.o.Metrics = controller.NewMetrics(registry)
	w.restart()
	w.turn()
	if got := scrape(t, registry)["siskin_rollout_mirror_ratio"]; got != 0.1 {
		t.Errorf("in the shadow the share of copies is %v, want 0.1", got)
	}
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	if got, shown := scrape(t, registry)["siskin_rollout_mirror_ratio"]; got != 0 || !shown {
		t.Errorf("after an abort it is %v (shown: %t), want 0", got, shown)
	}
}

// TestUntoldIsNotNoData: a gate that a shadow or a cohort tells nothing is not one without data, about which an alert wakes people.
func TestUntoldIsNotNoData(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := inShadow(t, nothing)
	w.o.Metrics = controller.NewMetrics(registry)
	w.restart()
	w.until("without data", saying("NoData"))
	got := scrape(t, registry)
	for gate, want := range map[string]float64{"errors": 1, "quality": 0} {
		if v, shown := got["siskin_rollout_gate_verdict "+gate+" NoData"]; v != want || !shown {
			t.Errorf("in the shadow gate %q has NoData %v (shown: %t), want %v", gate, v, shown, want)
		}
	}
}

// TestShadowAborted: one write takes the copies away.
func TestShadowAborted(t *testing.T) {
	w := inShadow(t, healthy)
	w.ask(v1alpha1.ActionAbort)
	w.tap.writes()
	ro := w.turn()
	if writes := w.tap.writes(); writes[0] != "apply VirtualService" || len(w.mirrored()) != 0 || ro.Status.Mirror != 0 || ro.Status.RejectedVersion != "v2" {
		t.Errorf("after %v mirrored are %v, and rejected is %q", writes, w.mirrored(), ro.Status.RejectedVersion)
	}
}

// TestShadowHarmful: errors of copies reject a version that nobody has met.
func TestShadowHarmful(t *testing.T) {
	w := inShadow(t, harmful)
	ro := w.until("rolled back", ended(v1alpha1.OutcomeRolledBack))
	if last := ro.Status.LastRun; last.Reason != "ErrorsHarm" || len(w.mirrored()) != 0 {
		t.Errorf("ended by %s, mirrored are %v; want ErrorsHarm and none", last.Reason, w.mirrored())
	}
	if grew := slices.ContainsFunc(w.events, func(e string) bool { return strings.Contains(e, "Advance") }); grew {
		t.Errorf("a unit met it: %q", w.events)
	}
}

// TestShadowWithoutData: a gate that could judge copies and sees none holds the shadow, and pauses it at the cap. One that
// cannot says so, and holds nothing.
func TestShadowWithoutData(t *testing.T) {
	w := inShadow(t, nothing)
	ro := w.until("without data", saying("NoData"))
	if q := ro.Status.Gates[1]; q.Name != "quality" || q.Verdict != "NoData" || q.Reason != "NotJudgedOnCopies" {
		t.Errorf("quality says %s (%s), want NoData (NotJudgedOnCopies)", q.Verdict, q.Reason)
	}
	ro = w.until("paused", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run != nil && ro.Status.Run.Paused != "" })
	if ro.Status.Step != 0 || ro.Status.Mirror != 10 || !strings.Contains(ro.Status.Message, `"errors"`) {
		t.Errorf("paused at step %d with %d %% copied: %s", ro.Status.Step, ro.Status.Mirror, ro.Status.Message)
	}
	w.ask(v1alpha1.ActionPromote)
	if ro = w.turn(); ro.Status.Step != 1 || len(w.mirrored()) != 0 {
		t.Errorf("promoted by request: step %d, mirrored %v", ro.Status.Step, w.mirrored())
	}
}

// TestShadowAndPreview last until the longer hold is over, at the same time; whoever approves ends both.
func TestShadowAndPreview(t *testing.T) {
	w := inShadow(t, healthy, func(ro *v1alpha1.Rollout) {
		ro.Spec.Strategy.Preview = &v1alpha1.PreviewSpec{Hold: metav1.Duration{Duration: 2 * time.Minute}, Approval: "Manual"}
	})
	if got := w.pinned("canary"); !slices.Equal(got, []string{"v2"}) {
		t.Errorf("testers meet %v in the shadow, want v2", got)
	}
	w.until("previewed", saying("Previewing"))
	w.until("asked", saying("AwaitingPromotion"))
	if len(w.mirrored()) == 0 {
		t.Error("the copies ended with their hold, and the preview goes on")
	}
	w.ask(v1alpha1.ActionPromote)
	if ro := w.turn(); ro.Status.Step != 1 || len(w.mirrored()) != 0 {
		t.Errorf("approved: step %d, mirrored %v", ro.Status.Step, w.mirrored())
	}
}

// TestShadowRepaired: a foreign edit of the mirror is drift.
func TestShadowRepaired(t *testing.T) {
	w := inShadow(t, healthy)
	w.turn() // sees the copies in the mesh
	route := w.route()
	all, _, _ := unstructured.NestedSlice(route.Object, "spec", "http")
	for _, h := range all {
		delete(h.(map[string]any), "mirror")
		delete(h.(map[string]any), "mirrorPercentage")
	}
	if err := unstructured.SetNestedSlice(route.Object, all, "spec", "http"); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Update(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	w.turn()
	if len(w.mirrored()) != 2 || !slices.ContainsFunc(w.events, func(e string) bool { return strings.Contains(e, "DriftRepaired") }) {
		t.Errorf("mirrored are %v after a foreign edit; events %q", w.mirrored(), w.events)
	}
}

// controlled keeps half of a cohort on the stable version, and tells its requests from others.
func controlled(ro *v1alpha1.Rollout) {
	ro.Spec.Strategy = &v1alpha1.StrategySpec{Preview: &v1alpha1.PreviewSpec{
		Hold:   metav1.Duration{Duration: time.Minute},
		Cohort: &v1alpha1.CohortSpec{Header: "x-fleet", Values: []string{"works"}, Control: 50, Label: "siskin_cohort"},
	}}
}

// cohortBuckets are the buckets of the cohort that the route sends to the canary.
func (w *world) cohortBuckets() []int {
	w.t.Helper()
	all, _, _ := unstructured.NestedSlice(w.route().Object, "spec", "http")
	var set []int
	for _, h := range all {
		r, _ := h.(map[string]any)
		matches, _, _ := unstructured.NestedSlice(r, "match")
		for _, m := range matches {
			match, _ := m.(map[string]any)
			pattern, found, _ := unstructured.NestedString(match, "headers", "x-siskin-bucket", "regex")
			if fleet, _, _ := unstructured.NestedString(match, "headers", "x-fleet", "exact"); r["name"] != "canary-cohort" || !found || fleet != "works" {
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

// TestCohortControl: half of the cohort's buckets meet the canary, the gates compare the halves until they pass, and the steps
// compare everybody else; whoever met the canary in the preview stays there while the weight grows.
func TestCohortControl(t *testing.T) {
	within := map[bool]int{}
	var w *world
	w = newWorld(t, controlled)
	w.source.answer = func(q rollout.Question, start time.Time) map[string]rollout.Counts {
		within[q.Within]++
		if q.Cohort != "siskin_cohort" {
			t.Errorf("asked with the cohort's label %q", q.Cohort)
		}
		if st := w.get().Status; q.Within != (st.Step == 0) {
			t.Errorf("at step %d asked for the cohort: %t", st.Step, q.Within)
		}
		return healthy(start)
	}
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.deploy("v2", true)
	w.want("v2")
	w.until("previewed", saying("Previewing"))
	first := w.cohortBuckets()
	if len(first) != 50 || len(w.canary()) != 0 {
		t.Errorf("in the preview %d of the cohort's buckets meet the canary, and %d of all; want 50 and none", len(first), len(w.canary()))
	}
	for step := int32(1); step <= 3; step++ {
		w.until("at the next step", atStep(step))
		if got := w.cohortBuckets(); !slices.Equal(got, first) {
			t.Errorf("at step %d the cohort's buckets on the canary are %v, want %v", step, got, first)
		}
		if got := w.canary(); step == 3 && !slices.Equal(got, first) {
			t.Errorf("at weight 50 the canary has %v, want those that the cohort began with: %v", got, first)
		}
	}
	if within[true] == 0 || within[false] == 0 {
		t.Errorf("asked for the cohort %d times, and for the others %d times", within[true], within[false])
	}
	if got := w.restricted(); got != "" {
		t.Errorf("Restricted: %q", got)
	}
	w.until("promoted", ended(v1alpha1.OutcomePromoted))
	if w.leads("canary-cohort") != nil {
		t.Error("a cohort is sent somewhere after the promotion")
	}
}

// TestCohortHarm: what harms the cohort ends the run before anybody else has met the canary; half of a cohort that gives no
// evidence holds it.
func TestCohortHarm(t *testing.T) {
	for name, tc := range map[string]struct {
		counts func(time.Time) map[string]rollout.Counts
		is     func(*v1alpha1.Rollout) bool
	}{
		"Harmful": {harmful, ended(v1alpha1.OutcomeRolledBack)},
		"Silent":  {nothing, func(ro *v1alpha1.Rollout) bool { return ro.Status.Run != nil && ro.Status.Run.Paused != "" }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, controlled)
			w.source.counts = tc.counts
			w.deploy("v1", true)
			w.until("stable", stableOn("v1"))
			w.deploy("v2", true)
			w.want("v2")
			ro := w.until(name, func(ro *v1alpha1.Rollout) bool {
				if ro.Status.Step > 0 {
					t.Fatalf("reached step %d: %s", ro.Status.Step, ro.Status.Message)
				}
				return tc.is(ro)
			})
			if len(w.canary()) != 0 {
				t.Errorf("%d buckets met the canary: %s", len(w.canary()), ro.Status.Message)
			}
		})
	}
}

// TestPreviewHostsCompared: gates compare who knows a host with others, and a condition says so; alerts compare nobody.
func TestPreviewHostsCompared(t *testing.T) {
	for name, tc := range map[string]struct {
		gates func(*v1alpha1.Rollout)
		want  string
	}{
		"Errors": {func(*v1alpha1.Rollout) {}, "gates compare who knows strategy.preview.hosts with other users: their requests count for the new version"},
		"Alerts": {blueGreen, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.gates, func(ro *v1alpha1.Rollout) {
				ro.Spec.Service.Gateways = []string{"edge/public"}
				ro.Spec.Strategy = &v1alpha1.StrategySpec{Preview: &v1alpha1.PreviewSpec{Hosts: []string{"preview.example.com"}}}
			})
			w.deploy("v1", true)
			w.until("stable", stableOn("v1"))
			if got := w.restricted(); got != tc.want {
				t.Errorf("Restricted: got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestCohortUntold: without a label the gates compare a cohort with others, and a condition says so.
func TestCohortUntold(t *testing.T) {
	w := running(t, 1, controlled, func(ro *v1alpha1.Rollout) {
		ro.Spec.Strategy.Preview.Cohort.Control, ro.Spec.Strategy.Preview.Cohort.Label = 0, ""
	})
	if got := w.restricted(); !strings.Contains(got, "gates compare the cohort with other users") {
		t.Errorf("Restricted: %q, want that the cohort cannot be told from others", got)
	}
	if got := w.cohortBuckets(); got != nil {
		t.Errorf("without a control the buckets %v are asked for", got)
	}
}

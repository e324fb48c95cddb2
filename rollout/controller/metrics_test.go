package controller_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// scrape returns the value of every series by its name and label values.
func scrape(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			words := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				if l.GetName() != "namespace" && l.GetName() != "rollout" {
					words = append(words, l.GetValue())
				}
			}
			out[strings.Join(words, " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

// measured is a rollout at its first step, and where its metrics are.
func measured(t *testing.T) (*world, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	w := running(t, 1)
	w.o.Metrics = controller.NewMetrics(registry)
	w.restart()
	w.turn()
	return w, registry
}

// TestMetrics: the numbers behind a decision are exported, and none speaks of a run or a rollout that is gone.
func TestMetrics(t *testing.T) {
	w, registry := measured(t)
	expect := func(want map[string]float64) {
		t.Helper()
		got := scrape(t, registry)
		for series, value := range want {
			if v, ok := got[series]; !ok || v != value {
				t.Errorf("%s: got %v (%t), want %v", series, v, ok, value)
			}
		}
	}
	started := float64(w.get().Status.Run.StepStartedAt.UnixMicro()) / 1e6
	expect(map[string]float64{
		"siskin_rollout_weight": 5, "siskin_rollout_step": 1, "siskin_rollout_info v2 v1": 1,
		"siskin_rollout_gate_verdict errors Wait": 1, "siskin_rollout_gate_verdict errors Harm": 0,
		"siskin_rollout_gate_limit_ratio errors": 1.5, "siskin_rollout_step_started_timestamp_seconds": started,
	})
	w.ask(v1alpha1.ActionPause)
	w.turn()
	expect(map[string]float64{
		"siskin_rollout_paused PausedByRequest": 1, "siskin_rollout_decisions_total Pause PausedByRequest": 1,
	})
	w.source.err = errors.New("connection refused")
	w.turn()
	expect(map[string]float64{"siskin_rollout_evidence_failures_total": 1})
	if err := w.client.Delete(t.Context(), w.route()); err != nil {
		t.Fatal(err)
	}
	w.turn()
	expect(map[string]float64{"siskin_rollout_drift_repairs_total": 1})
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	expect(map[string]float64{
		"siskin_rollout_weight": 0, "siskin_rollout_info  v1": 1, "siskin_rollout_runs_total RolledBack": 1,
		"siskin_rollout_decisions_total Rollback Aborted": 1, "siskin_rollout_gate_limit_ratio errors": 1.5,
	})
	without(t, registry, "siskin_rollout_paused", "siskin_rollout_step_started_timestamp_seconds", "siskin_rollout_last_block_timestamp_seconds")
	w.ask(v1alpha1.ActionRetry)
	w.turn()
	without(t, registry, "siskin_rollout_gate_verdict", "siskin_rollout_gate_limit_ratio")
	w.ask(v1alpha1.ActionAbort)
	w.turn() // or the rollout would be held until its traffic is back
	if err := w.client.Delete(t.Context(), w.get()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.r.Reconcile(t.Context(), ctrl.Request{NamespacedName: w.key()}); err != nil {
		t.Fatal(err)
	}
	left := scrape(t, registry)
	delete(left, "siskin_rollout_decision_duration_seconds")
	if len(left) > 0 {
		t.Errorf("series of a rollout that is gone: %v", left)
	}
}

// TestFailedRollback: a rollback whose route cannot be written is seen by whoever is to act, with what the alert goes by.
func TestFailedRollback(t *testing.T) {
	w, registry := measured(t)
	w.source.counts = harmful
	w.tap.fail = failing("apply VirtualService")
	failed := 0
	for range 30 {
		if w.try() != nil {
			failed++
			w.clock = w.clock.Add(time.Second)
		}
	}
	if failed < 10 || len(w.canary()) != 5 {
		t.Fatalf("%d turns failed, and %d buckets see the canary; want failures, and 5", failed, len(w.canary()))
	}
	got := scrape(t, registry)
	if got["siskin_rollout_gate_verdict errors Harm"] != 1 || got["siskin_rollout_info v2 v1"] != 1 {
		t.Errorf("the metrics do not say that there is harm, and that the run is not over: %v", got)
	}
	told := slices.DeleteFunc(slices.Clone(w.events), func(e string) bool { return !strings.HasPrefix(e, "true RollbackFailed applying VirtualService") })
	if len(told) != 1 {
		t.Errorf("told %d times within a minute that the rollback fails, want once: %q", len(told), w.events)
	}
	w.tap.fail = nil
	w.turn()
	if got := scrape(t, registry); got["siskin_rollout_info v2 v1"] != 0 || got["siskin_rollout_info  v1"] != 1 {
		t.Errorf("after the rollback the metrics still say that the run is not over: %v", got)
	}
}

func without(t *testing.T, g prometheus.Gatherer, names ...string) {
	t.Helper()
	for series := range scrape(t, g) {
		if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(series, n) }) {
			t.Errorf("series %q is still there", series)
		}
	}
}

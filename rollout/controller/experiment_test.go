package controller_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// TestExperiment tells the whole story: buckets are allotted, the routes show them, the better variant wins with an
// interval, and all units see the stable version again.
func TestExperiment(t *testing.T) {
	x := newTrials(t)
	x.begin("models")
	e := x.untilExp("models", "in force", inForce)
	allocation := map[string][]int{}
	for _, a := range e.Status.Allocation {
		allocation[a.Name] = setOf(a.Buckets)
		if len(allocation[a.Name]) != 25 {
			t.Errorf("variant %q has %d buckets, want 25", a.Name, len(allocation[a.Name]))
		}
	}
	shown := x.owners("coolant")
	delete(shown, "stable")
	if diff := cmp.Diff(allocation, shown); diff != "" {
		t.Errorf("buckets in the status (-) and in the route (+):\n%s", diff)
	}
	e = x.untilExp("models", "over", over)
	t.Logf("%+v", e.Status)
	if e.Status.Verdict != "Winner" || e.Status.Winner != "deeper" {
		t.Errorf("got %s %q, want the winner deeper", e.Status.Verdict, e.Status.Winner)
	}
	_ = v1alpha1.ExperimentEnded
}

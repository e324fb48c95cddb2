package controller

import (
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/rollout"
)

// lookAtSpread finds out whether the mesh has told every proxy of the objects as they stand. The subsets of a new version
// come before any unit is sent to them; where the mesh does not say how far they have got, they get a moment.
func (r *Reconciler) lookAtSpread(p *pass) {
	if p.spreading != "" {
		return // the objects themselves do not stand yet
	}
	late := !p.now.Before(p.run.StepStarted.Add(p.plan.Settles()))
	for _, o := range p.live {
		message, looked := spreading(o)
		if message == "" || (late && !looked) {
			continue // nobody who is late by so much writes the status any more
		}
		p.spreading = message
	}
	switch {
	case p.spreading == "":
		p.run.Spreading = rollout.Arrived(p.run.Spreading, p.now)
	case p.run.Step == 0: // which is looked at every second
		p.run.Spreading = rollout.Awaited(p.run.Spreading, p.run.Since(), p.now)
	default:
		p.run.Spreading = p.now
	}
	made := p.run.Started
	if p.run.Shown.After(made) {
		made = p.run.Shown
	}
	if p.spreading == "" && p.run.Step == 0 && p.now.Before(made.Add(r.Settle)) {
		p.spreading = "the new version's subset has just been made"
	}
}

// spreading returns what the mesh says of an object that not every proxy has yet: Istio's distribution status, the condition
// Reconciled of the generation that status.observedGeneration names. It is empty where every proxy has the object and where
// nobody writes such a status. Looked says that the mesh speaks of the object as it stands.
func spreading(o *unstructured.Unstructured) (message string, looked bool) {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		m, ok := c.(map[string]any)
		if !ok || m["type"] != "Reconciled" {
			continue
		}
		switch {
		case generation(o.Object, "status", "observedGeneration") < o.GetGeneration():
			return fmt.Sprintf("the mesh has not yet looked at generation %d of %s %q", o.GetGeneration(), o.GetKind(), o.GetName()), false
		case m["status"] != "True":
			return fmt.Sprintf("not every proxy has %s %q: %v", o.GetKind(), o.GetName(), m["message"]), true
		}
	}
	return "", true
}

// generation reads a generation, which Istio has written as a number and as a string; 0 when there is none.
func generation(object map[string]any, path ...string) int64 {
	v, _, _ := unstructured.NestedFieldNoCopy(object, path...)
	n, err := strconv.ParseInt(fmt.Sprint(v), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

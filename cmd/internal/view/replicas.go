package view

import (
	"fmt"
	"time"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// replicas draws the Deployments that follow the run.
func (c *canvas) replicas(ro *v1alpha1.Rollout, now time.Time) {
	if len(ro.Status.Workloads) == 0 {
		return
	}
	c.add("  Replicas")
	for _, w := range ro.Status.Workloads {
		c.wrapped("    ", workload(w, ro.Spec.Service.Name, now))
	}
}

func workload(w v1alpha1.WorkloadStatus, service string, now time.Time) string {
	text := w.Version
	if w.Service != service {
		text += " of " + w.Service
	}
	text += ":"
	if w.Name != "" {
		text += fmt.Sprintf(" %d of %d available", w.Available, w.Replicas)
	}
	if w.Wanted != w.Replicas {
		text += fmt.Sprintf(", %d wanted", w.Wanted)
	}
	if w.LeftAt != nil && !now.IsZero() {
		text += fmt.Sprintf(", left %s ago", age(now, w.LeftAt.Time))
	}
	if w.Message == "" {
		return text
	}
	if w.Name != "" {
		text += ";"
	}
	return text + " " + paint(yellow, w.Message)
}

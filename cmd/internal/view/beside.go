package view

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// restricted draws what of the spec is not in force as it is written.
func (c *canvas) restricted(ro *v1alpha1.Rollout) {
	r := meta.FindStatusCondition(ro.Status.Conditions, v1alpha1.ConditionRestricted)
	if r == nil || r.Status != metav1.ConditionTrue {
		return
	}
	c.add("  Restricted (" + r.Reason + ")")
	c.wrapped("    ", r.Message)
}

// experiments draws those that hold buckets of the rollout.
func (c *canvas) experiments(all []v1alpha1.RolloutExperiment) {
	if len(all) == 0 {
		return
	}
	c.add("  Experiments")
	for _, e := range all {
		c.wrapped("    ", experiment(e))
	}
}

func experiment(e v1alpha1.RolloutExperiment) string {
	var shown []string
	for _, v := range e.Variants {
		if n := buckets(v.Buckets); n > 0 {
			shown = append(shown, fmt.Sprintf("%s (%s) %d", v.Name, v.Version, n))
		}
	}
	text := e.Name + ": "
	switch {
	case len(shown) > 0:
		text += "buckets of 100: " + strings.Join(shown, ", ")
	case e.Reason != "":
		text += "not shown (" + e.Reason + ")"
	default:
		text += "not shown"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// showing names an experiment that holds buckets, "" when none does: a new run waits until it has ended.
func showing(all []v1alpha1.RolloutExperiment) string {
	for _, e := range all {
		for _, v := range e.Variants {
			if v.Buckets != "" {
				return e.Name
			}
		}
	}
	return ""
}

// buckets counts a list such as "03,17,42".
func buckets(list string) int {
	if list == "" {
		return 0
	}
	return strings.Count(list, ",") + 1
}

package controller

import (
	"fmt"

	"github.com/siskin-dev/siskin/rollout"
)

// Whether the canary has the replicas that a weight needs.

// uncounted says why nobody knows what the canary is ready for: the Deployments could not be listed, or the first plan is made in
// this pass.
func (p *pass) uncounted() error {
	if p.scaling.unread != nil {
		return p.scaling.unread
	}
	for _, service := range appsOf(p.ro) {
		if p.workload(workloadKey{service, p.ro.Status.CanaryVersion}) == nil {
			return fmt.Errorf("the replicas of version %q of service %q are not yet planned", p.ro.Status.CanaryVersion, service)
		}
	}
	return nil
}

// lacks says what is missing of the replicas of the canary that a weight needs; empty when nothing is.
func (p *pass) lacks(weight int) string {
	for _, service := range appsOf(p.ro) {
		key := workloadKey{service, p.ro.Status.CanaryVersion}
		found := p.scaling.found[key]
		if len(found) == 0 {
			return fmt.Sprintf("there is no Deployment with the labels app=%s and %s=%s", service, versionLabel(p.ro), key.version)
		}
		available := 0
		for _, d := range found {
			available += number32(d, "status", "availableReplicas")
		}
		w := rollout.Workload{Wanted: int(p.workload(key).Wanted)}
		if need := w.Needs(weight); available < need {
			return fmt.Sprintf("%d of %d replicas of Deployment %q are available, and the weight ahead, %d, needs %d",
				available, w.Wanted, found[0].GetName(), weight, need)
		}
		if weight > p.weightNow() && len(found) > 1 {
			return several(len(found), service, versionLabel(p.ro), key.version)
		}
	}
	return ""
}

// weightNow is the weight that the canary must be able to answer for: the one that it has, or the share of copies that is to
// begin. A promotion by hand asks for one replica and no more.
func (p *pass) weightNow() int {
	switch {
	case p.action() == rollout.AskPromoteFull:
		return 0
	case p.run.Shadowed(p.plan) && p.was.Status.Mirror == 0:
		return p.plan.Shadow.Percent
	}
	return p.run.Weight
}

// weightAhead is the weight that the canary gets next, or the share of copies that it gets before.
func (p *pass) weightAhead() int {
	switch {
	case p.action() == rollout.AskPromoteFull:
		return 0
	case p.run.Step == 0:
		return max(p.plan.Shadow.Percent, p.plan.Steps[0].Weight)
	case p.run.Planned(p.plan) > p.run.Weight:
		return p.run.Planned(p.plan)
	case p.run.Step < len(p.plan.Steps):
		return p.plan.Steps[p.run.Step].Weight
	}
	return 100
}

// several says that it is not one Deployment that runs a version.
func several(n int, service, label, version string) string {
	return fmt.Sprintf("%d Deployments have the labels app=%s and %s=%s: there must be one to be scaled", n, service, label, version)
}

package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// policyOf writes the policy of the spec in the form of mesh.Traffic, without the fields that a rule of the user sets. It is
// nil when nothing is left.
func policyOf(ro *v1alpha1.Rollout, theirs map[string]string) json.RawMessage {
	if ro.Spec.Traffic == nil || ro.Spec.Traffic.Policy == nil {
		return nil
	}
	left := ro.Spec.Traffic.Policy.DeepCopy()
	for field := range theirs {
		switch field {
		case "connectionPool":
			left.ConnectionPool = nil
		case "loadBalancer":
			left.LoadBalancer = nil
		case "outlierDetection":
			left.OutlierDetection = nil
		case "tls":
			left.TLS = nil
		}
	}
	raw, err := json.Marshal(left)
	if err != nil || string(raw) == "{}" {
		return nil // strings, numbers and durations always encode
	}
	return raw
}

// lookAtRules reads which fields of the policy rules of the user set for the service: those stay the user's; and whether one of
// them hashes. When they cannot be read, the subsets are left as they are until they can. Where the watch knows of no such rule, nothing is read;
// one that it has not told of yet will wake the loop.
func (r *Reconciler) lookAtRules(ctx context.Context, p *pass) {
	if !mindsRules(p.ro) {
		return
	}
	// What Siskin wrote carries the label; what is left are a few rules in each namespace.
	kind := ruleKind.GroupVersion().WithKind(ruleKind.Kind + "List")
	var known metav1.PartialObjectMetadataList
	known.SetGroupVersionKind(kind)
	if err := r.Client.List(ctx, &known, client.InNamespace(p.ro.Namespace), unlabelled()); err == nil && len(known.Items) == 0 {
		return
	}
	var list unstructured.UnstructuredList
	list.SetGroupVersionKind(kind)
	if err := r.Live.List(ctx, &list, client.InNamespace(p.ro.Namespace), unlabelled()); err != nil {
		p.blind = fmt.Errorf("listing the DestinationRules of namespace %q: %w", p.ro.Namespace, err)
		return
	}
	p.theirs = map[string]string{}
	for _, rule := range list.Items {
		host, _, _ := unstructured.NestedString(rule.Object, "spec", "host")
		if !names(host, p.ro) {
			continue
		}
		policy, _, _ := unstructured.NestedMap(rule.Object, "spec", "trafficPolicy")
		for field := range policy {
			if p.theirs[field] == "" || rule.GetName() < p.theirs[field] {
				p.theirs[field] = rule.GetName()
			}
		}
		if _, set, _ := unstructured.NestedMap(policy, "loadBalancer", "consistentHash"); set && (p.mixed == "" || rule.GetName() < p.mixed) {
			p.mixed = rule.GetName()
		}
	}
}

// unlabelled selects the objects that Siskin did not write.
func unlabelled() client.ListOption {
	without, err := labels.NewRequirement(v1alpha1.LabelRollout, selection.DoesNotExist, nil)
	if err != nil {
		return client.MatchingLabelsSelector{} // the label is a constant, and everything is more than enough
	}
	return client.MatchingLabelsSelector{Selector: labels.NewSelector().Add(*without)}
}

// names says whether a host, short or whole, is that of the rollout's service.
func names(host string, ro *v1alpha1.Rollout) bool {
	s := mesh.Service{Namespace: ro.Namespace, Name: ro.Spec.Service.Name}
	return strings.EqualFold(host, s.FQDN()) || strings.EqualFold(host, s.Name)
}

// restrict tells by a condition what is not in force as it is written.
func (p *pass) restrict() {
	if p.blind != nil || !p.looked || p.unsure {
		return // what could not be read may still hold
	}
	all := p.restrictions()
	if len(all) == 0 {
		meta.RemoveStatusCondition(&p.ro.Status.Conditions, v1alpha1.ConditionRestricted)
		return
	}
	reason := reasonRestricted
	if len(p.notLimited) > 0 {
		reason = reasonNotLimited
	}
	meta.SetStatusCondition(&p.ro.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionRestricted, Status: metav1.ConditionTrue, Reason: string(reason),
		Message: strings.Join(all, "; "), ObservedGeneration: p.ro.Generation,
	})
}

// compares says whether a gate of the plan compares the two versions.
func compares(p rollout.Plan) bool {
	return slices.ContainsFunc(p.Gates, func(g rollout.Gate) bool { return g.Type != rollout.Alerts })
}

// overruled say what the user's own rules set in the place of the spec.
func (p *pass) overruled() []string {
	var all []string
	if t := p.ro.Spec.Traffic; t != nil && t.Policy != nil {
		for field, set := range map[string]bool{
			"connectionPool": t.Policy.ConnectionPool != nil, "loadBalancer": t.Policy.LoadBalancer != nil,
			"outlierDetection": t.Policy.OutlierDetection != nil, "tls": t.Policy.TLS != nil,
		} {
			if rule := p.theirs[field]; set && rule != "" {
				all = append(all, fmt.Sprintf("traffic.policy.%s is not written: DestinationRule %q sets it for the same host", field, rule))
			}
		}
	}
	if hashes(p.ro) && p.mixed != "" {
		all = append(all, fmt.Sprintf("assignment.hash does not keep every unit: DestinationRule %q sets consistentHash for the same host, and proxies mix the two", p.mixed))
	}
	return all
}

// restrictions say which parts of the spec are not in force as they are written, and why.
func (p *pass) restrictions() []string {
	all := slices.Concat(p.overruled(), p.notLimited, slices.Collect(maps.Values(p.altered)))
	if p.ro.Spec.Assignment != nil {
		for _, s := range mesh.Streams(trafficOf(p.ro)) {
			all = append(all, fmt.Sprintf("assignment does not hold on port %d: a %s connection is drawn by weight, and stays where it is until it ends",
				s.Port.Number, s.Port.Protocol))
		}
	}
	if s := p.ro.Spec.Strategy; s != nil && s.Preview != nil && compares(p.plan) {
		if c := s.Preview.Cohort; c != nil && c.Label == "" {
			all = append(all, "gates compare the cohort with other users: it counts for the new version, and strategy.preview.cohort.label does not tell its requests from others")
		}
		if len(s.Preview.Hosts) > 0 {
			all = append(all, "gates compare who knows strategy.preview.hosts with other users: their requests count for the new version")
		}
	}
	if l := p.ro.Spec.RateLimit; l != nil && l.At == string(mesh.AtWaypoint) {
		all = append(all, "rateLimit may have no effect: Istio does not support an EnvoyFilter at a waypoint, and changes may break it")
	}
	for _, l := range IdleLimits(p.ro) {
		all = append(all, l.Message)
	}
	slices.Sort(all)
	return all
}

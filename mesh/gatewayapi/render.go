// Package gatewayapi writes a mesh.Traffic as a Gateway API HTTPRoute, for gateways and for meshes that follow GAMMA, such
// as Istio's ambient mode.
//
// An HTTPRoute tells versions apart by Services: each version has one of its own (see mesh.Service.Of), which must stand
// before the route names it. The route is bound to the service itself, as a mesh understands it, and to its gateways.
package gatewayapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/siskin-dev/siskin/mesh"
)

// maxVariants is what fits into the 16 rules of an HTTPRoute: two for each variant and one for the rest.
const maxVariants = 7

// Limits say what an HTTPRoute cannot do.
func Limits() mesh.Limits {
	return mesh.Limits{
		Plane: "GatewayAPI",
		Can:   []mesh.Feature{mesh.Split, mesh.HeaderBuckets, mesh.Cohorts, mesh.Exposure, mesh.Variants, mesh.Pins, mesh.Mirrors},
		Most:  maxVariants,
		Why: map[mesh.Feature]string{
			mesh.CookieBuckets: "a rule of an HTTPRoute has at most 16 destinations, and a bucket is drawn from 100; use a bucket header",
			mesh.Variants:      "an HTTPRoute has at most 16 rules, which are enough for 7 variants",
			mesh.RateLimits:    "the Gateway API has no rate limit; limit at the gateway, or use provider Istio",
			mesh.Quotas:        "the Gateway API has no rate limit; limit at the gateway, or use provider Istio",
			mesh.Policies:      "the Gateway API has no such policy; write a DestinationRule for the Services of the versions, or use provider Istio",
			mesh.PreviewHosts:  "the hosts of an HTTPRoute hold for all its rules; preview by header, or use provider Istio",
			mesh.Controls:      "the rule with more conditions wins whatever the order, so who has a pin would meet the cohort's version; use a cohort without a control, or provider Istio",
			mesh.Delegation:    "an HTTPRoute belongs to a Service or a Gateway, not to other routes; use provider Istio",
			mesh.MorePorts:     "the routes are written for one port; use provider Istio",
			mesh.FollowTiers:   "routes for the tiers would need a Service for each of their versions; use provider Istio",
			mesh.RunVersions:   "an HTTPRoute runs nothing; use provider KServe",
			mesh.HashUnits:     "the Gateway API draws each request by weight; use provider Istio",
			mesh.StreamPort:    "an HTTPRoute has no streams; use provider Istio",
		},
	}
}

// Render writes the traffic as an HTTPRoute.
//
// An HTTPRoute does not try its rules in order: the one with the most header conditions wins, and only among equals the
// first. Every rule here has one condition or, the last one, none, so that the order of mesh.Routes holds; a cohort with a control,
// which would have two, is refused.
func Render(t mesh.Traffic) (mesh.Object, error) {
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("rendering traffic of rollout %q: %w", t.Rollout, err)
	}
	if err := Limits().Check(t); err != nil {
		return nil, fmt.Errorf("rendering traffic of rollout %q: %w", t.Rollout, err)
	}
	var rules []any
	for _, r := range mesh.Routes(t) {
		rules = append(rules, rule(t.Service, r))
	}
	spec := map[string]any{"parentRefs": parents(t.Service), "rules": rules}
	if len(t.Service.Gateways) > 0 {
		// Without host names the route would take every host of its gateways.
		spec["hostnames"] = words(append([]string{t.Service.FQDN()}, t.Service.Hosts...))
	}
	return t.Object("gateway.networking.k8s.io/v1", "HTTPRoute", t.Rollout, spec), nil
}

// parents are the service, for the mesh, and the gateways.
func parents(s mesh.Service) []any {
	out := []any{map[string]any{"group": "", "kind": "Service", "name": s.Name, "port": int64(s.Port)}}
	for _, g := range s.Gateways {
		parent := map[string]any{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": g}
		if namespace, name, found := strings.Cut(g, "/"); found {
			parent["namespace"], parent["name"] = namespace, name
		}
		out = append(out, parent)
	}
	return out
}

func rule(s mesh.Service, r mesh.Route) map[string]any {
	out := map[string]any{"name": r.Name}
	var matches []any
	for _, m := range r.Matches {
		matches = append(matches, map[string]any{"path": everyPath(), "headers": conditions(m.Headers)})
	}
	if matches == nil {
		matches = []any{map[string]any{"path": everyPath()}}
	}
	out["matches"] = matches
	var backends []any
	for _, d := range r.Destinations {
		backends = append(backends, map[string]any{
			"group": "", "kind": "Service", "name": s.Of(d.Version), "port": int64(s.Port), "weight": int64(d.Weight),
		})
	}
	out["backendRefs"] = backends
	// Headers of the only destination are set by the rule: more gateways know that than headers by destination.
	if len(r.Destinations) == 1 {
		out["filters"] = append(headers(r.Destinations[0]), copies(s, r.Mirror)...)
		return out
	}
	for i, d := range r.Destinations {
		backends[i].(map[string]any)["filters"] = headers(d)
	}
	return out
}

// copies send a share of the requests to a further version. Where there are some, stable is the only destination.
func copies(s mesh.Service, m *mesh.Mirror) []any {
	if m == nil {
		return nil
	}
	to := map[string]any{"group": "", "kind": "Service", "name": s.Of(m.Version), "port": int64(s.Port)}
	return []any{map[string]any{"type": "RequestMirror", "requestMirror": map[string]any{"backendRef": to, "percent": int64(m.Percent)}}}
}

func everyPath() map[string]any { return map[string]any{"type": "PathPrefix", "value": "/"} }

// conditions are sorted by name, so that the same traffic gives the same bytes.
func conditions(in map[string]mesh.StringMatch) []any {
	var out []any
	for _, name := range slices.Sorted(maps.Keys(in)) {
		c := map[string]any{"name": name, "type": "Exact", "value": in[name].Exact}
		if regex := in[name].Regex; regex != "" {
			c["type"], c["value"] = "RegularExpression", regex
		}
		out = append(out, c)
	}
	return out
}

// headers tell the tiers behind, and the caller, which variant was chosen.
func headers(d mesh.Destination) []any {
	return []any{
		map[string]any{"type": "RequestHeaderModifier", "requestHeaderModifier": map[string]any{"set": pairs(d.SetRequest)}},
		map[string]any{"type": "ResponseHeaderModifier", "responseHeaderModifier": map[string]any{"set": pairs(d.SetResponse)}},
	}
}

func pairs(in map[string]string) []any {
	var out []any
	for _, name := range slices.Sorted(maps.Keys(in)) {
		out = append(out, map[string]any{"name": name, "value": in[name]})
	}
	return out
}

func words(in []string) []any {
	out := make([]any, len(in))
	for i, w := range in {
		out[i] = w
	}
	return out
}

// Package seldon writes a mesh.Traffic as an Experiment of Seldon Core 2, which splits inference requests between Models.
//
// Each version is a Model of the user's, named by Model. Callers send "seldon-model: <rollout>.experiment", so that they
// need no news of versions.
package seldon

import (
	"fmt"

	"github.com/siskin-dev/siskin/mesh"
)

// Limits say what a Seldon Experiment cannot do.
func Limits() mesh.Limits {
	return mesh.Limits{
		Plane: "Seldon",
		Can:   []mesh.Feature{mesh.Split, mesh.Variants, mesh.Mirrors},
		Why: map[mesh.Feature]string{
			mesh.HeaderBuckets: "its split draws every request and reads no bucket; leave assignment out, and let callers resend x-seldon-route",
			mesh.CookieBuckets: "its split draws every request and sets no cookie; leave assignment out, and let callers resend x-seldon-route",
			mesh.RateLimits:    "an Experiment limits nothing; limit at the gateway before Seldon, or use provider Istio",
			mesh.Quotas:        "an Experiment counts nothing; limit at the gateway before Seldon, or use provider Istio",
			mesh.Exposure:      "Seldon has one gateway for all models; lead hosts to it, or use provider Istio",
			mesh.Policies:      "an Experiment has no such settings; use provider Istio",
			mesh.PreviewHosts:  "an Experiment knows no hosts; use provider Istio",
			mesh.Delegation:    "an Experiment has no routes; use provider Istio",
			mesh.MorePorts:     "Seldon has one port for all models; use provider Istio",
			mesh.StreamPort:    "an Experiment splits inference requests and not connections; use provider Istio",
			mesh.Cohorts:       "an Experiment reads no header; use provider Istio",
			mesh.Controls:      "an Experiment reads no header; use provider Istio",
			mesh.Pins:          "callers may name a Model themselves; use provider Istio or GatewayAPI",
			mesh.FollowTiers:   "an Experiment passes no variant on; use provider Istio",
			mesh.RunVersions:   "the Models are yours; use provider KServe",
			mesh.HashUnits:     "an Experiment draws each request; use provider Istio",
		},
	}
}

// Model is the name of the Model that runs a version.
func Model(s mesh.Service, version string) string { return mesh.DNSLabel(s.Name + "-" + version) }

// Render writes the traffic as an Experiment. Variants of one version are one candidate: Seldon takes each Model once.
// Versions without buckets are no candidates.
func Render(t mesh.Traffic) (mesh.Object, error) {
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("rendering traffic of rollout %q: %w", t.Rollout, err)
	}
	if err := Limits().Check(t); err != nil {
		return nil, fmt.Errorf("rendering traffic of rollout %q: %w", t.Rollout, err)
	}
	weights := map[string]int{}
	for _, s := range t.Shares {
		weights[s.Version] += len(s.Buckets)
	}
	var candidates []any
	for _, version := range t.Versions() {
		if weights[version] > 0 {
			candidates = append(candidates, map[string]any{"name": Model(t.Service, version), "weight": int64(weights[version])})
		}
	}
	spec := map[string]any{"resourceType": "model", "candidates": candidates}
	if m := t.Copies(); m != nil {
		spec["mirror"] = map[string]any{"name": Model(t.Service, m.Version), "percent": int64(m.Percent)}
	}
	return t.Object("mlops.seldon.io/v1alpha1", "Experiment", t.Rollout, spec), nil
}

// Package kserve writes a mesh.Traffic as an InferenceService of KServe, which runs the versions as well.
//
// Side by side (KServe's Standard mode) the canary is an entry of spec.canary[]. As revisions (its Knative mode) the
// predictor is that of the newest version, and canaryTrafficPercent says how much it gets; KServe remembers which
// revision had all the traffic before.
package kserve

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/siskin-dev/siskin/mesh"
)

// Limits say what an InferenceService cannot do.
func Limits() mesh.Limits {
	return mesh.Limits{
		Plane: "KServe",
		Can:   []mesh.Feature{mesh.Split, mesh.Variants, mesh.RunVersions},
		Most:  2,
		Why: map[mesh.Feature]string{
			mesh.Variants:      "arms would have to run before they are shown; run InferenceServices of your own and use another provider",
			mesh.HeaderBuckets: "KServe draws every request and reads no bucket; leave assignment out",
			mesh.CookieBuckets: "KServe draws every request and sets no cookie; leave assignment out",
			mesh.RateLimits:    "an InferenceService limits nothing; use another provider",
			mesh.Quotas:        "an InferenceService counts nothing; use another provider",
			mesh.Exposure:      "KServe makes the hosts of an InferenceService itself, and has its own gateway",
			mesh.Policies:      "an InferenceService has no such settings; use provider Istio",
			mesh.PreviewHosts:  "KServe makes the hosts of an InferenceService itself; use provider Istio",
			mesh.Delegation:    "an InferenceService has no routes; use provider Istio",
			mesh.MorePorts:     "an InferenceService has one port; use provider Istio",
			mesh.StreamPort:    "an InferenceService splits requests; use provider Istio",
			mesh.HashUnits:     "KServe draws every request; use provider Istio",
			mesh.Cohorts:       "an InferenceService reads no header; use provider Istio",
			mesh.Controls:      "an InferenceService reads no header; use provider Istio",
			mesh.Pins:          "KServe reads no header; use provider Istio or GatewayAPI",
			mesh.Mirrors:       "KServe copies no requests; use provider Istio, GatewayAPI or Seldon",
			mesh.FollowTiers:   "an InferenceService passes no variant on; use provider Istio",
		},
	}
}

// modeAnnotation chooses KServe's mode.
const modeAnnotation = "serving.kserve.io/deploymentMode"

// stableOnly are fields of a predictor that KServe refuses in a canary, which has a fixed number of replicas.
func stableOnly() []string {
	return []string{"maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"}
}

// Render writes the traffic as an InferenceService named like the service.
func Render(t mesh.Traffic) (mesh.Object, error) {
	fail := func(err error) (mesh.Object, error) {
		return nil, fmt.Errorf("rendering traffic of rollout %q: %w", t.Rollout, err)
	}
	if err := t.Validate(); err != nil {
		return fail(err)
	}
	if err := Limits().Check(t); err != nil {
		return fail(err)
	}
	if t.Serving == nil {
		return fail(fmt.Errorf("kserve: must be specified when provider is KServe, since KServe runs the versions"))
	}
	render, mode := sideBySide, "Standard"
	if t.Serving.Revisions {
		render, mode = revisions, "Knative"
	}
	spec, err := render(t)
	if err != nil {
		return fail(err)
	}
	out := t.Object("serving.kserve.io/v1beta1", "InferenceService", t.Service.Name, spec)
	out["metadata"].(map[string]any)["annotations"] = map[string]any{modeAnnotation: mode, mesh.DefaultsAnnotation: "inside"}
	return out, nil
}

// sideBySide is the spec in Standard mode. A canary without buckets runs in the dark, so that it can become ready.
func sideBySide(t mesh.Traffic) (map[string]any, error) {
	stable, err := predictor(t, t.Shares[0].Version)
	if err != nil {
		return nil, err
	}
	canaries := []any{} // the empty list is said, too: what somebody adds to it is drift
	for _, s := range t.Shares[1:] {
		if s.Version == t.Shares[0].Version {
			continue // the same predictor
		}
		p, err := predictor(t, s.Version)
		if err != nil {
			return nil, err
		}
		for _, field := range stableOnly() {
			delete(p, field)
		}
		canaries = append(canaries, map[string]any{"predictor": p, "trafficPercent": int64(len(s.Buckets))})
	}
	return map[string]any{"predictor": stable, "canary": canaries}, nil
}

// revisions is the spec in Knative mode. After a run that was not promoted its version stays the newest revision, at 0 %: any
// change of the predictor would make a new revision, and until that is ready the newest ready one is still the canary.
// After a promotion the percentage stays 100: at less KServe would go back to the revision before.
func revisions(t mesh.Traffic) (map[string]any, error) {
	newest, percent := t.Shares[0].Version, mesh.Buckets
	switch {
	case len(t.Shares) > 1:
		newest, percent = t.Shares[1].Version, len(t.Shares[1].Buckets)
	case t.Serving.Tried != "" && t.Serving.Tried != newest:
		newest, percent = t.Serving.Tried, 0
	}
	p, err := predictor(t, newest)
	if err != nil {
		return nil, err
	}
	p["canaryTrafficPercent"] = int64(percent)
	return map[string]any{"predictor": p}, nil
}

// predictor is the predictor of one version: what the user wrote, with the version in it, a name and the labels by which
// everything else knows a version's pods.
func predictor(t mesh.Traffic, version string) (map[string]any, error) {
	quoted, err := json.Marshal(version)
	if err != nil {
		return nil, err
	}
	text := strings.ReplaceAll(string(t.Serving.Predictor), mesh.PlaceOfVersion, strings.Trim(string(quoted), `"`))
	var p map[string]any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&p); err != nil {
		return nil, fmt.Errorf("reading kserve.predictor: %w", err)
	}
	for _, field := range []string{"name", "canaryTrafficPercent"} {
		if _, taken := p[field]; taken {
			return nil, fmt.Errorf("kserve.predictor.%s: may not be specified, since Siskin sets it", field)
		}
	}
	p = plain(p).(map[string]any)
	labels, _ := p["labels"].(map[string]any)
	if labels == nil {
		labels = map[string]any{}
	}
	labels["app"], labels[t.VersionLabel] = t.Service.Name, version
	p["labels"], p["name"] = labels, Name(version)
	return p, nil
}

// Name is the name of a version's predictor, which KServe wants to begin with a letter.
func Name(version string) string {
	name := mesh.DNSLabel(version)
	if name[0] >= '0' && name[0] <= '9' {
		return mesh.DNSLabel("v--" + version)
	}
	return name
}

// plain turns JSON's numbers into those of a mesh.Object.
func plain(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k := range x {
			x[k] = plain(x[k])
		}
	case []any:
		for i := range x {
			x[i] = plain(x[i])
		}
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
		f, _ := x.Float64() // JSON's own grammar
		return f
	}
	return v
}

// Settled says whether KServe would go back to the stable version, and not to the one before, when a newer revision gets less
// than all the traffic: in its Knative mode it goes back to the last revision that it has seen with everything. While the
// predictor is one that was tried and not promoted, that is stable's.
func Settled(o mesh.Object, stable string) bool {
	metadata, _ := o["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	spec, _ := o["spec"].(map[string]any)
	newest, _ := spec["predictor"].(map[string]any)
	if annotations[modeAnnotation] != "Knative" || newest["name"] != Name(stable) {
		return true
	}
	status, _ := o["status"].(map[string]any)
	components, _ := status["components"].(map[string]any)
	p, _ := components["predictor"].(map[string]any)
	created := p["latestCreatedRevision"]
	return seen(o) && created != nil && created == p["latestReadyRevision"] && created == p["latestRolledoutRevision"]
}

// seen says whether KServe has looked at the object as it stands.
func seen(o mesh.Object) bool {
	metadata, _ := o["metadata"].(map[string]any)
	status, _ := o["status"].(map[string]any)
	return metadata["generation"] != nil && status["observedGeneration"] == metadata["generation"]
}

// Ready says whether KServe reports that a version, which is not the stable one, can answer.
func Ready(o mesh.Object, version string) bool {
	spec, _ := o["spec"].(map[string]any)
	status, _ := o["status"].(map[string]any)
	if !seen(o) {
		return false
	}
	canaries, _ := status["canaryStatuses"].([]any)
	for _, each := range canaries {
		if c, _ := each.(map[string]any); c["name"] == Name(version) {
			return c["ready"] == true
		}
	}
	newest, _ := spec["predictor"].(map[string]any)
	components, _ := status["components"].(map[string]any)
	p, _ := components["predictor"].(map[string]any)
	created := p["latestCreatedRevision"]
	return newest["name"] == Name(version) && newest["canaryTrafficPercent"] != nil &&
		created != nil && created == p["latestReadyRevision"] && created != p["latestRolledoutRevision"]
}

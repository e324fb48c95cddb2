// Package plain writes Kubernetes Services, which need no data plane beside Kubernetes itself.
//
// A Service selects the pods of one version: that is all that there is to say to a cluster without a mesh, and what data
// planes need that tell versions apart by Services.
package plain

import (
	"fmt"

	"github.com/siskin-dev/siskin/mesh"
)

// Limits say what a Service cannot do.
func Limits() mesh.Limits {
	return mesh.Limits{
		Plane: "Service",
		Can:   []mesh.Feature{mesh.Variants},
		Most:  2,
		Why: map[mesh.Feature]string{
			mesh.Split:         "a Service selects the pods of one version; use one step of weight 100",
			mesh.HeaderBuckets: "a Service sees no headers, and all units change at once; leave assignment out",
			mesh.CookieBuckets: "a Service sees no cookies, and all units change at once; leave assignment out",
			mesh.Variants:      "a Service selects the pods of one version",
			mesh.RateLimits:    "a Service limits nothing; use provider Istio",
			mesh.Quotas:        "a Service counts nothing; use provider Istio",
			mesh.Exposure:      "a Service has no gateways; lead one to it, or use another provider",
			mesh.Policies:      "a Service has no such settings; use provider Istio",
			mesh.PreviewHosts:  "a Service has one host; use provider Istio",
			mesh.Delegation:    "a Service has no routes; use provider Istio",
			mesh.MorePorts:     "the Service is written for one port; use provider Istio",
			mesh.StreamPort:    "the Service is written for HTTP; use provider Istio",
			mesh.Cohorts:       "a Service reads no header; use provider Istio",
			mesh.Controls:      "a Service reads no header; use provider Istio",
			mesh.Pins:          "a Service sees no headers; use provider Istio or GatewayAPI",
			mesh.Mirrors:       "a Service sees connections and not requests; use provider Istio, GatewayAPI or Seldon",
			mesh.FollowTiers:   "a Service passes no variant on; use provider Istio",
			mesh.RunVersions:   "a Service runs nothing; use provider KServe",
			mesh.HashUnits:     "a Service looks at no header; use provider Istio",
		},
	}
}

// Render writes the service itself: it selects the version that has all buckets.
func Render(t mesh.Traffic) (mesh.Object, error) {
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("rendering traffic of rollout %q: %w", t.Rollout, err)
	}
	if err := Limits().Check(t); err != nil {
		return nil, fmt.Errorf("rendering traffic of rollout %q: %w", t.Rollout, err)
	}
	version := t.Shares[0].Version
	for _, s := range t.Shares {
		if len(s.Buckets) == mesh.Buckets {
			version = s.Version
		}
	}
	return t.Object("v1", "Service", t.Service.Name, selecting(t, version)), nil
}

// OfVersions writes one Service for each version of the traffic and each extra one, which is leaving and may still be
// routed to. They select the pods labelled "app: <service>" and with the version in the version label. The traffic must
// be valid.
func OfVersions(t mesh.Traffic, extra ...string) []mesh.Object {
	var out []mesh.Object
	for _, version := range t.Versions(extra...) {
		out = append(out, t.Object("v1", "Service", t.Service.Of(version), selecting(t, version)))
	}
	return out
}

// selecting is the spec of a Service of one version. The port is named for the protocol, as meshes like it.
func selecting(t mesh.Traffic, version string) map[string]any {
	target := t.Service.TargetPort
	if target == 0 {
		target = t.Service.Port
	}
	return map[string]any{
		"selector": map[string]any{"app": t.Service.Name, t.VersionLabel: version},
		"ports": []any{map[string]any{
			"name": "http", "protocol": "TCP", "port": int64(t.Service.Port), "targetPort": int64(target),
		}},
	}
}

// Version is the version that a Service selects; empty when it selects none.
func Version(service mesh.Object, versionLabel string) string {
	spec, _ := service["spec"].(map[string]any)
	selector, _ := spec["selector"].(map[string]any)
	version, _ := selector[versionLabel].(string)
	return version
}

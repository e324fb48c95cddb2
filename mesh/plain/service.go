// Package plain writes Kubernetes Services, which need no data plane beside Kubernetes itself.
//
// A Service selects the pods of one version: that is all that there is to say to a cluster without a mesh, and what data
// planes need that tell versions apart by Services.
package plain

import "github.com/siskin-dev/siskin/mesh"

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

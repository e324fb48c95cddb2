// Package nginx writes a mesh.Traffic as two Ingresses for the NGINX ingress controller: one for the stable version, and
// one that its canary annotations take requests away to.
//
// An Ingress tells versions apart by Services: each version has one of its own (see mesh.Service.Of). The hosts of the
// service are those of the Ingresses, and its only gateway is the name of the ingress class.
package nginx

import (
	"fmt"
	"strconv"

	"github.com/siskin-dev/siskin/mesh"
)

// annotation is the prefix of the annotations that the controller reads.
const annotation = "nginx.ingress.kubernetes.io/"

// Limits say what NGINX's canary annotations cannot do.
func Limits() mesh.Limits {
	return mesh.Limits{
		Plane: "NGINX",
		Can:   []mesh.Feature{mesh.Split, mesh.HeaderBuckets, mesh.Exposure, mesh.Variants},
		Most:  2,
		Why: map[mesh.Feature]string{
			mesh.CookieBuckets: "its canary cookie says always or never and holds no bucket; use a bucket header",
			mesh.Variants:      "an Ingress has one canary",
			mesh.RateLimits:    "its limits count by client address and not by variant; use provider Istio",
			mesh.Quotas:        "its own global limit counts by client address and not by variant; use provider Istio",
			mesh.Policies:      "its settings hold for the whole ingress controller; use provider Istio",
			mesh.PreviewHosts:  "a canary has the hosts of its main Ingress; use provider Istio",
			mesh.Delegation:    "an Ingress leads to Services and not to other routes; use provider Istio",
			mesh.MorePorts:     "the Ingresses are written for one port; use provider Istio",
			mesh.Cohorts:       "it has one canary rule, which the weight takes; use provider Istio",
			mesh.Controls:      "it has one canary rule, which the weight takes; use provider Istio",
			mesh.Pins:          "its canary is found by one header, which holds the bucket; use provider Istio or GatewayAPI",
			mesh.Mirrors:       "its mirror-target copies every request, and knows no share; use provider Istio, GatewayAPI or Seldon",
			mesh.FollowTiers:   "it sees what enters the cluster and not what services send each other; use provider Istio",
			mesh.RunVersions:   "an Ingress runs nothing; use provider KServe",
			mesh.HashUnits:     "its hash chooses an endpoint, not a version; use provider Istio",
			mesh.StreamPort:    "an Ingress is for HTTP; use provider Istio",
		},
	}
}

// Ingresses express one Traffic. Main must lead to a version before Canary stops doing so.
type Ingresses struct{ Main, Canary mesh.Object }

// Render writes the traffic as Ingresses. With a bucket header the canary has exactly its buckets, and requests without a
// valid bucket are stable; without one every request is drawn, and testers reach the canary by mesh.VariantHeader.
func Render(t mesh.Traffic) (Ingresses, error) {
	if err := t.Validate(); err != nil {
		return Ingresses{}, fmt.Errorf("rendering traffic of rollout %q: %w", t.Rollout, err)
	}
	if err := Limits().Check(t); err != nil {
		return Ingresses{}, fmt.Errorf("rendering traffic of rollout %q: %w", t.Rollout, err)
	}
	if len(t.Service.Gateways) != 1 || len(t.Service.Hosts) == 0 {
		return Ingresses{}, fmt.Errorf("rendering traffic of rollout %q: service.hosts %q and service.gateways %q: provider NGINX needs hosts, and as the only gateway the ingress class",
			t.Rollout, t.Service.Hosts, t.Service.Gateways)
	}
	stable := t.Shares[0]
	canary := mesh.Share{Variant: mesh.Canary, Version: stable.Version}
	if len(t.Shares) > 1 {
		canary = t.Shares[1]
	}
	out := Ingresses{Main: ingress(t, t.Rollout, stable.Version), Canary: ingress(t, t.Rollout+"-canary", canary.Version)}
	out.Canary["metadata"].(map[string]any)["annotations"] = annotations(t, canary)
	return out, nil
}

// annotations take the canary's share away from the main Ingress. A header counts before the weight; whoever sends a header
// that does not match is still weighed, so that buckets leave no room for a weight other than nothing and all.
func annotations(t mesh.Traffic, canary mesh.Share) map[string]any {
	weight := len(canary.Buckets)
	out := map[string]any{annotation + "canary": "true"}
	switch {
	case len(t.Shares) == 1:
	case t.BucketHeader == "":
		out[annotation+"canary-by-header"] = mesh.VariantHeader
		out[annotation+"canary-by-header-value"] = string(canary.Variant)
	case weight > 0 && weight < mesh.Buckets:
		out[annotation+"canary-by-header"] = t.BucketHeader
		out[annotation+"canary-by-header-pattern"] = mesh.BucketPattern(canary.Buckets)
		weight = 0
	}
	out[annotation+"canary-weight"] = strconv.Itoa(weight)
	return out
}

// ingress leads every path of the hosts to one version.
func ingress(t mesh.Traffic, name, version string) mesh.Object {
	var rules []any
	for _, host := range t.Service.Hosts {
		backend := map[string]any{"service": map[string]any{
			"name": t.Service.Of(version), "port": map[string]any{"number": int64(t.Service.Port)},
		}}
		rules = append(rules, map[string]any{"host": host, "http": map[string]any{"paths": []any{
			map[string]any{"path": "/", "pathType": "Prefix", "backend": backend},
		}}})
	}
	return t.Object("networking.k8s.io/v1", "Ingress", name, map[string]any{"ingressClassName": t.Service.Gateways[0], "rules": rules})
}

package istio

import (
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"
	api "istio.io/api/networking/v1alpha3"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/mesh"
)

// hashVersions are the proxies that know weighted_clusters.use_hash_policy (Envoy 1.36 and newer). Older ones draw.
const hashVersions = `^1\.(2[89]|[3-9][0-9]).*`

// HashName is the name of the EnvoyFilter that makes a hash decide.
func HashName(rollout string) string { return rollout + "-hash" }

// hashFilter lets the hash of a header choose among the destinations of the hashed routes, by their names. Merged into a route
// with one destination it would be invalid, which is why these always have two. It is nil where nothing is hashed.
func hashFilter(t mesh.Traffic) (*v1alpha3.EnvoyFilter, error) {
	if t.HashHeader == "" {
		return nil, nil
	}
	ef := &v1alpha3.EnvoyFilter{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.istio.io/v1alpha3", Kind: "EnvoyFilter"},
		ObjectMeta: objectMeta(t, HashName(t.Rollout)),
	}
	for _, name := range hashRoutes(t) {
		value, err := structpb.NewStruct(map[string]any{"route": map[string]any{
			"hash_policy":       []any{map[string]any{"header": map[string]any{"header_name": t.HashHeader}}},
			"weighted_clusters": map[string]any{"use_hash_policy": true},
		}})
		if err != nil {
			return nil, err
		}
		ef.Spec.ConfigPatches = append(ef.Spec.ConfigPatches, hashPatch(name, value))
	}
	return ef, nil
}

// hashRoutes are the names of the routes of each HTTP port on which the hash decides.
func hashRoutes(t mesh.Traffic) []string {
	names := []string{t.HashRoute()}
	for _, p := range t.Service.Ports {
		if p.Protocol == mesh.HTTP {
			names = append(names, fmt.Sprintf("%s-%d", t.HashRoute(), p.Number))
		}
	}
	return names
}

func hashPatch(route string, value *structpb.Struct) *api.EnvoyFilter_EnvoyConfigObjectPatch {
	return &api.EnvoyFilter_EnvoyConfigObjectPatch{
		ApplyTo: api.EnvoyFilter_HTTP_ROUTE,
		Match: &api.EnvoyFilter_EnvoyConfigObjectMatch{
			Proxy: &api.EnvoyFilter_ProxyMatch{ProxyVersion: hashVersions},
			ObjectTypes: &api.EnvoyFilter_EnvoyConfigObjectMatch_RouteConfiguration{
				RouteConfiguration: &api.EnvoyFilter_RouteConfigurationMatch{
					Vhost: &api.EnvoyFilter_RouteConfigurationMatch_VirtualHostMatch{
						Route: &api.EnvoyFilter_RouteConfigurationMatch_RouteMatch{Name: route},
					},
				},
			},
		},
		Patch: &api.EnvoyFilter_Patch{Operation: api.EnvoyFilter_Patch_MERGE, Value: value},
	}
}

package istio

import (
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
)

// TestEnvoyKnowsTheHash merges the patch of each golden input into the route that Istio makes of the hashed one, with Envoy's own
// types, and holds that the result is valid and decides by the header. Istio leaves destinations of weight 0 out.
func TestEnvoyKnowsTheHash(t *testing.T) {
	for _, name := range []string{"hash", "hash-stable"} {
		t.Run(name, func(t *testing.T) {
			traffic := meshtest.Read(t, "testdata/"+name+".in.yaml")
			o := render(t, traffic)
			last := o.VirtualService.Spec.Http[len(o.VirtualService.Spec.Http)-1]
			if got := o.Hash.Spec.ConfigPatches[0].Match.GetRouteConfiguration().GetVhost().GetRoute().GetName(); got != last.Name {
				t.Errorf("the patch is for route %q, and the hashed one is %q", got, last.Name)
			}
			if len(last.Route) < 2 {
				t.Fatalf("route %q has %d destinations: Istio would write one cluster, and the merge would be invalid", last.Name, len(last.Route))
			}
			weighted := &routev3.WeightedCluster{}
			for _, d := range last.Route {
				if d.Weight > 0 {
					weighted.Clusters = append(weighted.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: d.Destination.Subset})
				}
			}
			route := &routev3.Route{
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted}}},
			}
			patch := &routev3.Route{}
			data, err := o.Hash.Spec.ConfigPatches[0].Patch.Value.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if err := protojson.Unmarshal(data, patch); err != nil {
				t.Fatalf("Envoy does not know %s: %v", data, err)
			}
			proto.Merge(route, patch)
			if err := route.ValidateAll(); err != nil {
				t.Errorf("Envoy refuses the merged route: %v", err)
			}
			action := route.GetRoute()
			if !action.GetWeightedClusters().GetUseHashPolicy().GetValue() || action.GetHashPolicy()[0].GetHeader().GetHeaderName() != "x-vehicle-id" {
				t.Errorf("the merged route is %v, want the header's hash to decide", action)
			}
		})
	}
}

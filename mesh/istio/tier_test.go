package istio

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
	"github.com/siskin-dev/siskin/mesh"
)

// TestTiersSayWhatTierRoutesSay reads each tier's VirtualService back, with and without a version that leaves, and holds that
// it leads to subsets that its rule has, at the tier's own host and port.
func TestTiersSayWhatTierRoutesSay(t *testing.T) {
	traffic := meshtest.Read(t, "testdata/tiers.in.yaml")
	for _, leaving := range [][]string{nil, {"v0"}} {
		o, err := objectsOf(traffic, leaving)
		if err != nil {
			t.Fatal(err)
		}
		tiers := o.Tiers
		if len(tiers) != len(traffic.Tiers) {
			t.Fatalf("%d tiers, want %d", len(tiers), len(traffic.Tiers))
		}
		for i, tier := range tiers {
			versions := map[string]string{}
			for _, s := range tier.DestinationRule.Spec.Subsets {
				versions[s.Name] = s.Labels[traffic.VersionLabel]
			}
			var got []mesh.Route
			for _, h := range tier.VirtualService.Spec.Http {
				got = append(got, readRoute(h, traffic.Tiers[i].Port, versions, inMesh)...)
				to := h.Route[0].Destination
				if to.Host != traffic.Host(traffic.Tiers[i]) || int(to.Port.GetNumber()) != traffic.Tiers[i].Port {
					t.Errorf("Route %q leads to %v", h.Name, to)
				}
			}
			if diff := cmp.Diff(mesh.TierRoutes(traffic, i, leaving...), got); diff != "" {
				t.Errorf("tier %d: -routes, +read back:\n%s", i, diff)
			}
			if hosts := tier.VirtualService.Spec.Hosts; !slices.Equal(hosts, []string{tier.DestinationRule.Spec.Host}) {
				t.Errorf("hosts %q of the routes and %q of the subsets differ", hosts, tier.DestinationRule.Spec.Host)
			}
		}
	}
}

func TestRenderRefusesTiers(t *testing.T) {
	traffic := meshtest.Read(t, "testdata/tiers.in.yaml")
	traffic.Tiers[1].Name = "app-service"
	if _, err := Render(traffic); err == nil || !strings.Contains(err.Error(), `rollout "coolant": tiers[1].name "app-service"`) {
		t.Errorf("Render(...) = %v, want an error that names the tier", err)
	}
}

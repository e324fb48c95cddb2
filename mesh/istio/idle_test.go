package istio

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/mesh"
)

// TestIdlePorts: a port of a limit at a gateway is idle exactly when no route leads there that a gateway reads.
func TestIdlePorts(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   func(*mesh.Traffic)
		want   []int
	}{
		"Gateway":   {"Whatever comes to a gateway is for the service's own port.", func(*mesh.Traffic) {}, []int{8081}},
		"OwnPort":   {"Which counts.", func(x *mesh.Traffic) { x.RateLimit.Ports = x.RateLimit.Ports[:1] }, nil},
		"Delegated": {"Other routes may lead to any of ours.", func(x *mesh.Traffic) { x.Service.Delegate, x.Service.Gateways = true, nil }, nil},
		"Sidecar": {"The pod itself takes requests at every port.", func(x *mesh.Traffic) {
			x.RateLimit.At, x.RateLimit.Selector = mesh.AtSidecar, nil
		}, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			traffic := mesh.Traffic{
				Rollout: "coolant", VersionLabel: "version", BucketHeader: "x-siskin-bucket",
				Service: mesh.Service{Namespace: "edge", Name: "coolant", Port: 8080, Gateways: []string{"edge/public"}, Ports: []mesh.Port{{Number: 8081, Protocol: mesh.HTTP}}},
				Shares:  []mesh.Share{{Variant: mesh.Stable, Version: "v1", Buckets: slices.Collect(everyBucket)}},
				RateLimit: &mesh.RateLimit{
					RequestsPerSecond: 5, At: mesh.AtGateway, Selector: map[string]string{"istio": "ingressgateway"},
					Ports: []mesh.PortLimit{{Number: 8080, RequestsPerSecond: 6}, {Number: 8081, RequestsPerSecond: 7}},
				},
			}
			tc.args(&traffic)
			idle := traffic.IdlePorts()
			if diff := cmp.Diff(tc.want, idle); diff != "" {
				t.Errorf("%s\nIdlePorts: -want, +got:\n%s", tc.reason, diff)
			}
			if traffic.RateLimit.At != mesh.AtGateway {
				return
			}
			reached := portsFromGateways(render(t, traffic))
			for _, p := range traffic.RateLimit.Ports {
				if slices.Contains(reached, p.Number) == slices.Contains(idle, p.Number) {
					t.Errorf("%s\nfrom gateways the routes lead to the ports %v, and %v are idle", tc.reason, reached, idle)
				}
			}
		})
	}
}

func everyBucket(yield func(int) bool) {
	for b := range mesh.Buckets {
		if !yield(b) {
			return
		}
	}
}

// portsFromGateways are the ports that routes lead to of which one match at least may be a gateway's.
func portsFromGateways(o Objects) []int {
	var ports []int
	for _, h := range o.VirtualService.Spec.Http {
		may := len(h.Match) == 0
		for _, m := range h.Match {
			may = may || !slices.Equal(m.Gateways, []string{meshGateway})
		}
		for _, d := range h.Route {
			if may {
				ports = append(ports, int(d.Destination.Port.GetNumber()))
			}
		}
	}
	return ports
}

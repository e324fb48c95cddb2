package gateway

import (
	"net/http/httptest"
	"testing"

	api "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/siskin-dev/siskin/mesh"
)

// TestPorts: a port that is not listed is as without an object, a further one has routes of its own, and what comes through a
// gateway of the user's, whose port is no Service's, is for the service's own port.
func TestPorts(t *testing.T) {
	traffic := split([]int{3})
	traffic.Service.Ports = []mesh.Port{{Number: 8081, Protocol: mesh.HTTP}}
	traffic.Service.Hosts, traffic.Service.Gateways = []string{"predict.example.com"}, []string{"edge/public"}
	se := serviceEntry(t)
	for name, number := range map[string]uint32{"further": 8081, "metrics": 9000} {
		se.Spec.Ports = append(se.Spec.Ports, &api.ServicePort{Name: name, Number: number, Protocol: "HTTP"})
	}
	objects := rendered(t, traffic, Objects{ServiceEntries: []*networkingv1.ServiceEntry{se}})
	cases := map[string]struct {
		reason    string
		gateway   string
		authority string
		want      string
		port      uint32
	}{
		"Own":          {"The service's own port.", "mesh", host + ":8080", "weighted", 8080},
		"Further":      {"A further one.", "mesh", host + ":8081", "weighted-8081", 8081},
		"NotListed":    {"Nobody asked for a split there.", "mesh", host + ":9000", "default", 9000},
		"NotNamed":     {"Without a port it is the first one.", "mesh", host, "weighted", 8080},
		"NoSuch":       {"So it is with one that there is not.", "mesh", host + ":7", "weighted", 8080},
		"Host":         {"A further host has the ports of the service.", "mesh", "predict.example.com:8081", "weighted-8081", 8081},
		"Gateway":      {"The numbers of a gateway are its own.", "edge/public", "predict.example.com:8081", "weighted", 8080},
		"OtherGateway": {"The routes are not for every gateway.", "edge/other", host + ":8080", "default", 8080},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			table, refusals := Compile(objects, Identity{Gateways: []string{tc.gateway}})
			if len(refusals) > 0 {
				t.Fatal(refusals)
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = tc.authority
			vh := table.find(tc.authority)
			for _, route := range vh.routes {
				if _, ok := route.find(&view{r: r, ports: vh.ports}); !ok {
					continue
				}
				if route.name != tc.want || route.destinations[0].cluster != table.clusters[clusterOf(route.name, tc.port)] {
					t.Errorf("%s\n%s takes route %q, want %q to port %d", tc.reason, tc.authority, route.name, tc.want, tc.port)
				}
				return
			}
			t.Errorf("%s\n%s takes no route, want %q", tc.reason, tc.authority, tc.want)
		})
	}
}

// clusterOf is the first destination of a route at a port: stable's, or everybody where nobody splits.
func clusterOf(route string, port uint32) clusterKey {
	if route == "default" {
		return clusterKey{host: host, port: port}
	}
	return clusterKey{host: host, subset: "v1", port: port}
}

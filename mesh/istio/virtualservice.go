package istio

import (
	"cmp"
	"regexp"
	"slices"

	api "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/mesh"
)

// meshGateway is Istio's name for all sidecars. It is implied only while no gateway is named.
const meshGateway = "mesh"

func virtualService(t mesh.Traffic) *networkingv1.VirtualService {
	vs := &networkingv1.VirtualService{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: "VirtualService"},
		ObjectMeta: objectMeta(t, t.Rollout),
	}
	if !t.Service.Delegate {
		// A VirtualService that is delegated to has neither hosts nor gateways: those are the user's to say.
		vs.Spec.Hosts = slices.Concat([]string{t.Service.FQDN()}, t.Service.Hosts, t.PreviewHosts)
	}
	if len(t.Service.Gateways) > 0 {
		vs.Spec.Gateways = append(append([]string{}, t.Service.Gateways...), meshGateway)
	}
	for _, r := range mesh.Routes(t) {
		vs.Spec.Http = append(vs.Spec.Http, httpRoute(t.Service.FQDN(), t.Service.Port, r))
	}
	for _, s := range mesh.Streams(t) {
		if s.Port.Protocol == mesh.TLS {
			vs.Spec.Tls = append(vs.Spec.Tls, tlsRoute(t.Service, s, vs.Spec.Hosts))
		} else {
			vs.Spec.Tcp = append(vs.Spec.Tcp, tcpRoute(t.Service, s))
		}
	}
	return vs
}

func tcpRoute(s mesh.Service, in mesh.Stream) *api.TCPRoute {
	return &api.TCPRoute{
		Match: []*api.L4MatchAttributes{{Port: uint32(in.Port.Number)}},
		Route: streamDestinations(s, in),
	}
}

// tlsRoute matches every name of the service: Istio asks for one at least.
func tlsRoute(s mesh.Service, in mesh.Stream, names []string) *api.TLSRoute {
	return &api.TLSRoute{
		Match: []*api.TLSMatchAttributes{{Port: uint32(in.Port.Number), SniHosts: names}},
		Route: streamDestinations(s, in),
	}
}

func streamDestinations(s mesh.Service, in mesh.Stream) []*api.RouteDestination {
	var out []*api.RouteDestination
	for _, d := range in.Destinations {
		out = append(out, &api.RouteDestination{Destination: subsetOf(s.FQDN(), in.Port.Number, d.Version), Weight: int32(d.Weight)})
	}
	return out
}

// subsetOf is a version of a host, at a port.
func subsetOf(host string, port int, version string) *api.Destination {
	return &api.Destination{Host: host, Subset: SubsetName(version), Port: &api.PortSelector{Number: uint32(port)}}
}

// httpRoute leads to a host, at the route's port or else at the given one.
func httpRoute(host string, port int, r mesh.Route) *api.HTTPRoute {
	out := &api.HTTPRoute{Name: r.Name}
	for _, m := range r.Matches {
		out.Match = append(out.Match, &api.HTTPMatchRequest{
			Port:           uint32(m.Port),
			Authority:      authority(m.Host),
			SourceLabels:   m.Source,
			Headers:        stringMatches(m.Headers),
			WithoutHeaders: stringMatches(m.Without),
		})
	}
	for _, d := range r.Destinations {
		out.Route = append(out.Route, httpDestination(host, cmp.Or(r.Port, port), d))
	}
	if m := r.Mirror; m != nil {
		out.Mirror = subsetOf(host, cmp.Or(r.Port, port), m.Version)
		out.MirrorPercentage = &api.Percent{Value: float64(m.Percent)}
	}
	if r.NoRetries {
		// Zero attempts disable Istio's default of two. In JSON this is "retries: {}", which is not the same as none.
		out.Retries = &api.HTTPRetry{Attempts: 0}
	}
	return out
}

func httpDestination(host string, port int, d mesh.Destination) *api.HTTPRouteDestination {
	out := &api.HTTPRouteDestination{Destination: subsetOf(host, port, d.Version), Weight: int32(d.Weight)}
	request, response := headerOperations(d.SetRequest, nil), headerOperations(d.SetResponse, d.AddResponse)
	if request != nil || response != nil {
		out.Headers = &api.Headers{Request: request, Response: response}
	}
	return out
}

// headerOperations is nil when there is nothing to do, so that no empty object is written.
func headerOperations(set, add map[string]string) *api.Headers_HeaderOperations {
	if len(set)+len(add) == 0 {
		return nil
	}
	return &api.Headers_HeaderOperations{Set: set, Add: add}
}

// authority matches a host with any port, as a caller may name one; nil for every host.
func authority(host string) *api.StringMatch {
	if host == "" {
		return nil
	}
	return &api.StringMatch{MatchType: &api.StringMatch_Regex{Regex: regexp.QuoteMeta(host) + "(:[0-9]+)?"}}
}

func stringMatches(in map[string]mesh.StringMatch) map[string]*api.StringMatch {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]*api.StringMatch, len(in))
	for name, m := range in {
		out[name] = stringMatch(m)
	}
	return out
}

// stringMatch is the empty message for Present: Istio checks only that the header is there.
func stringMatch(m mesh.StringMatch) *api.StringMatch {
	switch {
	case m.Present:
		return &api.StringMatch{}
	case m.Regex != "":
		return &api.StringMatch{MatchType: &api.StringMatch_Regex{Regex: m.Regex}}
	}
	return &api.StringMatch{MatchType: &api.StringMatch_Exact{Exact: m.Exact}}
}

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
		vs.Spec.Hosts = hosts(t)
	}
	if len(t.Service.Gateways) > 0 {
		vs.Spec.Gateways = append(append([]string{}, t.Service.Gateways...), meshGateway)
	}
	for _, r := range mesh.Routes(t) {
		vs.Spec.Http = append(vs.Spec.Http, httpRoute(t.Service.FQDN(), t.Service.Port, entriesTo(t.Service, r.Port), r))
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

// hosts are those that the routes are for. A TLS route knows only servers that it names, and callers in the mesh name the
// service by a shorter name too: those that end in the namespace stand for themselves, the bare name would not.
func hosts(t mesh.Traffic) []string {
	all := slices.Concat([]string{t.Service.FQDN()}, t.Service.Hosts, t.PreviewHosts)
	if !slices.ContainsFunc(mesh.Streams(t), func(s mesh.Stream) bool { return s.Port.Protocol == mesh.TLS }) {
		return all
	}
	short := t.Service.Name + "." + t.Service.Namespace
	for _, name := range []string{short + ".svc", short} {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// entry is a way in: a port as it is addressed, 0 for every one, at some gateways, or at all that the routes are bound to.
type entry struct {
	port     uint32
	gateways []string
}

// entriesTo are the ways to an HTTP port of the service; 0 is its own one. A proxy in the mesh knows the Service's ports by their
// numbers, and one that is not listed is left to Istio. The numbers of a gateway are its own, so whatever comes there is for the
// service's own port. What is delegated comes as the user's routes say.
func entriesTo(s mesh.Service, port int) []entry {
	own := port == 0 || port == s.Port
	number := uint32(cmp.Or(port, s.Port))
	switch {
	case s.Delegate && own:
		return []entry{{}}
	case s.Delegate || len(s.Gateways) == 0:
		return []entry{{port: number}}
	case own:
		return []entry{{number, []string{meshGateway}}, {0, s.Gateways}}
	}
	return []entry{{number, []string{meshGateway}}}
}

// streamEntriesTo are the ways to a port that speaks TCP or TLS. Nothing but a number tells streams apart, so a gateway leads to a
// further port where its server has the port's number, and else to the service's own port, which comes last.
func streamEntriesTo(s mesh.Service, port int) []entry {
	if port != s.Port {
		return []entry{{port: uint32(port)}}
	}
	return entriesTo(s, port)
}

func tcpRoute(s mesh.Service, in mesh.Stream) *api.TCPRoute {
	out := &api.TCPRoute{Route: streamDestinations(s, in)}
	for _, e := range streamEntriesTo(s, in.Port.Number) {
		out.Match = append(out.Match, &api.L4MatchAttributes{Port: e.port, Gateways: e.gateways})
	}
	return out
}

// tlsRoute matches every name of the service: Istio asks for one at least. The first stands alone, since a waypoint passes over
// matches that have others.
func tlsRoute(s mesh.Service, in mesh.Stream, names []string) *api.TLSRoute {
	out := &api.TLSRoute{Route: streamDestinations(s, in)}
	for _, e := range streamEntriesTo(s, in.Port.Number) {
		for _, some := range [][]string{names[:1], names[1:]} {
			out.Match = append(out.Match, &api.TLSMatchAttributes{Port: e.port, Gateways: e.gateways, SniHosts: some})
		}
	}
	return out
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

// httpRoute leads from the entries to a host, at the route's port or else at the given one.
func httpRoute(host string, port int, from []entry, r mesh.Route) *api.HTTPRoute {
	out := &api.HTTPRoute{Name: r.Name}
	for _, m := range matches(r, from) {
		for _, e := range from {
			out.Match = append(out.Match, &api.HTTPMatchRequest{
				Port:           e.port,
				Gateways:       e.gateways,
				Authority:      authority(m.Host),
				SourceLabels:   m.Source,
				Headers:        stringMatches(m.Headers),
				WithoutHeaders: stringMatches(m.Without),
			})
		}
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

// matches are those of the route: an empty one where it takes everything, unless from everywhere, which needs none.
func matches(r mesh.Route, from []entry) []mesh.Match {
	if everywhere := len(from) == 1 && from[0].port == 0 && from[0].gateways == nil; len(r.Matches) > 0 || everywhere {
		return r.Matches
	}
	return []mesh.Match{{}}
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

// authority matches a host in any case and with any port, as a caller may name one; nil for every host.
func authority(host string) *api.StringMatch {
	if host == "" {
		return nil
	}
	return &api.StringMatch{MatchType: &api.StringMatch_Regex{Regex: "(?i)" + regexp.QuoteMeta(host) + "(:[0-9]+)?"}}
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

func stringMatch(m mesh.StringMatch) *api.StringMatch {
	if m.Regex != "" {
		return &api.StringMatch{MatchType: &api.StringMatch_Regex{Regex: m.Regex}}
	}
	return &api.StringMatch{MatchType: &api.StringMatch_Exact{Exact: m.Exact}}
}

package envoy

import (
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func exact(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func regex(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: s}}}
}

func header(name string, s *matcherv3.StringMatcher, set func(*routev3.HeaderMatcher)) *routev3.HeaderMatcher {
	h := &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: s}}
	if set != nil {
		set(h)
	}
	return h
}

func invert(h *routev3.HeaderMatcher)  { h.InvertMatch = true }
func orEmpty(h *routev3.HeaderMatcher) { h.InvertMatch, h.TreatMissingHeaderAsEmpty = true, true }

func present(name string, there, inverted bool) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, InvertMatch: inverted, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: there}}
}

func match(headers ...*routev3.HeaderMatcher) *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}, Headers: headers}
}

func to(name string) *routev3.RouteAction {
	return &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: name}}
}

func split(weights map[string]uint32, order ...string) *routev3.RouteAction {
	w := &routev3.WeightedCluster{}
	for _, name := range order {
		w.Clusters = append(w.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: name, Weight: wrapperspb.UInt32(weights[name])})
	}
	return &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: w}}
}

// hashing lets the hash of headers decide: v1 has one of two.
func hashing(headers ...string) *routev3.RouteAction {
	a := split(map[string]uint32{"v1": 1, "v2": 1}, "v1", "v2")
	a.GetWeightedClusters().RandomValueSpecifier = &routev3.WeightedCluster_UseHashPolicy{UseHashPolicy: wrapperspb.Bool(true)}
	for _, name := range headers {
		a.HashPolicy = append(a.HashPolicy, &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: name},
		}})
	}
	return a
}

func host(actions ...*routev3.Route) *routev3.VirtualHost {
	return &routev3.VirtualHost{Routes: actions}
}

func route(m *routev3.RouteMatch, a *routev3.RouteAction) *routev3.Route {
	return &routev3.Route{Match: m, Action: &routev3.Route_Route{Route: a}}
}

func TestChoose(t *testing.T) {
	when := func(h *routev3.HeaderMatcher) *routev3.VirtualHost {
		return host(route(match(h), to("yes")), route(match(), to("no")))
	}
	get := func(values ...string) Request { return Request{Path: "/", Headers: map[string][]string{"h": values}} }
	ten := host(route(match(), split(map[string]uint32{"none": 0, "v1": 9, "v2": 1}, "none", "v1", "v2")))
	cases := map[string]struct {
		reason string
		host   *routev3.VirtualHost
		q      Request
		draw   uint64
		want   string
	}{
		"Exact":           {"The whole value is compared.", when(header("h", exact("a"), nil)), get("a"), 0, "yes"},
		"ExactLonger":     {"A longer value is another.", when(header("h", exact("a"), nil)), get("ab"), 0, "no"},
		"NameCase":        {"Names have no case.", when(header("H", exact("a"), nil)), get("a"), 0, "yes"},
		"Regex":           {"An expression is compared with the whole value, alternatives included.", when(header("h", regex("a|b"), nil)), get("ab"), 0, "no"},
		"Joined":          {"Several headers are one value.", when(header("h", exact("a,b"), nil)), get("a", "b"), 0, "yes"},
		"Cookies":         {"Several cookies are joined in their own way.", when(header("cookie", exact("a; b"), nil)), Request{Path: "/", Headers: map[string][]string{"cookie": {"a", "b"}}}, 0, "yes"},
		"Missing":         {"A missing header matches nothing.", when(header("h", regex(".*"), nil)), Request{Path: "/"}, 0, "no"},
		"Inverted":        {"Another value matches when inverted.", when(header("h", exact("a"), invert)), get("b"), 0, "yes"},
		"InvertedMissing": {"A missing header matches nothing, also inverted.", when(header("h", exact("a"), invert)), Request{Path: "/"}, 0, "no"},
		"OrEmpty":         {"Unless it is to count as empty.", when(header("h", exact("a"), orEmpty)), Request{Path: "/"}, 0, "yes"},
		"OrEmptyEmpty":    {"And empty is a value.", when(header("h", exact(""), orEmpty)), Request{Path: "/"}, 0, "no"},
		"Present":         {"Any value will do.", when(present("h", true, false)), get(""), 0, "yes"},
		"PresentMissing":  {"No header will not.", when(present("h", true, false)), Request{Path: "/"}, 0, "no"},
		"Absent":          {"Absence can be asked for.", when(present("h", false, false)), Request{Path: "/"}, 0, "yes"},
		"PresentInverted": {"In two ways.", when(present("h", true, true)), Request{Path: "/"}, 0, "yes"},
		"AllConditions":   {"All conditions must hold.", host(route(match(header("h", exact("a"), nil), header("g", exact("b"), nil)), to("yes")), route(match(), to("no"))), get("a"), 0, "no"},
		"First":           {"The first route that matches is taken.", host(route(match(), to("first")), route(match(), to("second"))), get(), 0, "first"},
		"NoRoute":         {"None may match.", host(route(match(header("h", exact("a"), nil)), to("yes"))), get("b"), 0, ""},
		"Path":            {"The path's beginning counts.", host(route(match(), to("yes"))), Request{Path: "*"}, 0, ""},
		"DrawFirst":       {"A weight of 0 gets nothing.", ten, get(), 0, "v1"},
		"DrawEdge":        {"The last below the edge.", ten, get(), 8, "v1"},
		"DrawNext":        {"The edge belongs to the next.", ten, get(), 9, "v2"},
		"DrawModulo":      {"The draw counts modulo the sum.", ten, get(), 10, "v1"},
		"Hash":            {"The hash decides (xxHash64 of \"a\" is d24ec4f1a98c6e5b), whatever the draw.", host(route(match(), hashing("H"))), get("a"), 0, "v2"},
		"HashMissing":     {"Without the header the draw does.", host(route(match(), hashing("H"))), get(), 0, "v1"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			routes, err := Routes(tc.host)
			if err != nil {
				t.Fatal(err)
			}
			if _, got, _ := Choose(routes, tc.q, tc.draw); got.Cluster != tc.want {
				t.Errorf("%s\nChoose(...) = %q, want %q", tc.reason, got.Cluster, tc.want)
			}
		})
	}
}

// TestRefused holds that nothing that could change the choice is passed over.
func TestRefused(t *testing.T) {
	query := match()
	query.QueryParameters = []*routev3.QueryParameterMatcher{{Name: "q"}}
	contains := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: "a"}}
	drawn := split(map[string]uint32{"v1": 1}, "v1")
	drawn.GetWeightedClusters().RandomValueSpecifier = &routev3.WeightedCluster_HeaderName{HeaderName: "h"}
	once := route(match(), to("v1"))
	once.RequestHeadersToAdd = []*corev3.HeaderValueOption{{AppendAction: corev3.HeaderValueOption_ADD_IF_ABSENT}}
	mirrored := to("v1")
	mirrored.RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{ClusterHeader: "h"}}
	action := func(set func(*routev3.RouteAction)) *routev3.VirtualHost {
		a := to("v1")
		set(a)
		return host(route(match(), a))
	}
	of := func(set func(*routev3.Route)) *routev3.VirtualHost {
		r := route(match(), to("v1"))
		set(r)
		return host(r)
	}
	retry := func(set func(*routev3.RetryPolicy)) *routev3.VirtualHost {
		return action(func(a *routev3.RouteAction) { a.RetryPolicy = &routev3.RetryPolicy{}; set(a.RetryPolicy) })
	}
	whole := func(set func(*routev3.VirtualHost)) *routev3.VirtualHost {
		vh := host(route(match(), to("v1")))
		set(vh)
		return vh
	}
	second := durationpb.New(time.Second)
	added := []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "h", Value: "a"}}}
	unknown := map[string]*anypb.Any{"f": {TypeUrl: "type.googleapis.com/nobody.knows.It"}}
	for reason, vh := range map[string]*routev3.VirtualHost{
		"another path": action(func(a *routev3.RouteAction) { a.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{Substitution: "/"} }),
		"the upstream's host": action(func(a *routev3.RouteAction) {
			a.HostRewriteSpecifier = &routev3.RouteAction_AutoHostRewrite{AutoHostRewrite: wrapperspb.Bool(true)}
		}),
		"CORS": action(func(a *routev3.RouteAction) { a.Cors = &routev3.CorsPolicy{ExposeHeaders: "h"} }),
		"a stream's duration": action(func(a *routev3.RouteAction) {
			a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: second}
		}),
		"an idle timeout":        action(func(a *routev3.RouteAction) { a.IdleTimeout = second }),
		"a timeout for gRPC":     action(func(a *routev3.RouteAction) { a.MaxGrpcTimeout = second }),
		"an inner redirect":      action(func(a *routev3.RouteAction) { a.InternalRedirectPolicy = &routev3.InternalRedirectPolicy{} }),
		"a try's timeout":        retry(func(r *routev3.RetryPolicy) { r.PerTryTimeout = second }),
		"a retry's header":       retry(func(r *routev3.RetryPolicy) { r.RetriableHeaders = []*routev3.HeaderMatcher{present("h", true, false)} }),
		"a header taken away":    of(func(r *routev3.Route) { r.RequestHeadersToRemove = []string{"h"} }),
		"an answer's taken away": of(func(r *routev3.Route) { r.ResponseHeadersToRemove = []string{"h"} }),
		"a buffer's limit":       of(func(r *routev3.Route) { r.RequestBodyBufferLimit = wrapperspb.UInt64(1) }),
		"a filter":               of(func(r *routev3.Route) { r.TypedPerFilterConfig = unknown }),
		"a host's filter":        whole(func(vh *routev3.VirtualHost) { vh.TypedPerFilterConfig = unknown }),
		"a host's header":        whole(func(vh *routev3.VirtualHost) { vh.RequestHeadersToAdd = added }),
		"a host's answer":        whole(func(vh *routev3.VirtualHost) { vh.ResponseHeadersToAdd = added }),
		"a host's mirror": whole(func(vh *routev3.VirtualHost) {
			vh.RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "v2"}}
		}),
		"a host's retries":        whole(func(vh *routev3.VirtualHost) { vh.RetryPolicy = &routev3.RetryPolicy{} }),
		"a host's rate limit":     whole(func(vh *routev3.VirtualHost) { vh.RateLimits = []*routev3.RateLimit{{}} }),
		"a host's CORS":           whole(func(vh *routev3.VirtualHost) { vh.Cors = &routev3.CorsPolicy{ExposeHeaders: "h"} }),
		"hashes of two headers":   host(route(match(), hashing("g", "h"))),
		"a query":                 host(route(query, to("v1"))),
		"another comparison":      host(route(match(header("h", contains, nil)), to("v1"))),
		"no comparison":           host(route(match(header("h", nil, nil)), to("v1"))),
		"an expression":           host(route(match(header("h", regex("("), nil)), to("v1"))),
		"a draw by a header":      host(route(match(), drawn)),
		"a cluster by a header":   host(route(match(), &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_ClusterHeader{ClusterHeader: "h"}})),
		"a direct response":       host(&routev3.Route{Match: match(), Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{}}}),
		"a header only if absent": host(once),
		"a mirror by a header":    host(route(match(), mirrored)),
	} {
		if routes, err := Routes(vh); err == nil {
			t.Errorf("%s is not refused: %+v", reason, routes)
		}
	}
}

func TestMirrors(t *testing.T) {
	action := to("v1")
	for _, f := range []*corev3.RuntimeFractionalPercent{
		nil,
		{DefaultValue: &typev3.FractionalPercent{Numerator: 10}},
		{DefaultValue: &typev3.FractionalPercent{Numerator: 1250, Denominator: typev3.FractionalPercent_TEN_THOUSAND}},
		{DefaultValue: &typev3.FractionalPercent{Numerator: 500_000, Denominator: typev3.FractionalPercent_MILLION}},
	} {
		action.RequestMirrorPolicies = append(action.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{Cluster: "v2", RuntimeFraction: f})
	}
	action.RequestMirrorPolicies = append(action.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{Cluster: "v3", DisableShadowHostSuffixAppend: true})
	routes, err := Routes(host(route(match(), action)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"v2 100%", "v2 10%", "v2 12.5%", "v2 50%", "v3 100%, host as it was"}, routes[0].Mirrors); diff != "" {
		t.Errorf("Mirrors: -want, +got:\n%s", diff)
	}
}

func TestHost(t *testing.T) {
	config := &routev3.RouteConfiguration{IgnorePortInHostMatching: true, VirtualHosts: []*routev3.VirtualHost{
		{Name: "all", Domains: []string{"*"}},
		{Name: "exact", Domains: []string{"a.example.com", "b.example.com"}},
		{Name: "wide", Domains: []string{"*.com"}},
		{Name: "narrow", Domains: []string{"*.example.com"}},
	}}
	got := map[string]string{}
	want := map[string]string{
		"a.example.com": "exact", "B.example.com": "exact", "a.example.com:80": "exact", "c.example.com": "narrow",
		"example.com": "wide", ".example.com": "wide", "d.c.example.com": "narrow", "c.org": "all",
	}
	for authority := range want {
		got[authority] = Host(config, authority).GetName()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Host: -want, +got:\n%s", diff)
	}
	if vh := Host(&routev3.RouteConfiguration{}, "a"); vh != nil {
		t.Errorf("no virtual host serves anything, and got %v", vh)
	}
}

package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rlsconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	quotav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/test/controlplane"
	"github.com/siskin-dev/siskin/test/envoy"
)

// limits are the rate limits of a connection manager, as whole messages: nothing that they say is passed over.
type limits struct {
	Local  *localv3.LocalRateLimit
	Global *quotav3.RateLimit
	// Hosts are token buckets in the place of Local's, by the virtual host.
	Hosts map[string]*localv3.LocalRateLimit
}

// limited is a proxy, whether what it takes on the way in counts alone, and what its limits are to be: want, and what these ask the
// rate limit service about.
type limited struct {
	who       envoy.Node
	inbound   bool
	want      limits
	describes func(*quotav3.RateLimit) error
}

// inbound checks the rate limits where they count and where they do not: in the proxy of each version's pod on the way in, in a
// gateway's and in a caller's. The answers of one moment are to be right together: what a limit leaves out is not asked before
// the limit has come.
func (w *meshWorld) inbound() {
	w.t.Helper()
	near := ingress()
	near.Namespace, near.Name = space, "ingress-1" // a filter holds in its own namespace
	all := []limited{{who: caller()}, {who: near, want: w.atShared(mesh.AtGateway), describes: describesNothing}}
	for i, share := range w.traffic.Shares {
		n := envoy.Node{Kind: envoy.Sidecar, Address: address(i), Name: w.pod(i), Namespace: space, Labels: w.labels(share.Version)}
		all = append(all, limited{n, true, w.atPod(share.Variant), w.describesVariants})
	}
	controlplane.Until(w.t, "the rate limits", func(ctx context.Context) error {
		for _, l := range all {
			a, err := envoy.Ask(ctx, w.ADS, l.who)
			if err != nil {
				return err
			}
			if err := l.allAre(a); err != nil {
				return fmt.Errorf("limits of %s: %w", l.who.Name, err)
			}
		}
		return nil
	})
}

// allAre compares the limits of every connection manager that counts; there is one at least.
func (l limited) allAre(a envoy.Answer) error {
	checked, hosts := 0, map[string]bool{}
	for name, listener := range a.Listeners {
		if l.inbound && name != "virtualInbound" {
			continue
		}
		managers, err := envoy.Managers(listener)
		if err != nil {
			return err
		}
		for _, m := range managers {
			checked++
			if err := l.are(m, hosts); err != nil {
				return fmt.Errorf("listener %q: %w", name, err)
			}
		}
	}
	if l.want.Global != nil {
		if err := asks(a, l.want.Global); err != nil {
			return err
		}
	}
	if checked == 0 || len(hosts) != len(l.want.Hosts) {
		return fmt.Errorf("%d connection managers with limits of their own for %v, want one at least and %v", checked, hosts, l.want.Hosts)
	}
	return nil
}

// are compares the limits of a connection manager, and adds the virtual hosts that have their own.
func (l limited) are(m *hcmv3.HttpConnectionManager, hosts map[string]bool) error {
	got, err := limitsOf(m)
	if err != nil {
		return err
	}
	want := l.want
	want.Hosts = map[string]*localv3.LocalRateLimit{}
	for _, vh := range m.GetRouteConfig().GetVirtualHosts() {
		if one, ok := l.want.Hosts[vh.GetName()]; ok {
			want.Hosts[vh.GetName()], hosts[vh.GetName()] = one, true
		}
	}
	if got.Global != nil && want.Global != nil {
		if err := errors.Join(got.Global.ValidateAll(), l.describes(got.Global)); err != nil {
			return err
		}
		got.Global = proto.CloneOf(got.Global)
		got.Global.RateLimits = nil // what they ask about was compared, whatever the words
	}
	if diff := gocmp.Diff(want, got, protocmp.Transform(), cmpopts.EquateEmpty()); diff != "" {
		return fmt.Errorf("-meant, +istiod's:\n%s", diff)
	}
	return nil
}

// limitsOf reads what stands right before the router: the token buckets and then the global limit, so that what the first refuse
// is not asked for.
func limitsOf(m *hcmv3.HttpConnectionManager) (limits, error) {
	var out limits
	var kinds []string
	var local string
	for _, f := range m.GetHttpFilters() {
		switch config := f.GetTypedConfig(); {
		case config.MessageIs(&localv3.LocalRateLimit{}):
			out.Local, local = &localv3.LocalRateLimit{}, f.GetName()
			kinds = append(kinds, "local")
			if err := config.UnmarshalTo(out.Local); err != nil {
				return out, err
			}
		case config.MessageIs(&quotav3.RateLimit{}):
			out.Global = &quotav3.RateLimit{}
			kinds = append(kinds, "global")
			if err := config.UnmarshalTo(out.Global); err != nil {
				return out, err
			}
		case len(kinds) > 0 || f.GetName() == "envoy.filters.http.router":
			kinds = append(kinds, f.GetName())
		}
	}
	if order := strings.Join(kinds, " "); !slices.Contains([]string{
		"envoy.filters.http.router", "local envoy.filters.http.router", "global envoy.filters.http.router", "local global envoy.filters.http.router",
	}, order) {
		return out, fmt.Errorf("the order of filters is %q", order)
	}
	out.Hosts = map[string]*localv3.LocalRateLimit{}
	for _, vh := range m.GetRouteConfig().GetVirtualHosts() {
		if config, ok := vh.GetTypedPerFilterConfig()[local]; ok {
			one := &localv3.LocalRateLimit{}
			if err := config.UnmarshalTo(one); err != nil {
				return out, err
			}
			out.Hosts[vh.GetName()] = one
		}
	}
	return out, nil
}

// atPod is what the traffic says about the proxies of a variant's pods.
func (w *meshWorld) atPod(v mesh.Variant) limits {
	l := w.traffic.RateLimit
	if l == nil || shared(l) || l.OnlyCanary && v != mesh.Canary {
		return limits{}
	}
	out := limits{Global: w.global()}
	if l.RequestsPerSecond == 0 {
		return out
	}
	bucket := func(port int) *localv3.LocalRateLimit {
		b := localLimit()
		rate, size := l.Bucket(port)
		b.TokenBucket, b.EnableXRatelimitHeaders = tokens(size, rate), commonv3.XRateLimitHeadersRFCVersion_DRAFT_VERSION_03
		return b
	}
	out.Local, out.Hosts = bucket(0), map[string]*localv3.LocalRateLimit{}
	for _, p := range l.Ports {
		out.Hosts["inbound|http|"+strconv.Itoa(p.Number)] = bucket(p.Number)
	}
	return out
}

// atShared is what the traffic says about the proxies of a place that others share: a bucket for each cluster, and none for what
// goes elsewhere.
func (w *meshWorld) atShared(at mesh.Place) limits {
	l := w.traffic.RateLimit
	if l == nil || l.At != at {
		return limits{}
	}
	out := limits{Global: w.global()}
	if l.RequestsPerSecond == 0 {
		return out
	}
	out.Local = localLimit()
	out.Local.TokenBucket, out.Local.AlwaysConsumeDefaultTokenBucket = tokens(math.MaxUint32, math.MaxUint32), wrapperspb.Bool(false)
	out.Local.RateLimits = []*routev3.RateLimit{{Actions: []*routev3.RateLimit_Action{{
		ActionSpecifier: &routev3.RateLimit_Action_DestinationCluster_{DestinationCluster: &routev3.RateLimit_Action_DestinationCluster{}},
	}}}}
	out.Local.ResponseHeadersToAdd = []*corev3.HeaderValueOption{{
		Header: &corev3.HeaderValue{Key: "retry-after", Value: "1"}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}
	for _, s := range w.traffic.Shares {
		for _, p := range w.ports() {
			if l.OnlyCanary && s.Variant != mesh.Canary || p.Protocol != mesh.HTTP {
				continue
			}
			rate, size := l.Bucket(p.Number)
			out.Local.Descriptors = append(out.Local.Descriptors, &commonv3.LocalRateLimitDescriptor{
				Entries: []*commonv3.RateLimitDescriptor_Entry{{
					Key: "destination_cluster", Value: w.named(p.Number, s.Version, w.traffic.Service.FQDN()),
				}},
				TokenBucket: tokens(size, rate),
			})
		}
	}
	return out
}

// localLimit counts every request, and refuses every one for which there is no token.
func localLimit() *localv3.LocalRateLimit {
	always := func(key string) *corev3.RuntimeFractionalPercent {
		return &corev3.RuntimeFractionalPercent{
			DefaultValue: &typev3.FractionalPercent{Numerator: 100, Denominator: typev3.FractionalPercent_HUNDRED}, RuntimeKey: "siskin_local_rate_limit_" + key,
		}
	}
	return &localv3.LocalRateLimit{
		StatPrefix: "siskin_local_rate_limit", Status: &typev3.HttpStatus{Code: typev3.StatusCode_TooManyRequests},
		FilterEnabled: always("enabled"), FilterEnforced: always("enforced"),
	}
}

func tokens(size, rate int) *typev3.TokenBucket {
	return &typev3.TokenBucket{MaxTokens: uint32(size), TokensPerFill: wrapperspb.UInt32(uint32(rate)), FillInterval: durationpb.New(time.Second)}
}

// global is the filter that asks the rate limit service, without what it asks about; nil where there is no quota.
func (w *meshWorld) global() *quotav3.RateLimit {
	g := w.traffic.RateLimit.Global
	if g == nil {
		return nil
	}
	out := &quotav3.RateLimit{
		Domain: w.traffic.QuotaDomain(), Stage: 10, FailureModeDeny: g.Deny, StatPrefix: "siskin_global_rate_limit",
		StatusOnError:           &typev3.HttpStatus{Code: typev3.StatusCode_TooManyRequests},
		EnableXRatelimitHeaders: quotav3.RateLimit_DRAFT_VERSION_03,
		RateLimitService: &rlsconfigv3.RateLimitServiceConfig{
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: fmt.Sprintf("outbound|%d||%s", g.Port, g.Host), Authority: g.Host,
			}}},
		},
	}
	if g.TimeoutMillis > 0 {
		out.Timeout = durationpb.New(time.Duration(g.TimeoutMillis) * time.Millisecond)
	}
	return out
}

// describesVariants holds that a pod's proxy asks for the variant that the route has named, and for the stable one where none was;
// for the canary, whatever was named, where it alone has a quota.
func (w *meshWorld) describesVariants(f *quotav3.RateLimit) error {
	named := []string{"", "nobody", "Canary"}
	for _, s := range w.traffic.Shares {
		named = append(named, string(s.Variant))
	}
	for _, name := range named {
		want := string(mesh.Stable)
		if slices.ContainsFunc(w.traffic.Shares, func(s mesh.Share) bool { return string(s.Variant) == name }) {
			want = name
		}
		if w.traffic.RateLimit.OnlyCanary {
			want = string(mesh.Canary)
		}
		q := envoy.Request{Headers: map[string][]string{}}
		if name != "" {
			q.Headers[mesh.VariantHeader] = []string{name}
		}
		if err := w.describes(f.GetRateLimits(), q, "variant", want); err != nil {
			return err
		}
	}
	return nil
}

// describesNothing holds that a gateway asks for nothing but what its hosts say (see TestTraffic).
func describesNothing(f *quotav3.RateLimit) error {
	if len(f.GetRateLimits()) > 0 {
		return fmt.Errorf("all hosts ask for %v", f.GetRateLimits())
	}
	return nil
}

// describes holds that a request makes one descriptor: of the service, and of this key.
func (w *meshWorld) describes(limits []*routev3.RateLimit, q envoy.Request, key, value string) error {
	got, err := envoy.Descriptors(limits, "somewhere", q)
	if err != nil {
		return err
	}
	want := []*commonv3.RateLimitDescriptor{{Entries: []*commonv3.RateLimitDescriptor_Entry{
		{Key: "service", Value: w.traffic.Service.Namespace + "/" + w.traffic.Service.Name}, {Key: key, Value: value},
	}}}
	if diff := gocmp.Diff(want, got, protocmp.Transform()); diff != "" {
		return fmt.Errorf("for %v: -meant, +istiod's:\n%s", q.Headers, diff)
	}
	return nil
}

// shared says whether a limit counts elsewhere than in the pods.
func shared(l *mesh.RateLimit) bool { return l.At != "" && l.At != mesh.AtSidecar }

package istio

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	api "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
	"github.com/siskin-dev/siskin/mesh"
)

// TestVirtualServiceSaysWhatRoutesSay reads the VirtualService back as a sidecar does, which knows the Service's ports, and as a
// gateway, whose ports are others, and compares it with the routes it came from.
func TestVirtualServiceSaysWhatRoutesSay(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, _ string, traffic mesh.Traffic) {
		o := render(t, traffic)
		versions := map[string]string{}
		for _, s := range o.DestinationRule.Spec.Subsets {
			versions[s.Name] = s.Labels[traffic.VersionLabel]
		}
		var got, entering []mesh.Route
		for _, h := range o.VirtualService.Spec.Http {
			got = append(got, readRoute(h, traffic.Service.Port, versions, inMesh)...)
			entering = append(entering, readRoute(h, traffic.Service.Port, versions, atGateway)...)
		}
		var streams []mesh.Stream
		for _, r := range o.VirtualService.Spec.Tcp {
			streams = append(streams, readStream(mesh.Port{Number: int(r.Match[0].Port), Protocol: mesh.TCP}, r.Route, versions))
		}
		for _, r := range o.VirtualService.Spec.Tls {
			streams = append(streams, readStream(mesh.Port{Number: int(r.Match[0].Port), Protocol: mesh.TLS}, r.Route, versions))
		}
		if diff := cmp.Diff(mesh.Streams(traffic), streams, cmpopts.IgnoreFields(mesh.Destination{}, "Variant")); diff != "" {
			t.Errorf("VirtualService: -streams, +read back:\n%s", diff)
		}
		if diff := cmp.Diff(mesh.Routes(traffic), got); diff != "" {
			t.Errorf("VirtualService: -routes, +read back:\n%s", diff)
		}
		own := slices.DeleteFunc(mesh.Routes(traffic), func(r mesh.Route) bool { return r.Port != 0 })
		if len(traffic.Service.Gateways) == 0 && !traffic.Service.Delegate {
			own = nil
		}
		if diff := cmp.Diff(own, entering, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("VirtualService at a gateway: -routes of the service's own port, +read back:\n%s", diff)
		}
	})
}

func readStream(at mesh.Port, route []*api.RouteDestination, versions map[string]string) mesh.Stream {
	s := mesh.Stream{Port: at}
	for _, d := range route {
		if int(d.Destination.Port.GetNumber()) == at.Number {
			s.Destinations = append(s.Destinations, mesh.Destination{Version: versions[d.Destination.Subset], Weight: int(d.Weight)})
		}
	}
	return s
}

// inMesh and atGateway say whether a match is for a sidecar, and for a gateway whose ports have other numbers.
func inMesh(m *api.HTTPMatchRequest) bool {
	return len(m.Gateways) == 0 || slices.Contains(m.Gateways, meshGateway)
}

func atGateway(m *api.HTTPMatchRequest) bool {
	return m.Port == 0 && !slices.Contains(m.Gateways, meshGateway)
}

// readRoute is what a route says to those that its matches are for; nothing where there are none. The own port is the one that
// mesh.Route does not name.
func readRoute(h *api.HTTPRoute, own int, versions map[string]string, concerned func(*api.HTTPMatchRequest) bool) []mesh.Route {
	r := mesh.Route{Name: h.Name, NoRetries: h.Retries != nil && h.Retries.Attempts == 0}
	for _, m := range h.Match {
		if !concerned(m) {
			continue
		}
		if int(m.Port) != own {
			r.Port = int(m.Port)
		}
		r.Matches = append(r.Matches, mesh.Match{Source: m.SourceLabels, Port: r.Port, Host: readHost(m.Authority), Headers: readMatches(m.Headers), Without: readMatches(m.WithoutHeaders)})
	}
	if len(h.Match) > 0 && len(r.Matches) == 0 {
		return nil
	}
	if everything := []mesh.Match{{}}; cmp.Equal(r.Matches, everything) {
		r.Matches = nil
	}
	for _, d := range h.Route {
		r.Destinations = append(r.Destinations, mesh.Destination{
			Variant:     mesh.Variant(d.GetHeaders().GetRequest().GetSet()[mesh.VariantHeader]),
			Version:     versions[d.Destination.Subset],
			Weight:      int(d.Weight),
			SetRequest:  d.GetHeaders().GetRequest().GetSet(),
			SetResponse: d.GetHeaders().GetResponse().GetSet(),
			AddResponse: d.GetHeaders().GetResponse().GetAdd(),
		})
	}
	if to := h.Mirror; to != nil {
		r.Mirror = &mesh.Mirror{Version: versions[to.Subset], Percent: int(h.MirrorPercentage.GetValue())}
	}
	return []mesh.Route{r}
}

// readHost is the host that an authority is matched for.
func readHost(authority *api.StringMatch) string {
	name, _ := strings.CutSuffix(authority.GetRegex(), "(:[0-9]+)?")
	return strings.ReplaceAll(strings.TrimPrefix(name, "(?i)"), `\.`, ".")
}

func readMatches(in map[string]*api.StringMatch) map[string]mesh.StringMatch {
	var out map[string]mesh.StringMatch
	for name, m := range in {
		if out == nil {
			out = map[string]mesh.StringMatch{}
		}
		out[name] = mesh.StringMatch{Exact: m.GetExact(), Regex: m.GetRegex()}
	}
	return out
}

// TestEverySubsetExists is make before break inside one rendering: what the VirtualService names, the rule has.
func TestEverySubsetExists(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, _ string, traffic mesh.Traffic) {
		o := render(t, traffic)
		for _, h := range o.VirtualService.Spec.Http {
			for _, d := range h.Route {
				if !slices.Contains(subsets(o.DestinationRule), d.Destination.Subset) {
					t.Errorf("Route %q names subset %q, which the DestinationRule lacks", h.Name, d.Destination.Subset)
				}
				if d.Destination.Host != traffic.Service.FQDN() || d.Destination.Port.GetNumber() != uint32(portOf(h, traffic)) {
					t.Errorf("Route %q leads to %v", h.Name, d.Destination)
				}
			}
			if m := h.Mirror; m != nil && (m.Host != traffic.Service.FQDN() || m.Port.GetNumber() != uint32(portOf(h, traffic)) || !slices.Contains(subsets(o.DestinationRule), m.Subset)) {
				t.Errorf("Route %q is mirrored to %v", h.Name, m)
			}
		}
	})
}

// portOf is the port that a route is for.
func portOf(h *api.HTTPRoute, traffic mesh.Traffic) int {
	if len(h.Match) > 0 && h.Match[0].Port != 0 {
		return int(h.Match[0].Port)
	}
	return traffic.Service.Port
}

func subsets(dr *networkingv1.DestinationRule) []string {
	var names []string
	for _, s := range dr.Spec.Subsets {
		names = append(names, s.Name)
	}
	return names
}

func TestLeavingVersions(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   []string
		want   []string
	}{
		"None":    {"The versions that take part.", nil, []string{"v1", "v2"}},
		"Leaving": {"A version that the VirtualService may still name keeps its subset.", []string{"v0"}, []string{"v0", "v1", "v2"}},
		"Known":   {"No subset is there twice, in whatever order the versions come.", []string{"v2", "v1", "v2"}, []string{"v1", "v2"}},
		"Empty":   {"An unset version is none.", []string{""}, []string{"v1", "v2"}},
	}
	traffic := meshtest.Read(t, "testdata/header-25.in.yaml")
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o, err := objectsOf(traffic, tc.args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, subsets(o.DestinationRule)); diff != "" {
				t.Errorf("%s\nobjectsOf(..., %q): -want, +got:\n%s", tc.reason, tc.args, diff)
			}
		})
	}
}

// TestPromotionKeepsTheRule checks that the end of a run, which makes the canary stable, leaves the subsets as they are
// until the old version is dropped.
func TestPromotionKeepsTheRule(t *testing.T) {
	during := meshtest.Read(t, "testdata/header-100.in.yaml")
	after := during
	after.Shares = []mesh.Share{{Variant: mesh.Stable, Version: "v2", Buckets: during.Shares[1].Buckets}}
	before := render(t, during).DestinationRule
	o, err := objectsOf(after, []string{"v1"})
	if err != nil {
		t.Fatal(err)
	}
	kept := o.DestinationRule
	if !proto.Equal(&before.Spec, &kept.Spec) {
		t.Errorf("The rule changed from %v to %v", subsets(before), subsets(kept))
	}
	if proto.Equal(&before.Spec, &render(t, after).DestinationRule.Spec) {
		t.Error("The rule without the old version is equal to the one with it")
	}
}

// TestEnvoyKnowsTheRateLimit decodes the filter with Envoy's own type, which refuses unknown fields and bad values.
func TestEnvoyKnowsTheRateLimit(t *testing.T) {
	cases := map[string]struct {
		reason      string
		args        string
		tokens      uint32
		fill        uint32
		wantMatched map[string]string
	}{
		"Canary": {"Only the canary's pods limit.", "ratelimit-canary", 400, 200, map[string]string{"app": "coolant", "version": "v2"}},
		"All":    {"All pods limit; the burst is the rate.", "ratelimit-all", 200, 200, map[string]string{"app": "coolant"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			spec := &render(t, meshtest.Read(t, "testdata/"+tc.args+".in.yaml")).EnvoyFilter.Spec
			if diff := cmp.Diff(tc.wantMatched, spec.WorkloadSelector.Labels); diff != "" {
				t.Errorf("%s\nworkloadSelector: -want, +got:\n%s", tc.reason, diff)
			}
			config := spec.ConfigPatches[0].Patch.Value.Fields["typed_config"].GetStructValue().AsMap()
			if got, want := config["@type"], "type.googleapis.com/"+string((&ratelimitv3.LocalRateLimit{}).ProtoReflect().Descriptor().FullName()); got != want {
				t.Errorf("@type = %v, want %s", got, want)
			}
			delete(config, "@type")
			data, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			var limit ratelimitv3.LocalRateLimit
			if err := protojson.Unmarshal(data, &limit); err != nil {
				t.Fatalf("Envoy does not know %s: %v", data, err)
			}
			if err := limit.ValidateAll(); err != nil {
				t.Errorf("Envoy refuses %s: %v", data, err)
			}
			bucket := limit.TokenBucket
			if bucket.MaxTokens != tc.tokens || bucket.TokensPerFill.GetValue() != tc.fill || bucket.FillInterval.AsDuration().Seconds() != 1 {
				t.Errorf("%s\ntoken bucket = %v, want %d tokens, %d per second", tc.reason, bucket, tc.tokens, tc.fill)
			}
			if limit.Status.GetCode() != 429 || limit.FilterEnforced.DefaultValue.Numerator != 100 {
				t.Errorf("%s\nstatus %v, enforced for %v, want 429 for all", tc.reason, limit.Status, limit.FilterEnforced)
			}
		})
	}
}

// TestEnvoyKnowsTheSharedLimit decodes the filter of a gateway or a waypoint with Envoy's own type: a bucket for each limited
// version at each port, found by the routed cluster, and none that another service's request could empty.
func TestEnvoyKnowsTheSharedLimit(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   string
		want   map[string]uint32
		at     api.EnvoyFilter_PatchContext
		where  string
	}{
		"Gateway": {"Both versions, at both ports, of which one has its own.", "ratelimit-gateway", map[string]uint32{
			"outbound|8080|v1|coolant.edge.svc.cluster.local": 400, "outbound|8081|v1|coolant.edge.svc.cluster.local": 700,
			"outbound|8080|v2|coolant.edge.svc.cluster.local": 400, "outbound|8081|v2|coolant.edge.svc.cluster.local": 700,
		}, api.EnvoyFilter_GATEWAY, "map[istio:ingressgateway]"},
		"Waypoint": {"The canary alone, under the name that a waypoint has for it.", "ratelimit-waypoint", map[string]uint32{
			"inbound-vip|8080|http/v2|coolant.edge.svc.cluster.local": 200,
		}, api.EnvoyFilter_SIDECAR_INBOUND, "Gateway waypoint"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			spec := &render(t, meshtest.Read(t, "testdata/"+tc.args+".in.yaml")).EnvoyFilter.Spec
			where := fmt.Sprint(spec.WorkloadSelector.GetLabels())
			for _, ref := range spec.TargetRefs {
				where = ref.Kind + " " + ref.Name
			}
			match := spec.ConfigPatches[0].Match
			if where != tc.where || match.Context != tc.at {
				t.Errorf("%s\nlimits at %s in %s, want %s in %s", tc.reason, where, match.Context, tc.where, tc.at)
			}
			versions := regexp.MustCompile(match.Proxy.ProxyVersion)
			for version, want := range map[string]bool{"1.27.9": false, "1.28.0": true, "1.31.1": true, "1.99.0": true, "1.3.0": false, "2.0.0": false} {
				if versions.MatchString(version) != want {
					t.Errorf("a proxy of Istio %s is limited: %t, want %t", version, !want, want)
				}
			}
			limit := decodeLimit(t, spec.ConfigPatches[0].Patch.Value.Fields["typed_config"].GetStructValue().AsMap())
			got := map[string]uint32{}
			for _, d := range limit.Descriptors {
				if len(d.Entries) != 1 || d.Entries[0].Key != "destination_cluster" || d.TokenBucket.TokensPerFill.GetValue() != 200 {
					t.Errorf("descriptor %v, want one entry for the cluster and 200 per second", d)
				}
				got[d.Entries[0].Value] = d.TokenBucket.MaxTokens
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\nbuckets: -want, +got:\n%s", tc.reason, diff)
			}
			if len(limit.RateLimits) != 1 || limit.RateLimits[0].Actions[0].GetDestinationCluster() == nil {
				t.Errorf("rate_limits %v, want the routed cluster", limit.RateLimits)
			}
			if limit.TokenBucket.MaxTokens != math.MaxUint32 || limit.AlwaysConsumeDefaultTokenBucket.GetValue() {
				t.Errorf("the bucket of everybody else has %d tokens and is always used: %v", limit.TokenBucket.MaxTokens, limit.AlwaysConsumeDefaultTokenBucket)
			}
		})
	}
}

// TestEnvoyKnowsThePortsLimit: at a pod's own proxy a port's bucket is on the virtual host that Istio calls after the port, in
// the words of the same filter, and differs in nothing else.
func TestEnvoyKnowsThePortsLimit(t *testing.T) {
	patches := render(t, meshtest.Read(t, "testdata/ratelimit-ports.in.yaml")).EnvoyFilter.Spec.ConfigPatches
	if len(patches) != 2 || patches[1].ApplyTo != api.EnvoyFilter_VIRTUAL_HOST || patches[1].Match.GetRouteConfiguration().GetVhost().GetName() != "inbound|http|8080" {
		t.Fatalf("the patches are %v", patches)
	}
	all := decodeLimit(t, patches[0].Patch.Value.Fields["typed_config"].GetStructValue().AsMap())
	name := patches[0].Patch.Value.Fields["name"].GetStringValue()
	port := decodeLimit(t, patches[1].Patch.Value.Fields["typed_per_filter_config"].GetStructValue().Fields[name].GetStructValue().AsMap())
	if port.TokenBucket.MaxTokens != 5 || port.TokenBucket.TokensPerFill.GetValue() != 5 || all.TokenBucket.MaxTokens != 400 {
		t.Errorf("the port's bucket is %v, that of the others %v", port.TokenBucket, all.TokenBucket)
	}
	port.TokenBucket = all.TokenBucket
	if !proto.Equal(port, all) {
		t.Errorf("the port's limit is %v, and that of the others %v", port, all)
	}
}

// decodeLimit reads a filter's configuration with Envoy's own type.
func decodeLimit(t *testing.T, config map[string]any) *ratelimitv3.LocalRateLimit {
	t.Helper()
	delete(config, "@type")
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	limit := &ratelimitv3.LocalRateLimit{}
	if err := protojson.Unmarshal(data, limit); err != nil {
		t.Fatalf("Envoy does not know %s: %v", data, err)
	}
	if err := limit.ValidateAll(); err != nil {
		t.Errorf("Envoy refuses %s: %v", data, err)
	}
	return limit
}

func TestRenderRefuses(t *testing.T) {
	traffic := meshtest.Read(t, "testdata/header-25.in.yaml")
	traffic.Shares[0].Buckets = traffic.Shares[0].Buckets[1:]
	_, err := Render(traffic)
	_, writeErr := Write(traffic)
	for _, err := range []error{err, writeErr} {
		if err == nil || !strings.Contains(err.Error(), `rollout "coolant": shares: must own all 100 buckets`) {
			t.Errorf("Rendering traffic without an owner of bucket 0 = %v, want an error that says so", err)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	for _, name := range []string{"stable", "header-25", "cookie-25"} {
		b.Run(name, func(b *testing.B) {
			traffic := meshtest.Read(b, "testdata/"+name+".in.yaml")
			b.ReportAllocs()
			for b.Loop() {
				render(b, traffic)
			}
		})
	}
}

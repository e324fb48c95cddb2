package istio

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	quotav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	api "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
	"github.com/siskin-dev/siskin/mesh"
)

// quotaConfigOf reads the ConfigMap strictly and returns the configuration in it: the domain, and the limit of each descriptor,
// its entries joined by " ".
func quotaConfigOf(t *testing.T, o mesh.Object) (domain string, limits map[string]string) {
	t.Helper()
	raw, err := yaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var config corev1.ConfigMap
	if err := yaml.UnmarshalStrict(raw, &config); err != nil {
		t.Fatalf("reading the ConfigMap as Kubernetes does: %v", err)
	}
	if len(config.Data) != 1 {
		t.Fatalf("the ConfigMap has %d files, want 1", len(config.Data))
	}
	var root struct {
		Domain      string       `json:"domain"`
		Descriptors []descriptor `json:"descriptors"`
	}
	for name, text := range config.Data {
		if !strings.HasSuffix(name, ".yaml") {
			t.Errorf("the file is called %q", name)
		}
		if err := yaml.UnmarshalStrict([]byte(text), &root); err != nil {
			t.Fatal(err)
		}
	}
	limits = map[string]string{}
	var walk func(prefix string, all []descriptor)
	walk = func(prefix string, all []descriptor) {
		for _, d := range all {
			path := strings.TrimSpace(prefix + " " + d.Key + "=" + d.Value)
			if _, twice := limits[path]; twice {
				t.Errorf("descriptor %q is there twice: the service refuses the file", path)
			}
			if d.RateLimit != nil {
				limits[path] = fmt.Sprintf("%d per %s", d.RateLimit.RequestsPerUnit, d.RateLimit.Unit)
			}
			walk(path, d.Descriptors)
		}
	}
	walk("", root.Descriptors)
	return root.Domain, limits
}

func TestQuotaConfig(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   string
		domain string
		want   map[string]string
	}{
		"Canary": {"The domain that was given, and nobody but the canary.", "quota-canary", "fleet", map[string]string{
			"service=edge/coolant variant=canary": "5 per second",
		}},
		"Arms": {"Every variant has its own.", "quota-arms", "edge.coolant", map[string]string{
			"service=edge/coolant variant=stable": "1000000 per day", "service=edge/coolant variant=canary": "1000000 per day",
			"service=edge/coolant variant=quantised": "1000000 per day",
		}},
		"Gateway": {"A gateway knows clusters.", "quota-gateway", "edge.coolant", map[string]string{
			"service=edge/coolant destination_cluster=outbound|8080|v1|coolant.edge.svc.cluster.local": "5 per hour",
			"service=edge/coolant destination_cluster=outbound|8080|v2|coolant.edge.svc.cluster.local": "5 per hour",
		}},
		"Waypoint": {"Under the names that a waypoint has for them, at each port.", "quota-waypoint", "edge.coolant", map[string]string{
			"service=edge/coolant destination_cluster=inbound-vip|8080|http/v1|coolant.edge.svc.cluster.local": "5 per minute",
			"service=edge/coolant destination_cluster=inbound-vip|8081|http/v1|coolant.edge.svc.cluster.local": "5 per minute",
			"service=edge/coolant destination_cluster=inbound-vip|8080|http/v2|coolant.edge.svc.cluster.local": "5 per minute",
			"service=edge/coolant destination_cluster=inbound-vip|8081|http/v2|coolant.edge.svc.cluster.local": "5 per minute",
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			domain, limits := quotaConfigOf(t, render(t, meshtest.Read(t, "testdata/"+tc.args+".in.yaml")).Quotas)
			if diff := cmp.Diff(tc.want, limits); diff != "" || domain != tc.domain {
				t.Errorf("%s\ndomain %q, want %q; limits: -want, +got:\n%s", tc.reason, domain, tc.domain, diff)
			}
		})
	}
}

// quotas are what an EnvoyFilter says of the global limit, decoded with Envoy's own types.
type quotas struct {
	filters []*quotav3.RateLimit
	names   []string
	chains  []string
	hosts   map[string][]*routev3.RateLimit
}

func decodeQuotas(t *testing.T, spec *api.EnvoyFilter) quotas {
	t.Helper()
	out := quotas{hosts: map[string][]*routev3.RateLimit{}}
	for _, p := range spec.ConfigPatches {
		value := p.Patch.Value.AsMap()
		if hosts, ok := value["typed_per_filter_config"].(map[string]any); ok {
			for name, each := range hosts {
				var per quotav3.RateLimitPerRoute
				decodeTyped(t, each.(map[string]any), &per)
				if !slices.Contains(out.names, name) {
					t.Errorf("a host speaks to the filter %q, and there are %q", name, out.names)
				}
				out.hosts[p.Match.GetRouteConfiguration().GetVhost().GetDomainName()] = per.RateLimits
			}
			continue
		}
		typed := value["typed_config"].(map[string]any)
		if typed["@type"] != globalLimitType {
			continue
		}
		var filter quotav3.RateLimit
		decodeTyped(t, typed, &filter)
		out.filters, out.names = append(out.filters, &filter), append(out.names, value["name"].(string))
		out.chains = append(out.chains, p.Match.GetListener().GetFilterChain().GetName())
	}
	return out
}

// decodeTyped refuses a field that Envoy does not know and a value that it would not take.
func decodeTyped(t *testing.T, config map[string]any, into interface {
	proto.Message
	ValidateAll() error
},
) {
	t.Helper()
	if got, want := config["@type"], "type.googleapis.com/"+string(into.ProtoReflect().Descriptor().FullName()); got != want {
		t.Errorf("@type %v, want %v", got, want)
	}
	delete(config, "@type")
	raw, err := yaml.Marshal(config)
	if err == nil {
		raw, err = yaml.YAMLToJSON(raw)
	}
	if err == nil {
		err = protojson.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatalf("Envoy does not know %v: %v", config, err)
	}
	if err := into.ValidateAll(); err != nil {
		t.Errorf("Envoy refuses it: %v", err)
	}
}

// TestEnvoyKnowsTheQuota holds what the filter says of the service, of failure and of answers.
func TestEnvoyKnowsTheQuota(t *testing.T) {
	cases := map[string]struct {
		reason  string
		args    string
		deny    bool
		timeout string
		chains  []string
		hosts   []string
	}{
		"Gateway": {"The hosts of the service alone are asked for.", "quota-gateway", true, "1.25s", []string{""}, []string{"coolant.edge.svc.cluster.local", "fleet.example.com", "predict.example.com"}},
		"Sidecar": {"Everything that a limited pod takes.", "quota-canary", false, "", []string{""}, nil},
		"Waypoint": {"The chains of the service's ports.", "quota-waypoint", false, "", []string{
			"inbound-vip|8080|http|coolant.edge.svc.cluster.local", "inbound-vip|8081|http|coolant.edge.svc.cluster.local",
		}, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			traffic := meshtest.Read(t, "testdata/"+tc.args+".in.yaml")
			q := decodeQuotas(t, &render(t, traffic).EnvoyFilter.Spec)
			var hosts []string
			for h, limits := range q.hosts {
				hosts = append(hosts, h)
				if len(limits) == 0 {
					t.Errorf("host %q asks for nothing", h)
				}
			}
			slices.Sort(hosts)
			if diff := cmp.Diff(tc.chains, q.chains) + cmp.Diff(tc.hosts, hosts); diff != "" {
				t.Errorf("%s\nchains and hosts: -want, +got:\n%s", tc.reason, diff)
			}
			for _, f := range q.filters {
				wait := ""
				if f.Timeout != nil {
					wait = f.Timeout.AsDuration().String()
				}
				service := f.RateLimitService.GetGrpcService().GetEnvoyGrpc()
				if f.Domain != traffic.QuotaDomain() || f.FailureModeDeny != tc.deny || f.StatusOnError.GetCode() != 429 || wait != tc.timeout ||
					f.EnableXRatelimitHeaders != quotav3.RateLimit_DRAFT_VERSION_03 ||
					service.GetClusterName() != "outbound|8081||ratelimit.edge.svc.cluster.local" {
					t.Errorf("the filter is %v", f)
				}
				if asked := len(f.RateLimits) > 0; asked == (len(tc.hosts) > 0) {
					t.Errorf("the filter itself asks: %t, and the hosts are %q", asked, tc.hosts)
				}
			}
		})
	}
}

// entries are what Envoy makes of a limit's actions for a request that names a variant and is routed to a cluster; nothing
// when one of them does not hold.
func entries(t *testing.T, limit *routev3.RateLimit, cluster, variant string) string {
	t.Helper()
	var all []string
	for _, a := range limit.Actions {
		switch to := a.ActionSpecifier.(type) {
		case *routev3.RateLimit_Action_GenericKey_:
			all = append(all, to.GenericKey.DescriptorKey+"="+to.GenericKey.DescriptorValue)
		case *routev3.RateLimit_Action_DestinationCluster_:
			all = append(all, "destination_cluster="+cluster)
		case *routev3.RateLimit_Action_HeaderValueMatch_:
			h := to.HeaderValueMatch.Headers[0]
			holds := h.Name == mesh.VariantHeader && variant != ""
			if re := h.GetStringMatch().GetSafeRegex(); re != nil {
				holds = holds && regexp.MustCompile("^(?:"+re.Regex+")$").MatchString(variant)
			} else {
				holds = holds && h.GetStringMatch().GetExact() == variant
			}
			if holds != to.HeaderValueMatch.ExpectMatch.GetValue() {
				return ""
			}
			all = append(all, to.HeaderValueMatch.DescriptorKey+"="+to.HeaderValueMatch.DescriptorValue)
		default:
			t.Fatalf("the action %T is not known", to)
		}
	}
	return strings.Join(all, " ")
}

// TestEveryRequestHasOneQuota: whatever a request says of itself, it is counted once, and under a quota that the service has
// been given.
func TestEveryRequestHasOneQuota(t *testing.T) {
	for _, name := range []string{"quota-canary", "quota-arms", "quota-gateway", "quota-waypoint"} {
		t.Run(name, func(t *testing.T) {
			traffic := meshtest.Read(t, "testdata/"+name+".in.yaml")
			o := render(t, traffic)
			_, known := quotaConfigOf(t, o.Quotas)
			q := decodeQuotas(t, &o.EnvoyFilter.Spec)
			all := [][]*routev3.RateLimit{}
			for _, h := range q.hosts {
				all = append(all, h)
			}
			for _, f := range q.filters {
				if len(f.RateLimits) > 0 {
					all = append(all, f.RateLimits)
				}
			}
			for _, limits := range all {
				for _, c := range limitedClusters(traffic) {
					for _, variant := range []string{"", "stable", "canary", "quantised", "nobody"} {
						var counted []string
						for _, l := range limits {
							if e := entries(t, l, c.name, variant); e != "" {
								counted = append(counted, e)
							}
						}
						if len(counted) != 1 || known[counted[0]] == "" {
							t.Errorf("a request of %q to %q is counted as %q; the service knows %v", variant, c.name, counted, known)
						}
					}
				}
			}
		})
	}
}

// TestNoQuotaWithoutRequests: where nobody is limited there is nothing to count, and what was there has to go.
func TestNoQuotaWithoutRequests(t *testing.T) {
	traffic := meshtest.Read(t, "testdata/quota-canary.in.yaml")
	traffic.Shares = traffic.Shares[:1]
	traffic.Shares[0].Buckets = nil
	for b := range mesh.Buckets {
		traffic.Shares[0].Buckets = append(traffic.Shares[0].Buckets, b)
	}
	if o := render(t, traffic); o.EnvoyFilter != nil || o.Quotas != nil {
		t.Errorf("without a canary there are %v and %v", o.EnvoyFilter, o.Quotas)
	}
}

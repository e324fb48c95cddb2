package envoy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"      // what is said to it can be read
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"     // and to this one
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3" // and to this one
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Route is a route of Envoy in plain values, with everything that decides who meets which cluster, and how.
type Route struct {
	Name string
	// Match is one line for each condition, sorted: "prefix /", `x-siskin-bucket regex ^(07)$`, `not cookie present`.
	Match        []string
	Destinations []Destination
	// Retries are further attempts; 0 is none.
	Retries uint32
	RetryOn string
	// RetryCodes are the statuses that "retriable-status-codes" means.
	RetryCodes []uint32
	// Timeout of the whole exchange; 0 is none.
	Timeout time.Duration
	// Rewrite is what becomes of the path's beginning and of the host: "path /api/", "host a.example.com".
	Rewrite []string
	// Hash policies ("decides" before them where they choose the destination), mirrors ("CLUSTER 10%", and whether copies keep
	// the host) and what the route says to filters, in words ("NAME JSON"; "host's" before what holds for the whole virtual
	// host). Siskin's routes have none but the hashed one, and those of a shadow.
	Hash, Mirrors, Filters []string

	holds func(Request) bool
	// hash is the one that stands for the draw, where one does and the request has what is hashed.
	hash func(Request) (uint64, bool)
}

// Destination is a cluster, its weight, and the headers that choosing it writes. Values of set replace, those of add are
// appended. A single destination has the weight 1, whatever was said.
type Destination struct {
	Cluster                  string
	Weight                   uint32
	SetRequest, AddRequest   map[string]string
	SetResponse, AddResponse map[string]string
}

// The fields that are read, and after them those that decide nothing about what a request meets: where a route comes from, and
// what it is called in traces.
var (
	hostFields  = []string{"name", "domains", "routes", "typed_per_filter_config", "include_request_attempt_count"}
	routeFields = []string{
		"name", "match", "route", "request_headers_to_add", "response_headers_to_add", "typed_per_filter_config", "metadata", "decorator",
	}
	actionFields = []string{
		"cluster", "weighted_clusters", "timeout", "max_grpc_timeout", "retry_policy", "hash_policy", "request_mirror_policies", "rate_limits",
		"prefix_rewrite", "host_rewrite_literal", "cluster_not_found_response_code",
	}
	retryFields = []string{"num_retries", "retry_on", "retriable_status_codes", "retry_host_predicate", "host_selection_retry_max_attempts"}
)

// Routes reads the routes of a virtual host. What it does not know it refuses: an evaluation that leaves something out
// would prove nothing.
func Routes(vh *routev3.VirtualHost) ([]Route, error) {
	if err := only(vh, hostFields...); err != nil {
		return nil, fmt.Errorf("reading virtual host %q: %w", vh.GetName(), err)
	}
	shared, err := readFilters("host's ", vh.GetTypedPerFilterConfig())
	if err != nil {
		return nil, fmt.Errorf("reading virtual host %q: %w", vh.GetName(), err)
	}
	var out []Route
	for i, r := range vh.GetRoutes() {
		read, err := readRoute(r)
		if err != nil {
			return nil, fmt.Errorf("reading route %d (%q) of virtual host %q: %w", i, r.GetName(), vh.GetName(), err)
		}
		read.Filters = append(read.Filters, shared...)
		out = append(out, read)
	}
	return out, nil
}

func readRoute(in *routev3.Route) (Route, error) {
	out := Route{Name: in.GetName()}
	action := in.GetRoute()
	if action == nil {
		return out, fmt.Errorf("the action %T is not known", in.GetAction())
	}
	read := []func() error{
		func() error { return only(in, routeFields...) },
		func() error { return only(action, actionFields...) },
		func() error { return out.readMatch(in.GetMatch()) },
		func() error { return out.readDestinations(in, action) },
		func() error { return out.readRetries(action.GetRetryPolicy()) },
		func() error { return out.readTimeout(action) },
		func() error { return out.readHash(action) },
		func() error { return out.readMirrors(action.GetRequestMirrorPolicies()) },
	}
	for _, part := range read {
		if err := part(); err != nil {
			return out, err
		}
	}
	if to := action.GetPrefixRewrite(); to != "" {
		out.Rewrite = append(out.Rewrite, "path "+to)
	}
	if to := action.GetHostRewriteLiteral(); to != "" {
		out.Rewrite = append(out.Rewrite, "host "+to)
	}
	for _, l := range action.GetRateLimits() {
		out.Filters = append(out.Filters, l.String())
	}
	filters, err := readFilters("", in.GetTypedPerFilterConfig())
	out.Filters = append(out.Filters, filters...)
	return out, err
}

func (r *Route) readRetries(in *routev3.RetryPolicy) error {
	if in == nil {
		return nil
	}
	r.Retries, r.RetryOn, r.RetryCodes = in.GetNumRetries().GetValue(), in.GetRetryOn(), in.GetRetriableStatusCodes()
	if in.GetNumRetries() == nil {
		r.Retries = 1 // Envoy's default
	}
	return only(in, retryFields...)
}

// readTimeout refuses another one for gRPC.
func (r *Route) readTimeout(in *routev3.RouteAction) error {
	r.Timeout = in.GetTimeout().AsDuration()
	//nolint:staticcheck // Istio sets the old field, since the one in its place has regressions.
	if other := in.GetMaxGrpcTimeout(); other != nil && other.AsDuration() != r.Timeout {
		return fmt.Errorf("the timeout is %s, and for gRPC %s", r.Timeout, other.AsDuration())
	}
	return nil
}

// readHash compiles the hash where it decides: that of a single header, as Envoy takes it.
func (r *Route) readHash(in *routev3.RouteAction) error {
	var names []string
	for _, h := range in.GetHashPolicy() {
		words, name := h.String(), h.GetHeader().GetHeaderName()
		if name != "" {
			words, names = "header "+name, append(names, strings.ToLower(name))
		}
		r.Hash = append(r.Hash, words)
	}
	if !in.GetWeightedClusters().GetUseHashPolicy().GetValue() {
		return nil
	}
	if len(names) != 1 || len(in.GetHashPolicy()) != 1 {
		return fmt.Errorf("a hash of anything but one header is not known: %v", r.Hash)
	}
	if err := only(in.GetHashPolicy()[0].GetHeader(), "header_name"); err != nil {
		return err
	}
	r.Hash = append([]string{"decides"}, r.Hash...)
	r.hash = func(q Request) (uint64, bool) {
		value, there := q.header(names[0])
		return xxhash.Sum64String(value), there
	}
	return nil
}

func (r *Route) readMirrors(in []*routev3.RouteAction_RequestMirrorPolicy) error {
	for _, m := range in {
		words, err := readMirror(m)
		if err != nil {
			return err
		}
		r.Mirrors = append(r.Mirrors, words)
	}
	return nil
}

// readFilters is what is said to filters, in words that are sorted.
func readFilters(whose string, in map[string]*anypb.Any) ([]string, error) {
	var out []string
	for name, config := range in {
		m, err := config.UnmarshalNew()
		if err != nil {
			return nil, fmt.Errorf("decoding what is said to filter %q: %w", name, err)
		}
		text, err := protojson.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("reading what is said to filter %q: %w", name, err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, text); err != nil { // its spaces differ from run to run
			return nil, fmt.Errorf("reading what is said to filter %q: %w", name, err)
		}
		out = append(out, whose+name+" "+compact.String())
	}
	slices.Sort(out)
	return out, nil
}

// readMirror is who gets copies of which share of the requests. That the copies are not traced, as istiod asks where the mesh
// says so, is nothing to the choice.
func readMirror(in *routev3.RouteAction_RequestMirrorPolicy) (string, error) {
	if err := only(in, "cluster", "runtime_fraction", "trace_sampled", "disable_shadow_host_suffix_append"); err != nil {
		return "", err
	}
	percent := 100.0 // of a policy without a fraction
	if f := in.GetRuntimeFraction().GetDefaultValue(); f != nil {
		percent = float64(f.GetNumerator()) / map[typev3.FractionalPercent_DenominatorType]float64{
			typev3.FractionalPercent_HUNDRED: 1, typev3.FractionalPercent_TEN_THOUSAND: 1e2, typev3.FractionalPercent_MILLION: 1e4,
		}[f.GetDenominator()]
	}
	words := fmt.Sprintf("%s %g%%", in.GetCluster(), percent)
	if in.GetDisableShadowHostSuffixAppend() {
		return words + ", host as it was", nil
	}
	return words, nil
}

// only fails when the message has a field that is set and not named.
func only(m proto.Message, fields ...string) error {
	set := m.ProtoReflect()
	for i := range set.Descriptor().Fields().Len() {
		fd := set.Descriptor().Fields().Get(i)
		if set.Has(fd) && !slices.Contains(fields, string(fd.Name())) {
			return fmt.Errorf("the field %s is not known: %v", fd.FullName(), set.Get(fd))
		}
	}
	return nil
}

// readMatch compiles the conditions, all of which must hold.
func (r *Route) readMatch(in *routev3.RouteMatch) error {
	if err := only(in, "prefix", "case_sensitive", "headers"); err != nil {
		return err
	}
	prefix := in.GetPrefix()
	conditions := []func(Request) bool{func(q Request) bool { return strings.HasPrefix(q.Path, prefix) }}
	for _, h := range in.GetHeaders() {
		words, holds, err := readHeader(h)
		if err != nil {
			return err
		}
		r.Match, conditions = append(r.Match, words), append(conditions, holds)
	}
	r.Match = append(r.Match, "prefix "+prefix)
	slices.Sort(r.Match)
	r.holds = func(q Request) bool {
		return !slices.ContainsFunc(conditions, func(c func(Request) bool) bool { return !c(q) })
	}
	return nil
}

// readHeader compiles a header matcher. A header that is missing matches nothing, also inverted, unless it is to count as
// empty or only its presence is asked for.
func readHeader(in *routev3.HeaderMatcher) (words string, holds func(Request) bool, err error) {
	err = only(in, "name", "string_match", "present_match", "invert_match", "treat_missing_header_as_empty")
	if err != nil {
		return "", nil, err
	}
	name, invert := strings.ToLower(in.GetName()), in.GetInvertMatch()
	if invert {
		words = "not "
	}
	if _, ok := in.GetHeaderMatchSpecifier().(*routev3.HeaderMatcher_PresentMatch); ok {
		wanted := in.GetPresentMatch() != invert
		return words + name + " present " + strconv.FormatBool(in.GetPresentMatch()), func(q Request) bool {
			_, there := q.header(name)
			return there == wanted
		}, nil
	}
	what, matches, err := readString(in.GetStringMatch())
	if err != nil {
		return "", nil, fmt.Errorf("header %q: %w", name, err)
	}
	orEmpty := in.GetTreatMissingHeaderAsEmpty()
	if orEmpty {
		words += "or empty "
	}
	return words + name + " " + what, func(q Request) bool {
		value, there := q.header(name)
		return (there || orEmpty) && matches(value) != invert
	}, nil
}

func readString(in *matcherv3.StringMatcher) (words string, matches func(string) bool, err error) {
	if in == nil {
		return "", nil, fmt.Errorf("no string to compare with")
	}
	if err := only(in, "exact", "prefix", "safe_regex"); err != nil {
		return "", nil, err
	}
	switch kind := in.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return "exact " + kind.Exact, func(s string) bool { return s == kind.Exact }, nil
	case *matcherv3.StringMatcher_Prefix:
		return "prefix " + kind.Prefix, func(s string) bool { return strings.HasPrefix(s, kind.Prefix) }, nil
	}
	pattern := in.GetSafeRegex().GetRegex()
	re, err := regexp.Compile(`^(?:` + pattern + `)$`) // Envoy compares the whole value
	if err != nil {
		return "", nil, fmt.Errorf("compiling %q: %w", pattern, err)
	}
	return "regex " + pattern, re.MatchString, nil
}

// readDestinations reads the single cluster or the weighted ones. What the route says of headers holds for each of them.
func (r *Route) readDestinations(in *routev3.Route, action *routev3.RouteAction) error {
	switch to := action.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		r.Destinations = []Destination{{Cluster: to.Cluster, Weight: 1}}
	case *routev3.RouteAction_WeightedClusters:
		if err := only(to.WeightedClusters, "clusters", "use_hash_policy"); err != nil {
			return err
		}
		for _, c := range to.WeightedClusters.GetClusters() {
			d, err := readDestination(c)
			if err != nil {
				return err
			}
			r.Destinations = append(r.Destinations, d)
		}
	default:
		return fmt.Errorf("the destination %T is not known", to)
	}
	for i := range r.Destinations {
		d := &r.Destinations[i]
		err := d.headers(in.GetRequestHeadersToAdd(), in.GetResponseHeadersToAdd())
		if err != nil {
			return err
		}
	}
	return nil
}

func readDestination(in *routev3.WeightedCluster_ClusterWeight) (Destination, error) {
	d := Destination{Cluster: in.GetName(), Weight: in.GetWeight().GetValue()}
	if err := only(in, "name", "weight", "request_headers_to_add", "response_headers_to_add"); err != nil {
		return d, err
	}
	return d, d.headers(in.GetRequestHeadersToAdd(), in.GetResponseHeadersToAdd())
}

func (d *Destination) headers(request, response []*corev3.HeaderValueOption) error {
	if err := headers(&d.SetRequest, &d.AddRequest, request); err != nil {
		return err
	}
	return headers(&d.SetResponse, &d.AddResponse, response)
}

func headers(set, add *map[string]string, in []*corev3.HeaderValueOption) error {
	for _, h := range in {
		into := set
		switch h.GetAppendAction() {
		case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
			into = add
		default:
			return fmt.Errorf("header %q: the action %s is not known", h.GetHeader().GetKey(), h.GetAppendAction())
		}
		if *into == nil {
			*into = map[string]string{}
		}
		(*into)[strings.ToLower(h.GetHeader().GetKey())] = h.GetHeader().GetValue()
	}
	return nil
}

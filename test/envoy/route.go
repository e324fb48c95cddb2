package envoy

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
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
	// Hash policies ("decides" before them where they choose the destination), mirrors ("CLUSTER 10%", and whether copies keep the host) and what the route changes
	// of filters, in words; Siskin's routes have none but the hashed one, and those of a shadow.
	Hash, Mirrors, Filters []string

	holds func(Request) bool
}

// Destination is a cluster, its weight, and the headers that choosing it writes. Values of set replace, those of add are
// appended. A single destination has the weight 1, whatever was said.
type Destination struct {
	Cluster                  string
	Weight                   uint32
	SetRequest, AddRequest   map[string]string
	SetResponse, AddResponse map[string]string
}

// Routes reads the routes of a virtual host. What it does not know it refuses: an evaluation that leaves something out
// would prove nothing.
func Routes(vh *routev3.VirtualHost) ([]Route, error) {
	var out []Route
	for i, r := range vh.GetRoutes() {
		read, err := readRoute(r)
		if err != nil {
			return nil, fmt.Errorf("reading route %d (%q) of virtual host %q: %w", i, r.GetName(), vh.GetName(), err)
		}
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
	if err := out.readMatch(in.GetMatch()); err != nil {
		return out, err
	}
	if err := out.readDestinations(in, action); err != nil {
		return out, err
	}
	out.Retries, out.RetryOn = action.GetRetryPolicy().GetNumRetries().GetValue(), action.GetRetryPolicy().GetRetryOn()
	out.RetryCodes = action.GetRetryPolicy().GetRetriableStatusCodes()
	if action.GetRetryPolicy() != nil && action.GetRetryPolicy().GetNumRetries() == nil {
		out.Retries = 1 // Envoy's default
	}
	out.Timeout = action.GetTimeout().AsDuration()
	for _, h := range action.GetHashPolicy() {
		words := h.String()
		if name := h.GetHeader().GetHeaderName(); name != "" {
			words = "header " + name
		}
		out.Hash = append(out.Hash, words)
	}
	for _, m := range action.GetRequestMirrorPolicies() {
		words, err := readMirror(m)
		if err != nil {
			return out, err
		}
		out.Mirrors = append(out.Mirrors, words)
	}
	for _, l := range action.GetRateLimits() {
		out.Filters = append(out.Filters, l.String())
	}
	for name := range in.GetTypedPerFilterConfig() {
		out.Filters = append(out.Filters, name)
	}
	slices.Sort(out.Filters)
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
	if len(in.GetRequestHeadersToRemove())+len(in.GetResponseHeadersToRemove()) > 0 {
		return fmt.Errorf("headers to remove are not known")
	}
	switch to := action.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		r.Destinations = []Destination{{Cluster: to.Cluster, Weight: 1}}
	case *routev3.RouteAction_WeightedClusters:
		if err := only(to.WeightedClusters, "clusters", "use_hash_policy"); err != nil {
			return err
		}
		if to.WeightedClusters.GetUseHashPolicy().GetValue() {
			r.Hash = append(r.Hash, "decides")
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

package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	api "istio.io/api/networking/v1alpha3"
)

// maxPattern is the longest expression that is accepted, in bytes: Istio's own limit for a StringMatch.
const maxPattern = 1024

// stringMatch compares one string. The zero value matches every string: the presence of a header.
type stringMatch struct {
	exact  *string
	prefix string
	fold   bool
	re     *regexp.Regexp
	// digits is re's answer for "00" to "99": a bucket needs no expression.
	digits [100]bool
}

func (m *stringMatch) matches(s string) bool {
	switch {
	case m.re != nil:
		if len(s) == 2 && isDigit(s[0]) && isDigit(s[1]) {
			return m.digits[int(s[0]-'0')*10+int(s[1]-'0')]
		}
		return m.re.MatchString(s)
	case m.exact != nil && m.fold:
		return strings.EqualFold(s, *m.exact)
	case m.exact != nil:
		return s == *m.exact
	case m.fold:
		return len(s) >= len(m.prefix) && strings.EqualFold(s[:len(m.prefix)], m.prefix)
	}
	return strings.HasPrefix(s, m.prefix)
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

// stringMatch compiles a match; nil for none, and for a refused one.
func (v *review) stringMatch(field string, in *api.StringMatch) *stringMatch {
	if in == nil {
		return nil
	}
	switch kind := in.MatchType.(type) {
	case *api.StringMatch_Exact:
		return &stringMatch{exact: &kind.Exact}
	case *api.StringMatch_Prefix:
		return &stringMatch{prefix: kind.Prefix}
	case *api.StringMatch_Regex:
		return v.expression(field+".regex", kind.Regex)
	}
	return &stringMatch{}
}

// expression is RE2 over the whole string, as Envoy does it.
func (v *review) expression(field, pattern string) *stringMatch {
	if len(pattern) > maxPattern {
		v.refuse(field, pattern, fmt.Sprintf("must be at most %d bytes long, not %d", maxPattern, len(pattern)))
		return nil
	}
	re, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		v.refuse(field, pattern, "must be an RE2 expression: "+err.Error())
		return nil
	}
	m := &stringMatch{re: re}
	for i := range m.digits {
		m.digits[i] = re.MatchString(fmt.Sprintf("%02d", i))
	}
	return m
}

// namedMatch compares a header or a query parameter.
type namedMatch struct {
	name string
	want *stringMatch
}

// namedMatches compiles matches in the order of their names.
func (v *review) namedMatches(field string, in map[string]*api.StringMatch) []namedMatch {
	var out []namedMatch
	for _, name := range slices.Sorted(maps.Keys(in)) {
		want := v.stringMatch(field+"."+name, in[name])
		if in[name] == nil {
			want = &stringMatch{}
		}
		out = append(out, namedMatch{name: name, want: want})
	}
	return out
}

func (v *review) headerMatches(field string, in map[string]*api.StringMatch) []namedMatch {
	out := v.namedMatches(field, in)
	for i := range out {
		if strings.HasPrefix(out[i].name, ":") {
			v.refuse(field, out[i].name, "must be a header, not a pseudo-header")
		}
		out[i].name = http.CanonicalHeaderKey(out[i].name)
	}
	return out
}

// match is a conjunction. nil parts hold always.
type match struct {
	uri, scheme, method, authority *stringMatch
	port                           string
	headers, without, query        []namedMatch
}

// matchEntry compiles one match. It says false for a match that can never hold for this gateway and services with these ports.
func (c *compiler) matchEntry(v *review, field string, in *api.HTTPMatchRequest, ports []string) (match, bool) {
	v.only(field, in, "name", "uri", "scheme", "method", "authority", "headers", "port", "sourceLabels", "gateways",
		"queryParams", "ignoreUriCase", "withoutHeaders", "sourceNamespace")
	m := match{
		uri:       v.stringMatch(field+".uri", in.GetUri()),
		scheme:    v.stringMatch(field+".scheme", in.GetScheme()),
		method:    v.stringMatch(field+".method", in.GetMethod()),
		authority: v.stringMatch(field+".authority", in.GetAuthority()),
		headers:   v.headerMatches(field+".headers", in.GetHeaders()),
		without:   v.headerMatches(field+".withoutHeaders", in.GetWithoutHeaders()),
		query:     v.namedMatches(field+".queryParams", in.GetQueryParams()),
	}
	if m.uri != nil {
		m.uri.fold = in.GetIgnoreUriCase()
	}
	if in.GetPort() != 0 {
		m.port = strconv.Itoa(int(in.GetPort()))
	}
	if m.port != "" && len(ports) == 1 { // every request is for this one
		if m.port != ports[0] {
			return m, false
		}
		m.port = ""
	}
	return m, c.concerns(in)
}

// concerns evaluates what does not change between requests: who the gateway is.
func (c *compiler) concerns(in *api.HTTPMatchRequest) bool {
	if len(in.GetGateways()) > 0 && !c.serves(in.GetGateways()) {
		return false
	}
	if ns := in.GetSourceNamespace(); ns != "" && ns != c.as.Namespace {
		return false
	}
	return carries(c.as.Labels, in.GetSourceLabels())
}

// view is what matches look at. The parts that cost something are computed once, when they are asked for.
type view struct {
	r *http.Request
	// ports are those of the services that the request may be for.
	ports []string
	path  string
	query url.Values
}

func (w *view) escapedPath() string {
	if w.path == "" {
		w.path = w.r.URL.EscapedPath()
	}
	return w.path
}

func (w *view) parameters() url.Values {
	if w.query == nil {
		w.query = w.r.URL.Query()
	}
	return w.query
}

func (m *match) holds(w *view) bool {
	for i := range m.headers {
		value, present := header(w.r, m.headers[i].name)
		if !present || !m.headers[i].want.matches(value) {
			return false
		}
	}
	for i := range m.without {
		if unwanted(w.r, &m.without[i]) {
			return false
		}
	}
	return m.holdsLine(w) && m.holdsQuery(w)
}

// unwanted treats a missing header as empty, except where only its presence is asked for.
func unwanted(r *http.Request, m *namedMatch) bool {
	value, present := header(r, m.name)
	onlyPresence := m.want.re == nil && m.want.exact == nil && m.want.prefix == ""
	return (present || !onlyPresence) && m.want.matches(value)
}

// holdsLine looks at the request line and the host.
func (m *match) holdsLine(w *view) bool {
	switch {
	case m.uri != nil && !m.uri.matches(w.escapedPath()):
		return false
	case m.method != nil && !m.method.matches(w.r.Method):
		return false
	case m.authority != nil && !m.authority.matches(w.r.Host):
		return false
	case m.scheme != nil && !m.scheme.matches(scheme(w.r)):
		return false
	}
	return m.port == "" || m.port == w.port()
}

func (m *match) holdsQuery(w *view) bool {
	for _, q := range m.query {
		values, present := w.parameters()[q.name]
		if !present || !q.want.matches(values[0]) {
			return false
		}
	}
	return true
}

// header is a header's value, several of one name joined as Envoy joins them.
func header(r *http.Request, name string) (string, bool) {
	if name == "Host" {
		return r.Host, r.Host != ""
	}
	values := r.Header[name]
	switch {
	case len(values) == 0:
		return "", false
	case len(values) == 1:
		return values[0], true
	case name == "Cookie":
		return strings.Join(values, "; "), true
	}
	return strings.Join(values, ","), true
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// port is the one that the request is for. The gateway listens at one address, so it is the one that the client named, or that
// its scheme stands for, where a service has it; the first of the services' ports where none has.
func (w *view) port() string {
	asked := port(w.r)
	if len(w.ports) == 0 || slices.Contains(w.ports, asked) {
		return asked
	}
	return w.ports[0]
}

// port is the port that the client asked for.
func port(r *http.Request) string {
	if _, port := splitAuthority(r.Host); port != "" {
		return port
	}
	if r.TLS != nil {
		return "443"
	}
	return "80"
}

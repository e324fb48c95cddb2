package envoy

import (
	"net"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// Request is what routes look at. Names of headers are in lower case; several headers of one name are several values.
type Request struct {
	Authority, Path string
	Headers         map[string][]string
}

// header is the value that is compared: several of one name are joined.
func (q Request) header(name string) (string, bool) {
	if name == ":authority" {
		return q.Authority, true
	}
	values := q.Headers[name]
	separator := ","
	if name == "cookie" {
		separator = "; "
	}
	return strings.Join(values, separator), len(values) > 0
}

// Choose takes the first route that matches, and of its destinations the one on which the draw falls, or the hash where one
// decides: they lie side by side in their order, each as wide as its weight, and the draw counts modulo their sum. False when
// no route matches.
func Choose(routes []Route, q Request, draw uint64) (Route, Destination, bool) {
	i := slices.IndexFunc(routes, func(r Route) bool { return r.holds(q) })
	if i < 0 {
		return Route{}, Destination{}, false
	}
	r := routes[i]
	var sum uint64
	for _, d := range r.Destinations {
		sum += uint64(d.Weight)
	}
	if sum == 0 {
		return r, Destination{}, false
	}
	at := draw % sum
	if r.hash != nil {
		if hash, there := r.hash(q); there {
			at = hash % sum
		}
	}
	for _, d := range r.Destinations {
		if at < uint64(d.Weight) {
			return r, d, true
		}
		at -= uint64(d.Weight)
	}
	return r, Destination{}, false
}

// Host is the virtual host that serves an authority: the one that names it exactly, else the one with the longest suffix
// ("*.example.com"), else the one for all; nil for none. Names are compared without case, and without the port where the
// configuration says so.
func Host(config *routev3.RouteConfiguration, authority string) *routev3.VirtualHost {
	authority = strings.ToLower(authority)
	if config.GetIgnorePortInHostMatching() {
		if host, _, err := net.SplitHostPort(authority); err == nil {
			authority = host
		}
	}
	var best *routev3.VirtualHost
	longest := -1
	for _, vh := range config.GetVirtualHosts() {
		for _, domain := range vh.GetDomains() {
			if n := fits(strings.ToLower(domain), authority); n > longest {
				best, longest = vh, n
			}
		}
	}
	return best
}

// exactly is better than any suffix: no name in DNS is as long.
const exactly = 1 << 10

// fits says how well a domain serves an authority; -1 for not at all.
func fits(domain, authority string) int {
	suffix, wild := strings.CutPrefix(domain, "*")
	switch {
	case domain == authority:
		return exactly
	case wild && len(authority) > len(suffix) && strings.HasSuffix(authority, suffix):
		return len(suffix)
	}
	return -1
}

package mesh

import (
	"regexp"
	"strings"
)

// Request is what the routes look at: header values by lower-case name. A proxy joins several headers of one name into
// one value, by "," in general and by "; " for "cookie".
type Request map[string]string

// Caller is who sends a request, to which port and for which host (without a port). The zero Caller is nobody in particular:
// no match that asks for a port, a host or a source holds.
type Caller struct {
	Port int
	Host string
	// Labels are those of the caller's pod.
	Labels map[string]string
}

// Choose evaluates the routes as a data plane does: the first route that matches the request, and in it the destination
// on which the draw, in [0, 1), falls. It says false when no route matches. It compiles expressions on each call: it is
// the oracle that the rooms and their tests share, not a data plane.
func Choose(routes []Route, req Request, draw float64) (Destination, bool) {
	return Caller{}.Choose(routes, req, draw)
}

// Choose is Choose for the requests of the caller.
func (c Caller) Choose(routes []Route, req Request, draw float64) (Destination, bool) {
	for _, r := range routes {
		if r.matches(c, req) {
			return r.pick(draw)
		}
	}
	return Destination{}, false
}

func (r Route) matches(c Caller, req Request) bool {
	for _, m := range r.Matches {
		if m.concerns(c) && m.holds(req) {
			return true
		}
	}
	return len(r.Matches) == 0
}

// pick walks the destinations in order, each as wide as its weight.
func (r Route) pick(draw float64) (Destination, bool) {
	total := 0
	for _, d := range r.Destinations {
		total += d.Weight
	}
	at, edge := draw*float64(total), 0
	for _, d := range r.Destinations {
		edge += d.Weight
		if at < float64(edge) {
			return d, true
		}
	}
	return Destination{}, false
}

// concerns says whether the match is for the caller.
func (m Match) concerns(c Caller) bool {
	for name, want := range m.Source {
		if value, has := c.Labels[name]; !has || value != want {
			return false
		}
	}
	return (m.Port == 0 || m.Port == c.Port) && (m.Host == "" || strings.EqualFold(m.Host, c.Host))
}

func (m Match) holds(req Request) bool {
	for name, want := range m.Headers {
		value, present := req[name]
		if !present || !want.holds(value) {
			return false
		}
	}
	for name, unwanted := range m.Without {
		if unwanted.holds(req[name]) { // a missing header counts as empty
			return false
		}
	}
	return true
}

// holds compares the whole value. An expression that does not compile holds for nothing.
func (m StringMatch) holds(value string) bool {
	if m.Regex != "" {
		re, err := regexp.Compile(`^(?:` + m.Regex + `)$`)
		return err == nil && re.MatchString(value)
	}
	return m.Exact == value
}

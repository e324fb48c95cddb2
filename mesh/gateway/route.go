package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	api "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
)

// route is what to do with the requests that any of its matches holds for; without matches, with all.
type route struct {
	name              string
	matches           []match
	destinations      []destination
	total             uint32
	request, response headerOps
	rewrite           *api.HTTPRewrite
	redirect          *api.HTTPRedirect
	direct            *directResponse
	delay             fault
	abort             fault
	mirrors           []mirror
	timeout           time.Duration
	retry             retry
}

// destination is a cluster, its share of the route's requests, and the headers that choosing it changes.
type destination struct {
	cluster           *cluster
	weight            uint32
	request, response headerOps
}

type directResponse struct {
	status int
	body   []byte
}

// fault is a delay or an abort for a share of the requests.
type fault struct {
	perMillion uint32
	delay      time.Duration
	status     int
}

type mirror struct {
	cluster    *cluster
	perMillion uint32
}

// find is the first match of the route that holds; nil and true for a route without matches.
func (r *route) find(w *view) (*match, bool) {
	for i := range r.matches {
		if r.matches[i].holds(w) {
			return &r.matches[i], true
		}
	}
	return nil, len(r.matches) == 0
}

// holdsAt says whether the route can take requests for a port.
func (r *route) holdsAt(port string) bool {
	return len(r.matches) == 0 || slices.ContainsFunc(r.matches, func(m match) bool { return m.port == "" || m.port == port })
}

// pick walks the destinations in order, each as wide as its weight.
func (r *route) pick(draw func() uint32) *destination {
	if len(r.destinations) == 1 {
		return &r.destinations[0]
	}
	at := draw() % r.total
	for i := range r.destinations {
		if at < r.destinations[i].weight {
			return &r.destinations[i]
		}
		at -= r.destinations[i].weight
	}
	return nil
}

// routes compiles the routes of an object for services with these ports. A route whose matches can never hold for this gateway
// is left out.
func (c *compiler) routes(v *review, vs *networkingv1.VirtualService, ports []string) []*route {
	var out []*route
	for i, in := range vs.Spec.Http {
		field := fmt.Sprintf("spec.http[%d]", i)
		v.only(field, in, "name", "match", "route", "redirect", "directResponse", "rewrite", "timeout", "retries",
			"fault", "mirror", "mirrors", "mirrorPercent", "mirrorPercentage", "headers")
		r := &route{name: in.GetName(), timeout: v.duration(field+".timeout", in.GetTimeout())}
		r.request = v.headerOps(field+".headers.request", in.GetHeaders().GetRequest())
		r.response = v.headerOps(field+".headers.response", in.GetHeaders().GetResponse())
		r.retry = v.retries(field+".retries", in.GetRetries())
		c.action(v, field, vs.Namespace, in, r)
		c.mirrors(v, field, vs.Namespace, in, r)
		v.faults(field+".fault", in.GetFault(), r)
		never := len(in.GetMatch()) > 0
		for j, entry := range in.GetMatch() {
			if m, ever := c.matchEntry(v, fmt.Sprintf("%s.match[%d]", field, j), entry, ports); ever {
				r.matches, never = append(r.matches, m), false
			}
		}
		if !never {
			out = append(out, r)
		}
	}
	return out
}

// action compiles exactly one of route, redirect and directResponse.
func (c *compiler) action(v *review, field, namespace string, in *api.HTTPRoute, r *route) {
	v.only(field+".rewrite", in.GetRewrite(), "uri", "authority")
	v.only(field+".redirect", in.GetRedirect(), "uri", "authority", "port", "scheme", "redirectCode")
	v.only(field+".directResponse", in.GetDirectResponse(), "status", "body")
	r.rewrite, r.redirect = in.GetRewrite(), in.GetRedirect()
	actions := 0
	if d := in.GetDirectResponse(); d != nil {
		actions++
		r.direct = &directResponse{status: int(d.GetStatus()), body: d.GetBody().GetBytes()}
		if text := d.GetBody().GetString_(); text != "" {
			r.direct.body = []byte(text)
		}
		v.status(field+".directResponse.status", r.direct.status)
	}
	if r.redirect != nil {
		actions++
		if code := r.redirect.GetRedirectCode(); code != 0 {
			v.redirectCode(field+".redirect.redirectCode", code)
		}
	}
	if len(in.GetRoute()) > 0 {
		actions++
		c.destinations(v, field, namespace, in.GetRoute(), r)
	}
	if actions != 1 {
		v.refuse(field, in.GetName(), "must have exactly one of route, redirect and directResponse")
	}
}

func (v *review) status(field string, status int) {
	if status < 200 || status > 599 {
		v.refuse(field, status, "must be a status from 200 to 599")
	}
}

func (v *review) redirectCode(field string, code uint32) {
	if !slices.Contains([]uint32{301, 302, 303, 307, 308}, code) {
		v.refuse(field, code, "must be 301, 302, 303, 307 or 308")
	}
}

// destinations compiles the split. One destination alone gets everything, whatever its weight; among several, a
// weight of 0 gets nothing.
func (c *compiler) destinations(v *review, field, namespace string, in []*api.HTTPRouteDestination, r *route) {
	for i, d := range in {
		at := fmt.Sprintf("%s.route[%d]", field, i)
		v.only(at, d, "destination", "weight", "headers")
		if d.GetWeight() < 0 {
			v.refuse(at+".weight", d.GetWeight(), "must not be negative")
			continue
		}
		if d.GetWeight() == 0 && len(in) > 1 {
			continue
		}
		to := destination{weight: uint32(d.GetWeight())}
		to.cluster = c.destination(v, at+".destination", namespace, d.GetDestination())
		to.request = v.headerOps(at+".headers.request", d.GetHeaders().GetRequest())
		to.response = v.headerOps(at+".headers.response", d.GetHeaders().GetResponse())
		r.destinations = append(r.destinations, to)
		r.total += to.weight
	}
	if len(r.destinations) == 0 {
		v.refuse(field+".route", 0, "must have a weight above 0")
	}
}

// destination is the cluster behind a destination. A host or subset that is not there yet is no reason to refuse:
// objects arrive in any order.
func (c *compiler) destination(v *review, field, namespace string, in *api.Destination) *cluster {
	v.only(field, in, "host", "subset", "port")
	if in.GetHost() == "" {
		v.refuse(field+".host", "", "must name a service")
	}
	return c.cluster(clusterKey{
		host:   hostname(in.GetHost(), namespace),
		subset: in.GetSubset(),
		port:   in.GetPort().GetNumber(),
	})
}

// mirrors compiles mirror and mirrors. Without a percentage everything is mirrored.
func (c *compiler) mirrors(v *review, field, namespace string, in *api.HTTPRoute, r *route) {
	if m := in.GetMirror(); m != nil {
		share := v.percent(field+".mirrorPercentage", in.GetMirrorPercentage())
		if old := in.GetMirrorPercent(); old != nil && in.GetMirrorPercentage() == nil { //nolint:staticcheck // deprecated, and still what old objects say
			share = v.percent(field+".mirrorPercent", &api.Percent{Value: float64(old.GetValue())})
		}
		to := c.destination(v, field+".mirror", namespace, m)
		r.mirrors = append(r.mirrors, mirror{cluster: to, perMillion: share})
	}
	for i, m := range in.GetMirrors() {
		at := fmt.Sprintf("%s.mirrors[%d]", field, i)
		v.only(at, m, "destination", "percentage")
		to := c.destination(v, at+".destination", namespace, m.GetDestination())
		r.mirrors = append(r.mirrors, mirror{cluster: to, perMillion: v.percent(at+".percentage", m.GetPercentage())})
	}
}

// million is the denominator of shares: Istio's percentages have four decimals.
const million = 1_000_000

// percent is a share of a million; all of it when there is no percentage.
func (v *review) percent(field string, p *api.Percent) uint32 {
	if p == nil {
		return million
	}
	// The negation refuses NaN as well.
	if !(p.GetValue() >= 0 && p.GetValue() <= 100) {
		v.refuse(field, p.GetValue(), "must be between 0 and 100")
		return 0
	}
	return uint32(p.GetValue() * million / 100)
}

func (v *review) faults(field string, in *api.HTTPFaultInjection, r *route) {
	v.only(field, in, "delay", "abort")
	if d := in.GetDelay(); d != nil {
		v.only(field+".delay", d, "fixedDelay", "percentage", "percent")
		r.delay = fault{perMillion: v.percent(field+".delay.percentage", d.GetPercentage())}
		if old := d.GetPercent(); old != 0 && d.GetPercentage() == nil { //nolint:staticcheck // Deprecated, but Istio obeys it.
			r.delay.perMillion = v.percent(field+".delay.percent", &api.Percent{Value: float64(old)})
		}
		r.delay.delay = v.duration(field+".delay.fixedDelay", d.GetFixedDelay())
	}
	if a := in.GetAbort(); a != nil {
		v.only(field+".abort", a, "httpStatus", "percentage")
		r.abort = fault{perMillion: v.percent(field+".abort.percentage", a.GetPercentage()), status: int(a.GetHttpStatus())}
		v.status(field+".abort.httpStatus", r.abort.status)
	}
}

// duration is 0 for none.
func (v *review) duration(field string, d *durationpb.Duration) time.Duration {
	if d != nil && (d.CheckValid() != nil || d.AsDuration() < 0) {
		v.refuse(field, d, "must be a duration that is not negative")
	}
	return d.AsDuration()
}

// headerOps changes headers: first what to remove, then what to replace, then what to append. Names are canonical. The
// values of set have no spare capacity, so that a request that shares one cannot append to it.
type headerOps struct {
	remove []string
	set    map[string][]string
	add    map[string]string
	// host replaces the authority of a request.
	host string
}

func (o *headerOps) apply(h http.Header) {
	for _, name := range o.remove {
		delete(h, name)
	}
	maps.Copy(h, o.set)
	for name, value := range o.add {
		h[name] = append(slices.Clip(h[name]), value)
	}
}

// headerOps compiles header operations.
func (v *review) headerOps(field string, in *api.Headers_HeaderOperations) headerOps {
	o := headerOps{set: map[string][]string{}, add: map[string]string{}}
	v.only(field, in, "set", "add", "remove")
	for _, name := range slices.Sorted(maps.Keys(in.GetSet())) {
		value := v.headerValue(field+".set."+name, in.GetSet()[name])
		if key := http.CanonicalHeaderKey(name); key == "Host" || key == ":authority" {
			o.host = value
		} else {
			o.set[key] = []string{value}[:1:1]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.GetAdd())) {
		o.add[http.CanonicalHeaderKey(name)] = v.headerValue(field+".add."+name, in.GetAdd()[name])
	}
	for _, name := range in.GetRemove() {
		o.remove = append(o.remove, http.CanonicalHeaderKey(name))
	}
	return o
}

// headerValue refuses Envoy's commands, such as %REQ(x)%: the gateway would send them as text.
func (v *review) headerValue(field, value string) string {
	if strings.Contains(strings.ReplaceAll(value, "%%", ""), "%") {
		v.refuse(field, value, `must not contain "%", which begins a command of Envoy`)
	}
	if strings.ContainsAny(value, "\r\n\x00") {
		v.refuse(field, value, "must not contain line breaks or NUL")
	}
	return strings.ReplaceAll(value, "%%", "%")
}

// retry says when a request is sent again. attempts does not count the first.
type retry struct {
	attempts   int
	perTry     time.Duration
	backoff    time.Duration
	conditions map[string]bool
	statuses   map[int]bool
}

// baseBackoff is Envoy's default: the first retry waits up to 25 ms, later ones up to ten times that.
const baseBackoff = 25 * time.Millisecond

// retryConditions are the words of retryOn that the gateway obeys.
func retryConditions() []string {
	return []string{
		"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "refused-stream",
		"retriable-4xx", "cancelled", "unavailable", "deadline-exceeded", "internal", "resource-exhausted",
	}
}

// defaultRetry is Istio's policy for routes that say nothing.
func defaultRetry() retry {
	return retry{attempts: 2, backoff: baseBackoff, conditions: map[string]bool{
		"connect-failure": true, "refused-stream": true, "unavailable": true, "cancelled": true,
	}}
}

// retries compiles a policy. None is Istio's default, and a policy without attempts means no retries.
func (v *review) retries(field string, in *api.HTTPRetry) retry {
	r := defaultRetry()
	if in == nil {
		return r
	}
	v.only(field, in, "attempts", "perTryTimeout", "retryOn", "backoff")
	r.attempts = int(in.GetAttempts())
	r.perTry = v.duration(field+".perTryTimeout", in.GetPerTryTimeout())
	if r.attempts < 0 {
		v.refuse(field+".attempts", r.attempts, "must not be negative")
	}
	if in.GetBackoff() != nil {
		r.backoff = v.duration(field+".backoff", in.GetBackoff())
	}
	if in.GetRetryOn() != "" {
		v.retryOn(field+".retryOn", in.GetRetryOn(), &r)
	}
	return r
}

func (v *review) retryOn(field, words string, r *retry) {
	r.conditions, r.statuses = map[string]bool{}, map[int]bool{}
	for word := range strings.SplitSeq(words, ",") {
		word = strings.TrimSpace(word)
		code, err := strconv.Atoi(word)
		switch {
		case err == nil && code >= 100 && code <= 599:
			r.statuses[code] = true
		case slices.Contains(retryConditions(), word):
			r.conditions[word] = true
		default:
			v.refuse(field, word, "must be a status or one of "+strings.Join(retryConditions(), ", "))
		}
	}
}

package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"
)

// Response flags, Envoy's words for why a response is not the upstream's.
const (
	flagNone         = "-"
	flagNoRoute      = "NR"
	flagNoCluster    = "NC"
	flagNoHealthy    = "UH"
	flagConnect      = "UF"
	flagReset        = "UC"
	flagTimeout      = "UT"
	flagClientGone   = "DC"
	flagRateLimited  = "RL"
	flagFaultAborted = "FI"
	flagFaultDelayed = "DI"
)

// Why a request was cut short.
var (
	errRouteTimeout = errors.New("route timed out")
	errTryTimeout   = errors.New("try timed out")
)

// exchange is one request on its way through the gateway. Exchanges are pooled: the reverse proxy's functions are
// methods of the exchange, so that a request allocates neither them nor a context to find its state by. Nothing outside
// the handler's goroutine may keep one.
type exchange struct {
	g     *Gateway
	proxy httputil.ReverseProxy

	w        http.ResponseWriter
	r        *http.Request
	started  time.Time
	view     view
	route    *route
	matched  *match
	to       *destination
	endpoint *endpoint
	series   *series
	limited  *limit
	// remaining and reset are what limited's bucket said.
	remaining uint32
	reset     time.Duration
	body      body
	upstream  watchedBody
	out       outcome
	// sent is when a request that may be copied went upstream. Each of the copies waits for its answer.
	sent     time.Time
	copies   []chan<- response
	answered response
	// done is set when the response was written to its end.
	done    bool
	cancels []context.CancelFunc
}

func newExchange(g *Gateway) *exchange {
	x := &exchange{g: g}
	x.proxy = httputil.ReverseProxy{
		Rewrite:        x.rewrite,
		Transport:      x,
		ModifyResponse: x.received,
		ErrorHandler:   x.failed,
		BufferPool:     &g.buffers,
		ErrorLog:       slog.NewLogLogger(g.Logger.Handler(), slog.LevelDebug),
	}
	return x
}

func (x *exchange) begin(w http.ResponseWriter, r *http.Request) {
	x.w, x.r, x.started = w, r, time.Now()
	x.view = view{r: r}
	x.series = x.g.unrouted
	x.out = outcome{
		flags: flagNone, grpc: strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"), bucket: x.g.Metrics.bucketOf(r),
	}
}

// end counts the request, also when the handler panics because a response broke off.
func (x *exchange) end() {
	if !x.done {
		x.brokenOff()
	}
	for _, cancel := range x.cancels {
		cancel()
	}
	x.leave()
	x.series.observe(x.out, time.Since(x.started))
	if !x.sent.IsZero() {
		x.series.arrived(x.out, time.Since(x.sent))
	}
	x.hand()
	clear(x.cancels)
	clear(x.copies)
	*x = exchange{g: x.g, proxy: x.proxy, cancels: x.cancels[:0], copies: x.copies[:0]}
	x.g.exchanges.Put(x)
}

// brokenOff says who ended a response before its end.
func (x *exchange) brokenOff() {
	switch {
	case errors.Is(context.Cause(x.r.Context()), errRouteTimeout):
		x.out.flags = flagTimeout
	case x.upstream.err != nil && x.r.Context().Err() == nil:
		x.out.flags = flagReset
	default:
		x.out.flags = flagClientGone
	}
}

// serve goes through the stages until one of them answers.
func (x *exchange) serve(t *Table) {
	stages := [...]func(*exchange, *Table) bool{
		(*exchange).find, (*exchange).inject, (*exchange).answer, (*exchange).choose, (*exchange).limit, (*exchange).read,
	}
	for _, stage := range stages {
		if stage(x, t) {
			x.done = true
			return
		}
	}
	x.proxy.ServeHTTP(x.w, x.r)
	x.done = true
}

// reply answers in place of an upstream. A request that has a destination gets the headers of its routes, so that a unit
// whose bucket was drawn keeps it whatever happens.
func (x *exchange) reply(code int, flag, text string) {
	x.out.code = code
	if flag != flagNone {
		x.out.flags = flag
	}
	h := x.w.Header()
	if x.to != nil {
		x.to.response.apply(h)
		x.route.response.apply(h)
	}
	if code == 0 {
		// The client is gone, or broke off its own request: this reaches hardly anybody.
		code = http.StatusBadRequest
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	x.w.WriteHeader(code)
	_, _ = io.WriteString(x.w, text)
}

func (x *exchange) find(t *Table) bool {
	vh := t.find(x.r.Host)
	if vh == nil {
		x.reply(http.StatusNotFound, flagNoRoute, "no virtual host\n")
		return true
	}
	x.view.ports = vh.ports
	for _, r := range vh.routes {
		if m, ok := r.find(&x.view); ok {
			x.route, x.matched = r, m
			x.deadline(r.timeout)
			return false
		}
	}
	x.reply(http.StatusNotFound, flagNoRoute, "no route\n")
	return true
}

func (x *exchange) deadline(timeout time.Duration) {
	if timeout <= 0 {
		return
	}
	ctx, cancel := context.WithTimeoutCause(x.r.Context(), timeout, errRouteTimeout)
	x.cancels = append(x.cancels, cancel)
	x.r = x.r.WithContext(ctx)
}

// drawn says whether a share of a million takes this request.
func (g *Gateway) drawn(perMillion uint32) bool {
	return perMillion >= million || perMillion > 0 && g.Draw()%million < perMillion
}

// inject delays and aborts as the route's faults ask for.
func (x *exchange) inject(*Table) bool {
	if d := x.route.delay; d.delay > 0 && x.g.drawn(d.perMillion) {
		x.out.flags = flagFaultDelayed
		if !x.wait(d.delay) {
			x.reply(x.failure(context.Cause(x.r.Context())))
			return true
		}
	}
	if a := x.route.abort; a.status > 0 && x.g.drawn(a.perMillion) {
		x.reply(a.status, flagFaultAborted, "fault filter abort\n")
		return true
	}
	return false
}

// wait says false when the request ended first.
func (x *exchange) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-x.r.Context().Done():
		return false
	}
}

// answer is for routes that lead nowhere.
func (x *exchange) answer(*Table) bool {
	h := x.w.Header()
	switch {
	case x.route.direct != nil:
		x.route.response.apply(h)
		x.reply(x.route.direct.status, flagNone, string(x.route.direct.body))
	case x.route.redirect != nil:
		x.route.response.apply(h)
		h.Set("Location", location(x.route.redirect, x.r))
		code := int(x.route.redirect.GetRedirectCode())
		if code == 0 {
			code = http.StatusMovedPermanently
		}
		x.reply(code, flagNone, "")
	default:
		return false
	}
	return true
}

// choose draws the destination and its endpoint.
func (x *exchange) choose(*Table) bool {
	x.to = x.route.pick(x.g.Draw)
	cl := x.to.cluster
	x.series = cl.failed
	if cl.missing {
		x.reply(http.StatusServiceUnavailable, flagNoCluster, "no cluster\n")
		return true
	}
	e := cl.pick(x.g.Draw, nil)
	if e == nil {
		x.reply(http.StatusServiceUnavailable, flagNoHealthy, "no healthy upstream\n")
		return true
	}
	x.enter(e)
	return false
}

func (x *exchange) enter(e *endpoint) {
	x.leave()
	e.active.Add(1)
	x.endpoint, x.series = e, e.series
}

func (x *exchange) leave() {
	if x.endpoint != nil {
		x.endpoint.active.Add(-1)
		x.endpoint = nil
	}
}

// limit takes a token from each bucket of the endpoint. The headers are those of the tightest bucket.
func (x *exchange) limit(*Table) bool {
	for _, l := range x.endpoint.limits {
		if !x.g.drawn(l.enabled) {
			continue
		}
		ok, remaining, reset := l.bucket.take(x.g.Now())
		if l.draft03 && (x.limited == nil || remaining < x.remaining) {
			x.limited, x.remaining, x.reset = l, remaining, reset
		}
		if !ok && x.g.drawn(l.enforced) {
			l.headers.apply(x.w.Header())
			if l.draft03 {
				l.draft03Headers(x.w.Header(), remaining, reset)
			}
			x.reply(l.status, flagRateLimited, "local_rate_limited\n")
			return true
		}
	}
	return false
}

// read keeps a small body: it can be sent again, copied, and written together with the headers.
func (x *exchange) read(*Table) bool {
	r := x.r
	switch {
	case r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0:
		return false
	case r.ContentLength < 0 || r.ContentLength > x.g.MaxBodyBytes:
		x.body.stream = &streamedBody{ReadCloser: r.Body}
		return false
	}
	x.body.kept = make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, x.body.kept); err != nil {
		// Only the client can break off its own body, unless the route's time ran out first.
		code, flag, text := x.failure(err)
		if flag != flagTimeout {
			code, flag, text = 0, flagClientGone, "reading request body\n"
		}
		x.reply(code, flag, text)
		return true
	}
	return false
}

// received sees the upstream's response before the client does.
func (x *exchange) received(res *http.Response) error {
	x.out.code = res.StatusCode
	x.to.response.apply(res.Header)
	x.route.response.apply(res.Header)
	if x.limited != nil {
		x.limited.draft03Headers(res.Header, x.remaining, x.reset)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		x.upstream.ReadCloser = res.Body
		res.Body = &x.upstream
	}
	if len(x.copies) > 0 {
		x.answered = newResponse(res)
		x.upstream.kept, x.upstream.most = &x.answered.body, x.g.MaxBodyBytes
	}
	return nil
}

// failed answers when no response came.
func (x *exchange) failed(_ http.ResponseWriter, _ *http.Request, err error) { x.reply(x.failure(err)) }

// failure says what an error means to the client and to the metrics. A code of 0 means that the client is gone.
func (x *exchange) failure(err error) (code int, flag, text string) {
	ctx := x.r.Context()
	var dial *net.OpError
	switch {
	case errors.Is(err, errTryTimeout) || errors.Is(context.Cause(ctx), errRouteTimeout):
		return http.StatusGatewayTimeout, flagTimeout, "upstream request timeout\n"
	case ctx.Err() != nil || x.body.stream != nil && x.body.stream.failed.Load():
		return 0, flagClientGone, ""
	case errors.As(err, &dial) && dial.Op == "dial":
		return http.StatusServiceUnavailable, flagConnect, "upstream connect error\n"
	}
	return http.StatusServiceUnavailable, flagReset, "upstream reset before headers\n"
}

package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	api "istio.io/api/networking/v1alpha3"
)

// body is the request's body: kept in memory, or a stream, or none.
type body struct {
	kept   []byte
	stream *streamedBody
}

// attach gives the request its own reader of the body.
func (b *body) attach(out *http.Request) {
	if b.kept != nil {
		// The transport writes a body that it knows to be in memory together with the headers.
		out.Body = io.NopCloser(bytes.NewReader(b.kept))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.kept)), nil }
	}
	if b.stream != nil {
		out.Body = b.stream
	}
}

// replayable says whether the request can be sent again.
func (b *body) replayable() bool { return b.stream == nil || !b.stream.touched.Load() }

// streamedBody knows whether anything was read. The transport may read and close it after it has given up, and the server
// closes the real body, so closing does nothing: the next try may need it.
type streamedBody struct {
	io.ReadCloser
	touched, failed atomic.Bool
}

// Read is part of io.Reader.
func (b *streamedBody) Read(p []byte) (int, error) {
	b.touched.Store(true)
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.failed.Store(true)
	}
	return n, err
}

// Close is part of io.Closer.
func (b *streamedBody) Close() error { return nil }

// rewrite turns the client's request into the upstream's.
func (x *exchange) rewrite(pr *httputil.ProxyRequest) {
	out := pr.Out
	out.URL.Scheme, out.URL.Host = "http", x.endpoint.address
	out.URL.RawQuery = pr.In.URL.RawQuery
	forwarded(pr)
	if x.route.rewrite != nil {
		x.rewriteLine(out)
	}
	for _, ops := range [...]*headerOps{&x.to.request, &x.route.request} {
		ops.apply(out.Header)
		if ops.host != "" {
			out.Host = ops.host
		}
	}
	x.body.attach(out)
	for i := range x.route.mirrors {
		x.copyTo(&x.route.mirrors[i], out)
	}
}

// forwarded appends the client to X-Forwarded-For, and keeps the other headers of proxies before this one.
func forwarded(pr *httputil.ProxyRequest) {
	for _, name := range [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := pr.In.Header[name]; values != nil {
			pr.Out.Header[name] = values
		}
	}
	if host, _, err := net.SplitHostPort(pr.In.RemoteAddr); err == nil {
		if before := pr.In.Header["X-Forwarded-For"]; len(before) > 0 {
			host = strings.Join(before, ", ") + ", " + host
		}
		pr.Out.Header["X-Forwarded-For"] = []string{host}
	}
	if pr.Out.Header["X-Forwarded-Proto"] == nil {
		pr.Out.Header["X-Forwarded-Proto"] = []string{scheme(pr.In)}
	}
}

// rewriteLine replaces the part of the path that the match named: the prefix, or everything.
func (x *exchange) rewriteLine(out *http.Request) {
	if authority := x.route.rewrite.GetAuthority(); authority != "" {
		out.Host = authority
	}
	uri := x.route.rewrite.GetUri()
	if uri == "" {
		return
	}
	path, prefix := x.view.escapedPath(), "/"
	if x.matched != nil && x.matched.uri != nil {
		prefix = x.matched.uri.prefix
		if x.matched.uri.exact != nil || x.matched.uri.re != nil {
			prefix = path
		}
	}
	path = uri + path[min(len(prefix), len(path)):]
	if parsed, err := out.URL.Parse(path); err == nil && strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") {
		out.URL.Path, out.URL.RawPath = parsed.Path, parsed.RawPath
	}
}

// location is where a redirect leads: the request's own address with the parts that the redirect replaces.
func location(to *api.HTTPRedirect, r *http.Request) string {
	target, host := to.GetScheme(), to.GetAuthority()
	if target == "" {
		target = scheme(r)
	}
	if host == "" {
		host = r.Host
	}
	if to.GetPort() != 0 {
		name, _ := splitAuthority(host)
		host = name + ":" + strconv.Itoa(int(to.GetPort()))
	}
	uri := to.GetUri()
	if uri == "" {
		uri = r.URL.RequestURI()
	}
	return target + "://" + host + uri
}

// RoundTrip is part of http.RoundTripper. It sends the request to the chosen endpoint, and again to another endpoint of
// the same destination as the route's policy says: a retry never changes the variant.
func (x *exchange) RoundTrip(out *http.Request) (*http.Response, error) {
	x.endpoint.sent.Inc()
	if len(x.route.mirrors) > 0 {
		x.sent = time.Now()
	}
	for try := 0; ; try++ {
		res, err := x.try(out)
		if try >= x.route.retry.attempts || !x.again(res, err) {
			return res, err
		}
		if res != nil {
			// Enough of a small body is read that its connection serves again.
			_, _ = io.CopyN(io.Discard, res.Body, 4<<10)
			_ = res.Body.Close()
		}
		if !x.wait(x.backoff(try)) {
			return nil, context.Cause(x.r.Context())
		}
		x.g.Metrics.retries.Inc()
		x.enter(x.to.cluster.pick(x.g.Draw, x.endpoint))
		out = x.resend(out)
	}
}

// resend is a copy of the request for another endpoint: the transport may still hold the first one.
func (x *exchange) resend(out *http.Request) *http.Request {
	next, url := out.WithContext(out.Context()), *out.URL
	url.Host = x.endpoint.address
	next.URL = &url
	x.body.attach(next)
	return next
}

// backoff draws a wait below the base, doubled with each try up to ten times the base, as Envoy does.
func (x *exchange) backoff(try int) time.Duration {
	base := x.route.retry.backoff
	limit := min(base*10, base<<min(try, 10))
	return time.Duration(float64(limit) * float64(x.g.Draw()) / (1 << 32))
}

func (x *exchange) try(out *http.Request) (*http.Response, error) {
	perTry := x.route.retry.perTry
	if perTry <= 0 {
		return x.g.Transport.RoundTrip(out)
	}
	ctx, cancel := context.WithCancelCause(out.Context())
	x.cancels = append(x.cancels, func() { cancel(nil) })
	timer := time.AfterFunc(perTry, func() { cancel(errTryTimeout) })
	res, err := x.g.Transport.RoundTrip(out.WithContext(ctx))
	if err != nil && errors.Is(context.Cause(ctx), errTryTimeout) {
		return nil, errTryTimeout
	}
	if !timer.Stop() && err == nil {
		// The headers came as the time ran out, and the body is cut off already.
		_ = res.Body.Close()
		return nil, errTryTimeout
	}
	return res, err
}

// again says whether the policy wants the request sent again, and whether it can be.
func (x *exchange) again(res *http.Response, err error) bool {
	p := &x.route.retry
	if x.r.Context().Err() != nil || !x.body.replayable() {
		return false
	}
	if err == nil {
		return p.wantsStatus(res)
	}
	code, flag, _ := x.failure(err)
	unsent := flag == flagConnect && (p.conditions["connect-failure"] || p.conditions["reset-before-request"])
	return code != 0 && (unsent || p.conditions["reset"] || p.conditions["5xx"] || p.conditions["gateway-error"])
}

// wantsStatus says whether the policy wants a request with this response sent again.
func (p *retry) wantsStatus(res *http.Response) bool {
	switch code := res.StatusCode; {
	case p.statuses[code]:
		return true
	case code >= 500:
		return p.conditions["5xx"] || p.conditions["gateway-error"] && code >= 502 && code <= 504
	case code == http.StatusConflict:
		return p.conditions["retriable-4xx"]
	}
	grpc := map[string]string{"1": "cancelled", "4": "deadline-exceeded", "8": "resource-exhausted", "13": "internal", "14": "unavailable"}
	if status := res.Header["Grpc-Status"]; len(status) > 0 {
		return p.conditions[grpc[status[0]]]
	}
	return false
}

package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// mirrorTimeout bounds a copy's life.
const mirrorTimeout = 15 * time.Second

var errSwitched = errors.New("upstream switched protocols")

// copyTo sends a copy of the request to the mirror, and compares the answers when both are there. Nothing that happens to
// the copy is seen by the client: what cannot be copied at once is dropped.
func (x *exchange) copyTo(m *mirror, out *http.Request) {
	if !x.g.drawn(m.perMillion) {
		return
	}
	e := m.cluster.pick(x.g.Draw, nil)
	if e == nil || x.body.stream != nil || out.Header.Get("Upgrade") != "" || !x.g.admits(e) || !x.g.slot() {
		x.g.Metrics.mirrored.WithLabelValues(mirrorDropped).Inc()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(out.Context()), mirrorTimeout)
	shadow := out.Clone(ctx)
	shadow.URL.Host = e.address
	name, port := splitAuthority(out.Host)
	if shadow.Host = name + "-shadow"; port != "" {
		shadow.Host += ":" + port
	}
	kept := body{kept: x.body.kept}
	kept.attach(shadow)
	stable := make(chan response, 1)
	x.copies = append(x.copies, stable)
	g, o := x.g, x.out
	g.copies.Go(func() {
		defer cancel()
		defer func() { <-g.slots }()
		g.shadow(shadow, e, o, stable)
	})
}

// slot takes one of the places for copies in flight. False when there is none.
func (g *Gateway) slot() bool {
	select {
	case g.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// admits takes a token of each rate limit of the endpoint, as a request does. False when there is none.
func (g *Gateway) admits(e *endpoint) bool {
	for _, l := range e.limits {
		if !g.drawn(l.enabled) {
			continue
		}
		if ok, _, _ := l.bucket.take(g.Now()); !ok && g.drawn(l.enforced) {
			return false
		}
	}
	return true
}

// shadow sends a copy, counts it as its destination sees it, and compares its answer with that of the request itself.
func (g *Gateway) shadow(copied *http.Request, e *endpoint, o outcome, stable <-chan response) {
	e.active.Add(1)
	started := time.Now()
	own, err := g.send(copied)
	took := time.Since(started)
	e.active.Add(-1)
	result := mirrorSent
	if err != nil {
		result = mirrorFailed
	}
	g.Metrics.mirrored.WithLabelValues(result).Inc()
	o.code, o.flags = own.status, flagNone
	if err != nil {
		o.code, o.flags = copyFailure(copied.Context(), err)
	}
	e.series.arrived(o, took)
	g.Metrics.shadowed(e.peer, g.verdict(copied.Context(), own, err, stable))
}

// send is the copy's answer. An error is that of a copy which was not answered to the end.
func (g *Gateway) send(copied *http.Request) (response, error) {
	res, err := g.Transport.RoundTrip(copied)
	if err != nil {
		return response{}, err
	}
	if res.StatusCode == http.StatusSwitchingProtocols { // nobody asked for it, and the connection would be ours from here on
		return response{}, errors.Join(errSwitched, res.Body.Close())
	}
	a := newResponse(res)
	b := watchedBody{ReadCloser: res.Body, kept: &a.body, most: g.MaxBodyBytes}
	_, err = io.Copy(io.Discard, &b)
	a.whole = b.whole()
	return a, errors.Join(err, res.Body.Close())
}

// copyFailure is failure for a copy: what the mesh would count. A copy that took too long was given up by the caller.
func copyFailure(ctx context.Context, err error) (code int, flag string) {
	var dial *net.OpError
	switch {
	case ctx.Err() != nil:
		return 0, flagClientGone
	case errors.As(err, &dial) && dial.Op == "dial":
		return http.StatusServiceUnavailable, flagConnect
	}
	return http.StatusServiceUnavailable, flagReset
}

// verdict compares the two answers, once that of the request itself is there.
func (g *Gateway) verdict(ctx context.Context, own response, err error, stable <-chan response) string {
	if err != nil {
		return shadowFailed
	}
	select {
	case s := <-stable:
		return s.compare(own, g.ShadowTolerance)
	case <-ctx.Done():
		return shadowSkipped
	}
}

// hand gives the request's own response to whoever compares it with that of a copy. It never waits: each channel has room.
func (x *exchange) hand() {
	if len(x.copies) == 0 {
		return
	}
	a := x.answered
	a.whole = x.done && x.out.flags == flagNone && x.upstream.whole()
	for _, to := range x.copies {
		to <- a
	}
}

// watchedBody remembers that the upstream broke off, and, where somebody compares it, what came.
type watchedBody struct {
	io.ReadCloser
	err error
	// kept takes up to most bytes; nil when nobody wants them. long says that there were more, ended that there are no more.
	kept        *[]byte
	most        int64
	long, ended bool
}

// Read is part of io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	b.ended = b.ended || err == io.EOF
	if b.kept == nil || b.long {
		return n, err
	}
	if b.long = int64(len(*b.kept)+n) > b.most; b.long {
		*b.kept = nil
	} else {
		*b.kept = append(*b.kept, p[:n]...)
	}
	return n, err
}

// whole says whether all of the body was kept.
func (b *watchedBody) whole() bool { return b.kept != nil && b.ended && !b.long }

// response is one that is compared.
type response struct {
	status int
	// encoded says that the body is compressed.
	encoded bool
	// whole says that body is all of it.
	whole bool
	body  []byte
}

func newResponse(res *http.Response) response {
	coding := res.Header.Get("Content-Encoding")
	return response{status: res.StatusCode, encoded: coding != "" && !strings.EqualFold(coding, "identity")}
}

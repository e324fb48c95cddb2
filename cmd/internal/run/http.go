package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// headerTimeout bounds how long a client may take to send its headers: an idle flood must not hold connections.
	headerTimeout = 10 * time.Second
	// idleTimeout is longer than the 90 s after which Go's clients drop an idle connection, so that they drop first.
	idleTimeout = 2 * time.Minute
	// checkTimeout bounds all readiness checks of one probe. Kubernetes waits 1 s by default.
	checkTimeout = 900 * time.Millisecond
)

// Serve answers HTTP on the address as a part of the process and returns the address, with the port that was free when it
// asked for 0. On stop it closes the listener and lets requests in flight end.
func (p *Process) Serve(ctx context.Context, name, addr string, h http.Handler) (net.Addr, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening for %q: %w", name, err)
	}
	server := NewServer(h)
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.fail(&partError{name: name, err: err})
		}
	}()
	p.OnStop(name, func(ctx context.Context) error {
		if err := server.Shutdown(ctx); err != nil {
			return errors.Join(err, server.Close())
		}
		return nil
	})
	p.log.Info("Server started", "server", name, "address", l.Addr().String())
	return l.Addr(), nil
}

// NewServer returns a server with Siskin's time limits, which Shutdown ends as soon as its requests are answered.
func NewServer(h http.Handler) *http.Server {
	var unused unusedConns
	server := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, ConnState: unused.track}
	server.RegisterOnShutdown(unused.close)
	return server
}

// unusedConns are the connections that have not begun a request, such as the spare ones that browsers and Go's clients
// open. Shutdown takes them for busy until they are 5 s old, so that a stop would wait for nothing.
type unusedConns struct{ conns sync.Map }

// track is a http.Server's ConnState.
func (u *unusedConns) track(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		u.conns.Store(c, nil)
	} else {
		u.conns.Delete(c)
	}
}

func (u *unusedConns) close() {
	u.conns.Range(func(c, _ any) bool {
		_ = c.(net.Conn).Close() // it held nothing
		return true
	})
}

// Check is one condition of readiness. Do returns what is missing, or nil; it must obey its context.
type Check struct {
	Name string
	Do   func(context.Context) error
}

// ServeAdmin starts the admin server on the address of the flag --admin. It returns nil when that is empty.
func (p *Process) ServeAdmin(ctx context.Context, g prometheus.Gatherer, checks ...Check) (net.Addr, error) {
	if p.admin == "" {
		return nil, nil
	}
	stopping := Check{Name: "process", Do: func(context.Context) error {
		select {
		case <-p.stopped:
			return errors.New("stopping")
		default:
			return nil
		}
	}}
	return p.Serve(ctx, "admin", p.admin, AdminHandler(g, append([]Check{stopping}, checks...)...))
}

// AdminHandler serves /healthz (the process answers), /readyz (every check passes, else 503 and the reasons, one a line)
// and /metrics.
func AdminHandler(g prometheus.Gatherer, checks ...Check) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
		defer cancel()
		if err := ready(ctx, checks); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	return mux
}

func ready(ctx context.Context, checks []Check) error {
	var errs []error
	for _, c := range checks {
		if err := c.Do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
}

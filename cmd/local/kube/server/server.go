package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/siskin-dev/siskin/cmd/local/kube"
)

// startTimeout bounds Start. It takes about half a second on an idle machine; a minute is for one that compiles.
const startTimeout = time.Minute

// Options say where the API keeps its state and where it listens.
type Options struct {
	// Dir holds etcd's data, the certificates and the token. It is created when missing, readable by its owner only.
	// A server started again on the same Dir finds its objects, and earlier kubeconfigs keep working when Listen names
	// the same port. Required.
	Dir string
	// Listen is a loopback address. "" is "127.0.0.1:0", any free port.
	Listen string
	// Logger gets etcd's warnings. Nil discards them. See RouteLogs for the API server's own log.
	Logger *slog.Logger
}

// Server is a running API. Its methods may be called from any goroutine.
type Server struct {
	*kube.API
	cancel context.CancelFunc
	done   chan struct{} // closed when the API server's goroutine has ended
	err    error         // why it ended; written before done is closed
	// closeEtcd runs once: closing etcd twice panics.
	closeEtcd func()
}

// Start runs etcd, then the API server on it, and returns when the API is ready. The context bounds the start only:
// Stop ends the server.
func Start(ctx context.Context, o Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	listener, err := listenLoopback(ctx, o.Listen)
	if err != nil {
		return nil, err
	}
	secrets, err := loadSecrets(o.Dir)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	db, err := startEtcd(ctx, filepath.Join(o.Dir, "etcd"), o.Logger)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s, err := startAPI(listener, db, secrets)
	if err != nil {
		db.Close()
		return nil, errors.Join(err, listener.Close())
	}
	if err := s.waitReady(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func startAPI(listener net.Listener, db *embed.Etcd, secrets secrets) (*Server, error) {
	api, err := newAPIServer(listener, "http://"+db.Clients[0].Addr().String(), secrets)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		API:       kube.NewAPI(listener.Addr().String(), secrets.certPEM, secrets.token),
		cancel:    cancel,
		done:      make(chan struct{}),
		closeEtcd: sync.OnceFunc(db.Close),
	}
	go func() {
		defer close(s.done)
		s.err = api.PrepareRun().RunWithContext(ctx)
	}()
	return s, nil
}

// Done is closed when the API server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop ends the API server, then etcd: the other way round the API server would linger for more than a minute. It may
// be called more than once.
func (s *Server) Stop() error {
	s.cancel()
	<-s.done
	s.closeEtcd()
	if s.err != nil {
		return fmt.Errorf("running API server: %w", s.err)
	}
	return nil
}

func listenLoopback(ctx context.Context, addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("parsing listen address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("checking listen address %q: want a loopback address such as 127.0.0.1:0", addr)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening for the API: %w", err)
	}
	return l, nil
}

func makeDir(dir string) error {
	if dir == "" {
		return errors.New("checking options: Dir must be given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating state directory: %w", err)
	}
	return nil
}

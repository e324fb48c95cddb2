package prom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/siskin-dev/siskin/cmd/internal/run"
)

const (
	// drainTimeout bounds how long Stop waits for queries in flight.
	drainTimeout = 2 * time.Second
	// maxSamples is how many samples a query may hold in memory: 80 MB at 16 bytes each. Prometheus' default is ten times
	// that; here a wild query shares its memory with everything else.
	maxSamples = 5_000_000
)

// Options configure a server. All but Dir have defaults.
type Options struct {
	// Dir holds the database. Required. Samples of an earlier run that had not yet reached a block, those of the last two
	// hours, are not kept: there is no write-ahead log.
	Dir string
	// Listen is a loopback address. "" is "127.0.0.1:0", any free port.
	Listen string
	// Interval is the time between two scrapes of a target, default 1 s.
	Interval time.Duration
	// Timeout bounds one scrape, default Interval.
	Timeout time.Duration
	// Align puts scrapes on the wall-clock grid of Interval and gives their samples the grid's timestamps exactly, so that
	// two runs, and two targets, have samples at the same instants. A grid point that has passed is skipped.
	Align bool
	// Lookback is how long the last sample of a series without a staleness marker stays its value, default 5 min as in
	// Prometheus.
	Lookback time.Duration
	// Retention is how long blocks are kept, default 6 h.
	Retention time.Duration
	// QueryTimeout bounds a query, default 10 s.
	QueryTimeout time.Duration
	// Logger gets failed scrapes and refused samples. Nil discards them.
	Logger *slog.Logger
}

func (o *Options) setDefaults() error {
	if o.Dir == "" {
		return errors.New("checking options: Dir must be given")
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&o.Interval, time.Second},
		{&o.Lookback, 5 * time.Minute},
		{&o.Retention, 6 * time.Hour},
		{&o.QueryTimeout, 10 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
		if *d.value < 0 {
			return fmt.Errorf("checking options: durations must be positive, got %v", *d.value)
		}
	}
	if o.Timeout == 0 {
		o.Timeout = o.Interval
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Server is a running Prometheus. Its methods may be called from any goroutine.
type Server struct {
	o      Options
	db     *tsdb.DB
	api    *queryAPI
	http   *http.Server
	addr   net.Addr
	served chan struct{} // closed when the HTTP server's goroutine has ended
	client *http.Client

	paused atomic.Bool
	stop   func() error

	mu      sync.Mutex // guards targets and stopped: one may be added while the server stops
	targets map[*loop]struct{}
	stopped bool
}

// Start opens the database and serves the API. Targets are added to the running server.
func Start(ctx context.Context, o Options) (*Server, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	listener, err := listenLoopback(ctx, o.Listen)
	if err != nil {
		return nil, err
	}
	db, err := openDB(o)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s := &Server{o: o, db: db, addr: listener.Addr(), served: make(chan struct{}), targets: map[*loop]struct{}{}}
	s.client = &http.Client{Transport: &http.Transport{DisableCompression: true, IdleConnTimeout: time.Minute}}
	s.api = newAPI(db, o)
	s.http = run.NewServer(s.api.handler())
	s.stop = sync.OnceValue(s.close)
	go func() {
		defer close(s.served)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			o.Logger.Error("Prometheus API ended", "error", err)
		}
	}()
	return s, nil
}

func openDB(o Options) (*tsdb.DB, error) {
	options := tsdb.DefaultOptions()
	options.RetentionDuration = o.Retention.Milliseconds()
	// A demo's samples need not outlive it, and the log would be most of the disk traffic.
	options.WALSegmentSize = -1
	// One copy of everything fits in memory: small stripes save 20 MB of empty hash table.
	options.StripeSize = 1 << 8
	db, err := tsdb.Open(filepath.Join(o.Dir, "tsdb"), slog.New(slog.DiscardHandler), nil, options, nil)
	if err != nil {
		return nil, fmt.Errorf("opening database in %q: %w", o.Dir, err)
	}
	return db, nil
}

func newAPI(db *tsdb.DB, o Options) *queryAPI {
	p := parser.NewParser(parser.Options{})
	return &queryAPI{db: db, parser: p, now: time.Now, engine: promql.NewEngine(promql.EngineOpts{
		Logger:               slog.New(slog.DiscardHandler),
		MaxSamples:           maxSamples,
		Timeout:              o.QueryTimeout,
		LookbackDelta:        o.Lookback,
		EnableAtModifier:     true,
		EnableNegativeOffset: true,
		Parser:               p,
		NoStepSubqueryIntervalFn: func(int64) int64 {
			return o.Interval.Milliseconds()
		},
	})}
}

// URL returns the base URL of the API, as client_golang's api.Config.Address wants it.
func (s *Server) URL() string { return "http://" + s.addr.String() }

// Pause stops scraping without staleness markers, as if Prometheus could not reach anything: queries over a range find no
// new samples. The API goes on answering. Resume ends it.
func (s *Server) Pause() { s.paused.Store(true) }

// Resume ends a Pause. Targets are scraped again at their next turn.
func (s *Server) Resume() { s.paused.Store(false) }

// Stop removes all targets, ends the API and closes the database. It may be called more than once.
func (s *Server) Stop() error { return s.stop() }

func (s *Server) close() error {
	s.mu.Lock()
	s.stopped = true
	loops := s.targets
	s.targets = nil
	s.mu.Unlock()
	for l := range loops {
		l.end()
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stopping API: %w", err), s.http.Close())
	}
	<-s.served
	s.client.CloseIdleConnections()
	return errors.Join(err, s.api.engine.Close(), s.db.Close())
}

func listenLoopback(ctx context.Context, addr string) (net.Listener, error) {
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
		return nil, fmt.Errorf("listening for the Prometheus API: %w", err)
	}
	return l, nil
}

package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Options describe a process. The zero value of each field but Name will do.
type Options struct {
	// Name is the binary's name, in its usage text and log.
	Name string
	// Admin is the default of the flag --admin. "" is no admin server.
	Admin string
	// Logs are the defaults of --log-format and --log-level: json and info where empty.
	Logs LogOptions
	// StopTimeout bounds the stop of each part, default 10 s. A Kubernetes pod has 30 s for all of them.
	StopTimeout time.Duration
	// Log gets what the process reports. Main makes one from the flags; nil discards.
	Log *slog.Logger
}

// Process keeps the stack of running parts. Its methods may be called from the body only, before it returns.
type Process struct {
	log     *slog.Logger
	admin   string
	timeout time.Duration
	fail    context.CancelCauseFunc
	stopped <-chan struct{} // closed when the process begins to stop

	mu    sync.Mutex // guards parts: a part may start another from its own goroutine
	parts []part
}

// part is one entry of the stop stack. stop returns when the part has ended or the context has.
type part struct {
	name string
	stop func(context.Context) error
}

// Run runs the body, then stops what it started, last first, and returns what went wrong in either. A body that returns
// because its context ended has done well, unless a part's failure ended it.
func Run(ctx context.Context, o Options, body Body) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	p := &Process{log: o.Log, admin: o.Admin, timeout: o.StopTimeout, fail: fail, stopped: ctx.Done()}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.timeout == 0 {
		p.timeout = 10 * time.Second
	}
	err := body(ctx, p)
	cause := context.Cause(ctx)
	if cause != nil && (errors.Is(err, context.Canceled) || errors.Is(err, cause)) {
		err = nil
	}
	if failure, ok := errors.AsType[*partError](cause); ok {
		err = errors.Join(failure, err)
	}
	fail(nil)
	return errors.Join(err, p.stop())
}

// partError is a part's failure, as the cause of the context's end.
type partError struct {
	name string
	err  error
}

// Error implements error.
func (e *partError) Error() string { return fmt.Sprintf("running %q: %v", e.name, e.err) }

// Unwrap returns what the part returned.
func (e *partError) Unwrap() error { return e.err }

// Log returns the process's logger.
func (p *Process) Log() *slog.Logger { return p.log }

// Go runs a part in the background. A part that returns an error ends the process; one that returns nil is done. Its
// context ends when its turn to stop has come, not before: parts that it leans on still run while it finishes.
func (p *Process) Go(name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := f(ctx)
		if err != nil && ctx.Err() == nil {
			p.fail(&partError{name: name, err: err})
			err = nil // reported as the cause
		}
		done <- err
	}()
	p.OnStop(name, func(stopCtx context.Context) error {
		cancel()
		select {
		case err := <-done:
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		case <-stopCtx.Done():
			return stopCtx.Err()
		}
	})
}

// OnStop has f called when the process stops, after the parts that were started later. Its context carries the deadline.
func (p *Process) OnStop(name string, f func(context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parts = append(p.parts, part{name: name, stop: f})
}

// Wait returns when the context ends: a signal came, which is no error, or a part failed, which Run reports.
func (p *Process) Wait(ctx context.Context) error {
	p.log.Info("Process started")
	<-ctx.Done()
	p.log.Info("Process stopping")
	return nil
}

// stop ends the parts, last first. One that does not end in time is left behind and reported.
func (p *Process) stop() error {
	var errs []error
	for {
		p.mu.Lock()
		n := len(p.parts)
		if n == 0 {
			p.mu.Unlock()
			return errors.Join(errs...)
		}
		last := p.parts[n-1]
		p.parts = p.parts[:n-1]
		p.mu.Unlock()
		if err := p.stopPart(last); err != nil {
			errs = append(errs, fmt.Errorf("stopping %q: %w", last.name, err))
		}
	}
}

func (p *Process) stopPart(last part) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- last.stop(ctx) }()
	select {
	case err := <-ended:
		p.log.Debug("Part stopped", "part", last.name, "took", time.Since(began))
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

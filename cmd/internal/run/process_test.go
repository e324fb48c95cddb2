package run

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var errBroken = errors.New("broken")

func TestRunStopsLastFirst(t *testing.T) {
	var got []string
	record := func(name string) func(context.Context) error {
		return func(context.Context) error { got = append(got, name); return nil }
	}
	err := Run(t.Context(), Options{Name: "test"}, func(_ context.Context, p *Process) error {
		p.OnStop("store", record("store"))
		p.Go("pipeline", func(ctx context.Context) error {
			<-ctx.Done()
			return record("pipeline")(ctx)
		})
		p.OnStop("server", record("server"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"server", "pipeline", "store"}, got); diff != "" {
		t.Errorf("order of stops (-want +got):\n%s", diff)
	}
}

func TestRunErrors(t *testing.T) {
	wait := func(ctx context.Context, p *Process) error { return p.Wait(ctx) }
	for name, tc := range map[string]struct {
		reason string
		body   Body
		want   string // "" is no error
	}{
		"Body": {
			reason: "the body's error is the process's",
			body:   func(context.Context, *Process) error { return errBroken },
			want:   "broken",
		},
		"Part": {
			reason: "a part's failure ends the process and is named",
			body: func(ctx context.Context, p *Process) error {
				p.Go("pump", func(context.Context) error { return errBroken })
				return p.Wait(ctx)
			},
			want: `running "pump": broken`,
		},
		"PartSeenByBody": {
			reason: "the failure is reported once when the body passes the context's error on",
			body: func(ctx context.Context, p *Process) error {
				p.Go("pump", func(context.Context) error { return errBroken })
				<-ctx.Done()
				return context.Cause(ctx)
			},
			want: `running "pump": broken`,
		},
		"PartDone": {
			reason: "a part that returns nil leaves the process running",
			body: func(ctx context.Context, p *Process) error {
				done := make(chan struct{})
				p.Go("once", func(context.Context) error { close(done); return nil })
				<-done
				return ctx.Err()
			},
		},
		"Stop": {
			reason: "an error while stopping is reported and named",
			body: func(_ context.Context, p *Process) error {
				p.OnStop("store", func(context.Context) error { return errBroken })
				return nil
			},
			want: `stopping "store": broken`,
		},
		"PartOnStop": {
			reason: "a part whose last work fails is reported",
			body: func(_ context.Context, p *Process) error {
				p.Go("flush", func(ctx context.Context) error { <-ctx.Done(); return errBroken })
				return nil
			},
			want: `stopping "flush": broken`,
		},
		"PartCancelled": {
			reason: "a part that returns its context's error has ended well",
			body: func(_ context.Context, p *Process) error {
				p.Go("watch", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
				return nil
			},
		},
		"Signal": {reason: "a signal is no error", body: func(ctx context.Context, p *Process) error {
			p.fail(nil)
			return wait(ctx, p)
		}},
		"SignalCause": {reason: "a body may pass the signal's error on", body: func(ctx context.Context, p *Process) error {
			p.fail(errBroken)
			return context.Cause(ctx)
		}},
		"ErrorAfterSignal": {
			reason: "what fails after a signal is reported",
			body: func(_ context.Context, p *Process) error {
				p.fail(nil)
				return errBroken
			},
			want: "broken",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := Run(t.Context(), Options{Name: "test"}, tc.body)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}

func TestRunLeavesStuckPartBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stopped := false
		began := time.Now()
		err := Run(t.Context(), Options{Name: "test", StopTimeout: 3 * time.Second}, func(_ context.Context, p *Process) error {
			p.OnStop("store", func(context.Context) error { stopped = true; return nil })
			p.OnStop("stuck", func(context.Context) error { <-release; return nil })
			p.Go("deaf", func(context.Context) error { <-release; return nil })
			return nil
		})
		if got := time.Since(began); got != 6*time.Second {
			t.Errorf("stopping two stuck parts took %v, want 6s", got)
		}
		if !stopped {
			t.Error("a stuck part kept the one below it from being stopped")
		}
		for _, want := range []string{`stopping "stuck"`, `stopping "deaf"`} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error: got %v, want it to name %s", err, want)
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error: got %v, want a deadline error", err)
		}
		close(release)
	})
}

// TestRunKeepsLowerPartsAlive: when a signal comes, a part's context ends only when its turn has come.
func TestRunKeepsLowerPartsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var alive bool
		err := Run(ctx, Options{Name: "test"}, func(ctx context.Context, p *Process) error {
			var lower context.Context
			p.Go("lower", func(ctx context.Context) error { lower = ctx; <-ctx.Done(); return nil })
			synctest.Wait()
			p.OnStop("upper", func(context.Context) error { alive = lower.Err() == nil; return nil })
			cancel()
			return p.Wait(ctx)
		})
		if err != nil || !alive {
			t.Errorf("error %v; lower part alive while the upper one stopped: %v, want true", err, alive)
		}
	})
}

// TestRunStopsBesideUnusedConnection: a browser's spare connection must not hold up a stop.
func TestRunStopsBesideUnusedConnection(t *testing.T) {
	err := Run(t.Context(), Options{Name: "test", StopTimeout: 3 * time.Second}, func(ctx context.Context, p *Process) error {
		addr, err := p.Serve(ctx, "web", "127.0.0.1:0", http.NotFoundHandler())
		if err != nil {
			return err
		}
		unused, err := net.Dial("tcp", addr.String())
		if err != nil {
			return err
		}
		t.Cleanup(func() { unused.Close() })
		resp, err := http.Get("http://" + addr.String()) // answered: the connection before it was accepted, too
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	if err != nil {
		t.Errorf("stopping beside a connection that was never used: %v", err)
	}
}

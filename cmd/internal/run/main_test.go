package run

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

type codeError int

func (codeError) Error() string   { return "refused" }
func (c codeError) ExitCode() int { return int(c) }

func TestMainWith(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		args   []string
		env    map[string]string
		err    error
		code   int
		size   int    // what the body saw
		output string // a part of what was written
	}{
		"Default":   {reason: "a flag has its default", size: 1},
		"Flag":      {reason: "a flag is read", args: []string{"--fleet-size", "5"}, size: 5},
		"Env":       {reason: "the environment stands in for a flag", env: map[string]string{"SISKIN_FLEET_SIZE": "7"}, size: 7},
		"FlagFirst": {reason: "the command line wins", args: []string{"--fleet-size=5"}, env: map[string]string{"SISKIN_FLEET_SIZE": "7"}, size: 5},
		"BadEnv":    {reason: "a wrong variable is named", env: map[string]string{"SISKIN_FLEET_SIZE": "many"}, code: 2, output: `SISKIN_FLEET_SIZE="many"`},
		"BadFlag":   {reason: "a wrong flag is named", args: []string{"--fleet-size=many"}, code: 2, output: "-fleet-size"},
		"Unknown":   {reason: "an unknown flag is refused", args: []string{"--nope"}, code: 2, output: "-nope"},
		"Argument":  {reason: "arguments are refused", args: []string{"nope"}, code: 2, output: `unexpected "nope"`},
		"Help":      {reason: "help is no error", args: []string{"-h"}, code: 0, output: "-log-level"},
		"BadLevel":  {reason: "a wrong level is named", args: []string{"--log-level=loud"}, code: 2, output: `log level "loud"`},
		"BadFormat": {reason: "a wrong format is named", args: []string{"--log-format=xml"}, code: 2, output: `log format "xml"`},
		"Error":     {reason: "an error is logged once at the top", err: errBroken, code: 1, size: 1, output: `"error":"broken"`},
		"ExitCode":  {reason: "an error may choose its code", err: codeError(4), code: 4, size: 1, output: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			var size int
			bind := func(fs *flag.FlagSet) Body {
				flagged := fs.Int("fleet-size", 1, "vehicles")
				return func(context.Context, *Process) error { size = *flagged; return tc.err }
			}
			lookup := func(name string) (string, bool) { v, ok := tc.env[name]; return v, ok }
			code := mainWith(t.Context(), Options{Name: "test"}, bind, tc.args, lookup, &out)
			if code != tc.code || size != tc.size {
				t.Errorf("%s: code %d, size %d; want %d, %d\n%s", tc.reason, code, size, tc.code, tc.size, &out)
			}
			if !strings.Contains(out.String(), tc.output) {
				t.Errorf("%s: output %q, want it to hold %q", tc.reason, out.String(), tc.output)
			}
		})
	}
}

func TestServeAdmin(t *testing.T) {
	registry := prometheus.NewRegistry()
	prometheus.WrapRegistererWith(prometheus.Labels{"a": "b"}, registry).MustRegister(
		prometheus.NewGauge(prometheus.GaugeOpts{Name: "siskin_test_things", Help: "Things."}))
	missing := errBroken
	check := Check{Name: "store", Do: func(context.Context) error { return missing }}
	var addr net.Addr
	err := Run(t.Context(), Options{Name: "test", Admin: "127.0.0.1:0"}, func(ctx context.Context, p *Process) (err error) {
		if addr, err = p.ServeAdmin(ctx, registry, check); err != nil {
			return err
		}
		expect(t, addr, "/healthz", http.StatusOK, "ok")
		expect(t, addr, "/readyz", http.StatusServiceUnavailable, "store: broken")
		missing = nil
		expect(t, addr, "/readyz", http.StatusOK, "ok")
		expect(t, addr, "/metrics", http.StatusOK, `siskin_test_things{a="b"} 0`)
		p.fail(nil) // what a signal does
		expect(t, addr, "/readyz", http.StatusServiceUnavailable, "process: stopping")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", addr.String()); err == nil {
		t.Errorf("the server still listens after the end: %v", c.Close())
	}
}

func expect(t *testing.T, addr net.Addr, path string, code int, want string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr.String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != code || !strings.Contains(string(body), want) {
		t.Errorf("GET %s: %d %q; want %d and %q", path, resp.StatusCode, body, code, want)
	}
}

func TestServeAdminOff(t *testing.T) {
	err := Run(t.Context(), Options{Name: "test"}, func(ctx context.Context, p *Process) error {
		addr, err := p.ServeAdmin(ctx, prometheus.NewRegistry())
		if addr != nil {
			t.Errorf("address: got %v, want none", addr)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestServeTakenAddress(t *testing.T) {
	err := Run(t.Context(), Options{Name: "test"}, func(ctx context.Context, p *Process) error {
		addr, err := p.Serve(ctx, "first", "127.0.0.1:0", http.NotFoundHandler())
		if err != nil {
			return err
		}
		_, err = p.Serve(ctx, "second", addr.String(), http.NotFoundHandler())
		return err
	})
	if err == nil || !strings.Contains(err.Error(), `listening for "second"`) {
		t.Errorf("got %v, want an error that names the server", err)
	}
}

func TestLogr(t *testing.T) {
	var out bytes.Buffer
	l, err := NewLogger(&out, LogOptions{Format: "json", Level: "info"})
	if err != nil {
		t.Fatal(err)
	}
	logger := Logr(l)
	logger.Info("Rollout advanced", "weight", 25)
	logger.V(4).Info("Detail")
	if got := out.String(); !strings.Contains(got, `"msg":"Rollout advanced","weight":25`) || strings.Contains(got, "Detail") {
		t.Errorf("log: got %q", got)
	}
}

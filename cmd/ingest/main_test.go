package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/siskin-dev/siskin/cmd/internal/run"
)

// freeAddr is an address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs the binary's body with flags until the test ends. The channel gets what it returned.
func start(t *testing.T, args ...string) (stop context.CancelFunc, done chan error) {
	t.Helper()
	fs := flag.NewFlagSet("ingest", flag.ContinueOnError)
	body := bind(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done = make(chan error, 1)
	go func() { done <- run.Run(ctx, run.Options{Name: "ingest"}, body) }()
	return cancel, done
}

// TestIngest runs the whole binary between a vehicle, a Redis stand-in and a model server.
func TestIngest(t *testing.T) {
	asked := make(chan string, 1)
	model := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fmt.Fprint(w, `{"parameters":{"feature_names":["ENGINE_RPM"]}}`)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		asked <- r.Host + " " + string(body)
		fmt.Fprint(w, `{"model_version":"v1","outputs":[{"data":[90]}]}`)
	}))
	defer model.Close()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := miniredis.RunT(t)
	addr := freeAddr(t)
	stop, done := start(t, "--listen", addr, "--redis", m.Addr(), "--gateway", model.URL, "--host", "coolant.example",
		"--model", "coolant", "--salt", "coolant", "--pseudonym-key-file", key)
	defer stop()
	const body = `{"seq":1,"Vehicle.OBD.EngineSpeed":900,"Vehicle.OBD.RunTime":9,"Vehicle.OBD.CoolantTemperature":90}`
	deadline := time.Now().Add(time.Minute)
	var status int
	for (status == 0 || status == http.StatusServiceUnavailable) && time.Now().Before(deadline) { // until it listens, and as a vehicle does
		time.Sleep(10 * time.Millisecond)
		resp, err := http.Post("http://"+addr+"/v1/vehicles/SSKNFLEET00000001/measurements", "application/json", strings.NewReader(body))
		if err == nil {
			status = resp.StatusCode
			resp.Body.Close()
		}
	}
	if status != http.StatusAccepted {
		t.Fatalf("got %d, want 202", status)
	}
	want := `coolant.example {"inputs":[{"name":"input0","datatype":"FP32","shape":[1,1],"data":[900]}]}`
	if got := <-asked; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("stopping: %v", err)
	}
	if entries, err := m.Stream("siskin:telemetry"); err != nil || len(entries) != 1 {
		t.Errorf("%d records in the stream, %v, want 1", len(entries), err)
	}
}

func TestWrongFlags(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"pseudonym key": {"--pseudonym-key-file", filepath.Join(t.TempDir(), "none")},
		"16 bytes":      {"--pseudonym-key-file", key},
	} {
		_, done := start(t, args...)
		if err := <-done; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want an error with %q", args, err, want)
		}
	}
}

package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/siskin-dev/siskin/ingest"
)

const stream = "siskin:telemetry"

// backends are the servers that each test runs against.
func backends(t *testing.T, test func(t *testing.T, addr string)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) { test(t, miniredis.RunT(t).Addr()) })
	t.Run("redis-server", func(t *testing.T) { test(t, realRedis(t, "appendonly", "yes")) })
}

// realRedis starts the installed redis-server and returns its address. Without one the test is skipped, and fails
// where SISKIN_REQUIRE_REDIS=1 says that there is one.
func realRedis(t *testing.T, settings ...string) string {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("SISKIN_REQUIRE_REDIS") == "1" {
			t.Fatal("redis-server is required by SISKIN_REQUIRE_REDIS and not installed")
		}
		t.Skip("redis-server is not installed")
	}
	port := freePort(t)
	startRedis(t, binary, t.TempDir(), port, settings...)
	return "127.0.0.1:" + port
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// startRedis returns when the server answers; the returned function kills it.
func startRedis(t *testing.T, binary, dir, port string, settings ...string) (kill func()) {
	t.Helper()
	args := []string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", ""}
	for i := 0; i+1 < len(settings); i += 2 {
		args = append(args, "--"+settings[i], settings[i+1])
	}
	cmd := exec.Command(binary, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // killed: the exit status says nothing
	})
	t.Cleanup(kill)
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, MaxRetries: 100, MinRetryBackoff: 10 * time.Millisecond, MaxRetryBackoff: 50 * time.Millisecond})
	defer client.Close()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatalf("redis-server does not answer: %v", err)
	}
	return kill
}

// newLog returns a running log and a client beside it.
func newLog(t testing.TB, addr string, change func(*Options)) (*Log, *redis.Client) {
	t.Helper()
	schema, err := ingest.OBD()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Addr: addr, Schema: schema, timeout: time.Minute} // a busy machine is slow, not wrong
	if change != nil {
		change(&o)
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var runs sync.WaitGroup
	runs.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() {
		cancel()
		runs.Wait()
		if err := errors.Join(l.Close(), client.Close()); err != nil {
			t.Error(err)
		}
	})
	return l, client
}

// records have the given numbers, and the number as speed.
func records(l *Log, seqs ...uint64) []ingest.Record {
	out := make([]ingest.Record, len(seqs))
	speed, _ := l.options.Schema.Lookup("Vehicle.Speed")
	for i, s := range seqs {
		v := l.options.Schema.Empty()
		v[speed] = float64(s % 250)
		out[i] = ingest.Record{Seq: s, Sequenced: true, Time: time.Unix(1_700_000_000, 0).UTC(), Values: v}
	}
	return out
}

// streamSeqs reads a vehicle's numbers from the stream, in its order.
func streamSeqs(t testing.TB, c *redis.Client, vehicle string) []string {
	t.Helper()
	entries, err := c.XRange(t.Context(), stream, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var seqs []string
	for _, e := range entries {
		if e.Values["vehicle"] == vehicle {
			seqs = append(seqs, fmt.Sprint(e.Values["seq"]))
		}
	}
	return seqs
}

func mustAppend(t testing.TB, l *Log, b ingest.Batch) {
	t.Helper()
	if _, err := l.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func appendOne(t testing.TB, l *Log, seq uint64) error {
	_, err := l.Append(t.Context(), ingest.Batch{Vehicle: "v", Records: records(l, seq)})
	return err
}

// Package redis keeps the ingest log in a Redis stream, the last state of each vehicle in a hash beside it, and the
// sequence numbers seen in a string, all three written in one transaction.
//
// Many vehicles share one transaction (group commit): a group gathers for a few milliseconds, and while the one before
// is on its way, so that the cost of a round trip, and of an fsync where Redis does one, is split among all that wait.
//
// Keys: the stream (default siskin:telemetry; fields vehicle, boot, seq, ts, data), vehicle:{pseudonym} (VSS path to
// value, and boot, seq, ts), vehicle:{pseudonym}:seen:boot and vehicle:{pseudonym}:met:epoch (of a unit that was
// counted as assigned). One transaction spans vehicles, so this needs one Redis
// primary; a Redis Cluster refuses it.
package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/siskin-dev/siskin/ingest"
)

// Options configure a Log. Zero values mean the defaults given.
type Options struct {
	// Addr is host:port. Required.
	Addr string
	// Username and Password log in, where Redis asks for it.
	Username, Password string
	// Stream is the stream's key. Default "siskin:telemetry".
	Stream string
	// MaxLen is about how many entries the stream keeps (trimmed in whole nodes). Readers that fall further behind miss
	// some. Default 1,000,000: some 700 MB of full OBD records.
	MaxLen int64
	// SeenTTL is how long after a boot's last record its sequence numbers are remembered. Default 24 h.
	SeenTTL time.Duration
	// StateTTL is how long the last state of a silent vehicle is kept. Default 7 days.
	StateTTL time.Duration
	// UnitTTL is how long a unit that was counted as assigned is remembered. Default 24 h: a run that lasts longer counts
	// its units again.
	UnitTTL time.Duration
	// GroupRecords bounds one transaction. Default 512 records. A single larger batch goes alone.
	GroupRecords int
	// Linger is how long the first batch of a group waits for company: a vehicle does not feel it, and a group costs ten
	// commands however many share it. Default 4 ms.
	Linger time.Duration
	// Queue bounds the batches that wait for their group; a batch beyond waits until its deadline. Default 1024.
	Queue int
	// Schema names the values. Required.
	Schema *ingest.Schema

	// timeout bounds one attempt to write a group, all its round trips together. 500 ms, but for tests.
	timeout time.Duration
}

// Log is an ingest.Log on Redis. Run must run for Append to return.
type Log struct {
	options Options
	client  *redis.Client
	queue   chan *entry
	done    chan struct{} // closed when Run returns
}

// New checks the options. It does not connect.
func New(o Options) (*Log, error) {
	if o.Addr == "" || o.Schema == nil {
		return nil, errors.New("building the Redis log: Addr and Schema are required")
	}
	o.Stream = orElse(o.Stream, "siskin:telemetry")
	o.MaxLen = orElse(o.MaxLen, 1_000_000)
	o.SeenTTL = orElse(o.SeenTTL, 24*time.Hour)
	o.StateTTL = orElse(o.StateTTL, 7*24*time.Hour)
	o.UnitTTL = orElse(o.UnitTTL, 24*time.Hour)
	o.GroupRecords = orElse(o.GroupRecords, 512)
	o.Linger = orElse(o.Linger, 4*time.Millisecond)
	o.Queue = orElse(o.Queue, 1024)
	o.timeout = orElse(o.timeout, 500*time.Millisecond)
	return &Log{
		options: o,
		client:  redis.NewClient(clientOptions(o)),
		queue:   make(chan *entry, o.Queue),
		done:    make(chan struct{}),
	}, nil
}

// clientOptions make an outage show within a fraction of a second; the client's defaults take 1.7 s. The client itself
// retries nothing: a transaction whose answer got lost may have been carried out. commit knows when a retry is safe.
func clientOptions(o Options) *redis.Options {
	trip := o.timeout * 3 / 5 // one round trip
	return &redis.Options{
		Addr: o.Addr, Username: o.Username, Password: o.Password,
		MaxRetries:            -1,
		DialerRetries:         1,
		DialTimeout:           trip * 2 / 3,
		ReadTimeout:           trip,
		WriteTimeout:          trip,
		PoolTimeout:           trip,
		PoolSize:              4, // one for the groups, the rest for Ping, State, First and Durability
		ContextTimeoutEnabled: true,
		// Open-source servers do not know these notifications.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func orElse[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// Close closes the connections. Call it after Run has returned.
func (l *Log) Close() error { return l.client.Close() }

// Ping says whether Redis answers, for readiness.
func (l *Log) Ping(ctx context.Context) error {
	if err := l.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("reaching Redis at %q: %w", l.options.Addr, err)
	}
	return nil
}

// State returns the last state of a vehicle: VSS paths, and boot, seq and ts. It is empty for an unknown vehicle.
func (l *Log) State(ctx context.Context, vehicle string) (map[string]string, error) {
	state, err := l.client.HGetAll(ctx, stateKey(vehicle)).Result()
	if err != nil {
		return nil, fmt.Errorf("reading the state of %q: %w", vehicle, err)
	}
	return state, nil
}

// Durability says what an acknowledged record survives, for readiness: "aof" (Redis writes every change to disk; with
// appendfsync everysec a power cut may cost one second), "snapshots" (a crash of Redis costs what came after the last
// one) or "unknown" where Redis does not tell.
func (l *Log) Durability(ctx context.Context) (string, error) {
	info, err := l.client.Info(ctx, "persistence").Result()
	switch {
	case err != nil && isReply(err):
		return "unknown", nil // Redis answered, but does not tell
	case err != nil:
		return "", fmt.Errorf("asking Redis at %q for its persistence: %w", l.options.Addr, err)
	case strings.Contains(info, "aof_enabled:1"):
		return "aof", nil
	case strings.Contains(info, "aof_enabled:0"):
		return "snapshots", nil
	}
	return "unknown", nil
}

// isReply says that the error is Redis' own answer, so that it is reachable.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

func stateKey(vehicle string) string { return "vehicle:{" + vehicle + "}" }

func seenKey(vehicle, boot string) string { return stateKey(vehicle) + ":seen:" + boot }

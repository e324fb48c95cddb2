package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/siskin-dev/siskin/ingest"
)

func TestAppend(t *testing.T) {
	type want struct {
		fresh  []bool
		last   uint64
		err    error
		stream []string
	}
	span := make([]uint64, 0, 1200)
	for i := range uint64(600) { // every second number: more gaps than are remembered
		span = append(span, 1000+2*i)
	}
	tests := map[string]struct {
		reason string
		before []uint64
		send   []uint64
		want   want
	}{
		"First":      {"all is new to an empty log", nil, []uint64{0, 1, 2}, want{[]bool{true, true, true}, 2, nil, []string{"0", "1", "2"}}},
		"Replay":     {"a replay writes nothing", []uint64{1, 2}, []uint64{1, 2}, want{[]bool{false, false}, 2, nil, []string{"1", "2"}}},
		"Overlap":    {"only what is new is written", []uint64{1, 2}, []uint64{2, 3}, want{[]bool{false, true}, 3, nil, []string{"1", "2", "3"}}},
		"Late":       {"a late record is no replay", []uint64{1, 3}, []uint64{2}, want{[]bool{true}, 3, nil, []string{"1", "3", "2"}}},
		"Twice":      {"a number twice in one batch is written once", nil, []uint64{5, 5}, want{[]bool{true, false}, 5, nil, []string{"5"}}},
		"Forgotten":  {"what nobody remembers is refused, not guessed", span, []uint64{1001}, want{nil, 0, ingest.ErrRegression, nil}},
		"Remembered": {"the newest numbers stay known", span, span[len(span)-1:], want{[]bool{false}, 1000 + 2*599, nil, nil}},
	}
	backends(t, func(t *testing.T, addr string) {
		for name, tc := range tests {
			t.Run(name, func(t *testing.T) {
				l, client := newLog(t, addr, nil)
				b := ingest.Batch{Vehicle: "v-" + name, Boot: "b"}
				if len(tc.before) > 0 {
					b.Records = records(l, tc.before...)
					if _, err := l.Append(t.Context(), b); err != nil {
						t.Fatal(err)
					}
				}
				b.Records = records(l, tc.send...)
				got, err := l.Append(t.Context(), b)
				if !errors.Is(err, tc.want.err) {
					t.Fatalf("%s: got error %v, want %v", tc.reason, err, tc.want.err)
				}
				if diff := cmp.Diff(ingest.Appended{Fresh: tc.want.fresh, LastSeq: tc.want.last}, got); diff != "" {
					t.Errorf("%s: %s", tc.reason, diff)
				}
				if tc.want.stream == nil {
					return
				}
				if diff := cmp.Diff(tc.want.stream, streamSeqs(t, client, b.Vehicle)); diff != "" {
					t.Errorf("%s: %s", tc.reason, diff)
				}
			})
		}
	})
}

func TestStreamAndState(t *testing.T) {
	backends(t, func(t *testing.T, addr string) {
		l, client := newLog(t, addr, nil)
		b := ingest.Batch{Vehicle: "p", Boot: "b1", Records: records(l, 1, 2)}
		load, _ := l.options.Schema.Lookup("Vehicle.OBD.EngineLoad")
		b.Records[0].Values[load] = 12.5 // the second record does not measure it: the state keeps it
		mustAppend(t, l, b)
		late := ingest.Batch{Vehicle: "p", Boot: "b1", Records: records(l, 0)}
		mustAppend(t, l, late)

		entries, err := client.XRange(t.Context(), stream, "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		var data map[string]float64
		if err := json.Unmarshal([]byte(fmt.Sprint(entries[0].Values["data"])), &data); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]float64{"Vehicle.OBD.Speed": 1, "Vehicle.OBD.EngineLoad": 12.5}, data); diff != "" {
			t.Error(diff)
		}
		state, err := l.State(t.Context(), "p")
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"Vehicle.OBD.Speed": "2", "Vehicle.OBD.EngineLoad": "12.5", "boot": "b1", "seq": "2", "ts": "2023-11-14T22:13:20Z",
		}
		if diff := cmp.Diff(want, state); diff != "" {
			t.Errorf("a late record changed the last state, or it was not kept: %s", diff)
		}
		if ttl := client.TTL(t.Context(), "vehicle:{p}:seen:b1").Val(); ttl <= 0 {
			t.Errorf("sequence numbers never expire: %v", ttl)
		}
	})
}

// TestConcurrent has many vehicles share groups, from two logs at once as two replicas do, each record sent twice.
func TestConcurrent(t *testing.T) {
	backends(t, func(t *testing.T, addr string) {
		logs := [2]*Log{}
		var client *redis.Client
		for i := range logs {
			logs[i], client = newLog(t, addr, func(o *Options) { o.GroupRecords = 16 })
		}
		const vehicles, rows = 12, 20
		var posts sync.WaitGroup
		for v := range vehicles {
			for _, l := range logs {
				posts.Go(func() {
					for seq := range uint64(rows) {
						b := ingest.Batch{Vehicle: strconv.Itoa(v), Records: records(l, seq)}
						for { // as a vehicle does: until it is acknowledged
							_, err := l.Append(t.Context(), b)
							if err == nil {
								break
							}
							if !errors.Is(err, ingest.ErrUnavailable) {
								t.Error(err)
								return
							}
						}
					}
				})
			}
		}
		posts.Wait()
		want := make([]string, rows)
		for i := range want {
			want[i] = strconv.Itoa(i)
		}
		for v := range vehicles {
			if diff := cmp.Diff(want, streamSeqs(t, client, strconv.Itoa(v))); diff != "" {
				t.Errorf("vehicle %d: lost, doubled or out of order: %s", v, diff)
			}
		}
	})
}

// TestAcknowledgedSurvivesKill kills a real Redis that syncs always, in the middle of the traffic: what was
// acknowledged is there after the restart, and a record sent again is not there twice (invariant 11).
func TestAcknowledgedSurvivesKill(t *testing.T) {
	realRedis(t) // skips or fails where there is none
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), freePort(t)
	settings := []string{"appendonly", "yes", "appendfsync", "always"}
	kill := startRedis(t, binary, dir, port, settings...)
	l, client := newLog(t, "127.0.0.1:"+port, nil)

	acked := uint64(0) // records 0 to acked-1 are acknowledged
	for acked < 200 {
		if err := appendOne(t, l, acked); err != nil {
			t.Fatalf("appending record %d: %v", acked, err)
		}
		acked++
	}
	go kill() // one of the next records meets the kill half-way
	for appendOne(t, l, acked) == nil {
		acked++
	}
	kill()
	startRedis(t, binary, dir, port, settings...)
	var got ingest.Appended
	for err := ingest.ErrUnavailable; err != nil; { // the first tries may meet a dead connection
		got, err = l.Append(t.Context(), ingest.Batch{Vehicle: "v", Records: records(l, acked-1, acked)})
	}
	if got.Fresh[0] {
		t.Errorf("acknowledged record %d is not remembered after the restart", acked-1)
	}
	seqs := streamSeqs(t, client, "v")
	if len(seqs) != int(acked)+1 {
		t.Fatalf("%d records in the stream, want %d", len(seqs), acked+1)
	}
	for i, s := range seqs {
		if s != strconv.Itoa(i) {
			t.Fatalf("record %d of the stream is %s", i, s)
		}
	}
}

// TestDown finds that a Redis that is not there is noticed, and that it is used again when it is back.
func TestDown(t *testing.T) {
	m := miniredis.RunT(t)
	l, client := newLog(t, m.Addr(), nil)
	mustAppend(t, l, ingest.Batch{Vehicle: "v", Records: records(l, 1)})
	m.Close()
	_, err := l.Append(t.Context(), ingest.Batch{Vehicle: "v", Records: records(l, 2)})
	if !errors.Is(err, ingest.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	for err != nil { // a connection or two may still be dead
		_, err = l.Append(t.Context(), ingest.Batch{Vehicle: "v", Records: records(l, 2)})
	}
	if diff := cmp.Diff([]string{"1", "2"}, streamSeqs(t, client, "v")); diff != "" {
		t.Error(diff)
	}
}

// TestRefusedIsNotAcknowledged has Redis answer with errors instead of going away.
func TestRefusedIsNotAcknowledged(t *testing.T) {
	t.Run("OutOfMemory", func(t *testing.T) {
		addr := realRedis(t, "maxmemory", "1", "maxmemory-policy", "noeviction")
		l, client := newLog(t, addr, nil)
		_, err := l.Append(t.Context(), ingest.Batch{Vehicle: "v", Records: records(l, 1)})
		if !errors.Is(err, ingest.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		if n := client.DBSize(t.Context()).Val(); n != 0 {
			t.Errorf("%d keys were written all the same", n)
		}
	})
	t.Run("NoStream", func(t *testing.T) {
		m := miniredis.RunT(t)
		if err := m.Set(stream, "somebody else's"); err != nil {
			t.Fatal(err)
		}
		l, _ := newLog(t, m.Addr(), nil)
		_, err := l.Append(t.Context(), ingest.Batch{Vehicle: "v", Records: records(l, 1)})
		if !errors.Is(err, ingest.ErrUnavailable) || m.Exists("vehicle:{v}:seen:") {
			t.Errorf("got %v and seen numbers %v, want ErrUnavailable and none", err, m.Exists("vehicle:{v}:seen:"))
		}
	})
	t.Run("Broken", func(t *testing.T) {
		m := miniredis.RunT(t)
		l, _ := newLog(t, m.Addr(), nil)
		m.SetError("LOADING Redis is loading the dataset in memory")
		_, err := l.Append(t.Context(), ingest.Batch{Vehicle: "v", Records: records(l, 1)})
		if !errors.Is(err, ingest.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	})
}

func TestTrim(t *testing.T) {
	m := miniredis.RunT(t)
	l, client := newLog(t, m.Addr(), func(o *Options) { o.MaxLen = 10 })
	for i := range uint64(50) {
		mustAppend(t, l, ingest.Batch{Vehicle: "v", Records: records(l, i)})
	}
	if n := client.XLen(t.Context(), stream).Val(); n > 20 {
		t.Errorf("%d entries, want about 10", n)
	}
}

func TestDeadlineAndStop(t *testing.T) {
	m := miniredis.RunT(t)
	l, _ := newLog(t, m.Addr(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, ingest.Batch{Vehicle: "v", Records: records(l, 1)}); err != nil && !errors.Is(err, ingest.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable or a late success", err)
	}
	idle, err := New(Options{Addr: m.Addr(), Schema: l.options.Schema, Queue: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := idle.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for range 3 { // stopped: nobody hangs, whatever the queue has room for
		if _, err := idle.Append(t.Context(), ingest.Batch{Vehicle: "v", Records: records(l, 1)}); !errors.Is(err, ingest.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
	if err := idle.Close(); err != nil {
		t.Error(err)
	}
}

func TestDurability(t *testing.T) {
	l, _ := newLog(t, realRedis(t, "appendonly", "yes"), nil)
	if got, err := l.Durability(t.Context()); err != nil || got != "aof" {
		t.Errorf("got %q, %v, want aof", got, err)
	}
	l, _ = newLog(t, realRedis(t), nil)
	if got, err := l.Durability(t.Context()); err != nil || got != "snapshots" {
		t.Errorf("got %q, %v, want snapshots", got, err)
	}
	l, _ = newLog(t, miniredis.RunT(t).Addr(), nil)
	if got, err := l.Durability(t.Context()); err != nil || got != "unknown" {
		t.Errorf("got %q, %v, want unknown", got, err)
	}
}

// BenchmarkAppend has 64 vehicles append one record at a time.
func BenchmarkAppend(b *testing.B) {
	m := miniredis.RunT(b)
	l, _ := newLog(b, m.Addr(), nil)
	rec := records(l, 1)
	for i := range rec[0].Values {
		if math.IsNaN(rec[0].Values[i]) {
			rec[0].Values[i] = 1
		}
	}
	var next sync.Mutex
	vehicle := 0
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		next.Lock()
		vehicle++
		name := strconv.Itoa(vehicle)
		next.Unlock()
		for seq := uint64(0); pb.Next(); seq++ {
			r := rec[0]
			r.Seq = seq
			if _, err := l.Append(context.Background(), ingest.Batch{Vehicle: name, Records: []ingest.Record{r}}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// TestFirst: a unit is new once an epoch, whoever asks.
func TestFirst(t *testing.T) {
	backends(t, func(t *testing.T, addr string) {
		one, client := newLog(t, addr, nil)
		other, _ := newLog(t, addr, nil)
		for _, tc := range []struct {
			reason      string
			log         *Log
			epoch, unit string
			want        bool
		}{
			{"nobody has named it", one, "v1 v2", "unit-7", true},
			{"it was named", one, "v1 v2", "unit-7", false},
			{"another replica knows", other, "v1 v2", "unit-7", false},
			{"another unit", one, "v1 v2", "unit-8", true},
			{"another epoch", other, "v2 v3", "unit-7", true},
		} {
			got, err := tc.log.First(t.Context(), tc.epoch, tc.unit)
			if err != nil || got != tc.want {
				t.Errorf("%s: First(%q, %q) = %t, %v, want %t", tc.reason, tc.epoch, tc.unit, got, err, tc.want)
			}
		}
		keys, err := client.Keys(t.Context(), "vehicle:{unit-7}:met:*").Result()
		if err != nil || len(keys) != 2 {
			t.Fatalf("keys %v, %v", keys, err)
		}
		for _, key := range keys {
			if ttl := client.TTL(t.Context(), key).Val(); ttl <= 0 || ttl > 24*time.Hour {
				t.Errorf("key %q lives for %s, want up to a day", key, ttl)
			}
		}
	})
	m := miniredis.RunT(t)
	l, _ := newLog(t, m.Addr(), nil)
	m.Close()
	if first, err := l.First(t.Context(), "v1 v2", "unit-7"); err == nil || first {
		t.Errorf("without Redis: First = %t, %v", first, err)
	}
}

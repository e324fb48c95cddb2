package energy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestCollectorRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newFakeNode()
		node.setZone(0)
		var log bytes.Buffer
		ticker := time.NewTicker(5 * time.Second)
		defer ticker.Stop()
		reads := 0
		c, err := NewCollector(Options{
			Meter: node, Busy: node, Now: time.Now, Ticks: ticker.C, Log: slog.New(slog.NewTextHandler(&log, nil)),
			Usage: UsageFunc(func() ([]Party, error) {
				reads++
				node.setZone(uint64(reads) * 1e6)
				if reads == 3 || reads == 4 {
					return nil, errUnplugged
				}
				return nil, nil
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Errorf("Run() = %v", err)
			}
		})
		// At 0, 5, .. 25 s; the third and fourth fail; the end collects once more.
		time.Sleep(26 * time.Second)
		cancel()
		run.Wait()
		if books := checkBooks(t, c); reads != 7 || books.Measured != 6e6 || books.Failures[ReaderUsage] != 2 {
			t.Errorf("got %d reads, %+v", reads, books)
		}
		for _, want := range []string{"Energy reading was incomplete", "Energy reading recovered"} {
			if strings.Count(log.String(), want) != 1 {
				t.Errorf("must log %q once, on the change: got\n%s", want, &log)
			}
		}
	})
}

func TestNewCollectorNeedsReaders(t *testing.T) {
	node := newFakeNode()
	good := Options{Meter: node, Usage: node, Busy: node, Now: node.Now, Ticks: make(chan time.Time)}
	if _, err := NewCollector(good); err != nil {
		t.Fatal(err)
	}
	for name, drop := range map[string]func(*Options){
		"Meter": func(o *Options) { o.Meter = nil }, "Usage": func(o *Options) { o.Usage = nil },
		"Busy": func(o *Options) { o.Busy = nil }, "Now": func(o *Options) { o.Now = nil },
		"Ticks": func(o *Options) { o.Ticks = nil },
	} {
		opts := good
		drop(&opts)
		if _, err := NewCollector(opts); err == nil {
			t.Errorf("NewCollector without %s: got no error", name)
		}
	}
}

func BenchmarkCollect1000(b *testing.B) {
	node := newFakeNode()
	for i := range 1000 {
		node.parties = append(node.parties, Party{ID: ID{Instance: fmt.Sprint(i)}, Requests: 100})
	}
	c, err := NewCollector(Options{Meter: node, Usage: node, Busy: node, Now: node.Now, Ticks: make(chan time.Time)})
	if err != nil {
		b.Fatal(err)
	}
	var joules uint64
	for b.Loop() {
		node.advance(time.Second)
		joules += 100e6
		node.zones = []Zone{{Name: "package-0", Microjoules: joules, Counted: true}}
		for i := range node.parties {
			node.parties[i].CPU += uint64(i) * 1000
		}
		if err := c.Collect(); err != nil {
			b.Fatal(err)
		}
	}
}

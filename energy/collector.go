package energy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Options configure a Collector. The fields after the blank line are required.
type Options struct {
	// StaticMicrowatts is the power of the idle node, calibrated or assumed; 0 makes all energy dynamic.
	StaticMicrowatts uint64
	// MaxMicrowatts is the most that one zone can draw; readings that say more are refused. Default 2 kW, above any
	// socket or board that has such counters.
	MaxMicrowatts uint64
	// AllocatableMillicores is the CPU capacity that parties may request. Default: all CPUs.
	AllocatableMillicores uint64
	// KeepEnded is how long a pod that is gone keeps its series, so that every scrape sees its last joules. Default 10 min.
	KeepEnded time.Duration
	// Metrics shows the books; nil shows them nowhere.
	Metrics *Metrics
	// Log takes changes between good and failed reads; nil discards them.
	Log *slog.Logger

	Meter Meter
	Usage Usage
	Busy  Busy
	Now   func() time.Time
	// Ticks close the intervals. Sample at least twice per wrap of the meter: every 15 s serves any RAPL zone.
	Ticks <-chan time.Time
}

const (
	defaultMaxMicrowatts = 2_000 * 1_000_000
	defaultKeepEnded     = 10 * time.Minute
)

// Collector closes an interval at each tick and keeps the books. Collect and Totals are safe for concurrent use.
type Collector struct {
	opts Options
	// turn lets one Collect read and book at a time, so that no reading overtakes another.
	turn sync.Mutex
	// mu guards the ledger. It is not held while reading, so that a slow reader never holds up a scrape.
	mu     sync.Mutex
	ledger *ledger
}

// NewCollector checks the options and shows the (empty) books in opts.Metrics.
func NewCollector(opts Options) (*Collector, error) {
	if opts.Meter == nil || opts.Usage == nil || opts.Busy == nil || opts.Now == nil || opts.Ticks == nil {
		return nil, errors.New("creating energy collector: Meter, Usage, Busy, Now and Ticks are required")
	}
	opts.MaxMicrowatts = cmp.Or(opts.MaxMicrowatts, defaultMaxMicrowatts)
	opts.KeepEnded = cmp.Or(opts.KeepEnded, defaultKeepEnded)
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	c := &Collector{opts: opts, ledger: newLedger(opts)}
	opts.Metrics.show(opts.Meter.Info(), c.Totals)
	return c, nil
}

// Run collects once at the start and at every tick until ctx ends, and once more then, so that nothing used before the
// end is missing. It returns nil.
func (c *Collector) Run(ctx context.Context) error {
	healthy := true
	for {
		err := c.Collect()
		if healthy != (err == nil) {
			healthy = err == nil
			c.logHealth(ctx, err)
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of the context is how Run is told to end
		}
		select {
		case <-ctx.Done():
		case <-c.opts.Ticks:
		}
	}
}

func (c *Collector) logHealth(ctx context.Context, err error) {
	if err != nil {
		c.opts.Log.WarnContext(ctx, "Energy reading was incomplete", "error", err)
		return
	}
	c.opts.Log.InfoContext(ctx, "Energy reading recovered")
}

// Collect reads everything once. If a reader could tell nothing, nothing is booked and the next reading catches up; if
// one could tell only a part, that part is booked and the error says what is missing. While parties are missing, the
// interval stays open for 30 s.
func (c *Collector) Collect() error {
	c.turn.Lock()
	defer c.turn.Unlock()
	r, failures := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, f := range failures {
		c.ledger.totals.Failures[f.reader]++
		errs = append(errs, fmt.Errorf("reading energy %q: %w", f.reader, f.err))
	}
	if r != nil {
		c.ledger.enter(*r)
	}
	return errors.Join(errs...)
}

// failure is what a reader could not tell.
type failure struct {
	reader Reader
	err    error
}

// read asks the CPU clocks first and the meter last, so that what is measured covers what was used. The reading is nil
// if one of them told nothing.
func (c *Collector) read() (*reading, []failure) {
	parties, usageErr := c.opts.Usage.Usage()
	if err := checkUnique(parties); err != nil {
		parties, usageErr = nil, err
	}
	busy, busyErr := c.opts.Busy.Busy()
	at := c.opts.Now()
	zones, meterErr := c.opts.Meter.Energy()
	if meterErr == nil && len(zones) == 0 {
		meterErr = errors.New("must return at least one zone")
	}
	failures := slices.DeleteFunc([]failure{
		{ReaderUsage, usageErr}, {ReaderBusy, busyErr}, {ReaderMeter, meterErr},
	}, func(f failure) bool { return f.err == nil })
	if busyErr != nil || len(zones) == 0 || (usageErr != nil && len(parties) == 0) {
		return nil, failures
	}
	return &reading{at: at, zones: zones, parties: parties, busy: busy, partial: usageErr != nil}, failures
}

// Totals copies the books.
func (c *Collector) Totals() Totals {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.ledger.totals
	t.Zones = slices.Clone(t.Zones)
	t.Failures, t.Refusals = maps.Clone(t.Failures), maps.Clone(t.Refusals)
	t.Parties = make([]PartyTotal, len(c.ledger.accounts))
	for i, a := range c.ledger.accounts {
		t.Parties[i] = a.total
	}
	return t
}

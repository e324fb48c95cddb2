package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	promapi "github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/spf13/cobra"

	"github.com/siskin-dev/siskin/cmd/rollout/record"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/backtest"
	"github.com/siskin-dev/siskin/rollout/evidence"
)

// recordFlags say where recorded metrics are and which of them are meant.
type recordFlags struct {
	prometheus, tsdb, openmetrics string
	stable, canary                string
	from, to                      string
	reporter                      string
	lookback                      time.Duration
}

func (f *recordFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.prometheus, "prometheus", "", "URL of a Prometheus that has the metrics")
	cmd.Flags().StringVar(&f.tsdb, "tsdb", "", "Prometheus' data directory, or one block of it")
	cmd.Flags().StringVar(&f.openmetrics, "openmetrics", "", "a file in the OpenMetrics format with timestamps; - is the standard input")
	cmd.Flags().StringVar(&f.stable, "stable", "", "the stable version of the record")
	cmd.Flags().StringVar(&f.canary, "canary", "", "the canary's version; spec.version by default")
	cmd.Flags().StringVar(&f.from, "from", "", "when the run begins, such as 2026-03-01T12:00:00Z; the record's beginning by default, save with --prometheus")
	cmd.Flags().StringVar(&f.to, "to", "", "when the record ends; its own end by default, save with --prometheus")
	cmd.Flags().StringVar(&f.reporter, "reporter", "source", "reporter label of Istio's metrics that counts: source, destination or waypoint")
	cmd.Flags().DurationVar(&f.lookback, "lookback", time.Minute, "how old a sample may be to stand for an instant; at least two scrapes")
}

// period is the time from a record's beginning to its end.
type period struct{ from, to time.Time }

// tape reads the blocks of a record, and says when the run begins: after those that a gate may want of the time before. The
// canary is needed only where it is compared with stable.
func (c *backtestCall) tape(ctx context.Context, p planned, compare bool, a *backtestAnswer) (backtest.Tape, time.Time, error) {
	if err := c.versions(p, compare); err != nil {
		return nil, time.Time{}, err
	}
	api, held, done, err := c.open()
	if err != nil {
		return nil, time.Time{}, err
	}
	defer done()
	if err := c.cut(&held, p.plan.Interval); err != nil {
		return nil, time.Time{}, err
	}
	source, err := evidence.New(evidence.Options{API: api, Reporter: c.reporter, Lookback: c.lookback})
	if err != nil {
		return nil, time.Time{}, err
	}
	a.Source = fmt.Sprintf("recorded: %s, %s to %s", c.where(), held.from.Format(time.RFC3339), held.to.Format(time.RFC3339))
	start := held.from
	held.from = rollout.Begin("", p.plan, start).LastBlock
	tape, err := readBlocks(ctx, source, rollout.Question{
		Service: rollout.Service{Namespace: c.namespace(p), Name: p.Spec.Service.Name}, Gates: p.plan.Gates,
		Stable: c.stable, Canary: c.canary, Interval: p.plan.Interval,
	}, held)
	return tape, start, err
}

func (c *backtestCall) versions(p planned, compare bool) error {
	if c.file == "" {
		return errors.New("recorded metrics need -f FILE, which names the service and its gates")
	}
	if c.stable == "" {
		return errors.New("recorded metrics need --stable VERSION")
	}
	if c.canary == "" {
		c.canary = p.Spec.Version
	}
	if compare && c.canary == c.stable {
		return fmt.Errorf("reading --canary: %q is the stable version; name another, or use --runs to split its traffic", c.canary)
	}
	return nil
}

// namespace is the rollout's, or the one that the user means.
func (c *backtestCall) namespace(p planned) string {
	if p.Namespace != "" {
		return p.Namespace
	}
	if *c.flags.Namespace != "" {
		return *c.flags.Namespace
	}
	return "default"
}

func (c *backtestCall) where() string {
	switch {
	case c.prometheus != "":
		return c.prometheus
	case c.tsdb != "":
		return c.tsdb
	}
	return c.openmetrics
}

// open opens the record. It says what time it covers; a server does not tell.
func (c *backtestCall) open() (evidence.API, period, func(), error) {
	if c.prometheus != "" {
		api, err := connectPrometheus(c.prometheus)
		return api, period{}, func() {}, err
	}
	r, err := c.openFile()
	if err != nil {
		return nil, period{}, nil, err
	}
	done := func() { _ = r.Close() } // it was only read
	return r, period{r.From, r.To}, done, nil
}

func connectPrometheus(address string) (evidence.API, error) {
	if u, err := url.Parse(address); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("reading --prometheus: %q must be a URL such as http://localhost:9090", address)
	}
	client, err := promapi.NewClient(promapi.Config{Address: address})
	if err != nil {
		return nil, fmt.Errorf("reading --prometheus: %w", err)
	}
	return promv1.NewAPI(client), nil
}

func (c *backtestCall) openFile() (*record.Reader, error) {
	switch {
	case c.tsdb != "":
		return record.OpenTSDB(c.tsdb)
	case c.openmetrics == "-":
		return record.ReadOpenMetrics(c.io.In)
	}
	f, err := os.Open(c.openmetrics)
	if err != nil {
		return nil, err // it names the operation and the file
	}
	defer f.Close()
	r, err := record.ReadOpenMetrics(f)
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", c.openmetrics, err)
	}
	return r, nil
}

// cut takes --from and --to, and puts both ends on the grid.
func (c *backtestCall) cut(p *period, interval time.Duration) error {
	for _, end := range []struct {
		flag, text string
		at         *time.Time
	}{{"--from", c.from, &p.from}, {"--to", c.to, &p.to}} {
		if end.text == "" && end.at.IsZero() {
			return fmt.Errorf("--prometheus needs %s TIME, such as 2026-03-01T12:00:00Z", end.flag)
		}
		if end.text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, end.text)
		if err != nil {
			return fmt.Errorf("reading %s: %q must be a time such as 2026-03-01T12:00:00Z", end.flag, end.text)
		}
		*end.at = t.UTC()
	}
	p.from, p.to = rollout.GridFloor(p.from, interval), rollout.GridFloor(p.to, interval)
	const longest = 100_000 // blocks: 17 days of 15 s
	switch n := p.to.Sub(p.from) / interval; {
	case n < 1:
		return fmt.Errorf("reading --from and --to: from %s to %s there is no block of %s", p.from.Format(time.RFC3339), p.to.Format(time.RFC3339), interval)
	case n > longest:
		return fmt.Errorf("reading --from and --to: %d blocks of %s are too many; at most %d are replayed", n, interval, longest)
	}
	return nil
}

// chunk is how many blocks are asked for at once: what a server answers in a moment.
const chunk = 240

// readBlocks asks for all blocks of a period.
func readBlocks(ctx context.Context, source *evidence.Source, q rollout.Question, p period) (backtest.Tape, error) {
	var tape backtest.Tape
	for from := p.from; from.Before(p.to); from = q.To {
		q.From, q.To = from, from.Add(chunk*q.Interval)
		if q.To.After(p.to) {
			q.To = p.to
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		blocks, err := source.Blocks(ctx, q)
		cancel()
		if err != nil {
			return nil, err
		}
		tape = append(tape, blocks...)
	}
	return tape, nil
}

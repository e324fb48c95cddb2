package prom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
)

const (
	// maxScrapeBody bounds one answer of a target: a hundred thousand series are about 20 MB of text.
	maxScrapeBody = 64 << 20

	// accept asks for the delimited protobuf format, several times cheaper to parse than text, else for text.
	accept = `application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,` +
		`text/plain;version=0.0.4;q=0.5,*/*;q=0.1`
)

// errBodyTooLarge is a target's answer beyond maxScrapeBody.
var errBodyTooLarge = errors.New("answer is larger than 64 MiB")

// scraper turns one target's metrics into samples. It is used by one goroutine.
type scraper struct {
	target  Target
	db      storage.Appendable
	client  *http.Client
	timeout time.Duration
	log     *slog.Logger
	cache   *cache
	health  [3]*series // up, scrape_duration_seconds, scrape_samples_scraped
	wasUp   bool       // a failure is logged when it begins, not at every turn
	last    time.Time  // of the last scrape's samples
}

func newScraper(t Target, lset labels.Labels, s *Server) *scraper {
	sc := &scraper{
		target: t, db: s.db, client: s.client, timeout: s.o.Timeout, wasUp: true,
		log:   s.o.Logger.With(slog.String("job", t.Job), slog.String("instance", lset.Get(model.InstanceLabel))),
		cache: newCache(lset),
	}
	for i, name := range []string{"up", "scrape_duration_seconds", "scrape_samples_scraped"} {
		sc.health[i] = &series{lset: labels.NewBuilder(lset).Set(model.MetricNameLabel, name).Labels()}
	}
	return sc
}

// scrape reads the target once and stores its samples at the time given. A target that fails, or answers with something
// that cannot be read to its end, stores none: its series get staleness markers and up is 0.
func (s *scraper) scrape(ctx context.Context, at time.Time) {
	began := time.Now()
	families, err := s.gather(ctx)
	if ctx.Err() != nil {
		return // removed meanwhile; end marks the series
	}
	b := s.begin(ctx, at)
	s.last = at
	if err == nil {
		for _, f := range families {
			s.cache.each(f, b.add)
		}
	}
	scraped := b.added
	s.cache.sweep(b.stale)
	up := 1.0
	if err != nil {
		up = 0
	}
	for i, v := range []float64{up, time.Since(began).Seconds(), float64(scraped)} {
		b.add(s.health[i], v, 0)
	}
	b.commit()
	if err != nil && s.wasUp {
		s.log.Warn("Scrape failed", "error", err)
	}
	s.wasUp = err == nil
}

// end marks every series of the target as ended: now, or just after the last scrape if that is not past.
func (s *scraper) end(now time.Time) {
	if after := s.last.Add(time.Millisecond); now.Before(after) {
		now = after
	}
	b := s.begin(context.Background(), now)
	s.cache.sweep(b.stale)
	for _, h := range s.health {
		if h.ref != 0 {
			b.stale(h)
		}
	}
	b.commit()
}

func (s *scraper) gather(ctx context.Context) ([]*dto.MetricFamily, error) {
	if s.target.Gatherer != nil {
		return gatherFrom(s.target.Gatherer)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.target.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("building request: %w", err)
	}
	req.Header.Set("Accept", accept)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("scraping %q: want status 200, got %s", s.target.URL, resp.Status)
	}
	families, err := decode(resp.Body, expfmt.ResponseFormat(resp.Header), maxScrapeBody)
	if err != nil {
		return nil, fmt.Errorf("scraping %q: %w", s.target.URL, err)
	}
	return families, nil
}

func gatherFrom(g prometheus.Gatherer) ([]*dto.MetricFamily, error) {
	families, err := g.Gather()
	if err != nil {
		return nil, fmt.Errorf("gathering: %w", err)
	}
	return families, nil
}

// decode reads metric families up to the end of the body. A body without a content type that expfmt knows is text.
func decode(body io.Reader, format expfmt.Format, limit int64) ([]*dto.MetricFamily, error) {
	if format.FormatType() == expfmt.TypeUnknown {
		format = expfmt.NewFormat(expfmt.TypeTextPlain)
	}
	limited := &io.LimitedReader{R: body, N: limit + 1}
	d := expfmt.NewDecoder(limited, format)
	var families []*dto.MetricFamily
	for {
		f := &dto.MetricFamily{}
		err := d.Decode(f)
		if limited.N <= 0 {
			return nil, errBodyTooLarge
		}
		if errors.Is(err, io.EOF) {
			return families, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decoding metrics: %w", err)
		}
		families = append(families, f)
	}
}

// batch is the samples of one scrape, stored together. One that the database refuses is counted, not fatal: a clock that
// stepped back must not end the scraping.
type batch struct {
	appender storage.Appender
	at       int64 // milliseconds
	added    int
	refused  int
	last     error
	log      *slog.Logger
}

func (s *scraper) begin(ctx context.Context, at time.Time) *batch {
	return &batch{appender: s.db.Appender(ctx), at: at.UnixMilli(), log: s.log}
}

// add stores a value, at the time that the target gave in milliseconds, or at the scrape's if that is 0.
func (b *batch) add(s *series, v float64, at int64) {
	if at == 0 {
		at = b.at
	}
	ref, err := b.appender.Append(s.ref, s.lset, at, v)
	if err != nil {
		b.refused++
		b.last = err
		return
	}
	s.ref = ref
	b.added++
}

// stale marks the end of a series.
func (b *batch) stale(s *series) {
	b.add(s, math.Float64frombits(value.StaleNaN), 0)
}

func (b *batch) commit() {
	err := b.appender.Commit()
	if err == nil {
		err = b.last
	}
	if err != nil {
		b.log.Warn("Samples refused", "refused", b.refused, "of", b.added+b.refused, "error", err)
	}
}

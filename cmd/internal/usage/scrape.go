package usage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/siskin-dev/siskin/energy"
)

// Target is a server whose metrics are read.
type Target struct {
	// Instance is the uid of the pod that the server runs in; empty outside pods, where the URL's host stands for it.
	Instance string
	URL      string
}

// ParseTarget reads "URL" or "POD_UID=URL".
func ParseTarget(text string) (Target, error) {
	uid, address, found := strings.Cut(text, "=")
	if !found || strings.Contains(uid, "/") {
		uid, address = "", text
	}
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return Target{}, fmt.Errorf("parsing target %q: must be [POD_UID=]http://host:port/metrics", text)
	}
	return Target{Instance: uid, URL: address}, nil
}

const (
	// scrapeTimeout is well below the interval of any collector, so that a server that hangs delays no one else's joules.
	scrapeTimeout = 2 * time.Second
	// maxPage bounds a page: serving's own is some 20 kB.
	maxPage = 8 << 20
)

// Scraper reads the versions of several servers. Safe for concurrent use.
type Scraper struct {
	ctx     context.Context
	client  *http.Client
	targets []Target
}

// NewScraper reads the targets until ctx ends.
func NewScraper(ctx context.Context, targets []Target) *Scraper {
	return &Scraper{ctx: ctx, client: &http.Client{Timeout: scrapeTimeout}, targets: targets}
}

// Usage reads all targets at once. The error names those that could not be read; the others are returned with it.
func (s *Scraper) Usage() ([]energy.Party, error) {
	found := make([][]energy.Party, len(s.targets))
	errs := make([]error, len(s.targets))
	var reads sync.WaitGroup
	for i, target := range s.targets {
		reads.Go(func() { found[i], errs[i] = s.read(target) })
	}
	reads.Wait()
	var all []energy.Party
	for _, p := range found {
		all = append(all, p...)
	}
	return all, errors.Join(errs...)
}

func (s *Scraper) read(target Target) ([]energy.Party, error) {
	instance := target.Instance
	if instance == "" {
		if u, err := url.Parse(target.URL); err == nil {
			instance = u.Host
		}
	}
	families, err := s.fetch(target.URL)
	if err != nil {
		return nil, fmt.Errorf("scraping %q: %w", target.URL, err)
	}
	found, err := parties(families, instance)
	if err != nil {
		return nil, fmt.Errorf("scraping %q: %w", target.URL, err)
	}
	return found, nil
}

func (s *Scraper) fetch(address string) ([]*dto.MetricFamily, error) {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	// The text format is asked for: every exporter speaks it.
	req.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("got status %d, must be 200", resp.StatusCode)
	}
	return parsePage(io.LimitReader(resp.Body, maxPage))
}

// parsePage reads the text format, and refuses a page that is not a model server's.
func parsePage(page io.Reader) ([]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	byName, err := parser.TextToMetricFamilies(page)
	if err != nil {
		return nil, fmt.Errorf("parsing metrics: %w", err)
	}
	serving := false
	families := make([]*dto.MetricFamily, 0, len(byName))
	for name, f := range byName {
		serving = serving || strings.HasPrefix(name, servingPrefix)
		families = append(families, f)
	}
	if !serving {
		return nil, fmt.Errorf("parsing metrics: must have some named %s*", servingPrefix)
	}
	return families, nil
}

package prom

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Target is something to scrape: either a URL or a Gatherer of this process.
type Target struct {
	// Job and Instance become the labels of these names. Job is required; Instance is the URL's host by default.
	Job, Instance string
	// URL is the whole address, path included.
	URL string
	// Gatherer is asked directly, without HTTP and text.
	Gatherer prometheus.Gatherer
	// Labels are added to every series, as a scrape configuration's relabelling would, for example pod and namespace.
	Labels map[string]string
}

// lset checks a target and returns its labels.
func (t Target) lset() (labels.Labels, error) {
	if t.Job == "" {
		return labels.EmptyLabels(), errors.New("checking target: Job must be given")
	}
	if (t.URL == "") == (t.Gatherer == nil) {
		return labels.EmptyLabels(), fmt.Errorf("checking target %q: exactly one of URL and Gatherer must be given", t.Job)
	}
	instance := t.Instance
	if t.URL != "" {
		u, err := url.Parse(t.URL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return labels.EmptyLabels(), fmt.Errorf("checking target %q: want an http URL with a host, got %q", t.Job, t.URL)
		}
		if instance == "" {
			instance = u.Host
		}
	}
	b := labels.NewBuilder(labels.EmptyLabels())
	for name, value := range t.Labels {
		if !model.UTF8Validation.IsValidLabelName(name) || name == model.MetricNameLabel {
			return labels.EmptyLabels(), fmt.Errorf("checking target %q: %q is no label name", t.Job, name)
		}
		b.Set(name, value)
	}
	return b.Set(model.JobLabel, t.Job).Set(model.InstanceLabel, instance).Labels(), nil
}

// AddTarget scrapes a target from now on, every interval, until remove is called or the server stops. remove returns when
// the target's series carry staleness markers; calling it again does nothing.
func (s *Server) AddTarget(t Target) (remove func(), err error) {
	lset, err := t.lset()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &loop{server: s, scraper: newScraper(t, lset, s), cancel: cancel, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		cancel()
		return nil, errors.New("adding target: the server has stopped")
	}
	s.targets[l] = struct{}{}
	go l.run(ctx)
	return func() {
		s.mu.Lock()
		delete(s.targets, l)
		s.mu.Unlock()
		l.end()
	}, nil
}

// loop scrapes one target on time. It alone uses its scraper.
type loop struct {
	server  *Server
	scraper *scraper
	cancel  context.CancelFunc
	done    chan struct{}
}

// end stops the loop and waits until it has marked its series.
func (l *loop) end() {
	l.cancel()
	<-l.done
}

func (l *loop) run(ctx context.Context) {
	defer close(l.done)
	interval := l.server.o.Interval
	timer := time.NewTimer(untilNext(time.Now(), interval, l.server.o.Align))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.scraper.end(time.Now())
			return
		case <-timer.C:
		}
		began := time.Now()
		at := began
		if l.server.o.Align {
			at = began.Truncate(interval)
		}
		if !l.server.paused.Load() {
			l.scraper.scrape(ctx, at)
		}
		// Without a grid the next scrape is due one interval after this one began; with it, at the next point.
		next := time.Until(began.Add(interval))
		if l.server.o.Align {
			next = untilNext(time.Now(), interval, true)
		}
		timer.Reset(max(next, 0))
	}
}

// untilNext returns the time to the next point of the wall-clock grid. Without a grid the first scrape is due at once.
func untilNext(now time.Time, interval time.Duration, align bool) time.Duration {
	if !align {
		return 0
	}
	return now.Truncate(interval).Add(interval).Sub(now)
}

// Package fleet replays recorded drives as a fleet of vehicles that send telemetry to ingest.
//
// Each vehicle follows a trip from an offset of its own, row by row, and goes on with another trip at the end. All
// choices follow from a seed. The pace is an open loop: a measurement is due at its time whether or not the answers
// before it have come, spread evenly over the vehicles, so that a slow answer does not thin out the traffic. A vehicle
// behaves as one should: it keeps a measurement that was not acknowledged and sends it again at its next turn.
package fleet

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/siskin-dev/siskin/ingest"
)

// RecordedRate is the number of rows a second in the recorded trips.
const RecordedRate = 2.04

// Options configure a Fleet. Zero values mean the defaults given.
type Options struct {
	// URL is where ingest listens, such as http://127.0.0.1:8081. Required.
	URL string
	// Trips to replay. Required.
	Trips []Trip
	// Schema of the trips. Required.
	Schema *ingest.Schema
	// Vehicles is the size of the fleet. Default 400.
	Vehicles int
	// Rate is the number of measurements a second and vehicle. Default RecordedRate.
	Rate float64
	// Stride is the number of rows from one measurement to the next: more than the default 1 replays a drive faster
	// than life without sending more.
	Stride int
	// Seed decides trips and offsets.
	Seed uint64
	// Run tells this replay's sequence numbers from those of any other. Default: random.
	Run string
	// MaxInFlight bounds the requests at one time. Default 64.
	MaxInFlight int
	// Timeout bounds one request. Default 5 s.
	Timeout time.Duration
	// Transport sends the requests. Default: one with MaxInFlight connections.
	Transport http.RoundTripper
}

func (o *Options) setDefaults() {
	o.URL = strings.TrimSuffix(o.URL, "/")
	if o.Vehicles == 0 {
		o.Vehicles = 400
	}
	if o.Rate == 0 {
		o.Rate = RecordedRate
	}
	if o.Stride == 0 {
		o.Stride = 1
	}
	if o.Run == "" {
		o.Run = rand.Text()
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 64
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{MaxIdleConnsPerHost: o.MaxInFlight, MaxConnsPerHost: o.MaxInFlight}
	}
}

// Stats count what the fleet did. Due = Sent + Overrun; Sent = Accepted + Duplicate + Rejected + Refused + Failed + what
// is on its way.
type Stats struct {
	// Sent requests, each with one measurement.
	Sent int64
	// Accepted: acknowledged as new. Duplicate: acknowledged before. The vehicle goes on.
	Accepted, Duplicate int64
	// Rejected: refused for good (4xx); the vehicle gives the measurement up.
	Rejected int64
	// Refused: told to come back (429, 503, any 5xx). Failed: no answer. The vehicle sends the measurement again.
	Refused, Failed int64
	// Overrun: turns missed since the vehicle's request before, or 2 x MaxInFlight requests, were still on their way.
	Overrun int64
}

// Fleet replays trips. Use New.
type Fleet struct {
	options  Options
	client   *http.Client
	vehicles []*vehicle
	work     chan *vehicle

	sent, accepted, duplicate, rejected, refused, failed, overrun atomic.Int64
}

// New checks the options and places the vehicles.
func New(o Options) (*Fleet, error) {
	o.setDefaults()
	if o.URL == "" || len(o.Trips) == 0 || o.Schema == nil {
		return nil, errors.New("building the fleet: URL, Trips and Schema are required")
	}
	if o.Vehicles < 0 || o.Rate < 0 || o.Stride < 0 || o.MaxInFlight < 0 {
		return nil, fmt.Errorf("building the fleet: vehicles %d, rate %v, stride %d and requests at one time %d may not be negative",
			o.Vehicles, o.Rate, o.Stride, o.MaxInFlight)
	}
	f := &Fleet{
		options: o,
		client:  &http.Client{Transport: o.Transport, Timeout: o.Timeout},
		// As many as are on their way may wait, so that a worker between two requests costs no turn; beyond, a turn is
		// counted as missed.
		work: make(chan *vehicle, o.MaxInFlight),
	}
	for i := range o.Vehicles {
		f.vehicles = append(f.vehicles, newVehicle(i, o))
	}
	return f, nil
}

// Stats returns the counts so far.
func (f *Fleet) Stats() Stats {
	return Stats{
		Sent: f.sent.Load(), Accepted: f.accepted.Load(), Duplicate: f.duplicate.Load(), Rejected: f.rejected.Load(),
		Refused: f.refused.Load(), Failed: f.failed.Load(), Overrun: f.overrun.Load(),
	}
}

// Run sends until ctx ends, then waits for the answers that are on their way. It may run once.
func (f *Fleet) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range f.options.MaxInFlight {
		workers.Go(func() {
			for v := range f.work {
				f.send(context.WithoutCancel(ctx), v)
				v.busy.Store(false)
			}
		})
	}
	f.pace(ctx)
	close(f.work)
	workers.Wait()
	f.client.CloseIdleConnections()
	return nil
}

// pace gives the vehicles their turns, one after another, each Rate times a second.
func (f *Fleet) pace(ctx context.Context) {
	start := time.Now()
	gap := float64(time.Second) / (f.options.Rate * float64(len(f.vehicles)))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for turn := 0; ; turn++ {
		// Computed from the start, not from the turn before, so that lateness does not add up.
		if wait := time.Until(start.Add(time.Duration(gap * float64(turn)))); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		f.turn(f.vehicles[turn%len(f.vehicles)])
	}
}

func (f *Fleet) turn(v *vehicle) {
	if !v.busy.CompareAndSwap(false, true) {
		f.overrun.Add(1)
		return
	}
	select {
	case f.work <- v:
	default:
		v.busy.Store(false)
		f.overrun.Add(1)
	}
}

// send posts the vehicle's present row and goes on to the next one when it was answered for good.
func (f *Fleet) send(ctx context.Context, v *vehicle) {
	f.sent.Add(1)
	body := v.appendBody(make([]byte, 0, 1536), f.options.Schema, time.Now())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.url, bytes.NewReader(body))
	if err != nil {
		f.failed.Add(1)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		f.failed.Add(1)
		return
	}
	defer resp.Body.Close()
	// Read to the end, so that the connection can be used again; an answer cut short is an answer all the same.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if f.settle(resp.StatusCode) {
		v.next()
	}
}

// settle counts an answer and says whether it is final.
func (f *Fleet) settle(status int) bool {
	switch {
	case status == http.StatusAccepted:
		f.accepted.Add(1)
	case status == http.StatusOK:
		f.duplicate.Add(1)
	case status >= 500 || status == http.StatusTooManyRequests:
		f.refused.Add(1)
		return false
	default:
		f.rejected.Add(1)
	}
	return true
}

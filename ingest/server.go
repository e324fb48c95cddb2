package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

const (
	defaultMaxRecords = 256
	// minRunTime, in seconds since engine start: before it a logger still reports values of the previous drive.
	minRunTime = 3
)

// Options configure a Server. Zero values mean the defaults given.
type Options struct {
	// Salt names the hash that puts vehicles in buckets: the service's name. Required.
	Salt string
	// Model is the model's name, for labels. Required.
	Model string
	// Features are the model's inputs in order, as column names or VSS paths. Required.
	Features []string
	// Target is the signal that the model predicts. Default Vehicle.OBD.CoolantTemperature.
	Target string

	// MaxBodyBytes bounds a request, unpacked. Default 1 MiB.
	MaxBodyBytes int64
	// ReadTimeout bounds how long a vehicle may take to send a body: a slow one holds a place. Default 10 s.
	ReadTimeout time.Duration
	// MaxRecords bounds a request's measurements. Default and most 256.
	MaxRecords int
	// MaxInFlight bounds the requests answered at one time. Default 1024.
	MaxInFlight int
	// MaxPerVehicle bounds the requests of one vehicle at one time, all but one of them waiting. Default 4.
	MaxPerVehicle int
	// AppendTimeout bounds a write to the log, waiting for its turn included. Default 1 s.
	AppendTimeout time.Duration
	// RetryAfter is what a refused vehicle is told to wait. Default 1 s, and never less.
	RetryAfter time.Duration
	// Workers is the number of predictions at one time. Default 128.
	Workers int
	// QueuePerVehicle and Queue bound the measurements that wait for a prediction. Defaults 32 and 8192.
	QueuePerVehicle, Queue int
	// DrainTimeout bounds how long Run goes on with what waits after its context ends. Default 3 s.
	DrainTimeout time.Duration

	// UnitSpread is over how long the units are counted that a new version is assigned. Default 5 min.
	UnitSpread time.Duration
	// Units remembers which units were counted. Default: this process does, as long as it runs, of the last 100,000.
	Units Units

	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Logger defaults to discarding.
	Logger *slog.Logger

	// Required.
	Schema     *Schema
	Pseudonyms *Pseudonymiser
	Log        Log
	Predictor  Predictor
	Metrics    *Metrics
}

func (o *Options) setDefaults() {
	o.Target = orElse(o.Target, "Vehicle.OBD.CoolantTemperature")
	o.MaxBodyBytes = orElse(o.MaxBodyBytes, 1<<20)
	o.ReadTimeout = orElse(o.ReadTimeout, 10*time.Second)
	o.MaxRecords = min(orElse(o.MaxRecords, defaultMaxRecords), defaultMaxRecords)
	o.MaxInFlight = orElse(o.MaxInFlight, 1024)
	o.MaxPerVehicle = orElse(o.MaxPerVehicle, 4)
	o.AppendTimeout = orElse(o.AppendTimeout, time.Second)
	o.RetryAfter = max(o.RetryAfter, time.Second)
	o.Workers = orElse(o.Workers, 128)
	o.QueuePerVehicle = orElse(o.QueuePerVehicle, 32)
	o.Queue = orElse(o.Queue, 8192)
	o.DrainTimeout = orElse(o.DrainTimeout, 3*time.Second)
	o.UnitSpread = orElse(o.UnitSpread, 5*time.Minute)
	o.Logger = orElse(o.Logger, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Server takes measurements. It is an http.Handler; Run must run beside it.
type Server struct {
	options  Options
	decoder  Decoder
	mux      *http.ServeMux
	slots    chan struct{} // one per request being answered
	gate     *gate
	lanes    *lanes[job]
	assigned *assignments
	features []int
	target   int
	engine   int // signal: engine speed
	runTime  int // signal: time since engine start
}

// job is one measurement on its way to the model.
type job struct {
	unit   string
	bucket int
	values []float64
}

// New checks the options and names what is wrong with them.
func New(o Options) (*Server, error) {
	o.setDefaults()
	if o.Schema == nil || o.Pseudonyms == nil || o.Log == nil || o.Predictor == nil || o.Metrics == nil {
		return nil, errors.New("building ingest: Schema, Pseudonyms, Log, Predictor and Metrics are required")
	}
	if o.Salt == "" || o.Model == "" || len(o.Features) == 0 {
		return nil, errors.New("building ingest: Salt, Model and Features are required")
	}
	s := &Server{
		options:  o,
		decoder:  Decoder{Schema: o.Schema, MaxRecords: o.MaxRecords},
		mux:      http.NewServeMux(),
		slots:    make(chan struct{}, o.MaxInFlight),
		gate:     newGate(o.MaxPerVehicle),
		lanes:    newLanes[job](o.QueuePerVehicle, o.Queue),
		assigned: newAssignments(o),
	}
	if err := s.resolve(); err != nil {
		return nil, err
	}
	o.Metrics.presetModel(o.Model)
	s.mux.HandleFunc("POST /v1/vehicles/{vin}/measurements", s.serveMeasurements)
	return s, nil
}

// resolve finds the signals by name.
func (s *Server) resolve() error {
	find := func(name string) (int, error) {
		i, ok := s.options.Schema.Lookup(name)
		if !ok {
			return 0, fmt.Errorf("building ingest: feature or target %q is no signal of the schema", name)
		}
		return i, nil
	}
	for _, name := range s.options.Features {
		i, err := find(name)
		if err != nil {
			return err
		}
		s.features = append(s.features, i)
	}
	for name, to := range map[string]*int{
		s.options.Target: &s.target, "Vehicle.OBD.EngineSpeed": &s.engine, "Vehicle.OBD.RunTime": &s.runTime,
	} {
		i, err := find(name)
		if err != nil {
			return err
		}
		*to = i
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Run asks the model about what was accepted, until ctx ends; then it does what still waits, for DrainTimeout at most,
// counts the rest as dropped, and returns. Stop the HTTP server first.
func (s *Server) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var workers sync.WaitGroup
	for range s.options.Workers {
		workers.Go(func() { s.lanes.work(func(j job) { s.predict(work, j) }) })
	}
	<-ctx.Done()
	idle := s.lanes.close()
	timer := time.NewTimer(s.options.DrainTimeout)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
		n := s.lanes.dropAll()
		cancel()
		s.options.Metrics.drop(dropShutdown, n)
		s.options.Logger.Warn("Dropped predictions on stop", "count", n)
	}
	workers.Wait()
	s.options.Metrics.queued.Set(0)
	return nil
}

// enqueue hands a batch's fresh records to the workers, or counts why not. They are in the log already: what is dropped
// here loses its prediction, not its data.
func (s *Server) enqueue(b Batch, fresh []bool) {
	bucket := rollout.BucketOf(s.options.Salt, b.Vehicle)
	for i, rec := range b.Records {
		if !fresh[i] || !s.scorable(rec.Values) {
			continue
		}
		switch err := s.lanes.push(b.Vehicle, job{b.Vehicle, bucket, rec.Values}); {
		case errors.Is(err, errBusy):
			s.options.Metrics.drop(dropLane, 1)
		case errors.Is(err, errFull):
			s.options.Metrics.drop(dropQueue, 1)
		case err != nil:
			s.options.Metrics.drop(dropShutdown, 1)
		}
	}
	s.options.Metrics.queued.Set(float64(s.lanes.depth()))
}

// scorable says whether a prediction can be held against the record, and counts why not.
func (s *Server) scorable(values []float64) bool {
	// Written so that a missing (NaN) value fails.
	if !(values[s.engine] > 0 && values[s.runTime] >= minRunTime) {
		s.options.Metrics.skip(skipEngine)
		return false
	}
	if math.IsNaN(values[s.target]) {
		s.options.Metrics.skip(skipTruth)
		return false
	}
	return true
}

// predict asks the model about one measurement and holds the answer against the truth in it.
func (s *Server) predict(ctx context.Context, j job) {
	inputs := make([]float64, len(s.features))
	for i, f := range s.features {
		inputs[i] = j.values[f]
	}
	p, err := s.options.Predictor.Predict(ctx, j.bucket, inputs)
	if err != nil {
		s.options.Metrics.failed(s.options.Model, reasonOf(err))
		return
	}
	s.options.Metrics.scored(s.options.Model, j.bucket, p, j.values[s.target])
	s.assigned.met(ctx, j.unit, p.Version)
}

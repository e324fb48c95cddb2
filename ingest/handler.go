package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
)

// refusal is an answer that takes nothing.
type refusal struct {
	status int
	result result
	text   string
	items  []Fault
}

// serveMeasurements answers one vehicle: all of a request is acknowledged, or nothing.
//
//	202  all in the log, at least one of them new          400  VIN or an item malformed
//	200  all in the log before                             413  body too large
//	409  older than the log remembers                      415  neither JSON nor NDJSON, or not gzip
//	429  too many at one time, Retry-After                 422  a value breaks the schema
//	503  the log cannot be written now, Retry-After
func (s *Server) serveMeasurements(w http.ResponseWriter, r *http.Request) {
	select {
	case s.slots <- struct{}{}:
	default:
		s.refuse(w, &refusal{status: http.StatusTooManyRequests, result: overload, text: "too many requests at one time"}, 1)
		return
	}
	s.options.Metrics.inFlight.Inc()
	defer func() { <-s.slots; s.options.Metrics.inFlight.Dec() }()

	batch, no := s.read(w, r)
	if no != nil {
		s.refuse(w, no, max(1, len(batch.Records)))
		return
	}
	ack, no := s.take(r.Context(), batch)
	if no != nil {
		s.refuse(w, no, len(batch.Records))
		return
	}
	s.acknowledge(w, ack)
}

// read decodes a request.
func (s *Server) read(w http.ResponseWriter, r *http.Request) (Batch, *refusal) {
	vin := r.PathValue("vin")
	if err := CheckVIN(vin); err != nil {
		return Batch{}, &refusal{status: http.StatusBadRequest, result: malformedIn, text: err.Error()}
	}
	ndjson, no := mediaType(r.Header.Get("Content-Type"))
	if no != nil {
		return Batch{}, no
	}
	body, no := s.readBody(w, r)
	if no != nil {
		return Batch{}, no
	}
	boot, records, err := s.decoder.Decode(body, ndjson, vin, s.options.Now().UTC())
	if de, ok := errors.AsType[*DecodeError](err); ok {
		no := &refusal{status: de.Status(), result: invalid, text: de.Error(), items: de.Faults}
		if no.status == http.StatusBadRequest {
			no.result = malformedIn
		}
		return Batch{}, no
	}
	return Batch{Vehicle: s.options.Pseudonyms.Pseudonym(vin), Boot: boot, Records: records}, nil
}

func mediaType(header string) (ndjson bool, no *refusal) {
	kind, _, err := mime.ParseMediaType(header)
	switch {
	case header == "" || (err == nil && kind == "application/json"):
		return false, nil
	case err == nil && kind == "application/x-ndjson":
		return true, nil
	}
	return false, &refusal{
		status: http.StatusUnsupportedMediaType, result: unsupported,
		text: "Content-Type: expected application/json or application/x-ndjson",
	}
}

// readBody reads and unpacks at most MaxBodyBytes, so that a small packed body cannot grow without bound.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	// Not every ResponseWriter has deadlines; the real one has.
	_ = http.NewResponseController(w).SetReadDeadline(s.options.Now().Add(s.options.ReadTimeout))
	var in io.Reader = http.MaxBytesReader(w, r.Body, s.options.MaxBodyBytes)
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip":
		unzip, err := gzip.NewReader(in)
		if err != nil {
			return nil, bodyRefusal(err)
		}
		in = io.LimitReader(unzip, s.options.MaxBodyBytes+1)
	default:
		return nil, &refusal{
			status: http.StatusUnsupportedMediaType, result: unsupported, text: "Content-Encoding: expected gzip or none",
		}
	}
	var body bytes.Buffer
	if n := r.ContentLength; n > 0 && n <= s.options.MaxBodyBytes {
		body.Grow(int(n) + bytes.MinRead)
	}
	n, err := body.ReadFrom(in)
	if err == nil && n > s.options.MaxBodyBytes {
		err = &http.MaxBytesError{Limit: s.options.MaxBodyBytes}
	}
	if err != nil {
		return nil, bodyRefusal(err)
	}
	return body.Bytes(), nil
}

func bodyRefusal(err error) *refusal {
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &refusal{
			status: http.StatusRequestEntityTooLarge, result: tooLarge,
			text: "body: expected at most " + strconv.FormatInt(tooBig.Limit, 10) + " bytes unpacked",
		}
	}
	return &refusal{status: http.StatusBadRequest, result: malformedIn, text: "reading the body: " + err.Error()}
}

// ack is the answer to a batch that is in the log.
type ack struct {
	Accepted   int    `json:"accepted"`
	Duplicates int    `json:"duplicates"`
	LastSeq    uint64 `json:"last_seq"`
}

// take writes a batch to the log and, once it is there, queues its predictions, one request of a vehicle at a time.
func (s *Server) take(ctx context.Context, b Batch) (ack, *refusal) {
	// A vehicle that hangs up does not stop its write half-way: it would be in the log and miss its prediction.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.AppendTimeout)
	defer cancel()
	start := s.options.Now()
	if err := s.gate.enter(ctx, b.Vehicle); err != nil {
		return ack{}, logRefusal(err)
	}
	defer s.gate.leave(b.Vehicle)
	done, err := s.options.Log.Append(ctx, b)
	s.options.Metrics.appends.Observe(s.options.Now().Sub(start).Seconds())
	if err != nil {
		s.options.Logger.Warn("Refused a batch", "vehicle", b.Vehicle, "records", len(b.Records), "error", err)
		return ack{}, logRefusal(err)
	}
	s.enqueue(b, done.Fresh)
	out := ack{LastSeq: done.LastSeq}
	for _, fresh := range done.Fresh {
		if fresh {
			out.Accepted++
		} else {
			out.Duplicates++
		}
	}
	return out, nil
}

// logRefusal turns an error of the gate or the log into an answer. The cause stays in our own log: it is no business
// of the vehicle.
func logRefusal(err error) *refusal {
	switch {
	case errors.Is(err, errBusy):
		return &refusal{status: http.StatusTooManyRequests, result: vehicleBusy, text: "too many requests of this vehicle at one time"}
	case errors.Is(err, ErrRegression):
		return &refusal{status: http.StatusConflict, result: regression, text: "seq: expected a number that the log still remembers"}
	}
	return &refusal{status: http.StatusServiceUnavailable, result: unavailable, text: "the log cannot be written now"}
}

func (s *Server) acknowledge(w http.ResponseWriter, a ack) {
	s.options.Metrics.measured(accepted, a.Accepted)
	s.options.Metrics.measured(duplicate, a.Duplicates)
	status := http.StatusAccepted
	if a.Accepted == 0 {
		status = http.StatusOK
	}
	s.answer(w, status, a)
}

func (s *Server) refuse(w http.ResponseWriter, no *refusal, measurements int) {
	s.options.Metrics.measured(no.result, measurements)
	if no.status == http.StatusTooManyRequests || no.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(s.options.RetryAfter.Seconds()))))
	}
	s.answer(w, no.status, struct {
		Error string  `json:"error"`
		Items []Fault `json:"items,omitempty"`
	}{no.text, no.items})
}

// answer writes JSON. A vehicle that is gone does not hear it: what it was owed is in the log, and it will ask again.
func (s *Server) answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		s.options.Logger.Error("Encoded no answer", "error", err)
		status, text = http.StatusInternalServerError, []byte(`{"error":"encoding the answer"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(append(text, '\n')); err != nil {
		s.options.Logger.Debug("Lost the vehicle before the answer", "error", err)
	}
}

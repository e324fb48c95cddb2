// Package ingest takes telemetry from vehicles, keeps it safe, and asks the model what it thinks of it.
//
// A Server answers POST /v1/vehicles/{vin}/measurements. A batch is decoded, held against the Schema, stripped of its
// VIN, written to a durable Log and only then acknowledged; after that each measurement goes to a Predictor, and what
// the model answered is held against the value that the vehicle measured itself. Records of one vehicle stay in order
// all the way. Everything is bounded, and whatever is not taken or not predicted is counted with its reason.
//
// The root knows no store: sub-room redis keeps the log.
package ingest

import (
	"context"
	"errors"
	"time"
)

// Record is one measurement of one vehicle: the last known values at one time.
type Record struct {
	// Seq counts the vehicle's records since Boot. It means nothing unless Sequenced.
	Seq uint64
	// Sequenced says that the vehicle gave a sequence number, so that a repeated record is recognised.
	Sequenced bool
	// Time is the vehicle's time of measurement, or the time of receipt where it gave none.
	Time time.Time
	// Values has one value per signal of the schema, in its order and its units. NaN: not measured.
	Values []float64
}

// Batch is what one request of one vehicle holds.
type Batch struct {
	// Vehicle is the pseudonym; the VIN itself never gets this far.
	Vehicle string
	// Boot names the run of the vehicle's clock that Seq counts in; empty is a valid name.
	Boot    string
	Records []Record
}

// Appended says what the log made of a batch.
type Appended struct {
	// Fresh tells, record by record, whether it was written now (true) or was there already (false).
	Fresh []bool
	// LastSeq is the highest sequence number of the boot that the log holds.
	LastSeq uint64
}

// Log is the durable end of the pipeline. When Append returns no error every record of the batch is in the log, the
// fresh ones in the batch's order; when it returns one, the batch may be sent again and nothing is written twice.
type Log interface {
	Append(ctx context.Context, b Batch) (Appended, error)
}

// Prediction is a model's answer.
type Prediction struct {
	Value float64
	// Version is the version that answered, as it says itself.
	Version string
}

// Predictor asks the model. Inputs are in the model's feature order, NaN for a missing one. Bucket, 0 to 99, is the
// vehicle's bucket. An error that is no *PredictError counts as a failed connection.
type Predictor interface {
	Predict(ctx context.Context, bucket int, inputs []float64) (Prediction, error)
}

// Errors of a Log, of which the vehicle is told.
var (
	// ErrUnavailable says that the log cannot be written now; the vehicle shall come back.
	ErrUnavailable = errors.New("log unavailable")
	// ErrRegression says that a record is older than the log remembers, so nobody can tell whether it is a repetition.
	ErrRegression = errors.New("sequence regression")
)

// Reason says why a prediction failed. The set is closed: it is a metric label.
type Reason string

// The reasons of a failed prediction.
const (
	ReasonStatus5xx  Reason = "status_5xx"
	ReasonStatus429  Reason = "status_429"
	ReasonStatus4xx  Reason = "status_4xx"
	ReasonTimeout    Reason = "timeout"
	ReasonConnection Reason = "connection"
	ReasonBadAnswer  Reason = "bad_answer"
)

func reasons() []Reason {
	return []Reason{
		ReasonStatus5xx, ReasonStatus429, ReasonStatus4xx, ReasonTimeout, ReasonConnection, ReasonBadAnswer,
	}
}

// PredictError is a failed prediction with its reason.
type PredictError struct {
	Reason Reason
	Err    error
}

// Error implements error.
func (e *PredictError) Error() string { return string(e.Reason) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *PredictError) Unwrap() error { return e.Err }

// reasonOf is the metric label of a failed prediction.
func reasonOf(err error) Reason {
	if pe, ok := errors.AsType[*PredictError](err); ok {
		return pe.Reason
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ReasonTimeout
	}
	return ReasonConnection
}

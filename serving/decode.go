package serving

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"unicode/utf8"
)

// request is what an inference request asks, decoded. Its slices are kept for the next request.
type request struct {
	id     []byte // JSON string with its quotes; nil when the client gave none
	rows   int
	values []float64 // rows*features, row by row
}

// decoder reads one request body for a model of a known number of features.
type decoder struct {
	scanner
	features int
	req      *request
	inputs   int
	seen     uint // bits of the top-level keys that came already
}

// input is a tensor while it is read. Its fields may come in any order.
type input struct {
	name, datatype string
	shape          []uint64
	data           int // where data starts in the body; 0 when it is missing
}

// decodeRequest reads body into req, whose slices it reuses.
func decodeRequest(body []byte, features int, req *request) error {
	req.id, req.rows, req.values = nil, 0, req.values[:0]
	if !utf8.Valid(body) {
		return badRequest("reading JSON: the body is not UTF-8")
	}
	d := decoder{scanner: scanner{data: body}, features: features, req: req}
	if err := d.object(d.field); err != nil {
		return err
	}
	if err := d.end(); err != nil {
		return err
	}
	if d.inputs != 1 {
		return badRequest("reading inputs: got %d tensors, want 1, named %q", d.inputs, inputName)
	}
	return nil
}

func badRequest(format string, args ...any) error {
	return &statusError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func (d *decoder) field(key string) error {
	if err := d.once(key); err != nil {
		return err
	}
	switch key {
	case "id":
		return d.id()
	case "parameters":
		return d.parameters("binary_data_output")
	case "inputs":
		return d.list(d.input)
	case "outputs":
		if d.null() {
			return nil
		}
		return d.list(d.output)
	}
	return d.skip(1)
}

// once refuses a second "id", "inputs" and so on: two answers to one question are an error, not a choice.
func (d *decoder) once(key string) error {
	known := [...]string{"id", "inputs", "outputs", "parameters"}
	i := slices.Index(known[:], key)
	if i < 0 {
		return nil
	}
	bit := uint(1) << i
	if d.seen&bit != 0 {
		return d.fail("%q twice", key)
	}
	d.seen |= bit
	return nil
}

func (d *decoder) id() error {
	if d.null() {
		return nil
	}
	raw, err := d.rawText()
	d.req.id = raw
	return err
}

// parameters checks an object of strings, numbers and booleans. binary names the one by which a client asks for the
// binary tensor extension, which must be refused rather than ignored.
func (d *decoder) parameters(binary string) error {
	if d.null() {
		return nil
	}
	return d.object(func(key string) error {
		switch d.next() {
		case '{', '[', 'n':
			return d.fail("parameter %q: want a string, number or boolean", key)
		case 't':
			if key == binary {
				return badRequest("reading parameter %q: binary tensors are not supported", key)
			}
		}
		return d.skip(2)
	})
}

func (d *decoder) output() error {
	var name string
	err := d.object(func(key string) (err error) {
		switch key {
		case "name":
			name, err = d.text()
		case "parameters":
			err = d.parameters("binary_data")
		default:
			err = d.skip(3)
		}
		return err
	})
	if err != nil {
		return err
	}
	if name != outputName {
		return badRequest("reading outputs: unknown output %.100q, want %q", name, outputName)
	}
	return nil
}

func (d *decoder) input() error {
	var shape [2]uint64
	in := input{shape: shape[:0]}
	err := d.object(func(key string) (err error) {
		switch key {
		case "name":
			in.name, err = d.text()
		case "datatype":
			in.datatype, err = d.text()
		case "shape":
			in.shape = in.shape[:0]
			err = d.list(func() (err error) { in.shape, err = d.dimension(in.shape); return err })
		case "parameters":
			err = d.parameters("")
		case "data":
			d.next()
			in.data = d.at
			err = d.skip(3)
		default:
			err = d.skip(3)
		}
		return err
	})
	if err != nil {
		return err
	}
	d.inputs++
	if err := d.checkInput(&in); err != nil {
		return err
	}
	return d.values(&in)
}

// dimension appends one dimension; a fraction, a sign or a string is refused, and so is a third dimension, which no
// model here has.
func (d *decoder) dimension(shape []uint64) ([]uint64, error) {
	raw, err := d.number()
	if err != nil {
		return shape, err
	}
	n, err := strconv.ParseUint(string(raw), 10, 63)
	if err != nil {
		return shape, d.fail("shape: %q is not an unsigned integer of 63 bits", raw)
	}
	if len(shape) == cap(shape) {
		return shape, d.fail("shape: more than 2 dimensions, want [rows,%d]", d.features)
	}
	return append(shape, n), nil
}

func (d *decoder) checkInput(in *input) error {
	switch {
	case d.inputs > 1:
		return badRequest("reading inputs: more than one tensor, want 1, named %q", inputName)
	case in.name != inputName:
		return badRequest("reading inputs: unknown input %.100q, want %q", in.name, inputName)
	case in.datatype != FP32 && in.datatype != FP64:
		return badRequest("reading input %q: datatype %.20q, want %q or %q", in.name, in.datatype, FP32, FP64)
	case len(in.shape) != 2 || in.shape[1] != uint64(d.features):
		return badRequest("reading input %q: shape %v, want [rows,%d]", in.name, in.shape, d.features)
	case in.shape[0] == 0 || in.shape[0] > uint64(len(d.data)):
		// A row takes more than a byte, so more rows than bytes cannot be there; checked before anything is allocated.
		return badRequest("reading input %q: %d rows in a body of %d bytes, want at least 1", in.name, in.shape[0], len(d.data))
	case in.data == 0:
		return badRequest("reading input %q: no data", in.name)
	}
	return nil
}

// values reads in's data, flat or nested to the shape, into the request.
func (d *decoder) values(in *input) error {
	bits := 64
	if in.datatype == FP32 {
		bits = 32
	}
	s := scanner{data: d.data, at: in.data}
	rows, nested, flat := int(in.shape[0]), false, false
	err := s.list(func() error {
		if s.next() == '[' {
			nested = true
		} else {
			flat = true
		}
		switch {
		case nested && flat:
			return s.fail("rows and single values mixed")
		case nested:
			return d.row(&s, bits)
		}
		return d.value(&s, bits)
	})
	if err != nil {
		return err
	}
	if len(d.req.values) != rows*d.features {
		return badRequest("reading input %q: %d values, want %d for shape %v", in.name, len(d.req.values), rows*d.features, in.shape)
	}
	d.req.rows = rows
	return nil
}

// row reads one nested row.
func (d *decoder) row(s *scanner, bits int) error {
	before := len(d.req.values)
	if err := s.list(func() error { return d.value(s, bits) }); err != nil {
		return err
	}
	if got := len(d.req.values) - before; got != d.features {
		return s.fail("a row of %d values, want %d", got, d.features)
	}
	return nil
}

// value reads one number; null is a missing value.
func (d *decoder) value(s *scanner, bits int) error {
	if s.null() {
		d.req.values = append(d.req.values, math.NaN())
		return nil
	}
	raw, err := s.number()
	if err != nil {
		return err
	}
	v, err := strconv.ParseFloat(string(raw), bits)
	if err != nil {
		return s.fail("%.40q is out of range for FP%d", raw, bits)
	}
	d.req.values = append(d.req.values, v)
	return nil
}

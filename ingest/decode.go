package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// maxSeq is the highest sequence number that every JSON reader keeps exact.
const maxSeq = 1<<53 - 1

// maxFaults bounds an error answer: more faults than these only repeat themselves.
const maxFaults = 16

// maxNameBytes bounds boot ids, and what an error answer quotes of a foreign value.
const maxNameBytes = 64

// Fault is one thing wrong with one item of a request.
type Fault struct {
	Index    int    `json:"index"`
	Field    string `json:"field,omitempty"`
	Value    string `json:"value,omitempty"`
	Expected string `json:"expected"`
	Error    string `json:"error"`
	// malformed: the item has not the shape of a measurement (400). Otherwise a value breaks the schema (422).
	malformed bool
}

// DecodeError lists what is wrong with a request. Nothing of such a request is taken.
type DecodeError struct{ Faults []Fault }

// Error gives the first fault.
func (e *DecodeError) Error() string { return e.Faults[0].Error }

// Status is 400 when an item is malformed, else 422.
func (e *DecodeError) Status() int {
	if slices.ContainsFunc(e.Faults, func(f Fault) bool { return f.malformed }) {
		return http.StatusBadRequest
	}
	return http.StatusUnprocessableEntity
}

// Decoder reads requests. It has no state.
type Decoder struct {
	Schema *Schema
	// MaxRecords is the most items of one request.
	MaxRecords int
}

// Decode reads an object, an array of objects or, with ndjson, one object per line. An item is of the VISS shape
// {"seq","ts","boot","data":[{"path","dp":{"value","ts"}}]} or flat {"seq","ts","boot","Vehicle.OBD.Speed":83.5}.
// Records without a time get now. All records of a request are of one vehicle and one boot. The error is a *DecodeError.
func (d Decoder) Decode(body []byte, ndjson bool, vin string, now time.Time) (boot string, records []Record, err error) {
	items, err := d.split(body, ndjson)
	if err != nil {
		return "", nil, err
	}
	var faults []Fault
	records = make([]Record, 0, len(items))
	for i, raw := range items {
		it := item{schema: d.Schema, rec: Record{Time: now, Values: d.Schema.Empty()}}
		it.read(raw, vin)
		if i > 0 && it.boot != boot {
			it.reject("boot", it.boot, "one boot per request")
		}
		boot = it.boot
		for _, f := range it.faults {
			f.Index = i
			faults = append(faults, f)
		}
		records = append(records, it.rec)
		if len(faults) >= maxFaults {
			break
		}
	}
	if len(faults) > 0 {
		return "", nil, &DecodeError{Faults: faults[:min(len(faults), maxFaults)]}
	}
	return boot, records, nil
}

// split cuts a body into its items.
func (d Decoder) split(body []byte, ndjson bool) ([][]byte, error) {
	var items [][]byte
	body = bytes.TrimSpace(body)
	switch {
	case ndjson:
		for line := range bytes.Lines(body) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				items = append(items, line)
			}
		}
	case len(body) > 0 && body[0] == '[':
		if !json.Valid(body) {
			return nil, malformed("", "", "a JSON array of measurements: "+syntaxError(body))
		}
		elements(body, func(raw []byte) { items = append(items, raw) })
	case len(body) > 0:
		items = [][]byte{body}
	}
	if len(items) == 0 || len(items) > d.MaxRecords {
		return nil, malformed("", strconv.Itoa(len(items))+" items", fmt.Sprintf("1 to %d measurements", d.MaxRecords))
	}
	return items, nil
}

func malformed(field, value, expected string) *DecodeError {
	f := newFault(field, value, expected)
	f.malformed = true
	return &DecodeError{Faults: []Fault{f}}
}

func newFault(field, value, expected string) Fault {
	if len(value) > maxNameBytes {
		value = value[:maxNameBytes]
	}
	if len(field) > 2*maxNameBytes {
		field = field[:2*maxNameBytes]
	}
	text := "expected " + expected
	if value != "" {
		text = "got " + value + ", " + text
	}
	if field != "" {
		text = field + ": " + text
	}
	return Fault{Field: field, Value: value, Expected: expected, Error: text}
}

// item is one measurement while it is read.
type item struct {
	schema *Schema
	rec    Record
	boot   string
	any    bool
	faults []Fault
}

func (it *item) reject(field, value, expected string) {
	it.faults = append(it.faults, newFault(field, value, expected))
}

func (it *item) malformed(field, value, expected string) {
	it.reject(field, value, expected)
	it.faults[len(it.faults)-1].malformed = true
}

// read fills the record from one JSON object.
func (it *item) read(raw []byte, vin string) {
	if !json.Valid(raw) {
		it.malformed("", "", "a JSON object: "+syntaxError(raw))
		return
	}
	isObject := members(raw, func(name, value []byte) {
		switch string(name) {
		case "vin":
			if v, ok := text(value); !ok || string(v) != vin {
				it.reject("vin", "", "the VIN of the request's path") // the value stays unsaid: it is personal data
			}
		case "seq":
			it.readSeq(value)
		case "ts":
			it.readTime(value)
		case "boot":
			it.readBoot(value)
		case "data":
			it.readData(value)
		default:
			it.set(name, value)
		}
	})
	switch {
	case !isObject:
		it.malformed("", "", "a JSON object")
	case !it.any && len(it.faults) == 0:
		it.reject("data", "", "at least one signal with a value")
	}
}

// syntaxError says what is wrong with text that is no JSON, and where.
func syntaxError(raw []byte) string {
	if err := json.Unmarshal(raw, new(json.RawMessage)); err != nil {
		return err.Error()
	}
	return "unknown syntax error"
}

func (it *item) readSeq(raw []byte) {
	seq, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil || seq > maxSeq {
		it.malformed("seq", string(raw), "an integer from 0 to 2^53-1")
		return
	}
	it.rec.Seq, it.rec.Sequenced = seq, true
}

func (it *item) readBoot(raw []byte) {
	name, ok := text(raw)
	boot := string(name)
	if !ok || len(boot) > maxNameBytes || !plain(boot) {
		it.malformed("boot", string(raw), "a string of at most 64 letters, digits, '.', '_' and '-'")
		return
	}
	it.boot = boot
}

func (it *item) readTime(raw []byte) {
	s, _ := text(raw)
	t, err := time.Parse(time.RFC3339Nano, string(s))
	if err != nil {
		it.reject("ts", string(raw), "a time such as 2026-01-02T15:04:05.678Z")
		return
	}
	it.rec.Time = t.UTC()
}

// readData reads the VISS shape: one point or a list of them.
func (it *item) readData(raw []byte) {
	if !elements(raw, it.readPoint) {
		it.readPoint(raw)
	}
}

// readPoint reads {path, dp: {value, ts}}. unit is ours: a sender that states it is held to it.
func (it *item) readPoint(raw []byte) {
	var path, value, unit []byte
	members(raw, func(name, v []byte) {
		switch string(name) {
		case "path":
			path, _ = text(v)
		case "unit":
			unit = v
		case "dp":
			members(v, func(name, v []byte) {
				if string(name) == "value" {
					value = v
				}
			})
		}
	})
	if len(path) == 0 || value == nil {
		it.malformed("data", string(raw), "points of {path, dp: {value, ts}}")
		return
	}
	if i, ok := it.schema.byPath[string(path)]; ok && unit != nil {
		if u, _ := text(unit); string(u) != it.schema.signals[i].Unit {
			it.reject(string(path), string(unit), "unit "+it.schema.signals[i].Unit)
		}
	}
	it.set(path, value)
}

// set puts one value in its place. null means not measured.
func (it *item) set(path, raw []byte) {
	i, known := it.schema.byPath[string(path)]
	if !known {
		it.reject(string(path), string(raw), "a known VSS path")
		return
	}
	if string(raw) == "null" {
		return
	}
	sig := &it.schema.signals[i]
	v, ok := number(raw)
	if !ok || v < sig.Min || v > sig.Max {
		it.reject(sig.Path, string(raw), fmt.Sprintf("%v to %v %s", sig.Min, sig.Max, sig.Unit))
		return
	}
	if !math.IsNaN(it.rec.Values[i]) {
		it.reject(string(path), string(raw), "each signal once")
		return
	}
	it.rec.Values[i], it.any = v, true
}

// number reads a JSON number or, as VISS sends it, a string that holds one. It must be finite.
func number(raw []byte) (float64, bool) {
	if t, ok := text(raw); ok {
		raw = t
	}
	v, err := strconv.ParseFloat(string(raw), 64)
	return v, err == nil && !math.IsInf(v, 0) && !math.IsNaN(v)
}

// text reads a JSON string. Without escapes it is a part of raw, not a copy.
func text(raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return nil, false
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return inner, true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return []byte(s), err == nil
}

// members calls f with each name and value of a JSON object, in their order, and says whether it is one. It copies
// nothing, which makes it four times as fast as a map of raw messages. raw must be valid JSON.
func members(raw []byte, f func(name, value []byte)) bool {
	raw = skipSpace(raw)
	if raw[0] != '{' {
		return false
	}
	for raw = skipSpace(raw[1:]); raw[0] != '}'; {
		n := valueEnd(raw)
		name, _ := text(raw[:n])
		raw = skipSpace(raw[n:])
		raw = skipSpace(raw[1:]) // the colon
		n = valueEnd(raw)
		f(name, raw[:n])
		if raw = skipSpace(raw[n:]); raw[0] == ',' {
			raw = skipSpace(raw[1:])
		}
	}
	return true
}

// elements calls f with each element of a JSON array and says whether it is one. raw must be valid JSON.
func elements(raw []byte, f func(value []byte)) bool {
	raw = skipSpace(raw)
	if raw[0] != '[' {
		return false
	}
	for raw = skipSpace(raw[1:]); raw[0] != ']'; {
		n := valueEnd(raw)
		f(raw[:n])
		if raw = skipSpace(raw[n:]); raw[0] == ',' {
			raw = skipSpace(raw[1:])
		}
	}
	return true
}

func skipSpace(raw []byte) []byte { return bytes.TrimLeft(raw, " \t\r\n") }

// valueEnd is the length of the value that raw, valid JSON, begins with.
func valueEnd(raw []byte) int { //nolint:gocognit // a scanner of one screen reads best in one piece
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // of what the number or word is in
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(raw)
}

// plain says that a name may stand in a key or a label as it is.
func plain(s string) bool {
	for _, c := range []byte(s) {
		alnum := '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		if !alnum && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

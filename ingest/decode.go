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
func (d Decoder) split(body []byte, ndjson bool) ([]json.RawMessage, error) {
	var items []json.RawMessage
	body = bytes.TrimSpace(body)
	switch {
	case ndjson:
		for line := range bytes.Lines(body) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				items = append(items, line)
			}
		}
	case len(body) > 0 && body[0] == '[':
		if err := json.Unmarshal(body, &items); err != nil {
			return nil, malformed("", "", "a JSON array of measurements: "+err.Error())
		}
	case len(body) > 0:
		items = []json.RawMessage{body}
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

// point is one signal of the VISS shape. Unit is ours: a sender that states it is held to it.
type point struct {
	Path string `json:"path"`
	DP   *struct {
		Value json.RawMessage `json:"value"`
		TS    json.RawMessage `json:"ts"`
	} `json:"dp"`
	Unit *string `json:"unit"`
}

func (it *item) reject(field, value, expected string) {
	it.faults = append(it.faults, newFault(field, value, expected))
}

func (it *item) malformed(field, value, expected string) {
	it.reject(field, value, expected)
	it.faults[len(it.faults)-1].malformed = true
}

// read fills the record from one JSON object.
func (it *item) read(raw json.RawMessage, vin string) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		it.malformed("", "", "a JSON object"+reasonText(err))
		return
	}
	for name, value := range fields {
		switch name {
		case "vin":
			if v, ok := text(value); !ok || v != vin {
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
	}
	if !it.any && len(it.faults) == 0 {
		it.reject("data", "", "at least one signal with a value")
	}
	// The map's order is random; answers are not.
	slices.SortFunc(it.faults, func(a, b Fault) int { return bytes.Compare([]byte(a.Field), []byte(b.Field)) })
}

func reasonText(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func (it *item) readSeq(raw json.RawMessage) {
	seq, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil || seq > maxSeq {
		it.malformed("seq", string(raw), "an integer from 0 to 2^53-1")
		return
	}
	it.rec.Seq, it.rec.Sequenced = seq, true
}

func (it *item) readBoot(raw json.RawMessage) {
	boot, ok := text(raw)
	if !ok || len(boot) > maxNameBytes || !plain(boot) {
		it.malformed("boot", string(raw), "a string of at most 64 letters, digits, '.', '_' and '-'")
		return
	}
	it.boot = boot
}

func (it *item) readTime(raw json.RawMessage) {
	s, _ := text(raw)
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		it.reject("ts", string(raw), "a time such as 2026-01-02T15:04:05.678Z")
		return
	}
	it.rec.Time = t.UTC()
}

// readData reads the VISS shape: one point or a list of them.
func (it *item) readData(raw json.RawMessage) {
	points := make([]point, 1)
	into := any(&points[0])
	if raw[0] == '[' {
		into = &points
	}
	if err := json.Unmarshal(raw, into); err != nil {
		it.malformed("data", "", "points of {path, dp: {value, ts}}: "+err.Error())
		return
	}
	for _, p := range points {
		if p.DP == nil || p.DP.Value == nil {
			it.malformed("data", p.Path, "a dp with a value")
			continue
		}
		it.checkUnit(p)
		it.set(p.Path, p.DP.Value)
	}
}

func (it *item) checkUnit(p point) {
	if i, ok := it.schema.byPath[p.Path]; ok && p.Unit != nil && *p.Unit != it.schema.signals[i].Unit {
		it.reject(p.Path, *p.Unit, "unit "+it.schema.signals[i].Unit)
	}
}

// set puts one value in its place. null means not measured.
func (it *item) set(path string, raw json.RawMessage) {
	i, known := it.schema.byPath[path]
	if !known {
		it.reject(path, string(raw), "a known VSS path")
		return
	}
	if string(raw) == "null" {
		return
	}
	sig := &it.schema.signals[i]
	v, ok := number(raw)
	if !ok || v < sig.Min || v > sig.Max {
		it.reject(path, string(raw), fmt.Sprintf("%v to %v %s", sig.Min, sig.Max, sig.Unit))
		return
	}
	if !math.IsNaN(it.rec.Values[i]) {
		it.reject(path, string(raw), "each signal once")
		return
	}
	it.rec.Values[i], it.any = v, true
}

// number reads a JSON number or, as VISS sends it, a string that holds one. It must be finite.
func number(raw json.RawMessage) (float64, bool) {
	s := string(raw)
	if t, ok := text(raw); ok {
		s = t
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil && !math.IsInf(v, 0) && !math.IsNaN(v)
}

// text reads a JSON string.
func text(raw json.RawMessage) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if inner := raw[1 : len(raw)-1]; !bytes.ContainsRune(inner, '\\') {
		return string(inner), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
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

package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func newDecoder(t testing.TB) Decoder {
	t.Helper()
	s, err := OBD()
	if err != nil {
		t.Fatal(err)
	}
	return Decoder{Schema: s, MaxRecords: defaultMaxRecords}
}

func TestDecode(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := newDecoder(t)
	speedAnd := func(speed, load float64) []float64 {
		v := d.Schema.Empty()
		v[2], v[4] = speed, load
		return v
	}
	type want struct {
		boot    string
		records []Record
	}
	tests := map[string]struct {
		reason, body string
		want         want
	}{
		"Flat": {
			"all fields of the flat shape", `{"vin":"` + testVIN + `","seq":9,"boot":"a-1","ts":"2026-01-02T03:04:05.5+01:00","Vehicle.Speed":83.5,"Vehicle.OBD.EngineLoad":null}`,
			want{"a-1", []Record{{9, true, time.Date(2026, 1, 2, 2, 4, 5, 5e8, time.UTC), speedAnd(83.5, math.NaN())}}},
		},
		"VISS": {
			"points, as strings and numbers", `{"seq":0,"data":[{"path":"Vehicle.OBD.Speed","dp":{"value":"1e1","ts":"x"}},{"path":"Vehicle.OBD.EngineLoad","unit":"percent","dp":{"value":50}}]}`,
			want{"", []Record{{0, true, now, speedAnd(10, 50)}}},
		},
		"Mixed": {
			"an item without a number takes no part in the sequence", `[{"seq":1,"Vehicle.Speed":1},{"Vehicle.Speed":"2"}]`,
			want{"", []Record{{1, true, now, speedAnd(1, math.NaN())}, {0, false, now, speedAnd(2, math.NaN())}}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			boot, records, err := d.Decode([]byte(tc.body), false, testVIN, now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want.records, records, cmpopts.EquateNaNs()); diff != "" || boot != tc.want.boot {
				t.Errorf("%s: boot %q, %s", tc.reason, boot, diff)
			}
		})
	}
}

// TestFaultsAreBounded sends more wrong items than anybody wants to read about, and one too many.
func TestFaultsAreBounded(t *testing.T) {
	d := newDecoder(t)
	many := "[" + strings.Repeat(`{"x":1},`, defaultMaxRecords-1) + `{"x":1}]`
	_, _, err := d.Decode([]byte(many), false, testVIN, time.Time{})
	de, ok := errors.AsType[*DecodeError](err)
	if !ok || len(de.Faults) != maxFaults || de.Status() != 422 {
		t.Fatalf("got %v", err)
	}
	if de.Faults[7].Index != 7 {
		t.Errorf("fault 7 names item %d", de.Faults[7].Index)
	}
	_, _, err = d.Decode([]byte(strings.Repeat("{}\n", defaultMaxRecords+1)), true, testVIN, time.Time{})
	if de, ok := errors.AsType[*DecodeError](err); !ok || de.Status() != 400 {
		t.Errorf("got %v, want one that says how many there may be", err)
	}
	long := `{"` + strings.Repeat("p", 10_000) + `":"` + strings.Repeat("v", 10_000) + `"}`
	_, _, err = d.Decode([]byte(long), false, testVIN, time.Time{})
	if de, ok := errors.AsType[*DecodeError](err); !ok || len(de.Error()) > 400 {
		t.Errorf("an error of %d bytes repeats what was sent", len(err.Error()))
	}
}

// FuzzDecode never panics, and what it takes is finite, in range, in bounds and survives being written and read again.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"seq":1,"Vehicle.OBD.Speed":83.5}`, `[{"data":[{"path":"Vehicle.Speed","dp":{"value":"1"}}]}]`, `{"data":{}}`,
		`{"boot":"\u0041","ts":"2026-01-02T03:04:05Z","Vehicle.Speed":1}`, "{}\n{}", `[[]]`, `null`, `{"data":[null]}`, `{"seq":-0}`, `"`, "{\"seq\": 1}",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	d := newDecoder(f)
	f.Fuzz(func(t *testing.T, body []byte, ndjson bool) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		boot, records, err := d.Decode(body, ndjson, testVIN, now)
		if err != nil {
			de, ok := errors.AsType[*DecodeError](err)
			if !ok || len(de.Faults) == 0 || len(de.Faults) > maxFaults {
				t.Fatalf("got %#v", err)
			}
			if _, err := json.Marshal(de.Faults); err != nil {
				t.Fatal(err)
			}
			return
		}
		if len(records) == 0 || len(records) > d.MaxRecords || len(boot) > maxNameBytes {
			t.Fatalf("%d records of boot %q", len(records), boot)
		}
		for _, rec := range records {
			for i, v := range rec.Values {
				if sig := d.Schema.Signal(i); v < sig.Min || v > sig.Max || math.IsInf(v, 0) {
					t.Fatalf("took %v for %s", v, sig.Path)
				}
			}
			_, again, err := d.Decode(d.Schema.AppendJSON(nil, rec.Values), false, testVIN, now)
			if err != nil || !cmp.Equal(again[0].Values, rec.Values, cmpopts.EquateNaNs()) {
				t.Fatalf("wrote %v, read %v, %v", rec.Values, again, err)
			}
		}
	})
}

// TestSchema holds the schema to itself.
func TestSchema(t *testing.T) {
	s := newDecoder(t).Schema
	if s.Len() != 27 {
		t.Errorf("%d signals, want the 27 of the trips", s.Len())
	}
	for i := range s.Len() {
		for _, name := range append([]string{s.Signal(i).Path, s.Signal(i).Column}, s.Signal(i).Aliases...) {
			if at, ok := s.Lookup(name); !ok || at != i {
				t.Errorf("looking up %q: got %d, %v, want %d", name, at, ok, i)
			}
		}
	}
	bad := map[string][]Signal{
		"NoPath": {{Min: 0, Max: 1}},
		"Empty":  {{Path: "a", Min: 1, Max: 1}},
		"Path":   {{Path: "a", Max: 1, Column: "x"}, {Path: "b", Aliases: []string{"a"}, Max: 1, Column: "y"}},
		"Column": {{Path: "a", Max: 1, Column: "x"}, {Path: "b", Max: 1, Column: "x"}},
	}
	for name, signals := range bad {
		if _, err := NewSchema(signals); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestPseudonyms(t *testing.T) {
	if _, err := NewPseudonymiser([]byte("short")); err == nil {
		t.Error("a key that can be guessed was taken")
	}
	a, err := NewPseudonymiser([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewPseudonymiser([]byte("0123456789abcdeg"))
	if err != nil {
		t.Fatal(err)
	}
	// printf %s SSKNFLEET00000007 | openssl dgst -sha256 -hmac 0123456789abcdef | cut -c1-32
	if got, want := a.Pseudonym(testVIN), "d9c36b6dae47c15fe4c15af06eefbb12"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if a.Pseudonym(testVIN) == b.Pseudonym(testVIN) {
		t.Error("the key does not matter")
	}
}

// obdRecord is a full measurement of 27 signals, flat.
func obdRecord(t testing.TB) []byte {
	t.Helper()
	s := newDecoder(t).Schema
	v := s.Empty()
	for i := range v {
		v[i] = math.Round((s.Signal(i).Min+s.Signal(i).Max)/2*1e4) / 1e4
	}
	head := []byte(`{"boot":"b-1","seq":12345,"ts":"2026-01-02T03:04:05.678Z",`)
	return append(head, s.AppendJSON(nil, v)[1:]...)
}

func BenchmarkDecode(b *testing.B) {
	d := newDecoder(b)
	flat := obdRecord(b)
	var viss bytes.Buffer
	viss.WriteString(`{"seq":12345,"ts":"2026-01-02T03:04:05.678Z","data":[`)
	for i := range d.Schema.Len() {
		if i > 0 {
			viss.WriteByte(',')
		}
		viss.WriteString(`{"path":"` + d.Schema.Signal(i).Path + `","dp":{"value":"1","ts":"2026-01-02T03:04:05.678Z"}}`)
	}
	viss.WriteString(`]}`)
	for name, body := range map[string][]byte{"Flat": flat, "VISS": viss.Bytes()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, _, err := d.Decode(body, false, testVIN, time.Time{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

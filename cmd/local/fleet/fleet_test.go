package fleet

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/ingest"
)

func schema(t testing.TB) *ingest.Schema {
	t.Helper()
	s, err := ingest.OBD()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tripsDir is where the trips are: SISKIN_TRIPS, beside the repository, or the repository's own.
func tripsDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("SISKIN_TRIPS"); dir != "" {
		return dir
	}
	if dir := filepath.Join("..", "..", "..", "..", "shared", "data", "trips"); isDir(dir) {
		return dir
	}
	return filepath.Join("..", "data", "trips")
}

func isDir(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// TestLoadTrips reads every trip there is, and the repository's own.
func TestLoadTrips(t *testing.T) {
	for _, dir := range []string{tripsDir(t), filepath.Join("..", "data", "trips")} {
		trips, err := LoadTrips(os.DirFS(dir), schema(t))
		if err != nil {
			t.Fatalf("reading %q: %v", dir, err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.csv.gz"))
		if err != nil || len(files) != len(trips) {
			t.Errorf("%q: %d trips of %d files, %v", dir, len(trips), len(files), err)
		}
		for _, trip := range trips {
			if len(trip.Rows) < 100 {
				t.Errorf("trip %q has %d rows", trip.Name, len(trip.Rows))
			}
		}
	}
}

// csvTrip packs a trip of the schema's columns; change may replace lines.
func csvTrip(t testing.TB, lines ...string) *fstest.MapFile {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.WriteString(z, strings.Join(lines, "\n")+"\n")
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: b.Bytes()}
}

// line is a row with every cell 1, but the given ones.
func line(s *ingest.Schema, cells map[string]string) (header, row string) {
	var names, values []string
	for i := range s.Len() {
		name := s.Signal(i).Column
		value, ok := cells[name]
		if !ok {
			value = "1"
		}
		names, values = append(names, name), append(values, value)
	}
	return strings.Join(names, ","), strings.Join(values, ",")
}

func TestReadTrip(t *testing.T) {
	s := schema(t)
	header, good := line(s, map[string]string{"ENGINE_RPM": "900", "ENGINE_RUN_TIME": "3"})
	_, off := line(s, map[string]string{"ENGINE_RPM": "0", "ENGINE_RUN_TIME": "3"})
	_, early := line(s, map[string]string{"ENGINE_RPM": "900", "ENGINE_RUN_TIME": "2"})
	_, empty := line(s, map[string]string{"ENGINE_RPM": "900", "ENGINE_RUN_TIME": "4", "VEHICLE_SPEED": ""})
	_, unlogged := line(s, map[string]string{"ENGINE_RPM": "", "ENGINE_RUN_TIME": "4"})
	_, bad := line(s, map[string]string{"VEHICLE_SPEED": "fast"})
	_, high := line(s, map[string]string{"VEHICLE_SPEED": "256"})
	tests := map[string]struct {
		reason string
		lines  []string
		rows   int
		err    string
	}{
		"Good":          {"a running engine", []string{header, good}, 1, ""},
		"Skipped":       {"engine off, just started or unknown are left out", []string{header, off, early, unlogged, good}, 1, ""},
		"Empty":         {"an empty cell was not logged", []string{header, empty}, 1, ""},
		"NothingLeft":   {"a trip without a row to replay is a mistake", []string{header, off}, 0, "engine running"},
		"UnknownColumn": {"a column that nobody knows is an error", []string{header + ",OIL", good + ",1"}, 0, `"OIL"`},
		"MissingColumn": {"as is one that is not there", []string{strings.TrimPrefix(header, "ENGINE_RUN_TIME,"), good}, 0, `"ENGINE_RUN_TIME"`},
		"Twice":         {"or there twice", []string{header + ",ENGINE_RPM", good + ",1"}, 0, `"ENGINE_RPM"`},
		"NoNumber":      {"a bad cell is named with its line", []string{header, good, bad}, 0, `line 3: column "VEHICLE_SPEED": got "fast", expected 0 to 255 km/h`},
		"Range":         {"as is one out of range", []string{header, high}, 0, `got "256"`},
		"Short":         {"a cut-off line is an error", []string{header, "1,2"}, 0, "wrong number of fields"},
		"Nothing":       {"an empty file", nil, 0, "header"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir := fstest.MapFS{"t.csv.gz": csvTrip(t, tc.lines...)}
			trips, err := LoadTrips(dir, s)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("%s: got %v, want an error with %s", tc.reason, err, tc.err)
				}
				return
			}
			if err != nil || len(trips) != 1 || len(trips[0].Rows) != tc.rows || trips[0].Name != "t" {
				t.Errorf("%s: got %v, %v, want one trip of %d rows", tc.reason, trips, err, tc.rows)
			}
		})
	}
	if _, err := LoadTrips(fstest.MapFS{}, s); err == nil {
		t.Error("a folder without trips was taken")
	}
}

// roundTrip answers requests without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int) *http.Response {
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("{}"))}
}

// sent is what a request said.
type sent struct {
	vin, boot string
	seq       uint64
	speed     float64
	at        time.Duration
}

// capture records what is sent and answers with the status that reply gives.
func capture(t *testing.T, reply func(n int) int) (roundTrip, func() []sent) {
	t.Helper()
	var mu sync.Mutex
	var all []sent
	start := time.Now()
	rt := func(r *http.Request) (*http.Response, error) {
		var body struct {
			Boot  string  `json:"boot"`
			Seq   uint64  `json:"seq"`
			Speed float64 `json:"Vehicle.OBD.Speed"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Errorf("reading a body: %v", err)
		}
		vin := strings.Split(r.URL.Path, "/")[3]
		mu.Lock()
		defer mu.Unlock()
		all = append(all, sent{vin, body.Boot, body.Seq, body.Speed, time.Since(start)})
		return answer(reply(len(all) - 1)), nil
	}
	return rt, func() []sent { mu.Lock(); defer mu.Unlock(); return all }
}

// shortTrips have rows whose speed tells trip and row: 10*trip+row.
func shortTrips(s *ingest.Schema, trips, rows int) []Trip {
	speed, _ := s.Lookup("VEHICLE_SPEED")
	out := make([]Trip, trips)
	for i := range out {
		out[i].Name = fmt.Sprint(i)
		for r := range rows {
			row := s.Empty()
			row[speed] = float64(10*i + r)
			out[i].Rows = append(out[i].Rows, row)
		}
	}
	return out
}

// replay runs a fleet for d of fake time.
func replay(t *testing.T, d time.Duration, o Options) Stats {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := f.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return f.Stats()
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, all := capture(t, func(int) int { return 202 })
		s := schema(t)
		st := replay(t, 10*time.Second+time.Millisecond, Options{URL: "http://x", Trips: shortTrips(s, 3, 9), Schema: s, Vehicles: 10, Rate: 2, Transport: rt})
		if want := (Stats{Sent: 201, Accepted: 201}); st != want {
			t.Fatalf("got %+v, want %+v", st, want)
		}
		perVehicle := map[string]int{}
		for i, m := range all() {
			if want := time.Duration(i) * 50 * time.Millisecond; m.at != want {
				t.Fatalf("measurement %d was sent at %v, want %v", i, m.at, want)
			}
			perVehicle[m.vin]++
			if err := ingest.CheckVIN(m.vin); err != nil {
				t.Fatalf("%q: %v", m.vin, err)
			}
		}
		if len(perVehicle) != 10 || perVehicle[VIN(3)] != 20 {
			t.Errorf("got %v, want 20 measurements of each of 10 vehicles", perVehicle)
		}
	})
}

// TestReplayIsDeterministic also follows one vehicle over the ends of its trips.
func TestReplayIsDeterministic(t *testing.T) {
	s := schema(t)
	run := func(seed uint64) (out []sent) {
		synctest.Test(t, func(t *testing.T) {
			rt, all := capture(t, func(int) int { return 202 })
			replay(t, 20*time.Second-time.Millisecond, Options{URL: "http://x", Trips: shortTrips(s, 3, 9), Schema: s, Vehicles: 4, Rate: 2, Seed: seed, Run: "r", Transport: rt})
			out = all()
		})
		return out
	}
	first := run(1)
	if diff := cmp.Diff(first, run(1), cmp.AllowUnexported(sent{})); diff != "" {
		t.Errorf("the same seed, another replay: %s", diff)
	}
	if cmp.Equal(first, run(2), cmp.AllowUnexported(sent{})) {
		t.Error("another seed, the same replay")
	}
	var last *sent
	for i, m := range first {
		if m.vin != VIN(0) {
			continue
		}
		switch {
		case last == nil:
		case m.boot == last.boot && (m.seq != last.seq+1 || m.speed != last.speed+1):
			t.Errorf("row %+v follows %+v", m, *last)
		case m.boot != last.boot && (m.seq != 0 || int(m.speed)%10 != 0 || int(last.speed)%10 != 8 || int(m.speed)/10 == int(last.speed)/10):
			t.Errorf("drive %+v follows %+v", m, *last)
		}
		last = &first[i]
	}
}

// TestRefusedIsSentAgain has every answer a vehicle can meet.
func TestRefusedIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schema(t)
		replies := []int{202, 503, 429, 200, 422, 202}
		rt, all := capture(t, func(n int) int { return replies[min(n, len(replies)-1)] })
		st := replay(t, 5500*time.Millisecond, Options{URL: "http://x", Trips: shortTrips(s, 1, 250), Schema: s, Vehicles: 1, Rate: 1, Transport: rt})
		if want := (Stats{Sent: 6, Accepted: 2, Duplicate: 1, Rejected: 1, Refused: 2}); st != want {
			t.Errorf("got %+v, want %+v", st, want)
		}
		var seqs []uint64
		for _, m := range all() {
			seqs = append(seqs, m.seq)
		}
		if diff := cmp.Diff([]uint64{0, 1, 1, 1, 2, 3}, seqs); diff != "" {
			t.Error(diff)
		}
	})
}

// TestSlowAnswers finds that a vehicle waits for its answer, the others do not, and missed turns are counted.
func TestSlowAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schema(t)
		rt := roundTrip(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, VIN(0)) {
				time.Sleep(2500 * time.Millisecond) // fake time
			}
			return answer(202), nil
		})
		st := replay(t, 10*time.Second-time.Millisecond, Options{URL: "http://x", Trips: shortTrips(s, 1, 250), Schema: s, Vehicles: 2, Rate: 1, Transport: rt})
		if want := (Stats{Sent: 10 + 4, Accepted: 14, Overrun: 6}); st != want {
			t.Errorf("got %+v, want %+v", st, want)
		}
	})
}

func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schema(t)
		rt := roundTrip(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })
		st := replay(t, 2500*time.Millisecond, Options{URL: "http://x", Trips: shortTrips(s, 1, 9), Schema: s, Vehicles: 1, Rate: 1, Transport: rt})
		if want := (Stats{Sent: 3, Failed: 3}); st != want {
			t.Errorf("got %+v, want %+v", st, want)
		}
	})
}

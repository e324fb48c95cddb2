package fleet

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/siskin-dev/siskin/ingest"
)

// suffix of a trip's file.
const suffix = ".csv.gz"

// maxTripBytes bounds one unpacked trip: the longest known has 0.6 MB.
const maxTripBytes = 64 << 20

// minRunTime, in seconds since engine start: rows before it hold values of the drive before.
const minRunTime = 3

// Trip is one recorded drive: rows of values in the schema's order, NaN where nothing was logged. Rows that no model is
// to be held to (engine off or just started) are left out.
type Trip struct {
	Name string
	Rows [][]float64
}

// LoadTrips reads every trip of a folder, in the order of their names.
func LoadTrips(dir fs.FS, schema *ingest.Schema) ([]Trip, error) {
	names, err := fs.Glob(dir, "*"+suffix)
	if err != nil {
		return nil, fmt.Errorf("listing trips: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("listing trips: expected at least one *" + suffix)
	}
	trips := make([]Trip, 0, len(names))
	for _, name := range names {
		t, err := loadTrip(dir, name, schema)
		if err != nil {
			return nil, fmt.Errorf("reading trip %q: %w", name, err)
		}
		trips = append(trips, t)
	}
	return trips, nil
}

func loadTrip(dir fs.FS, name string, schema *ingest.Schema) (Trip, error) {
	f, err := dir.Open(name)
	if err != nil {
		return Trip{}, err
	}
	defer f.Close()
	unzip, err := gzip.NewReader(f)
	if err != nil {
		return Trip{}, err
	}
	rows, err := readRows(io.LimitReader(unzip, maxTripBytes), schema)
	if err != nil {
		return Trip{}, err
	}
	return Trip{Name: strings.TrimSuffix(path.Base(name), suffix), Rows: rows}, nil
}

// readRows reads CSV with a header line.
func readRows(in io.Reader, schema *ingest.Schema) ([][]float64, error) {
	lines := csv.NewReader(in)
	lines.ReuseRecord = true
	header, err := lines.Read()
	if err != nil {
		return nil, fmt.Errorf("reading the header: %w", err)
	}
	columns, err := readHeader(header, schema)
	if err != nil {
		return nil, err
	}
	engine, _ := schema.Lookup("ENGINE_RPM")
	runTime, _ := schema.Lookup("ENGINE_RUN_TIME")
	var rows [][]float64
	for {
		cells, err := lines.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		row := schema.Empty()
		for i, cell := range cells {
			if err := readCell(row, columns[i], cell, schema); err != nil {
				line, _ := lines.FieldPos(i)
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
		}
		if row[engine] > 0 && row[runTime] >= minRunTime {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return nil, errors.New("expected rows with the engine running")
	}
	return rows, nil
}

// readHeader maps columns to signals. A trip has all of the schema's columns, once, and no other.
func readHeader(header []string, schema *ingest.Schema) ([]int, error) {
	columns := make([]int, len(header))
	seen := make([]bool, schema.Len())
	for i, name := range header {
		at, ok := schema.Lookup(name)
		if !ok || seen[at] {
			return nil, fmt.Errorf("reading the header: column %q is unknown or there twice", name)
		}
		columns[i], seen[at] = at, true
	}
	for i, ok := range seen {
		if !ok {
			return nil, fmt.Errorf("reading the header: expected column %q", schema.Signal(i).Column)
		}
	}
	return columns, nil
}

// readCell puts one value in its place. An empty cell was not logged.
func readCell(row []float64, column int, cell string, schema *ingest.Schema) error {
	if cell == "" {
		return nil
	}
	sig := schema.Signal(column)
	v, err := strconv.ParseFloat(cell, 64)
	if err != nil || math.IsNaN(v) || v < sig.Min || v > sig.Max {
		return fmt.Errorf("column %q: got %q, expected %v to %v %s", sig.Column, cell, sig.Min, sig.Max, sig.Unit)
	}
	row[column] = v
	return nil
}

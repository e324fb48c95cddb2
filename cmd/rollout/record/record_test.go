package record

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is an instant in milliseconds, seconds after t0.
func at(seconds int) int64 { return t0.Add(time.Duration(seconds) * time.Second).UnixMilli() }

func series(name, version string) labels.Labels {
	return labels.FromStrings("__name__", name, "version", version, "job", "x")
}

// openMetrics has two counters with a sample every 15 s for five minutes.
func openMetrics() string {
	var b strings.Builder
	b.WriteString("# TYPE requests counter\n# HELP requests Requests by version.\n")
	for _, version := range []string{"v1", "v2"} {
		for i := 0; i <= 300; i += 15 {
			fmt.Fprintf(&b, "requests_total{version=%q,job=\"x\"} %d %d\n", version, i*len(version), at(i)/1000)
		}
	}
	b.WriteString("# EOF\n")
	return b.String()
}

// directory is a data directory with the same samples: the first half in a block, the rest in the write-ahead log.
func directory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	o := tsdb.DefaultOptions()
	db, err := tsdb.Open(dir, nil, nil, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	write := func(from, to int) {
		app := db.Appender(t.Context())
		for _, version := range []string{"v1", "v2"} {
			for i := from; i <= to; i += 15 {
				if _, err := app.Append(0, series("requests_total", version), at(i), float64(i*len(version))); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 150)
	if err := db.CompactHead(tsdb.NewRangeHead(db.Head(), at(0), at(150))); err != nil {
		t.Fatal(err)
	}
	write(165, 300)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// stream is what a query of (0 s, 45 s] of version v2 must give.
func stream() model.Matrix {
	s := &model.SampleStream{Metric: model.Metric{"__name__": "requests_total", "version": "v2", "job": "x"}}
	for _, i := range []int{15, 30, 45} {
		s.Values = append(s.Values, model.SamplePair{Timestamp: model.Time(at(i)), Value: model.SampleValue(2 * i)})
	}
	return model.Matrix{s}
}

// TestSameAnswer: a data directory, its block, and a file of the same samples answer alike, and know what time they cover.
func TestSameAnswer(t *testing.T) {
	dir := directory(t)
	blocks, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("the directory has blocks %q (%v), want one", blocks, err)
	}
	for name, c := range map[string]struct {
		open func() (*Reader, error)
		last int
	}{
		"directory": {func() (*Reader, error) { return OpenTSDB(dir) }, 300},
		// The end of a block is the first instant after it.
		"block": {func() (*Reader, error) { return OpenTSDB(filepath.Dir(blocks[0])) }, 150},
		"file":  {func() (*Reader, error) { return ReadOpenMetrics(strings.NewReader(openMetrics())) }, 300},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := c.open()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if last := r.To.Truncate(time.Second); !r.From.Equal(t0) || !last.Equal(t0.Add(time.Duration(c.last)*time.Second)) {
				t.Errorf("covers %s to %s, want %s and %d s", r.From, r.To, t0, c.last)
			}
			got, _, _, err := r.Query(t.Context(), `requests_total{version=~"v2|v3"}[45s]`, t0.Add(45*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(model.Value(stream()), got); diff != "" {
				t.Errorf("samples (-want +got):\n%s", diff)
			}
			none, _, _, err := r.Query(t.Context(), `requests_total{version="v3"}[45s]`, t0.Add(45*time.Second))
			if err != nil || len(none.(model.Matrix)) != 0 {
				t.Errorf("an unknown version has %v (%v), want nothing", none, err)
			}
		})
	}
}

// TestDirectoryIsUnchanged: reading leaves nothing behind.
func TestDirectoryIsUnchanged(t *testing.T) {
	dir := directory(t)
	before := files(t, dir)
	r, err := OpenTSDB(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Errorf("files before (-) and after (+):\n%s", diff)
	}
}

// files lists a directory's files with their sizes.
func files(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			out[path] = info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBadRecords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	om := func(text string) func() (*Reader, error) {
		return func() (*Reader, error) { return ReadOpenMetrics(strings.NewReader(text)) }
	}
	for name, c := range map[string]struct {
		open func() (*Reader, error)
		want string
	}{
		"no directory":    {func() (*Reader, error) { return OpenTSDB(filepath.Join(t.TempDir(), "none")) }, "must be a directory"},
		"a file":          {func() (*Reader, error) { return OpenTSDB(file) }, "must be a directory"},
		"empty directory": {func() (*Reader, error) { return OpenTSDB(t.TempDir()) }, "neither blocks nor a write-ahead log"},
		"no timestamp":    {om("# TYPE a counter\na_total{b=\"c\"} 1\n# EOF\n"), `sample of a_total{b="c"} has no timestamp`},
		"no end":          {om("# TYPE a counter\na_total 1 2\n"), "after line 2"},
		"no samples":      {om("# EOF\n"), "no samples"},
		"not the format":  {om("<html>\n"), "after line 1"},
	} {
		if _, err := c.open(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want it to say %q", name, err, c.want)
		}
	}
}

func TestBadQueries(t *testing.T) {
	r, err := ReadOpenMetrics(strings.NewReader(openMetrics()))
	if err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"requests_total":                "with a range",
		"rate(requests_total[1m])":      "with a range",
		"requests_total[1m] offset 1m":  "without offset",
		"requests_total[1m] @ 12":       "without offset",
		"requests_total{version=[1m]":   "reading query",
		"sum(requests_total)[5m:1m]":    "with a range",
		`{version="v1"}[1m] and up[1m]`: "reading query",
	} {
		if _, _, _, err := r.Query(t.Context(), query, t0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %q", query, err, want)
		}
	}
}

// TestNativeHistogram: a native histogram reads as Prometheus' HTTP API shows it: buckets with a count only, the zero bucket
// closed, positive ones open below, negative ones open above.
func TestNativeHistogram(t *testing.T) {
	h := &histogram.FloatHistogram{
		Schema: 0, Count: 10, Sum: 7, ZeroThreshold: 0.5, ZeroCount: 1,
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []float64{3, 0, 4},
		NegativeSpans: []histogram.Span{{Offset: 1, Length: 1}}, NegativeBuckets: []float64{2},
	}
	bucket := func(boundaries int32, lower, upper, count float64) *model.HistogramBucket {
		return &model.HistogramBucket{Boundaries: boundaries, Lower: model.FloatString(lower), Upper: model.FloatString(upper), Count: model.FloatString(count)}
	}
	want := &model.SampleHistogram{Count: 10, Sum: 7, Buckets: model.HistogramBuckets{
		bucket(1, -2, -1, 2), bucket(3, -0.5, 0.5, 1), bucket(0, 0.5, 1, 3), bucket(0, 2, 4, 4),
	}}
	if diff := cmp.Diff(want, sampleHistogram(h)); diff != "" {
		t.Errorf("histogram (-want +got):\n%s", diff)
	}
}

func FuzzReadOpenMetrics(f *testing.F) {
	f.Add(openMetrics())
	f.Add("# TYPE a histogram\na_bucket{le=\"+Inf\"} 1 2 # {x=\"y\"} 1\n# EOF\n")
	f.Add("a 1\n# EOF")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ReadOpenMetrics(strings.NewReader(text))
		if err == nil && r.To.Before(r.From) {
			t.Errorf("covers %s to %s", r.From, r.To)
		}
	})
}

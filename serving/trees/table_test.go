package trees

import (
	goflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var benchTable = goflag.Bool("bench-table", false, "print the table of make bench")

// native is what XGBoost 1.7.4 itself takes per row, in ns: its C API's PredictFromDense on one thread of a two-core
// machine, median of six quiet runs, the same models on rows of the held-out trips.
var native = []struct {
	model string
	rows  int
	ns    float64
}{
	{"v1", 1, 21_422},
	{"v1", 64, 1_204},
	{"v1", 1024, 863},
	{"v2", 1, 28_477},
	{"v2", 64, 4_786},
	{"v2", 1024, 4_320},
	{"v4-slow", 1, 151_112},
	{"v4-slow", 64, 37_773},
	{"v4-slow", 1024, 36_904},
}

// TestBenchTable prints ns per row beside the recorded figures of XGBoost's own C library. It asserts no times.
func TestBenchTable(t *testing.T) {
	if !*benchTable {
		t.Skip("prints a table for make bench; run with -args -bench-table")
	}
	fmt.Printf("%-10s %5s %14s %18s %8s\n", "model", "rows", "Siskin ns/row", "XGBoost C ns/row", "ratio")
	for _, n := range native {
		if _, err := os.Stat(filepath.Join(modelsDir(t), n.model)); err != nil {
			fmt.Printf("%-10s %5d %14s %18.0f %8s  (model not in %s)\n", n.model, n.rows, "-", n.ns, "-", filepath.Base(modelsDir(t)))
			continue
		}
		booster := loadModel(t, n.model)
		rows := readGolden(t, filepath.Join(modelsDir(t), n.model, "golden.csv")).rows
		r := testing.Benchmark(func(b *testing.B) { benchPredict(b, booster, rows, n.rows) })
		got := r.Extra["ns/row"]
		fmt.Printf("%-10s %5d %14.0f %18.0f %7.2fx\n", n.model, n.rows, got, n.ns, n.ns/got)
	}
	fmt.Println("XGBoost's figures were recorded on another machine; the ratio is how many times faster Siskin is here.")
}

package trees

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkPredict measures a row at a time and batches. The rows are the golden file's, so that paths differ from row
// to row; ns/row is the figure to compare.
func BenchmarkPredict(b *testing.B) {
	dir := modelsDir(b)
	for _, name := range []string{"v1", "v2", "v4-slow"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			b.Logf("%s is not in %s", name, dir)
			continue
		}
		booster := loadModel(b, name)
		rows := readGolden(b, filepath.Join(dir, name, "golden.csv")).rows
		for _, size := range []int{1, 64, 1024} {
			b.Run(fmt.Sprintf("%s/rows=%d", name, size), func(b *testing.B) { benchPredict(b, booster, rows, size) })
		}
	}
}

func benchPredict(b *testing.B, booster *Booster, source []float32, size int) {
	n := booster.Features()
	all := make([]float32, 0, 4096*n)
	for len(all) < (1024+size)*n {
		all = append(all, source...)
	}
	out := make([]float32, size)
	span := len(all)/n - size
	b.ReportAllocs()
	at := 0
	for b.Loop() {
		if err := booster.Predict(all[at*n:(at+size)*n], out); err != nil {
			b.Fatal(err)
		}
		at = (at + size) % span
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/row")
}

// BenchmarkParse measures reading a model from memory.
func BenchmarkParse(b *testing.B) {
	dir := modelsDir(b)
	for file, data := range readModelFiles(b, filepath.Join(dir, "v2")) {
		b.Run(file, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := Parse(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

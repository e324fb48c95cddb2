package trees

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"
)

// modelsDir is where the models with golden files are: SISKIN_MODELS, the folder shared by the developers, or the
// repository's own copy.
func modelsDir(tb testing.TB) string {
	tb.Helper()
	if dir := os.Getenv("SISKIN_MODELS"); dir != "" {
		return dir
	}
	root := filepath.Join("..", "..")
	for _, dir := range []string{
		filepath.Join(root, "..", "shared", "data", "models", "xgboost"),
		filepath.Join(root, "cmd", "local", "data", "models"),
	} {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	tb.Fatal("finding models: set SISKIN_MODELS")
	return ""
}

// modelNames lists the folders of dir; a folder is a model, and what a test cannot read fails it.
func modelNames(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		tb.Fatalf("finding models: none in %q", dir)
	}
	return names
}

// readModelFiles returns the model's files by name, gzip removed.
func readModelFiles(tb testing.TB, dir string) map[string][]byte {
	tb.Helper()
	files := map[string][]byte{}
	for _, name := range []string{"model.json", "model.json.gz", "model.ubj"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			tb.Fatal(err)
		}
		if filepath.Ext(name) == ".gz" {
			data = gunzipTest(tb, data)
		}
		files[name] = data
	}
	if len(files) == 0 {
		tb.Fatalf("reading %q: no model file that this test knows", dir)
	}
	return files
}

func gunzipTest(tb testing.TB, data []byte) []byte {
	tb.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		tb.Fatal(err)
	}
	out, err := io.ReadAll(zr)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

type golden struct {
	names         []string
	rows          []float32
	margins, pred []float32
	cases         []string
}

// readGolden reads golden.csv: the features in the model's order, then margin, pred and case, and nothing else.
func readGolden(tb testing.TB, path string) golden {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		tb.Fatal(err)
	}
	head := records[0]
	n := len(head) - 3
	if n < 1 || !reflect.DeepEqual(head[n:], []string{"margin", "pred", "case"}) {
		tb.Fatalf("reading %q: columns %v, want features, margin, pred, case", path, head)
	}
	g := golden{names: head[:n]}
	for _, rec := range records[1:] {
		for _, cell := range rec[:n] {
			g.rows = append(g.rows, parse32(tb, cell))
		}
		g.margins = append(g.margins, parse32(tb, rec[n]))
		g.pred = append(g.pred, parse32(tb, rec[n+1]))
		g.cases = append(g.cases, rec[n+2])
	}
	return g
}

func parse32(tb testing.TB, s string) float32 {
	tb.Helper()
	v, err := strconv.ParseFloat(s, 32)
	if err != nil {
		tb.Fatal(err)
	}
	return float32(v)
}

// ulps counts the float32 values between a and b.
func ulps(a, b float32) int64 {
	order := func(f float32) int64 {
		bits := int64(math.Float32bits(f))
		if bits>>31 != 0 {
			return -(bits & math.MaxInt32)
		}
		return bits
	}
	d := order(a) - order(b)
	return max(d, -d)
}

// TestGolden holds every model file to what the library answered: margins bit for bit, predictions within two last
// places, because exp differs between C libraries.
func TestGolden(t *testing.T) {
	dir := modelsDir(t)
	for _, name := range modelNames(t, dir) {
		want := readGolden(t, filepath.Join(dir, name, "golden.csv"))
		for file, data := range readModelFiles(t, filepath.Join(dir, name)) {
			t.Run(name+"/"+file, func(t *testing.T) { checkGolden(t, data, want) })
		}
	}
}

func checkGolden(t *testing.T, data []byte, want golden) {
	t.Helper()
	b, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(b.FeatureNames(), want.names) {
		t.Fatalf("FeatureNames() = %v, want %v", b.FeatureNames(), want.names)
	}
	got := make([]float32, len(want.margins))
	if err := b.Margin(want.rows, got); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want.margins[i]) {
			t.Errorf("row %d (%s): margin %v, want %v", i, want.cases[i], got[i], want.margins[i])
		}
	}
	if err := b.Predict(want.rows, got); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if d := ulps(got[i], want.pred[i]); d > 2 {
			t.Errorf("row %d (%s): pred %v, want %v: %d ulp", i, want.cases[i], got[i], want.pred[i], d)
		}
	}
	checkShapes(t, b, want, got)
}

// checkShapes holds one row at a time and float64 input to the answers of the whole batch.
func checkShapes(t *testing.T, b *Booster, want golden, batch []float32) {
	t.Helper()
	n := b.Features()
	rows := make([]float64, len(want.rows))
	for i, v := range want.rows {
		rows[i] = float64(v)
	}
	wide := make([]float64, len(batch))
	if err := b.Predict64(rows, wide); err != nil {
		t.Fatal(err)
	}
	for i := range batch {
		one := make([]float32, 1)
		if err := b.Predict(want.rows[i*n:(i+1)*n], one); err != nil {
			t.Fatal(err)
		}
		if one[0] != batch[i] || wide[i] != float64(batch[i]) {
			t.Errorf("row %d: alone %v, float64 %v, in the batch %v", i, one[0], wide[i], batch[i])
		}
	}
}

// TestFormatsAgree holds the JSON and the UBJSON of one model to identical bits.
func TestFormatsAgree(t *testing.T) {
	dir := modelsDir(t)
	pairs := 0
	for _, name := range modelNames(t, dir) {
		var first *Booster
		for file, data := range readModelFiles(t, filepath.Join(dir, name)) {
			b, err := Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = b
				continue
			}
			pairs++
			if !sameBits(first, b) {
				t.Errorf("%s: %s differs from the model's other file", name, file)
			}
		}
	}
	if pairs == 0 {
		t.Skip("no model here has both formats; TestFormatsAgreeOnRandomModels covers the rest")
	}
}

// sameBits compares all that a prediction depends on. No NaN is left in a Booster, so equality is equality of bits but
// for the sign of zero.
func sameBits(a, b *Booster) bool {
	return a.objective.name == b.objective.name && a.features == b.features && a.trees == b.trees &&
		math.Float32bits(a.baseMargin) == math.Float32bits(b.baseMargin) &&
		slices.Equal(a.nodes, b.nodes) && slices.Equal(a.leaves, b.leaves) &&
		slices.Equal(a.groups, b.groups) && slices.Equal(a.featureNames, b.featureNames)
}

func TestPredictAllocatesNothing(t *testing.T) {
	dir := modelsDir(t)
	for _, name := range modelNames(t, dir) {
		b := loadModel(t, name)
		rows, out := make([]float32, 100*b.Features()), make([]float32, 100)
		if n := testing.AllocsPerRun(100, func() { _ = b.Predict(rows, out) }); n != 0 && !raceEnabled {
			t.Errorf("%s: Predict allocates %v times", name, n)
		}
	}
}

func TestPredictRefusesWrongCount(t *testing.T) {
	b := loadModel(t, "v1")
	for reason, rows := range map[string]int{"one short": 2*b.Features() - 1, "one long": 2*b.Features() + 1, "none": 0} {
		if err := b.Predict(make([]float32, rows), make([]float32, 2)); err == nil {
			t.Errorf("%s: no error for %d values in 2 rows", reason, rows)
		}
	}
	if err := b.Predict(nil, nil); err != nil {
		t.Errorf("no rows: %v", err)
	}
}

func loadModel(tb testing.TB, name string) *Booster {
	tb.Helper()
	for _, data := range readModelFiles(tb, filepath.Join(modelsDir(tb), name)) {
		b, err := Parse(data)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	return nil
}

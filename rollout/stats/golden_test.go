package stats

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// goldenFile holds published and derived values; SISKIN_GOLDEN_STATS names another copy.
type goldenFile struct {
	Methods map[string]json.RawMessage `json:"methods"`
	Cases   []goldenCase               `json:"cases"`
}

type goldenCase struct {
	ID         string          `json:"id"`
	Method     string          `json:"method"`
	Input      json.RawMessage `json:"input"`
	Expected   json.RawMessage `json:"expected"`
	Recomputed json.RawMessage `json:"recomputed"`
	AbsTol     float64         `json:"abs_tol"`
}

// want is the independent value where there is one: some published values have known defects.
func (c goldenCase) want() json.RawMessage {
	if len(c.Recomputed) == 0 || string(c.Recomputed) == "null" {
		return c.Expected
	}
	return c.Recomputed
}

// solver computes a case's answer from its input: a float64, a string, a bool, a []float64, or a map or a struct of these.
type solver func(t *testing.T, input json.RawMessage) any

// solvers returns the solver of every method, from the areas' own files.
func solvers(t *testing.T) map[string]solver {
	all := map[string]solver{}
	for _, area := range []map[string]solver{ratioSolvers(), anytimeSolvers(), fixedSolvers(), rankSolvers()} {
		for method, solve := range area {
			if all[method] != nil {
				t.Fatalf("method %q has two solvers", method)
			}
			all[method] = solve
		}
	}
	return all
}

func readGolden(t *testing.T, path string) goldenFile {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("reading golden values: %v", err)
	}
	var f goldenFile
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatalf("reading golden values %q: %v", path, err)
	}
	if len(f.Cases) == 0 {
		t.Fatalf("%q has no cases", path)
	}
	return f
}

// TestGolden computes every case, and knows every method that the file names, with a case or without.
func TestGolden(t *testing.T) {
	path := os.Getenv("SISKIN_GOLDEN_STATS")
	if path == "" {
		path = filepath.Join("testdata", "stats.json")
	}
	golden, known := readGolden(t, path), solvers(t)
	if len(golden.Methods) == 0 {
		t.Errorf("%q names no methods", path)
	}
	for method := range golden.Methods {
		if known[method] == nil {
			t.Errorf("method %q is not known", method)
		}
	}
	computeCases(t, golden.Cases, known)
}

// TestDerived computes cases of the same methods further out, whose answers were computed with fifty digits, in every form
// that an input may have.
func TestDerived(t *testing.T) {
	computeCases(t, readGolden(t, filepath.Join("testdata", "derived.json")).Cases, solvers(t))
}

func computeCases(t *testing.T, cases []goldenCase, known map[string]solver) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.ID, func(t *testing.T) {
			solve := known[c.Method]
			if solve == nil {
				t.Fatalf("method %q is not known", c.Method)
			}
			var want any
			if err := json.Unmarshal(c.want(), &want); err != nil {
				t.Fatalf("reading the expected answer: %v", err)
			}
			for _, d := range differences("answer", plain(t, solve(t, c.Input)), want, c.AbsTol) {
				t.Error(d)
			}
		})
	}
}

// plain turns an answer into what encoding/json makes of it, yet keeps numbers that JSON does not have.
func plain(t *testing.T, answer any) any {
	t.Helper()
	switch v := answer.(type) {
	case float64, string, bool:
		return v
	case int:
		return float64(v)
	case []float64:
		list := make([]any, len(v))
		for i, x := range v {
			list[i] = x
		}
		return list
	case map[string]any:
		fields := maps.Clone(v)
		for name, x := range v {
			fields[name] = plain(t, x)
		}
		return fields
	}
	data, err := json.Marshal(answer)
	if err != nil {
		t.Fatalf("writing the answer %+v: %v", answer, err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatalf("reading the answer %s: %v", data, err)
	}
	return out
}

// differences compares numbers by the file's tolerance, absolute below 1e-3 and else relative to values above 1, and
// everything else exactly. Every field and every element that is wanted must be there. It returns one line for each that
// is not as wanted.
func differences(what string, got, want any, tol float64) []string {
	switch w := want.(type) {
	case map[string]any:
		fields, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s: got %v, want fields", what, got)}
		}
		var all []string
		for name, x := range w {
			all = append(all, differences(what+"."+name, fields[name], x, tol)...)
		}
		return all
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(w) {
			return []string{fmt.Sprintf("%s: got %v, want %d values", what, got, len(w))}
		}
		var all []string
		for i, x := range w {
			all = append(all, differences(fmt.Sprintf("%s[%d]", what, i), list[i], x, tol)...)
		}
		return all
	}
	if !alike(got, want, tol) {
		return []string{fmt.Sprintf("%s: got %v, want %v within %g", what, got, want, tol)}
	}
	return nil
}

// alike compares two values that have no parts. A number that JSON does not have is wanted as a text.
func alike(got, want any, tol float64) bool {
	have, isNumber := got.(float64)
	if !isNumber {
		return got == want
	}
	number, ok := want.(float64)
	if text, isText := want.(string); isText {
		var err error
		number, err = parseNumber(text)
		ok = err == nil
	}
	if tol >= 1e-3 && !math.IsInf(number, 0) {
		tol *= math.Max(1, math.Abs(number))
	}
	same := have == number || (math.IsNaN(have) && math.IsNaN(number)) || math.Abs(have-number) <= tol
	return ok && same
}

// TestCompareGolden: a test that compares with anything passes for everything.
func TestCompareGolden(t *testing.T) {
	tests := map[string]struct {
		reason    string
		got, want any
		tol       float64
		same      bool
	}{
		"Within":        {"within an absolute tolerance", 100.0, 100.0000009, 1e-6, true},
		"Absolute":      {"a tolerance below 1e-3 is absolute", 100.0, 100.00002, 1e-6, false},
		"Relative":      {"a tolerance of 1e-3 is relative above 1", 100.0, 100.09, 1e-3, true},
		"NotRelative":   {"a tolerance of 1e-3 is absolute below 1", 0.1, 0.102, 1e-3, false},
		"NaN":           {"not a number is no answer", math.NaN(), 1.0, 1, false},
		"Text":          {"text is compared as it is", "High", "high", 1, false},
		"Bool":          {"a truth is compared as it is", true, true, 0, true},
		"NotInfinite":   {"a number is not infinity", 1.0, "+Inf", 1, false},
		"Infinite":      {"infinity is written as text", math.Inf(1), "+Inf", 0, true},
		"List":          {"elements are compared one by one", []float64{1, 2}, []any{1.0, 2.5}, 0.1, false},
		"Short":         {"a missing element is no answer", []float64{1}, []any{1.0, 2.0}, 1, false},
		"Fields":        {"fields are compared one by one", map[string]any{"a": 1.0, "b": "x"}, map[string]any{"a": 1.0, "b": "x"}, 0, true},
		"Missing":       {"a missing field is no answer", map[string]any{"a": 1.0}, map[string]any{"a": 1.0, "b": 0.0}, 1, false},
		"NumberForText": {"a number is not a word", 1.0, true, 1, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if d := differences("answer", plain(t, tc.got), tc.want, tc.tol); (d == nil) != tc.same {
				t.Errorf("%s: %v and %v differ in %q, the same: want %t", tc.reason, tc.got, tc.want, d, tc.same)
			}
		})
	}
}

func decode[T any](t *testing.T, input json.RawMessage) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(input, &v); err != nil {
		t.Fatalf("reading input: %v", err)
	}
	return v
}

// series is a list of numbers, a single one, or a text that describes one: "1..1000", "0,2,..,998 (500)" with the count in brackets, or
// numbers between spaces or commas.
type series []float64

func (s *series) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	if data[0] != '"' && data[0] != '[' {
		var one number
		err := json.Unmarshal(data, &one)
		*s = series{float64(one)}
		return err
	}
	if data[0] == '[' {
		var list []number
		err := json.Unmarshal(data, &list)
		*s = make(series, len(list))
		for i, x := range list {
			(*s)[i] = float64(x)
		}
		return err
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	list, err := parseSeries(text)
	*s = list
	return err
}

// number is a number, or a text that is one, such as "+Inf".
type number float64

func (n *number) UnmarshalJSON(data []byte) error {
	x, err := parseNumber(strings.Trim(string(data), `"`))
	*n = number(x)
	return err
}

func parseNumber(text string) (float64, error) {
	return strconv.ParseFloat(strings.TrimSpace(text), 64)
}

var (
	seriesCount = regexp.MustCompile(`\s*\((\d+)\)\s*$`)
	seriesSplit = regexp.MustCompile(`[\s,]+`)
	seriesDots  = regexp.MustCompile(`\.{2,}|…`)
)

// parseSeries reads the texts of series.
func parseSeries(text string) (series, error) {
	count := -1
	if m := seriesCount.FindStringSubmatch(text); m != nil {
		count, _ = strconv.Atoi(m[1])
		text = strings.TrimSuffix(text, m[0])
	}
	head, last, dots := text, "", false
	if at := seriesDots.FindStringIndex(text); at != nil {
		head, last, dots = text[:at[0]], text[at[1]:], true
	}
	var out series
	for _, word := range seriesSplit.Split(strings.Trim(head, " ,\t"), -1) {
		x, err := parseNumber(word)
		if err != nil {
			return nil, fmt.Errorf("reading series %q: %w", text, err)
		}
		out = append(out, x)
	}
	if dots {
		end, err := parseNumber(strings.Trim(last, " ,\t"))
		if err != nil {
			return nil, fmt.Errorf("reading the end of series %q: %w", text, err)
		}
		out = out.upTo(end)
	}
	if count >= 0 && len(out) != count {
		return nil, fmt.Errorf("reading series %q: it has %d numbers, want %d", text, len(out), count)
	}
	return out, nil
}

// upTo continues the series by its last step, or by one, as far as end.
func (s series) upTo(end float64) series {
	from, step := s[len(s)-1], math.Copysign(1, end-s[len(s)-1])
	if len(s) > 1 {
		step = from - s[len(s)-2]
	}
	for i := 1; i <= int(math.Round((end-from)/step)); i++ {
		s = append(s, from+float64(i)*step)
	}
	return s
}

func TestSeries(t *testing.T) {
	tests := map[string]struct {
		reason      string
		text        string
		count       int
		first, last float64
		bad         bool
	}{
		"Range":    {"two dots count by one", `"1..1000"`, 1000, 1, 1000, false},
		"Step":     {"the last step goes on", `"0,2,..,998 (500)"`, 500, 0, 998, false},
		"Negative": {"numbers may be below zero", `"-41,-39,..,1157 (600)"`, 600, -41, 1157, false},
		"Down":     {"a series may fall", `"5..1"`, 5, 5, 1, false},
		"Fraction": {"a step may be a fraction", `"0,0.1,..,0.9 (10)"`, 10, 0, 0.9, false},
		"List":     {"a list is a series", `[3, 1, "2"]`, 3, 3, 2, false},
		"Single":   {"a number is a series of one", `4`, 1, 4, 4, false},
		"Words":    {"numbers may stand in a text", `"1 2 3 7"`, 4, 1, 7, false},
		"Count":    {"a wrong count is an error", `"0,2,..,998 (499)"`, 0, 0, 0, true},
		"Word":     {"a word is no number", `"one, two"`, 0, 0, 0, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var s series
			err := json.Unmarshal([]byte(tc.text), &s)
			if (err != nil) != tc.bad {
				t.Fatalf("%s: error %v", tc.reason, err)
			}
			if err == nil && (len(s) != tc.count || s[0] != tc.first || math.Abs(s[len(s)-1]-tc.last) > 1e-12) {
				t.Errorf("%s: got %d numbers from %g to %g", tc.reason, len(s), s[0], s[len(s)-1])
			}
		})
	}
}

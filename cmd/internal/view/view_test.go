package view

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestLines draws each testdata/*.in.yaml and compares with the *.out.txt beside it.
func TestLines(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("finding inputs: %v, %v", inputs, err)
	}
	for _, in := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".in.yaml"), func(t *testing.T) {
			ro := load(t, in)
			before := ro.DeepCopy()
			got := strings.Join(Lines(ro, Options{Now: now}), "\n") + "\n"
			if diff := cmp.Diff(before, ro); diff != "" {
				t.Errorf("Lines changed its argument:\n%s", diff)
			}
			golden := strings.TrimSuffix(in, ".in.yaml") + ".out.txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("lines differ (-want +got):\n%s", diff)
			}
		})
	}
}

func load(t *testing.T, path string) *v1alpha1.Rollout {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ro := &v1alpha1.Rollout{}
	if err := yaml.UnmarshalStrict(data, ro); err != nil {
		t.Fatal(err)
	}
	return ro
}

func TestColourChangesNoText(t *testing.T) {
	ro := load(t, "testdata/running.in.yaml")
	plain := Lines(ro, Options{Now: now})
	colored := Lines(ro, Options{Now: now, Color: true})
	if strings.Contains(strings.Join(plain, ""), "\x1b") {
		t.Error("plain lines hold escape codes")
	}
	codes := 0
	for i, line := range colored {
		codes += strings.Count(line, "\x1b[")
		stripped := strings.NewReplacer("\x1b[0m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[36m", "").Replace(line)
		if stripped != plain[i] {
			t.Errorf("line %d: got %q without codes, want %q", i, stripped, plain[i])
		}
	}
	if codes == 0 {
		t.Error("coloured lines hold no escape codes")
	}
}

func TestWidth(t *testing.T) {
	ro := load(t, "testdata/running.in.yaml")
	for width, want := range map[int]int{0: 100, 60: 72, 10: 72, 140: 140} {
		for _, line := range Lines(ro, Options{Now: now, Width: width}) {
			// The weight bar is one word of 50 cells, so 72 columns are the least that a running rollout needs.
			if columns(line) > want {
				t.Errorf("width %d: got a line of %d columns, want at most %d: %q", width, columns(line), want, line)
			}
		}
	}
}

func TestHostileText(t *testing.T) {
	ro := load(t, "testdata/running.in.yaml")
	ro.Status.Message = "\x1b]0;owned\x07\x1b[2Jgone\nnext\u009b31m"
	for _, line := range Lines(ro, Options{Now: now, Color: true}) {
		rest := strings.NewReplacer("\x1b[0m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[36m", "").Replace(line)
		if strings.ContainsAny(rest, "\x1b\x07\n\u009b") {
			t.Errorf("a control character passed: %q", line)
		}
	}
}

func TestFraction(t *testing.T) {
	cases := map[string]struct {
		reason   string
		e, bound string
		want     float64
		ok       bool
	}{
		"None":     {reason: "no evidence", e: "1", bound: "100", want: 0, ok: true},
		"Half":     {reason: "the square root of the bound is half way", e: "10", bound: "100", want: 0.5, ok: true},
		"Beyond":   {reason: "a decided side is full", e: "1e9", bound: "100", want: 1, ok: true},
		"Against":  {reason: "evidence for the other side is not less than nothing", e: "0.01", bound: "100", want: 0, ok: true},
		"Zero":     {reason: "log(0) is not drawn", e: "0", bound: "100", want: 0, ok: true},
		"Huge":     {reason: "beyond float64 is full", e: "1e400", bound: "100", want: 1, ok: true},
		"NoNumber": {reason: "an empty side is not drawn", e: "", bound: "100"},
		"NoBound":  {reason: "an empty bound is not drawn", e: "2", bound: ""},
		"BadBound": {reason: "a bound of 1 decides nothing", e: "2", bound: "1"},
		"NaN":      {reason: "NaN is no evidence", e: "NaN", bound: "100"},
		"Negative": {reason: "an e-value is never negative", e: "-3", bound: "100"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, ok := fraction(tc.e, tc.bound)
			if ok != tc.ok || got < tc.want-1e-9 || got > tc.want+1e-9 {
				t.Errorf("%s: got %v, %v, want %v, %v", tc.reason, got, ok, tc.want, tc.ok)
			}
		})
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                   "0s",
		59*time.Second + 999999999:     "59s",
		time.Minute:                    "1m",
		3*time.Minute + 10*time.Second: "3m10s",
		2*time.Hour + 5*time.Minute:    "2h5m",
		76 * time.Hour:                 "3d4h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v): got %q, want %q", d, got, want)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add("errors", "1.5", "20", int32(2), "text")
	f.Fuzz(func(t *testing.T, name, e, bound string, step int32, message string) {
		ro := &v1alpha1.Rollout{
			Spec: v1alpha1.RolloutSpec{Version: name, Steps: []v1alpha1.StepSpec{{Weight: 5}, {Weight: 50}}},
			Status: v1alpha1.RolloutStatus{
				StableVersion: "v1", CanaryVersion: "v2", Weight: step, Step: step, Message: message, Decision: name,
				Run:   &v1alpha1.RunStatus{StepStartedAt: &metav1.MicroTime{Time: now}},
				Gates: []v1alpha1.GateStatus{{Name: name, Verdict: message, Harm: e, HarmBound: bound, Low: e}},
			},
		}
		for _, line := range Lines(ro, Options{Now: now}) {
			if strings.ContainsAny(line, "\x1b\n\r\t") {
				t.Errorf("a control character passed: %q", line)
			}
		}
	})
}

func TestIntervalBar(t *testing.T) {
	const quarter = 1.3862943611198906 // ln 4
	blank := strings.Repeat(" ", 20)
	for name, tc := range map[string]struct {
		reason string
		v      v1alpha1.VariantStatus
		dots   []float64
		want   string
	}{
		"Inside":    {"equal ratios are equally far", v1alpha1.VariantStatus{Estimate: "0.5", Low: "0.25", High: "1"}, nil, strings.Repeat("─", 10) + "●" + strings.Repeat("─", 10) + blank},
		"Unbounded": {"what goes beyond the scale says so", v1alpha1.VariantStatus{Estimate: "1", Low: "0", High: "+Inf"}, nil, "◄" + strings.Repeat("─", 19) + "●" + strings.Repeat("─", 19) + "►"},
		"None":      {"no interval, only the rule and the dots", v1alpha1.VariantStatus{}, []float64{-quarter, quarter}, "┊" + blank[1:] + "│" + blank[1:] + "┊"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := intervalBar(tc.v, quarter, tc.dots); got != tc.want {
				t.Errorf("%s: got\n%q, want\n%q", tc.reason, got, tc.want)
			}
		})
	}
}

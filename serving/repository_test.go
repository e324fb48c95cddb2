package serving

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const goldenOne = "a,b,margin,pred,case\n1,2,1,1,real\nNaN,2,1,1,nan\n"

// TestBadModelNeverReplacesGoodOne is invariant 12: whatever is wrong with the next revision, the one before goes on
// answering, the failure is counted and the index says why.
func TestBadModelNeverReplacesGoodOne(t *testing.T) {
	wide := constant(1)
	wide.spec.Features = []string{"a"}
	odd := constant(1)
	odd.spec.Output = "FP16"
	broken := constant(1)
	broken.predict = func([]float64) (float64, error) { return 0, errors.New("out of trees") }
	for reason, c := range map[string]struct {
		next fakeStored
		says string
	}{
		"not there":         {fakeStored{fetch: errors.New("no such bucket")}, "no such bucket"},
		"not decodable":     {fakeStored{decode: errors.New("child 9")}, "child 9"},
		"no features":       {fakeStored{model: fakeModel{}}, "0 features"},
		"unknown output":    {fakeStored{model: odd}, "FP16"},
		"answers NaN":       {fakeStored{model: constant(math.NaN())}, "NaN"},
		"answers infinity":  {fakeStored{model: constant(math.Inf(1))}, "Inf"},
		"cannot predict":    {fakeStored{model: broken}, "out of trees"},
		"not golden":        {fakeStored{model: constant(1.000001), golden: goldenOne}, "row 1"},
		"golden NaN":        {fakeStored{model: constant(math.NaN()), golden: goldenOne}, "row 1"},
		"other features":    {fakeStored{model: constant(1), golden: "b,a,pred\n1,2,1\n"}, "columns"},
		"fewer features":    {fakeStored{model: constant(1), golden: "a\n1\n"}, "columns"},
		"no answers":        {fakeStored{model: constant(1), golden: "a,b,margin\n1,2,1\n"}, "pred"},
		"no golden rows":    {fakeStored{model: constant(1), golden: "a,b,pred\n"}, "no rows"},
		"empty golden file": {fakeStored{model: constant(1), golden: "\n"}, goldenFile},
		"golden no number":  {fakeStored{model: constant(1), golden: "a,b,pred\n1,x,1\n"}, `"x"`},
		"golden bad answer": {fakeStored{model: constant(1), golden: "a,b,pred\n1,2,y\n"}, `"y"`},
		"golden cut":        {fakeStored{model: constant(1), golden: "a,b,pred\n1,2\n"}, "row 1"},
	} {
		t.Run(reason, func(t *testing.T) {
			checkKept(t, c.next, c.says)
		})
	}
}

// checkKept loads a good revision, refreshes to the next one, and finds the good one still there.
func checkKept(t *testing.T, next fakeStored, says string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	source := &fakeSource{stored: map[string]fakeStored{"m/1": {revision: "good", model: constant(1), golden: goldenOne}}}
	repo := NewRepository(RepositoryOptions{Source: source, Decode: source.decoder, Metrics: NewMetrics(registry)})
	if err := repo.Load(t.Context(), "m", "1"); err != nil {
		t.Fatal(err)
	}
	next.revision = "bad"
	source.stored["m/1"] = next
	swapped, err := repo.Refresh(t.Context(), "m", "1")
	if swapped || err == nil || !strings.Contains(err.Error(), says) {
		t.Fatalf("Refresh = %v, %v, want an error naming %q", swapped, err, says)
	}
	m, err := repo.Lookup("m", "")
	if err != nil || m.Revision != "good" {
		t.Fatalf("Lookup = %+v, %v, want the good revision", m, err)
	}
	w := send(NewHandler(repo, HandlerOptions{}), "POST", "/v2/models/m/infer", body1("[1,2]", "[1,2]"))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"data":[1]`) {
		t.Errorf("answer %d %s, want 200 with 1", w.Code, w.Body)
	}
	if got := testutil.ToFloat64(repo.metrics.loadFailures.WithLabelValues("m", "1")); got != 1 {
		t.Errorf("%v failed loads counted, want 1", got)
	}
	if s := repo.List()[0]; s.State != stateReady || !strings.Contains(s.Reason, says) {
		t.Errorf("index says %+v, want ready and the reason", s)
	}
	if err := repo.Ready(); err != nil {
		t.Errorf("Ready() = %v, want nil", err)
	}
}

func TestRefresh(t *testing.T) {
	repo, source := newFake(map[string]fakeStored{"m/1": {revision: "a", model: constant(1)}})
	step := func(reason string, want bool, answer float64) {
		t.Helper()
		swapped, err := repo.Refresh(t.Context(), "m", "1")
		if err != nil || swapped != want {
			t.Fatalf("%s: Refresh = %v, %v, want %v", reason, swapped, err, want)
		}
		m, err := repo.Lookup("m", "1")
		if err != nil {
			t.Fatal(err)
		}
		out := make([]float64, 1)
		if err := m.Model.Predict([]float64{0, 0}, out); err != nil || out[0] != answer {
			t.Fatalf("%s: answer %v, %v, want %v", reason, out[0], err, answer)
		}
	}
	step("first", true, 1)
	source.stored["m/1"] = fakeStored{revision: "a", model: constant(2)}
	step("same revision", false, 1)
	source.stored["m/1"] = fakeStored{revision: "b", model: constant(2)}
	step("new revision", true, 2)
	source.stored["m/1"] = fakeStored{revision: "c", onRevision: errors.New("store is down")}
	if swapped, err := repo.Refresh(t.Context(), "m", "1"); swapped || err == nil {
		t.Errorf("Refresh = %v, %v with the store down, want an error", swapped, err)
	}
	if m, err := repo.Lookup("m", "1"); err != nil || m.Revision != "b" {
		t.Errorf("Lookup = %v, %v, want revision b still", m, err)
	}
}

func TestLookup(t *testing.T) {
	repo, source := newFake(map[string]fakeStored{"m/1": {model: constant(1)}, "m/2": {model: constant(2)}})
	lookup := func(name, version string) string {
		m, err := repo.Lookup(name, version)
		if err != nil {
			for text, kind := range map[string]error{"unknown model": ErrUnknownModel, "unknown version": ErrUnknownVersion, "not ready": ErrNotReady} {
				if errors.Is(err, kind) {
					return text
				}
			}
			return err.Error()
		}
		return m.Version
	}
	want := func(reason, name, version, want string) {
		t.Helper()
		if got := lookup(name, version); got != want {
			t.Errorf("%s: Lookup(%q, %q) is %q, want %q", reason, name, version, got, want)
		}
	}
	want("empty", "m", "", "unknown model")
	if err := repo.Ready(); !errors.Is(err, ErrNotReady) {
		t.Errorf("Ready() = %v of an empty repository, want %v", err, ErrNotReady)
	}
	repo.Expect("m", "1")
	want("expected", "m", "", "not ready")
	want("expected", "m", "1", "not ready")
	want("expected another", "m", "2", "unknown version")
	for _, v := range []string{"1", "2"} {
		if err := repo.Load(t.Context(), "m", v); err != nil {
			t.Fatal(err)
		}
	}
	want("the version put in place last", "m", "", "2")
	want("by name", "m", "1", "1")
	source.stored["m/1"] = fakeStored{decode: errors.New("cut")}
	if err := repo.Load(t.Context(), "m", "1"); err == nil {
		t.Error("Load of a broken model: no error")
	}
	want("a failed load changes nothing", "m", "", "2")
	want("a failed load changes nothing", "m", "1", "1")
	repo.Expect("m", "1")
	want("expecting again changes nothing", "m", "1", "1")
	if err := repo.Load(t.Context(), "m", "3"); err == nil {
		t.Error("Load of a missing version: no error")
	}
	want("never loaded", "m", "3", "not ready")
	got := repo.List()
	for i := range got {
		got[i].Reason = ""
	}
	if diff := cmp.Diff([]Status{{"m", "1", stateReady, ""}, {"m", "2", stateReady, ""}, {"m", "3", stateUnavailable, ""}}, got); diff != "" {
		t.Error(diff)
	}
}

// TestSwapUnderLoad swaps revisions while requests run: none fails, and each answer comes from one whole revision. Each
// revision's model answers its number for the row and its negative for the second, so a mixture would show.
func TestSwapUnderLoad(t *testing.T) {
	const revisions = 200
	revision := func(n int) fakeStored {
		m := constant(0)
		m.predict = func(x []float64) (float64, error) { return float64(n) * (1 - 2*x[0]), nil }
		return fakeStored{revision: fmt.Sprint(n), model: m}
	}
	var mu sync.Mutex
	source := &fakeSource{stored: map[string]fakeStored{"m/1": revision(1)}}
	locked := lockedSource{source, &mu}
	repo := NewRepository(RepositoryOptions{Source: locked, Decode: locked.decoder})
	if err := repo.Load(t.Context(), "m", "1"); err != nil {
		t.Fatal(err)
	}
	h := NewHandler(repo, HandlerOptions{})
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				w := send(h, "POST", "/v2/models/m/infer", body1("[2,2]", "[0,0,1,0]"))
				var a, b float64
				_, data, _ := strings.Cut(w.Body.String(), `"data":`)
				if _, err := fmt.Sscanf(data, "[%g,%g]", &a, &b); w.Code != http.StatusOK || err != nil || a != -b || a == 0 {
					t.Errorf("answer %d %s", w.Code, w.Body)
					return
				}
			}
		})
	}
	for n := 2; n <= revisions; n++ {
		mu.Lock()
		source.stored["m/1"] = revision(n)
		mu.Unlock()
		if swapped, err := repo.Refresh(t.Context(), "m", "1"); !swapped || err != nil {
			t.Errorf("revision %d: Refresh = %v, %v", n, swapped, err)
		}
	}
	close(done)
	clients.Wait()
}

type lockedSource struct {
	*fakeSource
	mu *sync.Mutex
}

func (s lockedSource) Fetch(ctx context.Context, name, version string) (Artefact, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fakeSource.Fetch(ctx, name, version)
}

func (s lockedSource) Revision(ctx context.Context, name, version string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fakeSource.Revision(ctx, name, version)
}

func (s lockedSource) decoder(a Artefact) (Model, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fakeSource.decoder(a)
}

func TestNear(t *testing.T) {
	one := math.Nextafter(1, 2)
	for reason, c := range map[string]struct {
		got, want float64
		datatype  string
		near      bool
	}{
		"equal":             {1, 1, FP32, true},
		"two places, FP32":  {float64(math.Nextafter32(math.Nextafter32(1, 2), 2)), 1, FP32, true},
		"three places":      {float64(math.Float32frombits(math.Float32bits(1) + 3)), 1, FP32, false},
		"across zero":       {math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, FP32, true},
		"opposite signs":    {1, -1, FP32, false},
		"one place, FP64":   {one, 1, FP64, true},
		"an FP32 place":     {float64(math.Nextafter32(1, 2)), 1, FP64, false},
		"across zero, FP64": {5e-324, -5e-324, FP64, true},
		"NaN":               {math.NaN(), math.NaN(), FP64, false},
		"infinity":          {math.Inf(1), math.Inf(1), FP32, false},
	} {
		if got := near(c.got, c.want, c.datatype); got != c.near {
			t.Errorf("%s: near(%v, %v, %s) = %v", reason, c.got, c.want, c.datatype, got)
		}
	}
}

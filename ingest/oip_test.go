package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newOIP returns a client of a server that answers with handle.
func newOIP(t *testing.T, handle http.HandlerFunc) *OIP {
	t.Helper()
	server := httptest.NewServer(handle)
	c, err := NewOIP(OIPOptions{Gateway: server.URL + "/", Host: "coolant.edge.svc.cluster.local", Model: "coolant", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); server.Close() })
	return c
}

func TestPredict(t *testing.T) {
	type seen struct{ Path, Host, Bucket, Type, Body string }
	var got seen
	c := newOIP(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = seen{r.Method + " " + r.URL.Path, r.Host, r.Header.Get("x-siskin-bucket"), r.Header.Get("Content-Type"), string(body)}
		fmt.Fprint(w, `{"model_name":"coolant","model_version":"v2","outputs":[{"name":"predict","shape":[1],"datatype":"FP32","data":[90.25]}]}`)
	})
	p, err := c.Predict(t.Context(), 7, []float64{1, 17.6471, math.NaN(), -0.5, 16383.75})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Prediction{90.25, "v2"}); p != want {
		t.Errorf("got %v, want %v", p, want)
	}
	want := seen{
		"POST /v2/models/coolant/infer", "coolant.edge.svc.cluster.local", "07", "application/json",
		`{"inputs":[{"name":"input0","datatype":"FP32","shape":[1,5],"data":[1,17.6471,null,-0.5,16383.75]}]}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPredictFailures(t *testing.T) {
	const good = `{"model_version":"v1","outputs":[{"data":[[1.5]]}]}`
	tests := map[string]struct {
		reason string
		status int
		body   string
		want   Reason
	}{
		"Nested":      {"the data may be nested to the shape", 200, good, ""},
		"500":         {"the server failed", 500, `{"error":"x"}`, ReasonStatus5xx},
		"503":         {"no endpoint", 503, "no healthy upstream", ReasonStatus5xx},
		"429":         {"rate limited", 429, "", ReasonStatus429},
		"404":         {"no route or no model", 404, "", ReasonStatus4xx},
		"Redirect":    {"nobody asked for that", 204, "", ReasonBadAnswer},
		"NoJSON":      {"not a prediction", 200, "<html>", ReasonBadAnswer},
		"NoVersion":   {"an answer of nobody cannot be counted for anybody", 200, `{"outputs":[{"data":[1]}]}`, ReasonBadAnswer},
		"BadVersion":  {"a version is a label", 200, `{"model_version":"a b","outputs":[{"data":[1]}]}`, ReasonBadAnswer},
		"LongVersion": {"of bounded length", 200, `{"model_version":"` + strings.Repeat("v", 65) + `","outputs":[{"data":[1]}]}`, ReasonBadAnswer},
		"NoOutput":    {"nothing predicted", 200, `{"model_version":"v1","outputs":[]}`, ReasonBadAnswer},
		"Two":         {"one row in, one number out", 200, `{"model_version":"v1","outputs":[{"data":[1,2]}]}`, ReasonBadAnswer},
		"Null":        {"NaN is no prediction", 200, `{"model_version":"v1","outputs":[{"data":[null]}]}`, ReasonBadAnswer},
		"Huge":        {"more than one row's answer", 200, strings.Repeat(" ", maxAnswerBytes) + good, ReasonBadAnswer},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newOIP(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body) // 204 refuses a body
			})
			_, err := c.Predict(t.Context(), 1, []float64{1})
			if tc.want == "" {
				if err != nil {
					t.Errorf("%s: %v", tc.reason, err)
				}
				return
			}
			if got := reasonOf(err); err == nil || got != tc.want {
				t.Errorf("%s: got %v, want %s", tc.reason, err, tc.want)
			}
		})
	}
}

func TestPredictWithoutAnswer(t *testing.T) {
	release := make(chan struct{})
	c := newOIP(t, func(http.ResponseWriter, *http.Request) { <-release })
	c.options.Timeout = 20 * time.Millisecond
	_, err := c.Predict(t.Context(), 1, []float64{1})
	close(release)
	if reasonOf(err) != ReasonTimeout {
		t.Errorf("got %v, want a timeout", err)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	dead, err := NewOIP(OIPOptions{Gateway: gone.URL, Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = dead.Predict(t.Context(), 1, []float64{1}); reasonOf(err) != ReasonConnection {
		t.Errorf("got %v, want a failed connection", err)
	}
	if reasonOf(fmt.Errorf("x: %w", context.DeadlineExceeded)) != ReasonTimeout || reasonOf(errors.New("x")) != ReasonConnection {
		t.Error("a foreign error has the wrong reason")
	}
}

func TestFeatures(t *testing.T) {
	tests := map[string]struct {
		reason, body string
		status       int
		want         []string
	}{
		"List":    {"as serving says it", `{"parameters":{"feature_names":["A","B"]}}`, 200, []string{"A", "B"}},
		"Text":    {"where parameters must be scalar", `{"parameters":{"feature_names":"A,B"}}`, 200, []string{"A", "B"}},
		"Missing": {"a guess would be worse", `{"name":"coolant"}`, 200, nil},
		"Down":    {"not yet", ``, 503, nil},
		"NoJSON":  {"no metadata", `<`, 200, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newOIP(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.URL.Path != "/v2/models/coolant" {
					t.Errorf("asked %s %s", r.Method, r.URL.Path)
				}
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			})
			got, err := c.Features(t.Context())
			if diff := cmp.Diff(tc.want, got); diff != "" || (err == nil) != (tc.want != nil) {
				t.Errorf("%s: %v %s", tc.reason, err, diff)
			}
		})
	}
}

func TestNewOIPRefuses(t *testing.T) {
	for _, o := range []OIPOptions{{Model: "m"}, {Gateway: "localhost:80", Model: "m"}, {Gateway: "ftp://x", Model: "m"}, {Gateway: "http://x"}} {
		if _, err := NewOIP(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

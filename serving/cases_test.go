package serving

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// outOfScope lists the cases that this server does not answer as expected yet, with the reason. Every other case of the
// file is run, and a name here that the file does not have fails the test.
func outOfScope() map[string]string {
	const binary = "the binary tensor extension is not implemented; it is not announced, and refused with 400"
	const grpc = "gRPC is not implemented"
	return map[string]string{
		"B01-binary-in-json-out":   binary,
		"B02-binary-in-binary-out": binary,
		"G01-ServerLive":           grpc,
		"G03-ModelReady":           grpc,
		"G05-ServerMetadata":       grpc,
		"G06-ModelMetadata":        grpc,
		"G07-ModelInfer-contents":  grpc,
		"G08-ModelInfer-raw":       grpc,
		"G09-contents-and-raw":     grpc,
		"G12-unknown-model":        grpc,
	}
}

type oipCase struct {
	ID      string
	Request struct {
		Method, Path string
		Headers      map[string]string
		JSON         json.RawMessage
		RawUTF8      *string `json:"raw_utf8"`
		RawBase64    string  `json:"raw_base64"`
		RPC          string
	}
	Expect struct {
		Status    int
		StatusAny []int `json:"status_any"`
		Headers   map[string]string
		JSON      any
		JSONIf200 any      `json:"json_if_200"`
		OnlyKeys  []string `json:"only_keys"`
	}
}

// TestOIPCases runs the black-box cases of the Open Inference Protocol v2 that speak REST and JSON. The file takes its
// shape from the specification (kserve/open-inference-protocol, inference_rest.md).
func TestOIPCases(t *testing.T) {
	text, err := os.ReadFile("testdata/oip_cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []oipCase }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	h := serveRisk(t, HandlerOptions{})
	skip := outOfScope()
	ran := 0
	for _, c := range file.Cases {
		if _, ok := skip[c.ID]; ok {
			delete(skip, c.ID)
			continue
		}
		ran++
		t.Run(c.ID, func(t *testing.T) { runCase(t, h, c) })
	}
	for id := range skip {
		t.Errorf("case %s is out of scope and not in the file", id)
	}
	if want := 50; ran != want {
		t.Errorf("ran %d cases, want %d: the file has changed, and so must this test", ran, want)
	}
}

func runCase(t *testing.T, h http.Handler, c oipCase) {
	if c.Request.RPC != "" || c.Request.Method == "" {
		t.Fatal("this test does not know how to send this case")
	}
	r := httptest.NewRequest(c.Request.Method, c.Request.Path, strings.NewReader(caseBody(t, &c)))
	for k, v := range c.Request.Headers {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	want := c.Expect.StatusAny
	if c.Expect.Status != 0 {
		want = []int{c.Expect.Status}
	}
	if !slices.Contains(want, w.Code) {
		t.Fatalf("status %d, want %v: %.300s", w.Code, want, w.Body)
	}
	for k, v := range c.Expect.Headers {
		if got := w.Header().Get(k); got != v && !strings.HasPrefix(got, v+";") {
			t.Errorf("header %s is %q, want %q", k, got, v)
		}
	}
	var got any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("the answer is not JSON: %v: %.300s", err, w.Body)
	}
	if c.Expect.JSON != nil {
		match(t, "$", got, c.Expect.JSON)
	}
	if c.Expect.JSONIf200 != nil && w.Code == http.StatusOK {
		match(t, "$", got, c.Expect.JSONIf200)
	}
	if o, ok := got.(map[string]any); c.Expect.OnlyKeys != nil && (!ok || len(o) != len(c.Expect.OnlyKeys)) {
		t.Errorf("answer %v, want only the keys %v", got, c.Expect.OnlyKeys)
	}
}

func caseBody(t *testing.T, c *oipCase) string {
	t.Helper()
	const generate = "X-Test-Generate-Body"
	if how, ok := c.Request.Headers[generate]; ok {
		if how != "valid JSON padded with whitespace to server limit + 1 byte" {
			t.Fatalf("this test does not know how to make the body %q", how)
		}
		delete(c.Request.Headers, generate)
		body := body1("[1,4]", "[1,2,3,4]")
		return body + strings.Repeat(" ", defaultMaxBodyBytes+1-len(body))
	}
	if c.Request.RawBase64 != "" {
		b, err := base64.StdEncoding.DecodeString(c.Request.RawBase64)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if c.Request.RawUTF8 != nil {
		return *c.Request.RawUTF8
	}
	return string(c.Request.JSON)
}

// match holds got to want by the file's matchers.
func match(t *testing.T, at string, got, want any) {
	t.Helper()
	switch w := want.(type) {
	case map[string]any:
		o, _ := got.(map[string]any)
		for k, v := range w {
			match(t, at+"."+k, o[k], v)
		}
	case []any:
		l, _ := got.([]any)
		if len(l) != len(w) {
			t.Errorf("%s is %v, want %v", at, got, want)
			return
		}
		for i := range w {
			match(t, fmt.Sprintf("%s[%d]", at, i), l[i], w[i])
		}
	case float64:
		if g, ok := got.(float64); !ok || math.Abs(g-w) > 1e-6 {
			t.Errorf("%s is %v, want %v", at, got, want)
		}
	case string:
		if !matchText(got, w) {
			t.Errorf("%s is %v, want %v", at, got, want)
		}
	default:
		t.Errorf("%s: this test does not know the matcher %v", at, want)
	}
}

func matchText(got any, want string) bool {
	text, isText := got.(string)
	list, isList := got.([]any)
	switch {
	case want == "<string>":
		return isText
	case want == "<non-empty string>":
		return text != ""
	case want == "<array>":
		return isList
	case want == "<array of string>":
		return isList && !slices.ContainsFunc(list, func(e any) bool { _, ok := e.(string); return !ok })
	case strings.HasPrefix(want, "<array len "):
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(want, "<array len "), ">"))
		return err == nil && isList && len(list) == n
	case strings.HasPrefix(want, "<contains "):
		v, err := strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(want, "<contains "), ">"))
		return err == nil && slices.Contains(list, any(v))
	case strings.HasPrefix(want, "["):
		b, err := json.Marshal(got)
		return err == nil && slices.Contains(strings.Split(want, " or "), string(b))
	case strings.HasPrefix(want, "<"):
		return false
	}
	return isText && slices.Contains(strings.Split(want, "|"), text)
}

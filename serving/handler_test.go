package serving

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestRoutes(t *testing.T) {
	h := serveRisk(t, HandlerOptions{Name: "s", Version: "9"})
	for reason, c := range map[string]struct {
		method, path string
		code         int
		body         string
	}{
		"live":                  {"GET", "/v2/health/live", 200, `{"live":true}`},
		"live by HEAD":          {"HEAD", "/v2/health/live", 200, `{"live":true}`},
		"ready":                 {"GET", "/v2/health/ready", 200, `{"ready":true}`},
		"server":                {"GET", "/v2", 200, `{"name":"s","version":"9","extensions":["model_repository"]}`},
		"server with slash":     {"GET", "/v2/", 200, `{"name":"s","version":"9","extensions":["model_repository"]}`},
		"model ready":           {"GET", "/v2/models/vehicle-risk/ready", 200, `{"name":"vehicle-risk","ready":true}`},
		"version ready":         {"GET", "/v2/models/vehicle-risk/versions/1/ready", 200, `{"name":"vehicle-risk","ready":true}`},
		"escaped name":          {"GET", "/v2/models/vehicle%2Drisk/ready", 200, `{"name":"vehicle-risk","ready":true}`},
		"list":                  {"GET", "/v2/models", 200, `{"models":["vehicle-risk"]}`},
		"index":                 {"POST", "/v2/repository/index", 200, `[{"name":"vehicle-risk","version":"1","state":"READY"}]`},
		"case matters":          {"GET", "/v2/models/Vehicle-Risk/ready", 404, ""},
		"unknown version":       {"GET", "/v2/models/vehicle-risk/versions/x/ready", 404, ""},
		"no version":            {"GET", "/v2/models/vehicle-risk/versions", 404, ""},
		"empty name":            {"GET", "/v2/models//ready", 404, ""},
		"too deep":              {"GET", "/v2/models/a/versions/1/infer/more/and/more", 404, ""},
		"other version of v2":   {"GET", "/v22", 404, ""},
		"root":                  {"GET", "/", 404, ""},
		"bad escape is no name": {"GET", "/v2/models/%252F/ready", 404, ""},
		"wrong method":          {"DELETE", "/v2/models/vehicle-risk", 405, ""},
		"index by GET":          {"GET", "/v2/repository/index", 405, ""},
	} {
		w := send(h, c.method, c.path, "")
		if w.Code != c.code || c.body != "" && w.Body.String() != c.body {
			t.Errorf("%s: %d %s, want %d %s", reason, w.Code, w.Body, c.code, c.body)
		}
		if c.code >= 400 {
			checkError(t, reason, w.Body.Bytes())
		}
		if c.code == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s: no Allow header", reason)
		}
	}
}

// checkError holds a body to exactly {"error": "something"}.
func checkError(t *testing.T, reason string, body []byte) {
	t.Helper()
	var e map[string]string
	if err := json.Unmarshal(body, &e); err != nil || len(e) != 1 || e["error"] == "" {
		t.Errorf("%s: body %s, want {\"error\": \"...\"}", reason, body)
	}
}

func TestNotReady(t *testing.T) {
	repo, _ := newFake(nil)
	repo.Expect("m", "1")
	h := NewHandler(repo, HandlerOptions{})
	for _, c := range [][2]string{
		{"GET", "/v2/health/ready"},
		{"GET", "/v2/models/m/ready"},
		{"GET", "/v2/models/m"},
		{"POST", "/v2/models/m/infer"},
		{"POST", "/v2/models/m/versions/1/infer"},
	} {
		w := send(h, c[0], c[1], "{}")
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%v: %d with Retry-After %q, want 503 with one", c, w.Code, w.Header().Get("Retry-After"))
		}
		checkError(t, c[1], w.Body.Bytes())
	}
	if w := send(h, "GET", "/v2/health/live", ""); w.Code != http.StatusOK {
		t.Errorf("live: %d, want 200", w.Code)
	}
}

func TestMetadata(t *testing.T) {
	m := constant(1)
	m.spec.Parameters = map[string]any{"unit": "Celsius", "trees": 60}
	repo, _ := newFake(map[string]fakeStored{"m/1": {model: m}, "m/2": {model: m}})
	for _, v := range []string{"2", "1"} {
		if err := repo.Load(t.Context(), "m", v); err != nil {
			t.Fatal(err)
		}
	}
	const rest = `"platform":"constant","inputs":[{"name":"input0","datatype":"FP32","shape":[-1,2]}],` +
		`"outputs":[{"name":"predict","datatype":"FP32","shape":[-1]}],` +
		`"parameters":{"feature_names":["a","b"],"trees":60,"unit":"Celsius"}}`
	for path, want := range map[string]string{
		"/v2/models/m":            `{"name":"m","versions":["1","2"],` + rest,
		"/v2/models/m/versions/1": `{"name":"m","versions":["1"],` + rest,
	} {
		w := send(NewHandler(repo, HandlerOptions{}), "GET", path, "")
		if diff := cmp.Diff(want, w.Body.String()); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

// inferCase is a request body, its headers, and the status and words of the answer.
type inferCase struct {
	body   string
	header []string
	code   int
	says   string
}

// with is a good request with one more field.
func with(field string) string {
	return `{"inputs":[{"name":"input0","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}],` + field + `}`
}

// deep is a request with n nested lists.
func deep(n int) string {
	return `{"inputs":[],"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
}

// acceptedBodies are answered.
func acceptedBodies() map[string]inferCase {
	good := body1("[1,4]", "[1,2,3,4]")
	return map[string]inferCase{
		"good":                {good, nil, 200, `{"model_name":"vehicle-risk","model_version":"1","outputs":[{"name":"predict","datatype":"FP64","shape":[1],"data":[0.125]}]}`},
		"white space":         {"\r\n\t " + good + " \n", nil, 200, "0.125"},
		"any order of fields": {`{"inputs":[{"data":[100,0,110,0],"shape":[1,4],"datatype":"FP32","name":"input0"}]}`, nil, 200, "0.875"},
		"exponents":           {body1("[1,4]", "[1e2,-0.5E-1,1.1e+2,0]"), nil, 200, "0.875"},
		"id with escapes":     {with(`"id":"a\u00e9\"\\b"`), nil, 200, `"id":"a\u00e9\"\\b"`},
		"id null":             {with(`"id":null`), nil, 200, `"model_version":"1","outputs"`},
		"null outputs":        {with(`"outputs":null,"parameters":null`), nil, 200, "0.125"},
		"parameters":          {with(`"parameters":{"a":"b","c":1.5,"d":true}`), nil, 200, "0.125"},
		"gzip":                {zipped(good), []string{"Content-Encoding", "gzip"}, 200, "0.125"},
		"identity":            {good, []string{"Content-Encoding", "identity"}, 200, "0.125"},
		"binary declined":     {with(`"parameters":{"binary_data_output":false}`), nil, 200, "0.125"},
	}
}

// refusedTensors have a shape or data that no model takes.
func refusedTensors() map[string]inferCase {
	return map[string]inferCase{
		"nested data":             {body1("[1,4]", strings.Repeat("[", 500)+strings.Repeat("]", 500)), nil, 400, "nested deeper"},
		"shape fraction":          {body1("[1.0,4]", "[1,2,3,4]"), nil, 400, "1.0"},
		"shape string":            {body1(`["1",4]`, "[1,2,3,4]"), nil, 400, "number"},
		"shape of three":          {body1("[1,1,4]", "[1,2,3,4]"), nil, 400, "dimensions"},
		"shape of one":            {body1("[4]", "[1,2,3,4]"), nil, 400, "[rows,4]"},
		"shape of none":           {body1("[]", "[1,2,3,4]"), nil, 400, "[rows,4]"},
		"no rows":                 {body1("[0,4]", "[]"), nil, 400, "0 rows"},
		"rows beyond the body":    {body1("[4611686018427387905,4]", "[1,2,3,4]"), nil, 400, "4611686018427387905 rows"},
		"rows beyond 63 bits":     {body1("[18446744073709551616,4]", "[1,2,3,4]"), nil, 400, "63 bits"},
		"mixed":                   {body1("[2,4]", "[1,2,[3,4,5,6]]"), nil, 400, "mixed"},
		"value among rows":        {body1("[2,4]", "[[1,2,3,4],5,6,7,8]"), nil, 400, "mixed"},
		"rows after whole values": {body1("[2,4]", "[1,2,3,4,[5,6,7,8]]"), nil, 400, "mixed"},
		"nested too deep":         {body1("[1,4]", "[[[1,2,3,4]]]"), nil, 400, "number"},
		"data is an object":       {body1("[1,4]", "{}"), nil, 400, "'['"},
		"data a boolean":          {body1("[1,4]", "[true,2,3,4]"), nil, 400, "number"},
		"beyond float32":          {body1("[1,4]", "[3.5e38,2,3,4]"), nil, 400, "FP32"},
		"leading zero":            {body1("[1,4]", "[01,2,3,4]"), nil, 400, "byte"},
		"bare point":              {body1("[1,4]", "[1.,2,3,4]"), nil, 400, "digit"},
		"bare exponent":           {body1("[1,4]", "[1e,2,3,4]"), nil, 400, "digit"},
		"plus":                    {body1("[1,4]", "[+1,2,3,4]"), nil, 400, "number"},
		"trailing comma":          {body1("[1,4]", "[1,2,3,4,]"), nil, 400, "number"},
	}
}

// refusedBodies are wrong around the tensor.
func refusedBodies() map[string]inferCase {
	good := body1("[1,4]", "[1,2,3,4]")
	return map[string]inferCase{
		"deflate":               {good, []string{"Content-Encoding", "deflate"}, 415, "deflate"},
		"not gzip":              {good, []string{"Content-Encoding", "gzip"}, 400, "gzip"},
		"gzip cut":              {zipped(good)[:40], []string{"Content-Encoding", "gzip"}, 400, "gzip"},
		"gzip bomb":             {zipped(good + strings.Repeat(" ", 5000)), []string{"Content-Encoding", "gzip"}, 413, "4096"},
		"too large":             {good + strings.Repeat(" ", 5000), nil, 413, "4096"},
		"bytes after the end":   {good + "x", nil, 400, "byte"},
		"not UTF-8":             {with("\"id\":\"\xff\""), nil, 400, "UTF-8"},
		"binary header":         {good, []string{"Inference-Header-Content-Length", "10"}, 400, "binary"},
		"binary output":         {with(`"outputs":[{"name":"predict","parameters":{"binary_data":true}}]`), nil, 400, "binary"},
		"binary outputs":        {with(`"parameters":{"binary_data_output":true}`), nil, 400, "binary"},
		"unknown output":        {with(`"outputs":[{"name":"probability"}]`), nil, 400, "probability"},
		"output without a name": {with(`"outputs":[{}]`), nil, 400, "predict"},
		"nesting at the limit":  {deep(maxNesting - 1), nil, 400, "0 tensors"},
		"nesting beyond":        {deep(maxNesting + 1), nil, 400, "nested deeper"},
		"nesting far beyond":    {deep(1900), nil, 400, "nested deeper"},
		"two tensors":           {`{"inputs":[` + strings.Repeat(`{"name":"input0","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]},`, 1) + `{"name":"input0","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}`, nil, 400, "more than one"},
		"inputs twice":          {`{"inputs":[],"inputs":[]}`, nil, 400, "twice"},
		"inputs null":           {`{"inputs":null}`, nil, 400, "want '['"},
		"body is a list":        {`[]`, nil, 400, "want '{'"},
		"key is no string":      {`{1:2}`, nil, 400, "string"},
		"control character":     {"{\"a\nb\":1}", nil, 400, "control"},
		"unknown escape":        {`{"\q":1}`, nil, 400, "escape"},
		"short escape":          {`{"\u12":1}`, nil, 400, "hexadecimal"},
		"broken word":           {`{"x":nul}`, nil, 400, "value"},
		"parameter null":        {with(`"parameters":{"a":null}`), nil, 400, `"a"`},
		"parameter object":      {with(`"parameters":{"a":{}}`), nil, 400, `"a"`},
	}
}

func TestInfer(t *testing.T) {
	h := serveRisk(t, HandlerOptions{MaxBodyBytes: 4096})
	for _, cases := range []map[string]inferCase{acceptedBodies(), refusedTensors(), refusedBodies()} {
		for reason, c := range cases {
			checkInfer(t, h, reason, c)
		}
	}
}

func checkInfer(t *testing.T, h http.Handler, reason string, c inferCase) {
	t.Helper()
	w := send(h, "POST", "/v2/models/vehicle-risk/infer", c.body, c.header...)
	if w.Code != c.code {
		t.Errorf("%s: %d %s, want %d", reason, w.Code, w.Body, c.code)
	}
	text := w.Body.String()
	if c.code != 200 {
		checkError(t, reason, w.Body.Bytes())
		var e struct{ Error string }
		_ = json.Unmarshal(w.Body.Bytes(), &e)
		text = e.Error
	}
	if !strings.Contains(text, c.says) {
		t.Errorf("%s: answer %s does not say %s", reason, text, c.says)
	}
}

// TestServerFault: what the model cannot do is the server's fault, and an answer that JSON cannot hold is null.
func TestServerFault(t *testing.T) {
	answers := []float64{0, 7}
	errs := []error{nil, nil}
	m := constant(0)
	m.predict = func([]float64) (float64, error) { return answers[0], errs[0] }
	repo, _ := newFake(map[string]fakeStored{"m/1": {model: m}})
	if err := repo.Load(t.Context(), "m", "1"); err != nil {
		t.Fatal(err)
	}
	h := NewHandler(repo, HandlerOptions{})
	errs[0] = errors.New("out of trees")
	if w := send(h, "POST", "/v2/models/m/infer", body1("[1,2]", "[1,2]")); w.Code != 500 || !strings.Contains(w.Body.String(), "out of trees") {
		t.Errorf("%d %s, want 500 that says why", w.Code, w.Body)
	}
	errs[0], answers[0] = nil, math.Inf(-1)
	if w := send(h, "POST", "/v2/models/m/infer", body1("[1,2]", "[1,2]")); !strings.Contains(w.Body.String(), `"data":[null]`) {
		t.Errorf("%d %s, want null", w.Code, w.Body)
	}
}

// TestMetrics counts requests by code, rows, durations and CPU time with clocks that move one step each time.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	source := &fakeSource{stored: map[string]fakeStored{"m/1": {model: constant(1)}}}
	repo := NewRepository(RepositoryOptions{Source: source, Decode: source.decoder, Metrics: NewMetrics(registry)})
	if err := repo.Load(t.Context(), "m", "1"); err != nil {
		t.Fatal(err)
	}
	now, cpu := time.Unix(0, 0), time.Duration(0)
	h := NewHandler(repo, HandlerOptions{
		Now:     func() time.Time { now = now.Add(2 * time.Millisecond); return now },
		CPUTime: func() time.Duration { cpu += 250 * time.Millisecond; return cpu },
	})
	send(h, "POST", "/v2/models/m/infer", body1("[3,2]", "[1,2,3,4,5,6]"))
	send(h, "POST", "/v2/models/m/infer", body1("[1,2]", "[1,2]"))
	send(h, "POST", "/v2/models/m/infer", "{")
	send(h, "POST", "/v2/models/made-up/infer", "{}")
	want := `
# HELP siskin_inferences_total Rows predicted.
# TYPE siskin_inferences_total counter
siskin_inferences_total{model="m",version="1"} 4
# HELP siskin_serving_cpu_seconds_total CPU time of the answering threads: decoding, predicting and encoding.
# TYPE siskin_serving_cpu_seconds_total counter
siskin_serving_cpu_seconds_total{model="m",version="1"} 0.75
# HELP siskin_serving_model_info 1 for each version that answers requests, with its format.
# TYPE siskin_serving_model_info gauge
siskin_serving_model_info{format="constant",model="m",version="1"} 1
# HELP siskin_serving_model_load_failures_total Loads that failed to be fetched, decoded or verified; what was served before is still served.
# TYPE siskin_serving_model_load_failures_total counter
siskin_serving_model_load_failures_total{model="m",version="1"} 0
# HELP siskin_serving_requests_total Inference requests by HTTP status code.
# TYPE siskin_serving_requests_total counter
siskin_serving_requests_total{code="200",model="m",version="1"} 2
siskin_serving_requests_total{code="400",model="m",version="1"} 1
siskin_serving_requests_total{code="404",model="",version=""} 1
`
	err := testutil.GatherAndCompare(registry, strings.NewReader(want), "siskin_inferences_total", "siskin_serving_cpu_seconds_total",
		"siskin_serving_model_info", "siskin_serving_model_load_failures_total", "siskin_serving_requests_total")
	if err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(repo.metrics.duration); n != 1 {
		t.Errorf("%d series of durations, want 1", n)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("metric names: %v, %v", problems, err)
	}
}

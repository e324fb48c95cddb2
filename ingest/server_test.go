package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/siskin-dev/siskin/rollout"
)

const testVIN = "SSKNFLEET00000007"

// memoryLog is a Log in memory that can be told to fail.
type memoryLog struct {
	mu      sync.Mutex
	fail    error
	hold    chan struct{} // when set, Append waits for it to close
	entered chan struct{} // when set, told of each Append
	seen    map[string]Seen
	stream  []entryOf
}

type entryOf struct {
	vehicle string
	rec     Record
}

func (l *memoryLog) Append(ctx context.Context, b Batch) (Appended, error) {
	if l.entered != nil {
		l.entered <- struct{}{}
	}
	if l.hold != nil {
		select {
		case <-l.hold:
		case <-ctx.Done():
			return Appended{}, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return Appended{}, l.fail
	}
	if l.seen == nil {
		l.seen = map[string]Seen{}
	}
	key := b.Vehicle + b.Boot
	seen := l.seen[key].Clone()
	var out Appended
	for _, rec := range b.Records {
		fresh, err := true, error(nil)
		if rec.Sequenced {
			fresh, err = seen.Add(rec.Seq)
		}
		if err != nil {
			return Appended{}, err
		}
		if fresh {
			l.stream = append(l.stream, entryOf{b.Vehicle, rec})
		}
		out.Fresh = append(out.Fresh, fresh)
	}
	l.seen[key] = seen
	out.LastSeq, _ = seen.Last()
	return out, nil
}

type predictorFunc func(ctx context.Context, bucket int, inputs []float64) (Prediction, error)

func (f predictorFunc) Predict(ctx context.Context, bucket int, inputs []float64) (Prediction, error) {
	return f(ctx, bucket, inputs)
}

func constant(v float64) predictorFunc {
	return func(context.Context, int, []float64) (Prediction, error) { return Prediction{v, "v1"}, nil }
}

// newServer builds a server on a fake log; change may replace any option.
func newServer(t testing.TB, log Log, p Predictor, change func(*Options)) (*Server, *prometheus.Registry) {
	t.Helper()
	schema, err := OBD()
	if err != nil {
		t.Fatal(err)
	}
	names, err := NewPseudonymiser([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	o := Options{
		Salt: "coolant", Model: "coolant", Features: []string{"ENGINE_RUN_TIME", "Vehicle.OBD.Speed"},
		Now: func() time.Time { return time.Unix(1_700_000_000, 0) }, Workers: 4,
		Schema: schema, Pseudonyms: names, Log: log, Predictor: p, Metrics: NewMetrics(reg),
		AppendTimeout: time.Minute,
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, reg
}

// drained runs the server's workers until all that is queued is done.
func drained(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func post(s http.Handler, vin, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/v1/vehicles/"+vin+"/measurements", strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func gzipped(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// value reads one series of a counter or gauge by its labels' values.
func value(t testing.TB, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			text := m.String()
			match := f.GetName() == name
			for _, l := range labels {
				match = match && strings.Contains(text, `value:"`+l+`"`)
			}
			if match {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func TestAnswers(t *testing.T) {
	const flat = `{"seq":1,"Vehicle.OBD.Speed":83.5}`
	type args struct {
		vin, body string
		headers   []string
		fail      error
	}
	type want struct {
		status int
		result result
		body   string
		stream int
	}
	tests := map[string]struct {
		reason string
		args   args
		want   want
	}{
		"Flat":       {"the flat shape is taken", args{testVIN, flat, nil, nil}, want{202, accepted, `{"accepted":1,"duplicates":0,"last_seq":1}`, 1}},
		"VISS":       {"the VISS shape with a string value is taken", args{testVIN, `{"seq":2,"ts":"2026-01-02T03:04:05Z","data":[{"path":"Vehicle.Speed","dp":{"value":"83.5"}}]}`, nil, nil}, want{202, accepted, `"last_seq":2`, 1}},
		"VISSSingle": {"VISS sends one point without a list", args{testVIN, `{"data":{"path":"Vehicle.Speed","dp":{"value":1}}}`, nil, nil}, want{202, accepted, `"accepted":1`, 1}},
		"Array":      {"an array is many", args{testVIN, `[` + flat + `,{"seq":2,"Vehicle.OBD.Speed":1}]`, nil, nil}, want{202, accepted, `"accepted":2`, 2}},
		"NDJSON":     {"one object a line", args{testVIN, flat + "\n\n" + `{"seq":2,"Vehicle.OBD.Speed":1}` + "\n", []string{"Content-Type", "application/x-ndjson"}, nil}, want{202, accepted, `"accepted":2`, 2}},
		"Gzip":       {"gzip is unpacked", args{testVIN, gzipped(t, flat), []string{"Content-Encoding", "gzip"}, nil}, want{202, accepted, `"accepted":1`, 1}},
		"Repeated":   {"a number twice in one request counts once", args{testVIN, `[` + flat + `,` + flat + `]`, nil, nil}, want{202, accepted, `{"accepted":1,"duplicates":1,"last_seq":1}`, 1}},

		"VIN":         {"I is no letter of a VIN", args{"SSKNFLEIT00000007", flat, nil, nil}, want{400, malformedIn, "17 characters", 0}},
		"VINShort":    {"16 characters", args{testVIN[1:], flat, nil, nil}, want{400, malformedIn, "17 characters", 0}},
		"VINOther":    {"the body names another vehicle", args{testVIN, `{"vin":"X","Vehicle.Speed":1}`, nil, nil}, want{422, invalid, `"field":"vin"`, 0}},
		"NoJSON":      {"broken JSON", args{testVIN, `{"seq":`, nil, nil}, want{400, malformedIn, `"index":0`, 0}},
		"Empty":       {"nothing", args{testVIN, ``, nil, nil}, want{400, malformedIn, "1 to 256 measurements", 0}},
		"NoSignal":    {"a measurement that measures nothing", args{testVIN, `{"seq":1}`, nil, nil}, want{422, invalid, "at least one signal", 0}},
		"SeqText":     {"seq is an integer", args{testVIN, `{"seq":"1","Vehicle.Speed":1}`, nil, nil}, want{400, malformedIn, `"field":"seq"`, 0}},
		"SeqHuge":     {"seq must stay exact in any JSON reader", args{testVIN, `{"seq":9007199254740993,"Vehicle.Speed":1}`, nil, nil}, want{400, malformedIn, `2^53-1`, 0}},
		"Time":        {"ts is RFC 3339", args{testVIN, `{"ts":"yesterday","Vehicle.Speed":1}`, nil, nil}, want{422, invalid, `"field":"ts"`, 0}},
		"Boot":        {"boot stands in a key", args{testVIN, `{"boot":"a b","Vehicle.Speed":1}`, nil, nil}, want{400, malformedIn, `"field":"boot"`, 0}},
		"Boots":       {"one boot per request", args{testVIN, `[{"boot":"a","Vehicle.Speed":1},{"boot":"b","Vehicle.Speed":1}]`, nil, nil}, want{422, invalid, "one boot per request", 0}},
		"UnknownPath": {"a path outside the schema", args{testVIN, `{"Vehicle.Sped":1}`, nil, nil}, want{422, invalid, `"field":"Vehicle.Sped","value":"1","expected":"a known VSS path"`, 0}},
		"Range":       {"the range is the PID's", args{testVIN, `{"Vehicle.OBD.Speed":256}`, nil, nil}, want{422, invalid, `"field":"Vehicle.OBD.Speed","value":"256","expected":"0 to 255 km/h"`, 0}},
		"NaN":         {"NaN in a string is no measurement", args{testVIN, `{"Vehicle.OBD.Speed":"NaN"}`, nil, nil}, want{422, invalid, `0 to 255 km/h`, 0}},
		"Unit":        {"a stated unit must be the schema's", args{testVIN, `{"data":[{"path":"Vehicle.Speed","unit":"mph","dp":{"value":1}}]}`, nil, nil}, want{422, invalid, `"expected":"unit km/h"`, 0}},
		"Alias":       {"a signal and its alias are one", args{testVIN, `{"Vehicle.OBD.Speed":1,"Vehicle.Speed":2}`, nil, nil}, want{422, invalid, "each signal once", 0}},
		"NoObject":    {"an array in an array", args{testVIN, `[[]]`, nil, nil}, want{400, malformedIn, "a JSON object", 0}},
		"Spaced":      {"space between everything", args{testVIN, " { \"seq\" : 1 , \"data\" : [ { \"dp\" : { \"value\" : [1] , \"value\" : 2 } , \"path\" : \"Vehicle.Speed\" } ] , \"boot\" : \"\\u0061\" } ", nil, nil}, want{202, accepted, `"accepted":1`, 1}},
		"NoPoint":     {"a point without dp", args{testVIN, `{"data":[{"path":"Vehicle.Speed"}]}`, nil, nil}, want{400, malformedIn, "points of {path, dp", 0}},
		"OneOfMany":   {"nothing half done: one bad item refuses all, and is named", args{testVIN, `[` + flat + `,{"Vehicle.OBD.Speed":-1}]`, nil, nil}, want{422, invalid, `"index":1`, 0}},
		"Type":        {"no form data", args{testVIN, flat, []string{"Content-Type", "text/plain"}, nil}, want{415, unsupported, "application/json", 0}},
		"Encoding":    {"no brotli", args{testVIN, flat, []string{"Content-Encoding", "br"}, nil}, want{415, unsupported, "gzip", 0}},
		"NoGzip":      {"said gzip, is not", args{testVIN, flat, []string{"Content-Encoding", "gzip"}, nil}, want{400, malformedIn, "gzip", 0}},
		"Large":       {"beyond the bound", args{testVIN, strings.Repeat(" ", 2<<20), nil, nil}, want{413, tooLarge, "1048576", 0}},
		"Bomb":        {"small packed, large unpacked", args{testVIN, gzipped(t, strings.Repeat(" ", 2<<20)), []string{"Content-Encoding", "gzip"}, nil}, want{413, tooLarge, "1048576", 0}},
		"Down":        {"the log is down", args{testVIN, flat, nil, ErrUnavailable}, want{503, unavailable, "log", 0}},
		"Regression":  {"older than what is remembered", args{testVIN, flat, nil, ErrRegression}, want{409, regression, "seq", 0}},
		"LogBug":      {"an unknown failure of the log is no acknowledgement", args{testVIN, flat, nil, errors.New("?")}, want{503, unavailable, "log", 0}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			log := &memoryLog{fail: tc.args.fail}
			s, reg := newServer(t, log, constant(90), nil)
			w := post(s, tc.args.vin, tc.args.body, tc.args.headers...)
			if w.Code != tc.want.status || !strings.Contains(w.Body.String(), tc.want.body) {
				t.Errorf("%s: got %d %s, want %d with %s", tc.reason, w.Code, w.Body, tc.want.status, tc.want.body)
			}
			if len(log.stream) != tc.want.stream {
				t.Errorf("%s: %d records in the log, want %d", tc.reason, len(log.stream), tc.want.stream)
			}
			if got := value(t, reg, "siskin_ingest_measurements_total", string(tc.want.result)); got < 1 {
				t.Errorf("%s: result %q is not counted", tc.reason, tc.want.result)
			}
			if again := w.Header().Get("Retry-After"); (again != "") != (w.Code == 503 || w.Code == 429) {
				t.Errorf("%s: Retry-After %q with %d", tc.reason, again, w.Code)
			}
			if strings.Contains(w.Body.String(), testVIN) {
				t.Errorf("%s: the answer repeats the VIN", tc.reason)
			}
		})
	}
}

func TestReplayIsTold(t *testing.T) {
	log := &memoryLog{}
	s, _ := newServer(t, log, constant(90), nil)
	const body = `[{"seq":1,"Vehicle.Speed":1},{"seq":2,"Vehicle.Speed":1}]`
	first, second := post(s, testVIN, body), post(s, testVIN, body)
	if first.Code != 202 || second.Code != 200 {
		t.Errorf("got %d then %d, want 202 then 200", first.Code, second.Code)
	}
	if diff := cmp.Diff("{\"accepted\":0,\"duplicates\":2,\"last_seq\":2}\n", second.Body.String()); diff != "" {
		t.Error(diff)
	}
	if len(log.stream) != 2 {
		t.Errorf("%d records in the log, want 2", len(log.stream))
	}
}

// TestConservation sends a mix and finds every measurement exactly once among the counters (invariant 11).
func TestConservation(t *testing.T) {
	log := &memoryLog{}
	calls := 0
	p := predictorFunc(func(context.Context, int, []float64) (Prediction, error) {
		if calls++; calls%5 == 0 {
			return Prediction{}, &PredictError{ReasonStatus5xx, errors.New("500")}
		}
		return Prediction{91.5, "v1"}, nil
	})
	s, reg := newServer(t, log, p, func(o *Options) { o.Workers, o.QueuePerVehicle = 1, 20 })
	const n = 50
	for i := range n {
		rpm := 900 * min(1, i%10) // every tenth: engine off
		body := fmt.Sprintf(`{"seq":%d,"Vehicle.OBD.EngineSpeed":%d,"Vehicle.OBD.RunTime":60,"Vehicle.OBD.CoolantTemperature":90}`, i, rpm)
		if w := post(s, testVIN, body); w.Code != 202 {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
	}
	drained(t, s)
	taken := value(t, reg, "siskin_ingest_measurements_total", "accepted")
	skipped := value(t, reg, "siskin_ingest_unscored_total")
	dropped := value(t, reg, "siskin_ingest_dropped_total", dropLane)
	failed := value(t, reg, "siskin_ingest_prediction_failures_total", string(ReasonStatus5xx))
	scored := value(t, reg, "siskin_predictions_total", "v1")
	if taken != n || skipped != 5 || dropped != n-5-20 || failed != 4 || scored != 16 {
		t.Errorf("taken %v, skipped %v, dropped %v, failed %v, scored %v; want 50, 5, 25, 4, 16", taken, skipped, dropped, failed, scored)
	}
	if got := value(t, reg, "siskin_prediction_absolute_error_total"); math.Abs(got-16*1.5) > 1e-9 {
		t.Errorf("sum of errors %v, want 24", got)
	}
	if got := value(t, reg, "siskin_ingest_dropped_total"); got != dropped {
		t.Errorf("%v dropped for other reasons", got-dropped)
	}
}

// TestPredictionInputs follows one measurement to the model and its error to the metric.
func TestPredictionInputs(t *testing.T) {
	type call struct {
		bucket int
		inputs string
	}
	var got call
	p := predictorFunc(func(_ context.Context, bucket int, inputs []float64) (Prediction, error) {
		got = call{bucket, fmt.Sprint(inputs)}
		return Prediction{88, "v2"}, nil
	})
	s, reg := newServer(t, &memoryLog{}, p, nil)
	post(s, testVIN, `{"Vehicle.OBD.EngineSpeed":900,"Vehicle.OBD.RunTime":60,"Vehicle.OBD.CoolantTemperature":90}`)
	drained(t, s)
	bucket := rollout.BucketOf("coolant", s.options.Pseudonyms.Pseudonym(testVIN))
	if want := (call{bucket, "[60 NaN]"}); got != want {
		t.Errorf("asked with %v, want %v", got, want)
	}
	want := fmt.Sprintf(`
# HELP siskin_prediction_absolute_error_total Sum of |prediction - measured value|, in the unit of the model's target. Divide by siskin_predictions_total.
# TYPE siskin_prediction_absolute_error_total counter
siskin_prediction_absolute_error_total{bucket=%q,model="coolant",version="v2"} 2
`, rollout.FormatBucket(bucket))
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "siskin_prediction_absolute_error_total"); err != nil {
		t.Error(err)
	}
}

// TestOverload fills the server with requests that the log does not answer.
func TestOverload(t *testing.T) {
	log := &memoryLog{hold: make(chan struct{}), entered: make(chan struct{}, 8)}
	s, reg := newServer(t, log, constant(90), func(o *Options) { o.MaxInFlight, o.MaxPerVehicle = 2, 1 })
	var posts sync.WaitGroup
	for i := range 2 {
		posts.Go(func() { post(s, fmt.Sprintf("SSKNFLEET%08d", i), `{"Vehicle.Speed":1}`) })
		<-log.entered
	}
	if w := post(s, testVIN, `{"Vehicle.Speed":1}`); w.Code != 429 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("got %d, Retry-After %q, want 429 and 1", w.Code, w.Header().Get("Retry-After"))
	}
	close(log.hold)
	posts.Wait()
	if got := value(t, reg, "siskin_ingest_measurements_total", string(overload)); got != 1 {
		t.Errorf("%v counted as overload, want 1", got)
	}
}

func TestVehicleBusy(t *testing.T) {
	log := &memoryLog{hold: make(chan struct{}), entered: make(chan struct{}, 8)}
	s, _ := newServer(t, log, constant(90), func(o *Options) { o.MaxPerVehicle = 1 })
	var posts sync.WaitGroup
	posts.Go(func() { post(s, testVIN, `{"Vehicle.Speed":1}`) })
	<-log.entered
	if w := post(s, testVIN, `{"Vehicle.Speed":1}`); w.Code != 429 {
		t.Errorf("got %d, want 429", w.Code)
	}
	close(log.hold)
	posts.Wait()
	if w := post(s, testVIN, `{"Vehicle.Speed":1}`); w.Code != 202 {
		t.Errorf("got %d after the first one ended, want 202", w.Code)
	}
	if len(s.gate.queue) != 0 {
		t.Errorf("the gate remembers %d vehicles that are gone", len(s.gate.queue))
	}
}

func TestNewRefuses(t *testing.T) {
	tests := map[string]struct {
		reason string
		change func(*Options)
		want   string
	}{
		"Feature": {"a model whose input nobody measures cannot be asked", func(o *Options) { o.Features = []string{"OIL"} }, `"OIL"`},
		"Target":  {"nor one whose answer nobody measures", func(o *Options) { o.Target = "Vehicle.Mood" }, `"Vehicle.Mood"`},
		"Salt":    {"without a salt there are no buckets", func(o *Options) { o.Salt = "" }, "Salt"},
		"Log":     {"no log, no acknowledgement", func(o *Options) { o.Log = nil }, "Log"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := newServer(t, &memoryLog{}, constant(1), nil)
			o := s.options
			tc.change(&o)
			if _, err := New(o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want an error with %s", tc.reason, err, tc.want)
			}
		})
	}
}

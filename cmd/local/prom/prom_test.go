package prom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// t0 is when the tests' scrapes begin: any whole second.
var t0 = time.Unix(1_700_000_000, 0)

func start(t testing.TB, o Options) *Server {
	t.Helper()
	o.Dir = t.TempDir()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return s
}

func newClient(t testing.TB, s *Server) promv1.API {
	t.Helper()
	c, err := api.NewClient(api.Config{Address: s.URL()})
	if err != nil {
		t.Fatal(err)
	}
	return promv1.NewAPI(c)
}

// text is a Gatherer of the text format, to be changed between scrapes.
type text struct{ content string }

func (x *text) Gather() ([]*dto.MetricFamily, error) {
	if x.content == "fail" {
		return nil, errors.New("broken")
	}
	return decode(strings.NewReader(x.content+"\n"), expfmt.NewFormat(expfmt.TypeTextPlain), 1<<20)
}

// feed scrapes the texts, one a second, as one target.
func feed(t testing.TB, s *Server, labels map[string]string, texts ...string) *scraper {
	t.Helper()
	source := &text{}
	target := Target{Job: "test", Instance: "one", Gatherer: source, Labels: labels}
	lset, err := target.lset()
	if err != nil {
		t.Fatal(err)
	}
	sc := newScraper(target, lset, s)
	for i, content := range texts {
		source.content = content
		sc.scrape(t.Context(), t0.Add(time.Duration(i)*time.Second))
	}
	return sc
}

func query(t testing.TB, c promv1.API, q string, at time.Time) model.Value {
	t.Helper()
	v, warnings, _, err := c.Query(t.Context(), q, at)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("query %q: error %v, warnings %v", q, err, warnings)
	}
	return v
}

func TestQuery(t *testing.T) {
	s := start(t, Options{})
	c := newClient(t, s)
	var texts []string
	// A counter that grows by 2 a second and starts again after 6 s; a gauge; a histogram; a series that ends after 4 s.
	for i, n := range []int{0, 2, 4, 6, 8, 10, 1, 3, 5, 7} {
		content := fmt.Sprintf("# TYPE hits_total counter\nhits_total{code=\"200\"} %d\n# TYPE level gauge\nlevel NaN\n", n)
		content += fmt.Sprintf("# TYPE wait_seconds histogram\nwait_seconds_bucket{le=\"1\"} %d\nwait_seconds_bucket{le=\"+Inf\"} %d\nwait_seconds_sum 3\nwait_seconds_count %d\n", i, 2*i, 2*i)
		if i < 4 {
			content += "brief 1\n"
		}
		texts = append(texts, content)
	}
	feed(t, s, map[string]string{"pod": "p"}, texts...)
	end := t0.Add(9 * time.Second)

	for name, tc := range map[string]struct {
		reason string
		query  string
		at     time.Time
		want   string
	}{
		"Instant": {
			reason: "target labels are added", query: "hits_total", at: end,
			want: `hits_total{code="200", instance="one", job="test", pod="p"} => 7 @[1700000009]`,
		},
		"Scalar":   {reason: "scalars are read", query: "1 + 1", at: end, want: "scalar: 2 @[1700000009]"},
		"Empty":    {reason: "nothing is an empty vector", query: "nothing", at: end, want: ""},
		"NaN":      {reason: "NaN comes through", query: "sum(level)", at: end, want: "{} => NaN @[1700000009]"},
		"Inf":      {reason: "infinity comes through", query: "sum(hits_total) / 0", at: end, want: "{} => +Inf @[1700000009]"},
		"Increase": {reason: "a counter that starts again is no fall", query: "round(sum(increase(hits_total[8s])), 0.001)", at: end, want: "{} => 14.857 @[1700000009]"},
		"Resets":   {reason: "the reset is seen", query: "sum(resets(hits_total[10s]))", at: end, want: "{} => 1 @[1700000009]"},
		"Bucket":   {reason: "bounds are normalised as Prometheus does", query: `wait_seconds_bucket{le="1.0"}`, at: end, want: `wait_seconds_bucket{instance="one", job="test", le="1.0", pod="p"} => 9 @[1700000009]`},
		"Quantile": {reason: "histograms work", query: "histogram_quantile(0.25, sum by (le) (rate(wait_seconds_bucket[5s])))", at: end, want: "{} => 0.5 @[1700000009]"},
		"Alive":    {reason: "a series lasts to its last scrape", query: "sum(brief)", at: t0.Add(3 * time.Second), want: "{} => 1 @[1700000003]"},
		"Stale":    {reason: "a series that vanished has ended at the next scrape", query: "sum(brief)", at: t0.Add(4 * time.Second), want: ""},
		"Up":       {reason: "a target that answers is up", query: "sum(up)", at: end, want: "{} => 1 @[1700000009]"},
		"Samples":  {reason: "samples are counted", query: "sum(scrape_samples_scraped)", at: end, want: "{} => 6 @[1700000009]"},
		"Raw": {
			reason: "a range selector gives the samples as they are", query: "hits_total[3s]", at: end,
			want: "hits_total{code=\"200\", instance=\"one\", job=\"test\", pod=\"p\"} =>\n3 @[1700000007]\n5 @[1700000008]\n7 @[1700000009]",
		},
		"RawOfStale": {
			reason: "staleness markers are no samples", query: "sum(count_over_time(brief[10s]))", at: end,
			want: "{} => 4 @[1700000009]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := query(t, c, tc.query, tc.at)
			if diff := cmp.Diff(tc.want, v.String()); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", tc.reason, tc.query, diff)
			}
		})
	}
}

func TestQueryRange(t *testing.T) {
	s := start(t, Options{Lookback: 2 * time.Second})
	c := newClient(t, s)
	feed(t, s, nil, "level 1", "level 2", "level 3")
	v, _, _, err := c.QueryRange(t.Context(), "sum(level)", promv1.Range{Start: t0, End: t0.Add(6 * time.Second), Step: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	m, ok := v.(model.Matrix)
	if !ok || len(m) != 1 {
		t.Fatalf("got %v, want one series", v)
	}
	var got []float64
	for _, p := range m[0].Values {
		got = append(got, float64(p.Value))
	}
	// Every half second, and for less than the lookback of 2 s after the last sample.
	if diff := cmp.Diff([]float64{1, 1, 2, 2, 3, 3, 3, 3}, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

func TestMetadataEndpoints(t *testing.T) {
	s := start(t, Options{})
	c := newClient(t, s)
	feed(t, s, map[string]string{"pod": "p"}, `hits_total{code="200"} 1`+"\n"+`hits_total{code="500"} 1`)
	names, _, _, err := c.LabelNames(t.Context(), []string{"hits_total"}, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(model.LabelNames{"__name__", "code", "instance", "job", "pod"}, names); diff != "" {
		t.Errorf("label names (-want +got):\n%s", diff)
	}
	values, _, _, err := c.LabelValues(t.Context(), "code", nil, t0, t0.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(model.LabelValues{"200", "500"}, values); diff != "" {
		t.Errorf("label values (-want +got):\n%s", diff)
	}
	series, _, _, err := c.Series(t.Context(), []string{`hits_total{code="500"}`, "up"}, t0, t0.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	want := []model.LabelSet{
		{"__name__": "hits_total", "code": "500", "instance": "one", "job": "test", "pod": "p"},
		{"__name__": "up", "instance": "one", "job": "test", "pod": "p"},
	}
	if diff := cmp.Diff(want, series); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestBadInput(t *testing.T) {
	s := start(t, Options{})
	for name, tc := range map[string]struct {
		path string
		code int
		kind string
		want string
	}{
		"NoQuery":      {path: "/api/v1/query", code: 400, kind: "bad_data", want: "no expression found"},
		"Syntax":       {path: "/api/v1/query?query=sum(", code: 400, kind: "bad_data", want: "unclosed left parenthesis"},
		"Function":     {path: "/api/v1/query?query=nope(up)", code: 400, kind: "bad_data", want: "unknown function"},
		"Time":         {path: "/api/v1/query?query=up&time=noon", code: 400, kind: "bad_data", want: `invalid parameter \"time\"`},
		"TimeNaN":      {path: "/api/v1/query?query=up&time=NaN", code: 400, kind: "bad_data", want: "out of range"},
		"TimeHuge":     {path: "/api/v1/query?query=up&time=1e300", code: 400, kind: "bad_data", want: "out of range"},
		"Timeout":      {path: "/api/v1/query?query=up&timeout=-1s", code: 400, kind: "bad_data", want: `invalid parameter \"timeout\"`},
		"Lookback":     {path: "/api/v1/query?query=up&lookback_delta=x", code: 400, kind: "bad_data", want: "lookback_delta"},
		"Execution":    {path: "/api/v1/query?query=" + url.QueryEscape(`label_replace(vector(1), "a", "$1", "b", "(")`), code: 422, kind: "execution", want: "invalid regular expression"},
		"NoStart":      {path: "/api/v1/query_range?query=up&end=2&step=1", code: 400, kind: "bad_data", want: `invalid parameter \"start\"`},
		"EndFirst":     {path: "/api/v1/query_range?query=up&start=2&end=1&step=1", code: 400, kind: "bad_data", want: "end timestamp"},
		"NoStep":       {path: "/api/v1/query_range?query=up&start=1&end=2", code: 400, kind: "bad_data", want: "step"},
		"ZeroStep":     {path: "/api/v1/query_range?query=up&start=1&end=2&step=0", code: 400, kind: "bad_data", want: "step"},
		"ManyPoints":   {path: "/api/v1/query_range?query=up&start=0&end=1e6&step=1", code: 400, kind: "bad_data", want: "11000 points"},
		"RangeOfRange": {path: "/api/v1/query_range?query=up[5s]&start=1&end=2&step=1", code: 400, kind: "bad_data", want: "must be Scalar or instant Vector"},
		"NoMatch":      {path: "/api/v1/series", code: 400, kind: "bad_data", want: "match[]"},
		"MatchAll":     {path: "/api/v1/series?match[]={a=~%22.*%22}", code: 400, kind: "bad_data", want: "non-empty matcher"},
		"MatchSyntax":  {path: "/api/v1/labels?match[]=up[", code: 400, kind: "bad_data", want: "match[]"},
		"Form":         {path: "/api/v1/query?query=%zz", code: 400, kind: "bad_data", want: "form"},
		"UnknownPath":  {path: "/api/v1/rules", code: 404, kind: "not_found", want: "no such endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := get(t, s.URL()+tc.path)
			if code != tc.code || !strings.Contains(body, `"status":"error","errorType":"`+tc.kind+`"`) || !strings.Contains(body, tc.want) {
				t.Errorf("GET %s: %d %s\nwant %d, type %s, text %s", tc.path, code, body, tc.code, tc.kind, tc.want)
			}
		})
	}
}

// stuck is a database that answers when the query's context has ended.
type stuck struct{ noop }

// noop is storage's querier of nothing, under a name that leaves the method Querier free.
type noop = storage.LabelQuerier

func (s stuck) Querier(int64, int64) (storage.Querier, error) { return s, nil }

func (s stuck) Select(ctx context.Context, _ bool, _ *storage.SelectHints, _ ...*labels.Matcher) storage.SeriesSet {
	<-ctx.Done()
	return storage.ErrSeriesSet(ctx.Err())
}

func TestQueryEndsInTime(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		server time.Duration
		query  string
		want   string
	}{
		"Request": {reason: "the request's timeout holds", server: time.Hour, query: "query=up&timeout=1ms", want: `"errorType":"timeout"`},
		"Server":  {reason: "the server's timeout holds", server: time.Millisecond, query: "query=up", want: `"errorType":"timeout"`},
		"Longer":  {reason: "a request cannot ask for more", server: time.Millisecond, query: "query=up&timeout=1h", want: `"errorType":"timeout"`},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(nil, Options{QueryTimeout: tc.server, Interval: time.Second})
			a.db = stuck{storage.NoopQuerier()}
			w := httptest.NewRecorder()
			a.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/query?"+tc.query, nil))
			if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), tc.want) {
				t.Errorf("%s: %d %s, want 503 and %s", tc.reason, w.Code, w.Body, tc.want)
			}
		})
	}
}

func get(t testing.TB, target string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestHealth(t *testing.T) {
	s := start(t, Options{})
	for _, path := range []string{"/-/healthy", "/-/ready"} {
		if code, _ := get(t, s.URL()+path); code != http.StatusOK {
			t.Errorf("GET %s: %d, want 200", path, code)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		o    Options
		want string
	}{
		"NoDir":    {want: "Dir must be given"},
		"Open":     {o: Options{Dir: "unused", Listen: "0.0.0.0:0"}, want: "loopback"},
		"Negative": {o: Options{Dir: "unused", Interval: -time.Second}, want: "must be positive"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Start(t.Context(), tc.o)
			if err == nil {
				_ = s.Stop()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

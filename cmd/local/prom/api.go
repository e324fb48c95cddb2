package prom

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

const (
	// maxBody bounds the form of a POST; a query of a megabyte is a mistake.
	maxBody = 1 << 20
	// maxPoints bounds a range query's points per series, as in Prometheus.
	maxPoints = 11_000
	// maxNotes bounds the warnings and the infos of one answer, as in Prometheus.
	maxNotes = 10
)

// queryAPI answers the HTTP API.
type queryAPI struct {
	db     storage.Queryable
	engine *promql.Engine
	parser parser.Parser
	now    func() time.Time
}

// answer is the body of every response.
type answer struct {
	Status    string   `json:"status"`
	Data      any      `json:"data,omitempty"`
	ErrorType string   `json:"errorType,omitempty"`
	Error     string   `json:"error,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	Infos     []string `json:"infos,omitempty"`
}

// queryData is the data of a query's answer.
type queryData struct {
	ResultType parser.ValueType `json:"resultType"`
	Result     parser.Value     `json:"result"`
}

// endpoint computes the data of an answer.
type endpoint func(r *http.Request) (any, annotations.Annotations, error)

func (a *queryAPI) handler() http.Handler {
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("Prometheus is up.\n")) }
	mux.HandleFunc("GET /-/healthy", ok)
	mux.HandleFunc("GET /-/ready", ok)
	for path, e := range map[string]endpoint{
		"/api/v1/query":       a.query,
		"/api/v1/query_range": a.queryRange,
		"/api/v1/series":      a.series,
		"/api/v1/labels":      a.labelNames,
	} {
		mux.HandleFunc("GET "+path, e.serve)
		mux.HandleFunc("POST "+path, e.serve)
	}
	mux.HandleFunc("GET /api/v1/label/{name}/values", endpoint(a.labelValues).serve)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusNotFound, answer{Status: "error", ErrorType: "not_found", Error: "no such endpoint"})
	})
	return mux
}

func (e endpoint) serve(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		writeError(w, badInput("form", err))
		return
	}
	data, notes, err := e(r)
	if err != nil {
		writeError(w, err)
		return
	}
	a := answer{Status: "success", Data: data}
	a.Warnings, a.Infos = notes.AsStrings(r.FormValue("query"), maxNotes, maxNotes)
	write(w, http.StatusOK, a)
}

func write(w http.ResponseWriter, code int, a answer) {
	body, err := json.Marshal(a)
	if err != nil {
		code = http.StatusInternalServerError
		body = []byte(`{"status":"error","errorType":"internal","error":"encoding the answer"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client has gone if this fails
}

// writeError maps an error to Prometheus' types and codes.
func writeError(w http.ResponseWriter, err error) {
	kind, code := "execution", http.StatusUnprocessableEntity
	var (
		input    *inputError
		tooLarge *http.MaxBytesError
		canceled promql.ErrQueryCanceled
		timeout  promql.ErrQueryTimeout
		broken   promql.ErrStorage
	)
	switch {
	case errors.As(err, &tooLarge):
		kind, code = "bad_data", http.StatusRequestEntityTooLarge
	case errors.As(err, &input):
		kind, code = "bad_data", http.StatusBadRequest
	case errors.As(err, &canceled), errors.Is(err, context.Canceled):
		kind, code = "canceled", http.StatusServiceUnavailable
	case errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded):
		kind, code = "timeout", http.StatusServiceUnavailable
	case errors.As(err, &broken):
		kind, code = "internal", http.StatusInternalServerError
	}
	write(w, code, answer{Status: "error", ErrorType: kind, Error: err.Error()})
}

func (a *queryAPI) query(r *http.Request) (any, annotations.Annotations, error) {
	at, err := timeParam(r, "time", a.now())
	if err != nil {
		return nil, nil, err
	}
	opts, err := queryOpts(r)
	if err != nil {
		return nil, nil, err
	}
	q, err := a.engine.NewInstantQuery(r.Context(), a.db, opts, r.FormValue("query"), at)
	if err != nil {
		return nil, nil, badInput("query", err)
	}
	return a.exec(r, q)
}

func (a *queryAPI) queryRange(r *http.Request) (any, annotations.Annotations, error) {
	start, err := requiredTime(r, "start")
	if err != nil {
		return nil, nil, err
	}
	end, err := requiredTime(r, "end")
	if err != nil {
		return nil, nil, err
	}
	step, err := durationParam(r, "step", 0)
	if err != nil {
		return nil, nil, err
	}
	if err := checkRange(start, end, step); err != nil {
		return nil, nil, err
	}
	opts, err := queryOpts(r)
	if err != nil {
		return nil, nil, err
	}
	q, err := a.engine.NewRangeQuery(r.Context(), a.db, opts, r.FormValue("query"), start, end, step)
	if err != nil {
		return nil, nil, badInput("query", err)
	}
	return a.exec(r, q)
}

// exec runs a query within the request's timeout. It encodes the result before the query's memory is reused.
func (a *queryAPI) exec(r *http.Request, q promql.Query) (any, annotations.Annotations, error) {
	defer q.Close()
	timeout, err := durationParam(r, "timeout", 0)
	if err != nil {
		return nil, nil, err
	}
	ctx := r.Context()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	res := q.Exec(ctx)
	if res.Err != nil {
		return nil, nil, res.Err
	}
	data, err := json.Marshal(queryData{ResultType: res.Value.Type(), Result: notNil(res.Value)})
	return json.RawMessage(data), res.Warnings, err
}

// notNil has an empty result encoded as [], not null.
func notNil(v parser.Value) parser.Value {
	switch v := v.(type) {
	case promql.Vector:
		if v == nil {
			return promql.Vector{}
		}
	case promql.Matrix:
		if v == nil {
			return promql.Matrix{}
		}
	}
	return v
}

func (a *queryAPI) series(r *http.Request) (any, annotations.Annotations, error) {
	sel, err := a.selection(r)
	if err != nil {
		return nil, nil, err
	}
	if len(sel.matchers) == 0 {
		return nil, nil, badInput("match[]", errors.New("want at least one"))
	}
	q, err := a.db.Querier(sel.start, sel.end)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	hints := &storage.SelectHints{Start: sel.start, End: sel.end, Func: "series"} // "series" reads no samples
	sets := make([]storage.SeriesSet, 0, len(sel.matchers))
	for _, m := range sel.matchers {
		sets = append(sets, q.Select(r.Context(), true, hints, m...))
	}
	all := storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	found := []labels.Labels{}
	for all.Next() {
		found = append(found, all.At().Labels())
	}
	return found, all.Warnings(), all.Err()
}

func (a *queryAPI) labelNames(r *http.Request) (any, annotations.Annotations, error) {
	return a.names(r, func(q storage.Querier, m []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelNames(r.Context(), nil, m...)
	})
}

func (a *queryAPI) labelValues(r *http.Request) (any, annotations.Annotations, error) {
	name := r.PathValue("name")
	if name == "" {
		return nil, nil, badInput("name", errors.New("want a label name"))
	}
	return a.names(r, func(q storage.Querier, m []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(r.Context(), name, nil, m...)
	})
}

// names collects what list returns for each selector of the request, or for everything without one.
func (a *queryAPI) names(r *http.Request, list func(storage.Querier, []*labels.Matcher) ([]string, annotations.Annotations, error)) (any, annotations.Annotations, error) {
	sel, err := a.selection(r)
	if err != nil {
		return nil, nil, err
	}
	q, err := a.db.Querier(sel.start, sel.end)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	if len(sel.matchers) == 0 {
		sel.matchers = [][]*labels.Matcher{nil}
	}
	found := map[string]bool{}
	var notes annotations.Annotations
	for _, m := range sel.matchers {
		names, more, err := list(q, m)
		if err != nil {
			return nil, nil, err
		}
		notes.Merge(more)
		for _, n := range names {
			found[n] = true
		}
	}
	return append([]string{}, slices.Sorted(maps.Keys(found))...), notes, nil
}

package serving

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// HandlerOptions configure NewHandler. The zero value works.
type HandlerOptions struct {
	// Name and Version of the server in its metadata. Defaults: "siskin" and "dev".
	Name, Version string
	// MaxBodyBytes bounds a request body, compressed and not. Default: 64 MiB.
	MaxBodyBytes int64
	// Now is the clock of request durations. Default: time.Now.
	Now func() time.Time
	// CPUTime reads the CPU time that the calling thread has used so far. Default: ThreadCPUTime.
	CPUTime func() time.Duration
}

const defaultMaxBodyBytes = 64 << 20

type handler struct {
	HandlerOptions
	repo *Repository
}

// NewHandler serves the models of repo over the REST form of the Open Inference Protocol v2.
func NewHandler(repo *Repository, o HandlerOptions) http.Handler {
	if o.Name == "" {
		o.Name = "siskin"
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = defaultMaxBodyBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CPUTime == nil {
		o.CPUTime = ThreadCPUTime
	}
	return &handler{HandlerOptions: o, repo: repo}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve, method := h.route(r.URL)
	switch {
	case serve == nil:
		writeError(w, &statusError{http.StatusNotFound, fmt.Sprintf("no such path %.200q", r.URL.Path)})
	case r.Method != method && (method != http.MethodGet || r.Method != http.MethodHead):
		w.Header().Set("Allow", method)
		writeError(w, &statusError{http.StatusMethodNotAllowed, fmt.Sprintf("method %.20q, want %s", r.Method, method)})
	default:
		serve(w, r)
	}
}

// route finds what serves a path and by which method. Names are unescaped segment by segment, so that a name may hold
// any character.
func (h *handler) route(u *url.URL) (serve http.HandlerFunc, method string) {
	path, ok := strings.CutPrefix(strings.TrimSuffix(u.EscapedPath(), "/"), "/v2")
	if !ok || path != "" && path[0] != '/' {
		return nil, ""
	}
	var parts [6]string
	n := 0
	for seg := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		name, err := url.PathUnescape(seg)
		if err != nil || n == len(parts) {
			return nil, ""
		}
		parts[n] = name
		n++
	}
	switch {
	case path == "":
		return h.serverMetadata, http.MethodGet
	case n == 2 && parts[0] == "health" && parts[1] == "live":
		return h.live, http.MethodGet
	case n == 2 && parts[0] == "health" && parts[1] == "ready":
		return h.ready, http.MethodGet
	case n == 1 && parts[0] == "models":
		return h.models, http.MethodGet
	case n == 2 && parts[0] == "repository" && parts[1] == "index":
		return h.index, http.MethodPost
	case n >= 2 && parts[0] == "models" && parts[1] != "":
		return h.routeModel(parts[1], parts[2:n])
	}
	return nil, ""
}

// routeModel finds what serves the rest of a path below one model.
func (h *handler) routeModel(name string, rest []string) (serve http.HandlerFunc, method string) {
	version := ""
	if len(rest) >= 2 && rest[0] == "versions" && rest[1] != "" {
		version, rest = rest[1], rest[2:]
	}
	switch {
	case len(rest) == 0:
		return func(w http.ResponseWriter, _ *http.Request) { h.modelMetadata(w, name, version) }, http.MethodGet
	case len(rest) == 1 && rest[0] == "ready":
		return func(w http.ResponseWriter, _ *http.Request) { h.modelReady(w, name, version) }, http.MethodGet
	case len(rest) == 1 && rest[0] == "infer":
		return func(w http.ResponseWriter, r *http.Request) { h.infer(w, r, name, version) }, http.MethodPost
	}
	return nil, ""
}

func (h *handler) serverMetadata(w http.ResponseWriter, _ *http.Request) {
	writeValue(w, http.StatusOK, struct {
		Name       string   `json:"name"`
		Version    string   `json:"version"`
		Extensions []string `json:"extensions"`
	}{h.Name, h.Version, []string{"model_repository"}})
}

func (h *handler) live(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, []byte(`{"live":true}`))
}

// ready tells whether every expected version answers.
func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	if err := h.repo.Ready(); err != nil {
		writeError(w, lookupStatus(err))
		return
	}
	writeJSON(w, http.StatusOK, []byte(`{"ready":true}`))
}

func (h *handler) models(w http.ResponseWriter, _ *http.Request) {
	names := []string{}
	for _, s := range h.repo.List() {
		if len(names) == 0 || names[len(names)-1] != s.Name {
			names = append(names, s.Name)
		}
	}
	writeValue(w, http.StatusOK, map[string][]string{"models": names})
}

func (h *handler) index(w http.ResponseWriter, _ *http.Request) {
	writeValue(w, http.StatusOK, h.repo.List())
}

func (h *handler) modelMetadata(w http.ResponseWriter, name, version string) {
	m, err := h.repo.Lookup(name, version)
	if err != nil {
		writeError(w, lookupStatus(err))
		return
	}
	versions := []string{m.Version}
	if version == "" {
		versions = h.repo.versions(name)
	}
	writeValue(w, http.StatusOK, describe(name, versions, m.Spec))
}

func (h *handler) modelReady(w http.ResponseWriter, name, version string) {
	if _, err := h.repo.Lookup(name, version); err != nil {
		writeError(w, lookupStatus(err))
		return
	}
	writeValue(w, http.StatusOK, struct {
		Name  string `json:"name"`
		Ready bool   `json:"ready"`
	}{name, true})
}

// statusError is an error with the HTTP status that tells it to the client.
type statusError struct {
	code    int
	message string
}

// Error implements error.
func (e *statusError) Error() string { return e.message }

func writeJSON(w http.ResponseWriter, code int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	// A write fails when the client has gone; nobody is left to tell.
	_, _ = w.Write(body)
}

func writeValue(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		writeError(w, &statusError{http.StatusInternalServerError, "encoding the answer: " + err.Error()})
		return
	}
	writeJSON(w, code, body)
}

func writeError(w http.ResponseWriter, e *statusError) {
	switch e.code {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnsupportedMediaType:
		w.Header().Set("Accept-Encoding", "gzip")
	}
	writeJSON(w, e.code, append(append([]byte(`{"error":`), quote(e.message)...), '}'))
}

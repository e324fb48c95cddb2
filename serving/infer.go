package serving

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// maxPooledBytes bounds what one call keeps for the next, so that one large batch does not stay in memory for ever.
const maxPooledBytes = 1 << 20

// call holds the memory of one inference request.
type call struct {
	body   bytes.Buffer
	plain  bytes.Buffer // the body after gunzip
	req    request
	out    []float64
	answer []byte
}

func newCallPool() *sync.Pool { return &sync.Pool{New: func() any { return new(call) }} }

// keep tells whether the call is small enough to be used again.
func (c *call) keep() bool {
	return c.body.Cap()+c.plain.Cap()+8*cap(c.req.values)+8*cap(c.out)+cap(c.answer) <= maxPooledBytes
}

// infer answers one inference request and accounts for it. A model that does not exist is counted without its name,
// which the client made up and which would make a new series each time.
func (h *handler) infer(w http.ResponseWriter, r *http.Request, name, version string) {
	start := h.Now()
	m, err := h.repo.Lookup(name, version)
	if err != nil {
		e := lookupStatus(err)
		h.repo.metrics.refused(e.code)
		writeError(w, e)
		return
	}
	c := h.repo.calls.Get().(*call)
	failure := h.readBody(w, r, &c.body)
	if failure == nil {
		failure = h.account(m, c, r.Header)
	}
	code := http.StatusOK
	if failure != nil {
		code = failure.code
		writeError(w, failure)
	} else {
		writeJSON(w, code, c.answer)
	}
	m.metrics.request(code, h.Now().Sub(start))
	if c.keep() {
		h.repo.calls.Put(c)
	}
}

// account runs the part of a request that computes - decode, predict, encode - on one thread, and charges the CPU time
// which that thread spent to the model, whether the request succeeded or not. Waiting for the network is not in it, so
// the goroutine does not block while it holds the thread.
func (h *handler) account(m *Loaded, c *call, header http.Header) *statusError {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := h.CPUTime()
	failure := h.compute(m, c, header)
	m.metrics.cpu(h.CPUTime() - start)
	return failure
}

func (h *handler) compute(m *Loaded, c *call, header http.Header) *statusError {
	body, err := h.decompress(c, header.Get("Content-Encoding"))
	if err == nil {
		err = decodeRequest(body, len(m.Spec.Features), &c.req)
	}
	if err != nil {
		return asStatus(err)
	}
	if cap(c.out) < c.req.rows {
		c.out = make([]float64, c.req.rows)
	}
	c.out = c.out[:c.req.rows]
	if err := m.Model.Predict(c.req.values, c.out); err != nil {
		return &statusError{http.StatusInternalServerError, fmt.Sprintf("predicting with %q version %q: %v", m.Name, m.Version, err)}
	}
	c.answer = appendResponse(c.answer[:0], m, c.req.id, c.out)
	m.metrics.inferences(c.req.rows)
	return nil
}

// readBody reads the body as it came, bounded.
func (h *handler) readBody(w http.ResponseWriter, r *http.Request, to *bytes.Buffer) *statusError {
	to.Reset()
	if r.Header.Get("Inference-Header-Content-Length") != "" {
		return &statusError{http.StatusBadRequest, "reading header \"Inference-Header-Content-Length\": binary tensors are not supported"}
	}
	if _, err := to.ReadFrom(http.MaxBytesReader(w, r.Body, h.MaxBodyBytes)); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return h.tooLarge()
		}
		return &statusError{http.StatusBadRequest, "reading body: " + err.Error()}
	}
	return nil
}

func (h *handler) tooLarge() *statusError {
	return &statusError{http.StatusRequestEntityTooLarge, fmt.Sprintf("reading body: more than %d bytes", h.MaxBodyBytes)}
}

// decompress returns the body without its Content-Encoding.
func (h *handler) decompress(c *call, encoding string) ([]byte, error) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return c.body.Bytes(), nil
	case "gzip":
	default:
		return nil, &statusError{http.StatusUnsupportedMediaType, fmt.Sprintf("content encoding %.40q, want \"gzip\" or none", encoding)}
	}
	zr, err := gzip.NewReader(&c.body)
	if err != nil {
		return nil, badRequest("reading gzip: %v", err)
	}
	c.plain.Reset()
	n, err := c.plain.ReadFrom(io.LimitReader(zr, h.MaxBodyBytes+1))
	if err != nil {
		return nil, badRequest("reading gzip: %v", err)
	}
	if n > h.MaxBodyBytes {
		return nil, h.tooLarge()
	}
	return c.plain.Bytes(), nil
}

// asStatus returns err's own status, or 500 for an error that nobody expected.
func asStatus(err error) *statusError {
	if s, ok := errors.AsType[*statusError](err); ok {
		return s
	}
	return &statusError{http.StatusInternalServerError, err.Error()}
}

func lookupStatus(err error) *statusError {
	code := http.StatusNotFound
	if errors.Is(err, ErrNotReady) {
		code = http.StatusServiceUnavailable
	}
	return &statusError{code, err.Error()}
}

// appendResponse writes the answer to an inference request. m's name and version are already JSON.
func appendResponse(dst []byte, m *Loaded, id []byte, out []float64) []byte {
	dst = append(dst, m.answerHead...)
	if id != nil {
		dst = append(append(dst, `,"id":`...), id...)
	}
	dst = append(dst, `,"outputs":[{"name":"`+outputName+`","datatype":"`...)
	dst = append(append(dst, m.Spec.Output...), `","shape":[`...)
	dst = append(strconv.AppendInt(dst, int64(len(out)), 10), `],"data":[`...)
	bits := 64
	if m.Spec.Output == FP32 {
		bits = 32
	}
	for i, v := range out {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendNumber(dst, v, bits)
	}
	return append(dst, "]}]}"...)
}

// appendNumber writes the shortest decimal that reads back as v; JSON has no NaN and no infinity, so those are null.
func appendNumber(dst []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, bits)
}

// answerHead is the part of an answer that a model always has.
func answerHead(name, version string) []byte {
	return append(append(append([]byte(`{"model_name":`), quote(name)...), `,"model_version":`...), quote(version)...)
}

// quote writes s as a JSON string. A string always marshals.
func quote(s string) []byte {
	b, _ := json.Marshal(s)
	return b
}

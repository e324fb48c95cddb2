package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// bucketHeader carries the vehicle's bucket to the mesh, which chooses the variant by it.
const bucketHeader = "x-siskin-bucket"

// maxAnswerBytes bounds a model server's answer: one row's prediction is a few hundred bytes.
const maxAnswerBytes = 64 << 10

// OIPOptions configure a client of a model server that speaks the Open Inference Protocol v2 over REST.
type OIPOptions struct {
	// Gateway is where requests go, such as http://127.0.0.1:8080. Required.
	Gateway string
	// Host is the Host header, by which the mesh knows the service. Default: the gateway's own.
	Host string
	// Model is the model's name. Required.
	Model string
	// Input is the name of the input tensor. Default "input0".
	Input string
	// Timeout bounds one prediction. Default 5 s: the mesh, not this client, is to decide what is too slow.
	Timeout time.Duration
	// MaxConns bounds connections, and so predictions at one time. Default 256.
	MaxConns int
}

// OIP asks a model server over REST. It implements Predictor.
type OIP struct {
	options OIPOptions
	base    string
	client  *http.Client
	prefix  []byte
}

// NewOIP checks the options. It does not connect.
func NewOIP(o OIPOptions) (*OIP, error) {
	u, err := url.Parse(o.Gateway)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("reading gateway %q: expected http://host:port", o.Gateway)
	}
	if o.Model == "" {
		return nil, errors.New("reading the model's name: expected one")
	}
	o.Input = orElse(o.Input, "input0")
	o.Timeout = orElse(o.Timeout, 5*time.Second)
	o.MaxConns = orElse(o.MaxConns, 256)
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
		MaxConnsPerHost:     o.MaxConns,
		MaxIdleConnsPerHost: o.MaxConns,
		IdleConnTimeout:     90 * time.Second,
	}
	name, err := json.Marshal(o.Input)
	if err != nil {
		return nil, fmt.Errorf("encoding input %q: %w", o.Input, err)
	}
	return &OIP{
		options: o,
		base:    strings.TrimSuffix(o.Gateway, "/") + "/v2/models/" + url.PathEscape(o.Model),
		client:  &http.Client{Transport: transport},
		prefix:  fmt.Appendf(nil, `{"inputs":[{"name":%s,"datatype":"FP32","shape":[1,`, name),
	}, nil
}

func orElse[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// Close drops idle connections.
func (c *OIP) Close() { c.client.CloseIdleConnections() }

// Predict implements Predictor. Every error is a *PredictError. There is no retry: a failed prediction is evidence.
func (c *OIP) Predict(ctx context.Context, bucket int, inputs []float64) (Prediction, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	body := c.appendRequest(make([]byte, 0, 256), inputs)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/infer", bytes.NewReader(body))
	if err != nil {
		return Prediction{}, &PredictError{ReasonConnection, err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(bucketHeader, rollout.FormatBucket(bucket))
	answer, err := c.do(req)
	if err != nil {
		return Prediction{}, err
	}
	p, err := readPrediction(answer)
	if err != nil {
		return Prediction{}, &PredictError{ReasonBadAnswer, err}
	}
	return p, nil
}

// appendRequest writes one row. The tensor is FP32, so each value is written as the shortest decimal of its float32.
func (c *OIP) appendRequest(dst []byte, inputs []float64) []byte {
	dst = append(dst, c.prefix...)
	dst = strconv.AppendInt(dst, int64(len(inputs)), 10)
	dst = append(dst, `],"data":[`...)
	for i, v := range inputs {
		if i > 0 {
			dst = append(dst, ',')
		}
		if math.IsNaN(v) {
			dst = append(dst, "null"...)
			continue
		}
		dst = strconv.AppendFloat(dst, v, 'g', -1, 32)
	}
	return append(dst, "]}]}"...)
}

// do sends a request and returns the body of a 200.
func (c *OIP) do(req *http.Request) ([]byte, error) {
	if c.options.Host != "" {
		req.Host = c.options.Host
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, transportError(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, transportError(err)
	}
	status := errors.New("answered " + resp.Status)
	switch {
	case resp.StatusCode >= 500:
		return nil, &PredictError{ReasonStatus5xx, status}
	case resp.StatusCode == http.StatusTooManyRequests:
		return nil, &PredictError{ReasonStatus429, status}
	case resp.StatusCode >= 400:
		return nil, &PredictError{ReasonStatus4xx, status}
	case resp.StatusCode != http.StatusOK || len(body) > maxAnswerBytes:
		return nil, &PredictError{ReasonBadAnswer, fmt.Errorf("%w with %d bytes", status, len(body))}
	}
	return body, nil
}

func transportError(err error) error {
	var ne net.Error
	if errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &ne) && ne.Timeout()) {
		return &PredictError{ReasonTimeout, err}
	}
	return &PredictError{ReasonConnection, err}
}

// readPrediction takes the one number of the first output, flat or nested.
func readPrediction(body []byte) (Prediction, error) {
	var answer struct {
		Version string `json:"model_version"`
		Outputs []struct {
			Data json.RawMessage `json:"data"`
		} `json:"outputs"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Prediction{}, fmt.Errorf("reading answer: %w", err)
	}
	if v := answer.Version; v == "" || len(v) > maxNameBytes || !plain(v) {
		return Prediction{}, fmt.Errorf("reading model_version %.64q: expected a name", v)
	}
	if len(answer.Outputs) == 0 {
		return Prediction{}, errors.New("reading outputs: expected one")
	}
	data := bytes.Trim(answer.Outputs[0].Data, "[] \t\r\n")
	v, err := strconv.ParseFloat(string(data), 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return Prediction{}, fmt.Errorf("reading output %.64q: expected one finite number", data)
	}
	return Prediction{Value: v, Version: answer.Version}, nil
}

// Features asks the model server for the model's feature names, in order: parameters.feature_names of the model's
// metadata, a list or one comma-separated string.
func (c *OIP) Features(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base, nil)
	if err != nil {
		return nil, fmt.Errorf("asking for metadata of %q: %w", c.options.Model, err)
	}
	body, err := c.do(req)
	if err != nil {
		return nil, fmt.Errorf("asking for metadata of %q: %w", c.options.Model, err)
	}
	var meta struct {
		Parameters struct {
			Names json.RawMessage `json:"feature_names"`
		} `json:"parameters"`
	}
	if err := json.Unmarshal(body, &meta); err != nil {
		return nil, fmt.Errorf("reading metadata of %q: %w", c.options.Model, err)
	}
	var list []string
	var joined string
	if json.Unmarshal(meta.Parameters.Names, &list) == nil && len(list) > 0 {
		return list, nil
	}
	if json.Unmarshal(meta.Parameters.Names, &joined) == nil && joined != "" {
		return strings.Split(joined, ","), nil
	}
	return nil, fmt.Errorf("reading metadata of %q: expected parameters.feature_names", c.options.Model)
}

package prom

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
)

// inputError is a caller's mistake.
type inputError struct {
	param string
	err   error
}

// Error implements error, in Prometheus' words.
func (e *inputError) Error() string { return fmt.Sprintf("invalid parameter %q: %v", e.param, e.err) }

// Unwrap returns the reason.
func (e *inputError) Unwrap() error { return e.err }

func badInput(param string, err error) error { return &inputError{param: param, err: err} }

// maxUnix bounds the seconds of a timestamp so that milliseconds and nanoseconds fit in 64 bits: the year 2262.
const maxUnix = math.MaxInt64 / int64(time.Second)

// timeParam reads seconds since 1970, with a fraction, or RFC 3339.
func timeParam(r *http.Request, name string, fallback time.Time) (time.Time, error) {
	value := r.FormValue(name)
	if value == "" {
		return fallback, nil
	}
	t, err := parseTime(value)
	if err != nil {
		return time.Time{}, badInput(name, err)
	}
	return t, nil
}

func requiredTime(r *http.Request, name string) (time.Time, error) {
	if r.FormValue(name) == "" {
		return time.Time{}, badInput(name, errors.New("want a time"))
	}
	return timeParam(r, name, time.Time{})
}

// parseTime rounds seconds to milliseconds, the resolution of samples.
func parseTime(s string) (time.Time, error) {
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		if !(math.Abs(seconds) <= float64(maxUnix)) {
			return time.Time{}, fmt.Errorf("%q is out of range", s)
		}
		whole, fraction := math.Modf(seconds)
		millis := math.Round(fraction * 1000)
		return time.UnixMilli(int64(whole)*1000 + int64(millis)).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Unix() > maxUnix || t.Unix() < -maxUnix {
		return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
	}
	return t, nil
}

// durationParam reads seconds, with a fraction, or Prometheus' form such as 1m30s. Zero and less are refused.
func durationParam(r *http.Request, name string, fallback time.Duration) (time.Duration, error) {
	value := r.FormValue(name)
	if value == "" {
		return fallback, nil
	}
	d, err := parseDuration(value)
	if err != nil {
		return 0, badInput(name, err)
	}
	return d, nil
}

func parseDuration(s string) (time.Duration, error) {
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		d := seconds * float64(time.Second)
		if !(d >= float64(time.Millisecond) && d < math.MaxInt64) {
			return 0, fmt.Errorf("%q must be at least 1 ms and at most 292 years", s)
		}
		return time.Duration(d), nil
	}
	d, err := model.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("cannot parse %q to a valid duration above zero", s)
	}
	return time.Duration(d), nil
}

func checkRange(start, end time.Time, step time.Duration) error {
	if end.Before(start) {
		return badInput("end", errors.New("end timestamp must not be before start time"))
	}
	if step <= 0 {
		return badInput("step", errors.New("want a duration above zero"))
	}
	if end.Sub(start)/step > maxPoints {
		return badInput("step", fmt.Errorf("more than %d points per series: want a larger step", maxPoints))
	}
	return nil
}

func queryOpts(r *http.Request) (promql.QueryOpts, error) {
	lookback, err := durationParam(r, "lookback_delta", 0)
	if err != nil {
		return nil, err
	}
	return promql.NewPrometheusQueryOpts(false, lookback), nil
}

// selection is what series, labels and label values choose from: times in milliseconds and match[] selectors.
type selection struct {
	start, end int64
	matchers   [][]*labels.Matcher
}

func (a *queryAPI) selection(r *http.Request) (selection, error) {
	start, err := timeParam(r, "start", time.UnixMilli(0))
	if err != nil {
		return selection{}, err
	}
	end, err := timeParam(r, "end", time.Unix(maxUnix, 0))
	if err != nil {
		return selection{}, err
	}
	matchers, err := a.parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		return selection{}, badInput("match[]", err)
	}
	for _, set := range matchers {
		if !selective(set) {
			return selection{}, badInput("match[]", errors.New("match[] must contain at least one non-empty matcher"))
		}
	}
	return selection{start: timestamp.FromTime(start), end: timestamp.FromTime(end), matchers: matchers}, nil
}

// selective says whether one of the matchers refuses the empty value, so that the set does not mean everything.
func selective(set []*labels.Matcher) bool {
	for _, m := range set {
		if !m.Matches("") {
			return true
		}
	}
	return false
}

package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	api "istio.io/api/networking/v1alpha3"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
)

// Names that a local rate limit is recognised by.
const (
	rateLimitFilter   = "envoy.filters.http.local_ratelimit"
	rateLimitType     = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
	connectionManager = "envoy.filters.network.http_connection_manager"
	routerFilter      = "envoy.filters.http.router"
)

// minFill is the shortest fill interval that Envoy accepts.
const minFill = 50 * time.Millisecond

// limit is a local rate limit: one token bucket for all endpoints in the namespace that carry the selector's labels.
type limit struct {
	object   Object
	index    int
	selector map[string]string
	rate     bucketRate
	// enabled and enforced are shares of a million: of the requests that take a token, and of those without one that
	// are refused.
	enabled, enforced uint32
	status            int
	headers           headerOps
	draft03           bool
	// bucket is set when the table comes into force.
	bucket *tokenBucket
}

// bucketRate is the size of a token bucket and how fast it fills.
type bucketRate struct {
	max, perFill uint32
	interval     time.Duration
}

// limits compiles the EnvoyFilters.
func (c *compiler) limits(objects []*v1alpha3.EnvoyFilter) {
	for _, ef := range oldestFirst(objects) {
		v := named("EnvoyFilter", ef)
		v.only("spec", &ef.Spec, "workloadSelector", "configPatches")
		var limits []*limit
		for i, patch := range ef.Spec.ConfigPatches {
			l := v.patch(fmt.Sprintf("spec.configPatches[%d]", i), patch)
			l.object, l.index, l.selector = v.object, i, ef.Spec.WorkloadSelector.GetLabels()
			limits = append(limits, l)
		}
		if len(limits) == 0 {
			v.refuse("spec.configPatches", "", "must have a patch")
		}
		if c.accept(v) {
			c.table.limits = append(c.table.limits, limits...)
		}
	}
}

// patch accepts one shape: the filter before the router of the inbound listeners.
func (v *review) patch(field string, in *api.EnvoyFilter_EnvoyConfigObjectPatch) *limit {
	listener := in.GetMatch().GetListener()
	filter := listener.GetFilterChain().GetFilter()
	v.only(field, in, "applyTo", "match", "patch")
	v.only(field+".match", in.GetMatch(), "context", "listener")
	v.only(field+".match.listener", listener, "filterChain")
	v.only(field+".match.listener.filterChain", listener.GetFilterChain(), "filter")
	v.only(field+".patch", in.GetPatch(), "operation", "value")
	v.must(field+".applyTo", in.GetApplyTo().String(), api.EnvoyFilter_HTTP_FILTER.String())
	v.must(field+".match.context", in.GetMatch().GetContext().String(), api.EnvoyFilter_SIDECAR_INBOUND.String())
	v.must(field+".match.listener.filterChain.filter.name", filter.GetName(), connectionManager)
	v.must(field+".match.listener.filterChain.filter.subFilter.name", filter.GetSubFilter().GetName(), routerFilter)
	v.must(field+".patch.operation", in.GetPatch().GetOperation().String(), api.EnvoyFilter_Patch_INSERT_BEFORE.String())
	text, err := in.GetPatch().GetValue().MarshalJSON()
	if err != nil {
		v.refuse(field+".patch.value", in.GetPatch().GetValue(), "must be a filter: "+err.Error())
		return &limit{}
	}
	return v.localRateLimit(field+".patch.value", text)
}

func (v *review) must(field, value, want string) {
	if value != want {
		v.refuse(field, value, fmt.Sprintf("must be %q", want))
	}
}

// filterConfig is the part of Envoy's local rate limit that the gateway obeys. Other fields are refused.
type filterConfig struct {
	Name  string `json:"name"`
	Typed struct {
		Type        string       `json:"@type"`
		StatPrefix  string       `json:"stat_prefix"`
		Status      statusConfig `json:"status"`
		TokenBucket struct {
			MaxTokens     uint32  `json:"max_tokens"`
			TokensPerFill *uint32 `json:"tokens_per_fill"`
			FillInterval  string  `json:"fill_interval"`
		} `json:"token_bucket"`
		XRateLimitHeaders string         `json:"enable_x_ratelimit_headers"`
		Enabled           *fractionValue `json:"filter_enabled"`
		Enforced          *fractionValue `json:"filter_enforced"`
		ResponseHeaders   []headerOption `json:"response_headers_to_add"`
	} `json:"typed_config"`
}

type statusConfig struct {
	Code any `json:"code"`
}

type fractionValue struct {
	RuntimeKey string `json:"runtime_key"`
	Default    struct {
		Numerator   uint32 `json:"numerator"`
		Denominator string `json:"denominator"`
	} `json:"default_value"`
}

type headerOption struct {
	Header struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"header"`
	Append       *bool  `json:"append"`
	AppendAction string `json:"append_action"`
}

// localRateLimit compiles the filter's configuration.
func (v *review) localRateLimit(field string, text []byte) *limit {
	var in filterConfig
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		v.refuse(field, string(text), "must be a local rate limit: "+err.Error())
		return &limit{}
	}
	v.must(field+".name", in.Name, rateLimitFilter)
	field += ".typed_config"
	v.must(field+".@type", in.Typed.Type, rateLimitType)
	bucket := in.Typed.TokenBucket
	l := &limit{rate: bucketRate{max: bucket.MaxTokens, perFill: 1, interval: v.fill(field+".token_bucket.fill_interval", bucket.FillInterval)}}
	if bucket.TokensPerFill != nil {
		l.rate.perFill = *bucket.TokensPerFill
	}
	if l.rate.max == 0 || l.rate.perFill == 0 {
		v.refuse(field+".token_bucket", fmt.Sprintf("%d, %d", l.rate.max, l.rate.perFill), "must have max_tokens and tokens_per_fill above 0")
	}
	l.status = v.statusCode(field+".status.code", in.Typed.Status.Code)
	l.enabled = v.fraction(field+".filter_enabled", in.Typed.Enabled)
	l.enforced = v.fraction(field+".filter_enforced", in.Typed.Enforced)
	l.headers = v.headerOptions(field+".response_headers_to_add", in.Typed.ResponseHeaders)
	switch in.Typed.XRateLimitHeaders {
	case "DRAFT_VERSION_03":
		l.draft03 = true
	case "", "OFF":
	default:
		v.refuse(field+".enable_x_ratelimit_headers", in.Typed.XRateLimitHeaders, `must be "OFF" or "DRAFT_VERSION_03"`)
	}
	return l
}

func (v *review) fill(field, text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d < minFill {
		v.refuse(field, text, "must be a duration of at least "+minFill.String())
		return minFill
	}
	return d
}

// statusCode is 429 for none. Envoy turns a status below 400 into 429 as well; the gateway refuses it.
func (v *review) statusCode(field string, code any) int {
	switch c := code.(type) {
	case nil:
		return http.StatusTooManyRequests
	case string:
		if c == "TooManyRequests" {
			return http.StatusTooManyRequests
		}
		if c == "ServiceUnavailable" {
			return http.StatusServiceUnavailable
		}
	case float64:
		if c >= 400 && c <= 599 && c == math.Trunc(c) {
			return int(c)
		}
	}
	v.refuse(field, code, `must be "TooManyRequests", "ServiceUnavailable" or a number from 400 to 599`)
	return http.StatusTooManyRequests
}

// fraction is a share of a million. Envoy limits nothing when it is not set.
func (v *review) fraction(field string, in *fractionValue) uint32 {
	if in == nil {
		return 0
	}
	denominators := map[string]uint64{"": 100, "HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": million}
	of, ok := denominators[in.Default.Denominator]
	if !ok {
		v.refuse(field+".default_value.denominator", in.Default.Denominator, "must be HUNDRED, TEN_THOUSAND or MILLION")
		return 0
	}
	return uint32(min(million, uint64(in.Default.Numerator)*million/of))
}

func (v *review) headerOptions(field string, in []headerOption) headerOps {
	o := headerOps{set: map[string][]string{}, add: map[string]string{}}
	for i, option := range in {
		at := fmt.Sprintf("%s[%d]", field, i)
		value := v.headerValue(at+".header.value", option.Header.Value)
		key := http.CanonicalHeaderKey(option.Header.Key)
		replace := option.Append != nil && !*option.Append || option.AppendAction == "OVERWRITE_IF_EXISTS_OR_ADD"
		switch {
		case key == "":
			v.refuse(at+".header.key", key, "must name a header")
		case replace:
			o.set[key] = []string{value}[:1:1]
		case option.AppendAction == "" || option.AppendAction == "APPEND_IF_EXISTS_OR_ADD":
			o.add[key] = value
		default:
			v.refuse(at+".append_action", option.AppendAction, "must be APPEND_IF_EXISTS_OR_ADD or OVERWRITE_IF_EXISTS_OR_ADD")
		}
	}
	return o
}

// tokenBucket fills continuously at perFill tokens per interval. It outlives the tables, so that a change of weights
// hands out no new burst.
type tokenBucket struct {
	rate bucketRate
	// mu guards tokens and at, the tokens at that time.
	mu     sync.Mutex
	tokens float64
	at     time.Time
}

func newTokenBucket(rate bucketRate, now time.Time) *tokenBucket {
	return &tokenBucket{rate: rate, tokens: float64(rate.max), at: now}
}

// take takes a token where there is one. It says how many are left, and when the next one comes if there are none.
func (b *tokenBucket) take(now time.Time) (ok bool, remaining uint32, reset time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	perToken := float64(b.rate.interval) / float64(b.rate.perFill)
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(float64(b.rate.max), b.tokens+float64(passed)/perToken)
		b.at = now
	}
	ok = b.tokens >= 1
	if ok {
		b.tokens--
	}
	if b.tokens < 1 {
		reset = time.Duration((1 - b.tokens) * perToken)
	}
	return ok, uint32(b.tokens), reset
}

// draft03Headers tells the client what is left.
func (l *limit) draft03Headers(h http.Header, remaining uint32, reset time.Duration) {
	h.Set("X-Ratelimit-Limit", strconv.Itoa(int(l.rate.max)))
	h.Set("X-Ratelimit-Remaining", strconv.Itoa(int(remaining)))
	h.Set("X-Ratelimit-Reset", strconv.Itoa(int(math.Ceil(reset.Seconds()))))
}

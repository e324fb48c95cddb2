package controlplane_test

import (
	"errors"
	"fmt"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/test/envoy"
)

// limiter is the rate limit of a pod's proxy. Nothing is the proxy's without one.
type limiter struct {
	// Before is the filter that follows.
	Before                 string
	Burst, Rate            uint32
	Seconds                float64
	Status                 typev3.StatusCode
	PercentOn, PercentHard uint32
	Headers                string
}

// inbound checks the rate limit in the proxy of each version's pod, on the way in.
func (w *meshWorld) inbound() {
	w.t.Helper()
	for i, share := range w.traffic.Shares {
		n := envoy.Node{Kind: envoy.Sidecar, Address: address(i), Name: w.pod(i), Namespace: space, Labels: w.labels(share.Version)}
		w.eventually("the filters of "+share.Version, n, func(a envoy.Answer) error {
			got, err := limiters(a.Listeners["virtualInbound"])
			if err != nil {
				return err
			}
			for _, one := range got {
				if diff := cmp.Diff(w.limiter(share.Variant), one); diff != "" {
					return fmt.Errorf("rate limit of %s: -meant, +istiod's:\n%s", share.Version, diff)
				}
			}
			return nil
		})
	}
}

// limiter is what the traffic says about a variant.
func (w *meshWorld) limiter(v mesh.Variant) limiter {
	l := w.traffic.RateLimit
	if l == nil || l.RequestsPerSecond == 0 || l.OnlyCanary && v != mesh.Canary || shared(l) {
		return limiter{}
	}
	return limiter{
		Before: "envoy.filters.http.router", Burst: uint32(max(l.Burst, l.RequestsPerSecond)), Rate: uint32(l.RequestsPerSecond), Seconds: 1,
		Status: typev3.StatusCode_TooManyRequests, PercentOn: 100, PercentHard: 100, Headers: "DRAFT_VERSION_03",
	}
}

// shared says whether a limit counts elsewhere than in the pods.
func shared(l *mesh.RateLimit) bool { return l != nil && l.At != "" && l.At != mesh.AtSidecar }

// limiters reads the rate limit of every HTTP port of a listener; there is one at least.
func limiters(l *listenerv3.Listener) ([]limiter, error) {
	managers, err := envoy.Managers(l)
	if err != nil {
		return nil, err
	}
	if len(managers) == 0 {
		return nil, errors.New("the proxy takes no HTTP on the way in")
	}
	var out []limiter
	for _, m := range managers {
		one, err := limiterOf(m)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

func limiterOf(m *hcmv3.HttpConnectionManager) (limiter, error) {
	filters := m.GetHttpFilters()
	i := slices.IndexFunc(filters, func(f *hcmv3.HttpFilter) bool { return f.GetTypedConfig().MessageIs(&ratelimitv3.LocalRateLimit{}) })
	if i < 0 {
		return limiter{}, nil
	}
	var f ratelimitv3.LocalRateLimit
	if err := filters[i].GetTypedConfig().UnmarshalTo(&f); err != nil {
		return limiter{}, fmt.Errorf("decoding filter %q: %w", filters[i].GetName(), err)
	}
	if i+1 == len(filters) {
		return limiter{}, errors.New("the rate limit is the last filter")
	}
	return limiter{
		Before: filters[i+1].GetName(), Burst: f.GetTokenBucket().GetMaxTokens(), Rate: f.GetTokenBucket().GetTokensPerFill().GetValue(),
		Seconds: f.GetTokenBucket().GetFillInterval().AsDuration().Seconds(), Status: f.GetStatus().GetCode(),
		PercentOn: f.GetFilterEnabled().GetDefaultValue().GetNumerator(), PercentHard: f.GetFilterEnforced().GetDefaultValue().GetNumerator(),
		Headers: f.GetEnableXRatelimitHeaders().String(),
	}, nil
}

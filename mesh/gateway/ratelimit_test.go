package gateway

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/siskin-dev/siskin/mesh"
)

func TestTokenBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTokenBucket(bucketRate{max: 4, perFill: 2, interval: time.Second}, time.Now())
		for want := uint32(3); ; want-- {
			ok, remaining, _ := b.take(time.Now())
			if !ok || remaining != want {
				t.Fatalf("take() = %t, %d, want %d left", ok, remaining, want)
			}
			if want == 0 {
				break
			}
		}
		if ok, _, reset := b.take(time.Now()); ok || reset != 500*time.Millisecond {
			t.Errorf("An empty bucket gives %t and resets in %v, want 500ms", ok, reset)
		}
		time.Sleep(499 * time.Millisecond)
		if ok, _, _ := b.take(time.Now()); ok {
			t.Error("A token came too early")
		}
		time.Sleep(2 * time.Millisecond)
		if ok, _, _ := b.take(time.Now()); !ok {
			t.Error("No token came")
		}
		time.Sleep(time.Hour)
		if _, remaining, _ := b.take(time.Now()); remaining != 3 {
			t.Errorf("A full bucket has %d left after one, want 3", remaining)
		}
	})
}

// TestRateLimit drains the canary's bucket, which a new table must not fill.
func TestRateLimit(t *testing.T) {
	endpoints := bothVersions(t)
	traffic := split([]int{7})
	traffic.RateLimit = &mesh.RateLimit{RequestsPerSecond: 1, Burst: 3, OnlyCanary: true}
	now := time.Unix(1_700_000_000, 0)
	g := start(t, rendered(t, traffic, endpoints), Options{Now: func() time.Time { return now }})
	for i := range 3 {
		res, _ := g.get(t, "/", mesh.BucketHeader, "07")
		if got := res.Header.Get("X-Ratelimit-Remaining"); res.StatusCode != 200 || got != string(rune('2'-i)) {
			t.Errorf("request %d: %d with %s left", i, res.StatusCode, got)
		}
	}
	moved := split([]int{7, 8})
	moved.RateLimit = traffic.RateLimit
	g.Load(rendered(t, moved, endpoints))
	res, _ := g.get(t, "/", mesh.BucketHeader, "07")
	for name, want := range map[string]string{"X-Ratelimit-Limit": "3", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "1", mesh.VariantHeader: "canary"} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("GET = %d, want 429", res.StatusCode)
	}
	if res, _ := g.get(t, "/", mesh.BucketHeader, "09"); res.StatusCode != 200 || res.Header.Get("X-Ratelimit-Limit") != "" {
		t.Errorf("stable is limited with the canary: %d", res.StatusCode)
	}
	if got := g.count(t, "istio_requests_total", "response_code", "429", "response_flags", "RL", "destination_version", "v2"); got != 1 {
		t.Errorf("istio_requests_total{429, RL} = %v, want 1", got)
	}
}

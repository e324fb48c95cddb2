package gateway

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
)

// population is how many vehicles or browsers a test sends: ten thousand, or a fifth in a short run, which is what the
// race detector gets.
func population() int {
	if testing.Short() {
		return 2_000
	}
	return 10_000
}

// senders is how many of them are under way at a time.
const senders = 16

// each runs fn for every one of n units, several at a time, and stops at the first error.
func each(t testing.TB, n int, fn func(unit int) error) {
	t.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make(chan error, senders)
	for range senders {
		wg.Go(func() {
			for u := next.Add(1) - 1; int(u) < n; u = next.Add(1) - 1 {
				if err := fn(int(u)); err != nil {
					errs <- fmt.Errorf("unit %d: %w", u, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// answer sends a request and returns which version answered.
func answer(client *http.Client, r *http.Request) (string, error) {
	res, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", res.StatusCode)
	}
	version, variant := res.Header.Get("Version"), res.Header.Get(mesh.VariantHeader)
	if want := map[string]string{"v1": "stable", "v2": "canary"}[version]; variant != want {
		return "", fmt.Errorf("version %s says that it is %q", version, variant)
	}
	return version, nil
}

// vehicles asks for the first n units by its bucket header and returns the versions that answered.
func vehicles(t testing.TB, g running, n int) []string {
	t.Helper()
	got := make([]string, n)
	each(t, n, func(u int) (err error) {
		r := g.request(t, http.MethodPost, "/v2/models/coolant/infer", strings.NewReader("{}"))
		r.Header.Set(mesh.BucketHeader, mesh.FormatBucket(vehicleBucket(u)))
		got[u], err = answer(g.server.Client(), r)
		return err
	})
	return got
}

func vehicleBucket(unit int) int { return rollout.BucketOf("coolant", fmt.Sprintf("vehicle-%d", unit)) }

// TestExposure is invariant 1 by header: exactly the units of the canary's buckets see it, through a ramp, a restart of
// the gateway and a rollback.
func TestExposure(t *testing.T) {
	endpoints := bothVersions(t)
	g := start(t, rendered(t, split(rollout.Allocate("run-1", 5)), endpoints), Options{})
	n := population()
	seen := make([]bool, n)
	for _, weight := range []int{5, 10, 25, 50, 100} {
		canary := rollout.Allocate("run-1", weight)
		if len(canary) != weight {
			t.Fatalf("Allocate(%d) has %d buckets", weight, len(canary))
		}
		traffic := split(canary)
		g.Load(rendered(t, traffic, endpoints))
		if weight == 10 {
			checkVehicles(t, traffic, vehicles(t, g, n), seen)
			g = start(t, rendered(t, traffic, endpoints), Options{})
		}
		checkVehicles(t, traffic, vehicles(t, g, n), seen)
	}
	g.Load(rendered(t, split(nil), endpoints))
	for u, version := range vehicles(t, g, n) {
		if version != "v1" {
			t.Fatalf("After the rollback unit %d sees %s", u, version)
		}
	}
}

// checkVehicles compares with the oracle, and with what each unit saw before.
func checkVehicles(t testing.TB, traffic mesh.Traffic, got []string, seen []bool) {
	t.Helper()
	routes := mesh.Routes(traffic)
	var want [mesh.Buckets]string
	for b := range want {
		d, ok := mesh.Choose(routes, mesh.Request{mesh.BucketHeader: mesh.FormatBucket(b)}, 0)
		if !ok {
			t.Fatalf("Choose(...) finds nothing for bucket %d", b)
		}
		want[b] = d.Version
	}
	canary := map[int]bool{}
	for u, version := range got {
		if version == "v2" {
			canary[vehicleBucket(u)] = true
		}
		if version != want[vehicleBucket(u)] {
			t.Fatalf("Unit %d of bucket %d sees %s, want %s", u, vehicleBucket(u), version, want[vehicleBucket(u)])
		}
		if seen[u] && version != "v2" {
			t.Fatalf("Unit %d went back to %s", u, version)
		}
		seen[u] = version == "v2"
	}
	if weight := len(traffic.Shares[1].Buckets); len(canary) != weight {
		t.Fatalf("The units of %d buckets see the canary, want %d", len(canary), weight)
	}
}

// TestCookieExposure is invariant 1 by cookie: every browser has its own jar, other cookies in it, and draws its bucket
// once.
func TestCookieExposure(t *testing.T) {
	endpoints := bothVersions(t)
	cookies := func(canary []int) Objects {
		traffic := split(canary)
		traffic.Cookie = &mesh.Cookie{Name: "siskin-coolant", MaxAgeSeconds: 3600}
		return rendered(t, traffic, endpoints)
	}
	g := start(t, cookies(rollout.Allocate("run-1", 5)), Options{})
	browsers := population()
	jars, seen := make([]http.CookieJar, browsers), make([]bool, browsers)
	for u := range jars {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		jars[u] = jar
	}
	buckets := make([]string, browsers)
	for _, weight := range []int{5, 10, 25, 50, 100} {
		canary := rollout.Allocate("run-1", weight)
		g.Load(cookies(canary))
		if weight == 25 {
			g = start(t, cookies(canary), Options{})
		}
		owned := map[string]bool{}
		for _, b := range canary {
			owned[mesh.FormatBucket(b)] = true
		}
		each(t, browsers, func(u int) error { return browse(t, g, jars[u], &buckets[u], owned, &seen[u], u) })
	}
	drawn := map[string]int{}
	for _, bucket := range buckets {
		drawn[bucket]++
	}
	// Of 2,000 browsers 20 are expected in each of 100 buckets; an empty one has a probability of 2e-7.
	if len(drawn) != mesh.Buckets || drawn[""] > 0 {
		t.Errorf("%d buckets were drawn, %d browsers without one, want %d and 0", len(drawn), drawn[""], mesh.Buckets)
	}
}

// browse sends two requests of one browser. The first one of all draws the bucket.
func browse(t testing.TB, g running, jar http.CookieJar, bucket *string, canary map[string]bool, seen *bool, unit int) error {
	client := &http.Client{Transport: g.server.Client().Transport, Jar: jar}
	for range 2 {
		r := g.request(t, http.MethodGet, "/", nil)
		// A jar goes by the host that the request names, which outlives the gateway's address.
		own := &url.URL{Scheme: "http", Host: r.Host, Path: "/"}
		for _, c := range []*http.Cookie{{Name: "theme", Value: "dark"}, {Name: "xsiskin-coolant", Value: "99"}, {Name: fmt.Sprintf("s%d", unit%3), Value: "siskin-coolant=00"}} {
			r.AddCookie(c)
		}
		version, err := answer(client, r)
		if err != nil {
			return err
		}
		for _, c := range jar.Cookies(own) {
			if c.Name != "siskin-coolant" {
				continue
			}
			if *bucket != "" && c.Value != *bucket {
				return fmt.Errorf("bucket %s became %s", *bucket, c.Value)
			}
			*bucket = c.Value
		}
		if want := map[bool]string{true: "v2", false: "v1"}[canary[*bucket]]; version != want {
			return fmt.Errorf("bucket %q sees %s, want %s", *bucket, version, want)
		}
		if *seen && version != "v2" {
			return fmt.Errorf("went back to %s", version)
		}
		*seen = version == "v2"
	}
	return nil
}

// TestSwapUnderLoad changes the table every millisecond: no request fails, and each one meets one of the two tables.
func TestSwapUnderLoad(t *testing.T) {
	endpoints := bothVersions(t)
	tables := []Objects{rendered(t, split(rollout.Allocate("run-1", 5)), endpoints), rendered(t, split(rollout.Allocate("run-1", 50)), endpoints)}
	g := start(t, tables[0], Options{})
	stop := make(chan struct{})
	var swaps int
	var swapper sync.WaitGroup
	swapper.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				swaps++
				g.Load(tables[swaps%2])
			}
		}
	})
	units := population()
	got := vehicles(t, g, units)
	close(stop)
	swapper.Wait()
	for u, version := range got {
		if version != "v1" && version != "v2" {
			t.Fatalf("Unit %d sees %q", u, version)
		}
	}
	if swaps < 10 {
		t.Errorf("The table was swapped %d times only", swaps)
	}
	if bad := g.count(t, "istio_requests_total") - g.count(t, "istio_requests_total", "response_code", "200"); bad != 0 {
		t.Errorf("%v requests failed", bad)
	}
	t.Logf("%d swaps during %d requests", swaps, units)
}

package mesh

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ways are the ways to recognise a unit, by name.
var ways = map[string]struct{ header, cookie bool }{
	"header": {header: true}, "cookie": {cookie: true}, "both": {header: true, cookie: true}, "none": {},
}

// TestRoutesHold checks the promises of any list of routes at every weight and every way to recognise a unit.
func TestRoutesHold(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			for weight := 0; weight <= Buckets; weight++ {
				traffic := ramp(weight, way.header, way.cookie)
				if err := traffic.Validate(); err != nil {
					t.Fatal(err)
				}
				holds(t, weight, Routes(traffic))
			}
		})
	}
}

func holds(t *testing.T, weight int, routes []Route) {
	t.Helper()
	matches, names := map[string]string{}, map[string]bool{}
	for i, r := range routes {
		if names[r.Name] {
			t.Errorf("weight %d: route %q is there twice", weight, r.Name)
		}
		names[r.Name] = true
		if last := i == len(routes)-1; last != (len(r.Matches) == 0) {
			t.Errorf("weight %d: route %q has %d matches; only the last route takes everything", weight, r.Name, len(r.Matches))
		}
		for _, m := range r.Matches {
			key := fmt.Sprint(m)
			if other, taken := matches[key]; taken {
				t.Errorf("weight %d: routes %q and %q have the same match %s", weight, other, r.Name, key)
			}
			matches[key] = r.Name
		}
		destinationsHold(t, weight, r)
	}
}

// TestPorts holds that a further HTTP port is split as the service's own is, at every weight and for every bucket, each at its
// own port, and that a stream is split by the same weights and knows no unit.
func TestPorts(t *testing.T) {
	for weight := 0; weight <= Buckets; weight++ {
		traffic := ramp(weight, true, false)
		alone := Routes(traffic)
		traffic.Service.Ports = []Port{{8081, HTTP}, {9443, TLS}, {9000, TCP}}
		if err := traffic.Validate(); err != nil {
			t.Fatal(err)
		}
		routes := Routes(traffic)
		holds(t, weight, routes)
		for _, r := range routes {
			for _, m := range r.Matches {
				if m.Port != r.Port {
					t.Fatalf("weight %d: route %q matches port %d and leads to %d", weight, r.Name, m.Port, r.Port)
				}
			}
		}
		for b := range Buckets {
			req := Request{BucketHeader: FormatBucket(b)}
			want, _ := Choose(alone, req, 0)
			for _, port := range []int{8080, 8081} {
				if got, ok := (Caller{Port: port}).Choose(routes, req, 0); !ok || got.Version != want.Version {
					t.Fatalf("weight %d, bucket %d at port %d: %q, want %q", weight, b, port, got.Version, want.Version)
				}
			}
		}
		streams := Streams(traffic)
		if len(streams) != 2 || streams[0].Port.Number != 9000 || streams[1].Port.Number != 9443 {
			t.Fatalf("streams %v, want those of 9000 and 9443", streams)
		}
		if got := streamWeight(streams[0], Canary); got != weight {
			t.Errorf("the stream has weight %d, want %d", got, weight)
		}
	}
}

// TestHashed holds that, as a data plane walks the weights up to a unit's hash, a growing variant takes units from stable only,
// that the weights sum to 100 with two destinations at least, and that exactly so many units meet each variant.
func TestHashed(t *testing.T) {
	for name, weights := range map[string][][2]int{
		"Ramp":      {{0, 0}, {1, 0}, {5, 0}, {50, 0}, {100, 0}},
		"TwoArms":   {{10, 10}, {10, 40}, {30, 40}, {50, 50}},
		"SecondArm": {{0, 10}, {0, 100}},
	} {
		t.Run(name, func(t *testing.T) {
			var before []Variant
			for _, w := range weights {
				traffic := ramp(0, false, false)
				traffic.HashHeader = "x-vehicle-id"
				traffic.Shares = []Share{{Stable, "v1", allBuckets()[w[0]+w[1]:]}, {Canary, "v2", allBuckets()[:w[0]]}, {"arm", "v3", allBuckets()[w[0] : w[0]+w[1]]}}
				if err := traffic.Validate(); err != nil {
					t.Fatal(err)
				}
				now, count := make([]Variant, Buckets), map[Variant]int{}
				for unit := range now {
					d, ok := Choose(Routes(traffic), nil, (float64(unit)+0.5)/Buckets)
					if !ok {
						t.Fatal("a unit meets nobody")
					}
					now[unit] = d.Variant
					count[d.Variant]++
					if before != nil && before[unit] != now[unit] && before[unit] != Stable {
						t.Errorf("weights %v: unit %d moves from %q to %q", w, unit, before[unit], now[unit])
					}
				}
				if count[Canary] != w[0] || count["arm"] != w[1] {
					t.Errorf("weights %v: %v units", w, count)
				}
				before = now
			}
		})
	}
}

// TestHashedAtRest: one version alone is written as two destinations.
func TestHashedAtRest(t *testing.T) {
	traffic := ramp(0, false, false)
	traffic.HashHeader, traffic.Shares = "x-vehicle-id", traffic.Shares[:1]
	routes := Routes(traffic)
	last := routes[len(routes)-1]
	if len(last.Destinations) != 2 || last.Destinations[0].Weight != 100 || last.Destinations[1].Weight != 0 || !last.NoRetries || last.Name != traffic.HashRoute() {
		t.Errorf("the last route is %+v, want two destinations with 100 and 0", last)
	}
}

// streamWeight is a variant's share of a stream, whose weights must sum to 100.
func streamWeight(s Stream, v Variant) int {
	sum, own := 0, 0
	for _, d := range s.Destinations {
		sum += d.Weight
		if d.Variant == v {
			own += d.Weight
		}
	}
	if sum != Buckets {
		return -1
	}
	return own
}

// TestStreamsAlone: a service that speaks no HTTP has no routes.
func TestStreamsAlone(t *testing.T) {
	traffic := ramp(25, false, false)
	traffic.Service.Protocol = TLS
	if err := traffic.Validate(); err != nil {
		t.Fatal(err)
	}
	if routes, streams := Routes(traffic), Streams(traffic); len(routes) != 0 || len(streams) != 1 || streams[0].Port != (Port{8080, TLS}) {
		t.Errorf("routes %v, streams %v; want one stream at 8080", routes, streams)
	}
}

func destinationsHold(t *testing.T, weight int, r Route) {
	t.Helper()
	sum := 0
	variants := map[Variant]bool{}
	for _, d := range r.Destinations {
		sum += d.Weight
		variants[d.Variant] = true
		if d.Version == "" || d.Weight < 1 {
			t.Errorf("weight %d: route %q has destination %+v, want a version and a weight", weight, r.Name, d)
		}
		if d.SetRequest[VariantHeader] != string(d.Variant) || d.SetResponse[VariantHeader] != string(d.Variant) {
			t.Errorf("weight %d: route %q: %q does not say its variant both ways", weight, r.Name, d.Version)
		}
	}
	if sum != Buckets {
		t.Errorf("weight %d: route %q has weights that sum to %d, want %d", weight, r.Name, sum, Buckets)
	}
	if len(variants) > 1 && !r.NoRetries {
		t.Errorf("weight %d: route %q has %d variants and retries", weight, r.Name, len(variants))
	}
}

func TestRouteNames(t *testing.T) {
	stableOnly := ramp(0, true, true)
	stableOnly.Shares = stableOnly.Shares[:1]
	cases := map[string]struct {
		reason string
		args   Traffic
		want   []string
	}{
		"StableOnly": {
			reason: "Without a canary there is none to pin; buckets are drawn all the same, so that they are there when a run starts.",
			args:   stableOnly,
			want:   []string{"pin-stable", "stable-buckets", "draw"},
		},
		"CanaryAtZero": {
			reason: "A canary without buckets can be tested by its pin only.",
			args:   ramp(0, true, true),
			want:   []string{"pin-canary", "pin-stable", "stable-buckets", "draw"},
		},
		"Ramp": {
			reason: "The canary's buckets come before any valid bucket.",
			args:   ramp(25, true, true),
			want:   []string{"pin-canary", "pin-stable", "canary-buckets", "stable-buckets", "draw"},
		},
		"Full": {
			reason: "At 100 no bucket is left for stable, and two routes with one match would be a mistake.",
			args:   ramp(100, true, true),
			want:   []string{"pin-canary", "pin-stable", "canary-buckets", "draw"},
		},
		"HeaderOnly": {
			reason: "Without a cookie nothing can be kept: what has no bucket is drawn per request.",
			args:   ramp(25, true, false),
			want:   []string{"pin-canary", "pin-stable", "canary-buckets", "stable-buckets", "weighted"},
		},
		"NoAssignment": {
			reason: "Without header and cookie no unit is recognised.",
			args:   ramp(25, false, false),
			want:   []string{"pin-canary", "pin-stable", "weighted"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, r := range Routes(tc.args) {
				got = append(got, r.Name)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\nRoutes(...): -want, +got:\n%s", tc.reason, diff)
			}
		})
	}
}

// carriers write a bucket into a request in every way that has to be understood.
var carriers = map[string]func(bucket string) Request{
	"header":             func(b string) Request { return Request{BucketHeader: b} },
	"headerWinsOver":     func(b string) Request { return Request{BucketHeader: b, "cookie": "siskin-coolant=" + opposite(b)} },
	"invalidHeader":      func(b string) Request { return Request{BucketHeader: b + "x", "cookie": "siskin-coolant=" + b} },
	"emptyHeader":        func(b string) Request { return Request{BucketHeader: "", "cookie": "siskin-coolant=" + b} },
	"twoHeaders":         func(b string) Request { return Request{BucketHeader: b + "," + b, "cookie": "siskin-coolant=" + b} },
	"cookie":             func(b string) Request { return Request{"cookie": "siskin-coolant=" + b} },
	"cookieFirst":        func(b string) Request { return Request{"cookie": "siskin-coolant=" + b + "; session=a=b; theme=dark"} },
	"cookieLast":         func(b string) Request { return Request{"cookie": "session=a=b; theme=dark; siskin-coolant=" + b} },
	"cookieBetween":      func(b string) Request { return Request{"cookie": "a=1;siskin-coolant=" + b + ";b=2"} },
	"afterLongerName":    func(b string) Request { return lookAlike("xsiskin-coolant="+opposite(b), b) },
	"afterLongerValue":   func(b string) Request { return lookAlike("siskin-coolant="+opposite(b)+"x", b) },
	"afterShorterValue":  func(b string) Request { return lookAlike("siskin-coolant=7", b) },
	"afterValueInside":   func(b string) Request { return lookAlike("other=siskin-coolant="+opposite(b), b) },
	"afterSuffixedName":  func(b string) Request { return lookAlike("siskin-coolant2="+opposite(b), b) },
	"afterOtherCaseName": func(b string) Request { return lookAlike("Siskin-Coolant="+opposite(b), b) },
}

func lookAlike(other, bucket string) Request {
	return Request{"cookie": other + "; siskin-coolant=" + bucket}
}

// opposite is another bucket, 50 away.
func opposite(bucket string) string { return string((bucket[0]-'0'+5)%10+'0') + bucket[1:] }

// TestExposure is the first invariant: at weight w exactly the w buckets of the canary meet it, whichever way the
// bucket comes and whatever the draw, and a unit moves only from stable to canary while the weight grows.
func TestExposure(t *testing.T) {
	for name, carry := range carriers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var before [Buckets]Variant
			for weight := 0; weight <= Buckets; weight += step(name) {
				traffic := ramp(weight, true, true)
				routes := Routes(traffic)
				canaries := 0
				for b := range Buckets {
					got := chosen(t, routes, carry(FormatBucket(b)), 0.999)
					if want := owner(traffic, b); got != want {
						t.Fatalf("weight %d, bucket %02d: met %q, want %q", weight, b, got, want)
					}
					if before[b] == Canary && got != Canary {
						t.Fatalf("weight %d: bucket %02d went back to %q", weight, b, got)
					}
					before[b] = got
					if got == Canary {
						canaries++
					}
				}
				if canaries != weight {
					t.Fatalf("weight %d: %d buckets met the canary", weight, canaries)
				}
			}
		})
	}
}

// step visits every weight for the plain carriers, and every fifth for the variations of the cookie, to save time.
func step(carrier string) int {
	if carrier == "header" || carrier == "cookie" {
		return 1
	}
	return 5
}

// TestLookAlikesAreDrawn checks that what only looks like a bucket counts as none: such a request gets one.
func TestLookAlikesAreDrawn(t *testing.T) {
	traffic := ramp(50, true, true)
	routes := Routes(traffic)
	for _, cookie := range []string{
		"", "siskin-coolant", "siskin-coolant=", "siskin-coolant=7", "siskin-coolant=107", "siskin-coolant=07x",
		"xsiskin-coolant=07", "siskin-coolant2=07", "SISKIN-COOLANT=07", "a=siskin-coolant=07", "siskin-coolant==07",
		`siskin-coolant="07"`, "siskin-coolant=0a", "siskin-coolant=07,siskin-coolant=08", "siskin-coolant= 07",
	} {
		for b := range Buckets {
			d, ok := Choose(routes, Request{"cookie": cookie}, (float64(b)+0.5)/Buckets)
			want := "siskin-coolant=" + FormatBucket(b) + "; Max-Age=86400; Path=/; HttpOnly; SameSite=Lax"
			if !ok || d.AddResponse["set-cookie"] != want || d.Variant != owner(traffic, b) {
				t.Fatalf("cookie %q, draw %02d: got %q by %q, want %q by %q", cookie, b, d.AddResponse["set-cookie"], d.Variant, want, owner(traffic, b))
			}
		}
	}
}

// TestDrawnCookieLeadsBack follows a browser: the variant of the first answer is the variant of every later one.
func TestDrawnCookieLeadsBack(t *testing.T) {
	for _, weight := range []int{0, 5, 25, 50, 100} {
		routes := Routes(ramp(weight, false, true))
		for b := range Buckets {
			first, _ := Choose(routes, Request{}, (float64(b)+0.5)/Buckets)
			pair, _, _ := strings.Cut(first.AddResponse["set-cookie"], ";")
			again, ok := Choose(routes, Request{"cookie": "theme=dark; " + pair}, 0.3)
			if !ok || again.Variant != first.Variant || again.AddResponse != nil {
				t.Fatalf("weight %d: %q was drawn by %q, then met %q with %v", weight, pair, first.Variant, again.Variant, again.AddResponse)
			}
		}
	}
}

func TestPinsComeFirst(t *testing.T) {
	for _, weight := range []int{0, 30, 100} {
		routes := Routes(ramp(weight, true, true))
		for _, pinned := range []Variant{Stable, Canary} {
			for b := range Buckets {
				req := Request{VariantHeader: string(pinned), BucketHeader: FormatBucket(b), "cookie": "siskin-coolant=" + FormatBucket(b)}
				if got := chosen(t, routes, req, 0); got != pinned {
					t.Fatalf("weight %d, bucket %02d: pinned to %q, met %q", weight, b, pinned, got)
				}
			}
		}
		if got, want := chosen(t, routes, Request{VariantHeader: "nobody", BucketHeader: "07"}, 0), owner(ramp(weight, true, true), 7); got != want {
			t.Errorf("weight %d: a pin to nobody met %q, want the bucket's %q", weight, got, want)
		}
	}
}

func TestWeightedShares(t *testing.T) {
	for weight := 0; weight <= Buckets; weight++ {
		routes := Routes(ramp(weight, false, false))
		canaries := 0
		for i := range Buckets {
			// A bucket means nothing here.
			if chosen(t, routes, Request{BucketHeader: "07"}, (float64(i)+0.5)/Buckets) == Canary {
				canaries++
			}
		}
		if canaries != weight {
			t.Errorf("weight %d: %d of 100 even draws met the canary", weight, canaries)
		}
	}
}

// TestArms checks that further variants follow the same rules: each bucket meets its owner.
func TestArms(t *testing.T) {
	traffic := ramp(40, true, true)
	canary := traffic.Shares[1].Buckets
	traffic.Shares[1].Buckets = canary[:15]
	traffic.Shares = append(traffic.Shares, Share{Variant: "quantised", Version: "v2-int8", Buckets: canary[15:]})
	if err := traffic.Validate(); err != nil {
		t.Fatal(err)
	}
	routes := Routes(traffic)
	holds(t, 40, routes)
	for b := range Buckets {
		if got, want := chosen(t, routes, carriers["cookieLast"](FormatBucket(b)), 0), owner(traffic, b); got != want {
			t.Errorf("bucket %02d: met %q, want %q", b, got, want)
		}
	}
	if got := chosen(t, routes, Request{VariantHeader: "quantised"}, 0); got != "quantised" {
		t.Errorf("pinned to %q, met %q", "quantised", got)
	}
}

// TestRoutesLeaveTheTrafficAlone guards against slices shared with the argument.
// TestMirrorIsOfUsers holds that every way of a user is mirrored and none of a tester's, and that a mirror changes nothing else.
func TestMirrorIsOfUsers(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			traffic := ramp(0, way.header, way.cookie)
			traffic.Cohort = &Cohort{"x-fleet", []string{"works"}, nil}
			traffic.Service.Ports = []Port{{8081, HTTP}}
			plain := Routes(traffic)
			traffic.Mirror = 10
			if err := traffic.Validate(); err != nil {
				t.Fatal(err)
			}
			mirrored := Routes(traffic)
			for i, r := range mirrored {
				var want *Mirror
				if !strings.HasPrefix(r.Name, "pin-") && !strings.HasPrefix(r.Name, "canary-") {
					want = &Mirror{"v2", 10}
				}
				if diff := cmp.Diff(want, r.Mirror); diff != "" {
					t.Errorf("route %q: -want mirror, +got:\n%s", r.Name, diff)
				}
				mirrored[i].Mirror = nil
			}
			if diff := cmp.Diff(plain, mirrored); diff != "" {
				t.Errorf("a mirror changes more than the mirror: -without, +with:\n%s", diff)
			}
		})
	}
}

func TestRoutesLeaveTheTrafficAlone(t *testing.T) {
	traffic, same := ramp(25, true, true), ramp(25, true, true)
	first := Routes(traffic)
	for i := range first {
		first[i].Destinations[0].SetRequest[VariantHeader] = "changed"
		first[i].Name = "changed"
	}
	if diff := cmp.Diff(same, traffic); diff != "" {
		t.Errorf("Routes changed its argument: -want, +got:\n%s", diff)
	}
	if diff := cmp.Diff(Routes(same), Routes(traffic)); diff != "" {
		t.Errorf("Routes depends on more than its argument: -want, +got:\n%s", diff)
	}
	if !slices.IsSorted(traffic.Shares[0].Buckets) {
		t.Error("Routes reordered the buckets")
	}
}

func BenchmarkRoutes(b *testing.B) {
	traffic := ramp(25, true, true)
	b.ReportAllocs()
	for b.Loop() {
		Routes(traffic)
	}
}

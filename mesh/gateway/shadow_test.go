package gateway

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/mesh"
)

// inference is an answer of the V2 protocol.
func inference(model, data string) string {
	return `{"id":"` + model + `","model_name":"coolant","model_version":"` + model + `","outputs":[{"name":"o","shape":[2],"datatype":"FP32","data":[` + data + `]}]}`
}

func TestCompare(t *testing.T) {
	whole := func(status int, body string) response {
		return response{status: status, whole: true, body: []byte(body)}
	}
	json := func(body string) response { return whole(200, body) }
	encoded := whole(200, "ab")
	encoded.encoded = true
	cases := map[string]struct {
		reason string
		a, b   response
		want   string
	}{
		"Bytes":       {"The same bytes are the same answer, whatever they are.", json("no json"), json("no json"), shadowSame},
		"OtherBytes":  {"Other bytes are another one.", json("no json"), json("no JSON"), shadowDifferent},
		"Status":      {"So is another status, whatever comes with it.", whole(200, "a"), whole(500, "a"), shadowDifferent},
		"Refused":     {"What both refuse alike is the same.", whole(400, "bad"), whole(400, "bad"), shadowSame},
		"Inference":   {"Identifiers and versions of models differ by design.", json(inference("v1", "1,2")), json(inference("v2", "1, 2.0")), shadowSame},
		"Rounded":     {"Sums that are added up in another order differ a little.", json(inference("v1", "1.0000001,2e6")), json(inference("v2", "1,2000001")), shadowSame},
		"Prediction":  {"More than that is another prediction.", json(inference("v1", "1,2")), json(inference("v2", "1,2.00001")), shadowDifferent},
		"NearZero":    {"Near zero the tolerance is that of 1.", json(inference("v1", "0,2")), json(inference("v2", "1e-9,2")), shadowSame},
		"Sign":        {"A sign is no rounding.", json(inference("v1", "1,2")), json(inference("v2", "-1,2")), shadowDifferent},
		"Shape":       {"Fewer numbers are other numbers.", json(inference("v1", "1,2")), json(inference("v2", "1")), shadowDifferent},
		"Words":       {"Words are equal or not.", json(inference("v1", `"a"`)), json(inference("v2", `"b"`)), shadowDifferent},
		"NoNumber":    {"A word is no number.", json(inference("v1", `1`)), json(inference("v2", `"1"`)), shadowDifferent},
		"Large":       {"Numbers that no float tells apart are compared by their digits first.", json(inference("v1", "9007199254740993")), json(inference("v2", "9007199254740993")), shadowSame},
		"Overflow":    {"Numbers beyond all floats are not near each other.", json(inference("v1", "1e999")), json(inference("v2", "2e999")), shadowDifferent},
		"OtherJSON":   {"Without outputs everything counts, in any order.", json(`{"a":1,"b":[true,null]}`), json(`{"b":[true,null],"a":1.0}`), shadowSame},
		"MoreJSON":    {"A field more is something else.", json(`{"a":1}`), json(`{"a":1,"b":null}`), shadowDifferent},
		"OtherField":  {"So is another field.", json(`{"a":1}`), json(`{"b":1}`), shadowDifferent},
		"TwoValues":   {"Two values are no JSON that is understood.", json(`1 2`), json(`1 2.0`), shadowDifferent},
		"Encoded":     {"Compressed bytes say nothing when they differ.", encoded, json("b"), shadowSkipped},
		"EncodedSame": {"And the same when they do not.", encoded, whole(200, "ab"), shadowSame},
		"TooLong":     {"Half of an answer is none.", response{status: 200}, json("a"), shadowSkipped},
		"CopyTooLong": {"Nor is half of a copy's.", json("a"), response{status: 200}, shadowSkipped},
		"LongStatus":  {"A status says enough, however much comes with it.", response{status: 200}, response{status: 500}, shadowDifferent},
		"NoAnswer":    {"Where the request itself was not answered there is nothing to compare with.", response{whole: true}, json("a"), shadowSkipped},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := tc.a.compare(tc.b, 1e-6); got != tc.want {
				t.Errorf("%s\ncompare(...) = %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}

// FuzzCompare: whatever two versions answer, nothing panics, an answer is like itself, and who is asked first does not matter.
func FuzzCompare(f *testing.F) {
	for _, seed := range [][2]string{
		{inference("v1", "1,2"), inference("v2", "1,2.0")}, {`{"outputs":[1e999]}`, `{"outputs":null}`}, {`[[[1]]]`, `[[[1.0000001]]]`}, {`{"a":{}}`, `{"a":[]}`}, {"", "null"},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		one, two := response{status: 200, whole: true, body: a}, response{status: 200, whole: true, body: b}
		if got := one.compare(one, 1e-6); got != shadowSame {
			t.Errorf("%q is %s as itself", a, got)
		}
		if there, back := one.compare(two, 1e-6), two.compare(one, 1e-6); there != back {
			t.Errorf("%q and %q are %s, the other way round %s", a, b, there, back)
		}
	})
}

// shadowed is a gateway that sends users to v1 and copies of all their requests to v2.
func shadowed(t *testing.T, v1, v2 http.HandlerFunc, o Options) running {
	t.Helper()
	traffic := split(nil)
	traffic.Mirror = 100
	return start(t, rendered(t, traffic, upstreams(t, map[string]http.Handler{"v1": v1, "v2": v2})), o)
}

// over stops the gateway, so that all copies have been counted.
func (g running) over() {
	g.server.Close()
	g.Close()
}

func says(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

// TestShadow: the user sees stable's answer and nothing else, the copy is compared, and both are counted as their
// destinations see them.
func TestShadow(t *testing.T) {
	long := strings.Repeat("x", 1000)
	breaks := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	}
	cases := map[string]struct {
		reason string
		canary http.HandlerFunc
		stable string
		want   string
		// code is what the canary's copy is counted with; empty for not at all.
		code string
	}{
		"Same":      {"An answer that says the same.", says(200, inference("v2", "1,2.0")), inference("v1", "1,2"), shadowSame, "200"},
		"Different": {"One that says something else.", says(200, inference("v2", "1,3")), inference("v1", "1,2"), shadowDifferent, "200"},
		"Fails":     {"One that says nothing.", says(500, ""), "a", shadowDifferent, "500"},
		"Breaks":    {"One that breaks off.", breaks, "a", shadowFailed, "503"},
		"TooLong":   {"One that is not kept.", says(200, long), long, shadowSkipped, "200"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var copied atomic.Value
			canary := func(w http.ResponseWriter, r *http.Request) {
				copied.Store(r.Host + " " + r.Header.Get(mesh.BucketHeader))
				tc.canary(w, r)
			}
			g := shadowed(t, says(200, tc.stable), canary, Options{MaxBodyBytes: 999})
			res, text := g.get(t, "/", mesh.BucketHeader, "07")
			if res.StatusCode != 200 || text != tc.stable || res.Header.Get(mesh.VariantHeader) != "stable" {
				t.Errorf("%s\nthe user sees %d %q of %q, want stable's answer", tc.reason, res.StatusCode, text, res.Header.Get(mesh.VariantHeader))
			}
			g.over()
			if got, want := copied.Load(), host+"-shadow 07"; got != want {
				t.Errorf("%s\nthe canary was sent %q, want %q", tc.reason, got, want)
			}
			for _, result := range []string{shadowSame, shadowDifferent, shadowFailed, shadowSkipped} {
				want := map[bool]float64{true: 1}[result == tc.want]
				if got := g.count(t, "siskin_gateway_shadow_answers_total", "result", result, "destination_version", "v2", "destination_service_name", "coolant"); got != want {
					t.Errorf("%s\n%v answers are %s, want %v", tc.reason, got, result, want)
				}
			}
			for version, code := range map[string]string{"v1": "200", "v2": tc.code} {
				if got := g.count(t, "istio_requests_total", "reporter", "destination", "destination_version", version, "response_code", code); got != 1 {
					t.Errorf("%s\n%v requests arrived at %s with code %s, want 1", tc.reason, got, version, code)
				}
				if got := g.count(t, "istio_request_duration_milliseconds", "reporter", "destination", "destination_version", version); got != 1 {
					t.Errorf("%s\n%v durations at %s, want 1", tc.reason, got, version)
				}
			}
			if got := g.count(t, "istio_requests_total", "reporter", "source"); got != 1 {
				t.Errorf("%s\nthe source counts %v requests: copies are none", tc.reason, got)
			}
		})
	}
}

// TestShadowOfRetries: a request that is sent again is copied once. Where stable has no endpoint that answers there is nothing
// to compare with, and nothing that arrived there.
func TestShadowOfRetries(t *testing.T) {
	var copies atomic.Int64
	counts := func(http.ResponseWriter, *http.Request) { copies.Add(1) }
	traffic := split(nil)
	traffic.Mirror = 100
	o := upstreams(t, map[string]http.Handler{"v2": http.HandlerFunc(counts)})
	o.WorkloadEntries = append(o.WorkloadEntries, workloadEntry(t, "v1", "127.0.0.1:1"))
	g := start(t, rendered(t, traffic, o), Options{})
	if res, _ := g.get(t, "/", mesh.BucketHeader, "07"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the user sees %d, want stable's 503", res.StatusCode)
	}
	g.over()
	if got := g.count(t, "siskin_gateway_retries_total"); got != 2 {
		t.Fatalf("sent again %v times, want Istio's 2", got)
	}
	if copies.Load() != 1 || g.count(t, "siskin_gateway_shadow_answers_total", "result", shadowSkipped) != 1 {
		t.Errorf("copied %d times, want once, and no comparison", copies.Load())
	}
	if got := g.count(t, "istio_requests_total", "reporter", "destination", "destination_version", "v1"); got != 0 {
		t.Errorf("%v requests arrived where nothing listens", got)
	}
}

// TestShadowKeepsNoConnection: a request that asks for another protocol is not copied, and a canary that speaks one unasked has
// failed. Neither keeps its place, nor the gateway from ending.
func TestShadowKeepsNoConnection(t *testing.T) {
	switches := func(w http.ResponseWriter, _ *http.Request) {
		conn, out, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = out.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = out.Flush()
		t.Cleanup(func() { _ = conn.Close() })
	}
	g := shadowed(t, says(200, "a"), switches, Options{MaxMirrors: 1})
	g.get(t, "/", mesh.BucketHeader, "07", "Connection", "Upgrade", "Upgrade", "echo")
	if got := g.count(t, "siskin_gateway_mirrored_requests_total", "result", mirrorDropped); got != 1 {
		t.Errorf("%v copies were dropped, want that of the upgrade", got)
	}
	g.get(t, "/", mesh.BucketHeader, "07")
	g.over()
	if got := g.count(t, "siskin_gateway_mirrored_requests_total", "result", mirrorFailed); got != 1 {
		t.Errorf("%v copies failed, want that which was answered in another protocol", got)
	}
}

// TestShadowLeavesTestersAlone: who names a variant is no user.
func TestShadowLeavesTestersAlone(t *testing.T) {
	g := shadowed(t, versions("v1"), versions("v2"), Options{})
	for variant, version := range map[string]string{"stable": "v1", "canary": "v2"} {
		if res, _ := g.get(t, "/", mesh.VariantHeader, variant); res.Header.Get("Version") != version {
			t.Errorf("a tester of %s meets %s", variant, res.Header.Get("Version"))
		}
	}
	g.over()
	for _, result := range []string{mirrorSent, mirrorFailed, mirrorDropped} {
		if got := g.count(t, "siskin_gateway_mirrored_requests_total", "result", result); got != 0 {
			t.Errorf("%v copies of testers' requests were %s", got, result)
		}
	}
}

// TestShadowIsLimited: a copy takes its token of the canary's rate limit, as a request does. Beyond it copies are dropped, and
// the user sees nothing of it.
func TestShadowIsLimited(t *testing.T) {
	traffic := split(nil)
	traffic.Mirror, traffic.RateLimit = 100, &mesh.RateLimit{RequestsPerSecond: 1, Burst: 2, OnlyCanary: true}
	g := start(t, rendered(t, traffic, bothVersions(t)), Options{Now: func() time.Time { return time.Time{} }})
	var seen []int
	for i := range 5 {
		res, _ := g.get(t, "/", mesh.BucketHeader, fmt.Sprintf("%02d", i))
		seen = append(seen, res.StatusCode)
	}
	g.over()
	if want := []int{200, 200, 200, 200, 200}; !slices.Equal(seen, want) {
		t.Errorf("users see %v, want %v", seen, want)
	}
	sent, dropped := g.count(t, "siskin_gateway_mirrored_requests_total", "result", mirrorSent), g.count(t, "siskin_gateway_mirrored_requests_total", "result", mirrorDropped)
	if sent != 2 || dropped != 3 {
		t.Errorf("%v copies sent and %v dropped, want the burst of 2 and 3", sent, dropped)
	}
}

package mesh

import (
	"net/http"
	"regexp"
	"strconv"
	"testing"
)

// TestCallersPort holds that a match for a port is for those who address it, and that the others fall through.
func TestCallersPort(t *testing.T) {
	routes := []Route{
		{Name: "at", Matches: []Match{{Port: 81}}, Destinations: []Destination{{Version: "at", Weight: 100}}},
		{Name: "rest", Destinations: []Destination{{Version: "rest", Weight: 100}}},
	}
	for port, want := range map[int]string{81: "at", 80: "rest", 0: "rest"} {
		if got, _ := (Caller{Port: port}).Choose(routes, nil, 0); got.Version != want {
			t.Errorf("port %d: got %q, want %q", port, got.Version, want)
		}
	}
}

func TestChoose(t *testing.T) {
	to := func(version string, weight int) Destination { return Destination{Version: version, Weight: weight} }
	header := func(m StringMatch) Match { return Match{Headers: map[string]StringMatch{"h": m}} }
	without := func(m StringMatch) Match { return Match{Without: map[string]StringMatch{"h": m}} }
	only := func(m Match) []Route {
		return []Route{{Matches: []Match{m}, Destinations: []Destination{to("yes", 100)}}, {Destinations: []Destination{to("no", 100)}}}
	}
	type args struct {
		routes []Route
		req    Request
		draw   float64
	}
	split := []Route{{Destinations: []Destination{to("v0", 0), to("v1", 90), to("v2", 10)}}}
	cases := map[string]struct {
		reason string
		args   args
		want   string
	}{
		"NoRoute":           {"Nothing matches in an empty list.", args{nil, nil, 0}, ""},
		"NoDestination":     {"A route that matches and leads nowhere answers nothing.", args{[]Route{{}}, nil, 0}, ""},
		"DrawAtZero":        {"A weight of 0 takes no draw, not even the lowest.", args{split, nil, 0}, "v1"},
		"DrawBelowEdge":     {"The first 90 % are v1.", args{split, nil, 0.8999}, "v1"},
		"DrawAtEdge":        {"The edge belongs to the next destination.", args{split, nil, 0.9}, "v2"},
		"DrawOutOfRange":    {"1 is no draw.", args{split, nil, 1}, ""},
		"Exact":             {"The whole value is equal.", args{only(header(StringMatch{Exact: "a"})), Request{"h": "a"}, 0}, "yes"},
		"ExactOther":        {"A longer value is another one.", args{only(header(StringMatch{Exact: "a"})), Request{"h": "ab"}, 0}, "no"},
		"ExactEmptyMissing": {"A missing header matches no condition.", args{only(header(StringMatch{})), nil, 0}, "no"},
		"RegexWhole":        {"An expression is anchored even when it does not say so.", args{only(header(StringMatch{Regex: "a|b"})), Request{"h": "ab"}, 0}, "no"},
		"RegexInvalid":      {"An expression that does not compile matches nothing.", args{only(header(StringMatch{Regex: "("})), Request{"h": "("}, 0}, "no"},
		"Without":           {"A condition in Without must not hold.", args{only(without(StringMatch{Exact: "a"})), Request{"h": "a"}, 0}, "no"},
		"WithoutOther":      {"Another value does not hold.", args{only(without(StringMatch{Exact: "a"})), Request{"h": "b"}, 0}, "yes"},
		"WithoutMissing":    {"A missing header counts as empty.", args{only(without(StringMatch{Regex: "a+"})), nil, 0}, "yes"},
		"WithoutEmpty":      {"So an expression that matches empty holds for a missing header.", args{only(without(StringMatch{Regex: "a*"})), nil, 0}, "no"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, ok := Choose(tc.args.routes, tc.args.req, tc.args.draw)
			if got.Version != tc.want || ok != (tc.want != "") {
				t.Errorf("%s\nChoose(...) = %q, %t, want %q", tc.reason, got.Version, ok, tc.want)
			}
		})
	}
}

// wellFormed is the grammar of a Cookie header in RFC 6265, section 4.2.1, with any number of spaces after a semicolon.
var wellFormed = regexp.MustCompile("^" + pairForm + "(?:; *" + pairForm + ")*$")

const pairForm = "[!#$%&'*+.^_`|~0-9A-Za-z-]+=[!#-+\\--:<-\\[\\]-~]*"

// parsed is the variant that the cookies lead to when the standard library reads them: the canary when any of them
// holds a bucket of the canary, else stable when any holds a bucket, else none.
func parsed(t *testing.T, traffic Traffic, header string) Variant {
	cookies, err := http.ParseCookie(header)
	if err != nil {
		t.Fatalf("parsing well-formed cookies %q: %v", header, err)
	}
	var found Variant
	for _, c := range cookies {
		if c.Name != traffic.Cookie.Name || len(c.Value) != 2 {
			continue
		}
		b, err := strconv.ParseUint(c.Value, 10, 8)
		if err != nil {
			continue
		}
		if v := owner(traffic, int(b)); found != Canary {
			found = v
		}
	}
	return found
}

// FuzzCookie compares the cookie's expression with a cookie parser on headers that follow the grammar. On all others it
// checks that every request still goes somewhere, and that nobody meets a bucket that the header does not spell.
func FuzzCookie(f *testing.F) {
	for _, carry := range carriers {
		f.Add(carry("07")["cookie"])
	}
	for _, seed := range []string{"siskin-coolant=00; siskin-coolant=99", "siskin-coolant=07;", ";;siskin-coolant=07", "a=\xff; siskin-coolant=07", "siskin-coolant=\n07", "=;=", "siskin-coolant=+7"} {
		f.Add(seed)
	}
	traffic := ramp(50, true, true)
	routes := Routes(traffic)
	spelt := regexp.MustCompile("siskin-coolant=[0-9]{2}")
	f.Fuzz(func(t *testing.T, header string) {
		d, ok := Choose(routes, Request{"cookie": header}, 0)
		if !ok {
			t.Fatalf("cookie %q: no route", header)
		}
		recognised := d.AddResponse == nil
		if recognised && !spelt.MatchString(header) {
			t.Fatalf("cookie %q: was recognised without a bucket", header)
		}
		if !wellFormed.MatchString(header) {
			return
		}
		want := parsed(t, traffic, header)
		if recognised != (want != "") || recognised && d.Variant != want {
			t.Fatalf("cookie %q: met %q, recognised %t; a parser says %q", header, d.Variant, recognised, want)
		}
	})
}

// FuzzBucketHeader checks that exactly the hundred two-digit values are buckets, and that all else falls to the cookie.
func FuzzBucketHeader(f *testing.F) {
	for _, seed := range []string{"", "7", "07", "007", "99", "100", "-1", " 07", "07 ", "07,07", "0x", "٠٧", "07\n"} {
		f.Add(seed)
	}
	traffic := ramp(50, true, true)
	routes := Routes(traffic)
	const inCookie = 42
	f.Fuzz(func(t *testing.T, header string) {
		want := owner(traffic, inCookie)
		if len(header) == 2 && '0' <= header[0] && header[0] <= '9' && '0' <= header[1] && header[1] <= '9' {
			want = owner(traffic, int(header[0]-'0')*10+int(header[1]-'0'))
		}
		req := Request{BucketHeader: header, "cookie": "siskin-coolant=" + FormatBucket(inCookie)}
		if got := chosen(t, routes, req, 0); got != want {
			t.Fatalf("header %q: met %q, want %q", header, got, want)
		}
	})
}

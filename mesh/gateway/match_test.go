package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/siskin-dev/siskin/mesh"
)

func TestMatch(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   string
		yes    []string
		no     []string
	}{
		"Exact":       {"The path without the query, and no more.", "{uri: {exact: /a}}", []string{"GET /a", "GET /a?b=c"}, []string{"GET /ab", "GET /", "GET /A"}},
		"Prefix":      {"A prefix of the path, also inside a segment.", "{uri: {prefix: /a}}", []string{"GET /a", "GET /ab/c"}, []string{"GET /b/a"}},
		"IgnoreCase":  {"Exact and prefix without case.", "{uri: {prefix: /aB}, ignoreUriCase: true}", []string{"GET /Abc"}, []string{"GET /a"}},
		"Regex":       {"The whole path, not a part of it.", "{uri: {regex: '/v[0-9]+'}}", []string{"GET /v12"}, []string{"GET /v12/a", "GET /a/v1", "GET /v"}},
		"Alternation": {"Anchors hold for every alternative.", "{uri: {regex: '/a|/b'}}", []string{"GET /a", "GET /b"}, []string{"GET /ab", "GET /a/b"}},
		"Escaped":     {"The path as it was sent.", "{uri: {exact: /a%2Fb}}", []string{"GET /a%2Fb"}, []string{"GET /a/b"}},
		"Method":      {"Case counts.", "{method: {exact: POST}}", []string{"POST /"}, []string{"GET /", "post /"}},
		"Scheme":      {"The gateway has no TLS here.", "{scheme: {exact: http}}", []string{"GET /"}, nil},
		"Authority":   {"With its port.", "{authority: {prefix: coolant}}", []string{"GET / Host=coolant.edge:80"}, []string{"GET / Host=edge"}},
		"Port":        {"The port that the client named, else 80.", "{port: 8080}", []string{"GET / Host=coolant:8080"}, []string{"GET / Host=coolant", "GET / Host=coolant:80"}},
		"Header":      {"Names have no case, values do.", "{headers: {x-a: {exact: b}}}", []string{"GET / X-A=b"}, []string{"GET /", "GET / X-A=B", "GET / X-A=bb"}},
		"Joined":      {"Several headers of one name are one value.", "{headers: {x-a: {exact: 'b,c'}}}", []string{"GET / X-A=b X-A=c"}, []string{"GET / X-A=b"}},
		"Present":     {"An empty match asks for presence.", "{headers: {x-a: {}}}", []string{"GET / X-A=b", "GET / X-A="}, []string{"GET /"}},
		"Empty":       {"An empty value is not presence.", "{headers: {x-a: {exact: ''}}}", []string{"GET / X-A="}, []string{"GET /", "GET / X-A=b"}},
		"HeaderRegex": {"Missing headers match no expression.", "{headers: {x-a: {regex: '.*'}}}", []string{"GET / X-A=", "GET / X-A=b"}, []string{"GET /"}},
		"And":         {"Conditions of one entry hold together.", "{uri: {prefix: /a}, headers: {x-a: {exact: b}}}", []string{"GET /a X-A=b"}, []string{"GET /a", "GET / X-A=b"}},
		"Or":          {"One entry is enough.", "{uri: {prefix: /a}}, {headers: {x-a: {exact: b}}}", []string{"GET /a", "GET / X-A=b"}, []string{"GET /"}},
		"Without":     {"A missing header is empty.", "{withoutHeaders: {x-a: {exact: b}}}", []string{"GET /", "GET / X-A=c"}, []string{"GET / X-A=b"}},
		"WithoutAny":  {"No header of that name at all.", "{withoutHeaders: {x-a: {}}}", []string{"GET /"}, []string{"GET / X-A=c", "GET / X-A="}},
		"WithoutRE":   {"A missing header matches what the empty value matches.", "{withoutHeaders: {x-a: {regex: '.*'}}}", nil, []string{"GET /", "GET / X-A=c"}},
		"Query":       {"The first value counts.", "{queryParams: {a: {exact: b}}}", []string{"GET /?a=b", "GET /?a=b&a=c"}, []string{"GET /", "GET /?a=c&a=b"}},
		"QueryThere":  {"An empty match asks for presence.", "{queryParams: {a: {}}}", []string{"GET /?a", "GET /?a=b"}, []string{"GET /?b"}},
		"Cookie":      {"Cookies are one header.", "{headers: {cookie: {regex: '(^|.*;\\s*)s=(0[1-3])(;.*|$)'}}}", []string{"GET / Cookie=s=01", "GET / Cookie=a=b Cookie=s=02", "GET / Cookie=xs=01;s=03;c=d"}, []string{"GET / Cookie=xs=01", "GET / Cookie=s=011", "GET / Cookie=s=04"}},
		"Gateway":     {"An entry for another gateway never holds.", "{gateways: [edge/public]}, {uri: {exact: /a}, gateways: [mesh]}", []string{"GET /a"}, []string{"GET /"}},
		"Source":      {"Nor does one for other callers.", "{sourceLabels: {app: x}}, {sourceLabels: {app: ingest}, uri: {exact: /a}}", []string{"GET /a"}, []string{"GET /"}},
		"Namespace":   {"Or for callers elsewhere.", "{sourceNamespace: x}, {sourceNamespace: edge, uri: {exact: /a}}", []string{"GET /a"}, []string{"GET /"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			vs := virtualService(t, "  - directResponse: {status: 200}\n    match: ["+tc.args+"]\n  - directResponse: {status: 404}")
			objects := Objects{VirtualServices: []*networkingv1.VirtualService{vs}}
			table, refusals := Compile(objects, Identity{Namespace: "edge", Labels: map[string]string{"app": "ingest"}})
			if len(refusals) > 0 {
				t.Fatalf("Compile(...) refuses %v", refusals)
			}
			for want, lines := range map[bool][]string{true: tc.yes, false: tc.no} {
				for _, line := range lines {
					r := parse(t, line)
					if _, got := table.exact[host].routes[0].find(&view{r: r}); got != want {
						t.Errorf("%s\n%q matches %s: %t, want %t", tc.reason, line, tc.args, got, want)
					}
				}
			}
		})
	}
}

// parse reads "METHOD path Name=value ...".
func parse(t *testing.T, line string) *http.Request {
	t.Helper()
	parts := strings.Fields(line)
	r := httptest.NewRequest(http.MethodGet, parts[1], nil)
	r.Method = parts[0]
	for _, pair := range parts[2:] {
		name, value, _ := strings.Cut(pair, "=")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	return r
}

// TestBucketTable checks the shortcut for two digits against the expression.
func TestBucketTable(t *testing.T) {
	v := &review{}
	for _, pattern := range []string{`^(0[37]|17|4[0-25])$`, `[0-9][0-9]`, `1.|.9`, ``, `7`, `(?i)x?42`} {
		m := v.expression("f", pattern)
		for b := range mesh.Buckets {
			text := fmt.Sprintf("%02d", b)
			if got, want := m.matches(text), m.re.MatchString(text); got != want {
				t.Errorf("%q matches %q: %t, want %t", pattern, text, got, want)
			}
		}
	}
}

// FuzzChoose compares the gateway's choice with mesh.Choose, on what the renderer makes of the same routes.
func FuzzChoose(f *testing.F) {
	traffic := split([]int{3, 17, 40, 41, 42, 96})
	traffic.Cookie = &mesh.Cookie{Name: "siskin-coolant", MaxAgeSeconds: 60}
	table, refusals := Compile(rendered(f, traffic, Objects{ServiceEntries: []*networkingv1.ServiceEntry{serviceEntry(f)}}), Identity{})
	if len(refusals) > 0 {
		f.Fatal(refusals)
	}
	routes := mesh.Routes(traffic)
	f.Add("03", "", "", uint8(0))
	f.Add("3", "a=b; siskin-coolant=17", "", uint8(3))
	f.Add("", "xsiskin-coolant=17;siskin-coolant=40;c", "", uint8(96))
	f.Add("99\n", "siskin-coolant=99", "", uint8(40))
	f.Add("", "", "canary", uint8(41))
	f.Fuzz(func(t *testing.T, bucket, cookie, variant string, draw uint8) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		request := mesh.Request{}
		for name, value := range map[string]string{mesh.BucketHeader: bucket, "cookie": cookie, mesh.VariantHeader: variant} {
			if value != "" {
				r.Header.Set(name, value)
				request[name] = value
			}
		}
		at := draw % 100
		want, _ := mesh.Choose(routes, request, (float64(at)+0.5)/100)
		var got *destination
		for _, route := range table.find(host).routes {
			if _, ok := route.find(&view{r: r}); ok {
				got = route.pick(fixed(uint32(at)))
				break
			}
		}
		if got == nil || got.cluster.peer.version != want.Version || got.response.add["Set-Cookie"] != want.AddResponse["set-cookie"] {
			t.Errorf("bucket %q, cookie %q, variant %q: got %+v, want %+v", bucket, cookie, variant, got, want)
		}
	})
}

// BenchmarkMatch finds the route of a request.
func BenchmarkMatch(b *testing.B) {
	traffic := split([]int{3, 17, 40, 41, 42, 96})
	traffic.Cookie = &mesh.Cookie{Name: "siskin-coolant", MaxAgeSeconds: 60}
	table, _ := Compile(rendered(b, traffic, Objects{}), Identity{})
	for name, pair := range map[string][2]string{
		"Header":  {mesh.BucketHeader, "41"},
		"Cookie":  {"Cookie", "theme=dark; siskin-coolant=41; session=0123456789abcdef"},
		"Neither": {"X-Other", "1"},
	} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "http://"+host+"/v2/models/coolant/infer", nil)
			r.Header.Set(pair[0], pair[1])
			b.ReportAllocs()
			for b.Loop() {
				w := view{r: r}
				for _, route := range table.find(r.Host).routes {
					if _, ok := route.find(&w); ok {
						break
					}
				}
			}
		})
	}
}

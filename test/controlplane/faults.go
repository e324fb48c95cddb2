package controlplane

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// Faults stands between the controller and the API server. It keeps what the controller asks, and answers requests with an
// error while they are broken; watches that are open stay so.
type Faults struct {
	// Kubeconfig is the controller's, through here.
	Kubeconfig string

	mu     sync.Mutex // guards the rest
	broken func(Request) bool
	all    []Request
}

// Request is what the controller asked.
type Request struct {
	Method, Path string
	// At is when it came, and Refused says that it was broken.
	At      time.Time
	Refused bool
}

// StartFaults runs one until the test ends.
func (p *Plane) StartFaults() *Faults {
	p.tb.Helper()
	transport, err := rest.TransportFor(&rest.Config{TLSClientConfig: p.Config(p.controller).TLSClientConfig})
	if err != nil {
		p.tb.Fatal(err)
	}
	api := &url.URL{Scheme: "https", Host: p.api}
	f := &Faults{}
	proxy := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, // a watch is told at once
		ErrorLog: log.New(io.Discard, "", 0), // the controller ends with watches open
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(api) },
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.refuses(Request{Method: r.Method, Path: r.URL.Path}) {
			http.Error(w, "broken by the test", http.StatusInternalServerError)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	p.tb.Cleanup(server.Close)
	authority := p.path("faults.crt")
	p.write(authority, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	f.Kubeconfig = p.kubeconfig(p.controller, "faults", server.URL, authority)
	return f
}

// refuses says whether a request is broken, and keeps it.
func (f *Faults) refuses(q Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	q.At, q.Refused = time.Now(), f.broken != nil && f.broken(q)
	f.all = append(f.all, q)
	return q.Refused
}

// Break makes those requests fail from now on, and no others, and returns how many were asked before. Nil ends it.
func (f *Faults) Break(broken func(Request) bool) (before int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = broken
	return len(f.all)
}

// Requests are those after the first so many.
func (f *Faults) Requests(before int) []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all[before:])
}

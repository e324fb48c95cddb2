package controlplane

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"

	"k8s.io/client-go/rest"
)

// Faults stands between the controller and the API server. While it is broken, it answers requests with an error; watches
// that are open stay so.
type Faults struct {
	// Kubeconfig is the controller's, through here.
	Kubeconfig string

	broken  atomic.Pointer[string] // the resource that is, "" for all
	refused atomic.Int64
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
		if what := f.broken.Load(); what != nil && strings.Contains(r.URL.Path, *what) {
			f.refused.Add(1)
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

// Break makes every further request fail that is for a resource, such as "destinationrules", until Heal; every request at all
// for "".
func (f *Faults) Break(resource string) { f.broken.Store(&resource) }

// Heal ends that.
func (f *Faults) Heal() { f.broken.Store(nil) }

// Refused counts the requests that failed.
func (f *Faults) Refused() int64 { return f.refused.Load() }

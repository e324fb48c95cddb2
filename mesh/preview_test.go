package mesh

import (
	"slices"
	"strings"
	"testing"
)

// previewing is a ramp with a preview host beside the host of the service.
func previewing(weight int) Traffic {
	t := ramp(weight, true, true)
	t.Service.Hosts, t.Service.Gateways = []string{"predict.example.com"}, []string{"edge/public"}
	t.PreviewHosts = []string{"preview.example.com", "next.example.com"}
	return t
}

// TestPreviewHosts: at any weight, who asks for a preview host meets the canary and nobody else does by it; a pin still wins.
func TestPreviewHosts(t *testing.T) {
	for weight := 0; weight <= Buckets; weight += 20 {
		traffic := previewing(weight)
		if err := traffic.Validate(); err != nil {
			t.Fatal(err)
		}
		routes := Routes(traffic)
		for b := range Buckets {
			for _, tc := range []struct {
				host, pin string
				want      Variant
			}{
				{"preview.example.com", "", Canary},
				{"next.example.com", "", Canary},
				{"Preview.Example.COM", "", Canary},
				{"predict.example.com", "", owner(traffic, b)},
				{"", "", owner(traffic, b)},
				{"preview.example.com", "stable", Stable},
			} {
				request := Request{BucketHeader: FormatBucket(b)}
				if tc.pin != "" {
					request[VariantHeader] = tc.pin
				}
				if got, _ := (Caller{Host: tc.host}).Choose(routes, request, 0.5); got.Variant != tc.want {
					t.Fatalf("weight %d, bucket %02d, host %q, pin %q: met %q, want %q", weight, b, tc.host, tc.pin, got.Variant, tc.want)
				}
			}
		}
	}
}

// TestPreviewHostsAtRest: without a canary the hosts are like any other.
func TestPreviewHostsAtRest(t *testing.T) {
	traffic := previewing(0)
	traffic.Shares = traffic.Shares[:1]
	if i := slices.IndexFunc(Routes(traffic), func(r Route) bool { return r.Name == "canary-hosts" }); i >= 0 {
		t.Error("there is a route for preview hosts without a canary")
	}
}

func TestPreviewHostsValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Traffic)
		want   string
	}{
		"Form":     {func(t *Traffic) { t.PreviewHosts = []string{"Preview"} }, `previewHosts[0] "Preview": must be a host name without a wildcard`},
		"Wildcard": {func(t *Traffic) { t.PreviewHosts = []string{"*.example.com"} }, "must be a host name"},
		"Twice":    {func(t *Traffic) { t.PreviewHosts = []string{"a.b", "a.b"} }, `previewHosts[1] "a.b": must be given once`},
		"Service":  {func(t *Traffic) { t.PreviewHosts = t.Service.Hosts }, "not be a host of the service"},
		"Own":      {func(t *Traffic) { t.PreviewHosts = []string{t.Service.FQDN()} }, "not be a host of the service"},
		"Nowhere":  {func(t *Traffic) { t.Service.Hosts, t.Service.Gateways = nil, nil }, "may not be specified without service.gateways"},
		"TLS": {func(t *Traffic) {
			t.Service.Protocol, t.BucketHeader, t.Cookie = TLS, "", nil
		}, `service.protocol "TLS": may not be specified with previewHosts`},
	} {
		t.Run(name, func(t *testing.T) {
			traffic := previewing(5)
			tc.change(&traffic)
			if err := traffic.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

package envoy

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"
)

// listening is a listener whose chains lead to clusters by the names of servers.
func listening(t *testing.T, address string, chains map[string]string) *listenerv3.Listener {
	t.Helper()
	l := &listenerv3.Listener{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 9000},
	}}}}
	for server, to := range chains {
		config, err := anypb.New(&tcpv3.TcpProxy{ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: to}})
		if err != nil {
			t.Fatal(err)
		}
		chain := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config}}}}
		if server != "" {
			chain.FilterChainMatch = &listenerv3.FilterChainMatch{ServerNames: []string{server}}
		}
		l.FilterChains = append(l.FilterChains, chain)
	}
	return l
}

func TestStreams(t *testing.T) {
	a := Answer{Listeners: map[string]*listenerv3.Listener{
		"all": listening(t, "0.0.0.0", map[string]string{"": "all"}),
		"one": listening(t, "10.0.0.1", map[string]string{"": "plain", "a": "named"}),
	}}
	for reason, tc := range map[string]struct {
		address string
		port    uint32
		server  string
		want    string
	}{
		"a listener of the address's own comes first": {"10.0.0.1", 9000, "", "plain"},
		"the name of the server decides":              {"10.0.0.1", 9000, "a", "named"},
		"an unknown name leads nowhere":               {"10.0.0.1", 9000, "b", ""},
		"the listener of all addresses takes others":  {"10.0.0.2", 9000, "", "all"},
		"another port is not theirs":                  {"10.0.0.1", 9001, "", ""},
	} {
		var want []Destination
		if tc.want != "" {
			want = []Destination{{Cluster: tc.want, Weight: 1}}
		}
		got, err := a.Streams(tc.address, tc.port, tc.server)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v, -want, +got:\n%s", reason, err, diff)
		}
	}
}

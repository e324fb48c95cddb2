package envoy

import (
	"fmt"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

// Streams are the destinations among which a connection to the port is drawn that asks for a server by name (SNI), of all
// listeners on that port; none where no listener knows the name. A single destination has the weight 1.
func (a Answer) Streams(port uint32, server string) ([]Destination, error) {
	var out []Destination
	for _, l := range a.Listeners {
		if l.GetAddress().GetSocketAddress().GetPortValue() != port {
			continue
		}
		for _, chain := range l.GetFilterChains() {
			if !slices.Contains(chain.GetFilterChainMatch().GetServerNames(), server) {
				continue
			}
			found, err := streams(chain)
			if err != nil {
				return nil, fmt.Errorf("reading listener %q: %w", l.GetName(), err)
			}
			out = append(out, found...)
		}
	}
	return out, nil
}

// streams are those of the chain's last filter, which sends connections on.
func streams(chain *listenerv3.FilterChain) ([]Destination, error) {
	filters := chain.GetFilters()
	if len(filters) == 0 {
		return nil, fmt.Errorf("chain %q has no filter", chain.GetName())
	}
	var proxy tcpv3.TcpProxy
	if err := filters[len(filters)-1].GetTypedConfig().UnmarshalTo(&proxy); err != nil {
		return nil, fmt.Errorf("the last filter of chain %q: %w", chain.GetName(), err)
	}
	if one := proxy.GetCluster(); one != "" {
		return []Destination{{Cluster: one, Weight: 1}}, nil
	}
	var out []Destination
	for _, c := range proxy.GetWeightedClusters().GetClusters() {
		out = append(out, Destination{Cluster: c.GetName(), Weight: c.GetWeight()})
	}
	return out, nil
}

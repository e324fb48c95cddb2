package envoy

import (
	"fmt"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

// Streams are the destinations among which a connection to the address and port is drawn that asks for a server by name (SNI),
// or for none where the name is empty; none where the name is not known there. The listener of the address itself comes before
// the one of all addresses. A single destination has the weight 1.
func (a Answer) Streams(address string, port uint32, server string) ([]Destination, error) {
	var out []Destination
	l := a.listener(address, port)
	for _, chain := range l.GetFilterChains() {
		names := chain.GetFilterChainMatch().GetServerNames()
		if server == "" && len(names) > 0 || server != "" && !slices.Contains(names, server) {
			continue
		}
		found, err := StreamsOf(chain)
		if err != nil {
			return nil, fmt.Errorf("reading listener %q: %w", l.GetName(), err)
		}
		out = append(out, found...)
	}
	return out, nil
}

// listener is the one that takes connections to an address and port; nil for none.
func (a Answer) listener(address string, port uint32) (all *listenerv3.Listener) {
	for _, l := range a.Listeners {
		switch at := l.GetAddress().GetSocketAddress(); {
		case at.GetPortValue() != port:
		case at.GetAddress() == address:
			return l
		case at.GetAddress() == "0.0.0.0":
			all = l
		}
	}
	return all
}

// StreamsOf are those of the chain's last filter, which sends connections on.
func StreamsOf(chain *listenerv3.FilterChain) ([]Destination, error) {
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
		if err := only(c, "name", "weight"); err != nil {
			return nil, fmt.Errorf("the last filter of chain %q: %w", chain.GetName(), err)
		}
		out = append(out, Destination{Cluster: c.GetName(), Weight: c.GetWeight()})
	}
	return out, nil
}

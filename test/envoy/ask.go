// Package envoy asks a control plane what a proxy asks it, and evaluates the routes of the answer as Envoy does.
package envoy

import (
	"context"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// The kinds of proxies.
const (
	Sidecar  = "sidecar"
	Router   = "router"
	Waypoint = "waypoint"
)

// Node is a proxy. A sidecar has the address of its pod.
type Node struct {
	Kind, Address, Name, Namespace string
	Labels                         map[string]string
}

// Answer is what a proxy is told, by name.
type Answer struct {
	Clusters  map[string]*clusterv3.Cluster
	Endpoints map[string]*endpointv3.ClusterLoadAssignment
	Listeners map[string]*listenerv3.Listener
	Routes    map[string]*routev3.RouteConfiguration
}

// Ask asks for all clusters and their endpoints, all listeners and the routes that these name, over ADS at the address.
func Ask(ctx context.Context, address string, n Node) (Answer, error) {
	var a Answer
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return a, fmt.Errorf("connecting to %q: %w", address, err)
	}
	defer func() { _ = conn.Close() }() // what was asked is answered, or the error is known
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return a, fmt.Errorf("asking %q: %w", address, err)
	}
	node, err := n.proto()
	if err != nil {
		return a, err
	}
	asks := []func() error{
		func() (err error) { a.Clusters, err = subscribe[clusterv3.Cluster](stream, node, nil); return err },
		func() (err error) {
			a.Endpoints, err = subscribe[endpointv3.ClusterLoadAssignment](stream, node, a.discovered())
			return err
		},
		func() (err error) { a.Listeners, err = subscribe[listenerv3.Listener](stream, node, nil); return err },
		func() (err error) {
			names, err := a.routeNames()
			if err == nil {
				a.Routes, err = subscribe[routev3.RouteConfiguration](stream, node, names)
			}
			return err
		},
	}
	for _, ask := range asks {
		if err := ask(); err != nil {
			return a, fmt.Errorf("asking %q as %s %q: %w", address, n.Kind, n.Name, err)
		}
	}
	return a, nil
}

// proto is how the node names itself to Istio.
func (n Node) proto() (*corev3.Node, error) {
	labels := map[string]any{}
	for k, v := range n.Labels {
		labels[k] = v
	}
	metadata, err := structpb.NewStruct(map[string]any{
		"NAMESPACE": n.Namespace, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.1", "LABELS": labels,
		"INSTANCE_IPS": n.Address,
	})
	if err != nil {
		return nil, fmt.Errorf("describing node %q: %w", n.Name, err)
	}
	id := fmt.Sprintf("%s~%s~%s.%s~%s.svc.cluster.local", n.Kind, n.Address, n.Name, n.Namespace, n.Namespace)
	return &corev3.Node{Id: id, Metadata: metadata}, nil
}

// resource is a message that has a name, by its pointer.
type resource[T any] interface {
	*T
	proto.Message
}

type stream = grpc.BidiStreamingClient[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]

// subscribe asks for resources of one type: those named, or all where names are nil. No names at all ask for nothing.
func subscribe[T any, P resource[T]](s stream, node *corev3.Node, names []string) (map[string]*T, error) {
	out := map[string]*T{}
	if names != nil && len(names) == 0 {
		return out, nil
	}
	url := "type.googleapis.com/" + string(P(new(T)).ProtoReflect().Descriptor().FullName())
	if err := s.Send(&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: url, ResourceNames: names}); err != nil {
		return nil, fmt.Errorf("requesting %s: %w", url, err)
	}
	for {
		res, err := s.Recv()
		if err != nil {
			return nil, fmt.Errorf("receiving %s: %w", url, err)
		}
		if res.GetTypeUrl() != url {
			continue // a push of what was asked for before; the next answer will show it
		}
		for _, packed := range res.GetResources() {
			r := P(new(T))
			if err := packed.UnmarshalTo(r); err != nil {
				return nil, fmt.Errorf("decoding %s: %w", url, err)
			}
			out[nameOf(r)] = r
		}
		return out, nil
	}
}

func nameOf(m proto.Message) string {
	switch r := m.(type) {
	case interface{ GetName() string }:
		return r.GetName()
	case interface{ GetClusterName() string }:
		return r.GetClusterName()
	}
	return ""
}

// discovered are the clusters whose endpoints the control plane knows.
func (a Answer) discovered() []string {
	names := []string{}
	for name, c := range a.Clusters {
		if c.GetType() == clusterv3.Cluster_EDS {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Managers are the HTTP connection managers of a listener.
func Managers(l *listenerv3.Listener) ([]*hcmv3.HttpConnectionManager, error) {
	var out []*hcmv3.HttpConnectionManager
	for _, chain := range Chains(l) {
		m, err := Manager(chain)
		if err != nil {
			return nil, fmt.Errorf("reading listener %q: %w", l.GetName(), err)
		}
		if m != nil {
			out = append(out, m)
		}
	}
	return out, nil
}

// Chains are the filter chains of a listener, the default one last.
func Chains(l *listenerv3.Listener) []*listenerv3.FilterChain {
	chains := slices.Clone(l.GetFilterChains())
	if d := l.GetDefaultFilterChain(); d != nil {
		chains = append(chains, d)
	}
	return chains
}

// Manager is the HTTP connection manager of a filter chain; nil where none takes the connections.
func Manager(chain *listenerv3.FilterChain) (*hcmv3.HttpConnectionManager, error) {
	for _, filter := range chain.GetFilters() {
		var m hcmv3.HttpConnectionManager
		if !filter.GetTypedConfig().MessageIs(&m) {
			continue
		}
		if err := filter.GetTypedConfig().UnmarshalTo(&m); err != nil {
			return nil, fmt.Errorf("decoding filter %q of chain %q: %w", filter.GetName(), chain.GetName(), err)
		}
		return &m, nil
	}
	return nil, nil //nolint:nilnil // connections that are no HTTP
}

// routeNames are the route configurations that the listeners ask for.
func (a Answer) routeNames() ([]string, error) {
	names := []string{}
	for _, l := range a.Listeners {
		managers, err := Managers(l)
		if err != nil {
			return nil, err
		}
		for _, m := range managers {
			if name := m.GetRds().GetRouteConfigName(); name != "" {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

package gateway

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	api "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Labels that Istio reads.
const (
	labelApp               = "app"
	labelVersion           = "version"
	labelCanonicalName     = "service.istio.io/canonical-name"
	labelCanonicalRevision = "service.istio.io/canonical-revision"
	labelWorkloadName      = "service.istio.io/workload-name"
)

// service is a host with its ports and everything that runs it.
type service struct {
	namespace string
	ports     []servicePort
	workloads []workload
}

// numbers are those of its ports; none of no service.
func (s *service) numbers() []string {
	if s == nil {
		return nil
	}
	out := make([]string, len(s.ports))
	for i, p := range s.ports {
		out[i] = strconv.Itoa(int(p.number))
	}
	return out
}

type servicePort struct {
	name           string
	number, target uint32
}

// workload is something that runs a service, not yet bound to a port.
type workload struct {
	name, namespace, address string
	ports                    map[string]uint32
	labels                   map[string]string
}

// rule is what the DestinationRules of a host say.
type rule struct {
	balance balance
	subsets map[string]subset
}

type subset struct {
	labels  map[string]string
	balance balance
}

// balance chooses among endpoints.
type balance int

// The ways to choose. Istio's default is the endpoint with fewer requests of two drawn ones.
const (
	leastRequest balance = iota
	roundRobin
	random
)

// carries says whether has contains all of wants.
func carries(has, wants map[string]string) bool {
	return labels.SelectorFromSet(wants).Matches(labels.Set(has))
}

// workloads compiles the WorkloadEntries that are ready.
func (c *compiler) workloads(objects []*networkingv1.WorkloadEntry) []workload {
	var out []workload
	for _, we := range oldestFirst(objects) {
		v := named("WorkloadEntry", we)
		w := v.workload("spec", &we.Spec)
		if name := we.Spec.GetLabels()[labelWorkloadName]; name == "" {
			w.name = we.Name
		}
		w.namespace = we.Namespace
		if c.accept(v) && ready(we) {
			out = append(out, w)
		}
	}
	return out
}

// ready is false only where a health check said so.
func ready(we *networkingv1.WorkloadEntry) bool {
	for _, condition := range we.Status.GetConditions() {
		if condition.GetType() == "Healthy" && condition.GetStatus() == "False" {
			return false
		}
	}
	return true
}

func (v *review) workload(field string, in *api.WorkloadEntry) workload {
	v.only(field, in, "address", "ports", "labels")
	if in.GetAddress() == "" || strings.Contains(in.GetAddress(), "/") {
		v.refuse(field+".address", in.GetAddress(), "must be an IP address or a host name")
	}
	name := in.GetLabels()[labelWorkloadName]
	return workload{name: name, address: in.GetAddress(), ports: in.GetPorts(), labels: in.GetLabels()}
}

// serviceEntries compiles services. The oldest one keeps a host that two of them claim.
func (c *compiler) serviceEntries(objects []*networkingv1.ServiceEntry, entries []workload) {
	for _, se := range oldestFirst(objects) {
		v := named("ServiceEntry", se)
		v.only("spec", &se.Spec, "hosts", "ports", "location", "resolution", "endpoints", "workloadSelector", "exportTo")
		v.exportTo(se.Spec.ExportTo)
		if r := se.Spec.Resolution; r != api.ServiceEntry_STATIC && r != api.ServiceEntry_DNS {
			v.refuse("spec.resolution", r, "must be STATIC or DNS")
		}
		s := &service{namespace: se.Namespace, ports: v.servicePorts(se.Spec.Ports)}
		for i, in := range se.Spec.Endpoints {
			w := v.workload(fmt.Sprintf("spec.endpoints[%d]", i), in)
			w.namespace = se.Namespace
			s.workloads = append(s.workloads, w)
		}
		if selector := se.Spec.WorkloadSelector; selector != nil {
			s.selectFrom(entries, selector.Labels)
		}
		for i, host := range se.Spec.Hosts {
			if strings.Contains(host, "*") {
				v.refuse(fmt.Sprintf("spec.hosts[%d]", i), host, "must not have a wildcard")
			}
		}
		if c.accept(v) {
			c.claim(se, s)
		}
	}
}

func (s *service) selectFrom(entries []workload, selector map[string]string) {
	for _, w := range entries {
		if w.namespace == s.namespace && carries(w.labels, selector) {
			s.workloads = append(s.workloads, w)
		}
	}
}

func (c *compiler) claim(se *networkingv1.ServiceEntry, s *service) {
	v := named("ServiceEntry", se)
	for i, name := range se.Spec.Hosts {
		host := hostname(name, se.Namespace)
		if c.services[host] != nil {
			v.refuse(fmt.Sprintf("spec.hosts[%d]", i), name, "belongs to an older ServiceEntry")
			continue
		}
		c.services[host] = s
	}
	c.accept(v)
}

func (v *review) servicePorts(in []*api.ServicePort) []servicePort {
	var out []servicePort
	for i, p := range in {
		if !strings.EqualFold(p.GetProtocol(), "http") {
			v.refuse(fmt.Sprintf("spec.ports[%d].protocol", i), p.GetProtocol(), "must be HTTP")
		}
		target := p.GetTargetPort()
		if target == 0 {
			target = p.GetNumber()
		}
		out = append(out, servicePort{name: p.GetName(), number: p.GetNumber(), target: target})
	}
	if len(in) == 0 {
		v.refuse("spec.ports", "", "must have a port")
	}
	return out
}

// destinationRules compiles subsets and policies. Rules of one host are merged, and the oldest one wins where they
// disagree.
func (c *compiler) destinationRules(objects []*networkingv1.DestinationRule) {
	for _, dr := range oldestFirst(objects) {
		v := named("DestinationRule", dr)
		v.only("spec", &dr.Spec, "host", "trafficPolicy", "subsets", "exportTo")
		v.exportTo(dr.Spec.ExportTo)
		own := &rule{balance: v.policy("spec.trafficPolicy", dr.Spec.TrafficPolicy, leastRequest), subsets: map[string]subset{}}
		for i, in := range dr.Spec.Subsets {
			field := fmt.Sprintf("spec.subsets[%d]", i)
			v.only(field, in, "name", "labels", "trafficPolicy")
			if _, twice := own.subsets[in.GetName()]; twice {
				v.refuse(field+".name", in.GetName(), "must be unique")
			}
			own.subsets[in.GetName()] = subset{
				labels: in.GetLabels(), balance: v.policy(field+".trafficPolicy", in.GetTrafficPolicy(), own.balance),
			}
		}
		if c.accept(v) {
			c.merge(named("DestinationRule", dr), hostname(dr.Spec.Host, dr.Namespace), own)
		}
	}
}

func (c *compiler) merge(v *review, host string, own *rule) {
	before := c.rules[host]
	if before == nil {
		c.rules[host] = own
		return
	}
	for _, name := range slices.Sorted(maps.Keys(own.subsets)) {
		if have, taken := before.subsets[name]; !taken {
			before.subsets[name] = own.subsets[name]
		} else if !maps.Equal(have.labels, own.subsets[name].labels) {
			v.refuse("spec.subsets", name, "has other labels in an older DestinationRule of the host")
		}
	}
	c.accept(v)
}

func (v *review) policy(field string, in *api.TrafficPolicy, otherwise balance) balance {
	v.only(field, in, "loadBalancer", "tls")
	v.only(field+".loadBalancer", in.GetLoadBalancer(), "simple")
	if mode := in.GetTls().GetMode(); in.GetTls() != nil && mode != api.ClientTLSSettings_DISABLE {
		v.refuse(field+".tls.mode", mode, "must be DISABLE")
	}
	if in.GetLoadBalancer() == nil {
		return otherwise
	}
	switch simple := in.GetLoadBalancer().GetSimple(); simple {
	case api.LoadBalancerSettings_ROUND_ROBIN:
		return roundRobin
	case api.LoadBalancerSettings_RANDOM:
		return random
	case api.LoadBalancerSettings_UNSPECIFIED, api.LoadBalancerSettings_LEAST_REQUEST:
		return leastRequest
	default:
		v.refuse(field+".loadBalancer.simple", simple, "must be LEAST_REQUEST, ROUND_ROBIN or RANDOM")
		return leastRequest
	}
}

// clusterKey names a cluster. Port 0 is the only port of the service.
type clusterKey struct {
	host, subset string
	port         uint32
}

// cluster is the endpoints of a host, or of a subset of it, that are ready.
type cluster struct {
	// missing is set when there is no such host, port or subset.
	missing   bool
	peer      peer
	endpoints []*endpoint
	balance   balance
	next      atomic.Uint32
	// failed counts requests that reached no endpoint. It is set when the table comes into force.
	failed *series
}

// endpoint is an address that runs the service.
type endpoint struct {
	address string
	peer    peer
	limits  []*limit
	// active counts requests in flight. It, series and sent are set when the table comes into force.
	active *atomic.Int64
	series *series
	sent   prometheus.Counter
}

// cluster compiles a cluster, once per key.
func (c *compiler) cluster(key clusterKey) *cluster {
	if known := c.table.clusters[key]; known != nil {
		return known
	}
	cl := &cluster{missing: true, peer: servicePeer(key.host, c.services[key.host])}
	c.table.clusters[key] = cl
	s, r := c.services[key.host], c.rules[key.host]
	if r == nil {
		r = &rule{}
	}
	cl.balance = r.balance
	var selector map[string]string
	known := true
	if key.subset != "" {
		var in subset
		in, known = r.subsets[key.subset]
		selector, cl.balance = in.labels, in.balance
	}
	cl.peer = cl.peer.labelled(selector)
	if s == nil || !known {
		return cl
	}
	port := slices.IndexFunc(s.ports, func(p servicePort) bool { return p.number == key.port || key.port == 0 && len(s.ports) == 1 })
	if port >= 0 {
		cl.missing = false
		cl.endpoints = c.endpoints(cl.peer, s, s.ports[port], selector)
	}
	return cl
}

func (c *compiler) endpoints(of peer, s *service, port servicePort, selector map[string]string) []*endpoint {
	var out []*endpoint
	for _, w := range s.workloads {
		if !carries(w.labels, selector) {
			continue
		}
		number := port.target
		if own := w.ports[port.name]; own != 0 {
			number = own
		}
		e := &endpoint{address: net.JoinHostPort(w.address, strconv.Itoa(int(number))), peer: of.labelled(w.labels)}
		e.peer.workload, e.peer.workloadNamespace = orUnknown(w.name, w.labels[labelCanonicalName], w.labels[labelApp]), w.namespace
		for _, l := range c.table.limits {
			if l.object.Namespace == w.namespace && carries(w.labels, l.selector) {
				e.limits = append(e.limits, l)
			}
		}
		out = append(out, e)
	}
	return out
}

// pick chooses an endpoint, another one than avoid where there is one; nil when there are none.
func (cl *cluster) pick(draw func() uint32, avoid *endpoint) *endpoint {
	n := uint32(len(cl.endpoints))
	if n == 0 {
		return nil
	}
	if n == 1 {
		return cl.endpoints[0]
	}
	at := cl.index(draw, n)
	if cl.endpoints[at] == avoid {
		at = (at + 1) % n
	}
	return cl.endpoints[at]
}

func (cl *cluster) index(draw func() uint32, n uint32) uint32 {
	switch cl.balance {
	case roundRobin:
		return cl.next.Add(1) % n
	case random:
		return draw() % n
	case leastRequest:
	}
	one, other := draw()%n, draw()%n
	if cl.endpoints[other].active.Load() < cl.endpoints[one].active.Load() {
		return other
	}
	return one
}

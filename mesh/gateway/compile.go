package gateway

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Objects is everything that the gateway obeys. It reads the objects and never changes them.
type Objects struct {
	VirtualServices  []*networkingv1.VirtualService
	DestinationRules []*networkingv1.DestinationRule
	ServiceEntries   []*networkingv1.ServiceEntry
	WorkloadEntries  []*networkingv1.WorkloadEntry
	EnvoyFilters     []*v1alpha3.EnvoyFilter
}

// Identity is who the gateway is in the mesh: the objects may ask for it, and the metrics name it as the source.
type Identity struct {
	// Namespace and Workload are the source of all requests. The default workload is "siskin-gateway".
	Namespace string
	Workload  string
	// Labels are compared with sourceLabels.
	Labels map[string]string
	// Gateways are the names under which the gateway serves VirtualServices. The default is "mesh".
	Gateways []string
}

// Object names an object.
type Object struct {
	Kind      string
	Namespace string
	Name      string
}

// String is kind, namespace and name.
func (o Object) String() string { return o.Kind + " " + o.Namespace + "/" + o.Name }

// Refusal says what in an object the gateway does not obey. The whole object is not in force then.
type Refusal struct {
	Object Object
	// Field is the path of the field, such as "spec.http[0].corsPolicy".
	Field string
	// Value is the field's value, shortened to 120 bytes.
	Value string
	Why   string
}

// Error is the refusal in one sentence.
func (r Refusal) Error() string {
	return fmt.Sprintf("refusing %s: %s %q %s", r.Object, r.Field, r.Value, r.Why)
}

// notSupported is why a field is refused that the gateway does not know.
const notSupported = "is not supported"

// review collects what is wrong with one object.
type review struct {
	object   Object
	refusals []Refusal
}

func (v *review) refuse(field string, value any, why string) {
	text := strings.Join(strings.Fields(fmt.Sprint(value)), " ")
	if len(text) > 120 {
		text = text[:120]
	}
	v.refusals = append(v.refusals, Refusal{Object: v.object, Field: field, Value: text, Why: why})
}

// only refuses every field of the message that is set and not allowed. It asks the message, not a list of what is
// refused, so that a field of a later Istio is refused too.
func (v *review) only(field string, m proto.Message, allowed ...string) {
	if m == nil || !m.ProtoReflect().IsValid() {
		return
	}
	m.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if !slices.Contains(allowed, fd.JSONName()) {
			v.refuse(field+"."+fd.JSONName(), value, notSupported)
		}
		return true
	})
}

// exportTo accepts only what everybody sees.
func (v *review) exportTo(names []string) {
	for i, name := range names {
		if name != "*" {
			v.refuse(fmt.Sprintf("spec.exportTo[%d]", i), name, `must be "*"`)
		}
	}
}

// compiler is one run of Compile.
type compiler struct {
	as       Identity
	refusals []Refusal
	services map[string]*service
	// subsets and policies by host; see destinationRules.
	rules map[string]*rule
	table *Table
}

// Compile turns objects into a table. It depends on its arguments only. An object with a refusal is left out, as far
// as it was refused.
func Compile(objects Objects, as Identity) (*Table, []Refusal) {
	if len(as.Gateways) == 0 {
		as.Gateways = []string{meshGateway}
	}
	c := &compiler{
		as:       as,
		services: map[string]*service{},
		rules:    map[string]*rule{},
		table:    &Table{exact: map[string]*virtualHost{}, clusters: map[clusterKey]*cluster{}},
	}
	c.limits(objects.EnvoyFilters)
	c.serviceEntries(objects.ServiceEntries, c.workloads(objects.WorkloadEntries))
	c.destinationRules(objects.DestinationRules)
	c.virtualServices(objects.VirtualServices)
	c.defaultRoutes()
	c.table.order()
	slices.SortStableFunc(c.refusals, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Object.String(), b.Object.String()), cmp.Compare(a.Field, b.Field))
	})
	return c.table, c.refusals
}

// meshGateway is Istio's name for the proxies of the mesh.
const meshGateway = "mesh"

// accept records the refusals and says whether there are none.
func (c *compiler) accept(v *review) bool {
	c.refusals = append(c.refusals, v.refusals...)
	return len(v.refusals) == 0
}

// oldestFirst sorts objects as Istio does where two of them disagree: the older one wins, then the name.
func oldestFirst[T metav1.Object](objects []T) []T {
	sorted := slices.Clone(objects)
	slices.SortStableFunc(sorted, func(a, b T) int {
		at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
		return cmp.Or(at.Compare(bt.Time), cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return sorted
}

func named(kind string, o metav1.Object) *review {
	return &review{object: Object{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}}
}

// virtualServices gives each host the routes of the oldest object that claims it.
func (c *compiler) virtualServices(objects []*networkingv1.VirtualService) {
	for _, vs := range oldestFirst(objects) {
		v := named("VirtualService", vs)
		v.only("spec", &vs.Spec, "hosts", "gateways", "http", "exportTo")
		v.exportTo(vs.Spec.ExportTo)
		shared := &virtualHost{ports: c.ports(vs)}
		shared.routes = c.routes(v, vs, shared.ports)
		if !c.accept(v) || !c.serves(vs.Spec.Gateways) {
			continue
		}
		claim := named("VirtualService", vs)
		for i, name := range vs.Spec.Hosts {
			host := shared
			if others := c.unrouted(hostname(name, vs.Namespace), shared.routes); len(others) > 0 {
				host = &virtualHost{ports: shared.ports, routes: slices.Concat(shared.routes, others)}
			}
			if !c.table.add(hostname(name, vs.Namespace), host) {
				claim.refuse(fmt.Sprintf("spec.hosts[%d]", i), name, "belongs to an older VirtualService")
			}
		}
		c.accept(claim)
	}
}

// ports are those of the services that the object is for.
func (c *compiler) ports(vs *networkingv1.VirtualService) []string {
	var out []string
	for _, name := range vs.Spec.Hosts {
		out = append(out, c.services[hostname(name, vs.Namespace)].numbers()...)
	}
	return out
}

// unrouted leads to the ports of a service at which none of the routes can hold: there it is as if nobody had written any.
func (c *compiler) unrouted(host string, routes []*route) []*route {
	var out []*route
	for i, p := range c.services[host].numbers() {
		if !slices.ContainsFunc(routes, func(r *route) bool { return r.holdsAt(p) }) {
			out = append(out, c.portRoutes(host)[i])
		}
	}
	return out
}

// serves says whether one of the gateways is this one. No gateways at all means the mesh.
func (c *compiler) serves(gateways []string) bool {
	if len(gateways) == 0 {
		gateways = []string{meshGateway}
	}
	return slices.ContainsFunc(gateways, func(name string) bool { return slices.Contains(c.as.Gateways, name) })
}

// defaultRoutes leads to services that no VirtualService speaks of.
func (c *compiler) defaultRoutes() {
	for _, host := range slices.Sorted(maps.Keys(c.services)) {
		c.table.add(host, &virtualHost{ports: c.services[host].numbers(), routes: c.portRoutes(host)})
	}
	// Short names come last, so that they never take a name that somebody wrote out.
	for host, vh := range maps.Clone(c.table.exact) {
		for _, alias := range aliases(host, c.as.Namespace) {
			c.table.add(alias, vh)
		}
	}
}

// portRoutes leads to a service's port by the port of the request; where there is one port only, to that.
func (c *compiler) portRoutes(host string) []*route {
	ports := c.services[host].ports
	routes := make([]*route, len(ports))
	for i, p := range ports {
		to := destination{cluster: c.cluster(clusterKey{host: host, port: p.number}), weight: 1}
		routes[i] = &route{name: "default", destinations: []destination{to}, total: 1, retry: defaultRetry()}
		if len(ports) > 1 {
			routes[i].matches = []match{{port: strconv.Itoa(int(p.number))}}
		}
	}
	return routes
}

// clusterDomain ends the hosts of Kubernetes services.
const clusterDomain = ".svc.cluster.local"

// hostname expands a short name in the namespace of the object that uses it.
func hostname(name, namespace string) string {
	name = strings.ToLower(name)
	if strings.Contains(name, ".") || name == "*" {
		return name
	}
	return name + "." + namespace + clusterDomain
}

// aliases are the shorter names of a Kubernetes service; the shortest one only inside its namespace.
func aliases(host, namespace string) []string {
	short, ok := strings.CutSuffix(host, clusterDomain)
	if !ok {
		return nil
	}
	out := []string{short + ".svc", short}
	if name, ok := strings.CutSuffix(short, "."+namespace); ok && namespace != "" {
		out = append(out, name)
	}
	return out
}

// Table says where each request goes. It is immutable but for the counters of its load balancers and token buckets.
type Table struct {
	exact map[string]*virtualHost
	// wildcards in the order in which they are tried: the longest suffix first. "*" has the suffix "".
	wildcards []wildcard
	clusters  map[clusterKey]*cluster
	limits    []*limit
}

type wildcard struct {
	suffix string
	host   *virtualHost
}

// virtualHost is the ordered routes of a host, and the ports of the services that are called so.
type virtualHost struct {
	routes []*route
	ports  []string
}

// add says false when the name is taken.
func (t *Table) add(name string, vh *virtualHost) bool {
	suffix, ok := strings.CutPrefix(name, "*")
	if !ok {
		if _, taken := t.exact[name]; taken {
			return t.exact[name] == vh
		}
		t.exact[name] = vh
		return true
	}
	if slices.ContainsFunc(t.wildcards, func(w wildcard) bool { return w.suffix == suffix }) {
		return false
	}
	t.wildcards = append(t.wildcards, wildcard{suffix: suffix, host: vh})
	return true
}

func (t *Table) order() {
	slices.SortFunc(t.wildcards, func(a, b wildcard) int {
		return cmp.Or(cmp.Compare(len(b.suffix), len(a.suffix)), cmp.Compare(a.suffix, b.suffix))
	})
}

// find is the virtual host for an authority, with or without a port; nil when there is none.
func (t *Table) find(authority string) *virtualHost {
	name, _ := splitAuthority(authority)
	if vh, ok := t.exact[name]; ok {
		return vh
	}
	name = strings.ToLower(name)
	if vh, ok := t.exact[name]; ok {
		return vh
	}
	for _, w := range t.wildcards {
		if len(name) > len(w.suffix) && strings.HasSuffix(name, w.suffix) {
			return w.host
		}
	}
	return nil
}

// splitAuthority is the host and the port as they were sent; the port is empty when there is none.
func splitAuthority(authority string) (host, port string) {
	colon := strings.LastIndexByte(authority, ':')
	if colon < 0 || strings.HasSuffix(authority, "]") {
		return authority, ""
	}
	return authority[:colon], authority[colon+1:]
}

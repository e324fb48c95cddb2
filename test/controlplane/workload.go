package controlplane

import (
	"context"
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Object is an object with its metadata alone, to be filled in.
func Object(apiVersion, kind, namespace, name string, labels map[string]string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetNamespace(namespace)
	o.SetName(name)
	o.SetLabels(labels)
	return o
}

// podSpec is a pod's specification that the API server takes; nothing runs it.
func podSpec() map[string]any {
	return map[string]any{"containers": []any{map[string]any{"name": "model", "image": "example.com/model"}}}
}

// Deploy writes a Deployment with so many replicas, of which so many are available.
func (p *Plane) Deploy(namespace, name string, labels map[string]string, replicas, available int64) {
	p.tb.Helper()
	all := map[string]any{}
	for k, v := range labels {
		all[k] = v
	}
	o := Object("apps/v1", "Deployment", namespace, name, labels)
	o.Object["spec"] = map[string]any{
		"replicas": replicas, "selector": map[string]any{"matchLabels": all},
		"template": map[string]any{"metadata": map[string]any{"labels": all}, "spec": podSpec()},
	}
	p.Apply(o)
	p.status(o, map[string]any{
		"observedGeneration": int64(1), "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": available, "availableReplicas": available,
	})
}

// Pod writes a pod that is ready at an address.
func (p *Plane) Pod(namespace, name, address string, labels map[string]string) {
	p.tb.Helper()
	o := Object("v1", "Pod", namespace, name, maps.Clone(labels))
	o.Object["spec"] = podSpec()
	p.Apply(o)
	p.status(o, map[string]any{
		"phase": "Running", "podIP": address, "podIPs": []any{map[string]any{"ip": address}},
		"conditions": []any{map[string]any{
			"type": "Ready", "status": "True", "lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
		}},
	})
}

// Waypoint writes an ambient waypoint and the namespace whose Services it is for: the Gateway, and what istiod would make for it
// from templates that are not here, a Service and a ready pod at an address. That the waypoint is ready, istiod says.
func (p *Plane) Waypoint(namespace, name, address string) {
	p.tb.Helper()
	p.gatewayKinds()
	space := NamespaceOf(namespace)
	space.SetLabels(map[string]string{"istio.io/use-waypoint": name})
	gateway := Object("gateway.networking.k8s.io/v1", "Gateway", namespace, name, nil)
	gateway.Object["spec"] = map[string]any{
		"gatewayClassName": "istio-waypoint",
		"listeners":        []any{map[string]any{"name": "mesh", "port": int64(15008), "protocol": "HBONE"}},
	}
	labels := WaypointLabels(name)
	service := Object("v1", "Service", namespace, name, labels)
	service.Object["spec"] = map[string]any{
		"selector": map[string]any{gatewayName: name},
		"ports":    []any{map[string]any{"name": "mesh", "port": int64(15008), "protocol": "TCP"}},
	}
	p.Apply(space, gateway, service)
	p.Pod(namespace, name+"-0", address, labels)
	p.endpoints(namespace, name, map[string]string{name + "-0": address}, Port{"mesh", 15008})
}

const gatewayName = "gateway.networking.k8s.io/gateway-name"

// WaypointLabels are those of a waypoint's Service and pods.
func WaypointLabels(name string) map[string]string {
	return map[string]string{gatewayName: name, "gateway.istio.io/managed": "istio.io-mesh-controller"}
}

// status writes the status of an object, as the programs would that are not there.
func (p *Plane) status(o *unstructured.Unstructured, status map[string]any) {
	p.tb.Helper()
	patch := client.MergeFrom(o.DeepCopy())
	o.Object["status"] = status
	if err := p.Client.Status().Patch(p.tb.Context(), o, patch); err != nil {
		p.tb.Fatalf("writing the status of %s %s/%s: %v", o.GetKind(), o.GetNamespace(), o.GetName(), err)
	}
}

// Port is a port of a Service. Istio knows what it speaks by its name: "http", "tcp-9000".
type Port struct {
	Name   string
	Number int64
}

// Service writes a Service for HTTP on port 8080 and its endpoints: pods by name and address.
func (p *Plane) Service(namespace, name string, pods map[string]string) {
	p.tb.Helper()
	p.ServiceOf(namespace, name, "http", pods)
}

// ServiceOf is Service where the port speaks something else.
func (p *Plane) ServiceOf(namespace, name, protocol string, pods map[string]string) {
	p.tb.Helper()
	p.ServiceAt(namespace, name, pods, Port{protocol, 8080})
}

// ServiceAt is Service with other ports.
func (p *Plane) ServiceAt(namespace, name string, pods map[string]string, ports ...Port) {
	p.tb.Helper()
	s := Object("v1", "Service", namespace, name, map[string]string{"app": name})
	all := []any{}
	for _, port := range ports {
		all = append(all, map[string]any{"name": port.Name, "port": port.Number, "targetPort": port.Number, "protocol": "TCP"})
	}
	s.Object["spec"] = map[string]any{"selector": map[string]any{"app": name}, "ports": all}
	p.Apply(s)
	p.endpoints(namespace, name, pods, ports...)
}

// ClusterIP is the address of a Service.
func (p *Plane) ClusterIP(namespace, name string) string {
	p.tb.Helper()
	s := Object("v1", "Service", namespace, name, nil)
	if err := p.Client.Get(p.tb.Context(), client.ObjectKeyFromObject(s), s); err != nil {
		p.tb.Fatal(err)
	}
	address, _, _ := unstructured.NestedString(s.Object, "spec", "clusterIP")
	return address
}

// Endpoints writes the endpoints of a Service, which may come later, for its port of that name.
func (p *Plane) Endpoints(namespace, name, port string, pods map[string]string) {
	p.tb.Helper()
	p.endpoints(namespace, name, pods, Port{port, 8080})
}

func (p *Plane) endpoints(namespace, name string, pods map[string]string, ports ...Port) {
	p.tb.Helper()
	slice := Object("discovery.k8s.io/v1", "EndpointSlice", namespace, name, map[string]string{"kubernetes.io/service-name": name})
	slice.Object["addressType"] = "IPv4"
	all := []any{}
	for _, port := range ports {
		all = append(all, map[string]any{"name": port.Name, "port": port.Number, "protocol": "TCP"})
	}
	slice.Object["ports"] = all
	endpoints := []any{}
	for pod, address := range pods {
		endpoints = append(endpoints, map[string]any{
			"addresses": []any{address}, "conditions": map[string]any{"ready": true},
			"targetRef": map[string]any{"kind": "Pod", "namespace": namespace, "name": pod},
		})
	}
	slice.Object["endpoints"] = endpoints
	p.Apply(slice)
}

// Delete removes objects, also when the test is over; one that is not there is an error.
func (p *Plane) Delete(objects ...*unstructured.Unstructured) {
	p.tb.Helper()
	ctx := context.WithoutCancel(p.tb.Context())
	for _, o := range objects {
		if err := p.Client.Delete(ctx, o, client.GracePeriodSeconds(0)); err != nil {
			p.tb.Fatal(fmt.Errorf("deleting %s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err))
		}
	}
}

// Package server runs a real Kubernetes API inside the process: the API server library that serves custom resources, on
// an embedded etcd, bound to loopback.
//
// It behaves as the API of a cluster does for the kinds of the CRDs installed: server-side apply with managed fields,
// validation by schema and CEL, status subresources, watches, resource versions and optimistic locks. Of the kinds that a
// cluster has built in it knows Event and Lease only, as stand-ins among the CRDs: no Namespace, Service or Pod. There is
// no garbage collector, so owner references are kept but not acted upon. Any namespace name is accepted.
//
// Every request needs the bearer token that Config and Kubeconfig carry, so another user of the same machine cannot
// steer a rollout through the loopback address.
package server

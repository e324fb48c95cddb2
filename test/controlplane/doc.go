// Package controlplane runs the real control plane on loopback for tests: etcd, Kubernetes' API server and istiod, built
// from their modules, and the rollout controller with the rights that the chart gives it.
//
// Everything listens on free ports of 127.0.0.1, keeps its files in the test's temporary folder, and is gone when the
// test ends. There are no nodes: Deployments, Pods and EndpointSlices are what a test writes, status included.
package controlplane

// Package kube speaks to the Kubernetes API of a local run as its administrator: client configuration, kubeconfig, and
// the CRDs that Siskin needs of others. Package kube/server runs such an API, and kube/kubetest one for a test.
package kube

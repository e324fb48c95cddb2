package kube

import (
	"fmt"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// UserName is the name under which the API server knows the holder of the token.
const UserName = "siskin-local"

// API is a running Kubernetes API, seen by a client with every right. Its methods may be called from any goroutine.
type API struct{ config *rest.Config }

// NewAPI returns the API at an address (host and port) that serves TLS by the certificate given, in PEM, and knows the
// bearer token.
func NewAPI(addr string, certificate []byte, token string) *API {
	return &API{config: &rest.Config{
		Host:            "https://" + addr,
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{CAData: certificate},
		// Clients of built-in kinds choose protobuf by themselves; custom resources, and the stand-ins for events and
		// leases are such, speak JSON only.
		ContentConfig: rest.ContentConfig{ContentType: "application/json"},
		QPS:           -1, // the server is ours: no client-side throttle
	}}
}

// Load returns the API of a kubeconfig that the method Kubeconfig wrote.
func Load(kubeconfig string) (*API, error) {
	c, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig %q: %w", kubeconfig, err)
	}
	addr, secure := strings.CutPrefix(c.Host, "https://")
	if !secure {
		return nil, fmt.Errorf("reading kubeconfig %q: server %q, want one at https://", kubeconfig, c.Host)
	}
	return NewAPI(addr, c.CAData, c.BearerToken), nil
}

// Config returns a client configuration with every right. Each call returns its own copy. A program that reads the
// kubeconfig instead must set ContentType to application/json, as here, to write events and leases.
func (a *API) Config() *rest.Config {
	return rest.CopyConfig(a.config)
}

// Addr returns the host and port that the API listens on.
func (a *API) Addr() string {
	return a.config.Host[len("https://"):]
}

// Kubeconfig writes a kubeconfig for kubectl, readable by its owner only. Its one context uses the namespace given.
func (a *API) Kubeconfig(path, namespace string) error {
	const name = "siskin-local"
	c := clientcmdapi.NewConfig()
	c.Clusters[name] = &clientcmdapi.Cluster{Server: a.config.Host, CertificateAuthorityData: a.config.CAData}
	c.AuthInfos[UserName] = &clientcmdapi.AuthInfo{Token: a.config.BearerToken}
	c.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: UserName, Namespace: namespace}
	c.CurrentContext = name
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		return fmt.Errorf("writing kubeconfig %q: %w", path, err)
	}
	return nil
}

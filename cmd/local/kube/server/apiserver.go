package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	noopoteltrace "go.opentelemetry.io/otel/trace/noop"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	generatedopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/compatibility"

	"github.com/siskin-dev/siskin/cmd/local/kube"
)

const (
	// drainTimeout is how long Stop leaves connections open after the requests on them have been answered. Watches end
	// at once; a longer time is only spent on the second that HTTP/2 clients have to take note.
	drainTimeout = 100 * time.Millisecond

	// gitVersion is what /version says: the release of Kubernetes whose API machinery this is. The library alone names
	// no version that kubectl can parse.
	gitVersion = "v1.37.2+siskin"
)

// newAPIServer assembles the API server on the etcd at the URL given. It follows the library's own Config method, which
// cannot be used: it wants the core API to exist.
func newAPIServer(listener net.Listener, etcdURL string, s secrets) (*genericapiserver.GenericAPIServer, error) {
	o, err := apiOptions(listener, etcdURL, s)
	if err != nil {
		return nil, err
	}
	c := genericapiserver.NewRecommendedConfig(apiserver.Codecs)
	if err := applyOptions(o, c); err != nil {
		return nil, fmt.Errorf("configuring API server: %w", err)
	}
	secureConfig(&c.Config, listener, s)
	c.BuildHandlerChainFunc = func(h http.Handler, c *genericapiserver.Config) http.Handler {
		return refuseProtobuf(genericapiserver.DefaultBuildHandlerChain(h, c))
	}
	c.EffectiveVersion = namedVersion{c.EffectiveVersion}
	definitions := openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generatedopenapi.GetOpenAPIDefinitions)
	namer := openapinamer.NewDefinitionNamer(apiserver.Scheme, scheme.Scheme)
	// Without the version 2 document the library publishes the schemas of CRDs in neither version.
	c.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	c.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)

	config := apiserver.Config{GenericConfig: c, ExtraConfig: apiserver.ExtraConfig{
		CRDRESTOptionsGetter: options.NewCRDRESTOptionsGetter(*o.RecommendedOptions.Etcd, c.ResourceTransformers, c.StorageObjectCountTracker),
		AuthResolverWrapper: webhook.NewDefaultAuthenticationInfoResolverWrapper(nil, nil, c.LoopbackClientConfig,
			noopoteltrace.NewTracerProvider()),
	}}
	completed := config.Complete()
	// In a cluster the aggregator in front answers /apis; here nobody else does.
	completed.GenericConfig.EnableDiscovery = true
	api, err := completed.New(genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, fmt.Errorf("building API server: %w", err)
	}
	api.GenericAPIServer.ShutdownTimeout = drainTimeout
	return api.GenericAPIServer, publishGroups(api)
}

// apiOptions returns the library's options without what needs a core API.
func apiOptions(listener net.Listener, etcdURL string, s secrets) (*options.CustomResourceDefinitionsServerOptions, error) {
	o := options.NewCustomResourceDefinitionsServerOptions(io.Discard, io.Discard)
	o.ServerRunOptions.ExternalHost = "127.0.0.1"
	r := o.RecommendedOptions
	r.Etcd.StorageConfig.Transport.ServerList = []string{etcdURL}
	r.Authentication, r.Authorization, r.CoreAPI, r.Admission = nil, nil, nil, nil
	r.Features.EnablePriorityAndFairness = false
	r.Features.EnableProfiling = false

	cert, err := dynamiccertificates.NewStaticCertKeyContent("siskin-local", s.certPEM, s.keyPEM)
	if err != nil {
		return nil, fmt.Errorf("loading certificate of the API: %w", err)
	}
	r.SecureServing.Listener = listener
	r.SecureServing.ServerCert.GeneratedCert = cert
	return o, nil
}

func applyOptions(o *options.CustomResourceDefinitionsServerOptions, c *genericapiserver.RecommendedConfig) error {
	if err := o.ServerRunOptions.ApplyTo(&c.Config); err != nil {
		return err
	}
	// Serving is applied without its loopback half, which would make an RSA key; secureConfig does that part.
	if err := o.RecommendedOptions.SecureServing.SecureServingOptions.ApplyTo(&c.SecureServing); err != nil {
		return err
	}
	o.RecommendedOptions.SecureServing = nil
	if err := o.RecommendedOptions.ApplyTo(c); err != nil {
		return err
	}
	return o.APIEnablement.ApplyTo(&c.Config, apiserver.DefaultAPIResourceConfigSource(), apiserver.Scheme)
}

// secureConfig lets in the holder of the token, and the server's own controllers by a second token that never leaves the
// process. Whoever is let in may do everything.
func secureConfig(c *genericapiserver.Config, listener net.Listener, s secrets) {
	c.Authentication.Authenticator = authenticatorfactory.NewFromTokens(map[string]*user.DefaultInfo{
		s.token: {Name: kube.UserName, Groups: []string{user.AllAuthenticated, user.SystemPrivilegedGroup}},
	}, nil)
	c.Authorization.Authorizer = authorizerfactory.NewAlwaysAllowAuthorizer()
	c.LoopbackClientConfig = &rest.Config{
		Host:            "https://" + listener.Addr().String(),
		BearerToken:     rand.Text(),
		TLSClientConfig: rest.TLSClientConfig{CAData: s.certPEM},
		QPS:             -1,
	}
}

// refuseProtobuf answers 415 to a protobuf body, which the library's handler of custom resources panics on.
func refuseProtobuf(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), runtime.ContentTypeProtobuf) &&
			!strings.HasPrefix(r.URL.Path, "/apis/apiextensions.k8s.io/") {
			http.Error(w, "custom resources are written as JSON or YAML: set the client's content type to application/json",
				http.StatusUnsupportedMediaType)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// waitReady returns when /readyz answers, or when the server has ended before.
func (s *Server) waitReady(ctx context.Context) error {
	client, err := discovery.NewDiscoveryClientForConfig(s.Config())
	if err != nil {
		return fmt.Errorf("building client: %w", err)
	}
	err = wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		select {
		case <-s.done:
			return false, fmt.Errorf("running API server: %w", s.err)
		default:
		}
		return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the API: %w", err)
	}
	return nil
}

// namedVersion is an effective version that tells clients gitVersion.
type namedVersion struct{ compatibility.EffectiveVersion }

// Info implements compatibility.EffectiveVersion.
func (v namedVersion) Info() *version.Info {
	info := v.EffectiveVersion.Info()
	info.GitVersion, info.GitCommit = gitVersion, ""
	return info
}

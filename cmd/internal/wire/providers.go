package wire

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/gatewayapi"
	"github.com/siskin-dev/siskin/mesh/kserve"
	"github.com/siskin-dev/siskin/mesh/nginx"
	"github.com/siskin-dev/siskin/mesh/plain"
	"github.com/siskin-dev/siskin/mesh/seldon"
	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// all are the providers that there are. Quotas: see Istio.
func all(quotas bool) map[v1alpha1.Provider]controller.Router {
	return map[v1alpha1.Provider]controller.Router{
		v1alpha1.ProviderIstio:      Istio{Quotas: quotas},
		v1alpha1.ProviderGatewayAPI: GatewayAPI{},
		v1alpha1.ProviderNGINX:      NGINX{},
		v1alpha1.ProviderService:    Service{},
		v1alpha1.ProviderSeldon:     Seldon{},
		v1alpha1.ProviderKServe:     KServe{},
	}
}

// Router returns the router of a provider, with every right; nil of one that there is not.
func Router(provider v1alpha1.Provider) controller.Router { return all(true)[provider] }

// Providers lists the providers that there are.
func Providers() []string {
	var names []string
	for name := range all(false) {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

// routersFor returns the routers of the providers with these names; that of Istio when there are none.
func routersFor(names []string, quotas bool) (map[v1alpha1.Provider]controller.Router, error) {
	if len(names) == 0 {
		names = []string{string(v1alpha1.ProviderIstio)}
	}
	routers := all(quotas)
	for _, name := range names {
		if _, ok := routers[v1alpha1.Provider(name)]; !ok {
			return nil, fmt.Errorf("choosing providers: %q must be one of %s", name, strings.Join(Providers(), ", "))
		}
	}
	maps.DeleteFunc(routers, func(p v1alpha1.Provider, _ controller.Router) bool { return !slices.Contains(names, string(p)) })
	return routers, nil
}

// GatewayAPI renders traffic as an HTTPRoute and a Service for each version.
type GatewayAPI struct{}

// Render implements controller.Router.
func (GatewayAPI) Render(t mesh.Traffic, leaving []string) (controller.Objects, error) {
	route, err := gatewayapi.Render(t)
	if err != nil {
		return controller.Objects{}, err
	}
	return controller.Objects{Route: object(route), Subsets: objects(plain.OfVersions(t, leaving...)), Prune: true}, nil
}

// Versions implements controller.Router.
func (GatewayAPI) Versions(subsets *unstructured.Unstructured, versionLabel string) []string {
	return versionOf(subsets, versionLabel)
}

// Kinds implements controller.Router.
func (GatewayAPI) Kinds() []schema.GroupVersionKind {
	return append(kinds("gateway.networking.k8s.io/v1", "HTTPRoute"), kinds("v1", "Service")...)
}

// NGINX renders traffic as two Ingresses, and a Service for each version.
type NGINX struct{}

// Render implements controller.Router. The canary's Ingress is the route: writing it alone takes everybody off the canary.
func (NGINX) Render(t mesh.Traffic, leaving []string) (controller.Objects, error) {
	ingresses, err := nginx.Render(t)
	if err != nil {
		return controller.Objects{}, err
	}
	subsets := append(plain.OfVersions(t, leaving...), ingresses.Main)
	return controller.Objects{Route: object(ingresses.Canary), Subsets: objects(subsets), Prune: true}, nil
}

// Versions implements controller.Router.
func (NGINX) Versions(subsets *unstructured.Unstructured, versionLabel string) []string {
	return versionOf(subsets, versionLabel)
}

// Kinds implements controller.Router.
func (NGINX) Kinds() []schema.GroupVersionKind {
	return append(kinds("networking.k8s.io/v1", "Ingress"), kinds("v1", "Service")...)
}

// Service renders traffic as the service itself, which selects one version.
type Service struct{}

// Render implements controller.Router. One write changes the version, so that nothing has to stand before it.
func (Service) Render(t mesh.Traffic, _ []string) (controller.Objects, error) {
	service, err := plain.Render(t)
	if err != nil {
		return controller.Objects{}, err
	}
	return controller.Objects{Route: object(service)}, nil
}

// Versions implements controller.Router.
func (Service) Versions(subsets *unstructured.Unstructured, versionLabel string) []string {
	return versionOf(subsets, versionLabel)
}

// Kinds implements controller.Router.
func (Service) Kinds() []schema.GroupVersionKind { return kinds("v1", "Service") }

// Seldon renders traffic as an Experiment between Models, which are the user's.
type Seldon struct{}

// Render implements controller.Router.
func (Seldon) Render(t mesh.Traffic, _ []string) (controller.Objects, error) {
	experiment, err := seldon.Render(t)
	if err != nil {
		return controller.Objects{}, err
	}
	return controller.Objects{Route: object(experiment)}, nil
}

// Versions implements controller.Router.
func (Seldon) Versions(*unstructured.Unstructured, string) []string { return nil }

// Kinds implements controller.Router.
func (Seldon) Kinds() []schema.GroupVersionKind {
	return kinds("mlops.seldon.io/v1alpha1", "Experiment")
}

// KServe renders traffic as an InferenceService, which also runs the versions.
type KServe struct{}

// Render implements controller.Router.
func (KServe) Render(t mesh.Traffic, _ []string) (controller.Objects, error) {
	service, err := kserve.Render(t)
	if err != nil {
		return controller.Objects{}, err
	}
	return controller.Objects{Route: object(service)}, nil
}

// Versions implements controller.Router.
func (KServe) Versions(*unstructured.Unstructured, string) []string { return nil }

// Kinds implements controller.Router.
func (KServe) Kinds() []schema.GroupVersionKind {
	return kinds("serving.kserve.io/v1beta1", "InferenceService")
}

// Ready says whether KServe reports a version that is not the stable one ready.
func (KServe) Ready(route *unstructured.Unstructured, version string) bool {
	return kserve.Ready(route.Object, version)
}

// Settled says whether the stable version is the one that KServe keeps when a newer one gets nothing.
func (KServe) Settled(route *unstructured.Unstructured, stable string) bool {
	return kserve.Settled(route.Object, stable)
}

var _ controller.Runner = KServe{}

// versionOf is the version that a Service selects, if it is one.
func versionOf(o *unstructured.Unstructured, versionLabel string) []string {
	if v := plain.Version(o.Object, versionLabel); v != "" {
		return []string{v}
	}
	return nil
}

func object(o mesh.Object) *unstructured.Unstructured { return &unstructured.Unstructured{Object: o} }

func objects(all []mesh.Object) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, o := range all {
		out = append(out, object(o))
	}
	return out
}

// kinds are kinds of one group and version.
func kinds(apiVersion string, names ...string) []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	for _, name := range names {
		out = append(out, schema.FromAPIVersionAndKind(apiVersion, name))
	}
	return out
}

package server

import (
	"fmt"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/tools/cache"
)

// publishGroups keeps the plain list of API groups at /apis in step with the CRDs. The library itself keeps the
// aggregated form, which newer clients ask for; older ones and curl read this one.
func publishGroups(api *apiserver.CustomResourceDefinitions) error {
	manager := api.GenericAPIServer.DiscoveryGroupManager
	crds := api.Informers.Apiextensions().V1().CustomResourceDefinitions().Informer()
	publish := func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		changed, ok := obj.(*apiextensionsv1.CustomResourceDefinition)
		if !ok {
			return
		}
		g := groupOf(changed.Spec.Group, crds.GetStore().List())
		if len(g.Versions) == 0 {
			manager.RemoveGroup(g.Name)
			return
		}
		manager.AddGroup(g)
	}
	_, err := crds.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    publish,
		UpdateFunc: func(_, obj any) { publish(obj) },
		DeleteFunc: publish,
	})
	if err != nil {
		return fmt.Errorf("watching CRDs: %w", err)
	}
	return nil
}

// groupOf collects the served versions of a group, the preferred one first.
func groupOf(name string, crds []any) metav1.APIGroup {
	g := metav1.APIGroup{Name: name}
	for _, obj := range crds {
		crd, ok := obj.(*apiextensionsv1.CustomResourceDefinition)
		if !ok || crd.Spec.Group != name {
			continue
		}
		for _, v := range crd.Spec.Versions {
			gv := metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + v.Name, Version: v.Name}
			if v.Served && !slices.Contains(g.Versions, gv) {
				g.Versions = append(g.Versions, gv)
			}
		}
	}
	slices.SortFunc(g.Versions, func(a, b metav1.GroupVersionForDiscovery) int {
		return version.CompareKubeAwareVersionStrings(b.Version, a.Version)
	})
	if len(g.Versions) > 0 {
		g.PreferredVersion = g.Versions[0]
	}
	return g
}

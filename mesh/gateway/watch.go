package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// debounce is how long a change waits for others that belong to it, such as a VirtualService and its filter.
const debounce = 10 * time.Millisecond

// Watch keeps the gateway to the objects of the namespace, or of all namespaces for "", until the context ends. It
// returns nil then, and an error when it cannot watch. While the API is away the gateway serves what it knows.
func Watch(ctx context.Context, cfg *rest.Config, namespace string, g *Gateway) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	c, err := newCache(cfg, namespace)
	if err != nil {
		return fmt.Errorf("watching namespace %q: %w", namespace, err)
	}
	// A bound of one is enough: a change that finds the channel full will be seen by the load that is due.
	changed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() { ended <- c.Start(ctx) }()
	err = follow(ctx, c, g, changed)
	stop()
	return errors.Join(err, <-ended)
}

// follow loads the gateway at first and after each change.
func follow(ctx context.Context, c cache.Cache, g *Gateway, changed chan struct{}) error {
	if err := handle(ctx, c, changed); err != nil {
		return err
	}
	if !c.WaitForCacheSync(ctx) {
		return nil // The context ended first.
	}
	for {
		objects, err := list(ctx, c)
		if err != nil {
			return err
		}
		g.Load(objects)
		if !settled(ctx, changed) {
			return nil
		}
	}
}

// settled waits for a change, and for those that follow at once. It says false when the context ended.
func settled(ctx context.Context, changed <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	}
	timer := time.NewTimer(debounce)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	// What changed until now is in the cache already.
	select {
	case <-changed:
	default:
	}
	return true
}

func newCache(cfg *rest.Config, namespace string) (cache.Cache, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(networkingv1.AddToScheme(scheme), v1alpha3.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	o := cache.Options{Scheme: scheme, DefaultTransform: cache.TransformStripManagedFields()}
	if namespace != "" {
		o.DefaultNamespaces = map[string]cache.Config{namespace: {}}
	}
	return cache.New(cfg, o)
}

// handle asks for an event on each change of the five kinds.
func handle(ctx context.Context, c cache.Cache, changed chan<- struct{}) error {
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(any, any) { notify() },
		DeleteFunc: func(any) { notify() },
	}
	for _, kind := range []client.Object{
		&networkingv1.VirtualService{}, &networkingv1.DestinationRule{}, &networkingv1.ServiceEntry{},
		&networkingv1.WorkloadEntry{}, &v1alpha3.EnvoyFilter{},
	} {
		informer, err := c.GetInformer(ctx, kind)
		if err != nil {
			return fmt.Errorf("watching %T: %w", kind, err)
		}
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watching %T: %w", kind, err)
		}
	}
	return nil
}

// list reads all objects from the cache.
func list(ctx context.Context, c client.Reader) (Objects, error) {
	var (
		virtualServices  networkingv1.VirtualServiceList
		destinationRules networkingv1.DestinationRuleList
		serviceEntries   networkingv1.ServiceEntryList
		workloadEntries  networkingv1.WorkloadEntryList
		envoyFilters     v1alpha3.EnvoyFilterList
	)
	for _, l := range []client.ObjectList{&virtualServices, &destinationRules, &serviceEntries, &workloadEntries, &envoyFilters} {
		if err := c.List(ctx, l); err != nil {
			return Objects{}, fmt.Errorf("listing %T: %w", l, err)
		}
	}
	return Objects{
		VirtualServices:  virtualServices.Items,
		DestinationRules: destinationRules.Items,
		ServiceEntries:   serviceEntries.Items,
		WorkloadEntries:  workloadEntries.Items,
		EnvoyFilters:     envoyFilters.Items,
	}, nil
}

package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// History is every write of a VirtualService or a DestinationRule in a namespace.
type History struct {
	p       *Plane
	sources []dynamic.ResourceInterface

	mu      sync.Mutex // guards changes
	changes []Change
}

// Change is one write: the object as it was after it, or before it was deleted.
type Change struct {
	*unstructured.Unstructured
	Type watch.EventType
	// revision is the API server's, which counts the writes of all kinds.
	revision uint64
}

// Record keeps what is written in a namespace from now until the test ends.
func (p *Plane) Record(namespace string) *History {
	p.tb.Helper()
	config := rest.CopyConfig(p.Admin)
	config.Timeout = 0 // a watch lasts
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		p.tb.Fatal(err)
	}
	h := &History{p: p}
	ctx, stop := context.WithCancel(context.WithoutCancel(p.tb.Context()))
	var reading sync.WaitGroup
	p.tb.Cleanup(func() { stop(); reading.Wait() })
	for _, resource := range []string{"virtualservices", "destinationrules"} {
		source := c.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: resource}).Namespace(namespace)
		w, err := source.Watch(ctx, metav1.ListOptions{})
		if err != nil {
			p.tb.Fatalf("watching %s: %v", resource, err)
		}
		h.sources = append(h.sources, source)
		reading.Go(func() { h.read(ctx, w.ResultChan()) })
	}
	return h
}

// read takes the events of a watch until the context ends: its last one says so.
func (h *History) read(ctx context.Context, events <-chan watch.Event) {
	for e := range events {
		o, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			if ctx.Err() == nil {
				h.p.tb.Errorf("watching what is written: %v", e.Object)
			}
			return
		}
		revision, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
		if err != nil {
			h.p.tb.Errorf("reading the revision of %s %q: %v", o.GetKind(), o.GetName(), err)
		}
		h.mu.Lock()
		h.changes = append(h.changes, Change{o, e.Type, revision})
		h.mu.Unlock()
	}
}

// Changes are the writes until now, in their order.
func (h *History) Changes() []Change {
	h.p.tb.Helper()
	var all []Change
	Until(h.p.tb, "the watches to tell of every write", func(ctx context.Context) error {
		now := map[string]string{}
		for _, source := range h.sources {
			list, err := source.List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, o := range list.Items {
				now[o.GetKind()+" "+o.GetName()] = o.GetResourceVersion()
			}
		}
		h.mu.Lock()
		all = slices.Clone(h.changes)
		h.mu.Unlock()
		told := map[string]string{}
		for _, c := range all {
			told[c.GetKind()+" "+c.GetName()] = c.GetResourceVersion()
			if c.Type == watch.Deleted {
				delete(told, c.GetKind()+" "+c.GetName())
			}
		}
		if !maps.Equal(told, now) {
			return fmt.Errorf("told of %v, and there are %v", told, now)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Change) int { return cmp.Compare(a.revision, b.revision) })
	return all
}

// Unmade are the writes after which a VirtualService led to a subset that no DestinationRule had at that moment: callers
// whose proxy obeyed both at once got an error.
func Unmade(all []Change) []error {
	var errs []error
	there := map[string]Change{}
	for _, c := range all {
		there[c.GetKind()+" "+c.GetName()] = c
		if c.Type == watch.Deleted {
			delete(there, c.GetKind()+" "+c.GetName())
		}
		made := subsets(there)
		for _, o := range there {
			for _, d := range o.Destinations() {
				if !made[d] {
					errs = append(errs, fmt.Errorf("revision %d: %s was %s: VirtualService %q leads to %q, and no DestinationRule has it",
						c.revision, c.GetKind(), strings.ToLower(string(c.Type)), o.GetName(), d))
				}
			}
		}
	}
	return errs
}

// subsets are those that the DestinationRules have, each with its host.
func subsets(there map[string]Change) map[string]bool {
	made := map[string]bool{}
	for _, o := range there {
		host, _, _ := unstructured.NestedString(o.Object, "spec", "host")
		all, _, _ := unstructured.NestedSlice(o.Object, "spec", "subsets")
		for _, s := range all {
			made[fmt.Sprint(host, " ", s.(map[string]any)["name"])] = true
		}
	}
	return made
}

// Destinations are the hosts, each with the subset, that a VirtualService leads or copies to, in order.
func (c Change) Destinations() []string {
	found := map[string]bool{}
	destinations(c.Object["spec"], found)
	return slices.Sorted(maps.Keys(found))
}

// destinations collects every destination with a subset: nothing else in a VirtualService has both fields.
func destinations(v any, found map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			destinations(e, found)
		}
	case map[string]any:
		if host, subset := v["host"], v["subset"]; host != nil && subset != nil {
			found[fmt.Sprint(host, " ", subset)] = true
		}
		for _, e := range v {
			destinations(e, found)
		}
	}
}

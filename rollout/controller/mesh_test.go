package controller_test

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/mesh/istio"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/controller"
)

// istioRouter renders Istio's objects, as the binaries' router does.
type istioRouter struct{}

// Render implements controller.Router.
func (istioRouter) Render(t mesh.Traffic, leaving []string) (controller.Objects, error) {
	w, err := istio.Write(t, leaving...)
	for _, o := range slices.Concat(w.Limits, w.LimitKeys) {
		if o.GetKind() == "ConfigMap" {
			o.SetAPIVersion(quotasV1)
		}
	}
	return controller.Objects(w), err
}

// Kinds implements controller.Router.
func (istioRouter) Kinds() []schema.GroupVersionKind { return istio.Kinds() }

// Versions implements controller.Router.
func (istioRouter) Versions(subsets *unstructured.Unstructured, versionLabel string) []string {
	return istio.Versions(subsets, versionLabel)
}

// canary returns the buckets that the route in the cluster sends to another subset than the rest: it reads the objects
// as a proxy does, first match first.
func (w *world) canary() []int {
	w.t.Helper()
	route := w.route()
	if route == nil {
		return nil
	}
	all, _, _ := unstructured.NestedSlice(route.Object, "spec", "http")
	var set []int
	for _, h := range all {
		r, ok := h.(map[string]any)
		if !ok || r["name"] != "canary-buckets" {
			continue
		}
		matches, _, _ := unstructured.NestedSlice(r, "match")
		for _, m := range matches {
			match, _ := m.(map[string]any)
			pattern, found, _ := unstructured.NestedString(match, "headers", "x-siskin-bucket", "regex")
			set = append(set, matching(pattern, found)...)
		}
	}
	return set
}

// matching returns the buckets that a pattern matches.
func matching(pattern string, found bool) []int {
	if !found {
		return nil
	}
	re := regexp.MustCompile(`^(?:` + pattern + `)$`)
	var set []int
	for b := range rollout.Buckets {
		if re.MatchString(rollout.FormatBucket(b)) {
			set = append(set, b)
		}
	}
	return set
}

// targets lists the subsets that the route leads to.
func (w *world) targets() []string {
	w.t.Helper()
	var found []string
	var walk func(v any)
	walk = func(v any) {
		switch x := v.(type) {
		case map[string]any:
			if s, ok := x["subset"].(string); ok {
				found = append(found, s)
			}
			for _, each := range x {
				walk(each)
			}
		case []any:
			for _, each := range x {
				walk(each)
			}
		}
	}
	if route := w.route(); route != nil {
		walk(route.Object["spec"])
	}
	return found
}

// tap stands between the reconciler and the API: it writes down every call, and fails those that the test wants to fail.
type tap struct {
	// fail is asked before each call; an error is the call's answer.
	fail func(call string) error
	// after is asked when a call has succeeded.
	after func(call string)
	calls []string
}

// writes returns the calls that changed something since the last time that it was asked.
func (p *tap) writes() []string {
	var all []string
	for _, c := range p.calls {
		if !strings.HasPrefix(c, "get ") && !strings.HasPrefix(c, "list ") {
			all = append(all, c)
		}
	}
	p.calls = nil
	return all
}

func (p *tap) do(call string, f func() error) error {
	p.calls = append(p.calls, call)
	if p.fail != nil {
		if err := p.fail(call); err != nil {
			return err
		}
	}
	err := f()
	if err == nil && p.after != nil {
		p.after(call)
	}
	return err
}

func (p *tap) wrap(c client.WithWatch) client.WithWatch {
	kind := func(o runtime.Object) string {
		gvk, err := c.GroupVersionKindFor(o)
		if err != nil {
			return "?"
		}
		return gvk.Kind
	}
	return interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			return p.do("get "+kind(o), func() error { return c.Get(ctx, key, o, opts...) })
		},
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			return p.do("list "+kind(l), func() error {
				defer standIn(l)()
				return c.List(ctx, l, opts...)
			})
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return p.do("delete "+kind(o), func() error { return c.Delete(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return p.do("update "+kind(o), func() error { return c.Update(ctx, o, opts...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			return p.do("apply "+appliedKind(o), func() error { return c.Apply(ctx, o, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return p.do(sub+" "+kind(o), func() error { return c.SubResource(sub).Update(ctx, o, opts...) })
		},
		SubResourceApply: func(ctx context.Context, c client.Client, sub string, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
			return p.do(sub+" "+appliedKind(o), func() error { return applyScale(ctx, c, opts...) })
		},
	})
}

func appliedKind(o runtime.ApplyConfiguration) string {
	if k, ok := o.(interface{ GetKind() string }); ok {
		return k.GetKind()
	}
	return "?"
}

package controller_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// mutated puts a webhook between the reconciler and the API that changes every object of a kind as it is written. Nil ends it.
func (w *world) mutated(kind string, change func(spec map[string]any)) {
	meddle := func(o any) {
		object, ok := o.(interface{ UnstructuredContent() map[string]any })
		if !ok || change == nil || object.UnstructuredContent()["kind"] != kind {
			return
		}
		if spec, there := object.UnstructuredContent()["spec"].(map[string]any); there {
			change(spec)
		}
	}
	w.o.Client = interceptor.NewClient(w.tap.wrap(w.client), interceptor.Funcs{
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			meddle(o)
			return c.Apply(ctx, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			u, ok := o.(*unstructured.Unstructured)
			if !ok {
				return c.Update(ctx, o, opts...)
			}
			sent := u.DeepCopy() // the webhook does not see the caller's memory
			meddle(sent)
			err := c.Update(ctx, sent, opts...)
			u.Object = sent.Object
			return err
		},
	})
	w.restart()
}

// slower gives the first route a timeout.
func slower(spec map[string]any) {
	all, _ := spec["http"].([]any)
	if first, ok := all[0].(map[string]any); ok {
		first["timeout"] = "5s"
	}
}

// TestAltered: what somebody changes in our objects as they are written holds the run and pauses it at the cap. The status and an
// event name the object and the field, for as long as that lasts; an abort does not wait.
func TestAltered(t *testing.T) {
	const says = `VirtualService "coolant" is changed as it is written (look for a mutating webhook): spec.http[0].timeout is "5s", not written`
	cases := map[string]struct {
		reason string
		begins func(w *world)
	}{
		"FromTheFirstStep": {"the webhook is there before the run", func(w *world) {
			w.mutated("VirtualService", slower)
			w.deploy("v2", true)
			w.want("v2")
		}},
		"InMidStep": {"it comes while a step is held", func(w *world) {
			w.deploy("v2", true)
			w.want("v2")
			w.until("held", func(ro *v1alpha1.Rollout) bool { return ro.Status.Step == 1 && ro.Status.Reason == "HoldingStep" })
			w.mutated("VirtualService", slower)
			w.change(istioV1, "VirtualService", "coolant", func(o *unstructured.Unstructured) { slower(o.Object["spec"].(map[string]any)) })
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.deploy("v1", true)
			w.until("stable", stableOn("v1"))
			tc.begins(w)
			ro := w.until("converging", func(ro *v1alpha1.Rollout) bool {
				return ro.Status.Reason == "Converging" && ro.Status.Message == says || ended(v1alpha1.OutcomePromoted)(ro)
			})
			if ro.Status.Run == nil {
				t.Fatalf("%s: the version was promoted by routes that do not stand", tc.reason)
			}
			step := ro.Status.Step
			w.until("held for long", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "WeightNotRealised" })
			ro = w.until("paused", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run.Paused != "" })
			if ro.Status.Run.Paused != "WeightNotRealised" || ro.Status.Step != step || ro.Status.Message != says {
				t.Errorf("%s: paused for %q at step %d: %s", tc.reason, ro.Status.Run.Paused, ro.Status.Step, ro.Status.Message)
			}
			if ro = w.turn(); w.restricted() != says {
				t.Errorf("%s: while it is paused Restricted says %q, want %q", tc.reason, w.restricted(), says)
			}
			at := w.clock
			w.tap.writes()
			for range 6 {
				w.turn()
			}
			if n := len(w.tap.writes()); n > 6*3 || w.clock.Sub(at) < 50*time.Second {
				t.Errorf("%s: what does not stand is written %d times in %s", tc.reason, n, w.clock.Sub(at))
			}
			told := slices.DeleteFunc(slices.Clone(w.events), func(e string) bool { return e != "true NotAsWritten "+says })
			if lasted := w.clock.Sub(epoch); len(told) == 0 || len(told) > int(lasted/time.Minute)+1 {
				t.Errorf("%s: told %d times in %s: %q", tc.reason, len(told), lasted, w.events)
			}
			if slices.ContainsFunc(w.events, func(e string) bool { return strings.Contains(e, "DriftRepaired") }) {
				t.Errorf("%s: what cannot be repaired is told as repaired: %q", tc.reason, w.events)
			}
			w.mutated("VirtualService", nil)
			w.ask(v1alpha1.ActionResume)
			w.until("on its way", atStep(step+1))
			if got := w.restricted(); got != "" {
				t.Errorf("%s: when the webhook has gone Restricted says %q", tc.reason, got)
			}
		})
	}
}

// TestAlteredAtRest: without a run the condition and the event say it, and both end with it.
func TestAlteredAtRest(t *testing.T) {
	w := newWorld(t)
	w.deploy("v1", true)
	w.mutated("DestinationRule", func(spec map[string]any) {
		spec["host"] = "elsewhere"
	})
	w.until("stable", stableOn("v1"))
	w.turn()
	w.turn()
	says := fmt.Sprintf(`DestinationRule "coolant" is changed as it is written (look for a mutating webhook): spec.host is "elsewhere", written "coolant.%s.svc.cluster.local"`, w.ns)
	if got := w.restricted(); got != says {
		t.Errorf("Restricted: got %q, want %q", got, says)
	}
	if !slices.Contains(w.events, "true NotAsWritten "+says) {
		t.Errorf("nobody is told: %q", w.events)
	}
	w.tap.writes()
	w.turn()
	if wrote := w.tap.writes(); slices.Contains(wrote, "status Rollout") {
		t.Errorf("the status is written again and again: %q", wrote)
	}
	w.mutated("DestinationRule", nil)
	w.turn()
	w.turn()
	if got := w.restricted(); got != "" {
		t.Errorf("when the webhook has gone Restricted says %q", got)
	}
}

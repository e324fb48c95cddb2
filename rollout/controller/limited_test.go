package controller_test

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/siskin-dev/siskin/rollout/controller"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

const filterV3 = "networking.istio.io/v1alpha3"

// taken puts an EnvoyFilter of somebody else in the place of the rate limit.
func (w *world) taken() {
	w.t.Helper()
	o := w.object(filterV3, "EnvoyFilter", "coolant-ratelimit")
	o.Object["spec"] = map[string]any{}
	if err := w.client.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// TestNotLimited: a rate limit whose place somebody else's object has is told by the condition for as long as that is so and the
// limit is wanted, whatever process looks. The run goes on, and nothing of the object is written.
func TestNotLimited(t *testing.T) {
	const says = `the rate limit is not in force: EnvoyFilter "coolant-ratelimit" exists and is not Siskin's: rename the rollout or delete the object`
	w := newWorld(t, func(ro *v1alpha1.Rollout) { ro.Spec.RateLimit = &v1alpha1.RateLimitSpec{RequestsPerSecond: 5} })
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.taken()
	w.turn()
	if got := w.restricted(); got != "" {
		t.Errorf("Restricted while there is no canary to limit: %q", got)
	}
	w.deploy("v2", true)
	w.want("v2")
	w.until("at step 1", atStep(1))
	for _, when := range []string{"at the first step", "in another process"} {
		ro := w.turn()
		c := meta.FindStatusCondition(ro.Status.Conditions, v1alpha1.ConditionRestricted)
		if c == nil || c.Reason != "NotLimited" || c.Message != says {
			t.Fatalf("%s Restricted is %+v, want NotLimited: %s", when, c, says)
		}
		w.restart()
	}
	if !slices.Contains(w.events, "true NotLimited "+says) {
		t.Errorf("nobody is told by an event: %q", w.events)
	}
	w.tap.fail = failing("get EnvoyFilter")
	w.turn()
	w.tap.fail = nil
	if got := w.restricted(); got != says {
		t.Errorf("while nobody knows whether it holds Restricted says %q, want %q", got, says)
	}
	foreign := w.find(filterV3, "EnvoyFilter", "coolant-ratelimit")
	if spec, ok := foreign.Object["spec"].(map[string]any); ok && len(spec) > 0 {
		t.Errorf("somebody else's object was written: %v", spec)
	}
	if err := w.client.Delete(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	w.tap.calls = nil
	w.turn()
	if got := w.restricted(); got != "" || w.find(filterV3, "EnvoyFilter", "coolant-ratelimit") == nil {
		t.Errorf("once the place is free Restricted says %q, and the limit is there: %t", got, w.find(filterV3, "EnvoyFilter", "coolant-ratelimit") != nil)
	}
	if err := w.client.Delete(t.Context(), w.find(filterV3, "EnvoyFilter", "coolant-ratelimit")); err != nil {
		t.Fatal(err)
	}
	w.taken()
	w.turn()
	if got := w.restricted(); got != says {
		t.Errorf("when the place is taken in mid-run Restricted says %q, want %q", got, says)
	}
	w.ask(v1alpha1.ActionAbort)
	w.turn()
	w.turn()
	if got := w.restricted(); got != "" {
		t.Errorf("after the run Restricted says %q", got)
	}
}

// TestLimitIsReadOnce: knowing who has the limit's place costs no request.
func TestLimitIsReadOnce(t *testing.T) {
	w := running(t, 1, func(ro *v1alpha1.Rollout) { ro.Spec.RateLimit = &v1alpha1.RateLimitSpec{RequestsPerSecond: 5} })
	w.turn()
	w.tap.calls = nil
	w.turn()
	read := slices.DeleteFunc(slices.Clone(w.tap.calls), func(c string) bool { return !strings.HasSuffix(c, " EnvoyFilter") })
	if len(read) != 1 {
		t.Errorf("a turn has the calls %q, want one for the EnvoyFilter", w.tap.calls)
	}
}

// TestIdleLimit: a rate that no route leads to is told by the condition in the words of rollout lint, and no longer once the user's
// routes lead there.
func TestIdleLimit(t *testing.T) {
	w := newWorld(t, func(ro *v1alpha1.Rollout) {
		ro.Spec.Service.Gateways = []string{"edge/public"}
		ro.Spec.Traffic = &v1alpha1.TrafficSpec{Ports: []v1alpha1.PortSpec{{Number: 8081, Protocol: "HTTP"}}}
		ro.Spec.RateLimit = &v1alpha1.RateLimitSpec{
			RequestsPerSecond: 5, At: "Gateway", Selector: map[string]string{"istio": "ingressgateway"},
			Ports: []v1alpha1.PortRateLimit{{Number: 8080, RequestsPerSecond: 6}, {Number: 8081, RequestsPerSecond: 7}},
		}
	})
	w.deploy("v1", true)
	w.until("stable", stableOn("v1"))
	w.turn()
	idle := controller.IdleLimits(w.get())
	if len(idle) != 1 || idle[0].Field != "spec.rateLimit.ports[1]" || !strings.HasPrefix(idle[0].Message, "the rate of port 8081 in rateLimit.ports never counts") {
		t.Fatalf("idle limits: %+v, want the one of port 8081", idle)
	}
	if got := w.restricted(); got != idle[0].Message {
		t.Errorf("Restricted: got %q, want %q", got, idle[0].Message)
	}
	w.edit(func(ro *v1alpha1.Rollout) { ro.Spec.Service.Gateways, ro.Spec.Traffic.Entry = nil, "Delegate" })
	w.turn()
	if got := w.restricted(); got != "" {
		t.Errorf("with delegated routes Restricted says %q", got)
	}
}

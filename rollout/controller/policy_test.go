package controller_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// withPolicy sets a policy of three fields.
func withPolicy(ro *v1alpha1.Rollout) {
	seven := int32(7)
	ro.Spec.Traffic = &v1alpha1.TrafficSpec{Policy: &v1alpha1.TrafficPolicy{
		ConnectionPool:   &v1alpha1.ConnectionPool{TCP: &v1alpha1.ConnectionPoolTCP{MaxConnections: 10}},
		OutlierDetection: &v1alpha1.OutlierDetection{Consecutive5xxErrors: &seven},
		TLS:              &v1alpha1.ClientTLS{Mode: "ISTIO_MUTUAL"},
	}}
}

// userRule writes a DestinationRule that a user owns.
func (w *world) userRule(name, host string, policy map[string]any) {
	w.t.Helper()
	o := w.object("networking.istio.io/v1", "DestinationRule", name)
	o.Object["spec"] = map[string]any{"host": host, "trafficPolicy": policy}
	if err := w.client.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// policies lists the fields of the policy of each subset that Siskin wrote.
func (w *world) policies() map[string][]string {
	w.t.Helper()
	out := map[string][]string{}
	all, _, _ := unstructured.NestedSlice(w.find("networking.istio.io/v1", "DestinationRule", "coolant").Object, "spec", "subsets")
	for _, s := range all {
		subset, _ := s.(map[string]any)
		policy, _, _ := unstructured.NestedMap(subset, "trafficPolicy")
		name, _ := subset["name"].(string)
		out[name] = []string{}
		for _, field := range []string{"connectionPool", "loadBalancer", "outlierDetection", "tls"} {
			if _, there := policy[field]; there {
				out[name] = append(out[name], field)
			}
		}
	}
	return out
}

func (w *world) restricted() string {
	w.t.Helper()
	c := meta.FindStatusCondition(w.get().Status.Conditions, v1alpha1.ConditionRestricted)
	if c == nil {
		return ""
	}
	return c.Message
}

// TestPolicyOfTheUser: what a rule of the user sets for the host stays the user's, the rest is ours, and a condition says so.
func TestPolicyOfTheUser(t *testing.T) {
	const sets = ` is not written: DestinationRule "mine" sets it for the same host`
	cases := map[string]struct {
		reason string
		args   func(w *world)
		want   []string
		says   string
	}{
		"Alone": {"Nobody else speaks of the host.", func(*world) {}, []string{"connectionPool", "outlierDetection", "tls"}, ""},
		"Other": {"A rule for another host says nothing.", func(w *world) {
			w.userRule("mine", "other", map[string]any{"tls": map[string]any{"mode": "DISABLE"}})
		}, []string{"connectionPool", "outlierDetection", "tls"}, ""},
		"Short": {"A field of a rule that names the host shortly is the user's; one that we do not set takes nothing.", func(w *world) {
			w.userRule("mine", "coolant", map[string]any{"tls": map[string]any{"mode": "DISABLE"}, "loadBalancer": map[string]any{"simple": "RANDOM"}})
		}, []string{"connectionPool", "outlierDetection"}, "traffic.policy.tls" + sets},
		"Whole": {"Where the user's rule sets all, ours has no policy.", func(w *world) {
			w.userRule("mine", "coolant."+w.ns+".svc.cluster.local", map[string]any{
				"tls": map[string]any{"mode": "DISABLE"}, "outlierDetection": map[string]any{"interval": "5s"},
				"connectionPool": map[string]any{"tcp": map[string]any{"maxConnections": int64(3)}},
			})
		}, []string{}, "traffic.policy.connectionPool" + sets + "; traffic.policy.outlierDetection" + sets + "; traffic.policy.tls" + sets},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := running(t, 1, withPolicy)
			tc.args(w)
			w.turn()
			if diff := cmp.Diff(map[string][]string{"v1": tc.want, "v2": tc.want}, w.policies()); diff != "" {
				t.Errorf("%s\npolicies: -want, +got:\n%s", tc.reason, diff)
			}
			if got := w.restricted(); got != tc.says {
				t.Errorf("%s\nRestricted: got %q, want %q", tc.reason, got, tc.says)
			}
			if len(w.canary()) != 5 {
				t.Errorf("%d buckets see the canary, want 5", len(w.canary()))
			}
		})
	}
}

// TestHashOfTheUser: a rule of the user's that hashes too moves units, which a condition says until the rule is gone.
func TestHashOfTheUser(t *testing.T) {
	w := running(t, 1, func(ro *v1alpha1.Rollout) {
		ro.Spec.Assignment = &v1alpha1.AssignmentSpec{Hash: &v1alpha1.HashAssignment{Header: "x-vehicle-id"}}
	})
	if got := w.restricted(); got != "" {
		t.Errorf("Restricted without a rule: %q", got)
	}
	w.userRule("other", "coolant", map[string]any{"loadBalancer": map[string]any{"simple": "RANDOM"}})
	w.userRule("mine", "coolant", map[string]any{"loadBalancer": map[string]any{"consistentHash": map[string]any{"httpHeaderName": "x-user"}}})
	w.turn()
	const want = `assignment.hash does not keep every unit: DestinationRule "mine" sets consistentHash for the same host, and proxies mix the two`
	if got := w.restricted(); got != want {
		t.Errorf("Restricted: got %q, want %q", got, want)
	}
	if err := w.client.Delete(t.Context(), w.object("networking.istio.io/v1", "DestinationRule", "mine")); err != nil {
		t.Fatal(err)
	}
	w.turn()
	if got := w.restricted(); got != "" {
		t.Errorf("Restricted after the rule has gone: %q", got)
	}
}

// TestPolicyRulesOutOfReach: while the user's rules cannot be read the subsets stay as they are, and a rollback does not wait.
func TestPolicyRulesOutOfReach(t *testing.T) {
	w := running(t, 1, withPolicy)
	w.userRule("mine", "coolant", map[string]any{"tls": map[string]any{"mode": "DISABLE"}})
	w.turn()
	w.o.Live = noRules{w.tap.wrap(w.client)}
	w.restart()
	w.want("v1")
	if err := w.try(); err == nil || !strings.Contains(err.Error(), "listing the DestinationRules") {
		t.Errorf("the pass ended with %v, want what could not be read", err)
	}
	if n := len(w.canary()); n != 0 {
		t.Errorf("%d buckets see the canary after the rollback, want none", n)
	}
	if got := w.policies()["v1"]; len(got) != 2 {
		t.Errorf("the subsets were changed without knowing the user's rules: %q", got)
	}
	if w.restricted() == "" {
		t.Error("Restricted went although nobody knows whether it holds")
	}
}

// noRules cannot list DestinationRules.
type noRules struct{ client.WithWatch }

// List implements client.Reader.
func (c noRules) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if strings.HasPrefix(list.GetObjectKind().GroupVersionKind().Kind, "DestinationRule") {
		return errOutage
	}
	return c.WithWatch.List(ctx, list, opts...)
}

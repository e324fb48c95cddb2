package controlplane_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/controlplane"
	"github.com/siskin-dev/siskin/test/envoy"
)

// abort takes all traffic back. The version is not tried again until somebody asks for it; then it begins anew.
func (s *scenario) abort() {
	s.start(s.rollout(5, 25))
	first := s.get().Status.Run.ID
	s.ask(v1alpha1.ActionPromote)
	s.reach(25)
	s.split("v2", 25)
	s.takenBack()
	s.ask(v1alpha1.ActionRetry)
	s.reach(5)
	s.split("v2", 5)
	if again := s.get().Status.Run.ID; again == first {
		s.t.Errorf("the new run has the id of the old one, %q, and so its buckets", again)
	}
}

// takenBack aborts, and waits for the end of it.
func (s *scenario) takenBack() {
	s.t.Helper()
	s.ask(v1alpha1.ActionAbort)
	s.all("v1")
	s.until("v2 to be rejected", func(ro *v1alpha1.Rollout) bool {
		return ro.Status.Run == nil && ro.Status.RejectedVersion == "v2" && ro.Status.StableVersion == "v1"
	})
	s.subsets("v1")
}

// oneStableReplica aborts while two of three stable replicas are not ready.
func (s *scenario) oneStableReplica() {
	s.start(s.rollout(40))
	s.split("v2", 40)
	s.scale("v1", 3, 1)
	s.takenBack()
}

// newVersion asks for v3 while v2 has lost its replicas: v1 has all traffic until v3 is there.
func (s *scenario) newVersion() {
	s.start(s.rollout(5, 25))
	s.split("v2", 5)
	s.scale("v2", 0, 0)
	s.want("v3")
	s.until("the run of v3", func(ro *v1alpha1.Rollout) bool { return ro.Status.CanaryVersion == "v3" })
	s.all("v1")
	if last := s.get().Status.LastRun; last.Outcome != v1alpha1.OutcomeSuperseded {
		s.t.Errorf("the run of v2 ended with %q, want Superseded", last.Outcome)
	}
	s.scale("v3", 1, 1)
	s.reach(5)
	s.split("v3", 5)
}

// abortWithoutCanary aborts when all that ran v2 is gone.
func (s *scenario) abortWithoutCanary() {
	s.start(s.rollout(25))
	s.split("v2", 25)
	s.Plane.Delete(controlplane.Object("apps/v1", "Deployment", s.space, service+"-v2", nil), controlplane.Object("v1", "Pod", s.space, service+"-v2", nil))
	s.serve(service, "v1", "v3")
	s.takenBack()
}

// abortThroughErrors aborts while the API server answers the controller with errors only, until it waits its longest between
// two tries; then only the write that counts fails. As soon as that can succeed, all traffic leaves the canary by it.
func (s *scenario) abortThroughErrors() {
	s.start(s.rollout(25))
	s.split("v2", 25)
	before, wrote := s.faults.Break(func(controlplane.Request) bool { return true }), s.writes()
	s.t.Cleanup(func() { s.faults.Break(nil) })
	s.ask(v1alpha1.ActionAbort)
	s.refused(before, 8, "GET", s.path("siskin.dev/v1alpha1", "rollouts"))

	route := s.path("networking.istio.io/v1", "virtualservices")
	isWrite := func(q controlplane.Request) bool { return q.Method != "GET" && q.Path == route }
	reads := s.faults.Break(isWrite)
	s.refused(reads, 8, "PATCH", route)
	s.split("v2", 25)
	refused := s.faults.Break(nil)
	healed := time.Now()
	s.all("v1")
	after := s.faults.Requests(refused)
	first := slices.IndexFunc(after, isWrite)
	// A try fails every second by then. If the wait went on doubling, they would have taken minutes.
	if d := after[first].At.Sub(healed); d > 10*time.Second {
		s.t.Errorf("the route was written %s after it could be", d)
	}
	if n := s.writes() - wrote; n != 1 {
		s.t.Errorf("the way back took %d writes of the route, want one", n)
	}
	s.t.Logf("%d requests were refused in %s; the route was written %s after the last of them", refused-before,
		healed.Sub(s.faults.Requests(before)[0].At).Round(time.Millisecond), after[first].At.Sub(healed).Round(time.Millisecond))
	s.until("the run to be over", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run == nil && ro.Status.RejectedVersion == "v2" })
}

// path is that of an object with the service's name.
func (s *scenario) path(api, resource string) string {
	return "/apis/" + api + "/namespaces/" + s.space + "/" + resource + "/" + service
}

// refused waits until so many requests of the method and path, after the first so many of all, were refused.
func (s *scenario) refused(before, times int, method, path string) {
	s.t.Helper()
	controlplane.Until(s.t, fmt.Sprintf("%d refused requests %s %s", times, method, path), func(context.Context) error {
		n := 0
		for _, q := range s.faults.Requests(before) {
			if q.Refused && q.Method == method && q.Path == path {
				n++
			}
		}
		if n < times {
			return fmt.Errorf("%d were", n)
		}
		return nil
	})
}

// abortWithoutRule aborts while the DestinationRule can be neither read nor written.
func (s *scenario) abortWithoutRule() {
	s.start(s.rollout(25))
	s.split("v2", 25)
	rule := s.path("networking.istio.io/v1", "destinationrules")
	before := s.faults.Break(func(q controlplane.Request) bool { return q.Path == rule })
	s.t.Cleanup(func() { s.faults.Break(nil) })
	s.ask(v1alpha1.ActionAbort)
	s.all("v1")
	s.refused(before, 1, "GET", rule)
	s.faults.Break(nil)
	s.until("the run to be over", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run == nil && ro.Status.RejectedVersion == "v2" })
	s.subsets("v1")
}

// foreignEdit repairs what somebody else writes, to the present step.
func (s *scenario) foreignEdit() {
	s.start(s.rollout(25, 50))
	s.split("v2", 25)
	var vs networkingv1.VirtualService
	if err := s.Client.Get(s.t.Context(), client.ObjectKey{Namespace: s.space, Name: service}, &vs); err != nil {
		s.t.Fatal(err)
	}
	before := client.MergeFrom(vs.DeepCopy())
	vs.Spec.Http = vs.Spec.GetHttp()[1:2] // the stable pin alone
	vs.Spec.Http[0].Match = nil
	if err := s.Client.Patch(s.t.Context(), &vs, before, client.FieldOwner("somebody")); err != nil {
		s.t.Fatal(err)
	}
	s.split("v2", 25)
	s.events("DriftRepaired")
	if ro := s.get(); ro.Status.Weight != 25 || ro.Status.Run == nil {
		s.t.Errorf("after the repair: weight %d, run %v", ro.Status.Weight, ro.Status.Run)
	}
	s.routes("pin-canary", "pin-stable", "canary-buckets", "stable-buckets", "weighted")
}

// kinds are those of the objects that Siskin writes for a rollout.
var kinds = map[string]string{
	"VirtualService": "networking.istio.io/v1", "DestinationRule": "networking.istio.io/v1", "EnvoyFilter": "networking.istio.io/v1alpha3",
	"PrometheusRule": "monitoring.coreos.com/v1", "ConfigMap": "v1",
}

// deletion ends a rollout in the middle of a run: its traffic is taken back, then the route goes, and then what it led to.
// Nothing is left for a cluster's garbage collector, although everything belongs to the rollout. The service is as if there
// had been none, and stays so.
func (s *scenario) deletion() {
	s.start(s.rollout(25))
	s.split("v2", 25)
	ro := s.get()
	for kind := range kinds {
		all := s.written(kind)
		if len(all) == 0 {
			s.t.Errorf("no %s was written", kind)
		}
		for _, o := range all {
			if owner := metav1.GetControllerOf(&o); owner == nil || owner.UID != ro.UID {
				s.t.Errorf("%s %q is controlled by %v, want the rollout", kind, o.GetName(), owner)
			}
		}
	}
	before := len(s.history.Changes())
	s.remove(ro)
	s.nothing()
	var wrote []string
	for _, c := range s.history.Changes()[before:] {
		wrote = append(wrote, fmt.Sprint(c.Type, " ", c.GetKind(), " ", c.Destinations()))
	}
	only := fmt.Sprintf("[%s v1]", s.host(service))
	if err := same(wrote, []string{"MODIFIED VirtualService " + only, "DELETED VirtualService " + only, "DELETED DestinationRule []"}); err != nil {
		s.t.Errorf("what was written after the deletion: %v", err)
	}
	s.events("Leaving")
	s.proxied("the service's own route", func(routes []envoy.Route) error {
		own := "outbound|" + port + "||" + s.host(service)
		if len(routes) != 1 || len(routes[0].Destinations) != 1 || routes[0].Destinations[0].Cluster != own {
			return fmt.Errorf("got %+v", routes)
		}
		return nil
	})
	s.another()
	s.nothing()
}

// remove deletes a rollout and waits until it is gone.
func (s *scenario) remove(ro *v1alpha1.Rollout) {
	s.t.Helper()
	if err := s.Client.Delete(s.t.Context(), ro); err != nil {
		s.t.Fatal(err)
	}
	controlplane.Until(s.t, "the rollout to be gone", func(ctx context.Context) error {
		err := s.Client.Get(ctx, client.ObjectKeyFromObject(ro), ro)
		if err == nil {
			err = fmt.Errorf("it is held by %v", ro.Finalizers)
		}
		return client.IgnoreNotFound(err)
	})
}

// nothing holds that nothing is there that was written for the rollout.
func (s *scenario) nothing() {
	s.t.Helper()
	for kind := range kinds {
		for _, o := range s.written(kind) {
			if o.GetLabels()[v1alpha1.LabelRollout] == service {
				s.t.Errorf("the rollout is gone, and its %s %q is there", kind, o.GetName())
			}
		}
	}
}

// another waits until another rollout has a stable version: the controller has gone on meanwhile.
func (s *scenario) another() {
	s.t.Helper()
	ro := s.rollout(25)
	ro.Name = "another"
	s.make(ro)
	controlplane.Until(s.t, "another rollout", func(ctx context.Context) error {
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(ro), ro); err != nil || ro.Status.StableVersion == "v1" {
			return err
		}
		return fmt.Errorf("the status is %s %q", ro.Status.Reason, ro.Status.Message)
	})
}

// written are the objects of a kind in the namespace that carry a rollout's name.
func (s *scenario) written(kind string) []unstructured.Unstructured {
	s.t.Helper()
	var list unstructured.UnstructuredList
	list.SetAPIVersion(kinds[kind])
	list.SetKind(kind + "List")
	if err := s.Client.List(s.t.Context(), &list, client.InNamespace(s.space), client.HasLabels{v1alpha1.LabelRollout}); err != nil {
		s.t.Fatal(err)
	}
	return list.Items
}

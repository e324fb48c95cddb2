package controlplane_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/controlplane"
	"github.com/siskin-dev/siskin/test/envoy"
)

// promoted waits until a version is stable, and no other is left over.
func (s *scenario) promoted(version string) {
	s.t.Helper()
	s.until(version+" to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run == nil && ro.Status.StableVersion == version })
	s.all(version)
}

// pingPong lets two versions take turns: each is the canary, then stable, then the one that is left.
func (s *scenario) pingPong() {
	s.make(s.rollout(5, 25))
	for _, version := range []string{"v1", "v2"} {
		s.scale(version, 1, 1)
	}
	s.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })
	runs := map[string]bool{}
	for range 2 {
		for _, version := range []string{"v2", "v1"} {
			s.want(version)
			for _, weight := range []int{5, 25} {
				s.reach(weight)
				s.split(version, weight)
				s.subsets("v1", "v2")
				runs[s.get().Status.Run.ID] = true
				s.ask(v1alpha1.ActionPromote)
			}
			s.promoted(version)
			s.subsets(version)
			s.routes("pin-stable", "stable-buckets", "weighted")
		}
	}
	if len(runs) != 4 {
		s.t.Errorf("four runs had the ids %v", slices.Sorted(maps.Keys(runs)))
	}
}

// blueGreen shows the new version to testers alone, who name it or its host, then to everybody at once, and back at once.
func (s *scenario) blueGreen() {
	s.Plane.Apply(gatewayIn(s.space))
	ro := s.rollout(100)
	ro.Spec.Service.Hosts, ro.Spec.Service.Gateways = []string{"predict.example.com"}, []string{s.space + "/public"}
	ro.Spec.Strategy = &v1alpha1.StrategySpec{Preview: &v1alpha1.PreviewSpec{Approval: "Manual", Hosts: []string{"preview.example.com"}}}
	s.make(ro)
	for _, version := range []string{"v1", "v2"} {
		s.scale(version, 1, 1)
	}
	s.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })
	s.want("v2")
	s.previewed(map[string]string{mesh.VariantHeader: "canary"})
	s.atHosts("v1", "v2")

	before := s.writes()
	s.ask(v1alpha1.ActionPromote)
	s.all("v2")
	s.atHosts("v2", "v2")
	back := s.writes()
	s.takenBack()
	s.atHosts("v1", "v1")
	for what, n := range map[string]int64{"switch": back - before, "way back": s.writes() - back} {
		if n != 1 {
			s.t.Errorf("the %s took %d writes of the route, want one: callers met something between", what, n)
		}
	}

	s.ask(v1alpha1.ActionRetry)
	s.previewed(map[string]string{mesh.VariantHeader: "canary"})
	s.ask(v1alpha1.ActionPromote)
	s.all("v2")
	s.ask(v1alpha1.ActionPromote)
	s.promoted("v2")
}

// atHosts waits until these versions are met by who enters at the service's host and at the preview host.
func (s *scenario) atHosts(service, preview string) {
	s.t.Helper()
	for host, version := range map[string]string{"predict.example.com": service, "preview.example.com": preview} {
		s.entered(host, host+" to lead to "+version, func(routes []envoy.Route) error {
			for _, authority := range []string{host, host + ":80"} {
				if got, _ := meets(routes, map[string]string{":authority": authority}, 0); got != version {
					return fmt.Errorf("at %s one meets %s", authority, got)
				}
			}
			return nil
		})
	}
}

// previewed waits until nobody but who sends the headers meets v2, and somebody is asked to approve.
func (s *scenario) previewed(headers map[string]string) {
	s.t.Helper()
	s.until("the preview", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == string(rollout.AwaitingPromotion) })
	s.proxied("a preview", func(routes []envoy.Route) error {
		if got, _ := meets(routes, headers, 0); got != "v2" {
			return fmt.Errorf("who sends %v meets %s", headers, got)
		}
		if got := buckets(routes, "v1"); len(got) != rollout.Buckets {
			return fmt.Errorf("%d buckets of 100 meet v1", len(got))
		}
		return drawn(routes, map[string]int{"v1": 100})
	})
}

// writes is how often what the VirtualService says was written.
func (s *scenario) writes() int64 {
	s.t.Helper()
	var vs networkingv1.VirtualService
	if err := s.Client.Get(s.t.Context(), client.ObjectKey{Namespace: s.space, Name: service}, &vs); err != nil {
		s.t.Fatal(err)
	}
	return vs.Generation
}

// cohort is the test A/B: callers with a header of theirs meet the new version, from the preview to the end of the run, whatever
// their bucket; everybody else by weight.
func (s *scenario) cohort() {
	ro := s.rollout(5, 25)
	ro.Spec.Strategy = &v1alpha1.StrategySpec{Preview: &v1alpha1.PreviewSpec{
		Approval: "Manual", Cohort: &v1alpha1.CohortSpec{Header: "x-fleet", Values: []string{"works", "test.track"}},
	}}
	s.make(ro)
	for _, version := range []string{"v1", "v2"} {
		s.scale(version, 1, 1)
	}
	s.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })
	s.want("v2")
	s.previewed(map[string]string{"x-fleet": "works"})
	for _, weight := range []int{5, 25} {
		s.ask(v1alpha1.ActionPromote)
		s.reach(weight)
		s.inCohort(s.split("v2", weight), rollout.Others(nil))
	}
	s.takenBack()
	s.proxied("the cohort to be taken back", func(routes []envoy.Route) error {
		if got, _ := meets(routes, map[string]string{"x-fleet": "works"}, 0); got != "v1" {
			return fmt.Errorf("the cohort meets %s", got)
		}
		return nil
	})
}

// inCohort holds that those buckets meet v2 in the cohort, and v1 or v2 by their bucket where the header only looks like it.
func (s *scenario) inCohort(routes []envoy.Route, of []int) {
	s.t.Helper()
	canary := buckets(routes, "v2")
	for _, b := range of {
		by := "v1"
		if slices.Contains(canary, b) {
			by = "v2"
		}
		for value, want := range map[string]string{"works": "v2", "test.track": "v2", "Works": by, "works2": by, "test-track": by, "": by} {
			headers := map[string]string{"x-fleet": value, mesh.BucketHeader: rollout.FormatBucket(b)}
			if got, _ := meets(routes, headers, 0); got != want {
				s.t.Errorf("%v meets %s, want %s", headers, got, want)
			}
		}
	}
}

// notReady asks to go on while the new version has lost its replicas: nobody else is sent to it before it has some.
func (s *scenario) notReady() {
	s.start(s.rollout(5, 25))
	s.split("v2", 5)
	s.scale("v2", 1, 0)
	s.until("the controller to see it", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == string(rollout.CanaryNotReady) })
	s.ask(v1alpha1.ActionPromote)
	s.until("the request to be answered", func(ro *v1alpha1.Rollout) bool {
		return ro.Status.Requests[len(ro.Status.Requests)-1].HandledAt != nil
	})
	if ro := s.get(); ro.Status.Weight != 5 || ro.Status.Run == nil {
		s.t.Errorf("with no replica: weight %d, run %v; want to wait at 5", ro.Status.Weight, ro.Status.Run)
	}
	s.split("v2", 5)
	s.scale("v2", 1, 1)
	s.until("the controller to see it", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason != string(rollout.CanaryNotReady) })
	s.ask(v1alpha1.ActionPromote)
	s.reach(25)
	s.split("v2", 25)
}

// hostSplit splits between hosts instead of subsets: an HTTPRoute leads to a Service of each version. Istiod obeys it.
func (s *scenario) hostSplit() {
	for i, version := range []string{"v1", "v2", "v3"} {
		s.Endpoints(s.space, service+"-"+version+"-pods", "http", map[string]string{service + "-" + version: s.address(service, i)})
	}
	ro := s.rollout(5, 25)
	ro.Spec.Provider, ro.Spec.RateLimit = v1alpha1.ProviderGatewayAPI, nil
	s.start(ro)
	for _, weight := range []int{5, 25} {
		s.reach(weight)
		routes := s.split("v2", weight)
		for variant, want := range map[string]string{"canary": "v2", "stable": "v1"} {
			if got, _ := meets(routes, map[string]string{mesh.VariantHeader: variant}, 0); got != want {
				s.t.Errorf("weight %d: a tester of %s meets %s", weight, variant, got)
			}
		}
		if weight < 25 {
			s.ask(v1alpha1.ActionPromote)
		}
	}
	s.ask(v1alpha1.ActionAbort)
	s.all("v1")
	s.ask(v1alpha1.ActionRetry)
	s.reach(5)
	s.ask(v1alpha1.ActionPromoteFull)
	s.promoted("v2")
}

// hostExperiment shows three versions, each a host of its own.
func (s *scenario) hostExperiment() {
	for i, version := range []string{"v1", "v2", "v3"} {
		s.Endpoints(s.space, service+"-"+version+"-pods", "http", map[string]string{service + "-" + version: s.address(service, i)})
	}
	ro := s.rollout(25)
	ro.Spec.Provider, ro.Spec.RateLimit = v1alpha1.ProviderGatewayAPI, nil
	s.make(ro)
	s.compare()
}

// streams splits TLS that nobody terminates, by weight alone: there is no header to know a unit by.
func (s *scenario) streams() {
	pods := map[string]string{}
	for i, version := range []string{"v1", "v2", "v3"} {
		pods[service+"-"+version] = s.address(service, i)
	}
	s.ServiceOf(s.space, service, "tls", pods)
	ro := s.rollout(5, 25)
	ro.Spec.Assignment, ro.Spec.RateLimit, ro.Spec.Traffic = nil, nil, &v1alpha1.TrafficSpec{Protocol: "TLS"}
	s.start(ro)
	for _, weight := range []int{5, 25} {
		s.reach(weight)
		s.opened(map[string]uint32{"v1": uint32(100 - weight), "v2": uint32(weight)}) //nolint:gosec // a weight
		if weight < 25 {
			s.ask(v1alpha1.ActionPromote)
		}
	}
	s.ask(v1alpha1.ActionAbort)
	s.opened(map[string]uint32{"v1": 1})
}

// opened waits until connections are drawn by these weights.
func (s *scenario) opened(want map[string]uint32) {
	s.t.Helper()
	address := s.ClusterIP(s.space, service)
	controlplane.Until(s.t, fmt.Sprintf("connections to be opened by %v", want), func(ctx context.Context) error {
		a, err := envoy.Ask(ctx, s.ADS, s.caller())
		if err != nil {
			return err
		}
		all, err := a.Streams(address, 8080, s.host(service))
		if err != nil {
			return err
		}
		got := map[string]uint32{}
		for _, d := range all {
			got[versionOf(d.Cluster)] += d.Weight
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("they are by %v", got)
		}
		return nil
	})
}

// suspended holds a step beyond its time while somebody has paused the run, goes on when somebody resumes it, and an abort
// ends it also while it is paused.
func (s *scenario) suspended() {
	ro := s.rollout(5, 25)
	ro.Spec.Steps[0].Hold = metav1.Duration{Duration: 10 * time.Second} // the pause comes before it ends
	s.start(ro)
	s.pause()
	s.until("two blocks after the hold", func(ro *v1alpha1.Rollout) bool {
		run := ro.Status.Run
		if run.ShownAt == nil || run.LastBlock == nil {
			return false
		}
		return run.LastBlock.After(run.ShownAt.Add(ro.Spec.Steps[0].Hold.Duration + 2*ro.Spec.Analysis.Interval.Duration))
	})
	if ro := s.get(); ro.Status.Weight != 5 {
		s.t.Errorf("weight %d although the run is paused, want 5", ro.Status.Weight)
	}
	s.split("v2", 5)
	s.ask(v1alpha1.ActionResume)
	s.reach(25)
	s.split("v2", 25)
	s.pause()
	s.takenBack()
}

// pause asks for it and waits for it.
func (s *scenario) pause() {
	s.t.Helper()
	s.ask(v1alpha1.ActionPause)
	s.until("the run to be paused", func(ro *v1alpha1.Rollout) bool { return ro.Status.Run.Paused != "" })
}

package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/controlplane"
	"github.com/siskin-dev/siskin/test/envoy"
)

// scenario is a namespace with a service of three versions, seen through the routes that istiod gives a caller.
type scenario struct {
	*world
	number  int
	faults  *controlplane.Faults
	history *controlplane.History
}

// leave deletes the rollouts of the scenario, so that nobody looks at them while others are played. It does not wait for that.
func (s *scenario) leave() {
	if err := s.Client.DeleteAllOf(context.WithoutCancel(s.t.Context()), &v1alpha1.Rollout{}, client.InNamespace(s.space)); err != nil {
		s.t.Errorf("deleting the scenario's rollouts: %v", err)
	}
}

// madeFirst holds that no route ever led to what the DestinationRules did not make reachable at that moment.
func madeFirst(t *testing.T, h *controlplane.History) {
	t.Helper()
	for _, err := range controlplane.Unmade(h.Changes()) {
		t.Error(err)
	}
}

// serve makes a Service and a ready pod of each version.
func (s *scenario) serve(name string, versions ...string) {
	s.t.Helper()
	pods := map[string]string{}
	for i, v := range versions {
		pods[name+"-"+v] = s.address(name, i)
		s.Pod(s.space, name+"-"+v, pods[name+"-"+v], map[string]string{"app": name, "version": v})
	}
	s.Service(s.space, name, pods)
}

// address is that of the pod of a service's i-th version; nothing listens there. No two services of a scenario share one.
func (s *scenario) address(name string, i int) string {
	return fmt.Sprintf("10.%d.%d.%d", 240+slices.Index([]string{service, "backend"}, name), s.number, i+1)
}

// start brings v1 to rest and v2 to its first step.
func (s *scenario) start(ro *v1alpha1.Rollout) {
	s.t.Helper()
	s.make(ro)
	s.scale("v1", 1, 1)
	s.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })
	s.scale("v2", 1, 1)
	s.want("v2")
	s.reach(int(ro.Spec.Steps[0].Weight))
}

// reach waits for a weight.
func (s *scenario) reach(weight int) {
	s.t.Helper()
	s.until(fmt.Sprintf("weight %d", weight), func(ro *v1alpha1.Rollout) bool { return int(ro.Status.Weight) == weight })
}

// proxied waits until the caller's routes to the service are as wanted, and returns them.
func (s *scenario) proxied(what string, is func(routes []envoy.Route) error) []envoy.Route {
	s.t.Helper()
	return s.proxiedTo(service, what, is)
}

func (s *scenario) proxiedTo(name, what string, is func(routes []envoy.Route) error) []envoy.Route {
	s.t.Helper()
	return s.asked(s.caller(), port, s.host(name)+":"+port, what, is)
}

// entered is proxied for who enters at a host through the gateway.
func (s *scenario) entered(host, what string, is func(routes []envoy.Route) error) {
	s.t.Helper()
	s.asked(ingress(), entry, host, what, is)
}

// asked waits until a proxy's routes of that name to a host are as wanted, and returns them.
func (s *scenario) asked(by envoy.Node, name, host, what string, is func(routes []envoy.Route) error) []envoy.Route {
	s.t.Helper()
	var routes []envoy.Route
	controlplane.Until(s.t, what, func(ctx context.Context) error {
		a, err := envoy.Ask(ctx, s.ADS, by)
		if err != nil {
			return err
		}
		vh := envoy.Host(a.Routes[name], host)
		if vh == nil {
			return fmt.Errorf("no virtual host serves %s", host)
		}
		if routes, err = envoy.Routes(vh); err != nil {
			return err
		}
		return errors.Join(is(routes), unreachable(routes, a))
	})
	return routes
}

// caller is the sidecar of somebody who calls the service.
func (s *scenario) caller() envoy.Node {
	return envoy.Node{Kind: envoy.Sidecar, Address: "10.244.1.1", Name: "caller-0", Namespace: s.space, Labels: map[string]string{"app": "caller"}}
}

// host is the full name of a service.
func (s *scenario) host(name string) string { return name + "." + s.space + ".svc.cluster.local" }

// unreachable names the destinations that are no clusters with endpoints.
func unreachable(routes []envoy.Route, a envoy.Answer) error {
	for _, r := range routes {
		for _, d := range r.Destinations {
			if len(a.Endpoints[d.Cluster].GetEndpoints()) == 0 {
				return fmt.Errorf("route %q leads to %q, which has no endpoint", r.Name, d.Cluster)
			}
		}
	}
	return nil
}

// meets is the version that a request with the headers, ":authority" among them, meets, and the cookie that it is given.
func meets(routes []envoy.Route, headers map[string]string, draw uint64) (version, cookie string) {
	q := envoy.Request{Path: "/", Authority: headers[":authority"], Headers: map[string][]string{}}
	for name, value := range headers {
		q.Headers[name] = []string{value}
	}
	_, d, _ := envoy.Choose(routes, q, draw)
	cookie, _, _ = strings.Cut(d.AddResponse["set-cookie"], ";")
	return versionOf(d.Cluster), cookie
}

// versionOf is the version that a cluster is: its subset, or what the Service of a version is called after.
func versionOf(cluster string) string {
	parts := strings.Split(cluster, "|")
	if len(parts) != 4 || parts[2] != "" {
		return parts[max(len(parts)-2, 0)]
	}
	name, _, _ := strings.Cut(parts[3], ".")
	return strings.TrimSuffix(strings.TrimPrefix(name, service+"-"), "-pods")
}

// buckets are those that meet the version.
func buckets(routes []envoy.Route, version string) (of []int) {
	for b := range rollout.Buckets {
		if met, _ := meets(routes, map[string]string{mesh.BucketHeader: rollout.FormatBucket(b)}, 0); met == version {
			of = append(of, b)
		}
	}
	return of
}

// all waits until every bucket, and every request without one, meets the version.
func (s *scenario) all(version string) {
	s.t.Helper()
	s.proxied("all traffic to be on "+version, func(routes []envoy.Route) error {
		if got := buckets(routes, version); len(got) != rollout.Buckets {
			return fmt.Errorf("%d buckets of 100 meet %s", len(got), version)
		}
		return drawn(routes, map[string]int{version: 100})
	})
}

// split waits until exactly the buckets of the weight, and as many of 100 draws, meet the version and the others the
// stable one.
func (s *scenario) split(version string, weight int) []envoy.Route {
	s.t.Helper()
	st := s.get().Status
	want := rollout.Allocate(st.Run.ID, weight)
	return s.proxied(fmt.Sprintf("%d buckets to be on %s", weight, version), func(routes []envoy.Route) error {
		if got := buckets(routes, version); !slices.Equal(got, want) {
			return fmt.Errorf("on %s are %v, want %v", version, got, want)
		}
		return drawn(routes, map[string]int{version: weight, st.StableVersion: 100 - weight})
	})
}

// drawn compares what a hundred draws meet.
func drawn(routes []envoy.Route, want map[string]int) error {
	got := map[string]int{}
	for draw := range 100 {
		version, _ := meets(routes, nil, uint64(draw))
		got[version]++
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("of 100 draws there met %v, want %v", got, want)
	}
	return nil
}

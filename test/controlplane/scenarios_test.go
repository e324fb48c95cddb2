package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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

// scenarios are played by TestScenarios. The table in test/README.md says which of them other projects have.
func scenarios() map[string]func(*scenario) {
	return map[string]func(*scenario){
		"SubsetSplit": (*scenario).subsetSplit, "SingleRoute": (*scenario).singleRoute, "HostSplit": (*scenario).hostSplit,
		"Streams": (*scenario).streams, "PingPong": (*scenario).pingPong,
		"Abort": (*scenario).abort, "OneStableReplica": (*scenario).oneStableReplica, "AbortWithoutCanary": (*scenario).abortWithoutCanary,
		"AbortThroughErrors": (*scenario).abortThroughErrors, "AbortWithoutRule": (*scenario).abortWithoutRule,
		"NewVersion": (*scenario).newVersion, "NotReady": (*scenario).notReady, "HeaderRoute": (*scenario).headerRoute,
		"Cohort": (*scenario).cohort, "MirrorRoute": (*scenario).mirrorRoute, "SessionAffinity": (*scenario).sessionAffinity,
		"BlueGreen": (*scenario).blueGreen, "SkipAnalysis": (*scenario).skipAnalysis, "Suspended": (*scenario).suspended,
		"ForeignEdit": (*scenario).foreignEdit, "Delete": (*scenario).deletion, "Delegation": (*scenario).delegation, "Tiers": (*scenario).tiers,
		"Experiment": (*scenario).experiment, "HostExperiment": (*scenario).hostExperiment,
	}
}

// TestScenarios plays what users of rollout controllers rely on, each in a namespace of its own: the binary, the API
// server and istiod are real, and every answer is read off the routes of a caller's sidecar.
func TestScenarios(t *testing.T) {
	p := controlplane.Start(t)
	faults := p.StartFaults()
	p.StartController("controller", p.StartPrometheus("global: {scrape_interval: 1s}\n"), "--grace=1s", "--evidence-lag=1s",
		"--kubeconfig="+faults.Kubeconfig)
	for i, name := range slices.Sorted(maps.Keys(scenarios())) {
		t.Run(name, func(t *testing.T) {
			q := p.For(t)
			s := &scenario{&world{Plane: q, t: t, Client: reader(t, q), space: strings.ToLower(name)}, i, faults, q.Record(strings.ToLower(name))}
			s.Plane.Apply(controlplane.NamespaceOf(s.space))
			t.Cleanup(s.leave)
			s.serve(service, "v1", "v2", "v3")
			scenarios()[name](s)
			madeFirst(t, s.history)
		})
	}
	allowed(t, p)
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

// TestTable holds that the table of what other projects test names every scenario, and nothing that is not there.
func TestTable(t *testing.T) {
	table := string(read(t, filepath.Join("..", "README.md")))
	_, table, _ = strings.Cut(table, "\n| theirs | ours |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	for name := range scenarios() {
		if !strings.Contains(table, "`"+name+"`") {
			t.Errorf("the table in test/README.md does not say what scenario %s is for", name)
		}
	}
	for _, named := range regexp.MustCompile("`([A-Z][A-Za-z]*)`").FindAllStringSubmatch(table, -1) {
		if name := named[1]; scenarios()[name] == nil && !declared(t, name) {
			t.Errorf("the table in test/README.md names %s, which is no scenario and no test here", name)
		}
	}
}

// declared says whether there is a test of the name in this folder.
func declared(t *testing.T, name string) bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		return strings.Contains(string(read(t, file)), "func "+name+"(t *testing.T)")
	})
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

// subsetSplit ramps to the end: each weight is exact.
func (s *scenario) subsetSplit() {
	s.start(s.rollout(5, 25, 100))
	for _, weight := range []int{5, 25, 100} {
		s.reach(weight)
		if weight < 100 {
			s.split("v2", weight)
		} else {
			s.all("v2")
		}
		s.subsets("v1", "v2")
		s.ask(v1alpha1.ActionPromote)
	}
	s.until("v2 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v2" })
	s.all("v2")
}

// singleRoute splits by weight alone, where no unit is recognised.
func (s *scenario) singleRoute() {
	ro := s.rollout(5, 25)
	ro.Spec.Assignment = nil
	s.start(ro)
	for _, weight := range []int{5, 25} {
		s.reach(weight)
		s.proxied(fmt.Sprintf("a weight of %d", weight), func(routes []envoy.Route) error {
			return drawn(routes, map[string]int{"v1": 100 - weight, "v2": weight})
		})
		s.ask(v1alpha1.ActionPromote)
	}
	s.until("v2 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v2" })
	s.all("v2")
}

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
	s.refused(reads, 3, "PATCH", route)
	s.split("v2", 25)
	refused := s.faults.Break(nil)
	healed := time.Now()
	s.all("v1")
	after := s.faults.Requests(refused)
	first := slices.IndexFunc(after, isWrite)
	// A try fails every second by then. If the wait went on doubling, the next one would come after ten.
	if d := after[first].At.Sub(healed); d > 3*time.Second {
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

// headerRoute lets a tester name the variant, whatever the weight and the bucket say.
func (s *scenario) headerRoute() {
	s.start(s.rollout(5))
	routes := s.split("v2", 5)
	for variant, version := range map[string]string{"canary": "v2", "stable": "v1"} {
		for b := range rollout.Buckets {
			headers := map[string]string{mesh.VariantHeader: variant, mesh.BucketHeader: rollout.FormatBucket(b)}
			if got, _ := meets(routes, headers, 0); got != version {
				s.t.Errorf("%v meets %s, want %s", headers, got, version)
			}
		}
	}
	s.takenBack()
	s.proxied("the tester's route to be gone", func(routes []envoy.Route) error {
		if got, _ := meets(routes, map[string]string{mesh.VariantHeader: "canary"}, 0); got != "v1" {
			return fmt.Errorf("a tester meets %s", got)
		}
		return nil
	})
}

// sessionAffinity gives a browser of each bucket a cookie: nobody goes back while the weight grows, and nobody gets another
// cookie, whatever the proxy draws.
func (s *scenario) sessionAffinity() {
	ro := s.rollout(5, 25, 50)
	ro.Spec.Assignment = &v1alpha1.AssignmentSpec{Cookie: &v1alpha1.CookieAssignment{Name: "siskin-coolant", MaxAge: metav1.Duration{Duration: time.Hour}}}
	s.start(ro)
	var cookies [rollout.Buckets]string
	var before []int
	for _, weight := range []int{5, 25, 50} {
		s.reach(weight)
		canary := rollout.Allocate(s.get().Status.Run.ID, weight)
		routes := s.proxied(fmt.Sprintf("weight %d", weight), func(routes []envoy.Route) error {
			return drawn(routes, map[string]int{"v1": 100 - weight, "v2": weight})
		})
		for b := range cookies {
			version, given := "", cookies[b]
			if given == "" { // a first visit, which draws its bucket
				version, given = meets(routes, nil, uint64(b))
				cookies[b] = given
			}
			if in := slices.Contains(canary, b); version != "" && in != (version == "v2") || given == "" {
				s.t.Fatalf("weight %d: who draws %02d is given the cookie %q and meets %s", weight, b, given, version)
			}
			s.remembered(routes, cookies[b], slices.Contains(canary, b))
		}
		if slices.ContainsFunc(before, func(b int) bool { return !slices.Contains(canary, b) }) {
			s.t.Fatalf("weight %d: of %v on v2, not all are among %v", weight, before, canary)
		}
		if before = canary; weight < 50 {
			s.ask(v1alpha1.ActionPromote)
		}
	}
}

// remembered holds that a browser with a cookie meets its version whatever is drawn, and is given no other cookie.
func (s *scenario) remembered(routes []envoy.Route, cookie string, onCanary bool) {
	s.t.Helper()
	for draw := range rollout.Buckets {
		version, given := meets(routes, map[string]string{"cookie": "theme=dark; " + cookie}, uint64(draw))
		if given != "" || onCanary != (version == "v2") {
			s.t.Fatalf("a browser with cookie %q that draws %02d meets %s and is given %q", cookie, draw, version, given)
		}
	}
}

// skipAnalysis promotes in one go, although a gate has no data at all.
func (s *scenario) skipAnalysis() {
	ro := s.rollout(5, 25, 50)
	ro.Spec.Gates = append(ro.Spec.Gates, v1alpha1.GateSpec{Name: "errors", Type: v1alpha1.GateErrorRate})
	s.start(ro)
	s.split("v2", 5)
	s.ask(v1alpha1.ActionPromoteFull)
	s.until("v2 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v2" })
	s.all("v2")
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

// delegation lets a VirtualService of somebody else delegate to Siskin's, which is not written to. What the user's route says
// holds for all of ours.
func (s *scenario) delegation() {
	root := controlplane.Object("networking.istio.io/v1", "VirtualService", s.space, "root", nil)
	root.Object["spec"] = map[string]any{"hosts": []any{s.host(service)}, "http": []any{map[string]any{
		"delegate":   map[string]any{"name": service},
		"rewrite":    map[string]any{"uri": "/api/", "authority": "model.example.com"},
		"fault":      map[string]any{"delay": map[string]any{"fixedDelay": "1s", "percentage": map[string]any{"value": int64(2)}}},
		"corsPolicy": map[string]any{"allowOrigins": []any{map[string]any{"exact": "https://fleet.example.com"}}},
		"timeout":    "7s",
	}}}
	rewrite := []string{"path /api/", "host model.example.com"}
	filters := []string{
		`envoy.filters.http.cors {"allowOriginStringMatch":[{"exact":"https://fleet.example.com"}],"filterEnabled":{"defaultValue":{"numerator":100}},"forwardNotMatchingPreflights":true}`,
		`envoy.filters.http.fault {"delay":{"fixedDelay":"1s","percentage":{"numerator":20000,"denominator":"MILLION"}}}`,
	}
	kept := func(routes []envoy.Route) error {
		for _, r := range routes {
			if r.Timeout != 7*time.Second || !slices.Equal(r.Rewrite, rewrite) || !slices.Equal(r.Filters, filters) {
				return fmt.Errorf("what the user said is not on %+v", r)
			}
		}
		return nil
	}
	s.Plane.Apply(root)
	version := func() string {
		if err := s.Client.Get(s.t.Context(), client.ObjectKeyFromObject(root), root); err != nil {
			s.t.Fatal(err)
		}
		return root.GetResourceVersion()
	}
	before := version()
	ro := s.rollout(5, 25)
	ro.Spec.Traffic = &v1alpha1.TrafficSpec{Entry: "Delegate"}
	s.start(ro)
	s.split("v2", 5)
	s.proxied("what the user said at a weight of 5", kept)
	s.ask(v1alpha1.ActionPromote)
	s.reach(25)
	s.split("v2", 25)
	s.proxied("what the user said at a weight of 25", kept)
	s.takenBack()
	s.proxied("what the user said after the abort", kept)
	if after := version(); after != before {
		s.t.Errorf("the user's VirtualService was written to: %v", root.GetManagedFields())
	}
}

// tiers lets a service behind the first one follow the variant that was met there, whatever the bucket.
func (s *scenario) tiers() {
	s.serve("backend", "v1", "v2")
	for _, v := range []string{"v1", "v2"} {
		s.Deploy(s.space, "backend-"+v, map[string]string{"app": "backend", "version": v}, 1, 1)
	}
	ro := s.rollout(5)
	ro.Spec.Tiers = []v1alpha1.TierSpec{{Name: "backend", Port: 8080}}
	s.start(ro)
	s.split("v2", 5)
	follows := func(canary string) func([]envoy.Route) error {
		return func(routes []envoy.Route) error {
			for b := range rollout.Buckets {
				for variant, want := range map[string]string{"canary": canary, "stable": "v1"} {
					headers := map[string]string{mesh.VariantHeader: variant, mesh.BucketHeader: rollout.FormatBucket(b)}
					if got, _ := meets(routes, headers, 0); got != want {
						return fmt.Errorf("%v meets %s behind, want %s", headers, got, want)
					}
				}
			}
			return nil
		}
	}
	s.proxiedTo("backend", "the tier to follow", follows("v2"))
	s.takenBack()
	s.proxiedTo("backend", "the tier to be taken back", follows("v1"))
}

// mirrorRoute copies a tenth of the users' requests to a version that nobody meets: not before it runs, not after an abort, and
// not at a step.
func (s *scenario) mirrorRoute() {
	ro := s.rollout(5)
	ro.Spec.Strategy = &v1alpha1.StrategySpec{Shadow: &v1alpha1.ShadowSpec{Percent: 10, Hold: metav1.Duration{Duration: time.Hour}}}
	s.make(ro)
	s.scale("v1", 1, 1)
	s.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })
	s.want("v2")
	s.until("the run to wait", func(ro *v1alpha1.Rollout) bool { return ro.Status.Reason == "CanaryNotReady" })
	s.copied("")
	s.scale("v2", 1, 1)
	s.until("the shadow", func(ro *v1alpha1.Rollout) bool { return ro.Status.Mirror == 10 && ro.Status.Weight == 0 })
	s.copied("v2")
	s.takenBack()
	s.copied("")
	s.ask(v1alpha1.ActionRetry)
	s.copied("v2")
	s.ask(v1alpha1.ActionPromote)
	s.reach(5)
	for _, r := range s.split("v2", 5) {
		if len(r.Mirrors) > 0 {
			s.t.Errorf("at the first step route %q is mirrored to %v", r.Name, r.Mirrors)
		}
	}
}

// copied waits until a tenth of what users send, and nothing of what testers do, is copied to the version while all of it meets
// v1; nothing at all to no version.
func (s *scenario) copied(version string) {
	s.t.Helper()
	s.proxied(fmt.Sprintf("copies to %q", version), func(routes []envoy.Route) error {
		var errs []error
		for _, r := range routes {
			var want []string
			if version != "" && !strings.HasPrefix(r.Name, "pin-") {
				want = []string{"outbound|" + port + "|" + version + "|" + s.host(service) + " 10%, host as it was"}
			}
			if !slices.Equal(r.Mirrors, want) {
				errs = append(errs, fmt.Errorf("route %q is mirrored to %v, want %v", r.Name, r.Mirrors, want))
			}
		}
		if got := buckets(routes, "v1"); len(got) != rollout.Buckets {
			errs = append(errs, fmt.Errorf("%d buckets of 100 meet v1", len(got)))
		}
		return errors.Join(append(errs, drawn(routes, map[string]int{"v1": 100}))...)
	})
}

// experiment shows three versions, each to its own buckets, until it is deleted.
func (s *scenario) experiment() {
	s.make(s.rollout(25))
	s.compare()
}

// compare runs the experiment and ends it.
func (s *scenario) compare() {
	s.t.Helper()
	for _, v := range []string{"v1", "v2", "v3"} {
		s.scale(v, 1, 1)
	}
	s.until("v1 to be stable", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == "v1" })
	exp := &v1alpha1.Experiment{ObjectMeta: metav1.ObjectMeta{Namespace: s.space, Name: "three"}, Spec: v1alpha1.ExperimentSpec{
		Rollout:   service,
		Variants:  []v1alpha1.VariantSpec{{Name: "one", Version: "v1", Share: 20}, {Name: "two", Version: "v2", Share: 15}, {Name: "three", Version: "v3", Share: 5}},
		Objective: v1alpha1.ObjectiveSpec{Query: v1alpha1.ObjectiveQuery{Sum: "siskin_test_sum_total", Count: "siskin_test_count_total"}},
	}}
	if err := s.Client.Create(s.t.Context(), exp); err != nil {
		s.t.Fatal(err)
	}
	controlplane.Until(s.t, "the experiment to run", func(ctx context.Context) error {
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(exp), exp); err != nil || exp.Status.State == v1alpha1.ExperimentRunning {
			return err
		}
		return fmt.Errorf("it is %s: %s %q", exp.Status.State, exp.Status.Reason, exp.Status.Message)
	})
	s.proxied("each variant on its own buckets", func(routes []envoy.Route) error {
		for i, v := range exp.Spec.Variants[1:] {
			got, want := buckets(routes, v.Version), exp.Status.Allocation[i+1]
			if rollout.FormatBuckets(got) != want.Buckets || len(got) != int(v.Share) || want.Version != v.Version {
				return fmt.Errorf("on %s are %v, want %+v", v.Version, got, want)
			}
			if version, _ := meets(routes, map[string]string{mesh.VariantHeader: v.Name}, 0); version != v.Version {
				return fmt.Errorf("a tester of %s meets %s", v.Name, version)
			}
		}
		return drawn(routes, map[string]int{"v1": 80, "v2": 15, "v3": 5})
	})
	if err := s.Client.Delete(s.t.Context(), exp); err != nil {
		s.t.Fatal(err)
	}
	s.all("v1")
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

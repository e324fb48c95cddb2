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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
	"github.com/siskin-dev/siskin/test/controlplane"
	"github.com/siskin-dev/siskin/test/envoy"
)

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

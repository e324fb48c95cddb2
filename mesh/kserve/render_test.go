package kserve

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/cmd/local/kube/meshtest"
	"github.com/siskin-dev/siskin/mesh"
)

var update = flag.Bool("update", false, "write the golden outputs anew")

func render(t *testing.T, traffic mesh.Traffic) mesh.Object {
	t.Helper()
	o, err := Render(traffic)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestGolden(t *testing.T) {
	meshtest.Each(t, func(t *testing.T, path string, traffic mesh.Traffic) {
		meshtest.Golden(t, path, *update, render(t, traffic))
	})
}

func TestLimits(t *testing.T) { meshtest.Complete(t, Limits()) }

// TestAPIServerTakesIt writes every InferenceService to an API server with KServe's schema, which also refuses.
func TestAPIServerTakesIt(t *testing.T) {
	crd, err := os.ReadFile("testdata/crds/inferenceservice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	api := meshtest.NewAPI(t, kubetest.Start(t, crd))
	meshtest.Each(t, func(t *testing.T, _ string, traffic mesh.Traffic) {
		if _, err := api.Apply(t, render(t, traffic)); err != nil {
			t.Error(err)
		}
		for name, spoil := range map[string]func(spec map[string]any){
			"Unknown": func(s map[string]any) { s["predictor"].(map[string]any)["canaryWeight"] = int64(1) },
			"Name":    func(s map[string]any) { s["predictor"].(map[string]any)["name"] = "2.0" },
		} {
			bad := render(t, traffic)
			spoil(bad["spec"].(map[string]any))
			if _, err := api.Apply(t, bad); err == nil {
				t.Errorf("%s: the API server took a bad InferenceService", name)
			}
		}
	})
}

// TestPredictor: the version is in the strings and in the labels, the user's object is kept, and each version has a name.
func TestPredictor(t *testing.T) {
	traffic := meshtest.Read(t, "testdata/standard-25.in.yaml")
	traffic.Serving.Predictor = []byte(`{"labels":{"team":"a"},"minReplicas":2,"model":{"storageUri":"s3://m/$(version)/$(version)"},"f":0.5}`)
	p, err := predictor(traffic, "v2")
	if err != nil {
		t.Fatal(err)
	}
	labels := p["labels"].(map[string]any)
	if uri := p["model"].(map[string]any)["storageUri"]; uri != "s3://m/v2/v2" || p["minReplicas"] != int64(2) || p["f"] != 0.5 {
		t.Errorf("predictor: %v", p)
	}
	if labels["team"] != "a" || labels["app"] != "coolant" || labels["version"] != "v2" || p["name"] != "v2" {
		t.Errorf("labels %v, name %v", labels, p["name"])
	}
	if n := Name("2.0"); n == Name("2-0") || !strings.HasPrefix(n, "v-") {
		t.Errorf("Name(2.0) = %q, want one that begins with a letter and is its own", n)
	}
}

func TestRefuses(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   func(*mesh.Traffic)
		want   mesh.Feature
	}{
		"Header": {"Nobody reads it.", func(t *mesh.Traffic) { t.BucketHeader = mesh.BucketHeader }, mesh.HeaderBuckets},
		"Cookie": {"Nobody sets it.", func(t *mesh.Traffic) { t.Cookie = &mesh.Cookie{Name: "c", MaxAgeSeconds: 1} }, mesh.CookieBuckets},
		"Limit":  {"Nobody limits.", func(t *mesh.Traffic) { t.RateLimit = &mesh.RateLimit{RequestsPerSecond: 1} }, mesh.RateLimits},
		"Arms":   {"They would have to run first.", func(t *mesh.Traffic) { t.Shares = append(t.Shares, mesh.Share{Variant: "a", Version: "v3"}) }, mesh.Variants},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			traffic := meshtest.Read(t, "testdata/standard-25.in.yaml")
			tc.args(&traffic)
			_, err := Render(traffic)
			var no *mesh.UnsupportedError
			if !errors.As(err, &no) || no.Feature != tc.want {
				t.Errorf("%s\nRender(...): %v; want an UnsupportedError of %q", tc.reason, err, tc.want)
			}
		})
	}
}

func TestBadPredictors(t *testing.T) {
	for text, want := range map[string]string{
		`[]`: "reading kserve.predictor", `{"name":"a"}`: "kserve.predictor.name", `{"canaryTrafficPercent":5}`: "kserve.predictor.canaryTrafficPercent",
	} {
		traffic := meshtest.Read(t, "testdata/standard-25.in.yaml")
		traffic.Serving.Predictor = []byte(text)
		if _, err := Render(traffic); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Render with predictor %s: %v, want %q", text, err, want)
		}
	}
	traffic := meshtest.Read(t, "testdata/standard-25.in.yaml")
	traffic.Serving = nil
	if _, err := Render(traffic); err == nil || !strings.Contains(err.Error(), "kserve: must be specified") {
		t.Errorf("Render without predictors: %v", err)
	}
}

func TestReady(t *testing.T) {
	type object = map[string]any
	revision := func(created, ready, rolled string) object {
		return object{"observedGeneration": int64(2), "components": object{"predictor": object{
			"latestCreatedRevision": created, "latestReadyRevision": ready, "latestRolledoutRevision": rolled,
		}}}
	}
	canary := func(generation int64, name string, ready bool) object {
		return object{"observedGeneration": generation, "canaryStatuses": []any{object{"name": name, "ready": ready}}}
	}
	cases := map[string]struct {
		reason string
		status object
		want   bool
	}{
		"Nothing":       {"KServe has not said anything.", nil, false},
		"Canary":        {"It says so.", canary(2, "v2", true), true},
		"NotYet":        {"It says not.", canary(2, "v2", false), false},
		"Another":       {"It says so of another one.", canary(2, "v3", true), false},
		"Stale":         {"It speaks of an earlier object.", canary(1, "v2", true), false},
		"Revision":      {"The newest revision is ready, and is not the one that has had everything.", revision("r2", "r2", "r1"), true},
		"RevisionWaits": {"An earlier one is.", revision("r2", "r1", "r1"), false},
		"RevisionOld":   {"There is no new one yet.", revision("r1", "r1", "r1"), false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := mesh.Object{
				"metadata": object{"generation": int64(2)},
				"spec":     object{"predictor": object{"name": "v2", "canaryTrafficPercent": int64(0)}}, "status": tc.status,
			}
			if got := Ready(o, "v2"); got != tc.want {
				t.Errorf("%s\nReady(...) = %t, want %t", tc.reason, got, tc.want)
			}
		})
	}
}

func TestSettled(t *testing.T) {
	type object = map[string]any
	revisions := func(created, ready, rolled string, generation int64) object {
		return object{"observedGeneration": generation, "components": object{"predictor": object{
			"latestCreatedRevision": created, "latestReadyRevision": ready, "latestRolledoutRevision": rolled,
		}}}
	}
	cases := map[string]struct {
		reason, mode, predictor string
		status                  object
		want                    bool
	}{
		"Promoted":   {"KServe has seen it with everything.", "Knative", "v2", revisions("r2", "r2", "r2", 2), true},
		"JustNow":    {"KServe would go back to the one before.", "Knative", "v2", revisions("r2", "r2", "r1", 2), false},
		"NotReady":   {"The promoted revision is made anew.", "Knative", "v2", revisions("r3", "r2", "r2", 2), false},
		"Stale":      {"It speaks of an earlier object.", "Knative", "v2", revisions("r2", "r2", "r2", 1), false},
		"Nothing":    {"KServe has not said anything.", "Knative", "v2", nil, false},
		"Tried":      {"The newest one was rolled back, so stable is what KServe went back to.", "Knative", "v3", revisions("r3", "r3", "r2", 2), true},
		"SideBySide": {"Nothing goes back by itself.", "Standard", "v2", nil, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := mesh.Object{
				"metadata": object{"generation": int64(2), "annotations": object{modeAnnotation: tc.mode}},
				"spec":     object{"predictor": object{"name": tc.predictor}}, "status": tc.status,
			}
			if got := Settled(o, "v2"); got != tc.want {
				t.Errorf("%s\nSettled(...) = %t, want %t", tc.reason, got, tc.want)
			}
		})
	}
}

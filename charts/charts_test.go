package charts_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/alerts"
	"github.com/siskin-dev/siskin/charts"
	"github.com/siskin-dev/siskin/dashboards"
)

var update = flag.Bool("update", false, "rewrite the golden files and the chart's copies")

// render renders the chart for a release "demo" in namespace "edge", as helm template would.
func render(values map[string]any) (map[string]string, error) {
	chart, err := loader.LoadDir("siskin")
	if err != nil {
		return nil, err
	}
	release := common.ReleaseOptions{Name: "demo", Namespace: "edge", Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(chart, values, release, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(chart, all)
}

// object is a rendered object.
type object = map[string]any

// objects parses what was rendered, keyed by kind and name.
func objects(t *testing.T, files map[string]string) map[string]object {
	t.Helper()
	all := map[string]object{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Ext(name) != ".yaml" {
			continue
		}
		for doc := range strings.SplitSeq("\n"+files[name], "\n---\n") {
			var o object
			if err := sigsyaml.UnmarshalStrict([]byte(doc), &o); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, doc)
			}
			if len(o) == 0 {
				continue
			}
			meta, _ := o["metadata"].(object)
			key := fmt.Sprintf("%v/%v", o["kind"], meta["name"])
			if _, twice := all[key]; twice {
				t.Errorf("%s is rendered twice", key)
			}
			all[key] = o
		}
	}
	return all
}

func values(t *testing.T, text string) map[string]any {
	t.Helper()
	v := map[string]any{}
	if err := sigsyaml.UnmarshalStrict([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestGolden renders testdata/*.values.yaml and compares with the *.golden.yaml beside each.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("finding values: %v, %v", inputs, err)
	}
	for _, in := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".values.yaml"), func(t *testing.T) {
			files, err := render(values(t, string(read(t, in))))
			if err != nil {
				t.Fatal(err)
			}
			objects(t, files)
			var got bytes.Buffer
			for _, name := range slices.Sorted(maps.Keys(files)) {
				if text := strings.TrimSpace(files[name]); text != "" {
					fmt.Fprintf(&got, "### %s\n%s\n", strings.TrimPrefix(name, "siskin/"), text)
				}
			}
			golden := strings.TrimSuffix(in, ".values.yaml") + ".golden.yaml"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(read(t, golden)), got.String()); diff != "" {
				t.Errorf("render differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCopies holds the chart's copies to their sources, byte by byte.
func TestCopies(t *testing.T) {
	sources := map[string][]byte{"siskin/files/alerts/siskin.yaml": alerts.Rules}
	boards, err := fs.Glob(dashboards.Boards, "*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range boards {
		if sources["siskin/files/dashboards/"+name], err = dashboards.Boards.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range sources {
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil { //nolint:gosec // a file of the repository
				t.Fatal(err)
			}
		}
		if !bytes.Equal(read(t, path), want) {
			t.Errorf("%s differs from its source; run go test ./charts -update", path)
		}
	}
	copies, err := filepath.Glob("siskin/files/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range copies {
		if sources[path] == nil && filepath.Base(filepath.Dir(path)) != "crds" {
			t.Errorf("%s has no source", path)
		}
	}
}

// TestCRD holds that the definition is rendered as generated, but for the one annotation that keeps it.
func TestCRD(t *testing.T) {
	const keep = "    helm.sh/resource-policy: keep\n"
	kept := func(crd []byte) string {
		return strings.Replace(string(crd), "  annotations:\n", "  annotations:\n"+keep, 1)
	}
	for reason, tc := range map[string]struct {
		values string
		want   string
	}{
		"installed and kept":       {"{}", kept(charts.RolloutCRD) + "\n" + kept(charts.ExperimentCRD)},
		"installed, not kept":      {"crds: {keep: false}", string(charts.RolloutCRD) + "\n" + string(charts.ExperimentCRD)},
		"not installed at all":     {"crds: {install: false}", ""},
		"kept means nothing alone": {"crds: {install: false, keep: true}", ""},
	} {
		files, err := render(values(t, tc.values))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(files["siskin/templates/crds.yaml"]); got != strings.TrimSpace(tc.want) {
			t.Errorf("%s: the rendered definition differs from the generated one:\n%s", reason, cmp.Diff(tc.want, got))
		}
	}
	if entries, err := charts.Siskin.ReadDir("siskin/crds"); err == nil {
		t.Errorf("the folder crds holds %v: Helm would install it whatever the values say", entries)
	}
}

func TestRefusals(t *testing.T) {
	split := "controller: {enabled: false}\ntraffic: {service: {name: coolant}, "
	for name, tc := range map[string]struct{ values, want string }{
		"WeightsBelow": {split + "stable: {weight: 80}}", "traffic.stable.weight, 80, and traffic.canary.weight, 10, must sum to 100; they sum to 90"},
		"WeightsAbove": {split + "canary: {weight: 20}}", "traffic.stable.weight, 90, and traffic.canary.weight, 20, must sum to 100; they sum to 110"},
		"Negative":     {split + "stable: {weight: 110}, canary: {weight: -10}}", "'/traffic/canary/weight': minimum: got -10, want 0"},
		"Fraction":     {split + "stable: {weight: 90.5}, canary: {weight: 9.5}}", "'/traffic/canary/weight': got number, want integer"},
		"NoService":    {"controller: {enabled: false}", "traffic.service.name must be given: the name of the Service whose traffic is split"},
		"NoCanary":     {split + "canary: {version: \"\"}}", "traffic.canary.weight, 10, must be 0 when traffic.canary.version is empty"},
		"SameVersion":  {split + "canary: {version: v1}}", `traffic.stable.version and traffic.canary.version must differ; both are "v1"`},
		"Hosts":        {"controller: {enabled: false}\ntraffic: {service: {name: coolant, hosts: [a.example.com]}}", "traffic.service.hosts may not be specified without traffic.service.gateways"},
		"Mode":         {split + "stickiness: {mode: hash}}", "'/traffic/stickiness/mode': value must be one of 'none', 'cookie', 'header'"},
		"Unknown":      {"routing: {}", "additional properties 'routing' not allowed"},
		"Ingest":       {"ingest: {enabled: true}", "ingest.redis must be given"},
		"Serving":      {"serving: {enabled: true, service: coolant, model: coolant}", "serving.versions must have at least one {version, storageURI}"},
		"Account":      {"serviceAccount: {create: false}", "serviceAccount.name must be given when serviceAccount.create is false"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := render(values(t, tc.values))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}

// TestScaling: the controller is told whether it may scale, and model servers that a rollout scales are left their replicas.
func TestScaling(t *testing.T) {
	for text, want := range map[string]string{"controller: {scaling: false}": "--scaling=false", "controller: {scaling: true}": "--scaling=true"} {
		files, err := render(values(t, text))
		if err != nil || !strings.Contains(files["siskin/templates/controller.yaml"], "- "+want+"\n") {
			t.Errorf("%s: want the argument %s; %v", text, want, err)
		}
	}
	for replicas, want := range map[string]any{"-1": nil, "0": int64(0), "3": int64(3)} {
		files, err := render(values(t, "serving: {enabled: true, service: coolant, model: coolant, versions: [{version: v1, storageURI: s3://models/v1}], replicas: "+replicas+"}"))
		if err != nil {
			t.Fatal(err)
		}
		if got := objects(t, files)["Deployment/coolant-v1"]["spec"].(object)["replicas"]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("replicas: %s renders %v, want %v", replicas, got, want)
		}
	}
}

// TestLint runs helm lint.
func TestLint(t *testing.T) {
	linter := lint.RunAll("siskin", map[string]any{}, "edge")
	for _, m := range linter.Messages {
		if m.Severity >= support.WarningSev {
			t.Errorf("%v", m)
		}
	}
}

var rbacMarker = regexp.MustCompile(`\+kubebuilder:rbac:groups=([^,]*),resources=([^,]*),verbs=(\S+)`)

// TestRights holds that the controller's rights are those that its code declares, no more and no fewer, whether it runs
// all namespaces or one.
func TestRights(t *testing.T) {
	want := map[string]string{}
	for _, m := range rbacMarker.FindAllStringSubmatch(string(read(t, "../rollout/controller/doc.go")), -1) {
		grant(want, []string{strings.Trim(m[1], `"`)}, strings.Split(m[2], ";"), strings.Split(m[3], ";"))
	}
	if len(want) < 5 {
		t.Fatalf("found %d markers in the controller, want more", len(want))
	}
	const every = "globalRateLimits: true, providers: [Istio, GatewayAPI, NGINX, Service, Seldon, KServe]"
	for name, scope := range map[string]string{"controller: {" + every + "}": "ClusterRole", "controller: {namespace: edge, " + every + "}": "Role"} {
		files, err := render(values(t, name))
		if err != nil {
			t.Fatal(err)
		}
		all := objects(t, files)
		got := map[string]string{}
		for _, key := range []string{scope + "/demo-siskin-controller", "Role/demo-siskin-leader"} {
			role, ok := all[key]
			if !ok {
				t.Fatalf("%s: no %s", name, key)
			}
			for _, r := range role["rules"].([]any) {
				rule := r.(object)
				grant(got, words(rule["apiGroups"]), words(rule["resources"]), words(rule["verbs"]))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: rights differ from the code's markers (-markers +chart):\n%s", name, diff)
		}
		binding := all[scope+"Binding/demo-siskin-controller"]
		subject := binding["subjects"].([]any)[0].(object)
		if _, ok := all["ServiceAccount/"+subject["name"].(string)]; !ok || subject["namespace"] != "edge" {
			t.Errorf("%s: the rights are bound to %v, which is not rendered", name, subject)
		}
	}
}

// TestPeople holds what the roles for people allow, and when they are there.
func TestPeople(t *testing.T) {
	const see = "get list watch"
	roles := map[string]map[string]string{
		"viewer":   {"siskin.dev/rollouts": see, "siskin.dev/experiments": see},
		"operator": {"siskin.dev/rollouts": see, "siskin.dev/experiments": see, "siskin.dev/rollouts/status": "get patch"},
		"editor":   {"siskin.dev/rollouts": "create delete get list patch update watch", "siskin.dev/experiments": "create delete get list patch update watch"},
	}
	for reason, tc := range map[string]struct {
		values string
		want   map[string]map[string]string
	}{
		"by default":                                    {"{}", roles},
		"whoever brings the definitions":                {"crds: {install: false}", roles},
		"definitions for a controller that comes later": {"controller: {enabled: false}\ntraffic: {service: {name: coolant}}", roles},
		"the static split knows no rollout":             {"controller: {enabled: false}\ncrds: {install: false}\ntraffic: {service: {name: coolant}}", nil},
		"somebody else gives rights":                    {"rbac: {create: false}", nil},
	} {
		files, err := render(values(t, tc.values))
		if err != nil {
			t.Fatal(err)
		}
		all := objects(t, files)
		var got map[string]map[string]string
		for name := range roles {
			role, ok := all["ClusterRole/demo-siskin-"+name]
			if !ok {
				continue
			}
			if got == nil {
				got = map[string]map[string]string{}
			}
			got[name] = map[string]string{}
			for _, r := range role["rules"].([]any) {
				rule := r.(object)
				grant(got[name], words(rule["apiGroups"]), words(rule["resources"]), words(rule["verbs"]))
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: roles for people (-want +got):\n%s", reason, diff)
		}
	}
}

// TestRightsNotNeeded: what the controller is told not to write, it may not write.
func TestRightsNotNeeded(t *testing.T) {
	for setting, kind := range map[string]string{
		"prometheusRules: false": "prometheusrules", "globalRateLimits: false": "configmaps", "scaling: false": "deployments/scale",
		"providers: [GatewayAPI]": "virtualservices", "providers: [Istio]": "httproutes",
	} {
		files, err := render(values(t, "controller: {"+setting+"}"))
		if err != nil {
			t.Fatal(err)
		}
		role := objects(t, files)["ClusterRole/demo-siskin-controller"]
		for _, r := range role["rules"].([]any) {
			if slices.Contains(words(r.(object)["resources"]), kind) {
				t.Errorf("%s: the controller may still work on %s", setting, kind)
			}
		}
	}
}

func grant(all map[string]string, groups, resources, verbs []string) {
	slices.Sort(verbs)
	for _, g := range groups {
		for _, r := range resources {
			all[strings.Trim(g, `"`)+"/"+r] = strings.Join(verbs, " ")
		}
	}
}

func words(list any) []string {
	var all []string
	for _, w := range list.([]any) {
		all = append(all, w.(string))
	}
	return all
}

// TestValues holds that every value is documented, by a comment above it, and used by a template.
func TestValues(t *testing.T) {
	var root yaml.Node
	if err := yaml.Unmarshal(read(t, "siskin/values.yaml"), &root); err != nil {
		t.Fatal(err)
	}
	var templates strings.Builder
	files, err := filepath.Glob("siskin/templates/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		templates.Write(read(t, f))
	}
	seen := 0
	walk(root.Content[0], "", func(path string, key, value *yaml.Node) {
		seen++
		if !strings.HasPrefix(key.HeadComment, "# ") {
			t.Errorf("%s: want a comment above it", path)
		}
		if strings.HasPrefix(lastName(path), "requests") || strings.HasPrefix(lastName(path), "limits") {
			return // rendered as a whole with "resources"
		}
		parent := value.Kind == yaml.MappingNode && len(value.Content) > 0 && value.Style != yaml.FlowStyle
		used := regexp.MustCompile(regexp.QuoteMeta(".Values."+path) + `\b`)
		if !parent && !used.MatchString(templates.String()) {
			// The static split reads its two variants through variables of that name.
			alias := strings.NewReplacer("traffic.stable.", "$stable.", "traffic.canary.", "$canary.").Replace(path)
			if alias == path || !strings.Contains(templates.String(), alias) {
				t.Errorf("%s: no template uses it", path)
			}
		}
	})
	if seen < 60 {
		t.Errorf("walked %d values, want all of them", seen)
	}
}

func lastName(path string) string { return path[strings.LastIndex(path, ".")+1:] }

// walk visits every key of block mappings; a mapping in flow style is one value.
func walk(node *yaml.Node, prefix string, visit func(path string, key, value *yaml.Node)) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		path := strings.TrimPrefix(prefix+"."+key.Value, ".")
		visit(path, key, value)
		if value.Kind == yaml.MappingNode && value.Style != yaml.FlowStyle {
			walk(value, path, visit)
		}
	}
}

package test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/siskin-dev/siskin/alerts"
)

// promtool runs Prometheus' own tool in a folder and fails with what it says.
func promtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), find(t, "promtool", "prometheus"), args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("promtool %q: %v\n%s", args, err, out)
	}
}

// ruleFile is what a rule file and a PrometheusRule have in common.
type ruleFile struct {
	Groups []struct {
		Name  string           `json:"name"`
		Rules []map[string]any `json:"rules"`
	} `json:"groups"`
}

// alertNames are the names of a file's alerts, in order.
func (f ruleFile) alertNames() []string {
	names := []string{}
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			if name, ok := r["alert"].(string); ok {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// unitTest is the part of promtool's test file that says which alerts fire.
type unitTest struct {
	Tests []struct {
		Cases []struct {
			Alert  string           `json:"alertname"`
			Expect []map[string]any `json:"exp_alerts"`
		} `json:"alert_rule_test"`
	} `json:"tests"`
}

// checkRules holds a rule file to promtool's checks and unit tests: every alert must be seen to fire, and to be silent.
func checkRules(t *testing.T, name string, text []byte, tests string) {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(name, text)
	promtool(t, dir, "check", "rules", "--lint-fatal", name)
	var file ruleFile
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			delete(r, "annotations")
		}
	}
	bare, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	put(name, bare)
	cases, err := os.ReadFile(filepath.Join("testdata", tests))
	if err != nil {
		t.Fatal(err)
	}
	put(tests, cases)
	promtool(t, dir, "test", "rules", tests)
	checkCovered(t, file, cases)
}

func checkCovered(t *testing.T, file ruleFile, cases []byte) {
	t.Helper()
	var u unitTest
	if err := yaml.Unmarshal(cases, &u); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, each := range u.Tests {
		for _, c := range each.Cases {
			if len(c.Expect) > 0 {
				fires[c.Alert] = true
			} else {
				silent[c.Alert] = true
			}
		}
	}
	for what, seen := range map[string]map[string]bool{"firing": fires, "silent": silent} {
		if diff := cmp.Diff(file.alertNames(), slices.Sorted(maps.Keys(seen))); diff != "" {
			t.Errorf("alerts in the rules (-) and those that the unit tests show %s (+):\n%s", what, diff)
		}
	}
}

// TestAlerts holds the rules that wake people to Prometheus' own checks.
func TestAlerts(t *testing.T) {
	checkRules(t, "siskin.yaml", alerts.Rules, "alerts.test.yaml")
}

// groupsOf returns a PrometheusRule's groups as a rule file, as the operator of Prometheus does.
func groupsOf(t *testing.T, rule *unstructured.Unstructured) []byte {
	t.Helper()
	groups, found, err := unstructured.NestedSlice(rule.Object, "spec", "groups")
	if err != nil || !found {
		t.Fatalf("PrometheusRule %q has no spec.groups: %v", rule.GetName(), err)
	}
	text, err := yaml.Marshal(map[string]any{"groups": groups})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

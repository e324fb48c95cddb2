package charts_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRestricted holds every pod but the energy meter's to Pod Security's level "restricted".
func TestRestricted(t *testing.T) {
	files, err := render(values(t, string(read(t, "testdata/full.values.yaml"))))
	if err != nil {
		t.Fatal(err)
	}
	pods := 0
	for key, o := range objects(t, files) {
		spec, _ := o["spec"].(object)
		template, ok := spec["template"].(object)
		if !ok || strings.HasPrefix(key, "DaemonSet/") {
			continue
		}
		pods++
		pod := template["spec"].(object)
		if sc := pod["securityContext"].(object); sc["runAsNonRoot"] != true || sc["seccompProfile"] == nil {
			t.Errorf("%s: got pod security %v", key, sc)
		}
		for _, c := range pod["containers"].([]any) {
			sc := c.(object)["securityContext"].(object)
			if sc["allowPrivilegeEscalation"] != false || sc["readOnlyRootFilesystem"] != true || sc["capabilities"] == nil {
				t.Errorf("%s: got container security %v", key, sc)
			}
		}
	}
	if pods < 4 {
		t.Errorf("looked at %d pods, want 4", pods)
	}
}

// TestImage holds that the image that the Makefile and the Dockerfile make has every program that a pod runs.
func TestImage(t *testing.T) {
	files, err := render(values(t, string(read(t, "testdata/full.values.yaml"))))
	if err != nil {
		t.Fatal(err)
	}
	var runs []string
	for _, o := range objects(t, files) {
		spec, _ := o["spec"].(object)
		template, ok := spec["template"].(object)
		if !ok {
			continue
		}
		for _, c := range template["spec"].(object)["containers"].([]any) {
			runs = append(runs, strings.TrimPrefix(words(c.(object)["command"])[0], "/"))
		}
	}
	slices.Sort(runs)
	_, holds, _ := strings.Cut(string(read(t, "../Makefile")), "\nIMAGE := ")
	holds, _, _ = strings.Cut(holds, "\n")
	built := strings.Fields(holds)
	slices.Sort(built)
	if diff := cmp.Diff(slices.Compact(runs), built); diff != "" {
		t.Errorf("programs that pods run (-) and that the Makefile builds for the image (+):\n%s", diff)
	}
	if !strings.Contains(string(read(t, "../Dockerfile")), "\nCOPY bin/image/ /\n") {
		t.Error("the Dockerfile does not copy bin/image to the root, where pods look for their programs")
	}
}

// TestFlags holds that every flag that the chart sets is one that the binary's source binds.
func TestFlags(t *testing.T) {
	files, err := render(values(t, string(read(t, "testdata/full.values.yaml"))))
	if err != nil {
		t.Fatal(err)
	}
	shared := ""
	logging, err := filepath.Glob("../cmd/internal/run/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range logging {
		shared += string(read(t, f))
	}
	checked := 0
	for key, o := range objects(t, files) {
		spec, _ := o["spec"].(object)
		template, ok := spec["template"].(object)
		if !ok {
			continue
		}
		container := template["spec"].(object)["containers"].([]any)[0].(object)
		binary := strings.TrimPrefix(words(container["command"])[0], "/")
		source := shared
		own, err := filepath.Glob("../cmd/" + binary + "/*.go")
		if err != nil || len(own) == 0 {
			t.Errorf("%s: no command %q", key, binary)
		}
		for _, f := range own {
			source += string(read(t, f))
		}
		for _, arg := range words(container["args"]) {
			name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			if !strings.Contains(source, `"`+name+`"`) {
				t.Errorf("%s: %s has no flag --%s", key, binary, name)
			}
			checked++
		}
	}
	if checked < 20 {
		t.Errorf("checked %d flags, want all of them", checked)
	}
}

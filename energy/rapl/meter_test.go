package rapl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/energy"
)

// mount writes a fixture below a new sysfs and returns that. Fixtures are text, since file names with colons cannot be
// part of a Go module: "-- path --" begins a file, and a path that ends in a slash is an empty directory.
func mount(t *testing.T, fixture string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", fixture+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	sysfs := t.TempDir()
	_, rest, _ := strings.Cut("\n"+string(text), "\n-- ")
	for file := range strings.SplitSeq(rest, "\n-- ") {
		name, content, found := strings.Cut(file, " --\n")
		if !found {
			name = strings.TrimSuffix(strings.TrimSpace(file), " --")
		}
		writeZoneFile(t, sysfs, name, content)
	}
	return sysfs
}

func writeZoneFile(t *testing.T, sysfs, name, content string) {
	t.Helper()
	path := filepath.Join(sysfs, "class", "powercap", name)
	dir := filepath.Dir(path)
	if strings.HasSuffix(name, "/") {
		dir = path
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if dir == path {
		return
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// zonesCase is what must be read from a fixture.
type zonesCase struct {
	reason   string
	want     []energy.Zone
	problems []string
}

func zonesCases() map[string]zonesCase {
	const wide, dram = 262143328850, 65712999613
	return map[string]zonesCase{
		"two-sockets": {
			reason: "packages and memory count; the core is inside; MMIO and other control types are dropped",
			want: []energy.Zone{
				{Name: "package-0", Microjoules: 240422366267, Range: wide, Counted: true},
				{Name: "core-0", Microjoules: 118821284256, Range: wide},
				{Name: "dram-0", Microjoules: 65712999600, Range: dram, Counted: true},
				{Name: "package-10", Microjoules: 7, Range: wide, Counted: true},
			},
		},
		"psys": {
			reason: "psys contains all the others",
			want: []energy.Zone{
				{Name: "package-0", Microjoules: 500, Range: wide},
				{Name: "core-0", Microjoules: 300, Range: wide},
				{Name: "uncore-0", Microjoules: 100, Range: wide},
				{Name: "psys", Microjoules: 900, Range: wide, Counted: true},
			},
		},
		"bad": {
			reason: "a core counts when its package cannot be read; a missing maximum only means no wraps",
			want: []energy.Zone{
				{Name: "core-0", Microjoules: 42, Range: wide, Counted: true},
				{Name: "package-1-die-1", Microjoules: 43, Counted: true},
			},
			problems: []string{
				"intel-rapl:0/energy_uj: is a directory",
				`zone "intel-rapl:2": parsing ""`,
				`zone "intel-rapl:3": parsing "12 apples"`,
				`zone "intel-rapl:4": parsing "-7"`,
				`zone "intel-rapl:5": parsing "-1"`,
				`naming zone "toaster"`,
				"intel-rapl:7/name: no such file",
				"intel-rapl:8/energy_uj: no such file",
				`naming zone "core" inside "": must be inside a package`,
				`zone "intel-rapl:b:0": finding the zone around it`,
				`zone "intel-rapl:c": parsing "18446744073709551616"`,
			},
		},
	}
}

func TestMeterZones(t *testing.T) {
	for name, tc := range zonesCases() {
		t.Run(name, func(t *testing.T) {
			m, err := New(Options{Sysfs: mount(t, name)})
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.Energy()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: -want +got:\n%s", tc.reason, diff)
			}
			checkProblems(t, m.Problems(), tc.problems)
		})
	}
}

func checkProblems(t *testing.T, err error, want []string) {
	t.Helper()
	if err == nil && len(want) > 0 {
		t.Fatalf("Problems() = nil, want %q", want)
	}
	if err == nil {
		return
	}
	got := err.Error()
	if lines := strings.Count(got, "\n") + 1; lines != len(want) {
		t.Errorf("Problems(): got %d, want %d:\n%s", lines, len(want), got)
	}
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("Problems() must say %q: got\n%s", w, got)
		}
	}
}

// A zone that vanishes is reported, and the core inside it does not take its place.
func TestMeterVanishingZone(t *testing.T) {
	sysfs := mount(t, "two-sockets")
	m, err := New(Options{Sysfs: sysfs, Source: energy.SourceFixture})
	if err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(sysfs, "class", "powercap", "intel-rapl:0")
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	zones, err := m.Energy()
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"package-0"`) {
		t.Errorf("Energy() must name the zone that is gone: got %v", err)
	}
	var counted []string
	for _, z := range zones {
		if z.Counted {
			counted = append(counted, z.Name)
		}
	}
	if diff := cmp.Diff([]string{"dram-0", "package-10"}, counted); diff != "" || len(zones) != 3 {
		t.Errorf("the others are still read: -want +got:\n%s", diff)
	}
	if got := m.Info(); got != (energy.Info{Source: energy.SourceFixture, Quality: energy.QualityMeasured}) {
		t.Errorf("Info() = %+v", got)
	}
}

func TestNewWithoutZones(t *testing.T) {
	empty := t.TempDir()
	if _, err := New(Options{Sysfs: empty}); !errors.Is(err, ErrNoZones) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("New without powercap: got %v", err)
	}
	writeZoneFile(t, empty, "intel-rapl/enabled", "1\n")
	if _, err := New(Options{Sysfs: empty}); !errors.Is(err, ErrNoZones) {
		t.Errorf("New with a control type and no zones: got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("package-10", "package-0", "240422366267")
	f.Add("core", "package-0-die-1", "-1")
	f.Add("dram", "psys", "")
	f.Fuzz(func(t *testing.T, name, parent, number string) {
		if z, err := parseName(name, parent); err == nil {
			if z.kind == "" || (z.kind != kindPsys && z.socket == "") || strings.ContainsAny(z.name(), "\n:/ ") {
				t.Errorf("parseName(%q, %q) = %+v", name, parent, z)
			}
		}
		if n, err := parseNumber("file", number); err == nil && strings.Trim(number, "0123456789") != "" {
			t.Errorf("parseNumber(%q) = %d", number, n)
		}
	})
}

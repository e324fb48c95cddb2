package rapl

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/siskin-dev/siskin/energy"
)

// Options configure a Meter.
type Options struct {
	// Sysfs is where sysfs is mounted. Default "/sys"; in a container, the host's.
	Sysfs string
	// Source labels the readings. Default energy.SourceRAPL; a tree made for a test says energy.SourceFixture.
	Source string
}

// Meter reads the zones found when it was created. Safe for concurrent use.
type Meter struct {
	source   string
	zones    []zone
	problems error
}

// ErrNoZones is returned by New on a machine without energy counters, such as most virtual machines.
var ErrNoZones = errors.New("no readable RAPL zones")

// New finds the zones. It fails if none can be read; what is wrong with the others is in Problems. Reading needs root
// or CAP_DAC_READ_SEARCH since Linux 5.10.
func New(opts Options) (*Meter, error) {
	root := filepath.Join(cmp.Or(opts.Sysfs, "/sys"), "class", "powercap")
	zones, problems := discover(root)
	if len(zones) == 0 {
		return nil, fmt.Errorf("finding zones in %q: %w", root, errors.Join(ErrNoZones, problems))
	}
	return &Meter{source: cmp.Or(opts.Source, energy.SourceRAPL), zones: zones, problems: problems}, nil
}

// Problems are the zones that New left out because they could not be read or named, or nil.
func (m *Meter) Problems() error { return m.problems }

// Info says that the numbers are measured.
func (m *Meter) Info() energy.Info {
	return energy.Info{Source: m.source, Quality: energy.QualityMeasured}
}

// Energy reads every zone. The error names those that could not be read; the others are returned with it.
func (m *Meter) Energy() ([]energy.Zone, error) {
	zones := make([]energy.Zone, 0, len(m.zones))
	var errs []error
	for _, z := range m.zones {
		microjoules, err := readNumber(filepath.Join(z.path, energyFile))
		if err != nil {
			errs = append(errs, fmt.Errorf("reading zone %q: %w", z.name(), err))
			continue
		}
		zones = append(zones, energy.Zone{
			Name: z.name(), Microjoules: microjoules, Range: z.max, Counted: z.counted,
		})
	}
	return zones, errors.Join(errs...)
}

// Files of a zone's directory.
const (
	nameFile   = "name"
	energyFile = "energy_uj"
	maxFile    = "max_energy_range_uj"
)

// maxFileSize bounds what is read of one file: 20 digits and a newline are the most that the kernel writes.
const maxFileSize = 64

func readNumber(path string) (uint64, error) {
	text, err := readText(path)
	if err != nil {
		return 0, err
	}
	return parseNumber(path, text)
}

// parseNumber takes decimal digits and nothing else: no sign, no fraction.
func parseNumber(path, text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parsing %q of %q: must be microjoules, 0 to 2^64-1", text, path)
	}
	return n, nil
}

func readText(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileSize))
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

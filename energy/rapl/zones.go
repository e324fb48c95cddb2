package rapl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// zone is one counter of the tree.
type zone struct {
	path string
	// kind is package, core, uncore, dram or psys; socket tells several apart ("0", "10", "0-die-1").
	kind, socket string
	// max is where the counter starts again at 0, in microjoules; 0 if the tree does not say.
	max uint64
	// counted zones sum to the node's energy.
	counted bool
}

// The kinds of zones.
const (
	kindPackage = "package"
	kindCore    = "core"
	kindUncore  = "uncore"
	kindDRAM    = "dram"
	kindPsys    = "psys"
)

func (z zone) name() string {
	if z.socket == "" {
		return z.kind
	}
	return z.kind + "-" + z.socket
}

// zoneDir matches zones of the two RAPL control types: "intel-rapl:0", "intel-rapl:0:1", "intel-rapl-mmio:a". AMD's
// zones have Intel's name. The control types themselves have no number and no counter.
var zoneDir = regexp.MustCompile(`^intel-rapl(-mmio)?(:[0-9a-f]+){1,2}$`)

// discover finds the zones that can be read, and says what is wrong with the others.
func discover(root string) ([]zone, error) {
	dirs, err := zoneDirs(root)
	if err != nil {
		return nil, err
	}
	var zones []zone
	var problems []error
	for _, dir := range dirs {
		z, err := readZone(root, dir)
		if err != nil {
			problems = append(problems, fmt.Errorf("reading zone %q: %w", dir, err))
			continue
		}
		// The same counter by another way in (MMIO), or by a name that tells no more: the first one stands for it.
		if !slices.ContainsFunc(zones, func(o zone) bool { return o.name() == z.name() }) {
			zones = append(zones, z)
		}
	}
	choose(zones)
	return zones, errors.Join(problems...)
}

// zoneDirs lists the zones' directories, those read by MMIO last.
func zoneDirs(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if zoneDir.MatchString(e.Name()) {
			dirs = append(dirs, e.Name())
		}
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return isMMIO(a) - isMMIO(b) })
	return dirs, nil
}

func isMMIO(dir string) int { return strings.Count(dir, "-mmio") }

func readZone(root, dir string) (zone, error) {
	path := filepath.Join(root, dir)
	name, err := readText(filepath.Join(path, nameFile))
	if err != nil {
		return zone{}, err
	}
	parent := ""
	if own := strings.LastIndexByte(dir, ':'); strings.IndexByte(dir, ':') < own {
		if parent, err = readText(filepath.Join(root, dir[:own], nameFile)); err != nil {
			return zone{}, fmt.Errorf("finding the zone around it: %w", err)
		}
	}
	z, err := parseName(name, parent)
	if err != nil {
		return zone{}, err
	}
	z.path = path
	if _, err := readNumber(filepath.Join(path, energyFile)); err != nil {
		return zone{}, err
	}
	// Without a maximum, a step back is never a wrap. A maximum that is no number is a broken zone.
	z.max, err = readNumber(filepath.Join(path, maxFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return zone{}, err
	}
	return z, nil
}

// packageName matches "package-0", "package-10", "package-0-die-1".
var packageName = regexp.MustCompile(`^package-([0-9]+(-die-[0-9]+)?)$`)

// parseName reads a zone's name; what is inside a package has its number from there.
func parseName(name, parent string) (zone, error) {
	if m := packageName.FindStringSubmatch(name); m != nil {
		return zone{kind: kindPackage, socket: m[1]}, nil
	}
	switch name {
	case kindPsys:
		return zone{kind: kindPsys}, nil
	case kindCore, kindUncore, kindDRAM:
		if m := packageName.FindStringSubmatch(parent); m != nil {
			return zone{kind: name, socket: m[1]}, nil
		}
		return zone{}, fmt.Errorf("naming zone %q inside %q: must be inside a package", name, parent)
	}
	return zone{}, fmt.Errorf("naming zone %q: must be package-N, core, uncore, dram or psys", name)
}

// choose marks the zones that sum to the node's energy. Psys contains everything; a package contains core and uncore, but
// not its memory.
func choose(zones []zone) {
	have := map[string]bool{}
	for _, z := range zones {
		have[z.name()] = true
	}
	for i, z := range zones {
		switch z.kind {
		case kindPsys:
			zones[i].counted = true
		case kindPackage, kindDRAM:
			zones[i].counted = !have[kindPsys]
		default:
			zones[i].counted = !have[kindPsys] && !have[kindPackage+"-"+z.socket]
		}
	}
}

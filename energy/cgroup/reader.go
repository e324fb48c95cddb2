package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/siskin-dev/siskin/energy"
)

// Pods reads the CPU time of every pod on the node. It is an energy.Usage. Safe for concurrent use.
type Pods struct {
	root string
	tree tree
}

// tree is how one version of cgroups tells CPU time and requests.
type tree struct {
	// dir is the hierarchy below the mount point, "" in version 2; a file named probe is in its root.
	dir, probe    string
	usageFile     string
	parseUsage    func([]byte) (uint64, error)
	requestsFile  string
	parseRequests func([]byte) (uint64, error)
}

// trees are tried in order; a hybrid mount has its CPU controller in version 1. Version 2 does not tell requests: the
// kubelet's way from requests to cpu.weight has changed, and a weight does not say which was taken.
func trees() []tree {
	v1 := func(dir string) tree {
		return tree{dir, "cpuacct.usage", "cpuacct.usage", parseUsage, "cpu.shares", parseShares}
	}
	return []tree{
		{"", "cgroup.controllers", "cpu.stat", parseCPUStat, "", nil},
		v1("cpu,cpuacct"),
		v1("cpuacct"),
	}
}

// NewPods finds out which version of cgroups is mounted at root, "/sys/fs/cgroup" if empty.
func NewPods(root string) (*Pods, error) {
	root = cmp.Or(root, "/sys/fs/cgroup")
	for _, t := range trees() {
		if _, err := os.Stat(filepath.Join(root, t.dir, t.probe)); err == nil {
			return &Pods{root: filepath.Join(root, t.dir), tree: t}, nil
		}
	}
	return nil, fmt.Errorf("finding cgroups in %q: must be a mount of version 2, or of version 1 with cpuacct", root)
}

// Usage reads every pod. The error names those that could not be read; the others are returned with it. A pod that ends
// meanwhile is no error. A pod inside a pod is part of the outer one, so that no time counts twice.
func (p *Pods) Usage() ([]energy.Party, error) {
	var parties []energy.Party
	var errs []error
	fail := func(err error) {
		if !ended(err) {
			errs = append(errs, err)
		}
	}
	_ = filepath.WalkDir(p.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			fail(fmt.Errorf("walking cgroups: %w", err))
			return nil
		}
		if !d.IsDir() {
			return nil
		}
		uid := podUID(d.Name())
		if uid == "" {
			return nil
		}
		party, err := p.read(path, uid)
		if err != nil {
			fail(fmt.Errorf("reading pod %q: %w", uid, err))
			return fs.SkipDir
		}
		parties = append(parties, party)
		return fs.SkipDir
	})
	return parties, errors.Join(errs...)
}

func (p *Pods) read(dir, uid string) (energy.Party, error) {
	party := energy.Party{ID: energy.ID{Instance: uid}}
	var err error
	if party.CPU, err = readWith(filepath.Join(dir, p.tree.usageFile), p.tree.parseUsage); err != nil {
		return party, err
	}
	if p.tree.requestsFile == "" {
		return party, nil
	}
	party.Requests, err = readWith(filepath.Join(dir, p.tree.requestsFile), p.tree.parseRequests)
	if errors.Is(err, fs.ErrNotExist) {
		// The cpu and cpuacct controllers are mounted apart: requests are not told here.
		return party, nil
	}
	return party, err
}

func readWith(path string, parse func([]byte) (uint64, error)) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := parse(text)
	if err != nil {
		return 0, fmt.Errorf("reading %q: %w", path, err)
	}
	return n, nil
}

// ended tells a cgroup that was removed while it was read: its files are gone, or open without a device behind them.
func ended(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV)
}

// Node reads the busy time of the node. It is an energy.Busy. Safe for concurrent use.
type Node struct {
	path string
}

// NewNode reads procfs where it is mounted, "/proc" if empty.
func NewNode(procfs string) Node {
	return Node{path: filepath.Join(cmp.Or(procfs, "/proc"), "stat")}
}

// Busy reads the time that the CPUs were neither idle nor stolen.
func (n Node) Busy() (energy.BusyTime, error) {
	text, err := os.ReadFile(n.path)
	if err != nil {
		return energy.BusyTime{}, fmt.Errorf("reading busy time: %w", err)
	}
	busy, err := parseStat(text)
	if err != nil {
		return energy.BusyTime{}, fmt.Errorf("reading busy time from %q: %w", n.path, err)
	}
	return busy, nil
}

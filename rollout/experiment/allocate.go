package experiment

import (
	"fmt"
	"slices"

	"github.com/siskin-dev/siskin/rollout"
)

// Owned are the buckets of one variant of another running experiment.
type Owned struct {
	// Version is what they meet at this experiment's service; empty for the stable version, as with an experiment of another
	// rollout in the same layer.
	Version string
	Buckets []int
}

// Layer is what an experiment needs to know of the layer that it runs in: experiments of a layer never share a bucket. Buckets
// that nobody owns meet the rollout's stable version.
type Layer struct {
	// HoldOut are the buckets that no experiment may take.
	HoldOut []int
	// Owned are those of the other running experiments.
	Owned []Owned
}

// HoldOut returns the n buckets that the experiments of a layer leave alone, ascending. They follow from the layer's name alone,
// so the held-out units are the same from one experiment to the next; a greater n contains every bucket of a smaller one.
func HoldOut(layer string, n int) []int { return rollout.Allocate("hold-out/"+layer, n) }

// Allocate returns as many buckets for each share as it says, ascending; no bucket twice, and none that the layer holds out or
// another experiment owns. Which ones follows from seed alone, a permutation: the same for every process, and every variant, the
// control among them, has its buckets drawn in the same way.
func Allocate(seed string, shares []int, l Layer) ([][]int, error) {
	taken := l.taken()
	free := make([]int, 0, rollout.Buckets)
	for _, b := range rollout.Order(seed) {
		if !taken[b] {
			free = append(free, b)
		}
	}
	wanted := 0
	for _, s := range shares {
		if s < 0 {
			return nil, fmt.Errorf("allocating buckets: share %d, expected at least 0", s)
		}
		wanted += s
	}
	if wanted > len(free) {
		return nil, &NotEnoughError{Wanted: wanted, Free: len(free), HeldOut: len(l.HoldOut)}
	}
	out := make([][]int, len(shares))
	for i, s := range shares {
		out[i] = slices.Sorted(slices.Values(free[:s]))
		free = free[s:]
	}
	return out, nil
}

// NotEnoughError says that a layer has fewer free buckets than an experiment wants. It can begin when another one ends.
type NotEnoughError struct {
	// Wanted is the sum of the shares, Free how many buckets nobody owns, HeldOut how many are held out beside those.
	Wanted, Free, HeldOut int
}

// Error names both numbers.
func (e *NotEnoughError) Error() string {
	return fmt.Sprintf("allocating buckets: %d wanted, %d free of %d (%d held out, the rest with other experiments of the layer)",
		e.Wanted, e.Free, rollout.Buckets, e.HeldOut)
}

func (l Layer) taken() map[int]bool {
	taken := map[int]bool{}
	for _, b := range l.HoldOut {
		taken[b] = true
	}
	for _, o := range l.Owned {
		for _, b := range o.Buckets {
			taken[b] = true
		}
	}
	return taken
}

// meets returns how many buckets meet each variant's version, wherever they belong. It is what units are shared out by where a
// counter tells the version only.
func (l Layer) meets(p Plan) []int {
	byVersion, rest := map[string]int{}, rollout.Buckets
	add := func(version string, n int) {
		byVersion[version] += n
		rest -= n
	}
	for _, v := range p.Variants {
		add(v.Version, v.Share)
	}
	for _, o := range l.Owned {
		if o.Version != "" {
			add(o.Version, len(o.Buckets))
		}
	}
	byVersion[p.Variants[p.control()].Version] += max(0, rest)
	out := make([]int, len(p.Variants))
	for i, v := range p.Variants {
		out[i] = byVersion[v.Version]
	}
	return out
}

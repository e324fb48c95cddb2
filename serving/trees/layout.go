package trees

import (
	"fmt"
	"math"
)

// layOut checks every tree and writes its reachable nodes to one array, children side by side, breadth first.
func (b *Booster) layOut(trees []rawTree) error {
	for i := range trees {
		root, depth, err := b.addTree(&trees[i])
		if err != nil {
			return fmt.Errorf("reading tree %d: %w", i, err)
		}
		b.addRoot(root, depth)
	}
	return nil
}

// addRoot appends a tree to the last group, or to a new one when that is full.
func (b *Booster) addRoot(root uint32, depth int) {
	if n := len(b.groups); n == 0 || b.groups[n-1].used == groupTrees {
		b.groups = append(b.groups, group{roots: [groupTrees]uint32{root, root, root, root}})
	}
	g := &b.groups[len(b.groups)-1]
	g.roots[g.used] = root
	g.used++
	g.depth = max(g.depth, depth)
}

func (t *rawTree) check() error {
	for _, a := range []struct {
		name string
		len  int
	}{
		{"left_children", len(t.left)},
		{"right_children", len(t.right)},
		{"split_indices", len(t.indices)},
		{"split_conditions", len(t.conditions)},
		{"default_left", len(t.defaultLeft)},
	} {
		if a.len != t.numNodes {
			return fmt.Errorf("%w: %d values of %s for num_nodes %d", ErrMalformed, a.len, a.name, t.numNodes)
		}
	}
	switch {
	case t.numNodes < 1:
		return fmt.Errorf("%w: num_nodes is %d, want at least 1", ErrMalformed, t.numNodes)
	case t.leafVector > 1:
		return fmt.Errorf("%w: size_leaf_vector is %d, want scalar leaves", ErrUnsupported, t.leafVector)
	case len(t.splitType) != 0 && len(t.splitType) != t.numNodes:
		return fmt.Errorf("%w: %d values of split_type for num_nodes %d", ErrMalformed, len(t.splitType), t.numNodes)
	}
	return nil
}

// pending is a node of the file with the place in the layout that waits for it.
type pending struct {
	id    int32
	depth int
	at    uint32
}

// addTree lays out what is reachable from the root; XGBoost leaves pruned nodes in the file. A node that is reached
// twice makes the file a graph, perhaps an endless one, and is refused.
func (b *Booster) addTree(t *rawTree) (root uint32, depth int, err error) {
	if err := t.check(); err != nil {
		return 0, 0, err
	}
	if uint64(len(b.nodes))+uint64(t.numNodes) > math.MaxUint32 {
		return 0, 0, fmt.Errorf("%w: more than %d nodes", ErrUnsupported, uint32(math.MaxUint32))
	}
	root = b.grow(1)
	seen := make([]bool, t.numNodes)
	seen[0] = true
	queue := []pending{{id: 0, at: root}}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		depth = max(depth, p.depth)
		if t.left[p.id] == -1 {
			err = b.setLeaf(t, p)
		} else {
			queue, err = b.setSplit(t, p, queue, seen)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("node %d: %w", p.id, err)
		}
	}
	return root, depth, nil
}

// grow appends n empty nodes and returns the first one's index.
func (b *Booster) grow(n int) uint32 {
	at := uint32(len(b.nodes))
	for range n {
		b.nodes = append(b.nodes, node{})
		b.leaves = append(b.leaves, 0)
	}
	return at
}

func (b *Booster) setLeaf(t *rawTree, p pending) error {
	if t.right[p.id] != -1 {
		return fmt.Errorf("%w: a right child %d without a left one", ErrMalformed, t.right[p.id])
	}
	value := t.conditions[p.id]
	if !finite(value) {
		return fmt.Errorf("%w: leaf value is %v", ErrMalformed, value)
	}
	b.nodes[p.at] = node{threshold: -inf, left: p.at - 1}
	b.leaves[p.at] = value
	return nil
}

func (b *Booster) setSplit(t *rawTree, p pending, queue []pending, seen []bool) ([]pending, error) {
	if len(t.splitType) > 0 && t.splitType[p.id] != 0 {
		return nil, fmt.Errorf("%w: categorical split", ErrUnsupported)
	}
	feature, threshold := t.indices[p.id], t.conditions[p.id]
	if feature < 0 || int(feature) >= b.features {
		return nil, fmt.Errorf("%w: split_indices %d, want 0 to %d", ErrMalformed, feature, b.features-1)
	}
	if threshold != threshold || threshold == -inf {
		return nil, fmt.Errorf("%w: split condition is %v", ErrMalformed, threshold)
	}
	at := b.grow(2)
	n := node{threshold: threshold, left: at, feature: uint32(feature)}
	if t.defaultLeft[p.id] != 0 {
		n.feature += uint32(b.features)
	}
	b.nodes[p.at] = n
	for side, child := range []int32{t.left[p.id], t.right[p.id]} {
		if child < 0 || int(child) >= t.numNodes {
			return nil, fmt.Errorf("%w: child %d, want 1 to %d", ErrMalformed, child, t.numNodes-1)
		}
		if seen[child] {
			return nil, fmt.Errorf("%w: child %d is reached twice", ErrMalformed, child)
		}
		seen[child] = true
		queue = append(queue, pending{id: child, depth: p.depth + 1, at: at + uint32(side)})
	}
	return queue, nil
}

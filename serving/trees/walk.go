package trees

type float interface{ ~float32 | ~float64 }

// blockRows bounds the rows that are walked together. The trees of one group stay in the first-level cache for a whole
// block; 32 rows of 12 features take 3 KiB beside them.
const blockRows = 32

// groupTrees is how many trees are walked side by side, so that the loads of one tree hide behind those of the others.
const groupTrees = 4

// node is one split or one leaf. A walk goes from node i to left or to left+1.
//
// A leaf points at itself: its threshold is -Inf, below which nothing lies, and its left is its own index minus one, so
// every further step stays. That lets all trees of a group take the same number of steps without asking where they are.
type node struct {
	threshold float32
	left      uint32
	// feature indexes the resolved row, which is twice as wide as a row: the second half is read by nodes where a
	// missing value goes left.
	feature uint32
}

// group is up to groupTrees trees that are walked together. Unused places repeat the first root.
type group struct {
	roots [groupTrees]uint32
	used  int
	depth int // steps after which every tree of the group has reached a leaf
}

// resolve copies one row to both halves of dst, whose length is twice the row's. Where a value is missing the first half
// gets +Inf, which is below no threshold and so goes right, and the second -Inf, which is below every one and goes left.
// With that the walk needs no test for NaN.
func resolve[T float](row []T, dst []float32) {
	right, left := dst[:len(row)], dst[len(row):][:len(row)]
	for i, v := range row {
		x := float32(v)
		right[i], left[i] = x, x
		if x != x {
			right[i], left[i] = inf, -inf
		}
	}
}

// walkBlock adds the base margin and then every tree in file order, in float32, to each row.
func walkBlock[T float](b *Booster, rows, out []T, scratch []float32) {
	width := 2 * b.features
	var sums [blockRows]float32
	for r := range out {
		resolve(rows[r*b.features:][:b.features], scratch[r*width:][:width])
		sums[r] = b.baseMargin
	}
	for g := range b.groups {
		grp := &b.groups[g]
		for r := range out {
			sums[r] = b.addGroup(grp, scratch[r*width:][:width], sums[r])
		}
	}
	for r := range out {
		out[r] = T(sums[r])
	}
}

// addGroup adds the leaves that x reaches in the trees of g to sum, in the trees' order.
func (b *Booster) addGroup(g *group, x []float32, sum float32) float32 {
	nodes := b.nodes
	i0, i1, i2, i3 := g.roots[0], g.roots[1], g.roots[2], g.roots[3]
	for range g.depth {
		n0, n1, n2, n3 := &nodes[i0], &nodes[i1], &nodes[i2], &nodes[i3]
		i0 = n0.left + step(x[n0.feature], n0.threshold)
		i1 = n1.left + step(x[n1.feature], n1.threshold)
		i2 = n2.left + step(x[n2.feature], n2.threshold)
		i3 = n3.left + step(x[n3.feature], n3.threshold)
	}
	reached := [groupTrees]uint32{i0, i1, i2, i3}
	for _, i := range reached[:g.used] {
		sum += b.leaves[i]
	}
	return sum
}

// step is 0 when x goes left and 1 when it goes right. Neither argument is NaN here; written so that the compiler needs
// no branch.
func step(x, threshold float32) uint32 {
	var right uint32
	if x >= threshold {
		right = 1
	}
	return right
}

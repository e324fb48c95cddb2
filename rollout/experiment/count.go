package experiment

import (
	"slices"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// Count returns the run with the answers to its Questions added to the evidence, in the order of the questions. Each block counts
// once: one that ends at or before LastBlock is passed over, and so is one that began before the variants had been in force for
// the warm-up. What ended before the experiment began is the buckets' own past. It shares no memory with r.
func (r Run) Count(p Plan, answers [][]rollout.Block) Run {
	last := r.LastBlock
	r.Evidence = r.Evidence.fit(p)
	for n, i := range p.arms() {
		if n >= len(answers) {
			break
		}
		a := &r.Evidence.Arms[n]
		run := r.arm(p, i)
		run.LastBlock, run.Evidence = last, a.Evidence
		mine := make([]rollout.Block, 0, len(answers[n]))
		for _, b := range answers[n] {
			if b.End.After(last) && b.End.After(r.LastBlock) {
				r.LastBlock = b.End
			}
			if b.End.After(last) && (r.judged(p, b) || r.past(b)) {
				mine = append(mine, r.split(p, i, b, a))
			}
		}
		a.Evidence = run.Count(p.plan(i), mine).Evidence
	}
	r.assign(p, answers, last)
	return r
}

// judged says whether a block tells what the variants did, past whether it tells what the buckets were before.
func (r Run) judged(p Plan, b rollout.Block) bool {
	return !b.Start.Before(r.InForceSince.Add(p.WarmUp))
}

func (r Run) past(b rollout.Block) bool { return !b.End.After(r.Started) }

// split returns a block as arm i's run takes it: of gates that know the bucket, each bucket's counts with the variant that owns
// it, and of nobody else's. How many observations of the objective met what they should is added to a.
func (r Run) split(p Plan, i int, b rollout.Block, a *ArmEvidence) rollout.Block {
	out := rollout.Block{Start: b.Start, End: b.End, Counts: make(map[string]rollout.Counts, len(b.Counts))}
	own := r.owners(p, i)
	for k, g := range p.gates(i) {
		c, ok := b.Counts[g.Name]
		switch {
		case !ok:
			continue
		case bucketed(g) && r.judged(p, b):
			var right, wrong float64
			c, right, wrong = own.share(c)
			if k == 0 {
				a.observe(right, wrong)
			}
		case bucketed(g):
			c = own.before(c)
		}
		out.Counts[g.Name] = c
	}
	return out
}

// contamination is the share of observations under the wrong version that is tolerated in a block: a few pinned testers, and what
// was on its way when the routes changed.
const contamination = 0.01

// observe counts one block's observations under the right and the wrong version.
func (a *ArmEvidence) observe(right, wrong float64) {
	if !(right+wrong > 0) {
		return
	}
	a.Right, a.Wrong = a.Right+right, a.Wrong+wrong
	if wrong > contamination*(right+wrong) {
		a.Dirty++
	} else {
		a.Dirty = max(0, a.Dirty-1)
	}
}

// owners tell an arm's buckets from the control's.
type owners struct {
	arm, control []int
	// same says that both serve one version, whose counts all come as the control's.
	same bool
}

func (r Run) owners(p Plan, i int) owners {
	c := p.control()
	return owners{arm: r.buckets(i), control: r.buckets(c), same: p.Variants[i].Version == p.Variants[c].Version}
}

// share gives each bucket's counts to its owner. What a bucket has under the other's version is wrong: it is left out, and
// tells how many units met what they should not. Of other buckets nothing is known here: another variant may serve them either.
func (o owners) share(c rollout.Counts) (out rollout.Counts, right, wrong float64) {
	var arm, control []rollout.BucketSum
	take := func(sums []rollout.BucketSum, canary bool) {
		for _, s := range sums {
			mine, theirs := slices.Contains(o.arm, s.Bucket), slices.Contains(o.control, s.Bucket)
			switch {
			case !(s.Count > 0):
			case !o.same && ((canary && theirs) || (!canary && mine)):
				wrong += s.Count
			case mine:
				right += s.Count
				arm = append(arm, s)
			case theirs:
				right += s.Count
				control = append(control, s)
			}
		}
	}
	take(c.Stable.Buckets, false)
	take(c.Canary.Buckets, true)
	return rollout.Counts{Stable: whole(control), Canary: whole(arm), Bounds: c.Bounds}, right, wrong
}

// before returns what the buckets of both were before the experiment, under the stable version.
func (o owners) before(c rollout.Counts) rollout.Counts {
	own := slices.DeleteFunc(slices.Clone(c.Stable.Buckets), func(s rollout.BucketSum) bool {
		return !slices.Contains(o.arm, s.Bucket) && !slices.Contains(o.control, s.Bucket)
	})
	return rollout.Counts{Stable: whole(own)}
}

// whole returns an arm with the given buckets in order, and their totals.
func whole(sums []rollout.BucketSum) rollout.Arm {
	a := rollout.Arm{Buckets: sums}
	slices.SortStableFunc(a.Buckets, func(x, y rollout.BucketSum) int { return x.Bucket - y.Bucket })
	for _, s := range sums {
		a.Requests += s.Count
		a.Sum += s.Sum
	}
	a.Events = []float64{a.Sum}
	return a
}

// assign adds the units of the answers to the evidence on the shares, which Count has made r's own. Only blocks that every
// question was answered for count: a variant that nobody was asked about has not lost its units.
func (r *Run) assign(p Plan, answers [][]rollout.Block, last time.Time) {
	if p.Assigned.Name == "" || len(answers) != len(p.arms()) {
		return
	}
	for _, b := range answers[0] {
		if !b.End.After(last) || !r.judged(p, b) {
			continue
		}
		if units, ok := r.newUnits(p, answers, b.End); ok {
			for i, u := range units {
				r.Evidence.Units[i] += u
			}
			r.Evidence.Shares.Add(units, r.weights(p))
		}
	}
}

// newUnits returns how many units were newly assigned to each variant in the block that ended at end: to its buckets, or, where
// the counter does not tell the bucket, to its version. Of variants that share a version the first has them all then.
func (r Run) newUnits(p Plan, answers [][]rollout.Block, end time.Time) ([]float64, bool) {
	units := make([]float64, len(p.Variants))
	for n, i := range p.arms() {
		k := slices.IndexFunc(answers[n], func(b rollout.Block) bool { return b.End.Equal(end) })
		if k < 0 {
			return nil, false
		}
		c, ok := answers[n][k].Counts[p.Assigned.Name]
		if !ok {
			return nil, false
		}
		if bucketed(p.Assigned) {
			c, _, _ = r.owners(p, i).share(c)
		}
		units[i], units[p.control()] = c.Canary.Requests, c.Stable.Requests
	}
	if bucketed(p.Assigned) {
		return units, true
	}
	return p.byVersion(units), true
}

// weights returns what the units of newUnits should be in proportion to.
func (r Run) weights(p Plan) []float64 {
	out := make([]float64, len(p.Variants))
	if bucketed(p.Assigned) {
		for i, v := range p.Variants {
			out[i] = float64(v.Share)
		}
		return out
	}
	for i, n := range r.Meets {
		if i < len(out) {
			out[i] = float64(n)
		}
	}
	return p.byVersion(out)
}

// byVersion leaves the number of a version with one of the variants that share it: the control, or the first.
func (p Plan) byVersion(numbers []float64) []float64 {
	out := make([]float64, len(numbers))
	seen := map[string]bool{}
	for _, i := range append([]int{p.control()}, p.arms()...) {
		if version := p.Variants[i].Version; !seen[version] {
			seen[version] = true
			out[i] = numbers[i]
		}
	}
	return out
}

package experiment

import (
	"slices"

	"github.com/siskin-dev/siskin/rollout"
)

// Count returns the run with the answers to its Questions added to the evidence, in the order of the questions. Each block counts
// once: one that ends at or before LastBlock is passed over. It shares no memory with r.
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
			if b.End.After(last) {
				mine = append(mine, r.split(p, i, b, a))
			}
		}
		run = run.Count(p.plan(i), mine)
		a.Evidence = run.Evidence
		if run.LastBlock.After(r.LastBlock) {
			r.LastBlock = run.LastBlock
		}
	}
	return r
}

// fit returns the evidence with one entry for each arm of the plan, sharing no memory that Count changes.
func (e Evidence) fit(p Plan) Evidence {
	arms := make([]ArmEvidence, 0, len(p.Variants))
	for _, i := range p.arms() {
		name := p.Variants[i].Name
		k := slices.IndexFunc(e.Arms, func(a ArmEvidence) bool { return a.Variant == name })
		if k >= 0 {
			arms = append(arms, e.Arms[k])
			continue
		}
		arms = append(arms, ArmEvidence{Variant: name})
	}
	e.Arms = arms
	return e
}

// split returns a block as arm i's run takes it: of gates that know the bucket, each bucket's counts with the variant that owns
// it, and of nobody else's.
func (r Run) split(p Plan, i int, b rollout.Block, a *ArmEvidence) rollout.Block {
	out := rollout.Block{Start: b.Start, End: b.End, Counts: make(map[string]rollout.Counts, len(b.Counts))}
	judged := !b.Start.Before(r.Started.Add(p.WarmUp))
	for k, g := range p.gates(i) {
		c, ok := b.Counts[g.Name]
		if !ok {
			continue
		}
		if bucketed(g) {
			own := owners{arm: r.Buckets[i], control: r.Buckets[p.control()], same: p.Variants[i].Version == p.Variants[p.control()].Version}
			mixed, right, wrong := own.share(c, judged)
			c = mixed
			if k == 0 && judged {
				a.Right, a.Wrong = a.Right+right, a.Wrong+wrong
			}
		}
		out.Counts[g.Name] = c
	}
	return out
}

// owners tell an arm's buckets from the control's.
type owners struct {
	arm, control []int
	// same says that both serve one version, whose counts all come as the control's.
	same bool
}

// share gives each bucket's counts to its owner. In a judged block a count under the other's version is wrong: it is left out, and
// tells how many units met what they should not. Before, all buckets met what served them then: it is the past of their owner.
func (o owners) share(c rollout.Counts, judged bool) (out rollout.Counts, right, wrong float64) {
	out.Bounds = c.Bounds
	var arm, control []rollout.BucketSum
	take := func(s rollout.BucketSum, canary bool) {
		mine, theirs := slices.Contains(o.arm, s.Bucket), slices.Contains(o.control, s.Bucket)
		switch {
		case judged && !o.same && ((canary && !mine) || (!canary && mine)):
			wrong += s.Count
		case mine:
			right += s.Count
			arm = append(arm, s)
		case theirs:
			right += s.Count
			control = append(control, s)
		}
	}
	for _, s := range c.Stable.Buckets {
		take(s, false)
	}
	for _, s := range c.Canary.Buckets {
		take(s, true)
	}
	out.Stable, out.Canary = whole(control), whole(arm)
	return out, right, wrong
}

// whole returns an arm with the given buckets, one entry each, and their totals, as of an error rate.
func whole(sums []rollout.BucketSum) rollout.Arm {
	a := rollout.Arm{}
	errors := 0.0
	slices.SortStableFunc(sums, func(x, y rollout.BucketSum) int { return x.Bucket - y.Bucket })
	for _, s := range sums {
		if n := len(a.Buckets); n > 0 && a.Buckets[n-1].Bucket == s.Bucket {
			a.Buckets[n-1].Sum += s.Sum
			a.Buckets[n-1].Count += s.Count
		} else {
			a.Buckets = append(a.Buckets, s)
		}
		a.Requests += s.Count
		errors += s.Sum
	}
	a.Sum, a.Events = errors, []float64{errors}
	return a
}

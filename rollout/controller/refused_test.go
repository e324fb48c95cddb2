package controller_test

import (
	"slices"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// TestRefusedWrites: while the API refuses what the mesh is to show, the status says so and is not written with every try; what is
// to last some time still begins when the objects stand.
func TestRefusedWrites(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  string
		refused string
		until   func(w *world)
		// blocks says that blocks are counted meanwhile, for which the status is written.
		blocks bool
	}{
		"Subset": {
			reason: "the new version's subset", refused: "apply DestinationRule",
			until: func(w *world) { w.deploy("v2", true); w.want("v2") }, blocks: true,
		},
		"Step": {
			reason: "the route of a step", refused: "apply VirtualService", blocks: true,
			until: func(w *world) {
				w.deploy("v2", true)
				w.want("v2")
				w.until("at step 1", atStep(1))
				w.ask(v1alpha1.ActionPromote)
			},
		},
		"Promotion": {
			reason: "the route of a promotion", refused: "apply VirtualService",
			until: func(w *world) {
				w.deploy("v2", true)
				w.want("v2")
				w.until("at step 1", atStep(1))
				w.ask(v1alpha1.ActionPromoteFull)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.deploy("v1", true)
			w.until("stable", stableOn("v1"))
			tc.until(w)
			w.tap.fail = failing(tc.refused)
			for range 5 {
				if w.try() != nil {
					break
				}
			}
			w.tap.writes()
			const tries = 60
			for range tries {
				w.clock = w.clock.Add(time.Second)
				if w.try() == nil {
					t.Fatalf("a turn that cannot write %s succeeded", tc.reason)
				}
			}
			allowed := 3 // one a minute, and one more
			if tc.blocks {
				allowed += tries / 10
			}
			wrote := slices.DeleteFunc(w.tap.writes(), func(c string) bool { return c != "status Rollout" })
			t.Logf("%d writes of the status in %d tries", len(wrote), tries)
			if len(wrote) > allowed {
				t.Errorf("%s is refused: the status was written %d times in %d tries, want at most %d", tc.reason, len(wrote), tries, allowed)
			}
			w.tap.fail = nil
			w.turn()
			stands := w.clock
			w.turn()
			if st := w.get().Status; began(st).Before(stands.Add(-time.Millisecond)) || began(st).After(stands) {
				t.Errorf("%s was written at %s, and what is to last some time began at %s", tc.reason, stands.Format(time.StampMilli), began(st).Format(time.StampMilli))
			}
		})
	}
}

// began is when what is to last some time began: the step, or the grace after a promotion.
func began(st v1alpha1.RolloutStatus) time.Time {
	switch {
	case st.Run == nil:
		return st.LastRun.EndedAt.Time
	case st.Run.ShownAt == nil:
		return time.Time{}
	}
	return st.Run.ShownAt.Time
}

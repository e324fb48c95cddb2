package experiment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/rollout"
)

// TestLayersNeverShareABucket lets experiments of a layer come and go at random: no bucket ever has two owners, none that is held
// out has one, and each variant has exactly its share.
func TestLayersNeverShareABucket(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for layer := range 40 {
		held := HoldOut(fmt.Sprint("layer-", layer), r.IntN(20))
		running, refused := map[int][][]int{}, 0
		for n := range 60 {
			for id := range running {
				if r.IntN(3) == 0 {
					delete(running, id)
				}
			}
			l, owned := Layer{HoldOut: held}, 0
			for _, variants := range running {
				for _, buckets := range variants {
					l.Owned = append(l.Owned, Owned{Version: "v", Buckets: buckets})
					owned += len(buckets)
				}
			}
			shares := make([]int, 2+r.IntN(9))
			wanted := 0
			for i := range shares {
				shares[i] = 1 + r.IntN(12)
				wanted += shares[i]
			}
			got, err := Allocate(fmt.Sprint(layer, "/", n), shares, l)
			free := rollout.Buckets - owned - len(held)
			if few, ok := errors.AsType[*NotEnoughError](err); ok {
				refused++
				if few.Wanted != wanted || few.Free != free || wanted <= free {
					t.Fatalf("refused with %+v, want %d wanted and %d free", few, wanted, free)
				}
				continue
			}
			if err != nil || wanted > free {
				t.Fatalf("error %v for %d wanted of %d free", err, wanted, free)
			}
			running[n] = got
			owner := map[int]bool{}
			for _, b := range held {
				owner[b] = true
			}
			for _, variants := range running {
				for _, b := range slices.Concat(variants...) {
					if owner[b] || b < 0 || b >= rollout.Buckets {
						t.Fatalf("bucket %d has two owners, or is held out, or is none", b)
					}
					owner[b] = true
				}
			}
			for i, s := range shares {
				if len(got[i]) != s || !slices.IsSorted(got[i]) {
					t.Fatalf("variant %d has the buckets %v, want %d in order", i, got[i], s)
				}
			}
		}
		if refused == 0 && layer == 0 {
			t.Error("nothing was refused: this test could not tell")
		}
	}
}

// TestAllocationIsDrawn: the same seed gives the same buckets, and over many seeds every bucket is as often the control's, the
// arm's and free as their shares say.
func TestAllocationIsDrawn(t *testing.T) {
	const seeds = 2000
	var control, arm [rollout.Buckets]int
	for s := range seeds {
		seed := fmt.Sprint("seed-", s)
		got, err := Allocate(seed, []int{30, 20}, Layer{})
		again, _ := Allocate(seed, []int{30, 20}, Layer{})
		if err != nil || !cmp.Equal(got, again) {
			t.Fatalf("seed %q: error %v, or two allocations", seed, err)
		}
		for _, b := range got[0] {
			control[b]++
		}
		for _, b := range got[1] {
			arm[b]++
		}
	}
	for b := range rollout.Buckets {
		// Five standard deviations: 20 of 600, 18 of 400.
		if control[b] < 500 || control[b] > 700 || arm[b] < 310 || arm[b] > 490 {
			t.Errorf("bucket %d was the control's %d times and the arm's %d times of %d, want about 600 and 400", b, control[b], arm[b], seeds)
		}
	}
}

func TestHoldOut(t *testing.T) {
	ten, twenty := HoldOut("checkout", 10), HoldOut("checkout", 20)
	if len(ten) != 10 || len(twenty) != 20 || cmp.Equal(ten, HoldOut("search", 10)) {
		t.Errorf("held out %v and %v, want 10 and 20, others than another layer's", ten, twenty)
	}
	for _, b := range ten {
		if !slices.Contains(twenty, b) {
			t.Errorf("bucket %d is held out of 10 and not of 20", b)
		}
	}
	if _, err := Allocate("x", []int{50, 50}, Layer{HoldOut: ten}); err == nil {
		t.Error("allocated 100 buckets with 10 held out")
	}
	if _, err := Allocate("x", []int{-1}, Layer{}); err == nil {
		t.Error("allocated a share of -1")
	}
}

func TestBegin(t *testing.T) {
	p := examplePlan()
	l := Layer{HoldOut: HoldOut("layer", 5), Owned: []Owned{{Version: "v2", Buckets: []int{1, 2, 3}}}}
	held := slices.DeleteFunc(slices.Clone(l.HoldOut), func(b int) bool { return b <= 3 })
	l.HoldOut = held
	r, err := Begin("uid", p, l, t0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{37, 33, 30}, r.Meets); diff != "" {
		t.Errorf("buckets that meet each version (-want +got):\n%s", diff)
	}
	l.Owned[0].Buckets = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	_, err = Begin("uid", p, l, t0)
	if few, ok := errors.AsType[*NotEnoughError](err); !ok || few.Free != 90-len(l.HoldOut) {
		t.Errorf("error %v, want one that says how many buckets are free", err)
	}
	p.Control = ""
	if _, err := Begin("uid", p, Layer{}, t0); err == nil {
		t.Error("began a plan that is none")
	}
}

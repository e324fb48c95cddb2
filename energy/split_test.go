package energy

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	cases := map[string]struct {
		reason  string
		total   uint64
		weights []uint64
		want    []uint64
	}{
		"EqualThirds":   {"the last microjoules go to the first parties", 10000001, []uint64{1, 1, 1}, []uint64{3333334, 3333334, 3333333}},
		"SevenEqual":    {"ties go to the lower index", 10, []uint64{1, 1, 1, 1, 1, 1, 1}, []uint64{2, 2, 2, 1, 1, 1, 1}},
		"ZeroWeight":    {"a zero weight gets nothing, even of the remainder", 7, []uint64{3, 0, 2, 2}, []uint64{3, 0, 2, 2}},
		"Shares":        {"shares of 25, 35 and 40 sum to the whole", 50_000_000, []uint64{25, 35, 40}, []uint64{12_500_000, 17_500_000, 20_000_000}},
		"AllZero":       {"nobody to give to", 10, []uint64{0, 0}, []uint64{0, 0}},
		"NoWeights":     {"nobody at all", 10, nil, []uint64{}},
		"NothingToGive": {"an empty total", 0, []uint64{1, 2}, []uint64{0, 0}},
		"HugeTotal":     {"the product needs 128 bits", math.MaxUint64, []uint64{1, 1}, []uint64{1 << 63, 1<<63 - 1}},
		"HugeWeights":   {"the sum of weights needs more than 64 bits", 9, []uint64{math.MaxUint64, math.MaxUint64, math.MaxUint64}, []uint64{3, 3, 3}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Split(tc.total, tc.weights)); diff != "" {
				t.Errorf("%s: Split(%d, %v): -want +got:\n%s", tc.reason, tc.total, tc.weights, diff)
			}
		})
	}
}

// checkSplit holds the properties of the largest remainder method: exact sum, quota (each part is its quota rounded down
// or up), nothing for a zero weight, and no party with more weight gets less.
func checkSplit(t *testing.T, total uint64, weights []uint64) {
	t.Helper()
	parts := Split(total, weights)
	sum, shift := sumWeights(weights)
	var got uint64
	for i, p := range parts {
		got += p
		if sum == 0 {
			continue
		}
		hi, lo := bits.Mul64(total, weights[i]>>shift)
		floor, rem := bits.Div64(hi, lo, sum)
		if p != floor && (p != floor+1 || rem == 0) {
			t.Fatalf("Split(%d, %v)[%d] = %d, quota %d and %d/%d", total, weights, i, p, floor, rem, sum)
		}
		if i > 0 && weights[i] > weights[i-1] && p < parts[i-1] {
			t.Fatalf("Split(%d, %v): more weight gets less at %d: %v", total, weights, i, parts)
		}
	}
	want := total
	if sum == 0 {
		want = 0
	}
	if got != want {
		t.Fatalf("Split(%d, %v) sums to %d", total, weights, got)
	}
}

func TestSplitProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		weights := make([]uint64, rng.IntN(40))
		for i := range weights {
			weights[i] = rng.Uint64() >> rng.IntN(65)
		}
		checkSplit(t, rng.Uint64()>>rng.IntN(64), weights)
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(uint64(10000001), uint64(1), uint64(1), uint64(1))
	f.Add(uint64(math.MaxUint64), uint64(math.MaxUint64), uint64(0), uint64(3))
	f.Fuzz(func(t *testing.T, total, a, b, c uint64) {
		checkSplit(t, total, []uint64{a, b, c})
	})
}

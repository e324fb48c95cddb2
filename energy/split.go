package energy

import (
	"cmp"
	"math/bits"
	"slices"
)

// Split divides total in proportion to the weights by the largest remainder method: the parts sum to total exactly, and
// each is its quota rounded down or up. Ties go to the lower index. A weight of 0 gets 0; if all are 0, nothing is
// handed out and the caller decides who gets total.
func Split(total uint64, weights []uint64) []uint64 {
	parts := make([]uint64, len(weights))
	sum, shift := sumWeights(weights)
	if sum == 0 || total == 0 {
		return parts
	}
	rest := make([]remainder, len(weights))
	left := total
	for i, w := range weights {
		// total*w/sum fits 64 bits because w <= sum; the product needs 128.
		hi, lo := bits.Mul64(total, w>>shift)
		parts[i], rest[i].value = bits.Div64(hi, lo, sum)
		rest[i].index = i
		left -= parts[i]
	}
	if left > 0 {
		slices.SortFunc(rest, byRemainder)
	}
	// The remainders sum to left*sum and each is below sum, so more than left of them are above 0.
	for _, r := range rest[:left] {
		parts[r.index]++
	}
	return parts
}

// remainder is what rounding down took from the part at index, in units of 1/sum.
type remainder struct {
	value uint64
	index int
}

func byRemainder(a, b remainder) int {
	return cmp.Or(cmp.Compare(b.value, a.value), cmp.Compare(a.index, b.index))
}

// sumWeights sums the weights, each shifted right by the least shift with which the sum fits 64 bits (0 for anything
// that CPU clocks can show).
func sumWeights(weights []uint64) (sum uint64, shift uint) {
	for ; ; shift++ {
		var carries uint64
		sum = 0
		for _, w := range weights {
			var carry uint64
			sum, carry = bits.Add64(sum, w>>shift, 0)
			carries += carry
		}
		if carries == 0 {
			return sum, shift
		}
	}
}

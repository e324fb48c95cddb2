package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// Buckets is the number of slots that units fall in. It never changes: a bucket is also the unit of the statistics.
const Buckets = 100

// BucketOf returns the bucket, 0 to 99, of a unit under a salt: the first eight bytes, big-endian, of
// SHA-256(salt, 0x00, unit) modulo 100. The salt belongs to the service, so a unit keeps its bucket from one rollout
// to the next, and any client in any language can compute it.
func BucketOf(salt, unit string) int {
	return int(hash(salt, unit) % Buckets)
}

// FormatBucket writes a bucket as headers and cookies carry it: two digits.
func FormatBucket(bucket int) string {
	return string([]byte{'0' + byte(bucket/10), '0' + byte(bucket%10)})
}

// Order returns the order in which the buckets join the canary of a run: a permutation that follows from the run's id
// alone, so that every process computes the same, and the same users are not always the first to meet a new version.
func Order(runID string) []int {
	keys := make([]uint64, Buckets)
	order := make([]int, Buckets)
	for b := range order {
		order[b] = b
		keys[b] = hash(runID, strconv.Itoa(b))
	}
	slices.SortFunc(order, func(a, b int) int {
		if keys[a] != keys[b] {
			return compare(keys[a], keys[b])
		}
		return a - b
	})
	return order
}

// Allocate returns the canary's buckets at a weight of 0 to 100, ascending. A greater weight of the same run contains
// every bucket of a smaller one, so units move only from stable to canary while a run ramps.
func Allocate(runID string, weight int) []int {
	weight = min(max(weight, 0), Buckets)
	set := slices.Clone(Order(runID)[:weight])
	slices.Sort(set)
	return set
}

// Others returns the buckets that are not in set, ascending.
func Others(set []int) []int {
	rest := make([]int, 0, Buckets-len(set))
	for b := range Buckets {
		if !slices.Contains(set, b) {
			rest = append(rest, b)
		}
	}
	return rest
}

// FormatBuckets writes buckets as the status shows them: "03,17,42".
func FormatBuckets(set []int) string {
	words := make([]string, len(set))
	for i, b := range set {
		words[i] = FormatBucket(b)
	}
	return strings.Join(words, ",")
}

func hash(salt, unit string) uint64 {
	sum := sha256.Sum256([]byte(salt + "\x00" + unit))
	return binary.BigEndian.Uint64(sum[:8])
}

func compare(a, b uint64) int {
	if a < b {
		return -1
	}
	return 1
}

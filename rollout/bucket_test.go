package rollout

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

func TestBucketOf(t *testing.T) {
	// Computed by another implementation of the same definition: any client may compute its bucket itself.
	for _, c := range []struct {
		salt, unit string
		want       int
	}{
		{"coolant", "vehicle-1", 91},
		{"coolant", "vehicle-2", 22},
		{"coolant", "", 94},
		{"", "x", 52},
		{"brakes", "vehicle-1", 77},
		{"coolant", "Fahrzeug-ä", 85},
	} {
		if got := BucketOf(c.salt, c.unit); got != c.want {
			t.Errorf("BucketOf(%q, %q) = %d, want %d", c.salt, c.unit, got, c.want)
		}
	}
}

// chiSquare returns the statistic of counts that should be equal.
func chiSquare(counts []int) float64 {
	total := 0
	for _, n := range counts {
		total += n
	}
	want, sum := float64(total)/float64(len(counts)), 0.0
	for _, n := range counts {
		d := float64(n) - want
		sum += d * d / want
	}
	return sum
}

// chiSquareBound is where a chi-square of df degrees lies with all but 1e-6 of probability (Wilson and Hilferty).
func chiSquareBound(df float64) float64 {
	return df * math.Pow(1-2/(9*df)+4.75*math.Sqrt(2/(9*df)), 3)
}

func TestBucketsFillEvenly(t *testing.T) {
	for _, salt := range []string{"coolant", "brakes", ""} {
		counts := make([]int, Buckets)
		for i := range 200_000 {
			b := BucketOf(salt, fmt.Sprintf("vehicle-%d", i))
			if b < 0 || b >= Buckets {
				t.Fatalf("bucket %d", b)
			}
			counts[b]++
		}
		if x := chiSquare(counts); x > chiSquareBound(Buckets-1) {
			t.Errorf("salt %q: chi-square %.0f of 99 degrees", salt, x)
		}
	}
}

// TestAllocate is the invariant of exposure: exactly w buckets at weight w, and units move only towards the canary.
func TestAllocate(t *testing.T) {
	for run := range 50 {
		id := fmt.Sprintf("run-%d", run)
		var last []int
		for w := 0; w <= Buckets; w++ {
			set := Allocate(id, w)
			if len(set) != w || !slices.IsSorted(set) || len(slices.Compact(slices.Clone(set))) != w {
				t.Fatalf("run %q at %d: %v", id, w, set)
			}
			for _, b := range last {
				if !slices.Contains(set, b) {
					t.Fatalf("run %q: bucket %d left the canary at %d", id, b, w)
				}
			}
			if !slices.Equal(set, Allocate(id, w)) {
				t.Fatalf("run %q at %d: another set the second time", id, w)
			}
			all := slices.Sorted(slices.Values(append(slices.Clone(set), Others(set)...)))
			if len(all) != Buckets || all[0] != 0 || all[Buckets-1] != Buckets-1 || len(slices.Compact(all)) != Buckets {
				t.Fatalf("run %q at %d: the sets do not share the buckets out: %v", id, w, all)
			}
			last = set
		}
	}
	for weight, want := range map[int]int{-1: 0, 101: Buckets, math.MinInt: 0, math.MaxInt: Buckets} {
		if got := len(Allocate("r", weight)); got != want {
			t.Errorf("weight %d: %d buckets, want %d", weight, got, want)
		}
	}
}

// TestOrderIsFair: every bucket joins first about as often as every other.
func TestOrderIsFair(t *testing.T) {
	first, fifth := make([]int, Buckets), make([]int, Buckets)
	seen := map[string]bool{}
	for run := range 5000 {
		order := Order(fmt.Sprintf("v%d-run", run))
		first[order[0]]++
		fifth[order[4]]++
		if key := fmt.Sprint(order[:12]); seen[key] {
			t.Fatalf("two runs begin with %s", key)
		} else {
			seen[key] = true
		}
	}
	for place, counts := range map[string][]int{"first": first, "fifth": fifth} {
		if x := chiSquare(counts); x > chiSquareBound(Buckets-1) {
			t.Errorf("%s bucket: chi-square %.0f of 99 degrees", place, x)
		}
	}
	if got, want := Order("run-1")[:10], []int{87, 90, 82, 9, 4, 46, 24, 74, 32, 27}; !slices.Equal(got, want) {
		t.Errorf("order of run-1 begins %v, want %v", got, want)
	}
}

func TestFormatBuckets(t *testing.T) {
	if got := FormatBuckets([]int{0, 7, 42, 99}); got != "00,07,42,99" {
		t.Errorf("got %q", got)
	}
	if got := FormatBuckets(nil); got != "" {
		t.Errorf("got %q for none", got)
	}
}

func BenchmarkBucketOf(b *testing.B) {
	for b.Loop() {
		BucketOf("coolant", "vehicle-123456")
	}
}

func BenchmarkAllocate(b *testing.B) {
	for b.Loop() {
		Allocate("v2-abcdef-k1", 25)
	}
}

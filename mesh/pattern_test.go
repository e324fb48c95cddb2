package mesh

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
)

func TestBucketPattern(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   []int
		want   string
	}{
		"Empty": {
			reason: "No bucket has no pattern, rather than one that matches the empty value.",
			args:   nil,
			want:   "",
		},
		"One": {
			reason: "A single bucket needs no class.",
			args:   []int{7},
			want:   `^(07)$`,
		},
		"Mixed": {
			reason: "Units of one ten share a class, runs of three and more are shortened.",
			args:   []int{3, 7, 17, 40, 41, 42, 45},
			want:   `^(0[37]|17|4[0-25])$`,
		},
		"SharedUnits": {
			reason: "Tens with the same units are written once, where the first of them stands.",
			args:   []int{0, 1, 15, 30, 31, 99},
			want:   `^([03][01]|15|99)$`,
		},
		"All": {
			reason: "All buckets are any two digits.",
			args:   allBuckets(),
			want:   `^([0-9][0-9])$`,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := BucketPattern(tc.args); got != tc.want {
				t.Errorf("%s\nBucketPattern(%v) = %s, want %s", tc.reason, tc.args, got, tc.want)
			}
		})
	}
}

// TestBucketPatternMatchesTheSet draws sets of every size and compares the pattern with the set over all values of up
// to three characters that could be taken for a bucket.
func TestBucketPatternMatchesTheSet(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	longest := 0
	for size := 1; size <= Buckets; size++ {
		for range 5 {
			set := random.Perm(Buckets)[:size]
			slices.Sort(set)
			pattern := BucketPattern(set)
			longest = max(longest, len(pattern))
			re, err := regexp.Compile(pattern)
			if err != nil {
				t.Fatalf("BucketPattern(%v) = %s: %v", set, pattern, err)
			}
			for b := range Buckets {
				value := FormatBucket(b)
				if got, want := re.MatchString(value), slices.Contains(set, b); got != want {
					t.Fatalf("%s matches %q = %t, want %t", pattern, value, got, want)
				}
				for _, near := range []string{"", value[:1], value + "0", "0" + value, " " + value, value + "\n", "-" + value[1:]} {
					if re.MatchString(near) {
						t.Fatalf("%s matches %q, which is no bucket", pattern, near)
					}
				}
			}
		}
	}
	if longest > 120 {
		t.Errorf("The longest pattern has %d characters, want at most 120", longest)
	}
}

// TestLongestPatterns bounds what a data plane has to take: 1024 characters for any set and any name.
func TestLongestPatterns(t *testing.T) {
	// No two tens share their units, and no units form a run: the worst case of the notation.
	var worst []int
	for ten, units := range []string{"02468", "13579", "0246", "1357", "2468", "3579", "0248", "1368", "0257", "1469"} {
		for _, unit := range units {
			worst = append(worst, ten*10+int(unit-'0'))
		}
	}
	name := string(slices.Repeat([]byte("n"), cookieForm.longest))
	if got := len(cookiePattern(name, worst)); got > 1024 {
		t.Errorf("cookiePattern has %d characters, want at most 1024", got)
	}
	if got := len(BucketPattern(worst)); got > 120 {
		t.Errorf("BucketPattern has %d characters, want at most 120", got)
	}
}

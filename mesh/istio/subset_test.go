package istio

import (
	"regexp"
	"strings"
	"testing"
)

func TestSubsetName(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   string
		want   string
	}{
		"Label":      {"A DNS label stays as it is.", "v2", "v2"},
		"Digits":     {"So does a number.", "2026", "2026"},
		"GitHash":    {"And a hash that the user chose.", "v2-1a2b3c4d5e", "v2-1a2b3c4d5e"},
		"Dots":       {"A readable part and a hash of the whole.", "1.4.2", "1-4-2--8ec5a17af8"},
		"Case":       {"Lower case alone could be another version.", "V2", "v2--47cfe5eb8a"},
		"Marked":     {"A version that looks hashed is hashed again.", "v2--int8", "v2-int8--32a2758747"},
		"Nothing":    {"A version is never empty, but a subset may not be in any case.", "", "v--e3b0c44298"},
		"Underscore": {"What is left of the readable part neither begins nor ends with a dash.", "_.", "v--e444e5de7f"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := SubsetName(tc.args); got != tc.want {
				t.Errorf("%s\nSubsetName(%q) = %q, want %q", tc.reason, tc.args, got, tc.want)
			}
		})
	}
}

// FuzzSubsetName checks that any two different versions get different DNS labels, and that a name is stable.
func FuzzSubsetName(f *testing.F) {
	long := strings.Repeat("v", 63)
	for _, pair := range [][2]string{{"V2", "v2"}, {"1.4", "1-4"}, {"1.4", "1_4"}, {long, long + "v"}, {long + "a", long + "b"}, {"V2", SubsetName("V2")}, {"", "v"}, {"é", "e"}} {
		f.Add(pair[0], pair[1])
	}
	label := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, a, b string) {
		left, right := SubsetName(a), SubsetName(b)
		if len(left) > 63 || !label.MatchString(left) {
			t.Fatalf("SubsetName(%q) = %q, which is no DNS label", a, left)
		}
		if (left == right) != (a == b) {
			t.Fatalf("SubsetName(%q) = %q and SubsetName(%q) = %q", a, left, b, right)
		}
	})
}

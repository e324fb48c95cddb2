package mesh

import (
	"strings"
	"testing"
)

func TestServiceOfAVersion(t *testing.T) {
	cases := map[string]struct {
		reason        string
		name, version string
		want          string
	}{
		"Plain": {"The name says what it selects.", "coolant", "v2", "coolant-v2-pods"},
		"Dots":  {"A version that is no label is readable and hashed.", "coolant", "1.4.2", "coolant-1-4-2-pods--315672248d"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := (Service{Name: tc.name}).Of(tc.version); got != tc.want {
				t.Errorf("%s\nOf(%q) = %q, want %q", tc.reason, tc.version, got, tc.want)
			}
		})
	}
	long := strings.Repeat("v", 63)
	if got := (Service{Name: "coolant"}).Of(long); len(got) > 63 || !strings.HasPrefix(got, "coolant-v") {
		t.Errorf("Of(%q) = %q, want a label of at most 63 characters", long, got)
	}
}

package cgroup

import (
	"strings"
	"testing"

	"github.com/siskin-dev/siskin/energy"
)

func TestParseCPU(t *testing.T) {
	cases := map[string]struct {
		reason string
		parse  func([]byte) (uint64, error)
		text   string
		want   uint64
		bad    bool
	}{
		"V2":            {"microseconds", parseCPUStat, "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnr_periods 0\n", 1_234_567_000, false},
		"V2Anywhere":    {"any order", parseCPUStat, "user_usec 5\nusage_usec 7", 7000, false},
		"V2Missing":     {"no usage", parseCPUStat, "user_usec 5\n", 0, true},
		"V2Empty":       {"an empty file", parseCPUStat, "", 0, true},
		"V2Garbage":     {"no number", parseCPUStat, "usage_usec many\n", 0, true},
		"V2Negative":    {"a sign", parseCPUStat, "usage_usec -5\n", 0, true},
		"V2Overflow":    {"more than 2^64 ns", parseCPUStat, "usage_usec 18446744073709552\n", 0, true},
		"V1":            {"nanoseconds", parseUsage, "8765432109876\n", 8765432109876, false},
		"V1Empty":       {"an empty file", parseUsage, "", 0, true},
		"V1Garbage":     {"two numbers", parseUsage, "1 2", 0, true},
		"Shares":        {"one CPU", parseShares, "1024\n", 1000, false},
		"SharesPart":    {"250m is 256 shares", parseShares, "256\n", 250, false},
		"SharesRound":   {"100m is 102 shares, rounded down", parseShares, "102\n", 100, false},
		"SharesNone":    {"best effort requests nothing", parseShares, "2\n", 0, false},
		"SharesGarbage": {"no number", parseShares, "max\n", 0, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := tc.parse([]byte(tc.text))
			if got != tc.want || (err != nil) != tc.bad {
				t.Errorf("%s: %q: got %d, %v; want %d, error %v", tc.reason, tc.text, got, err, tc.want, tc.bad)
			}
		})
	}
}

func TestParseStat(t *testing.T) {
	const cpus = "cpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 1 2 3 4 5 6 7 8 9 10\n"
	cases := map[string]struct {
		reason string
		text   string
		want   energy.BusyTime
		bad    bool
	}{
		"Full": {
			reason: "user 100, nice 20, system 30, irq 6 and softirq 7; not idle, iowait, steal, and guest only once",
			text:   "cpu  100 20 30 4000 500 6 7 80 90 10\n" + cpus + "intr " + strings.Repeat("0 ", 70_000) + "\nctxt 5\n",
			want:   energy.BusyTime{Nanoseconds: 163 * nanosecondsPerTick, CPUs: 2},
		},
		"Old":      {reason: "a kernel without steal", text: "cpu 1 1 1 9 9 1 1\n" + cpus, want: energy.BusyTime{Nanoseconds: 5 * nanosecondsPerTick, CPUs: 2}},
		"Short":    {reason: "too few fields", text: "cpu 1 2 3\n" + cpus, bad: true},
		"NoTotal":  {reason: "no line for all", text: cpus, bad: true},
		"NoCPUs":   {reason: "no line for each", text: "cpu 1 2 3 4 5 6 7\n", bad: true},
		"Garbage":  {reason: "no number", text: "cpu 1 2 x 4 5 6 7\n" + cpus, bad: true},
		"Negative": {reason: "a sign", text: "cpu 1 2 -3 4 5 6 7\n" + cpus, bad: true},
		"Overflow": {reason: "more than 2^64 ns", text: "cpu 1844674407370 1844674407370 3 4 5 6 7\n" + cpus, bad: true},
		"Empty":    {reason: "an empty file", bad: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat([]byte(tc.text))
			if got != tc.want || (err != nil) != tc.bad {
				t.Errorf("%s: got %+v, %v; want %+v, error %v", tc.reason, got, err, tc.want, tc.bad)
			}
		})
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("cpu  100 20 30 4000 500 6 7 80 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n"))
	f.Add([]byte("usage_usec 1234567\n"))
	f.Add([]byte("1024\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if busy, err := parseStat(text); err == nil && (busy.CPUs == 0 || busy.Nanoseconds%nanosecondsPerTick != 0) {
			t.Errorf("parseStat(%q) = %+v", text, busy)
		}
		if ns, err := parseCPUStat(text); err == nil && ns%nanosecondsPerMicrosecond != 0 {
			t.Errorf("parseCPUStat(%q) = %d", text, ns)
		}
		shares, sharesErr := parseUsage(text)
		requests, err := parseShares(text)
		if err == nil && (sharesErr != nil || requests > shares) {
			t.Errorf("parseShares(%q) = %d of %d shares, %v", text, requests, shares, sharesErr)
		}
	})
}

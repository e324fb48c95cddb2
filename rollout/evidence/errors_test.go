package evidence

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/rollout"
)

// none is the tally of a block without an entry.
var none = tally{-1}

// TestCountErrors: samples come every 5 s, blocks last 15 s, and the lookback is 20 s.
func TestCountErrors(t *testing.T) {
	tests := map[string]struct {
		reason string
		series string
		want   []tally // of the blocks that begin at t0, t0+15s and so on
	}{
		"Steady": {
			"differences from one block's end to the next's",
			requests("v1", "200", on(1)) + " 100+10x9\n" + requests("v1", "503", on(1)) + " 3+1x9\n" +
				requests("v2", "200", on(1)) + " 0+2x9\n" + requests("v2", "500", on(1)) + " 0 0 0 0 1 1 1 1 3 3",
			[]tally{{33, 3, 6, 0}, {33, 3, 7, 1}, {33, 3, 8, 2}},
		},
		"Reset": {
			"a counter that falls counts from zero",
			requests("v1", "200", on(1)) + " 100 110 120 130 5 15 25 35 45 55\n" + requests("v2", "200", on(1)) + " 7 8 9 10 1 2 3 4 5 6",
			[]tally{{30, 0, 3, 0}, {25, 0, 3, 0}, {30, 0, 3, 0}},
		},
		"TornReset": {
			"when some counters of a process fell and some did not, nobody knows what was counted",
			requests("v1", "200", on(1)) + " 100 110 120 130 5 15 25 35 45 55\n" + requests("v1", "503", on(1)) + " 1x3 2x6\n" +
				requests("v2", "200", on(2)) + " 10+1x9",
			[]tally{{30, 0, 3, 0}, {0, 0, 3, 0}, {30, 0, 3, 0}},
		},
		"FirstError": {
			"a series that appears in a process that was scraped before began at zero",
			requests("v1", "200", on(1)) + " 100+10x9\n" + requests("v2", "200", on(1)) + " 1+1x9\n" +
				requests("v2", "503", on(1)) + " _ _ _ _ 4 4 4 4 4 4",
			[]tally{{30, 0, 3, 0}, {30, 0, 7, 4}, {30, 0, 3, 0}},
		},
		"NewVersion": {
			"so did the counters of a version that gets its first requests",
			requests("v1", "200", on(1)) + " 100+10x9\n" + requests("v2", "200", on(1)) + " _ _ _ _ _ 6 8 10 12 14",
			[]tally{{30, 0, 0, 0}, {30, 0, 8, 0}, {30, 0, 6, 0}},
		},
		"NewProcess": {
			"what a process counted before its first scrape nobody knows",
			requests("v1", "200", on(1)) + " 100+10x9\n" + requests("v1", "200", on(2)) + " _ _ _ _ 1000 1001 1002 1003 1004 1005\n" +
				requests("v1", "503", on(2)) + " _ _ _ _ _ 5x4",
			[]tally{{30, 0, 0, 0}, {37, 5, 0, 0}, {33, 0, 0, 0}},
		},
		"MissedScrape": {
			"what a missed scrape leaves out is counted by the next",
			requests("v1", "200", on(1)) + " 100 110 120 _ 140 150 160 170 180 190",
			[]tally{{20, 0, 0, 0}, {40, 0, 0, 0}, {30, 0, 0, 0}},
		},
		"Gap": {
			"after a gap longer than the lookback the process begins anew",
			requests("v1", "200", on(1)) + " 100 110 120 130 _ _ _ _ _ _ _ _ _ 500 510 520",
			[]tally{{30, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}, none, {20, 0, 0, 0}},
		},
		"NaN": {
			"what is no number is no sample",
			requests("v1", "200", on(1)) + " 100 110 NaN 130 NaN NaN NaN 170 180 190\n" + requests("v2", "200", on(1)) + " NaN NaN -5 Inf NaN NaN NaN NaN NaN NaN",
			[]tally{{30, 0, 0, 0}, {0, 0, 0, 0}, {60, 0, 0, 0}},
		},
		"NoVersionLabel": {
			"requests of no version count for none",
			requests("", "200", on(1)) + " 100+10x9",
			[]tally{none, none, none},
		},
		"OtherVersion": {
			"nor do those of a version that takes no part",
			requests("v3", "200", on(1)) + " 100+10x9\n" + requests("v22", "200", on(1)) + " 100+10x9",
			[]tally{none, none, none},
		},
		"NoCode": {
			"without a response code nobody knows what failed",
			"istio_requests_total{" + istioLabels("v1") + "," + on(1) + "} 100+10x9",
			[]tally{{}, {}, {}},
		},
		"OneArm": {
			"a missing arm is zero requests, not an error",
			requests("v2", "503", on(1)) + " 1+1x9",
			[]tally{{0, 0, 3, 3}, {0, 0, 3, 3}, {0, 0, 3, 3}},
		},
		"Nothing": {"no series, no entry", "up 1x9", []tally{none, none, none}},
		"Given up": {
			"a request that the client gave up, or a rate limit refused, says nothing of the version",
			requests("v1", "0", `response_flags="DC"`, on(1)) + " 0+5x9\n" + requests("v1", "429", `response_flags="RL"`, on(1)) + " 0+5x9\n" +
				requests("v1", "503", `response_flags="RLSE"`, on(1)) + " 0+5x9\n" +
				requests("v1", "503", `response_flags="UF,URX"`, on(1)) + " 0+1x9\n" + requests("v1", "200", `response_flags="-"`, on(1)) + " 0+2x9",
			[]tally{{9, 3, 0, 0}, {9, 3, 0, 0}, {9, 3, 0, 0}},
		},
		"NotAnswered": {
			"a request without an answer failed, one the caller got wrong did not",
			requests("v1", "0", `response_flags="UC"`, on(1)) + " 0+1x9\n" + requests("v1", "404", on(1)) + " 0+1x9",
			[]tally{{6, 3, 0, 0}, {6, 3, 0, 0}, {6, 3, 0, 0}},
		},
		"GRPC": {
			"gRPC errors carry code 200; the server's faults count",
			requests("v1", "200", `grpc_response_status="0"`, on(1)) + " 0+4x9\n" + requests("v1", "200", `grpc_response_status="14"`, on(1)) + " 0+1x9\n" +
				requests("v1", "200", `grpc_response_status="5"`, on(1)) + " 0+1x9",
			[]tally{{18, 3, 0, 0}, {18, 3, 0, 0}, {18, 3, 0, 0}},
		},
		"OtherReporter": {
			"each request is counted once, by the side that sent it",
			requests("v1", "200", on(1)) + " 0+1x9\n" +
				`istio_requests_total{reporter="destination",destination_service_name="coolant",destination_service_namespace="edge",destination_version="v1",response_code="200"} 0+9x9`,
			[]tally{{3, 0, 0, 0}, {3, 0, 0, 0}, {3, 0, 0, 0}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			s.load(tc.series)
			if d := cmp.Diff(tc.want, tallies(s.ask(0, len(tc.want), errorsGate))); d != "" {
				t.Errorf("%s: -want +got\n%s", tc.reason, d)
			}
		})
	}
}

// TestStaleMarker: a series that ended keeps what it had counted, and a marker is no sample.
func TestStaleMarker(t *testing.T) {
	s := newStore(t)
	s.load(requests("v1", "200", on(1)) + " 100 110 120 130 140 stale _ _ _ _\n" + requests("v2", "200", on(1)) + " 0+1x9")
	want := []tally{{30, 0, 3, 0}, {10, 0, 3, 0}, {0, 0, 3, 0}}
	if d := cmp.Diff(want, tallies(s.ask(0, 3, errorsGate))); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestQuotedVersions: a version is a name, not a pattern.
func TestQuotedVersions(t *testing.T) {
	s := newStore(t)
	s.load(requests("v1.2", "200", on(1)) + " 0+1x9\n" + requests("v1x2", "200", on(1)) + " 0+5x9\n" + requests(`v"2`, "200", on(1)) + " 0+2x9")
	q := question(0, 1, errorsGate)
	q.Stable, q.Canary = "v1.2", `v"2`
	blocks, err := s.source().Blocks(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]tally{{3, 0, 6, 0}}, tallies(blocks)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestCopies: who sends a copy does not count it, so what copies are judged by is read where both versions' requests arrive;
// what they are not judged by is read as ever.
func TestCopies(t *testing.T) {
	s := newStore(t)
	arrived := func(series string) string {
		return strings.Replace(series, `reporter="source"`, `reporter="destination"`, 1)
	}
	stable := requests("v1", "200", on(1), `bucket="07"`)
	s.load(stable + " 0+9x9\n" + arrived(stable) + " 0+8x9\n" + arrived(requests("v2", "500", on(1))) + " 0+1x9\n" +
		arrived(slow("v2", "+Inf", on(1))) + " 0+1x9\n" + arrived(slow("v2", "250", on(1))) + " 0+1x9\n" + slow("v1", "+Inf", on(1)) + " 0+9x9")
	byBucket := rollout.Gate{Name: "buckets", Type: rollout.ErrorRate, BucketLabel: "bucket"}
	q := question(0, 1, errorsGate, latencyGate, byBucket)
	q.Copies = true
	blocks, err := s.source().Blocks(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]tally{{24, 0, 3, 3}}, tallies(blocks)); d != "" {
		t.Errorf("errors: -want +got\n%s", d)
	}
	if c := blocks[0].Counts["latency"]; c.Canary.Requests != 3 || c.Stable.Requests != 0 {
		t.Errorf("latency counts %v requests of the canary and %v of stable, want 3 and those that arrived: none", c.Canary.Requests, c.Stable.Requests)
	}
	if d := cmp.Diff([]rollout.BucketSum{{Bucket: 7, Count: 27}}, blocks[0].Counts["buckets"].Stable.Buckets); d != "" {
		t.Errorf("by bucket: -want +got\n%s", d)
	}
}

// TestCohort: before the first step the cohort's requests are compared with each other, and then all others'. What carries no
// label counts for neither, and what is judged by bucket is judged by the others.
func TestCohort(t *testing.T) {
	s := newStore(t)
	in, out := `cohort="in"`, `cohort="out"`
	s.load(requests("v1", "200", on(1), in) + " 0+1x9\n" + requests("v2", "200", on(1), in) + " 0+2x9\n" +
		requests("v1", "200", on(1), out, `bucket="07"`) + " 0+30x9\n" + requests("v2", "200", on(1), out) + " 0+4x9\n" +
		requests("v2", "500", on(1)) + " 0+50x9")
	byBucket := rollout.Gate{Name: "buckets", Type: rollout.ErrorRate, BucketLabel: "bucket"}
	for name, tc := range map[string]struct {
		reason string
		cohort string
		within bool
		want   tally
	}{
		"Nobody": {"there is no label", "", false, tally{93, 0, 168, 150}},
		"Within": {"the cohort's two halves", "cohort", true, tally{3, 0, 6, 0}},
		"Others": {"everybody else", "cohort", false, tally{90, 0, 12, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			q := question(0, 1, errorsGate, byBucket)
			q.Cohort, q.Within = tc.cohort, tc.within
			blocks, err := s.source().Blocks(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]tally{tc.want}, tallies(blocks)); d != "" {
				t.Errorf("%s: -want +got\n%s", tc.reason, d)
			}
			if d := cmp.Diff([]rollout.BucketSum{{Bucket: 7, Count: 90}}, blocks[0].Counts["buckets"].Stable.Buckets); d != "" {
				t.Errorf("%s: by bucket: -want +got\n%s", tc.reason, d)
			}
		})
	}
}
